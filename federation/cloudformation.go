package federation

import (
	"fmt"

	"agentkeys/policy"
)

// cfnStack is a CloudFormation template. Everything in it is a plain string, so
// that nothing reads a policy variable as one of the template's own.
type cfnStack struct {
	AWSTemplateFormatVersion string
	Description              string
	Resources                struct {
		Provider     cfnResource `json:"AgentKeysProvider"`
		Role         cfnResource `json:"AgentKeysRole"`
		Bucket       cfnResource `json:"AgentKeysBucket"`
		BucketPolicy cfnResource `json:"AgentKeysBucketPolicy"`
	}
	Outputs map[string]cfnOutput
}

type cfnResource struct {
	Type                string
	DependsOn           string `json:",omitempty"`
	DeletionPolicy      string `json:",omitempty"`
	UpdateReplacePolicy string `json:",omitempty"`
	Properties          any
}

type cfnOutput struct{ Value any }

type cfnRolePolicy struct {
	PolicyName     string
	PolicyDocument *policy.Document
}

// template writes the documents as a CloudFormation template. The bucket outlives
// the stack, since the tenants' objects are in it. The bucket policy waits for
// the role: S3 refuses a principal that is not there.
func (d Documents) template(c Config) ([]byte, error) {
	s := cfnStack{AWSTemplateFormatVersion: "2010-09-09"}
	s.Description = fmt.Sprintf("AgentKeys: OIDC provider, role and bucket (%s), for account %s in %s. Needs CAPABILITY_NAMED_IAM.",
		d.Form, c.Account, c.Region)
	s.Resources.Provider = cfnResource{Type: "AWS::IAM::OIDCProvider", Properties: struct {
		URL         string   `json:"Url"`
		ClientIDs   []string `json:"ClientIdList"`
		Thumbprints []string `json:"ThumbprintList,omitempty"`
	}(d.Provider)}
	role := struct {
		RoleName                 string
		Description              string
		AssumeRolePolicyDocument *policy.Document
		Policies                 []cfnRolePolicy `json:",omitempty"`
	}{RoleName: c.Role, Description: roleDescription, AssumeRolePolicyDocument: d.Trust}
	if d.RolePolicy != nil {
		role.Policies = []cfnRolePolicy{{rolePolicyName, d.RolePolicy}}
	}
	s.Resources.Role = cfnResource{Type: "AWS::IAM::Role", DependsOn: "AgentKeysProvider", Properties: role}
	s.Resources.Bucket = cfnResource{
		Type: "AWS::S3::Bucket", DeletionPolicy: "Retain", UpdateReplacePolicy: "Retain",
		Properties: struct {
			BucketName                     string
			PublicAccessBlockConfiguration PublicAccessBlock
			OwnershipControls              OwnershipControls
		}{c.Bucket, d.PublicAccess, d.Ownership},
	}
	s.Resources.BucketPolicy = cfnResource{Type: "AWS::S3::BucketPolicy", DependsOn: "AgentKeysRole", Properties: struct {
		Bucket         any
		PolicyDocument *policy.Document
	}{map[string]string{"Ref": "AgentKeysBucket"}, d.BucketPolicy}}
	s.Outputs = map[string]cfnOutput{
		"RoleArn":     {map[string][2]string{"Fn::GetAtt": {"AgentKeysRole", "Arn"}}},
		"ProviderArn": {map[string]string{"Ref": "AgentKeysProvider"}},
	}
	return renderedJSON(s)
}
