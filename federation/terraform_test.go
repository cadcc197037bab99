package federation

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// hclReader reads the part of HCL that we write: strings, lists and objects. It
// ends the test at whatever Terraform would read as more than text.
type hclReader struct {
	t    *testing.T
	text string
}

func (r *hclReader) skip() { r.text = strings.TrimLeft(r.text, " \n") }

func (r *hclReader) take(s string) bool {
	r.skip()
	rest, ok := strings.CutPrefix(r.text, s)
	if ok {
		r.text = rest
	}
	return ok
}

func (r *hclReader) want(s string) {
	r.t.Helper()
	if !r.take(s) {
		r.t.Fatalf("want %q, got %.40q", s, r.text)
	}
}

func (r *hclReader) value() any {
	r.t.Helper()
	switch {
	case r.take("["):
		list := []any{}
		for !r.take("]") {
			list = append(list, r.value())
			if !r.take(",") {
				r.want("]")
				return list
			}
		}
		return list
	case r.take("{"):
		object := map[string]any{}
		for !r.take("}") {
			name := r.name()
			r.want("=")
			object[name] = r.value()
		}
		return object
	}
	return r.quoted()
}

func (r *hclReader) name() string {
	r.skip()
	if strings.HasPrefix(r.text, `"`) {
		return r.quoted()
	}
	end := strings.IndexAny(r.text, " =")
	name := r.text[:end]
	r.text = r.text[end:]
	return name
}

func (r *hclReader) quoted() string {
	r.t.Helper()
	r.want(`"`)
	var out strings.Builder
	for {
		switch {
		case strings.HasPrefix(r.text, "$${"), strings.HasPrefix(r.text, "%%{"):
			out.WriteString(r.text[1:3])
			r.text = r.text[3:]
		case strings.HasPrefix(r.text, "${"), strings.HasPrefix(r.text, "%{"):
			r.t.Fatalf("Terraform would evaluate %.40q", r.text)
		case strings.HasPrefix(r.text, `\\`), strings.HasPrefix(r.text, `\"`):
			out.WriteByte(r.text[1])
			r.text = r.text[2:]
		case r.text == "" || r.text[0] == '\n' || r.text[0] == '\\':
			r.t.Fatalf("a string ends in %.40q", r.text)
		case r.text[0] == '"':
			r.text = r.text[1:]
			return out.String()
		default:
			out.WriteByte(r.text[0])
			r.text = r.text[1:]
		}
	}
}

// afterHCL is the text behind the only place where s stands.
func afterHCL(t *testing.T, text, s string) string {
	t.Helper()
	if strings.Count(text, s) != 1 {
		t.Fatalf("want %q once, got it %d times", s, strings.Count(text, s))
	}
	_, rest, _ := strings.Cut(text, s)
	return rest
}

// hclPolicies are where a policy stands in the HCL.
var hclPolicies = map[string]struct{ resource, attribute string }{
	"trust":  {"aws_iam_role", "assume_role_policy"},
	"role":   {"aws_iam_role_policy", "policy"},
	"bucket": {"aws_s3_bucket_policy", "policy"},
}

func TestHCLHoldsTheDocuments(t *testing.T) {
	forEveryRendering(t, func(t *testing.T, c Config, d Documents) {
		text := string(renderFiles(t, c, d, RenderTerraform)[0].Text)
		for name, document := range renderedPolicies(d) {
			at := hclPolicies[name]
			body := afterHCL(t, text, fmt.Sprintf("\nresource %q \"agentkeys\" {\n", at.resource))
			_, body, _ = strings.Cut(body, at.attribute+" = jsonencode(")
			r := &hclReader{t, body}
			sameRenderedJSON(t, name, document, r.value())
			r.want(")\n")
		}
		provider := afterHCL(t, text, `resource "aws_iam_openid_connect_provider" "agentkeys" {`)
		_, clients, _ := strings.Cut(provider, "client_id_list")
		r := &hclReader{t, clients}
		r.want("=")
		sameRenderedJSON(t, "the client ids", []string{c.Audience}, r.value())
		if strings.Contains(text, "thumbprint_list") != (len(d.Provider.Thumbprints) > 0) {
			t.Errorf("thumbprints %v, and the HCL says otherwise", d.Provider.Thumbprints)
		}
		if strings.Contains(text, `"aws_iam_role_policy"`) != (d.RolePolicy != nil) {
			t.Errorf("a policy of the role: %v, and the HCL says otherwise", d.RolePolicy != nil)
		}
	})
}

// TestTerraform asks Terraform itself: its formatter leaves the file alone, and it
// reads the policies that we wrote. Neither needs a provider.
func TestTerraform(t *testing.T) {
	t.Parallel()
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("NOT RUN: terraform is not installed")
	}
	run := func(t *testing.T, dir, input string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), terraform, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
		cmd.Env = append(os.Environ(), "HOME="+dir, "TF_CLI_CONFIG_FILE="+filepath.Join(dir, "rc"), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("terraform %v: %v\n%s%s", args, err, out, stderr.String())
		}
		return string(out)
	}
	forEveryRendering(t, func(t *testing.T, c Config, d Documents) {
		dir := t.TempDir()
		text := renderFiles(t, c, d, RenderTerraform)[0].Text
		for name, text := range map[string]string{"rc": "", "agentkeys.tf": string(text)} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(t, dir, "", "fmt", "-check", "-diff", "agentkeys.tf")

		// The console evaluates locals without a provider, so the policies become some.
		var locals strings.Builder
		policies := renderedPolicies(d)
		locals.WriteString("locals {\n")
		for name := range policies {
			at := hclPolicies[name]
			body := afterHCL(t, string(text), fmt.Sprintf("\nresource %q \"agentkeys\" {\n", at.resource))
			_, body, _ = strings.Cut(body, at.attribute+" = jsonencode(")
			body, _, _ = strings.Cut(body, "\n  })\n")
			fmt.Fprintf(&locals, "%s = jsonencode(%s\n})\n", name, body)
		}
		locals.WriteString("}\n")
		console := filepath.Join(dir, "console")
		if err := os.Mkdir(console, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(console, "locals.tf"), []byte(locals.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, document := range policies {
			answer := run(t, console, "base64encode(local."+name+")\n", "console") // which quotes nothing but the whole
			got, err := base64.StdEncoding.DecodeString(strings.Trim(answer, "\"\n"))
			if err != nil {
				t.Fatalf("%v: %s", err, answer)
			}
			sameRenderedJSON(t, name, document, json.RawMessage(got))
		}
	})
}
