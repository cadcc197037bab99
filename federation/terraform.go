package federation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"agentkeys/policy"
)

// hcl writes the documents as Terraform resources, in the layout that "terraform
// fmt" leaves alone. The bucket is kept from being destroyed, since the tenants'
// objects are in it. The bucket policy waits for the role: S3 refuses a principal
// that is not there.
func (d Documents) hcl(c Config) ([]byte, error) {
	var w hclWriter
	w.line("# The AWS side of AgentKeys (%s), for account %s in %s: run it with credentials of", d.Form, c.Account, c.Region)
	w.line("# that account and an aws provider of that region.")
	w.resource("aws_iam_openid_connect_provider", func() {
		attributes := []hclItem{{"url", quoteHCL(d.Provider.URL)}, {"client_id_list", listHCL(d.Provider.ClientIDs)}}
		if len(d.Provider.Thumbprints) > 0 {
			attributes = append(attributes, hclItem{"thumbprint_list", listHCL(d.Provider.Thumbprints)})
		}
		w.items(attributes...)
	})
	w.resource("aws_iam_role", func() {
		w.items(hclItem{"name", quoteHCL(c.Role)}, hclItem{"description", quoteHCL(roleDescription)},
			w.document("assume_role_policy", d.Trust))
	})
	if d.RolePolicy != nil {
		w.resource("aws_iam_role_policy", func() {
			w.items(hclItem{"name", quoteHCL(rolePolicyName)}, hclItem{"role", "aws_iam_role.agentkeys.id"},
				w.document("policy", d.RolePolicy))
		})
	}
	w.bucket(c, d)
	return w.out.Bytes(), w.err
}

func (w *hclWriter) bucket(c Config, d Documents) {
	id := hclItem{"bucket", "aws_s3_bucket.agentkeys.id"}
	w.resource("aws_s3_bucket", func() {
		w.items(hclItem{"bucket", quoteHCL(c.Bucket)})
		w.line("")
		w.block("lifecycle", hclItem{"prevent_destroy", "true"})
	})
	w.resource("aws_s3_bucket_ownership_controls", func() {
		w.items(id)
		for _, r := range d.Ownership.Rules {
			w.line("")
			w.block("rule", hclItem{"object_ownership", quoteHCL(r.ObjectOwnership)})
		}
	})
	w.resource("aws_s3_bucket_public_access_block", func() {
		b := d.PublicAccess
		w.items(id,
			hclItem{"block_public_acls", fmt.Sprint(b.BlockPublicAcls)}, hclItem{"ignore_public_acls", fmt.Sprint(b.IgnorePublicAcls)},
			hclItem{"block_public_policy", fmt.Sprint(b.BlockPublicPolicy)}, hclItem{"restrict_public_buckets", fmt.Sprint(b.RestrictPublicBuckets)})
	})
	w.resource("aws_s3_bucket_policy", func() {
		w.items(id, w.document("policy", d.BucketPolicy))
		w.line("")
		w.line("depends_on = [")
		w.line("  aws_iam_role.agentkeys,")
		w.line("  aws_s3_bucket_ownership_controls.agentkeys,")
		w.line("  aws_s3_bucket_public_access_block.agentkeys,")
		w.line("]")
	})
}

// hclWriter writes HCL. The first error stays.
type hclWriter struct {
	out    bytes.Buffer
	indent int
	err    error
}

// hclItem is an attribute of a block or a member of an object. Its value may have
// several lines, of which those after the first are not indented yet.
type hclItem struct{ name, value string }

// line writes a line, or the lines of a text, at the present depth.
func (w *hclWriter) line(format string, args ...any) {
	for line := range strings.SplitSeq(fmt.Sprintf(format, args...), "\n") {
		if line != "" {
			w.out.WriteString(strings.Repeat("  ", w.indent) + line)
		}
		w.out.WriteByte('\n')
	}
}

// resource writes a resource of that type. All are named alike, as there is one of
// each.
func (w *hclWriter) resource(kind string, body func()) {
	w.line("")
	w.line("resource %q %q {", kind, "agentkeys")
	w.indent++
	body()
	w.indent--
	w.line("}")
}

func (w *hclWriter) block(name string, items ...hclItem) {
	w.line("%s {", name)
	w.indent++
	w.items(items...)
	w.indent--
	w.line("}")
}

func (w *hclWriter) items(items ...hclItem) { w.line("%s", alignHCL(items)) }

// document is an attribute that holds a policy.
func (w *hclWriter) document(name string, d *policy.Document) hclItem {
	text, err := json.Marshal(d)
	if err != nil {
		w.err = err
		return hclItem{name, `""`}
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	value, err := valueHCL(decoder)
	if err != nil && w.err == nil {
		w.err = fmt.Errorf("%s: %w", name, err)
	}
	return hclItem{name, "jsonencode(" + value + ")"}
}

// alignHCL writes items a line each. Like "terraform fmt" it aligns the equals
// signs of neighbours that have one line, and an item of several lines parts
// those above from those below.
func alignHCL(items []hclItem) string {
	lines := make([]string, len(items))
	for i := 0; i < len(items); {
		if strings.Contains(items[i].value, "\n") {
			lines[i] = items[i].name + " = " + items[i].value
			i++
			continue
		}
		end, width := i, 0
		for ; end < len(items) && !strings.Contains(items[end].value, "\n"); end++ {
			width = max(width, len(items[end].name))
		}
		for ; i < end; i++ {
			lines[i] = fmt.Sprintf("%-*s = %s", width, items[i].name, items[i].value)
		}
	}
	return strings.Join(lines, "\n")
}

// valueHCL turns the next JSON value into HCL, with its members in their order.
// Policies hold strings, lists and objects, and nothing else.
func valueHCL(d *json.Decoder) (string, error) {
	token, err := d.Token()
	if err != nil {
		return "", err
	}
	switch t := token.(type) {
	case string:
		return quoteHCL(t), nil
	case json.Delim:
		if t == '[' {
			return arrayHCL(d)
		}
		return objectHCL(d)
	}
	return "", fmt.Errorf("want a string, a list or an object, got %v", token)
}

func objectHCL(d *json.Decoder) (string, error) {
	var items []hclItem
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", err
		}
		value, err := valueHCL(d)
		if err != nil {
			return "", err
		}
		key := name.(string) // JSON has no other
		if !hclName.MatchString(key) {
			key = quoteHCL(key)
		}
		items = append(items, hclItem{key, value})
	}
	_, err := d.Token()
	return "{\n" + indentHCL(alignHCL(items)) + "\n}", err
}

// arrayHCL writes a short list of strings in one line, and every other list with
// a line for each element.
func arrayHCL(d *json.Decoder) (string, error) {
	var values []string
	for d.More() {
		value, err := valueHCL(d)
		if err != nil {
			return "", err
		}
		values = append(values, value)
	}
	_, err := d.Token()
	if line := "[" + strings.Join(values, ", ") + "]"; len(line) <= 100 && !strings.Contains(line, "\n") {
		return line, err
	}
	return "[\n" + indentHCL(strings.Join(values, ",\n")+",") + "\n]", err
}

func indentHCL(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

// hclName is what may stand unquoted as the name of a member.
var hclName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// quoteHCL quotes a string so that Terraform reads it as it is. It would take ${
// and %{ for templates of its own, and ${ begins every policy variable.
// Source: HCL native syntax specification, "Template Expressions".
func quoteHCL(s string) string {
	escaped := strings.NewReplacer(
		`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "${", "$${", "%{", "%%{",
	).Replace(s)
	return `"` + escaped + `"`
}

func listHCL(list []string) string {
	var quoted []string
	for _, s := range list {
		quoted = append(quoted, quoteHCL(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
