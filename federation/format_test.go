package federation

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"agentkeys/policy"
)

// renderFormats are the formats in the order of the help.
func renderFormats() []RenderFormat {
	return []RenderFormat{RenderJSON, RenderCLI, RenderCloudFormation, RenderTerraform}
}

// renderAwkwardConfig has in it what shells, JSON and HCL give a meaning to, as far as a
// configuration may.
func renderAwkwardConfig() Config {
	c := testConfig()
	c.Audience = `it's"%{if}\%%{a}&<b>` + "`c`"
	c.Prefix = "o'neil/(bots)!"
	c.Role = "-r=a,b@c+d.e_f"
	c.TagKey = "a:b/c=d+e@f-g.h"
	return c
}

// renderExtras are every extra at once.
func renderExtras() Extras {
	return Extras{
		Thumbprints: []string{strings.Repeat("0a", 20), strings.Repeat("F", 40)},
		MailFrom:    "agents.example.com", Inbound: "inbound",
	}
}

func renderWith(t testing.TB, c Config, f Form, x Extras) Documents {
	t.Helper()
	d, err := RenderWith(c, f, x)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func renderFiles(t testing.TB, c Config, d Documents, f RenderFormat) []RenderedFile {
	t.Helper()
	files, err := d.Files(c, f)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestGoldenFormats(t *testing.T) {
	for _, variant := range []struct {
		name   string
		form   Form
		extras Extras
	}{{"plain", Plain, Extras{}}, {"hardened", Hardened, Extras{}}, {"hardened-mail", Hardened, renderExtras()}} {
		c := testConfig()
		d := renderWith(t, c, variant.form, variant.extras)
		folder := filepath.Join("render", variant.name)
		if *update {
			if err := os.MkdirAll(filepath.Join("testdata", "golden", folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		var names []string
		for _, format := range renderFormats() {
			for _, f := range renderFiles(t, c, d, format) {
				names = append(names, f.Name)
				golden(t, filepath.Join(folder, f.Name), f.Text)
			}
		}
		text, err := d.Text(c, RenderJSON)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, "all.json")
		golden(t, filepath.Join(folder, "all.json"), text)
		found, err := os.ReadDir(filepath.Join("testdata", "golden", folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if !slices.Contains(names, f.Name()) {
				t.Errorf("testdata/golden/%s/%s is written by no format", folder, f.Name())
			}
		}
	}
}

// renderedPolicies are the policies of documents by what they are called below.
func renderedPolicies(d Documents) map[string]*policy.Document {
	out := map[string]*policy.Document{"trust": d.Trust, "bucket": d.BucketPolicy}
	if d.RolePolicy != nil {
		out["role"] = d.RolePolicy
	}
	return out
}

// forEveryRendering runs a test over both forms, with extras and without, of a
// common configuration and of an awkward one.
func forEveryRendering(t *testing.T, test func(*testing.T, Config, Documents)) {
	for configName, c := range map[string]Config{"common": testConfig(), "awkward": renderAwkwardConfig()} {
		for _, form := range []Form{Plain, Hardened} {
			for extrasName, x := range map[string]Extras{"alone": {}, "extras": renderExtras()} {
				t.Run(strings.Join([]string{configName, string(form), extrasName}, "-"), func(t *testing.T) {
					test(t, c, renderWith(t, c, form, x))
				})
			}
		}
	}
}

// sameRenderedJSON compares a document with what a reader of the format gets.
func sameRenderedJSON(t *testing.T, name string, want, got any) {
	t.Helper()
	plain := func(v any) any {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var out any
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if diff := cmp.Diff(plain(want), plain(got)); diff != "" {
		t.Errorf("%s says something else:\n%s", name, diff)
	}
}

func TestJSONFilesHoldTheDocuments(t *testing.T) {
	forEveryRendering(t, func(t *testing.T, c Config, d Documents) {
		want := map[string]any{
			"provider.json": d.Provider, "trust-policy.json": d.Trust, "bucket-policy.json": d.BucketPolicy,
			"public-access-block.json": d.PublicAccess, "ownership-controls.json": d.Ownership,
		}
		if d.RolePolicy != nil {
			want["role-policy.json"] = d.RolePolicy
		}
		whole := map[string]any{}
		text, err := d.Text(c, RenderJSON)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &whole); err != nil {
			t.Fatal(err)
		}
		files := renderFiles(t, c, d, RenderJSON)
		if len(files) != len(want) || len(whole) != len(want) {
			t.Errorf("%d files and %d members, want %d", len(files), len(whole), len(want))
		}
		for _, f := range files {
			sameRenderedJSON(t, f.Name, want[f.Name], json.RawMessage(f.Text))
			member := strings.ReplaceAll(strings.TrimSuffix(f.Name, ".json"), "-", "_")
			sameRenderedJSON(t, "member "+member, want[f.Name], whole[member])
			if !bytes.HasSuffix(f.Text, []byte("}\n")) || bytes.Contains(f.Text, []byte(`\u00`)) {
				t.Errorf("%s is not written for people:\n%s", f.Name, f.Text)
			}
		}
	})
}

func TestTemplateHoldsTheDocuments(t *testing.T) {
	forEveryRendering(t, func(t *testing.T, c Config, d Documents) {
		var s struct {
			Resources map[string]struct {
				Type, DependsOn, DeletionPolicy string
				Properties                      map[string]any
			}
		}
		text := renderFiles(t, c, d, RenderCloudFormation)[0].Text
		if err := json.Unmarshal(text, &s); err != nil {
			t.Fatal(err)
		}
		provider, role := s.Resources["AgentKeysProvider"], s.Resources["AgentKeysRole"]
		bucket, bucketPolicy := s.Resources["AgentKeysBucket"], s.Resources["AgentKeysBucketPolicy"]
		types := []string{provider.Type, role.Type, bucket.Type, bucketPolicy.Type}
		if want := []string{"AWS::IAM::OIDCProvider", "AWS::IAM::Role", "AWS::S3::Bucket", "AWS::S3::BucketPolicy"}; !slices.Equal(types, want) {
			t.Errorf("types %v, want %v", types, want)
		}
		sameRenderedJSON(t, "the provider", map[string]any{"Url": c.Issuer, "ClientIdList": []string{c.Audience}, "ThumbprintList": d.Provider.Thumbprints},
			map[string]any{"Url": provider.Properties["Url"], "ClientIdList": provider.Properties["ClientIdList"], "ThumbprintList": provider.Properties["ThumbprintList"]})
		sameRenderedJSON(t, "the trust policy", d.Trust, role.Properties["AssumeRolePolicyDocument"])
		sameRenderedJSON(t, "the bucket policy", d.BucketPolicy, bucketPolicy.Properties["PolicyDocument"])
		sameRenderedJSON(t, "the public access block", d.PublicAccess, bucket.Properties["PublicAccessBlockConfiguration"])
		sameRenderedJSON(t, "the ownership controls", d.Ownership, bucket.Properties["OwnershipControls"])
		var policies any
		if d.RolePolicy != nil {
			policies = []cfnRolePolicy{{rolePolicyName, d.RolePolicy}}
		}
		sameRenderedJSON(t, "the role's policies", policies, role.Properties["Policies"])
		if role.Properties["RoleName"] != c.Role || bucket.Properties["BucketName"] != c.Bucket || bucket.DeletionPolicy != "Retain" {
			t.Errorf("role %v, bucket %v (%s on deletion)", role.Properties["RoleName"], bucket.Properties["BucketName"], bucket.DeletionPolicy)
		}
		if bytes.Contains(text, []byte("Fn::Sub")) {
			t.Error("Fn::Sub would read the policy variables as its own")
		}
	})
}

// TestCFNLint holds the template against CloudFormation's own schemas.
func TestCFNLint(t *testing.T) {
	t.Parallel()
	lint, err := exec.LookPath("cfn-lint")
	if err != nil {
		t.Skip("NOT RUN: cfn-lint is not installed (pip install cfn-lint)")
	}
	var paths []string
	dir := t.TempDir()
	for _, form := range []Form{Plain, Hardened} {
		for name, x := range map[string]Extras{"alone": {}, "extras": renderExtras()} {
			path := filepath.Join(dir, string(form)+"-"+name+".json")
			c := testConfig()
			if err := os.WriteFile(path, renderFiles(t, c, renderWith(t, c, form, x), RenderCloudFormation)[0].Text, 0o600); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
	}
	if out, err := exec.CommandContext(t.Context(), lint, paths...).CombinedOutput(); err != nil {
		t.Errorf("cfn-lint: %v\n%s", err, out)
	}
}

func TestFilesRefuse(t *testing.T) {
	c := testConfig()
	d := render(t, c, Hardened)
	if _, err := d.Files(c, "yaml"); err == nil || !strings.Contains(err.Error(), `"yaml"`) {
		t.Errorf("Files = %v, want an error that names the format", err)
	}
	if _, err := (Documents{}).Files(c, RenderJSON); err == nil {
		t.Error("documents without policies are written")
	}
	if _, err := d.Text(c, "yaml"); err == nil {
		t.Error("Text takes an unknown format")
	}
}

func TestRemarksNameTheTrustQuota(t *testing.T) {
	c := testConfig()
	if r := render(t, c, Hardened).Remarks(); r != nil {
		t.Errorf("the common documents have remarks: %v", r)
	}
	c.Issuer = "https://broker.example.com/" + strings.Repeat("a", 200)
	c.TagKey = strings.Repeat("k", 128)
	if r := render(t, c, Hardened).Remarks(); len(r) != 1 || !strings.Contains(r[0], "2048") {
		t.Errorf("remarks %v, want one that names the quota of 2048", r)
	}
}

// TestRenderIsRenderWithNothing: demo, dev and SetUp get the same documents as
// ever.
func TestRenderIsRenderWithNothing(t *testing.T) {
	c := testConfig()
	if !reflect.DeepEqual(render(t, c, Hardened), renderWith(t, c, Hardened, Extras{})) {
		t.Error("Render and RenderWith without extras differ")
	}
	if render(t, c, Hardened).RolePolicy != nil {
		t.Error("the role has a policy that nobody asked for")
	}
}
