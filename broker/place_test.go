package broker

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/store"
	"agentkeys/token"

	"golang.org/x/mod/sumdb/note"
)

// A leftLog is the log of a broker that does not run, with its file of heads.
type leftLog struct {
	Config
	database string
	heads    *anchor.Checkpoints
}

// leave makes a log of so many records, none of which has a place.
func leave(t *testing.T, records int) *leftLog {
	t.Helper()
	l := &leftLog{database: filepath.Join(t.TempDir(), "agentkeys.db")}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := token.GenerateAuditKey()
	must(err)
	const origin = "broker.example.com/audit"
	signer, err := key.Signer(origin)
	must(err)
	text, err := key.Verifier(origin)
	must(err)
	verifier, err := note.NewVerifier(text)
	must(err)
	l.Audit, err = audit.NewLog(origin, signer, verifier)
	must(err)
	must(store.Create(t.Context(), l.database))
	l.Store, err = store.Open(t.Context(), l.database)
	must(err)
	t.Cleanup(func() { must(l.Store.Close()) })
	path := filepath.Join(t.TempDir(), "heads")
	must(anchor.CreateCheckpoints(path))
	l.heads, err = anchor.OpenCheckpoints(path, time.Now)
	must(err)
	t.Cleanup(func() { must(l.heads.Close()) })
	l.Heads, l.Now, l.Log = l.heads.Publish, time.Now, slog.New(slog.DiscardHandler)
	l.append(t, records)
	return l
}

func (l *leftLog) append(t *testing.T, records int) {
	t.Helper()
	err := l.Store.Update(t.Context(), func(tx *sql.Tx) error {
		for range records {
			r := audit.Record{Time: time.Now(), Action: "test", Outcome: audit.Confirmed, RequestID: "r"}
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

// seen is the size of the newest head that was witnessed.
func (l *leftLog) seen() int64 {
	last, _ := l.heads.Last()
	return last.Size
}

// What has no place gets it, in as many steps as it takes, and the last head is witnessed.
// With nothing to do nothing is done.
func TestPlace(t *testing.T) {
	l := leave(t, 2*extendBatch+7)
	for _, more := range []int{0, 0, 1} {
		l.append(t, more)
		placed, err := Place(t.Context(), l.Config)
		if want := int64(2*extendBatch + 7 + more); err != nil || placed.Head.Size != want || len(placed.Behind) > 0 || l.seen() != want {
			t.Errorf("the head is of %d records, the one witnessed of %d, want %d; behind is %v: %v", placed.Head.Size, l.seen(), want, placed.Behind, err)
		}
	}
}

// An anchor that fails holds nothing up but itself, is told, and is brought the rest the
// next time.
func TestPlaceWithAnAnchorThatFails(t *testing.T) {
	l := leave(t, 9)
	fails := true
	var took int64
	l.Anchors = []Anchor{{Name: "east", Put: func(_ context.Context, entries ...audit.Entry) error {
		if fails {
			return errDown
		}
		took = entries[len(entries)-1].Seq
		return nil
	}}}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // somebody pressed Ctrl-C: what was done has its place all the same
	placed, err := Place(ended, l.Config)
	if err != nil || placed.Head.Size != 9 || l.seen() != 9 || len(placed.Behind) != 1 || placed.Behind[0] != (Lag{"east", errDown.Error()}) {
		t.Errorf("got %+v, %v; a head of %d is witnessed", placed, err, l.seen())
	}
	fails = false
	if placed, err := Place(t.Context(), l.Config); err != nil || len(placed.Behind) > 0 || took != 9 {
		t.Errorf("got %+v, %v; the anchor has all up to %d", placed, err, took)
	}
	if n := cursor(t, l, "east"); n != 9 {
		t.Errorf("the database has the anchor at %d", n)
	}

	l.append(t, 1)
	l.Heads = func(context.Context, audit.Checkpoint) error { return errDown }
	if placed, err := Place(t.Context(), l.Config); err != nil || placed.Head.Size != 10 || len(placed.Behind) != 1 || placed.Behind[0].Anchor != headsAnchor || took != 10 {
		t.Errorf("without the file of heads: %+v, %v; the anchor has all up to %d", placed, err, took)
	}
	l.Heads = l.heads.Publish
	if placed, err := Place(t.Context(), l.Config); err != nil || len(placed.Behind) > 0 || l.seen() != 10 {
		t.Errorf("got %+v, %v; a head of %d is witnessed", placed, err, l.seen())
	}
}

func cursor(t *testing.T, l *leftLog, name string) (upto int64) {
	t.Helper()
	err := l.Store.View(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRow("SELECT upto FROM audit_anchors WHERE name = $1", name).Scan(&upto)
	})
	if err != nil {
		t.Fatal(err)
	}
	return upto
}

// change does to the database what no store would.
func change(t *testing.T, l *leftLog, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+l.database+"?_pragma=busy_timeout(5000)")
	if err == nil {
		_, err = db.Exec(statement)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Nothing is signed over a log that does not hold together, and no head of it leaves: not
// if it was so before, nor if it is changed after it was looked at.
func TestPlaceOverALogThatIsNotAsItWasLeft(t *testing.T) {
	for name, statement := range map[string]string{
		"the head was put back":     "UPDATE audit_head SET size = 1",
		"another head":              "UPDATE audit_head SET note = replace(note, char(10), char(10) || 'x')",
		"a tile was changed":        "UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0",
		"a place is missing":        "DROP TRIGGER audit_records_no_delete; DELETE FROM audit_records WHERE seq = 10",
		"a record without its hash": "DROP TRIGGER audit_records_no_update; UPDATE audit_records SET hash = x'' WHERE seq = 11",
	} {
		t.Run(name, func(t *testing.T) {
			for _, late := range []bool{false, true} {
				l := leave(t, 9)
				if _, err := Place(t.Context(), l.Config); err != nil {
					t.Fatal(err)
				}
				l.append(t, 3)
				var err error
				if late {
					b, opened := keeping(l.Config)
					if opened != nil {
						t.Fatal(opened)
					}
					change(t, l, statement)
					err = b.finishLog(t.Context(), b.startFollowing(t.Context()))
				} else {
					change(t, l, statement)
					_, err = Place(t.Context(), l.Config)
				}
				if !errors.Is(err, audit.ErrBroken) || l.seen() != 9 {
					t.Errorf("late %v: %v; a head of %d is witnessed", late, err, l.seen())
				}
			}
		})
	}
}

// A head that does not move is not taken to have moved: it is not witnessed.
func TestPlaceWithAHeadThatDoesNotMove(t *testing.T) {
	l := leave(t, 9)
	b, err := keeping(l.Config)
	if err != nil {
		t.Fatal(err)
	}
	change(t, l, "CREATE TRIGGER quiet BEFORE UPDATE ON audit_head BEGIN SELECT RAISE(IGNORE); END")
	err = b.finishLog(t.Context(), b.startFollowing(t.Context()))
	if !errors.Is(err, audit.ErrHeadMoved) || !errors.Is(err, audit.ErrBroken) || l.seen() != 0 || b.log.newest().Size != 0 {
		t.Errorf("got %v; a head of %d is witnessed", err, l.seen())
	}
}

// What it takes is required.
func TestPlaceWants(t *testing.T) {
	whole := leave(t, 1).Config
	for want, change := range map[string]func(*Config){
		"a store":             func(c *Config) { c.Store = nil },
		"a clock":             func(c *Config) { c.Now = nil },
		"place for its heads": func(c *Config) { c.Heads = nil },
		"names of their own":  func(c *Config) { c.Anchors = []Anchor{{Name: headsAnchor}} },
	} {
		c := whole
		change(&c)
		if _, err := Place(t.Context(), c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
