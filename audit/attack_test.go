package audit_test

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"

	"golang.org/x/mod/sumdb/note"
)

// forge appends a record that nobody signs, as who can write the file can.
func (l *ledger) forge(t testing.TB, r audit.Record) {
	t.Helper()
	l.with(t, func(s *store.Store) { mustAppend(t, s, r) })
}

// A record that the tree does not have vouches for nothing: who can write the file has
// written it to cover what is gone.
func TestNothingUnsignedExcusesWhatIsGone(t *testing.T) {
	template := newLedger(t, placed, 0)
	prune := []string{"UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records WHERE seq <= 300"}
	pruned := audit.Record{Action: audit.ActionPruned, Outcome: audit.Confirmed, RequestID: "r", Detail: "through=300"}
	erase := []string{eraseSQL(t, template, 400)}
	erased := audit.Record{Action: audit.ActionErased, Outcome: audit.Confirmed, RequestID: "r", Detail: "records=1 grants=0"}
	for name, tt := range map[string]struct {
		tamper []string
		says   audit.Record
	}{"pruned": {prune, pruned}, "erased": {erase, erased}} {
		for when, seconds := range map[string]int{"just now": placed, "in the future": placed + 1_000_000_000} {
			t.Run(name+" "+when, func(t *testing.T) {
				l := template.copy(t)
				l.tamper(t, tt.tamper...)
				says := tt.says
				says.Time = at(seconds)
				l.forge(t, says)
				r := l.verify(t, l.verification(string(l.heads)))
				if r.Completeness == audit.Complete {
					t.Errorf("COMPLETE by the word of a record that nobody signed: %+v", r)
				}
				if when == "in the future" {
					mustFind(t, r, audit.RecordUnplaced, placed+1)
				}
			})
		}
	}
}

// An outcome that nobody signed does not settle for good an intent that the tree has.
func TestAnUnplacedRecordOfAnotherTimeIsFound(t *testing.T) {
	l := newLedger(t, placed, 2)
	says := record(placed + 2)
	says.Time = at(placed + 3600)
	l.forge(t, says)
	mustFind(t, l.verify(t, l.verification()), audit.RecordUnplaced, placed+3)
}

// A record of an erasure covers as many records as it says, not all before it.
func TestAnErasureCoversWhatItCounts(t *testing.T) {
	for _, more := range []int{0, 1} {
		t.Run(fmt.Sprint(more, " more"), func(t *testing.T) {
			l := newLedger(t, placed, 0)
			l.with(t, func(s *store.Store) {
				err := s.Update(t.Context(), func(tx *sql.Tx) error {
					for _, place := range []int64{20, 400} {
						if _, err := tx.ExecContext(t.Context(), erasingAt(t, tx, place)); err != nil {
							return err
						}
					}
					r := audit.Record{Time: at(placed), Action: audit.ActionErased, Outcome: audit.Confirmed, RequestID: "r", Detail: "records=2 grants=0"}
					return audit.Append(t.Context(), tx, &r)
				})
				if err != nil {
					t.Fatal(err)
				}
				extend(t, s, l.log)
			})
			if more > 0 {
				l.tamper(t, eraseSQL(t, l, 300))
			}
			for kind, r := range map[string]*audit.Report{"database": l.verify(t, l.verification()), "export": verifyExport(t, l.verification(), l.export(t))} {
				switch {
				case more == 0:
					mustBeGood(t, r)
				case r.Counts[audit.EraseUnrecorded] == 0:
					t.Errorf("%s: three records are erased, and the log tells of two: %+v", kind, r)
				}
			}
		})
	}
}

// looser is the table without what the schema asks of its values.
var looser = []string{
	"CREATE TABLE loose AS SELECT * FROM audit_records",
	"DROP VIEW audit",
	"DROP TABLE audit_records",
	"ALTER TABLE loose RENAME TO audit_records",
}

// A table of the same name that admits other values hides nothing.
func TestNoValueReadsAsAnother(t *testing.T) {
	template := newLedger(t, placed, unplaced)
	for name, change := range map[string]string{
		"NULL, and two texts in the one before": "UPDATE audit_records SET id = id || char(31) || action, action = NULL WHERE seq = 300",
		"NULL for an empty text":                "UPDATE audit_records SET detail = NULL WHERE seq = 300",
		"NULL for no person":                    "UPDATE audit_records SET person = NULL WHERE seq = 300",
		"NULL for a salt":                       "UPDATE audit_records SET salt = NULL WHERE seq = 300",
		"NULL for a hash":                       "UPDATE audit_records SET hash = NULL WHERE seq = 300",
		"NUL in a text":                         "UPDATE audit_records SET reason = reason || char(0) || 'x' WHERE seq = 300",
		"a time with a fraction":                "UPDATE audit_records SET time = time + 0.5 WHERE seq = 300",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := template.copy(t)
			l.tamper(t, append(looser[:len(looser):len(looser)], change)...)
			if r := l.verify(t, l.verification()); r.Integrity != audit.Broken || codes(r)[audit.RecordChanged] != 300 {
				t.Errorf("want %s at 300, got %+v", audit.RecordChanged, r)
			}
		})
	}
}

// A record that the database passes over in silence was not appended.
func TestAppendFindsThatNothingWasWritten(t *testing.T) {
	l := newLedger(t, 7, 0)
	l.with(t, func(s *store.Store) {
		l.tamper(t, "CREATE TRIGGER quiet BEFORE INSERT ON audit_records WHEN NEW.request_id = 'req-9' BEGIN SELECT RAISE(IGNORE); END")
		err := s.Update(t.Context(), func(tx *sql.Tx) error {
			r := record(9)
			return audit.Append(t.Context(), tx, &r)
		})
		if err == nil {
			t.Error("no error, and no record")
		}
	})
}

// Credentials that were taken back are quarantined to everybody who asks, in the same
// words as the view audit has.
func TestTakenBackIsQuarantined(t *testing.T) {
	l := newLedger(t, 0, 0)
	l.tell(t, tale{{audit.Pending, 0, 0}, {audit.Confirmed, 1, 0}, {audit.Quarantined, 2, 0}})
	l.with(t, func(s *store.Store) {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			page, err := audit.Read(t.Context(), tx, audit.Reading{Limit: 10})
			if err != nil {
				return err
			}
			for _, e := range page.Entries {
				if e.Status != audit.StatusQuarantined {
					t.Errorf("place %d is read as %s", e.Seq, e.Status)
				}
			}
			found, err := audit.Find(t.Context(), tx, audit.Query{Status: audit.StatusQuarantined})
			if len(found) != 3 {
				t.Errorf("%d records are found as quarantined, want 3", len(found))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	if n := l.query(t, "SELECT count(*) FROM audit WHERE status = 'quarantined'"); n != "3" {
		t.Errorf("the view has %s as quarantined, want 3", n)
	}
}

// Who has the key can sign a head of any size, and does not keep the others from an
// answer.
func TestAHeadOfAnySizeEnds(t *testing.T) {
	l := newLedger(t, placed, unplaced)
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, _ := note.NewSigner(private)
	verifier, _ := note.NewVerifier(public)
	text, err := note.Sign(&note.Note{Text: origin + "\n9000000000000000000\n" + strings.Repeat("A", 43) + "=\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	l.tamper(t, fmt.Sprintf("UPDATE audit_head SET size = 9000000000000000000, note = '%s'", text))
	v := l.verification()
	v.Verifiers = append(v.Verifiers, verifier)
	r := l.verify(t, v)
	mustFind(t, r, audit.HeadSize, 769) // there are three tiles
}
