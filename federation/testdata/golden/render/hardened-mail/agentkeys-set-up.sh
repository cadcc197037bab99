#!/bin/sh
# Sets up the AWS side of AgentKeys (hardened) in account 111122223333: OIDC provider, role, bucket and their policies.
#
# It needs the AWS CLI with an administrator's credentials. Running it again changes nothing. It looks before it changes
# anything, and stops where a policy that it would replace holds a statement of somebody else. AWS_ENDPOINT_URL names
# another AWS, such as a local one.
set -eu

account='111122223333'
region='eu-central-1'
provider_arn='arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc'
role='agentkeys-data-role'
bucket='agentkeys-data'

provider='{
  "Url": "https://broker.example.com/oidc",
  "ClientIDList": [
    "sts.amazonaws.com"
  ],
  "ThumbprintList": [
    "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
    "ffffffffffffffffffffffffffffffffffffffff"
  ]
}'
client_id='{
  "ClientID": "sts.amazonaws.com",
  "OpenIDConnectProviderArn": "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc"
}'
thumbprints='{
  "OpenIDConnectProviderArn": "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc",
  "ThumbprintList": [
    "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
    "ffffffffffffffffffffffffffffffffffffffff"
  ]
}'
trust_policy='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TenantSession",
      "Effect": "Allow",
      "Principal": {
        "Federated": "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc"
      },
      "Action": [
        "sts:AssumeRoleWithWebIdentity",
        "sts:TagSession"
      ],
      "Condition": {
        "StringEquals": {
          "broker.example.com/oidc:aud": "sts.amazonaws.com"
        },
        "StringLike": {
          "broker.example.com/oidc:sub": "agentkeys:agent:*",
          "aws:RequestTag/agentkeys_user_wallet": [
            "0x????????????????????????????????????????",
            "????????????????????????????????????????????????????????????????"
          ]
        },
        "Null": {
          "aws:RequestTag/agentkeys_user_wallet": "false"
        },
        "ForAllValues:StringEquals": {
          "aws:TagKeys": "agentkeys_user_wallet"
        }
      }
    },
    {
      "Sid": "NoSlashInTenantTag",
      "Effect": "Deny",
      "Principal": {
        "Federated": "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc"
      },
      "Action": [
        "sts:AssumeRoleWithWebIdentity",
        "sts:TagSession"
      ],
      "Condition": {
        "StringLike": {
          "aws:RequestTag/agentkeys_user_wallet": "*/*"
        }
      }
    }
  ]
}'
role_policy='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "SendMail",
      "Effect": "Allow",
      "Action": [
        "ses:SendEmail",
        "ses:SendRawEmail"
      ],
      "Resource": "arn:aws:ses:eu-central-1:111122223333:identity/agents.example.com",
      "Condition": {
        "StringEquals": {
          "ses:FromAddress": "${aws:PrincipalTag/agentkeys_user_wallet}@agents.example.com"
        }
      }
    }
  ]
}'
bucket_policy='{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "TenantList",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws:iam::111122223333:role/agentkeys-data-role"
      },
      "Action": "s3:ListBucket",
      "Resource": "arn:aws:s3:::agentkeys-data",
      "Condition": {
        "StringLike": {
          "s3:prefix": "bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"
        }
      }
    },
    {
      "Sid": "TenantObjects",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws:iam::111122223333:role/agentkeys-data-role"
      },
      "Action": [
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject"
      ],
      "Resource": "arn:aws:s3:::agentkeys-data/bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"
    },
    {
      "Sid": "DenyUntaggedSession",
      "Effect": "Deny",
      "Principal": "*",
      "Action": "s3:*",
      "Resource": [
        "arn:aws:s3:::agentkeys-data",
        "arn:aws:s3:::agentkeys-data/*"
      ],
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws:iam::111122223333:role/agentkeys-data-role"
        },
        "Null": {
          "aws:PrincipalTag/agentkeys_user_wallet": "true"
        }
      }
    },
    {
      "Sid": "DenyObjectsOutsideTenant",
      "Effect": "Deny",
      "Principal": "*",
      "Action": [
        "s3:*Object*",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
        "s3:Replicate*"
      ],
      "NotResource": "arn:aws:s3:::agentkeys-data/bots/${aws:PrincipalTag/agentkeys_user_wallet}/*",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws:iam::111122223333:role/agentkeys-data-role"
        }
      }
    },
    {
      "Sid": "DenyListingOutsideTenant",
      "Effect": "Deny",
      "Principal": "*",
      "Action": [
        "s3:ListBucket",
        "s3:ListBucketVersions"
      ],
      "Resource": "arn:aws:s3:::agentkeys-data",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws:iam::111122223333:role/agentkeys-data-role"
        },
        "StringNotLike": {
          "s3:prefix": "bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"
        }
      }
    },
    {
      "Sid": "DenyListingUploads",
      "Effect": "Deny",
      "Principal": "*",
      "Action": "s3:ListBucketMultipartUploads",
      "Resource": "arn:aws:s3:::agentkeys-data",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws:iam::111122223333:role/agentkeys-data-role"
        }
      }
    },
    {
      "Sid": "SESInboundMail",
      "Effect": "Allow",
      "Principal": {
        "Service": "ses.amazonaws.com"
      },
      "Action": "s3:PutObject",
      "Resource": "arn:aws:s3:::agentkeys-data/inbound/*",
      "Condition": {
        "StringEquals": {
          "aws:SourceAccount": "111122223333"
        },
        "ArnLike": {
          "aws:SourceArn": "arn:aws:ses:eu-central-1:111122223333:receipt-rule-set/*:receipt-rule/*"
        }
      }
    }
  ]
}'
public_access_block='{
  "BlockPublicAcls": true,
  "IgnorePublicAcls": true,
  "BlockPublicPolicy": true,
  "RestrictPublicBuckets": true
}'
ownership_controls='{
  "Rules": [
    {
      "ObjectOwnership": "BucketOwnerEnforced"
    }
  ]
}'

export AWS_PAGER=
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
trap 'exit 1' HUP INT TERM

# Older CLIs do not read AWS_ENDPOINT_URL themselves.
aws() {
  command aws --region "$region" ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} "$@"
}

stop() {
  echo "set-up: $1" >&2
  exit 1
}

# found CODE COMMAND... runs a command that reads, and leaves what it prints in $answer. It fails where AWS answers with
# the error CODE, and ends the script on any other error: what could not be read must not count as absent.
found() {
  code=$1
  shift
  if answer=$("$@" 2>"$errors"); then
    return 0
  fi
  if grep -qF "($code)" "$errors"; then
    return 1
  fi
  cat "$errors" >&2
  stop 'nothing was changed'
}

# ours POLICY SIDS stops where a policy has a statement whose Sid is none of the SIDS, which are parted by |.
ours() {
  members=$(printf '%s\n' "$answer" | tr '{},' '\n\n\n' | sed 's/^[[:space:]]*//; s/[[:space:]]*$//')
  all=$(printf '%s\n' "$members" | grep -c '^"Effect"[[:space:]]*:' || true)
  known=$(printf '%s\n' "$members" | grep -cE "^\"Sid\"[[:space:]]*:[[:space:]]*\"($2)\"\$" || true)
  [ "$all" -eq "$known" ] || stop "$1 has $((all - known)) of $all statements that are not AgentKeys' and would be lost; nothing was changed"
}

# Look.
caller=$(aws sts get-caller-identity --query Account --output text)
[ "$caller" = "$account" ] || stop "want credentials of account $account, got those of $caller; nothing was changed"

has_provider=no has_role=no has_bucket=no
if found NoSuchEntity aws iam get-open-id-connect-provider --open-id-connect-provider-arn "$provider_arn"; then
  has_provider=yes
fi
if found NoSuchEntity aws iam get-role --role-name="$role" --query Role.AssumeRolePolicyDocument --output json; then
  has_role=yes
  ours "the trust policy of role $role" 'TenantSession|NoSlashInTenantTag'
fi
if found 404 aws s3api head-bucket --bucket "$bucket" --expected-bucket-owner "$account"; then
  has_bucket=yes
  if found NoSuchBucketPolicy aws s3api get-bucket-policy --bucket "$bucket" --expected-bucket-owner "$account" \
    --query Policy --output text; then
    ours "the policy of bucket $bucket" 'TenantList|TenantObjects|DenyUntaggedSession|DenyObjectsOutsideTenant|DenyListingOutsideTenant|DenyListingUploads|SESInboundMail'
  fi
fi

# The OIDC provider.
if [ $has_provider = no ]; then
  aws iam create-open-id-connect-provider --cli-input-json "$provider" >/dev/null
else
  aws iam add-client-id-to-open-id-connect-provider --cli-input-json "$client_id"
  aws iam update-open-id-connect-provider-thumbprint --cli-input-json "$thumbprints"
fi

# The role.
if [ $has_role = no ]; then
  aws iam create-role --role-name="$role" --description 'Sessions of AgentKeys tenants' \
    --assume-role-policy-document "$trust_policy" >/dev/null
  aws iam wait role-exists --role-name="$role"
else
  aws iam update-assume-role-policy --role-name="$role" --policy-document "$trust_policy"
fi
aws iam put-role-policy --role-name="$role" --policy-name 'agentkeys-data' --policy-document "$role_policy"

# The bucket, closed to the public before anything else.
if [ $has_bucket = no ]; then
  aws s3api create-bucket --bucket "$bucket" --create-bucket-configuration "LocationConstraint=$region" >/dev/null
fi
aws s3api put-public-access-block --bucket "$bucket" --expected-bucket-owner "$account" \
  --public-access-block-configuration "$public_access_block"
aws s3api put-bucket-ownership-controls --bucket "$bucket" --expected-bucket-owner "$account" \
  --ownership-controls "$ownership_controls"

# S3 calls a role that was made a moment ago an invalid principal.
tries=1
until aws s3api put-bucket-policy --bucket "$bucket" --expected-bucket-owner "$account" --policy "$bucket_policy" 2>"$errors"; do
  if [ $has_role = yes ] || [ $tries -ge 10 ] || ! grep -q 'Invalid principal' "$errors"; then
    cat "$errors" >&2
    stop "the policy of bucket $bucket is not in force; the rest is"
  fi
  tries=$((tries + 1))
  sleep 3
done

# Permissions are a union: one broad grant on the role undoes the bucket's policy.
inline=$(aws iam list-role-policies --role-name="$role" --output text \
  --query "PolicyNames[?@ != 'agentkeys-data']")
attached=$(aws iam list-attached-role-policies --role-name="$role" --query 'AttachedPolicies[].PolicyArn' --output text)
if [ -n "$inline$attached" ]; then
  echo "set-up: the role has other policies; look that none of them grants anything at S3:" $inline $attached >&2
fi
echo "set up role $role and bucket $bucket in account $account; see what holds with: agentkeys federation check"
