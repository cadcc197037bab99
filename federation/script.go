package federation

import (
	_ "embed"
	"strings"
)

//go:embed set-up.sh.tmpl
var scriptText string

// script writes the documents as a shell script.
//
// What the configuration leaves free goes to the CLI as JSON or behind an equals
// sign: a bare value that looks like a URL is fetched by older CLIs, and one that
// begins with a dash is taken for an option.
func (d Documents) script(c Config) ([]byte, error) {
	words := d.scriptWords(c)
	if words.err != nil {
		return nil, words.err
	}
	return []byte(strings.NewReplacer(words.pairs...).Replace(scriptText)), nil
}

// scriptWords are the places of scriptText, each followed by what stands there.
type scriptWords struct {
	pairs []string
	err   error // the first one
}

func (d Documents) scriptWords(c Config) scriptWords {
	var w scriptWords
	w.text("form", string(d.Form))
	w.text("bare account", c.Account)
	w.quote("account", c.Account)
	w.quote("region", c.Region)
	w.quote("role", c.Role)
	w.quote("role description", roleDescription)
	w.quote("bucket", c.Bucket)
	w.quote("trust sids", strings.Join([]string{sidTenantSession, sidNoSlashInTag}, "|"))
	w.quote("bucket sids", strings.Join(bucketSids(d), "|"))
	w.quote("provider arn", c.ProviderARN())
	w.json("provider", d.Provider)
	w.json("client id", map[string]string{"OpenIDConnectProviderArn": c.ProviderARN(), "ClientID": c.Audience})
	w.json("trust policy", d.Trust)
	w.json("bucket policy", d.BucketPolicy)
	w.json("public access block", d.PublicAccess)
	w.json("ownership controls", d.Ownership)
	w.thumbprints(d, c)
	w.rolePolicy(d)
	w.location(c)
	return w
}

func (w *scriptWords) text(place, text string) { w.pairs = append(w.pairs, "{{"+place+"}}", text) }

// quote writes a value as one word of the shell.
func (w *scriptWords) quote(place, value string) { w.text(place, quoteShell(value)) }

// json writes a value as JSON that is one word of the shell.
func (w *scriptWords) json(place string, v any) { w.text(place, w.quotedJSON(v)) }

func (w *scriptWords) quotedJSON(v any) string {
	text, err := renderedJSON(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	return quoteShell(strings.TrimSuffix(string(text), "\n"))
}

// thumbprints are sent where the provider has any.
func (w *scriptWords) thumbprints(d Documents, c Config) {
	var set, update string
	if list := d.Provider.Thumbprints; len(list) > 0 {
		set = "\nthumbprints=" + w.quotedJSON(map[string]any{"OpenIDConnectProviderArn": c.ProviderARN(), "ThumbprintList": list})
		update = "\n" + `  aws iam update-open-id-connect-provider-thumbprint --cli-input-json "$thumbprints"`
	}
	w.text("set thumbprints", set)
	w.text("update thumbprints", update)
}

// rolePolicy is put, and then not counted among what others gave the role.
func (w *scriptWords) rolePolicy(d Documents) {
	var set, put string
	others := "PolicyNames"
	if d.RolePolicy != nil {
		set = "\nrole_policy=" + w.quotedJSON(d.RolePolicy)
		put = "\n" + `aws iam put-role-policy --role-name="$role" --policy-name ` + quoteShell(rolePolicyName) + ` --policy-document "$role_policy"`
		others = `"PolicyNames[?@ != '` + rolePolicyName + `']"`
	}
	w.text("set role policy", set)
	w.text("put role policy", put)
	w.text("other policies", others)
}

// location is named everywhere but in us-east-1, where S3 refuses it.
func (w *scriptWords) location(c Config) {
	var option string
	if c.Region != "us-east-1" {
		option = ` --create-bucket-configuration "LocationConstraint=$region"`
	}
	w.text("location", option)
}

// bucketSids are the ids of the statements that the script may replace: those of
// either form, and those that it writes.
func bucketSids(d Documents) []string {
	sids := []string{sidTenantList, sidTenantObjects, sidDenyUntagged, sidDenyObjects, sidDenyListing, sidDenyUploads}
	for _, s := range d.BucketPolicy.Statements {
		if s.Sid == sidInboundMail {
			sids = append(sids, s.Sid)
		}
	}
	return sids
}

// quoteShell quotes a string for a POSIX shell.
func quoteShell(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
