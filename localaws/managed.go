package localaws

import (
	"strings"
	"time"
)

// awsPolicy is a policy that AWS manages. The few that matter here are built
// in; it is not an error to have them attached and never used.
type awsPolicy struct {
	name, id, description, document string
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
// Reference. ReadOnlyAccess is not among them: it is thousands of actions long
// and changes by the week.
var awsPolicies = []awsPolicy{
	{"AdministratorAccess", "ANPAIWMBCKSKIEE64ZLYK", "Provides full access to AWS services and resources.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`},
	{"AmazonS3FullAccess", "ANPAIFIR6V6BVTRAHWINE", "Provides full access to all buckets via the AWS Management Console.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*","s3-object-lambda:*"],"Resource":"*"}]}`},
	{"AmazonS3ReadOnlyAccess", "ANPAIZTJ4DXE7G6AGAE6M", "Provides read only access to all buckets via the AWS Management Console.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*","s3:Describe*","s3-object-lambda:Get*","s3-object-lambda:List*"],"Resource":"*"}]}`},
	{"PowerUserAccess", "ANPAJYRXTHIB4FOVS3ZXS", "Provides full access to AWS services and resources, but does not allow management of Users and groups.",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"},` +
			`{"Effect":"Allow","Action":["account:GetAccountInformation","account:GetGovCloudAccountInformation","account:GetPrimaryEmail","account:ListRegions",` +
			`"iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles","organizations:DescribeEffectivePolicy","organizations:DescribeOrganization"],"Resource":"*"}]}`},
}
