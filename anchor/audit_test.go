package anchor

import (
	"database/sql"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"agentkeys/audit"
	"agentkeys/store"
)

// Whatever the log takes, the file takes, and gives back as the log does.
func TestFileHoldsWhatTheLogHolds(t *testing.T) {
	dbPath := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), dbPath); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), dbPath)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	path := newPath(t)
	f := open(t, path)

	odd := time.Date(2030, 1, 2, 12, 0, 0, 123_456_789, time.FixedZone("", -7200))
	quotes := func(n int) string { return strings.Repeat(`"`, n) } // the longest in JSON
	for _, r := range []audit.Record{
		{Time: odd, Action: "mint.aws_creds", Outcome: "pending", RequestID: "req"},
		{Time: odd, Action: "auth.wallet.verify", Outcome: "refused", Reason: "Jürgen O'Neill <j@exämple.org> 名前 \\n", RequestID: "\ufffd"},
		{Time: time.UnixMilli(0), Action: strings.Repeat("a", 64), Outcome: strings.Repeat("b", 32), Reason: quotes(256), IdentityType: quotes(32),
			IdentityValue: quotes(320), OmniAccount: quotes(128), Wallet: quotes(128), KeyID: quotes(128), TokenID: quotes(128),
			Source: quotes(128), RequestID: quotes(128)},
	} {
		if err := s.Update(t.Context(), func(tx *sql.Tx) error { return audit.Append(t.Context(), tx, &r) }); err != nil {
			t.Fatal(err)
		}
	}
	var want []audit.Entry
	err = s.View(t.Context(), func(tx *sql.Tx) (err error) {
		want, err = audit.After(t.Context(), tx, 0, 100)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put(t.Context(), want...); err != nil {
		t.Error(err)
	}
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	got, err := readAll(in)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
		t.Errorf("error %v; the log and the file differ (-log +file):\n%s", err, diff)
	}
	if info, err := in.Stat(); err != nil || info.Size() > maxLine/5+1000 {
		t.Errorf("the three lines have %d bytes (%v), want the longest to be a fifth of the limit", info.Size(), err)
	}
}
