package audit_test

import (
	"database/sql"
	"fmt"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"
)

// However much is pruned, restored from what is left and pruned again, the log is taken:
// right after it, while the records behind it wait for their places, and once they have
// them.
func TestCheckTakesWhatPrunesAndRestoresLeave(t *testing.T) {
	const placed = 12
	for _, unplaced := range []int{0, 3} {
		for _, through := range []int64{0, 1, placed - 1, placed} {
			t.Run(fmt.Sprintf("%d of %d and %d", through, placed, unplaced), func(t *testing.T) {
				s := newStore(t)
				l, _ := newLog(t)
				fill(t, s, 0, placed)
				head := extend(t, s, l)
				fill(t, s, placed, placed+unplaced)
				must := func(what string, s *store.Store, size int64) {
					t.Helper()
					var got audit.Checkpoint
					err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
						got, err = l.Check(t.Context(), tx)
						return err
					})
					if err != nil || got.Size != size {
						t.Errorf("%s: %d records, %v; want %d", what, got.Size, err, size)
					}
				}
				really := func(s *store.Store, through int64) {
					t.Helper()
					err := s.Update(t.Context(), func(tx *sql.Tx) error {
						for upto := int64(0); upto < through; {
							var err error
							if upto, err = audit.Prune(t.Context(), tx, through, 5, audit.Digest{}, audit.Record{Time: noon, RequestID: "prune"}); err != nil {
								return err
							}
						}
						return nil
					})
					if err != nil {
						t.Fatal(err)
					}
				}
				really(s, through)
				must("pruned", s, placed)
				text := mustExport(t, s, 0, "") // before the prune's own record has its place

				grown := extend(t, s, l).Size
				mustAppend(t, s, record(100)) // of a start that was cut off
				must("pruned and gone on with", s, grown)

				fresh := newStore(t)
				if _, err := restore(fresh, l, text); err != nil {
					t.Fatal(err)
				}
				must("restored", fresh, placed)
				note := column(t, fresh, "SELECT value FROM boot WHERE kind = 'configuration' AND name = 'restored'")
				want := fmt.Sprintf("size=%d root=%s records=%d pruned=%d", placed, head.Root, placed, through)
				if len(note) != 1 || note[0] != want {
					t.Fatalf("the note of the restore is %q, want %q", note, want)
				}
				execute(t, fresh, "DELETE FROM boot") // as the start does that records it
				mustAppend(t, fresh, audit.Record{Time: noon, Action: audit.ActionRestored, Outcome: audit.Confirmed, RequestID: "start", Detail: want})
				must("restored and started", fresh, placed)
				extend(t, fresh, l)
				must("restored and gone on with", fresh, placed+1)
				really(fresh, placed+1)
				must("pruned again", fresh, placed+1)
			})
		}
	}
}

// What is left of other tenants in an export for one is restored as hashes, the last place
// among them.
func TestCheckTakesATenantsRestore(t *testing.T) {
	s, fresh := newStore(t), newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 11)
	extend(t, s, l)
	if done, err := restore(fresh, l, mustExport(t, s, 0, "a")); err != nil || done.Pruned != 8 || done.Holes == 0 {
		t.Fatalf("restored %+v, %v", done, err)
	}
	if err := fresh.View(t.Context(), func(tx *sql.Tx) error { _, err := l.Check(t.Context(), tx); return err }); err != nil {
		t.Error(err)
	}
	execute(t, fresh, "DELETE FROM boot")
	if err := fresh.View(t.Context(), func(tx *sql.Tx) error { _, err := l.Check(t.Context(), tx); return err }); err == nil {
		t.Error("without its note it was taken")
	}
}
