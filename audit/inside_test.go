package audit

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Of two writers who extend the same head one wins, and the other hears of it.
func TestHeadMovesByCompareAndSwap(t *testing.T) {
	s, l, _ := generate(t, 10)
	err := s.Update(t.Context(), func(tx *sql.Tx) error {
		old, err := l.Head(t.Context(), tx)
		if err != nil {
			return err
		}
		r := benchRecord(1, "")
		if err := Append(t.Context(), tx, &r); err != nil {
			return err
		}
		winner, _, err := l.Extend(t.Context(), tx, 10)
		if err != nil {
			return err
		}
		late := Checkpoint{Origin: benchOrigin, Size: old.Size + 1, Root: old.Root, Note: "late"}
		if err := swapHead(t.Context(), tx, old, late); !errors.Is(err, ErrHeadMoved) {
			t.Errorf("the late one: %v, want %v", err, ErrHeadMoved)
		}
		if head, err := l.Head(t.Context(), tx); err != nil || head != winner {
			t.Errorf("the head is %+v, %v, want the winner's", head, err)
		}
		same := old // of the same size, and signed anew
		same.Size = winner.Size
		if err := swapHead(t.Context(), tx, same, late); !errors.Is(err, ErrHeadMoved) {
			t.Errorf("another note of that size: %v, want %v", err, ErrHeadMoved)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A climb is the tree of tlog at every size, and gives each subtree that is a hash of a
// tile once.
func TestClimbIsTheTree(t *testing.T) {
	var c climb
	e := &edge{}
	made := make(map[string]Digest)
	full := func(level int, n int64, hashes []tlog.Hash) error {
		want := Digest(perfect(hashes))
		if got := made[fmt.Sprint(level+1, " ", n)]; got != want {
			t.Errorf("hash %d of level %d: %s, want %s", n, level+1, got, want)
		}
		return nil
	}
	if c.root() != e.root() {
		t.Errorf("the empty tree is %s, want %s", c.root(), e.root())
	}
	for i := range int64(1<<16 + 300) {
		leaf := Digest{byte(i), byte(i >> 8), byte(i >> 16)}
		c.add(leaf, func(level int, n int64, root Digest) { made[fmt.Sprint(level, " ", n)] = root })
		if err := e.add(tlog.Hash(leaf), full); err != nil {
			t.Fatal(err)
		}
		if (i < 600 || i%997 == 0 || i > 1<<16-3) && c.root() != e.root() {
			t.Fatalf("at %d: %s, want %s", i+1, c.root(), e.root())
		}
	}
	if len(made) != 257+1 {
		t.Errorf("%d hashes were made, want 257 of level 1 and 1 of level 2", len(made))
	}
}

// A time is written as the time package would, and so is one that no record has.
func TestTimesAreThoseOfTheTimePackage(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	times := []int64{0, -1, 253402300799999, 253402300800000, -62135596800000, -62167219200001, 1 << 60}
	for range 10_000 {
		times = append(times, random.Int64N(253402300800000))
	}
	for _, millis := range times {
		at := time.UnixMilli(millis).UTC()
		if got, want := string(appendTime(nil, at)), at.Format(timeForm); got != want {
			t.Errorf("%d: %s, want %s", millis, got, want)
		}
	}
}

// What parseLeaf reads is what Leaf writes, and it reads all of that.
func TestLeavesAreTakenApart(t *testing.T) {
	r := benchRecord(1, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	r.ID, r.Detail, r.Reason = "01ARZ3NDEKTSV4RRFFQ69G5FAW", `"quoted" \ through=7`, "reason"
	leaf := r.Leaf(Digest{1})
	s, err := parseLeaf(leaf)
	if err != nil || string(s.id) != r.ID || string(s.action) != r.Action || string(s.outcome) != r.Outcome || string(s.settles) != r.Settles ||
		string(s.person) != (Digest{1}).String() || string(s.detail) != `\"quoted\" \\ through=7` || string(s.time) != r.Time.UTC().Format(timeForm) {
		t.Errorf("%+v, %v of %s", s, err, leaf)
	}
	for old, other := range map[string]string{
		`{"action":`: `{ "action":`, `"action":"mint.aws_credentials",`: ``, `,"id":`: `,"idx":"","id":`, `"outcome":"confirmed",`: ``, `,"v":1}`: `,"v":2}`,
		`,"reason":"reason"`: `,"reason":""`, `"key_id":`: `"key_ID":`, `"person":"01`: `"person":"0`, `"person":"010`: `"person":"01A`,
		`"service":"s3",`: `"service":"s3","service":"s3",`, `"grant_id":`: `"id":"x","grant_id":`, `"s3"`: `"s\u0033"`, `"v":1}`: `"v":1} `, `"settles"`: `"unsettles"`,
	} {
		text := bytes.Replace(leaf, []byte(old), []byte(other), 1)
		if _, err := parseLeaf(text); err == nil || bytes.Equal(text, leaf) {
			t.Errorf("with %s for %s it is read", other, old)
		}
	}
	for _, text := range []string{`"`, `\u0041"`, `\/"`, `\u000a"`, `\u001F"`, `\u00"`, `\`, "\x01\"", `\x"`, ``} {
		if end := textEnd([]byte(text)); text != `"` && end >= 0 {
			t.Errorf("%q is a text of %d bytes", text, end)
		}
	}
	for _, text := range []string{``, `a`, `\"`, `\\`, `\n`, `\u001f`, `\u0000`, `é`, `{"`} {
		quoted := appendText(nil, text)[1:]
		if end := textEnd(quoted); end != len(quoted)-1 {
			t.Errorf("%q: the text ends at %d, want %d", quoted, end, len(quoted)-1)
		}
	}
}
