package main

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"agentkeys/federation"
)

// runbookInbound is the folder of incoming mail that the run-book names.
const runbookInbound = "inbound"

var (
	runbookVariable = regexp.MustCompile(`(?m)(?:^|^export | )([A-Z][A-Z_]*)=([^\s"'$]+)$`)
	runbookHeredoc  = regexp.MustCompile(`(?ms)^cat >\S+\.json <<EOF\n(.*?)^EOF$`)
)

// TestRunbookShowsWhatRenderEmits holds the policies that the run-book shows and
// writes against those that render makes of the run-book's own configuration: a
// block of JSON is a document or a statement of one, word for word, and a
// statement in a command that bears one of our Sids is that statement.
func TestRunbookShowsWhatRenderEmits(t *testing.T) {
	r := parseRunbook(t)
	if err := r.checkPolicies(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, drift := range []struct{ from, to, want string }{
		{`"sts:AssumeRoleWithWebIdentity", "sts:TagSession"],` + "\n      \"Condition\": {\"StringLike\"",
			`"sts:AssumeRoleWithWebIdentity"],` + "\n      \"Condition\": {\"StringLike\"", "is not what render emits"},
		{`"NotResource": "arn:aws:s3:::acme-agent-mail/bots/`, `"NotResource": "arn:aws:s3:::acme-agent-mail/`, "is not what render emits"},
		{`"Condition": {"ArnEquals"`, `"condition": {"ArnEquals"`, "is not what render emits"},
		{`"StringEquals": {"aws:SourceAccount": "$ACCOUNT"},`, "", `statement "SESInboundMail" is not what render emits`},
		{"BUCKET=acme-agent-mail\nROLE", "BUCKET=acme-mail\nROLE", "BUCKET: want acme-agent-mail as before, got acme-mail"},
		{"BUCKET=acme-agent-mail\n", "BUCKET=acme-mail\n", "is not what render emits"},
		{"```json", "```ini", "shows no policy"},
	} {
		changed := strings.ReplaceAll(string(text), drift.from, drift.to)
		if changed == string(text) {
			t.Errorf("the run-book has no %q", drift.from)
			continue
		}
		r, err := readRunbook(changed)
		if err == nil {
			err = r.checkPolicies()
		}
		if err == nil || !strings.Contains(err.Error(), drift.want) {
			t.Errorf("with %q in the place of %q: %v, want %q", drift.to, drift.from, err, drift.want)
		}
	}
}

// checkPolicies compares every policy of ours in the text.
func (r runbook) checkPolicies() error {
	vars, err := r.variables()
	if err != nil {
		return err
	}
	whole, statements, err := runbookPolicies(vars)
	if err != nil {
		return err
	}
	if len(r.documents) == 0 {
		return fmt.Errorf("the text shows no policy")
	}
	for _, d := range r.documents {
		shown, err := runbookJSON(d.text)
		if err != nil {
			return fmt.Errorf("line %d: %w", d.line, err)
		}
		sid, _ := shown["Sid"].(string)
		if !reflect.DeepEqual(shown, statements[sid]) && !reflect.DeepEqual(shown, whole[0]) && !reflect.DeepEqual(shown, whole[1]) {
			return fmt.Errorf("line %d: the policy is not what render emits:\n%s", d.line, d.text)
		}
	}
	for _, b := range r.blocks {
		for _, m := range runbookHeredoc.FindAllStringSubmatch(b.commands, -1) {
			if err := sameStatements(m[1], vars, statements); err != nil {
				return fmt.Errorf("line %d: %w", b.line, err)
			}
		}
	}
	return nil
}

// sameStatements compares the statements of a document that a command writes with
// ours of the same Sid.
func sameStatements(text string, vars map[string]string, ours map[string]map[string]any) error {
	document, err := runbookJSON(os.Expand(text, func(name string) string { return vars[strings.TrimSuffix(name, "#*://")] }))
	if err != nil {
		return err
	}
	list, _ := document["Statement"].([]any)
	for _, s := range list {
		shown, _ := s.(map[string]any)
		sid, _ := shown["Sid"].(string)
		if want, ok := ours[sid]; ok && !reflect.DeepEqual(shown, want) {
			return fmt.Errorf("statement %q is not what render emits", sid)
		}
	}
	return nil
}

// variables are those that the text sets to plain words, on both hosts to the same.
func (r runbook) variables() (map[string]string, error) {
	vars := map[string]string{}
	for _, b := range r.blocks {
		for _, m := range runbookVariable.FindAllStringSubmatch(strings.ReplaceAll(b.commands, " AWS_PAGER=", ""), -1) {
			if old, ok := vars[m[1]]; ok && old != m[2] {
				return nil, fmt.Errorf("line %d: %s: want %s as before, got %s", b.line, m[1], old, m[2])
			}
			vars[m[1]] = m[2]
		}
	}
	return vars, nil
}

// runbookPolicies are trust and bucket policy of the run-book's configuration, and
// their statements by Sid.
func runbookPolicies(vars map[string]string) (whole [2]map[string]any, statements map[string]map[string]any, err error) {
	c := localFederation(vars["ISSUER"], vars["BUCKET"])
	c.Account, c.Region, c.Role = vars["ACCOUNT"], vars["AWS_REGION"], vars["ROLE"]
	d, err := federation.RenderWith(c, federation.Hardened, federation.Extras{Inbound: runbookInbound})
	if err != nil {
		return whole, nil, err
	}
	statements = map[string]map[string]any{}
	for i, policy := range []any{d.Trust, d.BucketPolicy} {
		text, err := json.Marshal(policy)
		if err != nil {
			return whole, nil, err
		}
		if whole[i], err = runbookJSON(string(text)); err != nil {
			return whole, nil, err
		}
		for _, s := range whole[i]["Statement"].([]any) {
			statement := s.(map[string]any)
			statements[statement["Sid"].(string)] = statement
		}
	}
	return whole, statements, nil
}

func runbookJSON(text string) (map[string]any, error) {
	var v map[string]any
	err := json.Unmarshal([]byte(text), &v)
	return v, err
}
