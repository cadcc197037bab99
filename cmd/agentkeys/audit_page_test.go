package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/spf13/cobra"

	"agentkeys/audit"
)

const auditPage = "../../docs/audit.md"

// pageLog is the log that the page on the audit log shows.
func pageLog(t *testing.T) *testLog {
	t.Helper()
	const alice, bob = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8", "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
	l := newTestLog(t)
	records := []audit.Record{
		{Action: "auth.wallet.verify", Outcome: audit.SignedIn},
		{Action: "mint.oidc_jwt", Outcome: audit.Issued, KeyID: "ak-oidc-n4bQ", TokenID: "JTI00000000000000000000001"},
		{Action: "grant.create", Outcome: audit.Confirmed, GrantID: "grn-ABCDEFGHIJKLMNOP", Tenant: alice, Agent: bob, Service: "s3", ScopePath: "reports"},
		testRecord(3), testRecord(4), testRecord(5),
	}
	for i := range records {
		r := &records[i]
		r.Time = testTime.Add(time.Duration(i) * time.Second)
		r.ID = ulid.MustNew(ulid.Timestamp(r.Time), bytes.NewReader(make([]byte, 10))).String()
		r.RequestID, r.Source = fmt.Sprintf("req-%d", i), "2001:db8::1"
		r.Wallet, r.OmniAccount = alice, strings.Repeat("9b", 32)
		if i >= 3 {
			r.Wallet, r.Tenant = bob, alice
		}
		r.IdentityType, r.IdentityValue = "evm", r.Wallet
	}
	records[3].Outcome, records[3].CredentialID = audit.Pending, ""
	records[4].Settles = records[3].ID
	records[5].Outcome, records[5].Reason, records[5].CredentialID, records[5].TokenID, records[5].GrantID = audit.Refused, "scope_exceeds_grant", "", "", ""
	records[5].Tenant, records[5].ScopePath, records[5].Agent = "", "", ""
	l.append(t, records...)
	l.extend(t)
	return l
}

// pageHash is what differs with the salts of each log.
var pageHash = regexp.MustCompile(`(?m)\b(hash|root|leaf)( +)[0-9a-f]{64}$`)

// What the page shows of the commands is what they print.
func TestAuditPageShowsWhatIsPrinted(t *testing.T) {
	page := read(t, auditPage)
	l := pageLog(t)
	t.Chdir(t.TempDir())
	if err := os.WriteFile("audit.vkey", []byte(l.vkey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	commands := 0
	for _, block := range regexp.MustCompile("(?s)```console\n(.*?)```").FindAllStringSubmatch(page, -1) {
		for _, shown := range strings.Split("\n"+block[1], "\n$ agentkeys ")[1:] {
			command, want, _ := strings.Cut(shown, "\n")
			commands++
			var out bytes.Buffer
			run(context.Background(), strings.Fields(command), []string{"BROKER_DATA_DIR=" + l.dir}, &out, &out)
			got := strings.TrimSpace(pageHash.ReplaceAllString(out.String(), "$1$2"))
			if want = strings.TrimSpace(pageHash.ReplaceAllString(want, "$1$2")); got != want {
				t.Errorf("agentkeys %s prints\n%s\nand the page shows\n%s", command, got, want)
			}
		}
	}
	if commands < 9 {
		t.Errorf("the page shows %d commands, want 9", commands)
	}
}

// The page has a row for every verb, every outcome with its status, and every column
// of the view, and for nothing else.
func TestAuditPageIsWhole(t *testing.T) {
	page := read(t, auditPage)
	for _, verb := range (&program{}).audit().Commands() {
		if !strings.Contains(page, "\n| `audit "+verb.Name()+"` |") {
			t.Errorf("no row for the verb %s", verb.Name())
		}
	}
	rows := func(section, end string) map[string]string {
		found := map[string]string{}
		_, rest, _ := strings.Cut(page, section)
		rest, _, ok := strings.Cut(rest, end)
		if !ok {
			t.Fatalf("the page has no %q up to %q", section, end)
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|.*?([a-z`]*) \\|$").FindAllStringSubmatch(rest, -1) {
			found[row[1]] = row[2]
		}
		return found
	}
	outcomes := rows("| outcome |", "A record's **place**")
	for _, o := range audit.Outcomes() {
		if outcomes[o] != audit.StatusOf(o) {
			t.Errorf("the outcome %s has the status %q on the page, want %q", o, outcomes[o], audit.StatusOf(o))
		}
	}
	if len(outcomes) != len(audit.Outcomes()) {
		t.Errorf("the page has %d outcomes, want %d", len(outcomes), len(audit.Outcomes()))
	}
	l := newTestLog(t)
	var columns []string
	if err := l.db.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "SELECT * FROM audit")
		if err != nil {
			return err
		}
		defer rows.Close()
		columns, err = rows.Columns()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(columns)
	if got := slices.Sorted(maps.Keys(rows("| column |", "Who got a leaked"))); !slices.Equal(got, columns) {
		t.Errorf("the page has the columns\n%q\nand the view\n%q", got, columns)
	}
	for _, word := range []string{"class Authentication (3002)", "Framework " + ocsfVersion} {
		if word = strings.TrimPrefix(word, "class "); !strings.Contains(page, word) {
			t.Errorf("the page lacks %q", word)
		}
	}
}

// The queries of the page say what they promise, with sqlite3 itself where it is
// installed, and always with what the stories have in its place.
func TestAuditPageQueries(t *testing.T) {
	l := pageLog(t)
	if err := l.db.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO audit_anchors (name, upto) VALUES ('file', 4)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	queries := regexp.MustCompile(`(?m)^sqlite3 -readonly "\$BROKER_DATA_DIR/agentkeys.db" "(.*)"$`).FindAllStringSubmatch(read(t, auditPage), -1)
	want := []string{
		"2030-01-02T12:00:04.000Z|confirmed|0x70997970c51812dc3a010c7d01b50e0d17dc79c8|0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc|nightly|grn-ABCDEFGHIJKLMNOP\n",
		"1|mint.aws_credentials|scope_exceeds_grant\n",
		"2030-01-02|0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc|1\n2030-01-02|0x70997970c51812dc3a010c7d01b50e0d17dc79c8|1\n",
		"file|4|2\n",
	}
	if len(queries) != len(want) {
		t.Fatalf("%d queries, want %d", len(queries), len(want))
	}
	path := filepath.Join(l.dir, databaseFile)
	shells := map[string]func(query string) ([]byte, error){
		"ours": func(query string) ([]byte, error) {
			var out bytes.Buffer
			err := queryReadOnlyTo(&out, []string{"-readonly", path, query})
			return out.Bytes(), err
		},
	}
	if sqlite3 != "" {
		shells["sqlite3"] = func(query string) ([]byte, error) {
			return exec.Command(sqlite3, "-readonly", path, query).CombinedOutput()
		}
	} else {
		t.Log("sqlite3 is not installed: its queries are run by the driver alone")
	}
	for name, shell := range shells {
		for i, q := range queries {
			if got, err := shell(q[1]); err != nil || string(got) != want[i] {
				t.Errorf("%s: %s\n%swant\n%s(%v)", name, q[1], got, want[i], err)
			}
		}
	}
}

// What the help of the audit log's commands says in sentences and in examples fits a
// terminal, and so do those that make its files and its key.
func TestAuditHelpFitsATerminal(t *testing.T) {
	p := &program{}
	group := p.audit()
	for _, cmd := range append([]*cobra.Command{group, p.init(), p.keygen()}, group.Commands()...) {
		for line := range strings.Lines(cmd.Short + "\n" + cmd.Long + "\n" + cmd.Example) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > terminalWidth {
				t.Errorf("%s: %d columns: %s", cmd.Name(), n, line)
			}
		}
	}
}
