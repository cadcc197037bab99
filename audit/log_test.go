package audit_test

import (
	"bytes"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "broker.example.com/audit"

// newLog makes a log with a key of its own, and the verifier of that.
func newLog(t testing.TB) (*audit.Log, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	l, err := audit.NewLog(origin, signer, verifier)
	if err != nil {
		t.Fatal(err)
	}
	return l, namedVerifier{verifier, public}
}

// namedVerifier is a verifier that remembers its text.
type namedVerifier struct {
	note.Verifier
	vkey string
}

func (v namedVerifier) text() string { return v.vkey }

// extend gives every record its place and returns the head.
func extend(t testing.TB, s *store.Store, l *audit.Log) (head audit.Checkpoint) {
	t.Helper()
	for more := true; more; {
		err := s.Update(t.Context(), func(tx *sql.Tx) (err error) {
			head, more, err = l.Extend(t.Context(), tx, 1000)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return head
}

func after(t testing.TB, s *store.Store, seq int64) (found []audit.Entry) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		found, err = audit.After(t.Context(), tx, seq, 100_000)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// The tree is the one that tlog builds of the same leaves, at every size around the
// edges of a tile.
func TestTreeIsThatOfTlog(t *testing.T) {
	s := newStore(t)
	l, _ := newLog(t)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	var seen []audit.Checkpoint
	size := int64(0)
	for _, step := range []int{1, 1, 1, 252, 1, 1, 1, 254, 1, 700, 1} {
		for range step {
			mustAppend(t, s, record(int(size)))
			size++
		}
		for _, e := range after(t, s, size-int64(step)) {
			h, err := tlog.StoredHashes(e.Seq-1, e.Leaf(), reader)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, h...)
		}
		head := extend(t, s, l)
		want, err := tlog.TreeHash(size, reader)
		if err != nil || head.Size != size || head.Root != audit.Digest(want) {
			t.Fatalf("at %d: head %d %s, want %s (%v)", size, head.Size, head.Root, want, err)
		}
		err = s.View(t.Context(), func(tx *sql.Tx) error {
			for _, c := range seen {
				if err := l.Extends(t.Context(), tx, head, c); err != nil {
					t.Errorf("at %d: %v", size, err)
				}
			}
			_, err := l.Check(t.Context(), tx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, head)
	}
}

func TestCheckpointIsANote(t *testing.T) {
	s := newStore(t)
	l, verifier := newLog(t)
	mustAppend(t, s, record(1))
	head := extend(t, s, l)
	n, err := note.Open([]byte(head.Note), note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if want := origin + "\n1\n" + base64.StdEncoding.EncodeToString(head.Root[:]) + "\n"; n.Text != want {
		t.Errorf("text %q, want %q", n.Text, want)
	}
}

func TestLinesReadBack(t *testing.T) {
	s := newStore(t)
	r := record(1)
	r.Reason, r.Agent = `quotes "and" \ back`, `,"person":{"x":"y"},"salt":"00"`
	mustAppend(t, s, r)
	mustAppend(t, s, intent(2))
	for _, e := range after(t, s, 0) {
		line, err := audit.ParseLine(e.Line())
		if err != nil {
			t.Fatal(err)
		}
		if err := line.Check(); err != nil {
			t.Errorf("Check: %v", err)
		}
		back, err := line.Entry()
		if diff := cmp.Diff(e, back); err != nil || diff != "" {
			t.Errorf("Entry: %v (-want +got):\n%s", err, diff)
		}
		if again := back.Line(); !bytes.Equal(again, e.Line()) {
			t.Errorf("line %s, then %s", e.Line(), again)
		}
	}
}
