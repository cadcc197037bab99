package federation

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Format is a way of writing documents down.
type Format string

// The formats. JSON has a file for each document; the others are one file that
// sets everything up.
const (
	JSON           Format = "json"           // as the AWS CLI takes each with file://
	CLI            Format = "cli"            // a POSIX shell script of AWS CLI commands
	CloudFormation Format = "cloudformation" // a template in JSON
	Terraform      Format = "terraform"      // HCL
)

// File is one file of a rendered set-up.
type File struct {
	Name       string
	Text       []byte
	Executable bool
}

// Files writes the documents of a configuration in a format. The documents are
// those that Render made of the same configuration.
func (d Documents) Files(c Config, f Format) ([]File, error) {
	if d.Trust == nil || d.BucketPolicy == nil {
		return nil, fmt.Errorf("writing federation documents: want a trust policy and a bucket policy, got none")
	}
	var name string
	var write func(Documents, Config) ([]byte, error)
	switch f {
	case JSON:
		return d.jsonFiles()
	case CLI:
		name, write = "agentkeys-set-up.sh", Documents.script
	case CloudFormation:
		name, write = "agentkeys-stack.json", Documents.template
	case Terraform:
		name, write = "agentkeys.tf", Documents.hcl
	default:
		return nil, fmt.Errorf("writing federation documents: want format %s, %s, %s or %s, got %q", JSON, CLI, CloudFormation, Terraform, f)
	}
	text, err := write(d, c)
	if err != nil {
		return nil, fmt.Errorf("writing federation documents as %s: %w", f, err)
	}
	return []File{{Name: name, Text: text, Executable: f == CLI}}, nil
}

// Text writes the documents as one text: what Files has for the format or, for
// JSON, an object of which each member is the content of a file.
func (d Documents) Text(c Config, f Format) ([]byte, error) {
	files, err := d.Files(c, f)
	if err != nil || f != JSON {
		if err != nil {
			return nil, err
		}
		return files[0].Text, nil
	}
	return indented(struct {
		Provider     OIDCProvider      `json:"provider"`
		Trust        any               `json:"trust_policy"`
		Role         any               `json:"role_policy,omitempty"`
		Bucket       any               `json:"bucket_policy"`
		PublicAccess PublicAccessBlock `json:"public_access_block"`
		Ownership    OwnershipControls `json:"ownership_controls"`
	}{d.Provider, d.Trust, orNothing(d), d.BucketPolicy, d.PublicAccess, d.Ownership})
}

// orNothing is the role's policy, or a nil that encoding/json leaves out.
func orNothing(d Documents) any {
	if d.RolePolicy == nil {
		return nil
	}
	return d.RolePolicy
}

func (d Documents) jsonFiles() ([]File, error) {
	documents := []struct {
		name string
		v    any
	}{
		{"provider.json", d.Provider},
		{"trust-policy.json", d.Trust},
		{"role-policy.json", orNothing(d)},
		{"bucket-policy.json", d.BucketPolicy},
		{"public-access-block.json", d.PublicAccess},
		{"ownership-controls.json", d.Ownership},
	}
	var files []File
	for _, document := range documents {
		if document.v == nil {
			continue
		}
		text, err := indented(document.v)
		if err != nil {
			return nil, fmt.Errorf("writing federation documents: %s: %w", document.name, err)
		}
		files = append(files, File{Name: document.name, Text: text})
	}
	return files, nil
}

// indented is JSON for people: <, > and & stay as they are.
func indented(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// Remarks is what to know of the documents before they go to AWS.
func (d Documents) Remarks() []string {
	text, err := json.Marshal(d.Trust)
	if err != nil || len(text) <= standardTrustQuota {
		return nil
	}
	return []string{fmt.Sprintf(
		"the trust policy has %d characters, more than the %d of IAM's standard quota; have the quota \"Role trust policy length\" raised first",
		len(text), standardTrustQuota)}
}

// standardTrustQuota is how long a trust policy may be unless AWS was asked for
// more (IAM user guide, reference_iam-quotas).
const standardTrustQuota = 2048
