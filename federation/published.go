package federation

import (
	"strings"

	"agentkeys/policy"
)

// publishedPolicies are the broad policies that AWS publishes, in their S3, STS
// and IAM part. They stand in where an export lists one as attached and lacks its
// document, as get-account-authorization-details does under some filters.
// Source: AWS Managed Policy Reference Guide.
var publishedPolicies = map[string]policy.Statement{
	"AdministratorAccess": {Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}},
	"PowerUserAccess": {Effect: policy.Allow, Resource: []string{"*"},
		NotAction: []string{"iam:*", "organizations:*", "account:*"}},
	"ReadOnlyAccess": {Effect: policy.Allow, Resource: []string{"*"},
		Action: []string{"s3:Get*", "s3:List*", "s3:DescribeJob", "iam:Get*", "iam:List*", "sts:GetAccessKeyInfo", "sts:GetCallerIdentity"}},
	"AmazonS3FullAccess":     {Effect: policy.Allow, Action: []string{"s3:*"}, Resource: []string{"*"}},
	"AmazonS3ReadOnlyAccess": {Effect: policy.Allow, Action: []string{"s3:Get*", "s3:List*", "s3:Describe*"}, Resource: []string{"*"}},
	"IAMFullAccess":          {Effect: policy.Allow, Action: []string{"iam:*"}, Resource: []string{"*"}},
}

// published is the document of one of AWS' own policies, by its ARN.
func published(arn string) (Document, bool) {
	_, name, ok := strings.Cut(arn, ":iam::aws:policy/")
	if !ok {
		return Document{}, false
	}
	s, ok := publishedPolicies[name]
	return Document{Name: "managed policy " + arn, Policy: document(s)}, ok
}
