package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"
	"agentkeys/token"

	"golang.org/x/mod/sumdb/note"
)

const logOrigin = "broker.example.com/audit"

// A logFolder is a data folder whose database has a log.
type logFolder struct {
	dir, key, heads, anchor, export string
	ids                             []string
	log                             *audit.Log
}

func newLogFolder(t *testing.T, records int) *logFolder {
	t.Helper()
	dir := t.TempDir()
	f := &logFolder{dir: dir, key: filepath.Join(dir, "audit.vkey"), heads: filepath.Join(dir, "heads"),
		anchor: filepath.Join(dir, "anchor.jsonl"), export: filepath.Join(dir, "export.ndjson")}
	f.log = newAuditLog(t, f.key)
	path := filepath.Join(dir, databaseFile)
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f.fill(t, s, records)
	return f
}

func newAuditLog(t *testing.T, keyFile string) *audit.Log {
	t.Helper()
	key, err := token.GenerateAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.Verifier(logOrigin)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := key.Signer(logOrigin)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.NewLog(logOrigin, signer, verifier)
	if err != nil {
		t.Fatal(err)
	}
	save(t, keyFile, text+"\n")
	return l
}

func save(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// fill appends records, the last of which gets no place, and writes what is kept
// beside a log.
func (f *logFolder) fill(t *testing.T, s *store.Store, records int) {
	t.Helper()
	var lines, heads []byte
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for i := range records + 1 {
			r := audit.Record{Time: time.Now(), Action: "mint.oidc_jwt", Outcome: audit.Issued, IdentityType: "evm",
				IdentityValue: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f", RequestID: fmt.Sprint("req-", i)}
			if err := audit.Append(t.Context(), tx, &r); err != nil {
				return err
			}
			f.ids = append(f.ids, r.ID)
		}
		head, _, err := f.log.Extend(t.Context(), tx, records)
		if err != nil {
			return err
		}
		entries, err := audit.After(t.Context(), tx, 0, records)
		for _, e := range entries {
			lines = append(lines, e.Line()...)
		}
		quoted, _ := json.Marshal(head.Note)
		heads = fmt.Appendf(nil, `{"time":"2030-01-02T12:00:00.000Z","size":%d,"checkpoint":%s}`+"\n", head.Size, quoted)
		save(t, f.export, string(lines)+fmt.Sprintf(`{"checkpoint":%s}`+"\n", quoted))
		save(t, f.dir+"/checkpoint", head.Note)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	save(t, f.heads, string(heads))
	save(t, f.anchor, string(lines))
}

// tamper runs SQL behind the broker's back, without the triggers of the table, and puts
// them back.
func (f *logFolder) tamper(t *testing.T, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(f.dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, name := range []string{"audit_records_no_update", "audit_records_no_delete"} {
		var text string
		if err := db.QueryRowContext(t.Context(), "SELECT sql FROM sqlite_schema WHERE name = $1", name).Scan(&text); err != nil {
			t.Fatal(err)
		}
		statements = append(append([]string{"DROP TRIGGER " + name}, statements...), text)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// tell runs the program and returns its status and what it wrote.
func tell(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, nil, &out, &errs)
	return code, out.String(), errs.String()
}

func TestAuditVerifyCommand(t *testing.T) {
	f := newLogFolder(t, 300)
	other := filepath.Join(t.TempDir(), "other.vkey")
	newAuditLog(t, other)
	small := newLogFolder(t, 3)
	for name, tt := range map[string]struct {
		args string
		code int
		want string // in either output
	}{
		"a database":              {"--data-dir DIR --key DIR/audit.vkey", 0, "integrity:    INTACT\ncompleteness: COMPLETE\n"},
		"its own file of heads":   {"--data-dir DIR --key DIR/audit.vkey", 0, "witnessed     1 head and 0 records agree"},
		"with an anchor":          {"--data-dir DIR --key DIR/audit.vkey --heads DIR/heads --anchor DIR/anchor.jsonl", 0, "witnessed     1 head and 300 records agree"},
		"what has no place":       {"--data-dir DIR --key DIR/audit.vkey", 0, "read          301 records, 1 of them without a place in the tree yet"},
		"an export":               {"--export DIR/export.ndjson --key DIR/audit.vkey --checkpoint DIR/checkpoint", 0, "witnessed     1 head"},
		"an anchor as an export":  {"--export DIR/anchor.jsonl --key DIR/audit.vkey --checkpoint DIR/checkpoint", 0, "INTACT"},
		"no head anywhere":        {"--export DIR/anchor.jsonl --key DIR/audit.vkey", 3, "integrity:    UNKNOWN\ncompleteness: UNKNOWN\n"},
		"another key":             {"--data-dir DIR --key OTHER", 1, "head_unsigned"},
		"an anchor of another":    {"--data-dir DIR --key DIR/audit.vkey --anchor SMALL/anchor.jsonl", 1, "completeness: INCOMPLETE"},
		"as JSON":                 {"--data-dir DIR --key DIR/audit.vkey --json", 0, `"completeness": "COMPLETE"`},
		"no key":                  {"--data-dir DIR", 2, "nobody vouches for it\nagentkeys: hint: \"agentkeys keygen --purpose audit --show FILE"},
		"a key that is none":      {"--data-dir DIR --key nowhere", 2, "--key: want a verifier key or a file of them"},
		"a file that holds none":  {"--data-dir DIR --key DIR/heads", 2, "--key: want a verifier key"},
		"no database":             {"--data-dir DIR/nowhere --key DIR/audit.vkey", 3, "it does not exist"},
		"no folder":               {"--key DIR/audit.vkey", 2, "--data-dir"},
		"two sources":             {"--data-dir DIR --export DIR/export.ndjson --key DIR/audit.vkey", 2, "want one of them"},
		"no export":               {"--export DIR/nowhere --key DIR/audit.vkey", 3, "--export: "},
		"a folder for an export":  {"--export DIR --key DIR/audit.vkey", 3, "want a file"},
		"no file of heads":        {"--data-dir DIR --key DIR/audit.vkey --heads DIR/nowhere", 3, "--heads: "},
		"a checkpoint not signed": {"--data-dir DIR --key DIR/audit.vkey --checkpoint SMALL/checkpoint", 3, "--checkpoint: "},
	} {
		t.Run(name, func(t *testing.T) {
			args := strings.NewReplacer("DIR", f.dir, "SMALL", small.dir, "OTHER", other).Replace(strings.Replace(tt.args, "--data-dir DIR", "--data-dir=DIR", 1))
			code, stdout, stderr := tell(t, append([]string{"audit", "verify"}, strings.Fields(args)...)...)
			if code != tt.code || !strings.Contains(stdout+stderr, tt.want) {
				t.Errorf("status %d, want %d and %q, got:\n%s%s", code, tt.code, tt.want, stdout, stderr)
			}
		})
	}
}

func TestAuditVerifyCommandNamesTheRecord(t *testing.T) {
	f := newLogFolder(t, 300)
	f.tamper(t, "UPDATE audit_records SET outcome = 'refused', reason = 'x' || char(10) || char(27) || '[2K' WHERE seq = 7", "DELETE FROM audit_records WHERE seq = 9")
	code, stdout, stderr := tell(t, "audit", "verify", "--data-dir", f.dir, "--key", f.key)
	if code != exitBroken || stderr != "" {
		t.Errorf("status %d, %s", code, stderr)
	}
	for _, want := range []string{"integrity:    BROKEN\ncompleteness: INCOMPLETE\n", "record_changed, place 7, record " + f.ids[6] + "\n", "record_missing, place 9\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %q in:\n%s", want, stdout)
		}
	}
	code, stdout, _ = tell(t, "audit", "verify", "--data-dir", f.dir, "--key", f.key, "--json")
	var r audit.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitBroken || r.Counts[audit.RecordChanged] != 1 || r.Findings[0].ID != f.ids[6] {
		t.Errorf("status %d, %v, %s", code, err, stdout)
	}
}

// A log that was put back is one finding for each file that has heads from after that,
// however many those are.
func TestAuditVerifyCommandTellsARollBackOnce(t *testing.T) {
	f := newLogFolder(t, 300)
	s, err := store.Open(t.Context(), filepath.Join(f.dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	heads := read(t, f.heads)
	back := errors.New("put back")
	err = s.Update(t.Context(), func(tx *sql.Tx) error {
		for i := range 30 {
			r := audit.Record{Time: time.Now(), Action: "mint.oidc_jwt", Outcome: audit.Issued, RequestID: fmt.Sprint("later-", i)}
			if err := audit.Append(t.Context(), tx, &r); err != nil {
				return err
			}
			head, _, err := f.log.Extend(t.Context(), tx, 1000)
			if err != nil {
				return err
			}
			heads += string(audit.HeadLine(r.Time, head))
		}
		return back
	})
	if !errors.Is(err, back) {
		t.Fatal(err)
	}
	save(t, f.heads, heads)
	code, stdout, stderr := tell(t, "audit", "verify", "--data-dir", f.dir, "--key", f.key)
	if n := strings.Count(stdout, "rolled_back"); code != exitBroken || n != 1 || stderr != "" {
		t.Errorf("status %d, %d findings, want 1 and one\n%s%s", code, n, stdout, stderr)
	}
	for _, want := range []string{"rolled_back, place 301\n  want 302 records with the root ", "\n  got  300 records\n  more 29 later heads that the log does not reach\n  from " + f.heads + ", line 2\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("want %q in:\n%s", want, stdout)
		}
	}
	code, stdout, _ = tell(t, "audit", "verify", "--data-dir", f.dir, "--key", f.key, "--json")
	var r struct {
		Findings []map[string]any
		Counts   map[string]int64
	}
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || code != exitBroken || r.Counts["rolled_back"] != 1 || len(r.Findings) != 1 || r.Findings[0]["more"] != 29.0 || r.Findings[0]["got"] != "300 records" {
		t.Errorf("status %d, %v, %s", code, err, stdout)
	}
}

// A broker that writes is no hindrance, and none to it.
func TestAuditVerifyBesideABroker(t *testing.T) {
	f := newLogFolder(t, 300)
	s, err := store.Open(t.Context(), filepath.Join(f.dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan error)
	go func() {
		var err error
		for i := 0; err == nil; i++ {
			select {
			case <-stop:
				stopped <- s.Close()
				return
			default:
			}
			err = s.Update(t.Context(), func(tx *sql.Tx) error {
				r := audit.Record{Time: time.Now(), Action: "mint.oidc_jwt", Outcome: audit.Issued, RequestID: fmt.Sprint("later-", i)}
				if err := audit.Append(t.Context(), tx, &r); err != nil {
					return err
				}
				_, _, err := f.log.Extend(t.Context(), tx, 100)
				return err
			})
		}
		stopped <- err
	}()
	for range 5 {
		if code, stdout, stderr := tell(t, "audit", "verify", "--data-dir", f.dir, "--key", f.key, "--anchor", f.anchor); code != exitOK {
			t.Errorf("status %d: %s%s", code, stdout, stderr)
		}
	}
	close(stop)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
}

func TestAuditProveAndVerifyProof(t *testing.T) {
	f := newLogFolder(t, 300)
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	must := func(want int, text string, args ...string) string {
		t.Helper()
		code, stdout, stderr := tell(t, append([]string{"audit"}, args...)...)
		if code != want || !strings.Contains(stdout+stderr, text) {
			t.Errorf("%q: status %d, want %d and %q, got:\n%s%s", args, code, want, text, stdout, stderr)
		}
		return stdout
	}
	must(0, "", "prove", f.ids[41], "--data-dir", f.dir, "--out", path("proof"), "--entry", path("entry"))
	must(2, "is there already", "prove", f.ids[41], "--data-dir", f.dir, "--out", path("proof"))
	out := must(0, "PROVEN: a record is at place 42 of the 300 records of "+logOrigin, "verify-proof", path("proof"), "--key", f.key, "--entry", path("entry"))
	if !strings.Contains(out, `"request_id": "req-41"`) || !strings.Contains(out, `"identity_value": "0x71c7656ec7ab88b098defb751b7401b5f6d8976f"`) {
		t.Errorf("the record is not shown:\n%s", out)
	}
	must(2, "--entry is missing", "verify-proof", path("proof"), "--key", f.key)
	save(t, path("json"), must(0, "leaf_hash", "prove", f.ids[41], "--data-dir", f.dir, "--json"))
	must(0, "PROVEN", "verify-proof", path("json"), "--key", f.key)

	entry, err := os.ReadFile(path("entry"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"outcome": strings.Replace(string(entry), `"issued"`, `"refused"`, 1), "person": strings.Replace(string(entry), "0x71c7", "0x81c7", 1),
		"place": strings.Replace(string(entry), `"place":42`, `"place":43`, 1), "none": "{}",
	} {
		save(t, path("bad"), bad)
		t.Log(name)
		must(1, "--entry: ", "verify-proof", path("proof"), "--key", f.key, "--entry", path("bad"))
	}
	must(0, "", "prove", f.ids[42], "--data-dir", f.dir, "--out", path("proof2"), "--entry", path("entry2"))
	must(1, "want the record at place 42", "verify-proof", path("proof"), "--key", f.key, "--entry", path("entry2"))
	other := path("other.vkey")
	newAuditLog(t, other)
	must(1, "want a signature by", "verify-proof", path("proof"), "--key", other, "--entry", path("entry"))
	must(3, "no such file", "verify-proof", path("nowhere"), "--key", f.key, "--entry", path("entry"))
	must(1, "reading proof", "verify-proof", f.key, "--key", f.key)

	must(3, "has no record \"01ARZ3NDEKTSV4RRFFQ69G5FAV\"\nagentkeys: hint: \"agentkeys audit show PLACE\"", "prove", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--data-dir", f.dir)
	must(3, "no place in the tree yet", "prove", f.ids[300], "--data-dir", f.dir)
	must(0, "", "prove", "42", "--data-dir", f.dir, "--out", path("proof3"), "--entry", path("entry3"))
	must(0, "PROVEN: a record is at place 42 of the 300 records of "+logOrigin, "verify-proof", path("proof3"), "--key", f.key, "--entry", path("entry3"))
	for one, other := range map[string]string{"proof": "proof3", "entry": "entry3"} {
		if want, got := read(t, path(one)), read(t, path(other)); want != got {
			t.Errorf("by its place the record has another %s: want %q, got %q", one, want, got)
		}
	}
	must(0, read(t, path("json")), "prove", strings.ToLower(f.ids[41]), "--data-dir", f.dir, "--json")
	must(3, "no place in the tree yet", "prove", "301", "--data-dir", f.dir)
	must(3, "there is no record at place 9000: the last one is at 301\n", "prove", "9000", "--data-dir", f.dir)
	for _, neither := range []string{"0", "042", "+42", "4 2", "42a", "", "0x2a", "99999999999999999999", f.ids[41] + "0", f.ids[41][:25], strings.Repeat("U", 26), "req-41"} {
		must(2, fmt.Sprintf("want the ID of a record or its place, a number from 1, got %q\n", neither), "prove", neither, "--data-dir", f.dir)
	}
	f.tamper(t, "DELETE FROM audit_records WHERE seq <= 7 OR seq = 50", "UPDATE audit_head SET pruned = 7")
	must(3, "the record at place 7 was pruned: its hash is left\nagentkeys: hint: the export ", "prove", "7", "--data-dir", f.dir)
	must(0, "leaf_hash", "prove", "8", "--data-dir", f.dir, "--json")
	must(1, "there is no record at place 50, and the last one is at 301: somebody took it out", "prove", "50", "--data-dir", f.dir)
	f.tamper(t, "UPDATE audit_records SET reason = 'x' WHERE seq = 42")
	must(1, "it was changed", "prove", f.ids[41], "--data-dir", f.dir)
	must(1, "it was changed", "prove", "42", "--data-dir", f.dir)
}

func TestAuditProveAsksABroker(t *testing.T) {
	f := newLogFolder(t, 300)
	_, proof, _ := tell(t, "audit", "prove", f.ids[41], "--data-dir", f.dir, "--json")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case proofPath + f.ids[41]:
			fmt.Fprint(w, proof)
		case proofPath + f.ids[42]:
			fmt.Fprint(w, "<html>")
		default:
			http.Error(w, `{"code":"entry_unknown"}`, http.StatusNotFound)
		}
	}))
	defer srv.Close()
	if code, stdout, stderr := tell(t, "audit", "prove", f.ids[41], "--url", srv.URL+"/", "--json"); code != 0 || stdout != proof {
		t.Errorf("status %d: %s%s", code, stdout, stderr)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{f.ids[43], "--url", srv.URL}, 3, "404"},
		{[]string{f.ids[42], "--url", srv.URL}, 3, "reading proof"},
		{[]string{f.ids[41], "--url", "ftp://broker.example.com"}, 2, "--url: "},
		{[]string{f.ids[41], "--url", srv.URL, "--data-dir", f.dir}, 2, "--url: "},
		{[]string{"42", "--url", srv.URL}, 2, "--url: want the ID of a record, which a broker knows it by, got the place 42"},
		{[]string{"../entries", "--url", srv.URL}, 2, `got "../entries"`},
	} {
		if code, _, stderr := tell(t, append([]string{"audit", "prove"}, tt.args...)...); code != tt.code || !strings.Contains(stderr, tt.want) {
			t.Errorf("%q: status %d, %s; want %d and %q", tt.args, code, stderr, tt.code, tt.want)
		}
	}
}

// The page on the format has a row for every code of a finding, and for no other.
func TestAuditFormatPageIsWhole(t *testing.T) {
	page, err := os.ReadFile("../../docs/audit-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rows, found := strings.Cut(string(page), "\n| code | spoils |")
	if !found {
		t.Fatal("no table of codes")
	}
	var want, got []string
	for code, about := range audit.Codes() {
		want = append(want, fmt.Sprintf("| `%s` | %s |", code, about))
	}
	for line := range strings.Lines(rows) {
		if cells := strings.SplitN(line, " | ", 3); len(cells) == 3 && strings.HasPrefix(line, "| `") {
			got = append(got, cells[0]+" | "+cells[1]+" |")
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		t.Errorf("the page has %q, want %q", got, want)
	}
}
