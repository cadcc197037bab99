package broker_test

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/agentkeystest/landed"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/client"
	"agentkeys/store"
	"agentkeys/token"
)

// A broker of today that goes on at the moment at which one of a release was killed.
type heir struct {
	*agentkeystest.Broker
	aws        *agentkeystest.AWS
	was        landed.Story
	alice, bob agentkeystest.Party // with the sessions that the broker of then gave
}

func inherit(t *testing.T, release string) *heir {
	t.Helper()
	dir := t.TempDir()
	was, err := landed.Restore(t.Context(), release, dir)
	must(t, err)
	db, err := store.Open(t.Context(), filepath.Join(dir, landed.Database))
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	p := agentkeystest.Parts{Store: db, Issuer: was.Issuer}
	p.OIDCKey, err = token.LoadKeyFile(filepath.Join(dir, "oidc.jwk"), token.PurposeOIDC)
	must(t, err)
	p.SessionKey, err = token.LoadKeyFile(filepath.Join(dir, "session.jwk"), token.PurposeSession)
	must(t, err)
	if _, err := os.Stat(filepath.Join(dir, "heads")); !errors.Is(err, fs.ErrNotExist) { // else new ones are made, as the run-book says
		p.HeadsFile = filepath.Join(dir, "heads")
		p.AuditKey, err = token.LoadAuditKeyFile(filepath.Join(dir, "audit.jwk"))
		must(t, err)
	}
	h := &heir{was: was}
	h.Broker, h.aws = agentkeystest.OverWithAWS(t, p)
	h.Clock.Move(was.Time.Sub(h.Clock.Now()))
	for name, party := range map[string]*agentkeystest.Party{"alice": &h.alice, "bob": &h.bob} {
		party.Wallet, err = client.ReadWalletFile(filepath.Join(dir, name+".key"))
		must(t, err)
		party.Session.SessionJWT = was.Sessions[name]
	}
	must(t, h.Broker.Broker.SettleAll(t.Context()))
	return h
}

// What people had at a broker of an earlier release they have at the one of today.
func TestLandedReleasesAreGoneOnFrom(t *testing.T) {
	releases, err := landed.Releases()
	must(t, err)
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			h := inherit(t, release)
			h.wantAccounts(t)
			h.wantGrants(t)
			if h.was.Kept != nil {
				h.wantCallsRemembered(t)
				h.wantGrantsCount(t)
			}
			h.wantNewGrants(t)
			h.wantPlaces(t)
		})
	}
}

// wantAccounts wants the sessions of then to be good, and a new sign-in to find the same
// account.
func (h *heir) wantAccounts(t *testing.T) {
	t.Helper()
	for _, p := range []agentkeystest.Party{h.alice, h.bob} {
		if got, err := h.Client.MintOIDC(t.Context(), p.Session.SessionJWT); err != nil || got.Wallet != strings.ToLower(p.Address()) {
			t.Errorf("a token by the session of then is for %q, %v, want %s", got.Wallet, err, p.Address())
		}
		var made, signedIn int64
		session, err := h.Client.SignIn(t.Context(), p.Wallet, 1)
		must(t, err)
		must(t, h.Store.View(t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRow("SELECT created_at, last_sign_in_at FROM accounts WHERE omni_account = $1", session.OmniAccount).Scan(&made, &signedIn)
		}))
		if now := h.was.Time.UnixMilli(); made >= now || signedIn != now {
			t.Errorf("the account was made at %d and signed in to at %d, want before %d and then", made, signedIn, now)
		}
	}
}

// wantGrants wants the grants that the broker of then listed, with the use that the call
// took that it died in.
func (h *heir) wantGrants(t *testing.T) {
	t.Helper()
	page, err := h.Client.GrantList(t.Context(), h.alice.Session.SessionJWT, "", 0)
	must(t, err)
	want := slices.Clone(h.was.Grants)
	for i, g := range want {
		if g.GrantID == h.was.Cut.Request.Intent.GrantID {
			want[i].UsedCount++
			want[i].LastRecordID = page.Grants[i].LastRecordID
			if got := page.Grants[i].LastRecordID; got == g.LastRecordID {
				t.Errorf("the last record of %s is still %s", g.ScopePath, got)
			}
			want[i].LastUsedAt = page.Grants[i].LastUsedAt
		}
	}
	if len(page.Grants)+len(want) > 0 && !reflect.DeepEqual(page.Grants, want) {
		t.Errorf("grants are\n%+v\nwant\n%+v", page.Grants, want)
	}
}

// send sends a call of bob's under a key.
func (h *heir) send(t *testing.T, c *landed.Call, key string) (api.MintAWSResponse, error) {
	return h.Client.SendMintAWS(t.Context(), h.bob.Session.SessionJWT, c.Request, key)
}

// wantCallsRemembered wants the calls of the last minutes to be decided once. The kept
// answer is given again without asking STS; what the broker died in is released to nobody.
func (h *heir) wantCallsRemembered(t *testing.T) {
	t.Helper()
	again, err := h.send(t, h.was.Kept, h.was.Kept.Key)
	if err != nil || again.AccessKeyID != h.was.Kept.AccessKeyID || again.AuditRecordID != h.was.Kept.RecordID {
		t.Errorf("the answer again is of %q by record %q, %v, want %q by %q", again.AccessKeyID, again.AuditRecordID, err, h.was.Kept.AccessKeyID, h.was.Kept.RecordID)
	}
	_, err = h.send(t, h.was.Kept, "another-key")
	wantCode(t, err, api.CodeCallReplayed)
	_, err = h.send(t, h.was.Cut, h.was.Cut.Key)
	wantCode(t, err, api.CodeMintInterrupted)
	if asked := h.aws.Asked(); len(asked) > 0 {
		t.Errorf("STS was asked %d times, want none", len(asked))
	}
}

// wantGrantsCount wants each grant of then to give what it has left, and the ended ones
// nothing.
func (h *heir) wantGrantsCount(t *testing.T) {
	t.Helper()
	refusals := map[string]api.Code{"revoked": api.CodeGrantRevoked, "exhausted": api.CodeGrantExhausted}
	seen := map[string]bool{}
	for _, g := range h.was.Grants {
		seen[g.Status] = true
		mint := func() error {
			c := h.NewCall(h.bob, g.ScopePath)
			c.Intent.GrantID = g.GrantID
			c.Sign(t)
			given, err := h.Client.SendMintAWS(t.Context(), h.bob.Session.SessionJWT, c.MintAWSRequest, c.RequestID)
			if err == nil && given.Wallet != strings.ToLower(h.alice.Address()) {
				t.Errorf("%s: credentials of %s, want of alice", g.ScopePath, given.Wallet)
			}
			return err
		}
		if code, ended := refusals[g.Status]; ended {
			wantCode(t, mint(), code)
			continue
		}
		left := min(g.MaxUses-g.UsedCount, 3)
		if g.GrantID == h.was.Cut.Request.Intent.GrantID {
			left--
		}
		for range left {
			must(t, mint())
		}
		if g.MaxUses <= 5 {
			wantCode(t, mint(), api.CodeGrantExhausted)
		}
	}
	if len(seen) != 3 {
		t.Errorf("grants of then are %v, want active, revoked and exhausted ones", seen)
	}
	for _, g := range h.was.Grants {
		if g.RevokedAt != nil {
			again, err := h.Client.GrantRevoke(t.Context(), h.alice.Session.SessionJWT, g.GrantID)
			if err != nil || again.RevokedAt != *g.RevokedAt {
				t.Errorf("revoked at %d, %v, want %d", again.RevokedAt, err, *g.RevokedAt)
			}
		}
	}
}

// wantNewGrants wants alice to grant, and bob to use it, as at any broker.
func (h *heir) wantNewGrants(t *testing.T) {
	t.Helper()
	g := h.Grant(t, h.alice, h.bob, "new")
	c := h.NewCall(h.bob, "new/things")
	c.Intent.GrantID = g.GrantID
	if _, problem := h.Mint(t, c.Sign(t)); problem != nil {
		t.Errorf("under a new grant: %+v", problem)
	}
}

// wantPlaces wants every record to have its place in the tree, in the order that it had.
func (h *heir) wantPlaces(t *testing.T) {
	t.Helper()
	head := h.Head(t)
	must(t, h.Store.View(t.Context(), func(tx *sql.Tx) error {
		checked, err := h.Audit.Check(t.Context(), tx)
		must(t, err)
		all, err := audit.After(t.Context(), tx, 0, 1000)
		must(t, err)
		if int64(len(all)) != head.Size || checked.Size != head.Size {
			t.Errorf("%d records, and the head is of %d", len(all), head.Size)
		}
		for i, e := range all {
			leaf, err := audit.LeafAt(t.Context(), tx, head, int64(i+1))
			if must(t, err); leaf != e.LeafHash(e.Digest()) || e.Seq != int64(i+1) {
				t.Errorf("the record at place %d is not the leaf there", i+1)
			}
		}
		return nil
	}))
}
