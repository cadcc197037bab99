# The AWS side of AgentKeys (hardened), for account 111122223333 in eu-central-1: run it with credentials of
# that account and an aws provider of that region.

resource "aws_iam_openid_connect_provider" "agentkeys" {
  url             = "https://broker.example.com/oidc"
  client_id_list  = ["sts.amazonaws.com"]
  thumbprint_list = ["0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a", "ffffffffffffffffffffffffffffffffffffffff"]
}

resource "aws_iam_role" "agentkeys" {
  name        = "agentkeys-data-role"
  description = "Sessions of AgentKeys tenants"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "TenantSession"
        Effect = "Allow"
        Principal = {
          Federated = "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc"
        }
        Action = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
        Condition = {
          StringEquals = {
            "broker.example.com/oidc:aud" = "sts.amazonaws.com"
          }
          StringLike = {
            "broker.example.com/oidc:sub" = "agentkeys:agent:*"
            "aws:RequestTag/agentkeys_user_wallet" = [
              "0x????????????????????????????????????????",
              "????????????????????????????????????????????????????????????????",
            ]
          }
          Null = {
            "aws:RequestTag/agentkeys_user_wallet" = "false"
          }
          "ForAllValues:StringEquals" = {
            "aws:TagKeys" = "agentkeys_user_wallet"
          }
        }
      },
      {
        Sid    = "NoSlashInTenantTag"
        Effect = "Deny"
        Principal = {
          Federated = "arn:aws:iam::111122223333:oidc-provider/broker.example.com/oidc"
        }
        Action = ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"]
        Condition = {
          StringLike = {
            "aws:RequestTag/agentkeys_user_wallet" = "*/*"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "agentkeys" {
  name = "agentkeys-data"
  role = aws_iam_role.agentkeys.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "SendMail"
        Effect   = "Allow"
        Action   = ["ses:SendEmail", "ses:SendRawEmail"]
        Resource = "arn:aws:ses:eu-central-1:111122223333:identity/agents.example.com"
        Condition = {
          StringEquals = {
            "ses:FromAddress" = "$${aws:PrincipalTag/agentkeys_user_wallet}@agents.example.com"
          }
        }
      },
    ]
  })
}

resource "aws_s3_bucket" "agentkeys" {
  bucket = "agentkeys-data"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_ownership_controls" "agentkeys" {
  bucket = aws_s3_bucket.agentkeys.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "agentkeys" {
  bucket                  = aws_s3_bucket.agentkeys.id
  block_public_acls       = true
  ignore_public_acls      = true
  block_public_policy     = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "agentkeys" {
  bucket = aws_s3_bucket.agentkeys.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "TenantList"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/agentkeys-data-role"
        }
        Action   = "s3:ListBucket"
        Resource = "arn:aws:s3:::agentkeys-data"
        Condition = {
          StringLike = {
            "s3:prefix" = "bots/$${aws:PrincipalTag/agentkeys_user_wallet}/*"
          }
        }
      },
      {
        Sid    = "TenantObjects"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:role/agentkeys-data-role"
        }
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        Resource = "arn:aws:s3:::agentkeys-data/bots/$${aws:PrincipalTag/agentkeys_user_wallet}/*"
      },
      {
        Sid       = "DenyUntaggedSession"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::agentkeys-data", "arn:aws:s3:::agentkeys-data/*"]
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/agentkeys-data-role"
          }
          Null = {
            "aws:PrincipalTag/agentkeys_user_wallet" = "true"
          }
        }
      },
      {
        Sid         = "DenyObjectsOutsideTenant"
        Effect      = "Deny"
        Principal   = "*"
        Action      = ["s3:*Object*", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:Replicate*"]
        NotResource = "arn:aws:s3:::agentkeys-data/bots/$${aws:PrincipalTag/agentkeys_user_wallet}/*"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/agentkeys-data-role"
          }
        }
      },
      {
        Sid       = "DenyListingOutsideTenant"
        Effect    = "Deny"
        Principal = "*"
        Action    = ["s3:ListBucket", "s3:ListBucketVersions"]
        Resource  = "arn:aws:s3:::agentkeys-data"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/agentkeys-data-role"
          }
          StringNotLike = {
            "s3:prefix" = "bots/$${aws:PrincipalTag/agentkeys_user_wallet}/*"
          }
        }
      },
      {
        Sid       = "DenyListingUploads"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:ListBucketMultipartUploads"
        Resource  = "arn:aws:s3:::agentkeys-data"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/agentkeys-data-role"
          }
        }
      },
      {
        Sid    = "SESInboundMail"
        Effect = "Allow"
        Principal = {
          Service = "ses.amazonaws.com"
        }
        Action   = "s3:PutObject"
        Resource = "arn:aws:s3:::agentkeys-data/inbound/*"
        Condition = {
          StringEquals = {
            "aws:SourceAccount" = "111122223333"
          }
          ArnLike = {
            "aws:SourceArn" = "arn:aws:ses:eu-central-1:111122223333:receipt-rule-set/*:receipt-rule/*"
          }
        }
      },
    ]
  })

  depends_on = [
    aws_iam_role.agentkeys,
    aws_s3_bucket_ownership_controls.agentkeys,
    aws_s3_bucket_public_access_block.agentkeys,
  ]
}
