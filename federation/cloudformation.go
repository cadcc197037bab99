package federation

import (
	"fmt"

	"agentkeys/policy"
)

// stack is a CloudFormation template. Everything in it is a plain string, so
// that nothing reads a policy variable as one of the template's own.
type stack struct {
	AWSTemplateFormatVersion string
	Description              string
	Resources                struct {
		Provider     resource `json:"AgentKeysProvider"`
		Role         resource `json:"AgentKeysRole"`
		Bucket       resource `json:"AgentKeysBucket"`
		BucketPolicy resource `json:"AgentKeysBucketPolicy"`
	}
	Outputs map[string]output
}

type resource struct {
	Type                string
	DependsOn           string `json:",omitempty"`
	DeletionPolicy      string `json:",omitempty"`
	UpdateReplacePolicy string `json:",omitempty"`
	Properties          any
}

type output struct{ Value any }

type rolePolicy struct {
	PolicyName     string
	PolicyDocument *policy.Document
}

// template writes the documents as a CloudFormation template. The bucket outlives
// the stack, since the tenants' objects are in it. The bucket policy waits for
// the role: S3 refuses a principal that is not there.
func (d Documents) template(c Config) ([]byte, error) {
	s := stack{AWSTemplateFormatVersion: "2010-09-09"}
	s.Description = fmt.Sprintf("AgentKeys: OIDC provider, role and bucket (%s), for account %s in %s. Needs CAPABILITY_NAMED_IAM.",
		d.Form, c.Account, c.Region)
	s.Resources.Provider = resource{Type: "AWS::IAM::OIDCProvider", Properties: struct {
		URL         string   `json:"Url"`
		ClientIDs   []string `json:"ClientIdList"`
		Thumbprints []string `json:"ThumbprintList,omitempty"`
	}(d.Provider)}
	role := struct {
		RoleName                 string
		Description              string
		AssumeRolePolicyDocument *policy.Document
		Policies                 []rolePolicy `json:",omitempty"`
	}{RoleName: c.Role, Description: roleDescription, AssumeRolePolicyDocument: d.Trust}
	if d.RolePolicy != nil {
		role.Policies = []rolePolicy{{rolePolicyName, d.RolePolicy}}
	}
	s.Resources.Role = resource{Type: "AWS::IAM::Role", DependsOn: "AgentKeysProvider", Properties: role}
	s.Resources.Bucket = resource{
		Type: "AWS::S3::Bucket", DeletionPolicy: "Retain", UpdateReplacePolicy: "Retain",
		Properties: struct {
			BucketName                     string
			PublicAccessBlockConfiguration PublicAccessBlock
			OwnershipControls              OwnershipControls
		}{c.Bucket, d.PublicAccess, d.Ownership},
	}
	s.Resources.BucketPolicy = resource{Type: "AWS::S3::BucketPolicy", DependsOn: "AgentKeysRole", Properties: struct {
		Bucket         any
		PolicyDocument *policy.Document
	}{map[string]string{"Ref": "AgentKeysBucket"}, d.BucketPolicy}}
	s.Outputs = map[string]output{
		"RoleArn":     {map[string][2]string{"Fn::GetAtt": {"AgentKeysRole", "Arn"}}},
		"ProviderArn": {map[string]string{"Ref": "AgentKeysProvider"}},
	}
	return indented(s)
}
