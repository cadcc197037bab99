package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"

	"golang.org/x/mod/sumdb/note"
)

// hourly makes a log of n records, an hour apart, all under its head.
func hourly(t *testing.T, n int) (*store.Store, *audit.Log, note.Verifier) {
	t.Helper()
	s := newStore(t)
	l, verifier := newLog(t)
	appendHourly(t, s, 0, n)
	extend(t, s, l)
	return s, l, verifier
}

func appendHourly(t *testing.T, s *store.Store, from, to int) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		for i := from; i < to; i++ {
			r := record(i)
			r.Time = noon.Add(time.Duration(i) * time.Hour)
			if err := audit.Append(t.Context(), tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func prunable(t *testing.T, s *store.Store, before time.Time) (p audit.Prunable) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		p, err = audit.FindPrunable(t.Context(), tx, before)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func execute(t *testing.T, s *store.Store, query string, args ...any) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec(query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFindPrunable(t *testing.T) {
	s, l, _ := hourly(t, 20)
	at := func(i int) time.Time { return noon.Add(time.Duration(i) * time.Hour) }
	want := func(what string, before time.Time, after, through int64, kept string) {
		t.Helper()
		if p := prunable(t, s, before); p.After != after || p.Through != through || !strings.Contains(p.Kept, kept) || p.Any() != (through > after) {
			t.Errorf("%s: %+v, want %d to %d and %q", what, p, after, through, kept)
		}
	}
	want("older than the first", at(0), 0, 0, "not old enough")
	want("the first four", at(4), 0, 4, "not old enough")
	want("to the millisecond", at(4).Add(-time.Millisecond), 0, 4, "not old enough")
	want("and one more", at(4).Add(time.Millisecond), 0, 5, "not old enough")
	want("all", at(100), 0, 20, "head")

	old := record(0)
	old.Time = at(-50) // the clock was set back: the order of the log is what counts
	mustAppend(t, s, old)
	want("not under the head", at(100), 0, 20, "head")
	extend(t, s, l)
	want("under the head", at(100), 0, 21, "head")
	want("behind one that is too young", at(4), 0, 4, "not old enough")

	intent, settled := record(1), record(1)
	intent.Outcome, intent.Time, settled.Outcome, settled.Time = audit.Pending, at(30), audit.Pending, at(30)
	settled = mustAppend(t, s, settled)
	intent = mustAppend(t, s, intent)
	outcome := record(1)
	outcome.Outcome, outcome.Settles, outcome.Time = audit.Confirmed, settled.ID, at(30)
	mustAppend(t, s, outcome)
	extend(t, s, l)
	want("the last under the head is too young", at(30), 0, 21, "not old enough")
	want("an intent", at(100), 0, 22, "intent without an outcome")
	outcome.ID, outcome.Settles = "", intent.ID
	mustAppend(t, s, outcome)
	want("an intent that is settled behind the head", at(100), 0, 24, "head")

	execute(t, s, "INSERT INTO audit_anchors (name, upto) VALUES ('west', 9), ('east', 14), ('far', 900)")
	want("the anchors", at(100), 0, 8, "an anchor has records up to there: west")
	execute(t, s, "UPDATE audit_anchors SET upto = 14 WHERE name = 'west'")
	want("the newest that one has", at(100), 0, 13, "an anchor")
	execute(t, s, "UPDATE audit_anchors SET upto = 0 WHERE name = 'far'")
	if p := prunable(t, s, at(100)); p.Any() {
		t.Errorf("with an anchor that has nothing: %+v", p)
	}
	execute(t, s, "DELETE FROM audit_anchors")
	execute(t, s, "INSERT INTO audit_anchors (name, upto) VALUES ('west', 24)")
	want("an anchor that has all", at(100), 0, 23, "an anchor")
	execute(t, s, "DELETE FROM audit_anchors")
	last := record(1)
	last.Outcome, last.Time = audit.Pending, at(30)
	mustAppend(t, s, last)
	extend(t, s, l)
	want("an intent at the end", at(100), 0, 25, "intent")
	prune(t, s, 6)
	want("some are gone", at(100), 6, 25, "intent")
	want("some are gone and nothing is left of that age", at(6), 6, 6, "not old enough")
}

func checkExport(t *testing.T, s *store.Store, p audit.Prunable, verifier note.Verifier, export []byte) (audit.Digest, error) {
	t.Helper()
	open := func(text string) (audit.Checkpoint, error) { return audit.OpenCheckpoint(text, origin, verifier) }
	return audit.CheckExport(t.Context(), s.View, p, open, bytes.NewReader(export))
}

// What is not in the export as it is in the log, under a head of the log's key, does not
// go.
func TestCheckExport(t *testing.T) {
	const size, through = 1250, 1150
	s, l, verifier := hourly(t, through-1)
	small := headIn(t, s, l)
	appendHourly(t, s, through-1, size)
	extend(t, s, l)
	elsewhere := newStore(t)
	appendHourly(t, elsewhere, 0, size)
	forked := extend(t, elsewhere, l)
	other, _ := newLog(t)
	stranger := newStore(t)
	appendHourly(t, stranger, 0, size)
	strange := extend(t, stranger, other)
	execute(t, s, "UPDATE audit_records SET person = $1, salt = x'', identity_type = '', identity_value = '', omni_account = '', wallet = '', source = '', tenant = '', agent = '', scope_path = '' WHERE seq = 5",
		digestAt(t, s, 5))
	p := audit.Prunable{Through: through}
	good := mustExport(t, s, 0, "")
	got, err := checkExport(t, s, p, verifier, good)
	if want := audit.Digest(sha256.Sum256(good)); err != nil || got != want {
		t.Fatalf("the export: %s, %v; want %s", got, err, want)
	}
	if _, err := checkExport(t, s, p, verifier, bytes.TrimSuffix(good, []byte("\n"))); err != nil {
		t.Errorf("without the last line break: %v", err)
	}
	first, second := mustExport(t, s, 0, ""), mustExport(t, s, 1000, "")
	lines := bytes.SplitAfter(good, []byte("\n"))
	lines = lines[:len(lines)-1]
	checkpoint := lines[size]
	if _, err := checkExport(t, s, p, verifier, slices.Concat(bytes.Join(lines[:1000], nil), checkpoint, second)); err != nil {
		t.Errorf("two exports, one behind the other: %v", err)
	}
	if _, err := checkExport(t, s, audit.Prunable{After: 1100, Through: through}, verifier, second); err != nil {
		t.Errorf("one that begins before what is to go: %v", err)
	}

	edit := func(change func(lines [][]byte) [][]byte) []byte { return bytes.Join(change(slices.Clone(lines)), nil) }
	for name, tt := range map[string]struct {
		export []byte
		want   string
	}{
		"nothing":                   {nil, "it lacks the record at place 1"},
		"a line is missing":         {edit(func(l [][]byte) [][]byte { return slices.Delete(l, 1049, 1050) }), "line 1050: it is of place 1051, and the record at place 1050 is to go"},
		"the last line is missing":  {edit(func(l [][]byte) [][]byte { return slices.Delete(l, through-1, size) }), fmt.Sprintf("it lacks the record at place %d", through)},
		"the first line is missing": {second, "it is of place 1001, and the record at place 1 is to go"},
		"two lines are swapped":     {edit(func(l [][]byte) [][]byte { l[7], l[8] = l[8], l[7]; return l }), "line 8: it is of place 9"},
		"a byte is changed":         {edit(func(l [][]byte) [][]byte { l[9] = bytes.Replace(l[9], []byte("issued"), []byte("issueD"), 1); return l }), "line 10: it is not the record that the log has at place 10 now"},
		"a hash alone":              {edit(func(l [][]byte) [][]byte { l[9] = bare(t, l[9]); return l }), "line 10: it has the hash of the record at place 10 alone"},
		"of one tenant":             {mustExport(t, s, 0, "0xno"), "line 1: it has the hash of the record at place 1 alone"},
		"personal members are cut":  {edit(func(l [][]byte) [][]byte { l[9] = withoutPerson(t, l[9]); return l }), "line 10: it is not the record"},
		"a line that is none":       {edit(func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte("\n")) }), "line 4:"},
		"no checkpoint":             {edit(func(l [][]byte) [][]byte { return l[:size] }), "want a checkpoint of 1150 records or more, got one of 0"},
		"a checkpoint of too few":   {edit(func(l [][]byte) [][]byte { l[size] = small.Line(); return l }), "got one of 1149"},
		"another's checkpoint":      {edit(func(l [][]byte) [][]byte { l[size] = strange.Line(); return l }), "want a signature by"},
		"a checkpoint of a fork":    {edit(func(l [][]byte) [][]byte { l[size] = forked.Line(); return l }), "it was forked"},
		"bytes behind the end":      {edit(func(l [][]byte) [][]byte { return append(l, []byte("{}")) }), "line 1252:"},
		"a later line is broken": {edit(func(l [][]byte) [][]byte {
			l[1200] = bytes.Replace(l[1200], []byte("issued"), []byte("issueD"), 1)
			return l
		}), "line 1201: want the hash"},
	} {
		if d, err := checkExport(t, s, p, verifier, tt.export); err == nil || !strings.Contains(err.Error(), tt.want) || d != (audit.Digest{}) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if !bytes.Equal(first, good) {
		t.Error("an export differs from itself")
	}

	erasePerson(t, s, audit.Person{OmniAccount: "9b2c"})
	if _, err := checkExport(t, s, p, verifier, good); err == nil || !strings.Contains(err.Error(), "place 1 now: export it again") {
		t.Errorf("an export from before somebody was erased: %v", err)
	}
	if _, err := checkExport(t, s, p, verifier, mustExport(t, s, 0, "")); err != nil {
		t.Errorf("exported again: %v", err)
	}
}

// headIn is the head of a log.
func headIn(t *testing.T, s *store.Store, l *audit.Log) (head audit.Checkpoint) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		head, err = l.Head(t.Context(), tx)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// bare is a line of a record that was pruned.
func bare(t *testing.T, line []byte) []byte {
	t.Helper()
	l, err := audit.ParseLine(line)
	if err != nil {
		t.Fatal(err)
	}
	return (&audit.RawLine{Place: l.Place, Hash: l.Hash}).Append(nil)
}

// withoutPerson is a line of a record that was erased.
func withoutPerson(t *testing.T, line []byte) []byte {
	t.Helper()
	l, err := audit.ParseLine(line)
	if err != nil {
		t.Fatal(err)
	}
	return (&audit.RawLine{Place: l.Place, Leaf: l.Leaf, Hash: l.Hash}).Append(nil)
}

func digestAt(t *testing.T, s *store.Store, place int64) []byte {
	t.Helper()
	e := after(t, s, place-1)[0]
	d := e.Digest()
	return d[:]
}

// Where the database was changed, an export of it does not let the evidence go, although
// the two agree.
func TestCheckExportHoldsTheLogAgainstItsTree(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l, verifier := newLog(t)
	appendHourly(t, s, 0, 300)
	head := extend(t, s, l)
	direct := func(statement string) {
		t.Helper()
		db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.Exec(statement)
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	direct("DROP TRIGGER audit_records_no_update; DROP TRIGGER audit_records_no_delete")
	export := func() (text []byte) {
		for _, e := range after(t, s, 0) {
			text = append(text, e.Line()...)
		}
		return append(text, head.Line()...)
	}
	p := audit.Prunable{Through: 290}
	if _, err := checkExport(t, s, p, verifier, export()); err != nil {
		t.Fatalf("before anything was changed: %v", err)
	}
	direct("UPDATE audit_records SET outcome = 'refused' WHERE seq = 280")
	if _, err := checkExport(t, s, p, verifier, export()); err == nil || !strings.Contains(err.Error(), "the record at place 280 is not the one in the tree") {
		t.Errorf("a record that was changed: %v", err)
	}
	direct("UPDATE audit_records SET outcome = 'issued' WHERE seq = 280; DELETE FROM audit_records WHERE seq = 279")
	if _, err := checkExport(t, s, p, verifier, export()); err == nil || !strings.Contains(err.Error(), "the log lacks the record at place 279") {
		t.Errorf("a record that was deleted: %v", err)
	}
	if _, err := checkExport(t, s, audit.Prunable{Through: 278}, verifier, export()); err != nil {
		t.Errorf("up to there: %v", err)
	}
	direct("UPDATE audit_head SET note = replace(note, '300', '301'), size = 301")
	if _, err := checkExport(t, s, audit.Prunable{Through: 278}, verifier, export()); err == nil {
		t.Error("a head that was changed is believed")
	}
}

// Pruning takes a batch at a time; wherever it is cut off, what is gone is marked and
// recorded, the log holds together, and it can be gone on with.
func TestPrune(t *testing.T) {
	const size, through, batch = 700, 600, 250
	s, l, _ := hourly(t, size)
	seen := headIn(t, s, l)
	before := after(t, s, 0)
	exported := audit.Digest(sha256.Sum256([]byte("export")))
	errFault := errors.New("fault")
	step := func(fault error) (upto int64) {
		err := s.Update(context.Background(), func(tx *sql.Tx) (err error) {
			upto, err = audit.Prune(t.Context(), tx, through, batch, exported, audit.Record{Time: noon, RequestID: "prune"})
			return errors.Join(err, fault)
		})
		if !errors.Is(err, fault) || err != nil && fault == nil {
			t.Fatal(err)
		}
		return upto
	}
	whole := func(gone int64, records int) {
		t.Helper()
		extend(t, s, l)
		kept := after(t, s, 0)
		if len(kept) != size-int(gone)+records || kept[0].Seq != gone+1 {
			t.Errorf("%d records are left, from place %d on; want %d from %d on", len(kept), kept[0].Seq, size-int(gone)+records, gone+1)
		}
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			head, err := l.Check(t.Context(), tx)
			if err == nil {
				err = l.Extends(t.Context(), tx, head, seen)
			}
			for _, e := range []audit.Entry{before[0], before[size-1]} {
				leaf, leafErr := audit.LeafAt(t.Context(), tx, head, e.Seq)
				if err = errors.Join(err, leafErr); leaf != e.LeafHash(e.Digest()) {
					t.Errorf("place %d: the tree has %s", e.Seq, leaf)
				}
			}
			if _, err := audit.ByID(t.Context(), tx, before[0].ID); gone > 0 && !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("a record that is gone: %v", err)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
		for i, e := range kept[len(kept)-records:] {
			want := fmt.Sprintf("through=%d exported=%s", min(through, (i+1)*batch), exported)
			if e.Action != audit.ActionPruned || e.Outcome != audit.Confirmed || e.Detail != want {
				t.Errorf("recorded %s %s %q, want %q", e.Action, e.Outcome, e.Detail, want)
			}
		}
	}
	step(errFault)
	whole(0, 0)
	for i, want := range []int64{250, 500, 600} {
		if upto := step(nil); upto != want {
			t.Errorf("pruned up to %d, want %d", upto, want)
		}
		step(errFault)
		whole(want, i+1)
	}
	if upto := step(nil); upto != through {
		t.Errorf("with nothing left: %d", upto)
	}
	whole(600, 3)

	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := audit.Prune(t.Context(), tx, 10_000, 20_000, exported, audit.Record{Time: noon, RequestID: "prune"})
		return err
	})
	if err == nil {
		t.Error("records that the head does not count were pruned")
	}
	whole(600, 3)
}
