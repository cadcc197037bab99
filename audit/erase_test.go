package audit_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
)

// of is the record that person i leaves, in one of the ways that one can be in it.
func of(i, n int) *audit.Record {
	who := func(i int) (omni, wallet string) { return fmt.Sprintf("%064x", i), fmt.Sprintf("0x%040x", i) }
	omni, wallet := who(i)
	other, otherWallet := who(1000 + i)
	r := record(n)
	r.IdentityType, r.IdentityValue, r.OmniAccount, r.Wallet, r.Tenant, r.Agent = "evm", otherWallet, other, otherWallet, otherWallet, "agent"
	switch n % 7 {
	case 4:
		r.Action, r.Tenant, r.ScopePath = audit.ActionRead, omni, "account="+omni
	case 5: // which was refused
		r.Action, r.Tenant, r.ScopePath = audit.ActionRead, "", "account="+omni
	case 6:
		r.Action, r.ScopePath = audit.ActionRead, "account="+other+" tenant="+wallet
	case 0:
		r.IdentityValue, r.OmniAccount, r.Wallet = wallet, omni, wallet
	case 1:
		r.Tenant = wallet
	case 2:
		r.Agent = wallet
	case 3:
		r.Wallet = wallet
	}
	return &r
}

func person(i int) audit.Person {
	wallet := fmt.Sprintf("0x%040x", i)
	return audit.Person{OmniAccount: fmt.Sprintf("%064x", i), Wallet: wallet, Tenant: wallet}
}

func erasePerson(t *testing.T, s *store.Store, p audit.Person) (n int64) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *sql.Tx) (err error) {
		n, err = audit.Erase(t.Context(), tx, p)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Of a person that was erased nothing is left in the file, down to its bytes, and the
// tree is the one that it was: the records keep their leaves, and the line of each has
// the hash that it had.
func TestErase(t *testing.T) {
	const records, people = 3100, 31 // each is in records of every kind
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx *sql.Tx) error {
		for n := range records {
			if err := audit.Append(t.Context(), tx, of(1+n%people, n)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	l, _ := newLog(t)
	head := extend(t, s, l)
	before := after(t, s, 0)

	gone := person(7)
	if n := erasePerson(t, s, gone); n != records/people {
		t.Errorf("%d records were erased, want %d", n, records/people)
	}
	if n := erasePerson(t, s, gone); n != 0 {
		t.Errorf("%d records were erased twice", n)
	}
	erased := map[int64]bool{}
	for i, e := range after(t, s, 0) {
		was := before[i]
		if e.Seq%people != 7 {
			if diff := cmp.Diff(was, e); diff != "" {
				t.Fatalf("the record of somebody else changed: %s", diff)
			}
			continue
		}
		erased[e.Seq] = true
		if len(e.Salt) != 0 || !bytes.Equal(e.PersonText(), []byte("{}")) || e.Digest() != was.PersonDigest(was.Salt) {
			t.Errorf("place %d: %+v", e.Seq, e)
		}
		line, err := audit.ParseLine(e.Line())
		if err != nil || line.Check() != nil || line.Person != nil || !bytes.Equal(line.Hash[:], was.Hash) {
			t.Errorf("place %d: its line is %s (%v)", e.Seq, e.Line(), err)
		}
		if again, err := line.Entry(); err != nil || !bytes.Equal(again.Line(), e.Line()) {
			t.Errorf("place %d: its line reads as %+v (%v)", e.Seq, again, err)
		}
	}
	if len(erased) != records/people {
		t.Errorf("%d records are erased", len(erased))
	}
	mustAppend(t, s, record(records))
	grown := extend(t, s, l)
	err = s.View(t.Context(), func(tx *sql.Tx) error {
		_, err := l.Check(t.Context(), tx)
		return errors.Join(err, l.Extends(t.Context(), tx, grown, head))
	})
	if err != nil {
		t.Errorf("the tree after it: %v", err)
	}

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the log is there after the last connection was closed: %v", err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string][]byte{"account": []byte(gone.OmniAccount), "wallet": []byte(gone.Wallet)} {
		if n := bytes.Count(data, secret); n != 0 {
			t.Errorf("the file has the %s %d times", what, n)
		}
	}
	for i, e := range before {
		if found := bytes.Contains(data, e.Salt); found == erased[e.Seq] {
			t.Fatalf("place %d: the salt is in the file: %v; is it erased: %v", i+1, found, erased[e.Seq])
		}
	}
	if !bytes.Contains(data, []byte(person(8).Wallet)) {
		t.Error("nobody is in the file: what was looked at?")
	}
}

// Somebody without a wallet is not taken for everybody without one.
func TestEraseWithoutWallet(t *testing.T) {
	s := newStore(t)
	with, without, nobody := record(1), record(2), record(3)
	without.OmniAccount, without.Wallet, without.Tenant, without.Agent = strings.Repeat("a", 64), "", "", ""
	nobody.OmniAccount, nobody.Wallet, nobody.Tenant, nobody.Agent = "", "", "", ""
	mustAppend(t, s, with)
	mustAppend(t, s, without)
	mustAppend(t, s, nobody)
	if n := erasePerson(t, s, audit.Person{OmniAccount: without.OmniAccount, Tenant: without.OmniAccount}); n != 1 {
		t.Errorf("%d records were erased, want 1", n)
	}
	if n := erasePerson(t, s, audit.Person{OmniAccount: strings.Repeat("b", 64)}); n != 0 {
		t.Errorf("%d records of a stranger were erased", n)
	}
	if all := after(t, s, 0); len(all[0].Person) != 0 || len(all[1].Person) == 0 || len(all[2].Person) != 0 {
		t.Errorf("erased: %x %x %x", all[0].Person, all[1].Person, all[2].Person)
	}
}

// A record from before there was a tree is erased before it has its place, and then
// has the leaf that it would have had.
func TestEraseBeforeTheTree(t *testing.T) {
	var roots []audit.Digest
	for _, first := range []bool{false, true} {
		s, path := oldLog(t)
		l, _ := newLog(t)
		if first {
			if n := erasePerson(t, s, person(1)); n != 1 {
				t.Fatalf("%d records were erased, want 1", n)
			}
		}
		head := extend(t, s, l)
		if head.Size != 1 {
			t.Fatalf("%s: %d records", path, head.Size)
		}
		roots = append(roots, head.Root)
	}
	if roots[0] != roots[1] {
		t.Errorf("the root is %s, and %s where it was erased first", roots[0], roots[1])
	}
}

// oldLog is a database with a record of somebody from before there was a tree.
func oldLog(t *testing.T) (*store.Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(`INSERT INTO audit_records (id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id)
		VALUES ('01J00000000000000000000000', 1700000000000, 'mint.oidc_jwt', 'issued', '', 'evm', $2, $1, $2, 'k', 't', '127.0.0.1', 'r');
		UPDATE audit_head SET unhashed = 1`, person(1).OmniAccount, person(1).Wallet)
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, path
}
