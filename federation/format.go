package federation

import (
	"bytes"
	"encoding/json"
	"fmt"

	"agentkeys/policy"
)

// RenderFormat is a way of writing documents down.
type RenderFormat string

// The formats. RenderJSON has a file for each document; the others are one file
// that sets everything up.
const (
	RenderJSON           RenderFormat = "json"           // as the AWS CLI takes each with file://
	RenderCLI            RenderFormat = "cli"            // a POSIX shell script of AWS CLI commands
	RenderCloudFormation RenderFormat = "cloudformation" // a template in JSON
	RenderTerraform      RenderFormat = "terraform"      // HCL
)

// RenderedFile is one file of a rendered set-up.
type RenderedFile struct {
	Name       string
	Text       []byte
	Executable bool
}

// Files writes the documents of a configuration in a format. The documents are
// those that Render made of the same configuration.
func (d Documents) Files(c Config, f RenderFormat) ([]RenderedFile, error) {
	if d.Trust == nil || d.BucketPolicy == nil {
		return nil, fmt.Errorf("writing federation documents: want a trust policy and a bucket policy, got none")
	}
	var name string
	var write func(Documents, Config) ([]byte, error)
	switch f {
	case RenderJSON:
		return d.jsonFiles()
	case RenderCLI:
		name, write = "agentkeys-set-up.sh", Documents.script
	case RenderCloudFormation:
		name, write = "agentkeys-stack.json", Documents.template
	case RenderTerraform:
		name, write = "agentkeys.tf", Documents.hcl
	default:
		return nil, fmt.Errorf("writing federation documents: want format %s, %s, %s or %s, got %q", RenderJSON, RenderCLI, RenderCloudFormation, RenderTerraform, f)
	}
	text, err := write(d, c)
	if err != nil {
		return nil, fmt.Errorf("writing federation documents as %s: %w", f, err)
	}
	return []RenderedFile{{Name: name, Text: text, Executable: f == RenderCLI}}, nil
}

// Text writes the documents as one text: what Files has for the format or, for
// JSON, an object of which each member is the content of a file.
func (d Documents) Text(c Config, f RenderFormat) ([]byte, error) {
	files, err := d.Files(c, f)
	if err != nil {
		return nil, err
	}
	if f != RenderJSON {
		return files[0].Text, nil
	}
	return renderedJSON(struct {
		Provider     OIDCProvider      `json:"provider"`
		Trust        *policy.Document  `json:"trust_policy"`
		Role         *policy.Document  `json:"role_policy,omitempty"`
		Bucket       *policy.Document  `json:"bucket_policy"`
		PublicAccess PublicAccessBlock `json:"public_access_block"`
		Ownership    OwnershipControls `json:"ownership_controls"`
	}{d.Provider, d.Trust, d.RolePolicy, d.BucketPolicy, d.PublicAccess, d.Ownership})
}

func (d Documents) jsonFiles() ([]RenderedFile, error) {
	documents := []struct {
		name string
		v    any
	}{
		{"provider.json", d.Provider},
		{"trust-policy.json", d.Trust},
		{"bucket-policy.json", d.BucketPolicy},
		{"public-access-block.json", d.PublicAccess},
		{"ownership-controls.json", d.Ownership},
		{"role-policy.json", d.RolePolicy},
	}
	if d.RolePolicy == nil {
		documents = documents[:len(documents)-1]
	}
	var files []RenderedFile
	for _, document := range documents {
		text, err := renderedJSON(document.v)
		if err != nil {
			return nil, fmt.Errorf("writing federation documents: %s: %w", document.name, err)
		}
		files = append(files, RenderedFile{Name: document.name, Text: text})
	}
	return files, nil
}

// renderedJSON is JSON for people: <, > and & stay as they are.
func renderedJSON(v any) ([]byte, error) {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(v)
	return out.Bytes(), err
}

// Remarks is what to know of the documents before they go to AWS.
func (d Documents) Remarks() []string {
	text, err := d.Trust.MarshalJSON()
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
