package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"agentkeys/audit"
	"agentkeys/store"
)

// placesIn are the places at the beginning of lines for people.
func placesIn(t testing.TB, text string) (places []int64) {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, " PLACE") {
			continue
		}
		place, err := strconv.ParseInt(strings.Fields(line)[0], 10, 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		places = append(places, place)
	}
	return places
}

func upTo(from, to int64) (all []int64) {
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// follower is a tail that looks at the log when it is told to.
type follower struct {
	*tail
	out   *bytes.Buffer // read after stop
	ticks chan time.Time
	ended chan error
	stop  func() error
}

func startFollowing(t *testing.T, l *testLog, lines int) *follower {
	t.Helper()
	db, err := store.Open(t.Context(), filepath.Join(l.dir, databaseFile), store.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	f := &follower{out: &bytes.Buffer{}, ticks: make(chan time.Time), ended: make(chan error, 1)}
	f.tail = &tail{db: db, w: f.out}
	if err := f.begin(t.Context(), lines); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { f.ended <- f.follow(ctx, f.ticks, func() error { return nil }) }()
	f.stop = sync.OnceValue(func() error {
		cancel()
		err := <-f.ended
		return errors.Join(err, db.Close())
	})
	t.Cleanup(func() { _ = f.stop() })
	return f
}

// tick has the tail look, and returns when it has done so with what was there.
func (f *follower) tick() {
	f.ticks <- time.Time{}
	f.ticks <- time.Time{} // taken when the first look is over
}

// fault has the tail look, and returns the fault that it ends with, nil if it does not.
func (f *follower) fault() error {
	for range 2 {
		select {
		case f.ticks <- time.Time{}:
		case err := <-f.ended:
			f.ended <- nil // for stop
			return err
		}
	}
	return nil
}

// A followed log has every record once and in order, those among them that are written
// while it begins, more of them than a page has, and those of a broker started anew.
func TestTailFollows(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 20)
	var wg sync.WaitGroup
	begun := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for n := range 100 {
				if n == 10 {
					<-begun
				}
				l.append(t, testRecord(n))
			}
		})
	}
	f := startFollowing(t, l, 5)
	close(begun)
	f.tick()
	wg.Wait()
	f.tick()
	l.fill(t, 8*tailPage)
	f.tick()
	l.close(t)
	f.tick()
	l.open(t)
	last := l.append(t, testRecord(7))[0]
	f.tick()
	if err := f.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	got := placesIn(t, f.out.String())
	if last.Seq != 20+300+8*tailPage+1 || !slices.Equal(got, upTo(got[0], last.Seq)) || got[0] < 16 || got[0] > 16+30 {
		t.Errorf("followed %d records from place %d to %d, want each once, from about 16 to %d", len(got), got[0], got[len(got)-1], last.Seq)
	}
}

// A log that ends before where it ended, or that lacks records, ends the tail.
func TestTailFindsAShorterLog(t *testing.T) {
	for want, statements := range map[string][]string{
		"the log ended at place 20, and now ends at 15":  {"DELETE FROM audit_records WHERE seq > 15"},
		"want the record at place 21, got the one at 22": {"INSERT INTO audit_records (seq, id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id) VALUES (22, 'x', 0, '', '', '', '', '', '', '', '', '', '', '')"},
	} {
		l := newTestLog(t)
		l.fill(t, 20)
		f := startFollowing(t, l, 0)
		f.tick()
		raw, err := sql.Open("sqlite", filepath.Join(l.dir, databaseFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range append([]string{"DROP TRIGGER audit_records_no_delete"}, statements...) {
			if _, err := raw.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		if err := raw.Close(); err != nil {
			t.Fatal(err)
		}
		if err := f.fault(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("followed to %v, want %q", err, want)
		}
	}
}

// What is pruned while it was not looked at is no fault, and is not there.
func TestTailAcceptsPruning(t *testing.T) {
	l := newTestLog(t)
	f := startFollowing(t, l, 0)
	l.fill(t, 20)
	if err := l.db.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE audit_head SET pruned = 12")
		if err == nil {
			_, err = tx.Exec("DELETE FROM audit_records WHERE seq <= 12")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	f.tick()
	if err := f.stop(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if got := placesIn(t, f.out.String()); !slices.Equal(got, upTo(13, 20)) {
		t.Errorf("followed %v, want 13 to 20", got)
	}
	if r := l.audit(t, "show", "5").must(t); !strings.Contains(r.stdout, "pruned: its hash is left") || !strings.Contains(r.stdout, "yes, under the signed head of 20 records") {
		t.Errorf("show of a pruned record:\n%s", r.stdout)
	}
	if err := l.db.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE audit_head SET pruned = 20")
		if err == nil {
			_, err = tx.Exec("DELETE FROM audit_records")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	l.audit(t, "show", "21").refused(t, exitBroken, "there is no record at place 21: the last one is at 20")
	if r := l.audit(t, "show", "5", "--json").must(t); !strings.HasPrefix(r.stdout, `{"place":5,"hash":"`) {
		t.Errorf("show of a pruned record:\n%s", r.stdout)
	}
}

// Another file in the place of the one that is read ends a tail, which would wait for
// ever else.
func TestTailNoticesAnotherFile(t *testing.T) {
	l, other := newTestLog(t), newTestLog(t)
	l.close(t)
	other.close(t)
	path := filepath.Join(l.dir, databaseFile)
	db, err := store.Open(t.Context(), path, store.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	file, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &replacing{t: t, from: filepath.Join(other.dir, databaseFile), to: path}
	err = (&program{stdout: w, stderr: io.Discard}).runTail(t.Context(), db, func() error { return sameFile(path, file) }, tailOptions{follow: true, lines: 1})
	if err == nil || !strings.Contains(err.Error(), "is another file than before") {
		t.Errorf("followed to %v", err)
	}
}

// replacing puts one file in the place of another at the first write.
type replacing struct {
	t        *testing.T
	from, to string
	once     sync.Once
}

func (r *replacing) Write(p []byte) (int, error) {
	r.once.Do(func() {
		if err := os.Rename(r.from, r.to); err != nil {
			r.t.Error(err)
		}
	})
	return len(p), nil
}

func TestTailPrintsTheLast(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 20)
	if got := placesIn(t, l.audit(t, "tail").must(t).stdout); !slices.Equal(got, upTo(11, 20)) {
		t.Errorf("tail has the places %v, want 11 to 20", got)
	}
	if got := l.audit(t, "tail", "-n", "3", "--json").must(t).stdout; got != string(bytes.Join(bytes.SplitAfter(l.lines(t), []byte("\n"))[17:], nil)) {
		t.Errorf("tail has\n%s", got)
	}
	if got := placesIn(t, l.audit(t, "tail", "-n", "0").must(t).stdout); len(got) != 0 {
		t.Errorf("tail of none has %v", got)
	}
	l.audit(t, "tail", "-n", "-1").refused(t, exitUsage, "-n: want 0 to 1000, got -1")
}

// Pages by cursor have every record once, in either order.
func TestQueryPages(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 25)
	if r := l.audit(t, "query", "--limit", "25").must(t); r.stderr != "" {
		t.Errorf("of the 25 records that there are it tells %q", r.stderr)
	}
	for _, flags := range [][]string{nil, {"--oldest-first"}} {
		var got []int64
		cursor := []string{}
		for range 4 {
			r := l.audit(t, "query", slices.Concat(flags, cursor, []string{"--limit", "10"})...).must(t)
			got = append(got, placesIn(t, r.stdout)...)
			next, more := strings.CutPrefix(strings.TrimSpace(r.stderr), "there are more: ")
			if !more {
				break
			}
			cursor = strings.Fields(next)
			l.append(t, testRecord(1))
		}
		slices.Sort(got)
		if flags != nil && !slices.Equal(got, upTo(1, 31)[:len(got)]) || flags == nil && !slices.Equal(got, upTo(1, 25)) {
			t.Errorf("%v: the pages have the places %v", flags, got)
		}
	}
	l.fill(t, 2000)
	if got := placesIn(t, l.audit(t, "query", "--limit", "1500").must(t).stdout); len(got) != 1500 || got[0] != 2029 || got[1499] != 530 {
		t.Errorf("a long page has %d records, from %d to %d", len(got), got[0], got[len(got)-1])
	}
}

func TestQueryFilters(t *testing.T) {
	l := newTestLog(t)
	records := []audit.Record{testRecord(0), testRecord(1), testRecord(2), testRecord(3)}
	records[1].Outcome, records[1].Reason = audit.Refused, "grant_expired"
	records[2].Outcome = audit.Pending
	records = l.append(t, records...)
	settled := testRecord(4)
	settled.Settles = records[2].ID
	l.append(t, settled)
	for flags, want := range map[string][]int64{
		"--outcome confirmed":                     {5, 4, 1},
		"--status confirmed":                      {5, 4, 3, 1},
		"--status failed":                         {2},
		"--status pending":                        nil,
		"--token " + records[3].TokenID:           {4},
		"--credential " + records[0].CredentialID: {1},
		"--request req-3":                         {4},
		"--wallet 0x71C7656EC7ab88b098defB751B7401B5f6d8976F --outcome refused": {2}, // as a checksum has it
		"--account " + records[0].OmniAccount + " --limit 1":                    {5},
		"--grant grn-ABCDEFGHIJKLMNOP --since 2030-01-02T12:00:03Z":             {5, 4},
		"--since 2030-01-02T12:00:01Z --until 2030-01-02T13:00:03+01:00":        {3, 2},
		"--until 2030-01-02T12:00:01Z":                                          {1},
		"--action mint.aws_credentials --agent nightly --outcome refused":       {2},
		"--tenant 0x52908400098527886e0f7030069857d2e4169ee7 --oldest-first":    {1, 2, 3, 4, 5},
		"--tenant " + strings.Repeat("ab", 32):                                  nil,
	} {
		r := l.audit(t, "query", strings.Fields(flags)...).must(t)
		if got := placesIn(t, r.stdout); !slices.Equal(got, want) {
			t.Errorf("%s: places %v, want %v", flags, got, want)
		}
		if want == nil && r.stderr != "no record matches\n" {
			t.Errorf("%s: told %q", flags, r.stderr)
		}
	}
	if r := l.audit(t, "query", "--outcome", "pending").must(t); !strings.Contains(r.stdout, " then confirmed") {
		t.Errorf("the intent does not say what came of it:\n%s", r.stdout)
	}
	if r := l.audit(t, "query", "--request", "req-3", "--json").must(t); r.stdout != strings.SplitAfter(string(l.lines(t)), "\n")[3] {
		t.Errorf("--json prints\n%s", r.stdout)
	}
}

// A slip of the pen is told, and never "nothing was found".
func TestQueryRefuses(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 1)
	for flags, want := range map[string]string{
		"--outcome isued":          `--outcome: want one of issued, refused, signed_in, confirmed, pending, failed, quarantined, replayed, got "isued"`,
		"--status done":            `--status: want one of pending, confirmed, failed, quarantined, got "done"`,
		"--action mint.aws_creds":  `--action: the log has mint.aws_credentials, and not "mint.aws_creds"`,
		"--grant ABCDEFGHIJKLMNOP": `--grant: want the id of a grant, grn-…, got "ABCDEFGHIJKLMNOP"`,
		"--wallet 0x12":            "--wallet: want the owner's wallet or omni account: ",
		"--since yesterday":        `--since: want a length of time such as 24h or 7d, or a time such as 2026-12-31T18:00:00Z, got "yesterday"`,
		"--since -1h":              `--since: want a length of time`,
		"--until 2030-01-02":       `--until: want a length of time`,
		"--since 1h --until 2h":    "--since and --until: want the first before the second",
		"--limit 0":                "--limit: want a number from 1, got 0",
		"--cursor 0":               "--cursor: want the place of a record, from 1, got 0",
		"--tenant=":                `--tenant: want a value, got ""`,
		"stray":                    `want flags alone, got "stray"`,
	} {
		l.audit(t, "query", strings.Fields(flags)...).refused(t, exitUsage, want)
	}
}

func TestParsePast(t *testing.T) {
	for text, want := range map[string]time.Time{
		"24h": testTime.Add(-24 * time.Hour), "7d": testTime.AddDate(0, 0, -7), "90m30s": testTime.Add(-90*time.Minute - 30*time.Second),
		"2026-12-31T18:00:00Z": time.Date(2026, 12, 31, 18, 0, 0, 0, time.UTC),
	} {
		if got, err := parsePast(text, testTime); err != nil || !got.Equal(want) {
			t.Errorf("parsePast(%q) = %v, %v; want %v", text, got, err, want)
		}
	}
}

// The record is shown with what belongs to it, from either end.
func TestShow(t *testing.T) {
	l := newTestLog(t)
	intent := testRecord(0)
	intent.Outcome, intent.CredentialID = audit.Pending, ""
	intent = l.append(t, intent)[0]
	outcome := testRecord(1)
	outcome.Outcome, outcome.Settles, outcome.Reason = audit.Quarantined, intent.ID, "mint_interrupted"
	outcome = l.append(t, testRecord(2), outcome)[1]
	for _, name := range []string{"1", intent.ID, strings.ToLower(intent.ID)} {
		r := l.audit(t, "show", name).must(t)
		for _, want := range []string{
			"id           " + intent.ID, "time         2030-01-02 12:00:00.000 UTC", "outcome      pending", "status       quarantined", "tree         not yet: no head was signed so far",
			"anchors      none but this database", "account      " + intent.OmniAccount, "What belongs together:\n PLACE", "\n     1  2030-01-02 12:00:00  mint.aws_credentials pending", "\n     3  2030-01-02 12:00:01  mint.aws_credentials quarantined",
		} {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%s: want %q in\n%s", name, want, r.stdout)
			}
		}
	}
	l.extend(t)
	if err := l.db.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("INSERT INTO audit_anchors (name, upto) VALUES ('file', 3), ('checkpoints', 2)")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	r := l.audit(t, "show", outcome.ID).must(t)
	for _, want := range []string{"settles      " + intent.ID, "reason       mint_interrupted", "anchors      file; not yet: checkpoints", "tree         yes, under the signed head of 3 records", "\n     1  2030"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("want %q in\n%s", want, r.stdout)
		}
	}
	if r := l.audit(t, "show", "2").must(t); strings.Contains(r.stdout, "belongs together") || !strings.Contains(r.stdout, "anchors      checkpoints, file") {
		t.Errorf("of a record alone:\n%s", r.stdout)
	}
	if r := l.audit(t, "show", "2", "--json").must(t); r.stdout != strings.SplitAfter(string(l.lines(t)), "\n")[1] {
		t.Errorf("--json prints\n%s", r.stdout)
	}
	l.audit(t, "show", "4").refused(t, exitBroken, "there is no record at place 4: the last one is at 3")
	l.audit(t, "show", "0").refused(t, exitBroken, "there is no record at place 0")
	l.audit(t, "show", "01ARZ3NDEKTSV4RRFFQ69G5FAV").refused(t, exitBroken, `no record has the id "01ARZ3NDEKTSV4RRFFQ69G5FAV"`)
	l.audit(t, "show").refused(t, exitUsage, "accepts 1 arg(s)")
}

// The lines for people fit a terminal, whatever a record holds, and are one line each.
func TestRecordLinesFitATerminal(t *testing.T) {
	long := audit.Record{
		Seq: 123456, Time: testTime, Action: "mint.aws_credentials", Outcome: audit.Quarantined, Reason: strings.Repeat("é", 128), IdentityValue: strings.Repeat("名", 100),
		GrantID: "grn-ABCDEFGHIJKLMNOP", Detail: strings.Repeat("d", 512), Agent: "\u202e",
	}
	refused := testRecord(3)
	refused.Reason = "scope_exceeds_grant"
	for _, r := range []audit.Record{long, refused, testRecord(1), {Time: testTime, Action: "broker.start", Outcome: audit.Confirmed}} {
		for _, then := range []string{"", audit.Quarantined} {
			var b bytes.Buffer
			if err := writeRecord(&b, &audit.Entry{Record: r}, then); err != nil {
				t.Fatal(err)
			}
			if text := strings.TrimSuffix(b.String(), "\n"); utf8.RuneCountInString(text) > terminalWidth || strings.ContainsAny(text, "\n\u202e") || strings.TrimRight(text, " ") != text {
				t.Errorf("%d columns: %q", utf8.RuneCountInString(text), text)
			}
		}
	}
}
