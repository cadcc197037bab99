package localaws

import (
	"strings"
	"time"
)

// awsPolicy is a policy that AWS manages. The few that matter here are built
// in; it is not an error to have them attached and never used.
type awsPolicy struct {
	name                      string // with its path where it has one, as in the ARN
	id, description, document string
}

func awsPolicyARN(name string) string { return "arn:aws:iam::aws:policy/" + name }

// awsManaged returns AWS's policy of that ARN, or nil.
func awsManaged(arn string) *awsPolicy {
	name, ok := strings.CutPrefix(arn, awsPolicyARN(""))
	if !ok {
		return nil
	}
	for i := range awsPolicies {
		if awsPolicies[i].name == name {
			return &awsPolicies[i]
		}
	}
	return nil
}

// awsPoliciesSince is the creation date shown for all of them.
var awsPoliciesSince = time.Date(2015, 2, 6, 18, 40, 0, 0, time.UTC)

// awsPolicies are in the order of their names. Source: AWS Managed Policy
// Reference. Those for readers of all services (ReadOnlyAccess, SecurityAudit,
// ViewOnlyAccess) are thousands of actions long and change by the week. What
// they say of S3, IAM and STS is here, which is the part that matters here, and
// of other services a handful, for those who read or attach them.
var awsPolicies = []awsPolicy{
	{"AdministratorAccess", "ANPAIWMBCKSKIEE64ZLYK", "Provides full access to AWS services and resources.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`},
	{"AmazonS3FullAccess", "ANPAIFIR6V6BVTRAHWINE", "Provides full access to all buckets via the AWS Management Console.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","s3-object-lambda:*"],"Resource":"*"}]}`},
	{"AmazonS3ReadOnlyAccess", "ANPAIZTJ4DXE7G6AGAE6M", "Provides read only access to all buckets via the AWS Management Console.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*","s3:Describe*","s3-object-lambda:Get*","s3-object-lambda:List*"],"Resource":"*"}]}`},
	{"IAMFullAccess", "ANPAI7XKCFMBPM3QQRRVQ", "Provides full access to IAM via the AWS Management Console.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:*","organizations:DescribeAccount","organizations:DescribeOrganization",` +
			`"organizations:DescribeOrganizationalUnit","organizations:DescribePolicy","organizations:ListChildren","organizations:ListParents",` +
			`"organizations:ListPoliciesForTarget","organizations:ListRoots","organizations:ListPolicies","organizations:ListTargetsForPolicy"],"Resource":"*"}]}`},
	{"IAMReadOnlyAccess", "ANPAJKSO7NDY4T57MWDSQ", "Provides read only access to IAM via the AWS Management Console.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[` + iamReads + `],"Resource":"*"}]}`},
	{"PowerUserAccess", "ANPAJYRXTHIB4FOVS3ZXS", "Provides full access to AWS services and resources, but does not allow management of Users and groups.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"},` +
			`{"Effect":"Allow","Action":["account:GetAccountInformation","account:GetGovCloudAccountInformation","account:GetPrimaryEmail","account:ListRegions",` +
			`"iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles","organizations:DescribeEffectivePolicy","organizations:DescribeOrganization"],"Resource":"*"}]}`},
	{"ReadOnlyAccess", "ANPAILL3HVNFSB6DCOWYO", "Provides read-only access to AWS services and resources.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["cloudtrail:Describe*","cloudtrail:Get*","cloudtrail:List*","cloudtrail:LookupEvents",` +
			`"cloudwatch:Describe*","cloudwatch:Get*","cloudwatch:List*","ec2:Describe*","ec2:Get*","iam:Generate*","iam:Get*","iam:List*","iam:Simulate*",` +
			`"kms:Describe*","kms:Get*","kms:List*","lambda:Get*","lambda:List*","logs:Describe*","logs:FilterLogEvents","logs:Get*","logs:List*",` +
			`"organizations:Describe*","organizations:List*","rds:Describe*","rds:List*","s3:DescribeJob","s3:Get*","s3:List*",` +
			`"sns:Get*","sns:List*","sqs:Get*","sqs:List*","sts:GetAccessKeyInfo","sts:GetCallerIdentity","sts:GetSessionToken"],"Resource":"*"}]}`},
	{"SecurityAudit", "ANPAIX2T3QCXHR2OGGCTO", "The security audit template grants access to read security configuration metadata. It is useful for software that audits the configuration of an AWS account.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["cloudtrail:DescribeTrails","cloudtrail:GetEventSelectors","cloudtrail:GetTrailStatus",` +
			`"cloudtrail:ListTags","cloudwatch:Describe*","ec2:Describe*","kms:Describe*","kms:GetKeyPolicy","kms:GetKeyRotationStatus","kms:List*",` +
			`"lambda:GetPolicy","lambda:List*","logs:Describe*",` + iamReads + `,"s3:GetAccelerateConfiguration","s3:GetAccessPoint","s3:GetAccessPointPolicy",` +
			`"s3:GetAccessPointPolicyStatus","s3:GetAccountPublicAccessBlock","s3:GetAnalyticsConfiguration","s3:GetBucket*","s3:GetEncryptionConfiguration",` +
			`"s3:GetInventoryConfiguration","s3:GetLifecycleConfiguration","s3:GetMetricsConfiguration","s3:GetObjectAcl","s3:GetObjectVersionAcl",` +
			`"s3:GetReplicationConfiguration","s3:ListAccessPoints","s3:ListAllMyBuckets"],"Resource":"*"}]}`},
	{"job-function/ViewOnlyAccess", "ANPAID22R6XPJATWOFDK6", "This policy grants permissions to view resources and basic metadata across all AWS services.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["cloudtrail:DescribeTrails","cloudtrail:LookupEvents","cloudwatch:Describe*",` +
			`"cloudwatch:List*","ec2:DescribeInstances","ec2:DescribeRegions","ec2:DescribeVpcs","iam:GetAccountSummary","iam:GetLoginProfile","iam:List*",` +
			`"kms:ListAliases","kms:ListKeys","lambda:List*","logs:Describe*","organizations:List*","s3:ListAllMyBuckets","s3:ListBucket"],"Resource":"*"}]}`},
}

// iamReads is what two of the policies say of IAM in the same words.
const iamReads = `"iam:GenerateCredentialReport","iam:GenerateServiceLastAccessedDetails","iam:Get*","iam:List*","iam:SimulateCustomPolicy","iam:SimulatePrincipalPolicy"`
