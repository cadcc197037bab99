package audit_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	mathrand "math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
)

// export gives the whole text of an export, in pages, and calls between before each.
func export(s *store.Store, after audit.Cursor, tenant string, page int, between func(place int64)) ([]byte, error) {
	ctx := context.Background()
	var x *audit.Export
	err := s.View(ctx, func(tx *sql.Tx) (err error) {
		x, err = audit.NewExport(ctx, tx, after, tenant)
		return err
	})
	if err != nil {
		return nil, err
	}
	var text []byte
	for {
		between(x.Place())
		var lines []audit.RawLine
		err := s.View(ctx, func(tx *sql.Tx) (err error) {
			lines, err = x.Next(ctx, tx, page)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(lines) == 0 {
			return append(text, x.Head().Line()...), nil
		}
		for _, l := range lines {
			text = l.Append(text)
		}
	}
}

func mustExport(t testing.TB, s *store.Store, after int64, tenant string) []byte {
	t.Helper()
	text, err := export(s, audit.Cursor{Place: after}, tenant, 100, func(int64) {})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// restore puts the lines of exports into a store. The checkpoints are those among the
// lines and the further ones.
func restore(s *store.Store, l *audit.Log, text []byte, further ...audit.Checkpoint) (done audit.Restored, err error) {
	ctx := context.Background()
	var lines [][]byte
	for line := range bytes.Lines(text) {
		if !audit.IsCheckpointLine(line) {
			lines = append(lines, line)
			continue
		}
		c, err := audit.ParseCheckpointLine(line)
		if err != nil {
			return done, err
		}
		if c, err = l.Open(c.Note); err != nil {
			return done, err
		}
		further = append(further, c)
	}
	err = s.Update(ctx, func(tx *sql.Tx) error {
		r, err := audit.NewRestore(ctx, tx, further)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := r.Add(line); err != nil {
				return err
			}
		}
		done, err = r.Finish()
		return err
	})
	return done, err
}

// erase takes the personal members of a record away.
func erase(t testing.TB, s *store.Store, place int64) {
	t.Helper()
	err := s.Update(context.Background(), func(tx *sql.Tx) error {
		e, err := audit.AtPlace(context.Background(), tx, place)
		if err != nil {
			return err
		}
		digest := e.Digest()
		_, err = tx.Exec(`UPDATE audit_records SET person = $1, salt = x'', identity_type = '', identity_value = '', omni_account = '',
			wallet = '', source = '', tenant = '', agent = '', scope_path = '' WHERE seq = $2 AND person = x''`, digest[:], place)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// prune deletes the first records.
func prune(t testing.TB, s *store.Store, upto int64) {
	t.Helper()
	err := s.Update(context.Background(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE audit_head SET pruned = $1", upto)
		if err == nil {
			_, err = tx.Exec("DELETE FROM audit_records WHERE seq <= $1", upto)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill appends records, some of them with few members, and every fourth of tenant a.
func fill(t testing.TB, s *store.Store, from, to int) {
	t.Helper()
	err := s.Update(context.Background(), func(tx *sql.Tx) error {
		for n := from; n < to; n++ {
			r := record(n)
			switch n % 4 {
			case 0:
				r.Tenant = "a"
			case 1:
				r = audit.Record{Time: r.Time, Action: "broker.start", Outcome: audit.Confirmed, RequestID: "x", Detail: `"<&>` + "\u00e9"}
			}
			if err := audit.Append(context.Background(), tx, &r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func placeOf(t testing.TB, text []byte) (places []int64) {
	t.Helper()
	for line := range bytes.Lines(text) {
		if audit.IsCheckpointLine(line) {
			continue
		}
		l, err := audit.ParseLine(line)
		if err == nil {
			err = l.Check()
		}
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, l.Place)
	}
	return places
}

// Whatever was erased and pruned of a log, a new database gets all that is left: the
// export of it is the same bytes, its tree has the same head, and it goes on from there.
func TestExportAndRestore(t *testing.T) {
	l, _ := newLog(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	for _, n := range []int{1, 2, 17, 255, 256, 257, 520} {
		s, fresh := newStore(t), newStore(t)
		fill(t, s, 0, n)
		extend(t, s, l)
		for range random.IntN(4) {
			erase(t, s, int64(1+random.IntN(n)))
		}
		if upto := max(random.IntN(n+1), n*random.IntN(2)*random.IntN(2)); upto > 0 {
			prune(t, s, int64(upto))
		}
		text := mustExport(t, s, 0, "")
		done, err := restore(fresh, l, text)
		if err != nil {
			t.Fatal(err)
		}
		if done.Records != int64(n) || done.Holes != 0 {
			t.Fatalf("restored %+v, want %d records without holes", done, n)
		}
		if again := mustExport(t, fresh, 0, ""); !bytes.Equal(again, text) {
			t.Fatalf("exported\n%s\nand again\n%s", text, again)
		}
		for _, s := range []*store.Store{s, fresh} {
			if r := mustAppend(t, s, record(5000)); r.Seq != int64(n)+1 {
				t.Fatalf("the next record has the place %d, want %d", r.Seq, n+1)
			}
			head := extend(t, s, l)
			if err := s.View(t.Context(), func(tx *sql.Tx) error {
				_, err := l.Check(t.Context(), tx)
				return errors.Join(err, l.Extends(t.Context(), tx, head, done.Head))
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A row of each column comes back as it was.
func TestRestoredRowsAreTheSame(t *testing.T) {
	s, fresh := newStore(t), newStore(t)
	l, _ := newLog(t)
	pending := mustAppend(t, s, intent(1))
	mustAppend(t, s, outcome(pending, audit.Confirmed))
	fill(t, s, 0, 8)
	extend(t, s, l)
	erase(t, s, 2)
	if _, err := restore(fresh, l, mustExport(t, s, 0, "")); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"audit_records ORDER BY seq", "audit_tiles ORDER BY level, n", "audit_head"} {
		want, got := rowsOf(t, s, table), rowsOf(t, fresh, table)
		if diff := cmp.Diff(want, got); len(want) == 0 || diff != "" {
			t.Errorf("%s (-want +restored):\n%s", table, diff)
		}
	}
}

// rowsOf are those of a table, with all their columns.
func rowsOf(t *testing.T, s *store.Store, table string) (all [][]any) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) error {
		rows, err := tx.QueryContext(t.Context(), "SELECT * FROM "+table)
		if err != nil {
			return err
		}
		defer rows.Close()
		columns, err := rows.Columns()
		for err == nil && rows.Next() {
			row := make([]any, len(columns))
			into := make([]any, len(columns))
			for i := range row {
				into[i] = &row[i]
			}
			err = rows.Scan(into...)
			all = append(all, row)
		}
		return errors.Join(err, rows.Err())
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// While others write, exports that begin where the one before ended have every record
// once and in order, each up to its own checkpoint.
func TestExportsNeitherSkipNorRepeat(t *testing.T) {
	s, fresh := newStore(t), newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 3)
	extend(t, s, l)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r := record(n)
				err := appendTo(context.Background(), s, &r)
				if err == nil && n%5 == 0 {
					err = s.Update(context.Background(), func(tx *sql.Tx) error {
						_, _, err := l.Extend(context.Background(), tx, 1000)
						return err
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var all []byte
	var cursor audit.Cursor
	for range 30 {
		text, err := export(s, cursor, "", 7, func(int64) {})
		if err != nil {
			t.Error(err)
			break
		}
		lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		head, err := audit.ParseCheckpointLine(lines[len(lines)-1])
		if err != nil {
			t.Error(err)
			break
		}
		if head.Size != cursor.Place+int64(len(lines)-1) {
			t.Errorf("behind place %d: %d lines, and a checkpoint of %d", cursor.Place, len(lines)-1, head.Size)
		}
		cursor, all = audit.Cursor{Place: head.Size, Root: &head.Root}, append(all, text...)
	}
	close(stop)
	wg.Wait()
	for i, place := range placeOf(t, all) {
		if place != int64(i)+1 {
			t.Fatalf("line %d is of place %d", i+1, place)
		}
	}
	if done, err := restore(fresh, l, all); err != nil || done.Records != cursor.Place {
		t.Errorf("restored %d records of %d: %v", done.Records, cursor.Place, err)
	}
}

// An export that ended in the middle goes on behind the last whole line that it left.
func TestExportGoesOnAfterAnInterruption(t *testing.T) {
	s, fresh := newStore(t), newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 300)
	extend(t, s, l)
	whole := mustExport(t, s, 0, "")
	for _, cut := range []int{0, 1, len(whole) / 3, len(whole) / 2, len(whole) - 1} {
		part := whole[:bytes.LastIndexByte(whole[:cut], '\n')+1]
		cursor := int64(len(placeOf(t, part)))
		if got := append(slices.Clone(part), mustExport(t, s, cursor, "")...); !bytes.Equal(got, whole) {
			t.Errorf("cut at byte %d: the parts are not the whole", cut)
		}
	}
	fill(t, s, 300, 310)
	extend(t, s, l)
	if _, err := restore(fresh, l, append(slices.Clone(whole), mustExport(t, s, 300, "")...)); err != nil {
		t.Error(err)
	}
}

// What is erased and pruned while an export is under way is there as it is by then, and
// the export has its head.
func TestExportWhileRecordsGo(t *testing.T) {
	s, fresh := newStore(t), newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 1000)
	extend(t, s, l)
	text, err := export(s, audit.Cursor{}, "", 50, func(place int64) {
		switch place {
		case 100:
			erase(t, s, 60)
			erase(t, s, 130)
		case 200:
			prune(t, s, 400)
			mustAppend(t, s, record(1))
			extend(t, s, l)
		case 800:
			prune(t, s, 700)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	done, err := restore(fresh, l, text)
	want := audit.Restored{Records: 1000, Erased: 1, Pruned: 200, Holes: 200, Head: done.Head}
	if err != nil || done != want || done.Head.Size != 1000 {
		t.Fatalf("restored %+v, want %+v (%v)", done, want, err)
	}
	if again := mustExport(t, fresh, 0, ""); !bytes.Equal(again, text) {
		t.Error("the export of what was restored is another")
	}
}

// An export for one tenant has no text of another, and still has the tree.
func TestExportOfOneTenant(t *testing.T) {
	s := newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 300)
	extend(t, s, l)
	erase(t, s, 5)
	text := mustExport(t, s, 0, "a")
	if got := bytes.Count(text, []byte(`"leaf":`)); got != 74 || bytes.Count(text, []byte(`"tenant":"a"`)) != 74 {
		t.Errorf("%d records, want the 74 of the tenant that are not erased", got)
	}
	if len(placeOf(t, text)) != 300 || bytes.Contains(text, []byte("broker.start")) {
		t.Errorf("want 300 lines and nothing of others, got %d:\n%.600s", len(placeOf(t, text)), text)
	}
	done, err := restore(newStore(t), l, text)
	if err != nil || done.Head.Size != 300 || done.Holes == 0 {
		t.Errorf("restored %+v: %v", done, err)
	}
}

// tamper changes a database past its triggers.
func tamper(t *testing.T, path string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range append([]string{"DROP TRIGGER audit_records_no_update", "DROP TRIGGER audit_records_no_delete"}, statements...) {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// What would not verify is not exported.
func TestExportRefusesWhatIsNotInTheTree(t *testing.T) {
	for name, tt := range map[string]struct{ statement, want string }{
		"changed":           {"UPDATE audit_records SET outcome = 'refused' WHERE seq = 300", "the record at place 300 is not the one in the tree"},
		"with its hash":     {"UPDATE audit_records SET wallet = '0x', hash = x'00' WHERE seq = 300", "the record at place 300 is not the one in the tree"},
		"swapped":           {"UPDATE audit_records SET seq = CASE seq WHEN 7 THEN -8 WHEN 8 THEN -7 END WHERE seq IN (7, 8); UPDATE audit_records SET seq = -seq WHERE seq < 0", "the record at place 7 is not the one in the tree"},
		"deleted":           {"DELETE FROM audit_records WHERE seq = 44", "the record at place 44 is missing"},
		"deleted last":      {"DELETE FROM audit_records WHERE seq = 400", "the record at place 400 is missing"},
		"deleted as pruned": {"UPDATE audit_head SET pruned = 44; DELETE FROM audit_records WHERE seq <= 45", "the record at place 45 is missing"},
		"with its tile":     {"UPDATE audit_tiles SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB) WHERE level = 0 AND n = 1; DELETE FROM audit_records WHERE seq <= 257; UPDATE audit_head SET pruned = 257", "from its records"},
		"with its tiles":    {"UPDATE audit_tiles SET hashes = CAST(zeroblob(32) || substr(hashes, 33) AS BLOB) WHERE level = 1; ", "from its records"},
		"another head":      {"UPDATE audit_head SET size = 399", "the signed one is of 400 records, the database says 399"},
		"no head":           {"UPDATE audit_head SET size = 0, note = ''", "has no head yet"},
		"tile is gone":      {"DELETE FROM audit_tiles WHERE level = 0 AND n = 1", "tile 1 of level 0 is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "agentkeys.db")
			if err := store.Create(t.Context(), path); err != nil {
				t.Fatal(err)
			}
			s, err := store.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			l, _ := newLog(t)
			fill(t, s, 0, 400)
			extend(t, s, l)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			tamper(t, path, strings.Split(tt.statement, "; ")...)
			if s, err = store.Open(t.Context(), path, store.ReadOnly()); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			after := audit.Cursor{}
			if name == "with its tiles" {
				after.Place = 300 // the tree up to there is read, and not what it says of it
			}
			if _, err := export(s, after, "", 100, func(int64) {}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("exported with %v, want %q", err, tt.want)
			}
		})
	}
}

// A cursor of a log that was put back, or that went another way since, is refused.
func TestExportRefusesTheCursorOfAnotherLog(t *testing.T) {
	s, other := newStore(t), newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 20)
	head := extend(t, s, l)
	fill(t, other, 0, 10)
	extend(t, other, l)
	cursor := audit.Cursor{Place: head.Size, Root: &head.Root}
	if _, err := export(other, cursor, "", 9, func(int64) {}); err == nil || !strings.Contains(err.Error(), "the cursor is place 20, and the head of the log counts 10 records") {
		t.Errorf("the cursor of a log that was put back: %v", err)
	}
	fill(t, other, 10, 30)
	extend(t, other, l)
	if _, err := export(other, cursor, "", 9, func(int64) {}); err == nil || !strings.Contains(err.Error(), "it was forked") {
		t.Errorf("the cursor of a fork: %v", err)
	}
	if _, err := export(s, audit.Cursor{Place: -1}, "", 9, func(int64) {}); err == nil {
		t.Error("the cursor -1 was taken")
	}
	if text, err := export(s, cursor, "", 9, func(int64) {}); err != nil || string(text) != string(head.Line()) {
		t.Errorf("nothing is new, and the export is %s (%v)", text, err)
	}
}

// FuzzCheckpointLine: a line that is read is spelt as it would be written.
func FuzzCheckpointLine(f *testing.F) {
	f.Add([]byte(`{"checkpoint":"a/audit\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— a/audit AAAAAAAA\n"}` + "\n"))
	f.Add([]byte(`{"checkpoint":""}`))
	f.Add([]byte(`{"place":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := audit.ParseCheckpointLine(line)
		if err != nil {
			return
		}
		if again := c.Line(); !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(line, []byte("\n"))) {
			t.Errorf("%q reads as %q", line, again)
		}
	})
}
