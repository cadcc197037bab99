package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	_ "modernc.org/sqlite"
)

// kinds are records as the broker writes them, by what they are of.
var kinds = []struct {
	name   string
	record func(n int) audit.Record
}{
	{"mint", record},
	{"refused", func(n int) audit.Record {
		r := record(n)
		r.Outcome, r.Reason, r.KeyID, r.TokenID = audit.Refused, "session_expired", "", ""
		return r
	}},
	{"intent", intent},
	{"confirmed", nil}, // of the intent before it
	{"sign-in", func(n int) audit.Record {
		return audit.Record{Time: at(n), Action: "auth.email.verify", Outcome: audit.SignedIn, IdentityType: "email", IdentityValue: "hmac-sha256:9f86d081",
			OmniAccount: "9b2c", Source: "192.0.2.7", RequestID: fmt.Sprint("req-", n)}
	}},
	{"grant", func(n int) audit.Record {
		return audit.Record{Time: at(n), Action: "grant.create", Outcome: audit.Confirmed, OmniAccount: "9b2c", Wallet: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f",
			GrantID: "grn-ABCDEFGHIJKLMNOP", Service: "s3", ScopePath: "reports", RequestID: fmt.Sprint("req-", n)}
	}},
	{"boot", func(n int) audit.Record {
		return audit.Record{Time: at(n), Action: "broker.boot", Outcome: audit.Confirmed, Detail: `version=devel "quoted"`, RequestID: fmt.Sprint("req-", n)}
	}},
}

func at(n int) time.Time { return noon.Add(time.Duration(n) * time.Second) }

// A ledger is a database with a log, and what was witnessed of it.
type ledger struct {
	path     string
	log      *audit.Log
	verifier note.Verifier
	now      time.Time
	heads    []byte // a file of heads
	anchor   []byte // a file of records
}

// The template: so many records, of which the last few are not in the tree yet.
const (
	placed   = 600
	unplaced = 5
)

// newLedger makes a log of every kind of record, several times over.
func newLedger(t testing.TB, placed, unplaced int) *ledger {
	t.Helper()
	l := &ledger{path: filepath.Join(t.TempDir(), "agentkeys.db")}
	if err := store.Create(t.Context(), l.path); err != nil {
		t.Fatal(err)
	}
	l.log, l.verifier = newLog(t)
	l.grow(t, 0, placed, true)
	l.grow(t, placed, unplaced, false)
	return l
}

// grow appends records and gives them their places, now and then a head.
func (l *ledger) grow(t testing.TB, from, n int, place bool) {
	t.Helper()
	l.with(t, func(s *store.Store) {
		var pending audit.Record
		for i := from; i < from+n; {
			step := min(100, from+n-i)
			err := s.Update(t.Context(), func(tx *sql.Tx) error {
				for range step {
					r, err := nextRecord(i, &pending)
					if err == nil {
						err = audit.Append(t.Context(), tx, &r)
					}
					if err != nil {
						return err
					}
					if r.Outcome == audit.Pending {
						pending = r
					}
					i++
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if place {
				head := extend(t, s, l.log)
				l.heads = append(l.heads, headLine(t, at(i), head)...)
			}
		}
		l.anchor = nil
		for _, e := range after(t, s, 0) {
			l.anchor = append(l.anchor, e.Line()...)
		}
	})
	l.now = at(from + n)
}

func nextRecord(i int, pending *audit.Record) (audit.Record, error) {
	kind := kinds[i%len(kinds)]
	if kind.record != nil {
		return kind.record(i), nil
	}
	if pending.ID == "" {
		return record(i), nil
	}
	r := outcome(*pending, audit.Confirmed)
	r.Time = at(i)
	return r, nil
}

// with opens the database for a while.
func (l *ledger) with(t testing.TB, f func(*store.Store)) {
	t.Helper()
	s, err := store.Open(t.Context(), l.path)
	if err != nil {
		t.Fatal(err)
	}
	f(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// headLine is a head as the broker's file of heads has it.
func headLine(t testing.TB, at time.Time, head audit.Checkpoint) []byte {
	return jsonLine(t, struct {
		Time       string `json:"time"`
		Size       int64  `json:"size"`
		Checkpoint string `json:"checkpoint"`
	}{at.Format("2006-01-02T15:04:05.000Z"), head.Size, head.Note})
}

// endLine is a head as the last line of an export has it.
func endLine(t testing.TB, head audit.Checkpoint) []byte {
	return jsonLine(t, struct {
		Checkpoint string `json:"checkpoint"`
	}{head.Note})
}

func jsonLine(t testing.TB, v any) []byte {
	t.Helper()
	line, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return append(line, '\n')
}

// copy is the same log in a file of its own.
func (l *ledger) copy(t testing.TB) *ledger {
	t.Helper()
	data, err := os.ReadFile(l.path)
	if err != nil {
		t.Fatal(err)
	}
	c := *l
	c.path = filepath.Join(t.TempDir(), "agentkeys.db")
	if err := os.WriteFile(c.path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return &c
}

// tamper changes the file behind the broker's back: without the triggers, and without
// the indexes that keep one outcome to an intent and one record to an ID.
func (l *ledger) tamper(t testing.TB, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, s := range append([]string{"DROP TRIGGER IF EXISTS audit_records_no_update", "DROP TRIGGER IF EXISTS audit_records_no_delete", "DROP INDEX IF EXISTS audit_records_settles"}, statements...) {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func (l *ledger) verification(witnesses ...string) *audit.Verification {
	v := &audit.Verification{Origin: origin, Verifiers: []note.Verifier{l.verifier}, Now: l.now}
	for i, text := range witnesses {
		v.Witnesses = append(v.Witnesses, audit.NewWitness(fmt.Sprintf("witness %d", i+1), strings.NewReader(text)))
	}
	return v
}

// verify reads the database without the store, which takes its time to look at a file:
// TestVerifyWhileTheLogGrows goes through it.
func (l *ledger) verify(t testing.TB, v *audit.Verification) *audit.Report {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+l.path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	report, err := v.Database(t.Context(), func(ctx context.Context, read func(*sql.Tx) error) error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		return read(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// query reads one value.
func (l *ledger) query(t testing.TB, query string, args ...any) (value string) {
	t.Helper()
	db, err := sql.Open("sqlite", l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&value); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return value
}

// export is the log in lines, with its head behind the last record in the tree.
func (l *ledger) export(t testing.TB) []byte {
	t.Helper()
	var text []byte
	l.with(t, func(s *store.Store) {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			head, err := l.log.Head(t.Context(), tx)
			if err != nil {
				return err
			}
			entries, err := audit.After(t.Context(), tx, 0, int(head.Size))
			for _, e := range entries {
				text = append(text, e.Line()...)
			}
			text = append(text, endLine(t, head)...)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	return text
}

func verifyExport(t testing.TB, v *audit.Verification, text []byte) *audit.Report {
	t.Helper()
	report, err := v.Export(t.Context(), bytes.NewReader(text), int64(len(text)), "")
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// codes are those of a report's findings, with the first place of each.
func codes(r *audit.Report) map[audit.Code]int64 {
	first := make(map[audit.Code]int64)
	for _, f := range r.Findings {
		if place, ok := first[f.Code]; !ok || f.Place < place {
			first[f.Code] = f.Place
		}
	}
	return first
}

func mustBeGood(t testing.TB, r *audit.Report) {
	t.Helper()
	if r.Integrity != audit.Intact || r.Completeness != audit.Complete || len(r.Findings) > 0 || len(r.Counts) > 0 {
		t.Fatalf("want INTACT and COMPLETE, got %+v", r)
	}
}

func TestVerifyAcceptsAnHonestLog(t *testing.T) {
	l := newLedger(t, placed, unplaced)
	r := l.verify(t, l.verification(string(l.heads), string(l.anchor)))
	mustBeGood(t, r)
	want := audit.Report{Origin: origin, Integrity: audit.Intact, Completeness: audit.Complete, Size: placed, Root: r.Root, Records: placed + unplaced,
		Unplaced: unplaced, Heads: placed / 100, Anchored: placed + unplaced, Counts: map[audit.Code]int64{}}
	if diff := cmp.Diff(&want, r); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
	r = verifyExport(t, l.verification(string(l.heads), string(l.anchor[:bytes.LastIndexByte(l.anchor[:len(l.anchor)-1], '\n')/2])), l.export(t))
	mustBeGood(t, r)
	if r.Records != placed || r.Heads != placed/100 || r.Anchored == 0 {
		t.Errorf("of the export: %+v", r)
	}
}

// What somebody does to each column of each kind of record is found, in its place.
func TestVerifyFindsEveryChangedColumn(t *testing.T) {
	template := newLedger(t, placed, unplaced)
	columns := tableColumns(t, template)
	if len(columns) < 25 {
		t.Fatalf("the table has %d columns: %v", len(columns), columns)
	}
	type target struct {
		name  string
		place int
	}
	var targets []target
	for i, kind := range kinds {
		targets = append(targets, target{kind.name, 280 + i + 1})
	}
	targets = append(targets, target{"last in the tree", placed}, target{"not in the tree", placed + 2})
	for _, at := range targets {
		for column, kind := range columns {
			t.Run(at.name+"/"+column, func(t *testing.T) {
				t.Parallel()
				l := template.copy(t)
				l.tamper(t, fmt.Sprintf("UPDATE audit_records SET %s = %s WHERE seq = %d", column, otherValue(t, l, column, kind, at.place), at.place))
				got := codes(l.verify(t, l.verification()))
				want := audit.RecordChanged
				switch {
				case column == "seq":
					want = audit.RecordMissing
				case column == "hash" || at.place > placed && column != "person":
					want = audit.HashChanged
				}
				if got[want] != int64(at.place) {
					t.Errorf("want %s at %d, got %v", want, at.place, got)
				}
			})
		}
	}
}

// tableColumns are the columns of audit_records with their types.
func tableColumns(t testing.TB, l *ledger) map[string]string {
	t.Helper()
	db, err := sql.Open("sqlite", l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT name, type FROM pragma_table_info('audit_records')")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns := make(map[string]string)
	for rows.Next() {
		var name, kind string
		if err := rows.Scan(&name, &kind); err != nil {
			t.Fatal(err)
		}
		columns[name] = kind
	}
	return columns
}

// otherValue is SQL for a value that the column does not have at the place.
func otherValue(t testing.TB, l *ledger, column, kind string, place int) string {
	t.Helper()
	switch {
	case column == "seq":
		return "99999"
	case kind == "INTEGER":
		return column + " + 1"
	case kind == "TEXT":
		return column + " || 'x'"
	case column == "person":
		return "randomblob(32)"
	case kind == "BLOB":
		return fmt.Sprintf("CAST(substr(%[1]s, 1, length(%[1]s) - 1) || CASE substr(%[1]s, -1) WHEN x'00' THEN x'01' ELSE x'00' END AS BLOB)", column)
	}
	t.Fatalf("no value for the column %s of type %s", column, kind)
	return ""
}

// Each attack on rows, tiles and heads is named with the verdict that it spoils.
func TestVerifyNamesTheAttack(t *testing.T) {
	template := newLedger(t, placed, unplaced)
	other, _ := newLog(t)
	for name, tt := range map[string]struct {
		tamper []string
		code   audit.Code
		place  int64
	}{
		"a record deleted":                {[]string{"DELETE FROM audit_records WHERE seq = 300"}, audit.RecordMissing, 300},
		"the first record deleted":        {[]string{"DELETE FROM audit_records WHERE seq = 1"}, audit.RecordMissing, 1},
		"a tile of records deleted":       {[]string{"DELETE FROM audit_records WHERE seq BETWEEN 257 AND 512"}, audit.RecordMissing, 257},
		"cut before the head":             {[]string{"DELETE FROM audit_records WHERE seq > 550"}, audit.RecordMissing, 551},
		"cut behind the head":             {[]string{"DELETE FROM audit_records WHERE seq > 603"}, audit.RecordsCut, 604},
		"a hole behind the head":          {[]string{"DELETE FROM audit_records WHERE seq = 603"}, audit.RecordMissing, 603},
		"all deleted":                     {[]string{"DELETE FROM audit_records"}, audit.RecordMissing, 1},
		"two swapped":                     {[]string{"UPDATE audit_records SET seq = -1 WHERE seq = 10", "UPDATE audit_records SET seq = 10 WHERE seq = 500", "UPDATE audit_records SET seq = 500 WHERE seq = -1"}, audit.RecordMoved, 10},
		"one inserted, the rest moved on": {[]string{"UPDATE audit_records SET seq = -seq - 1 WHERE seq >= 100", "UPDATE audit_records SET seq = -seq WHERE seq < 0", insertSQL(100)}, audit.RecordChanged, 100},
		"one taken out, the rest moved up": {[]string{"DELETE FROM audit_records WHERE seq = 100", "UPDATE audit_records SET seq = -seq + 1 WHERE seq >= 100",
			"UPDATE audit_records SET seq = -seq WHERE seq < 0", "UPDATE sqlite_sequence SET seq = 604 WHERE name = 'audit_records'"}, audit.RecordMoved, 100},
		"one put before the first": {[]string{insertSQL(0)}, audit.RecordOutside, 0},
		"one put behind, long ago": {[]string{insertSQL(606)}, audit.RecordUnplaced, 606},
		"a record with another one's place": {[]string{"UPDATE audit_records SET (id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id, tenant, agent, service, scope_path, grant_id, credential_id, settles, detail, salt, hash) = (SELECT 'x' || id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id, tenant, agent, service, scope_path, grant_id, credential_id, settles, detail, salt, hash FROM audit_records WHERE seq = 15) WHERE seq = 16"},
			audit.RecordChanged, 16},
		"texts of two columns run together": {[]string{"UPDATE audit_records SET action = action || char(31) || outcome, outcome = '' WHERE seq = 20"}, audit.RecordChanged, 20},
		"a text behind the last column":     {[]string{"UPDATE audit_records SET detail = detail || char(31) || 'x' WHERE seq = 21"}, audit.RecordChanged, 21},
		"a time in another era":             {[]string{"UPDATE audit_records SET time = time + 315569520000000 WHERE seq = 20"}, audit.RecordChanged, 20},
		"erased in words only": {[]string{"UPDATE audit_records SET person = (SELECT unhex(substr(text, 1, 64)) FROM (SELECT '" + strings.Repeat("00", 32) + "' AS text)) WHERE seq = 20"},
			audit.RecordChanged, 20},
		"a tile of the first level":   {[]string{flipTile(0, 1, 40)}, audit.TileChanged, 256 + 40 + 1},
		"a tile of the second level":  {[]string{flipTile(1, 0, 1)}, audit.TileChanged, 257},
		"the last tile":               {[]string{flipTile(0, 2, 87)}, audit.TileChanged, 600},
		"a tile gone":                 {[]string{"DELETE FROM audit_tiles WHERE level = 0 AND n = 1"}, audit.TileChanged, 257},
		"the upper tile gone":         {[]string{"DELETE FROM audit_tiles WHERE level = 1"}, audit.TileChanged, 1},
		"a tile cut":                  {[]string{"UPDATE audit_tiles SET hashes = substr(hashes, 1, 320) WHERE level = 0 AND n = 1"}, audit.TileChanged, 257},
		"a tile longer than the tree": {[]string{"UPDATE audit_tiles SET hashes = CAST(hashes || randomblob(32) AS BLOB) WHERE level = 0 AND n = 2"}, audit.TileChanged, 513},
		"an upper tile longer":        {[]string{"UPDATE audit_tiles SET hashes = CAST(hashes || randomblob(32) AS BLOB) WHERE level = 1"}, audit.TileChanged, 1},
		"a tile too many":             {[]string{"INSERT INTO audit_tiles SELECT 0, 3, hashes FROM audit_tiles WHERE level = 0 AND n = 2"}, audit.TileExtra, 601},
		"a level too many":            {[]string{"INSERT INTO audit_tiles SELECT 2, 0, hashes FROM audit_tiles WHERE level = 1"}, audit.TileExtra, 601},
		"a tile out of bounds":        {[]string{"INSERT INTO audit_tiles VALUES (0, 9223372036854775807, x'')"}, audit.TileExtra, 601},
		"record, hash and tile": {[]string{"UPDATE audit_records SET reason = 'x' WHERE seq = 300", "UPDATE audit_records SET hash = x'" + strings.Repeat("ab", 32) + "' WHERE seq = 300",
			"UPDATE audit_tiles SET hashes = " + replacedHash(43) + " WHERE level = 0 AND n = 1"}, audit.RecordChanged, 300},
		"the head says more":     {[]string{"UPDATE audit_head SET size = 601"}, audit.HeadSize, 601},
		"the head says less":     {[]string{"UPDATE audit_head SET size = 300"}, audit.HeadSize, 301},
		"the head's root":        {[]string{"UPDATE audit_head SET note = replace(note, substr(note, 30, 3), 'AAA')"}, audit.HeadUnsigned, 0},
		"the head's signature":   {[]string{"UPDATE audit_head SET note = substr(note, 1, length(note) - 6) || 'AAAA=' || char(10)"}, audit.HeadUnsigned, 0},
		"a head by another key":  {[]string{"UPDATE audit_head SET note = '" + strings.ReplaceAll(headBy(t, other), "'", "''") + "', size = 1"}, audit.HeadUnsigned, 0},
		"a head of any size":     {[]string{"UPDATE audit_head SET note = replace(note, char(10) || '600' || char(10), char(10) || '9000000000000000000' || char(10))"}, audit.HeadUnsigned, 0},
		"the head taken away":    {[]string{"DELETE FROM audit_head"}, audit.HeadUnsigned, 0},
		"the head made new":      {[]string{"UPDATE audit_head SET size = 0, note = ''", "DELETE FROM audit_tiles", "UPDATE audit_records SET time = time - 60000"}, audit.RecordUnplaced, 1},
		"pruned without a word":  {[]string{"UPDATE audit_head SET pruned = 100", "DELETE FROM audit_records WHERE seq <= 100"}, audit.PruneUnrecorded, 1},
		"erased without a word":  {[]string{eraseSQL(t, template, 20)}, audit.EraseUnrecorded, 20},
		"an outcome taken away":  {[]string{"UPDATE audit_records SET settles = '' WHERE seq = 11"}, audit.RecordChanged, 11},
		"an intent without one":  {[]string{"DELETE FROM audit_records WHERE seq = 11"}, audit.IntentOpen, 10},
		"an outcome of no other": {[]string{"DELETE FROM audit_records WHERE seq = 10"}, audit.SettlesNothing, 11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := template.copy(t)
			l.tamper(t, tt.tamper...)
			r := l.verify(t, l.verification())
			got := codes(r)
			if place, ok := got[tt.code]; !ok || place != tt.place {
				t.Errorf("want %s at %d, got %+v", tt.code, tt.place, r.Findings)
			}
			mustSpoil(t, r, tt.code)
		})
	}
}

// mustSpoil wants the verdict to be spoilt that the code is about.
func mustSpoil(t testing.TB, r *audit.Report, code audit.Code) {
	t.Helper()
	integrity := slices.Contains([]audit.Code{audit.RecordChanged, audit.RecordMoved, audit.HashChanged, audit.LineUnreadable, audit.TileChanged,
		audit.TileExtra, audit.HeadUnsigned, audit.HeadSize, audit.RootChanged}, code)
	if integrity && r.Integrity != audit.Broken || (!integrity || code == audit.RecordMoved) && r.Completeness != audit.Incomplete {
		t.Errorf("%s: integrity %s, completeness %s", code, r.Integrity, r.Completeness)
	}
}

func insertSQL(place int) string {
	return fmt.Sprintf(`INSERT INTO audit_records (seq, id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id)
		VALUES (%d, '01ARZ3NDEKTSV4RRFFQ69G5FAV', 0, 'mint.aws_creds', 'issued', '', '', '', '', '', '', '', '', 'r')`, place)
}

func flipTile(level, n, i int) string {
	return fmt.Sprintf("UPDATE audit_tiles SET hashes = %s WHERE level = %d AND n = %d", replacedHash(i), level, n)
}

// replacedHash is a tile in which the i-th hash is another.
func replacedHash(i int) string {
	return fmt.Sprintf("CAST(substr(hashes, 1, %d) || x'%s' || substr(hashes, %d) AS BLOB)", 32*i, strings.Repeat("ab", 32), 32*(i+1)+1)
}

// eraseSQL erases a record as the broker does.
func eraseSQL(t testing.TB, l *ledger, place int) string {
	t.Helper()
	var statement string
	l.with(t, func(s *store.Store) { statement = erasing(after(t, s, int64(place)-1)[0]) })
	return statement
}

func erasing(e audit.Entry) string {
	return fmt.Sprintf(`UPDATE audit_records SET person = x'%s', salt = x'', identity_type = '', identity_value = '', omni_account = '', wallet = '',
		source = '', tenant = '', agent = '', scope_path = '' WHERE seq = %d`, e.Digest(), e.Seq)
}

// headBy is a head that another key signed.
func headBy(t testing.TB, other *audit.Log) string {
	t.Helper()
	s := newStore(t)
	mustAppend(t, s, record(1))
	return extend(t, s, other).Note
}
