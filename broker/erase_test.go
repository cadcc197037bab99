package broker_test

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/identity"
	"agentkeys/token"

	"github.com/google/go-cmp/cmp"
)

// eraseParty erases a party while no request is under way, as on a broker that does
// not run.
func eraseParty(t *testing.T, k *agentkeystest.Broker, p agentkeystest.Party, wallet string, dryRun bool) (broker.Erasure, error) {
	t.Helper()
	k.Quiet(t)
	return broker.Erase(t.Context(), k.Store, p.Session.OmniAccount, wallet, k.Clock.Now(), dryRun)
}

// Somebody who signed in, granted, was granted to and got credentials is erased: the
// file has nothing of that person, the grants have ended, nobody else lost anything,
// and the log is as whole as before.
func TestErasePerson(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k, _ := agentkeystest.NewAtWithAWS(t, path)
	alice, bob, carol, mallory := k.Party(t), k.Party(t), k.Party(t), k.Party(t)
	toBob, toAlice, others := k.Grant(t, alice, bob, "a"), k.Grant(t, carol, alice, "c"), k.Grant(t, carol, carol, "d")
	used := k.Grant(t, alice, alice, "alicespath", func(r *api.GrantCreateRequest) { r.MaxUses = 1 })
	mint := func(p agentkeystest.Party, path, named string) string {
		c := k.NewCall(p, path)
		c.Intent.GrantID, c.IdempotencyKey = named, c.RequestID
		if _, problem := k.Mint(t, c.Sign(t)); problem != nil {
			return string(problem.Code)
		}
		return ""
	}
	for who, code := range map[string]string{"bob": mint(bob, "a", ""), "alice": mint(alice, "c", toAlice.GrantID), "alice for herself": mint(alice, "alicespath", used.GrantID), "carol": mint(carol, "d", "")} {
		if code != "" {
			t.Fatalf("%s got no credentials before: %s", who, code)
		}
	}
	start(t, k, alice.Wallet)
	seen := k.Head(t)

	would, err := eraseParty(t, k, alice, "", true)
	must(t, err)
	before := len(records(t, k))
	did, err := eraseParty(t, k, alice, "", false)
	must(t, err)
	if diff := cmp.Diff(would, did); diff != "" {
		t.Errorf("a dry run says something else: %s", diff)
	}
	slices.Sort(did.Revoked)
	want := broker.Erasure{Account: true, Records: 3 + 3 + 2*3, Grants: 3, Revoked: []string{toBob.GrantID, toAlice.GrantID}, Challenges: 2, Calls: 2}
	slices.Sort(want.Revoked)
	if diff := cmp.Diff(want, did); diff != "" {
		t.Error(diff)
	}
	said := recorded(t, k, len(records(t, k))-before)
	if diff := cmp.Diff([]string{"grant.revoke confirmed", "grant.revoke confirmed", "audit.erased confirmed"}, said); diff != "" {
		t.Error(diff)
	}
	if r := records(t, k)[0]; r.Detail != "records=12 grants=3" || r.OmniAccount != "" || len(r.PersonText()) != 2 {
		t.Errorf("recorded %+v", r)
	}

	if code := mint(bob, "a", toBob.GrantID); code != string(api.CodeGrantRevoked) {
		t.Errorf("a grant of somebody erased: %q", code)
	}
	if code := mint(carol, "d", others.GrantID); code != "" {
		t.Errorf("a grant of somebody else: %s", code)
	}
	// Bob was granted to by two owners, although one is nobody any more.
	k.Grant(t, mallory, bob, "a")
	if code := mint(bob, "a", ""); code != "grant_ambiguous" {
		t.Errorf("a call that names no grant, after a stranger granted: %q", code)
	}
	k.Head(t)
	must(t, k.Store.View(t.Context(), func(tx *sql.Tx) error {
		head, err := k.Audit.Check(t.Context(), tx)
		return errors.Join(err, k.Audit.Extends(t.Context(), tx, head, seen))
	}))
	if _, err := eraseParty(t, k, alice, "", false); !errors.Is(err, broker.ErrNothingToErase) {
		t.Errorf("erasing again: %v", err)
	}

	k.Stop()
	must(t, k.Store.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	for what, text := range map[string]string{"account": alice.Session.OmniAccount, "wallet": strings.ToLower(alice.Address()), "wallet as signed": alice.Address(), "path": "alicespath"} {
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("the file has the %s of somebody erased", what)
		}
	}
	if !bytes.Contains(data, []byte(carol.Session.OmniAccount)) {
		t.Error("the file has nobody: what was looked at?")
	}
}

// While a mint has no outcome nothing is erased, or the outcome would say again what
// the intent said.
func TestEraseWaitsForOutcomes(t *testing.T) {
	k := agentkeystest.New(t)
	alice := k.Party(t)
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		r := audit.Record{Time: k.Clock.Now(), Action: audit.ActionMintAWS, Outcome: audit.Pending, RequestID: "r"}
		if err := audit.Append(t.Context(), tx, &r); err != nil {
			return err
		}
		_, err := tx.ExecContext(t.Context(), `INSERT INTO mints (call_digest, caller, request_id, body_hash, record_id, state, settle_by, forget_at) VALUES (randomblob(16), 'x', 'r', x'00', $1, 'pending', 0, 0)`, r.ID)
		return err
	}))
	if _, err := eraseParty(t, k, alice, "", false); !errors.Is(err, broker.ErrUnsettled) {
		t.Errorf("with a mint that is pending: %v", err)
	}
	if r := records(t, k)[1]; r.OmniAccount != alice.Session.OmniAccount {
		t.Errorf("something was erased: %+v", r)
	}
	must(t, k.Broker.SettleAll(t.Context()))
	if e, err := eraseParty(t, k, alice, "", false); err != nil || e.Records != 2 {
		t.Errorf("once it is settled: %+v, %v", e, err)
	}
}

// Somebody without a wallet is a tenant by the omni account.
func TestEraseWithoutWallet(t *testing.T) {
	const address = "ada@example.org"
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k, _ := agentkeystest.NewAtWithAWS(t, path)
	id := identity.Identity{Type: identity.Email, Value: address}
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := identity.SignIn(t.Context(), tx, id, k.Clock.Now())
		return err
	}))
	jwt, _, err := k.Sessions.Issue(token.Subject{IdentityType: "email", IdentityValue: address, OmniAccount: id.OmniAccount()}, k.Clock.Now())
	must(t, err)
	ada := agentkeystest.Party{Session: api.Session{SessionJWT: jwt.Reveal(), OmniAccount: id.OmniAccount()}}
	bob := k.Party(t)
	g := k.Grant(t, ada, bob, "a")
	if _, problem := k.Mint(t, k.NewCall(bob, "a").Sign(t)); problem != nil {
		t.Fatal(problem)
	}
	e, err := eraseParty(t, k, ada, "", false)
	if want := (broker.Erasure{Account: true, Records: 3, Grants: 1, Revoked: []string{g.GrantID}}); err != nil || !cmp.Equal(want, e) {
		t.Errorf("got %+v, %v; want %+v", e, err, want)
	}
	if r := records(t, k); r[len(r)-1].OmniAccount != "" || r[len(r)-2].OmniAccount != bob.Session.OmniAccount {
		t.Errorf("what bob did for himself: %+v", r[len(r)-2])
	}
	k.Stop()
	must(t, k.Store.Close())
	data, err := os.ReadFile(path)
	must(t, err)
	for what, text := range map[string]string{"account": id.OmniAccount(), "address": address} {
		if bytes.Contains(data, []byte(text)) {
			t.Errorf("the file has the %s of somebody erased", what)
		}
	}
}

// Where only the account is left of somebody, its wallet leads to the rest.
func TestEraseAnAccountWithoutRecords(t *testing.T) {
	k := agentkeystest.New(t)
	alice, bob := k.Party(t), k.Party(t)
	k.Head(t)
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.Exec("UPDATE audit_head SET pruned = 4")
		for _, statement := range []string{"DELETE FROM audit_records", "DELETE FROM wallet_challenges WHERE address = '" + strings.ToLower(bob.Address()) + "'"} {
			if err == nil {
				_, err = tx.Exec(statement)
			}
		}
		return err
	}))
	for _, tc := range []struct {
		agentkeystest.Party
		want broker.Erasure
	}{{alice, broker.Erasure{Account: true, Challenges: 1}}, {bob, broker.Erasure{Account: true}}} {
		if e, err := eraseParty(t, k, tc.Party, "", false); err != nil || !cmp.Equal(tc.want, e) {
			t.Errorf("got %+v, %v; want %+v", e, err, tc.want)
		}
	}
}

// Where only the records are left of somebody, they are found by the account, with the
// wallet that they name.
func TestEraseWhatIsLeft(t *testing.T) {
	k := agentkeystest.New(t)
	alice := k.Party(t)
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "DELETE FROM accounts")
		return err
	}))
	e, err := eraseParty(t, k, alice, "", false)
	if want := (broker.Erasure{Records: 2, Challenges: 1}); err != nil || !cmp.Equal(want, e) {
		t.Errorf("got %+v, %v; want %+v", e, err, want)
	}
	if _, err := broker.Erase(t.Context(), k.Store, strings.Repeat("ab", 32), "", k.Clock.Now(), false); !errors.Is(err, broker.ErrNothingToErase) {
		t.Errorf("a stranger: %v", err)
	}
}
