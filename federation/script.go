package federation

import (
	"bytes"
	_ "embed"
	"strings"
	"text/template"
)

//go:embed set-up.sh.tmpl
var scriptText string

// scriptFuncs write a value as one word of the shell.
var scriptFuncs = template.FuncMap{
	"quote": quoteShell,
	"json": func(v any) (string, error) {
		text, err := renderedJSON(v)
		return quoteShell(strings.TrimSuffix(string(text), "\n")), err
	},
}

// script writes the documents as a shell script.
//
// What the configuration leaves free goes to the CLI as JSON or behind an equals
// sign: a bare value that looks like a URL is fetched by older CLIs, and one that
// begins with a dash is taken for an option.
func (d Documents) script(c Config) ([]byte, error) {
	arn := c.ProviderARN()
	data := struct {
		Documents
		Config                          Config
		ClientID                        map[string]string
		Thumbprints                     map[string]any
		TrustSids, BucketSids           string
		RoleDescription, RolePolicyName string
	}{
		Documents:  d,
		Config:     c,
		ClientID:   map[string]string{"OpenIDConnectProviderArn": arn, "ClientID": c.Audience},
		TrustSids:  strings.Join([]string{sidTenantSession, sidNoSlashInTag}, "|"),
		BucketSids: strings.Join(bucketSids(d), "|"),

		RoleDescription: roleDescription, RolePolicyName: rolePolicyName,
	}
	if len(d.Provider.Thumbprints) > 0 {
		data.Thumbprints = map[string]any{"OpenIDConnectProviderArn": arn, "ThumbprintList": d.Provider.Thumbprints}
	}
	t, err := template.New("set-up.sh").Funcs(scriptFuncs).Parse(scriptText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = t.Execute(&out, data)
	return out.Bytes(), err
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
