package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"agentkeys/api"
	"agentkeys/federation"
	"agentkeys/grant"
	"agentkeys/trail"
)

// The page on the AWS side has a row for every verb and every code.
func TestFederationPageIsWhole(t *testing.T) {
	page, err := os.ReadFile("../../docs/federation.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range federation.Codes() {
		if !strings.Contains(string(page), "\n| `"+string(code)+"` |") {
			t.Errorf("no row for the code %s", code)
		}
	}
	verbs := (&program{}).federation().Commands()
	if len(verbs) == 0 {
		t.Fatal("no verbs")
	}
	for _, verb := range verbs {
		if !strings.Contains(string(page), "\n| `"+verb.Name()+"` |") {
			t.Errorf("no row for the verb %s", verb.Name())
		}
	}
}

// The commands of the run-book that need the configuration name it, so that they can be
// given as they stand.
func TestRunbookCommandsNameTheConfiguration(t *testing.T) {
	page, err := os.ReadFile("../../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "\n  ", " ") // within a list
	commands := regexp.MustCompile("agentkeys (?:revoke|federation [a-z]+)[^`\n]*").FindAllString(text, -1)
	if len(commands) < 8 {
		t.Fatalf("%d commands, want at least 8: %q", len(commands), commands)
	}
	for _, c := range commands {
		if !strings.Contains(c, " --config federation.json") {
			t.Errorf("the run-book says %q, which lacks --config", c)
		}
	}
}

// What the help says in sentences fits a terminal of 100 columns.
func TestHelpFitsATerminal(t *testing.T) {
	p := &program{}
	groups := []*cobra.Command{p.revoke(), p.federation(), p.token()}
	if len(groups[1].Commands()) == 0 || len(groups[2].Commands()) == 0 {
		t.Fatal("no verbs")
	}
	for _, cmd := range append(groups, append(groups[1].Commands(), groups[2].Commands()...)...) {
		for line := range strings.Lines(cmd.Short + "\n" + cmd.Long) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 100 {
				t.Errorf("%s: %d columns, want at most 100: %s", cmd.Name(), utf8.RuneCountInString(line), line)
			}
		}
	}
}

const grantsPage = "../../docs/grants.md"

// The page on grants has a row for every command and for every code that a grant or
// a call for credentials alone can have, with the status of that code.
func TestGrantsPageIsWhole(t *testing.T) {
	page, err := os.ReadFile(grantsPage)
	if err != nil {
		t.Fatal(err)
	}
	verbs := (&program{}).grant().Commands()
	if len(verbs) == 0 {
		t.Fatal("no verbs")
	}
	for _, verb := range verbs {
		if !strings.Contains(string(page), "\n| `grant "+verb.Name()+"` |") {
			t.Errorf("no row for the verb %s", verb.Name())
		}
	}
	if !strings.Contains(string(page), "\n| `creds` |") {
		t.Error("no row for creds")
	}
	told := 0
	ours := regexp.MustCompile(`^(?:(?:grant|call|idempotency|sts|mint|budget|scope|wallet|aws)_|audit_unavailable$)`)
	for _, code := range api.Codes() {
		if !ours.MatchString(string(code)) {
			continue
		}
		told++
		if !strings.Contains(string(page), fmt.Sprintf("\n| `%s` | %d |", code, api.KindOf(code).Status)) {
			t.Errorf("no row for the code %s with status %d", code, api.KindOf(code).Status)
		}
	}
	if told == 0 {
		t.Fatal("no codes")
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [0-9]{3} \\|").FindAllStringSubmatch(string(page), -1) {
		if !slices.Contains(api.Codes(), api.Code(row[1])) {
			t.Errorf("a row for %s, which is no code", row[1])
		}
	}
}

// The session policy that the page shows is what such a grant compiles to.
func TestGrantsPageShowsTheSessionPolicy(t *testing.T) {
	page, err := os.ReadFile(grantsPage)
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(page)
	if shown == nil {
		t.Fatal("the page shows no policy")
	}
	const tenant = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8"
	want, err := grant.SessionPolicy(grant.Target{Partition: "aws", Bucket: "acme-agent-mail", Prefix: "bots"}, tenant, "reports",
		grant.Actions{grant.ActionList, grant.ActionGet}, time.Date(2026, 12, 31, 18, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := json.Compact(&got, bytes.ReplaceAll(shown[1], []byte("TENANT"), []byte(tenant))); err != nil {
		t.Fatal(err)
	}
	if got.String() != want {
		t.Errorf("the page shows\n%s\nand the grant compiles to\n%s", got.String(), want)
	}
}

// The page on reconciling has a row for every finding, with its severity, and names
// every flag.
func TestReconcilePageIsWhole(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit-reconcile.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range trail.Codes() {
		if !strings.Contains(string(page), fmt.Sprintf("\n| `%s` | %s |", code, code.Severity())) {
			t.Errorf("no row for the code %s, which is %s", code, code.Severity())
		}
	}
	flags := (&program{}).auditReconcile().Flags()
	for _, f := range regexp.MustCompile(`--(?:cloudtrail|config|data-dir|json|late|since|until|token-ttl)\b`).FindAllString(string(page), -1) {
		if flags.Lookup(strings.TrimPrefix(f, "--")) == nil {
			t.Errorf("there is no flag %s", f)
		}
	}
}
