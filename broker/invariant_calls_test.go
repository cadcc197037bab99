package broker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"net/http"
	"strings"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/client"
	"agentkeys/token"
)

// stage is an owner, a daemon and the grant between them.
type stage struct {
	*world
	owner, daemon agentkeystest.Party
	grant         api.Grant
}

func (w *world) stage(t *testing.T) *stage {
	t.Helper()
	s := &stage{world: w, owner: w.k.Party(t), daemon: w.k.Party(t)}
	s.grant = w.k.Grant(t, s.owner, s.daemon, "reports", w.lasting(time.Hour))
	return s
}

// call is a call of the daemon under the grant, not signed yet. With a key it can be
// made again.
func (s *stage) call(key string) *agentkeystest.Call {
	c := s.k.NewCall(s.daemon, "reports/2026")
	c.IdempotencyKey, c.IssuedAt = key, api.Timestamp{Time: s.now()}
	return c
}

// lasting has a grant end so long after now.
func (w *world) lasting(d time.Duration) func(*api.GrantCreateRequest) {
	return func(r *api.GrantCreateRequest) { r.ExpiresAt = w.now().Add(d).Unix() }
}

func (s *stage) signed(t *testing.T, key string) *agentkeystest.Call {
	t.Helper()
	return s.call(key).Sign(t)
}

// Each scenario goes on in the world that the one before left, so that what it did
// is checked again after each step of those that follow.
func TestInvariant(t *testing.T) {
	w := newWorld(t)
	for _, scenario := range []struct {
		name string
		play func(*testing.T, *stage)
	}{
		{"happy path", playHappyPath},
		{"tampered", playTampered},
		{"wrong wallet", playWrongWallet},
		{"sessions", playSessions},
		{"grants", playGrants},
		{"retries", playRetries},
		{"retries in progress", playInProgress},
		{"two callers, one key", playTwoCallers},
		{"two accounts, one wallet", playTwoAccounts},
		{"retries after the window", playWindow},
		{"retries after revocation", playRevoked},
		{"refusals are kept", playKeptRefusal},
		{"recording fails before STS", playRecordBefore},
		{"recording fails after STS", playRecordAfter},
		{"an anchor fails before STS", playAnchorBefore},
		{"an anchor fails after STS", playAnchorAfter},
		{"STS fails", playSTS},
		{"STS is late", playLateSTS},
		{"the clock steps back", playClockBack},
	} {
		ok := t.Run(scenario.name, func(t *testing.T) {
			scenario.play(t, w.stage(t))
			checkInvariant(t, w, scenario.name)
			checkSecrets(t, w, scenario.name)
		})
		if !ok {
			t.FailNow() // what follows would say the same
		}
	}
}

func playHappyPath(t *testing.T, s *stage) {
	first := s.want(t, s.signed(t, ""), 200, "ok")
	if got := first.header.Get("X-Idempotency"); got != "" {
		t.Errorf("X-Idempotency %q without a key", got)
	}
	second := s.want(t, s.signed(t, rand.Text()), 200, "ok")
	if got := second.header.Get("X-Idempotency"); got != "miss" {
		t.Errorf("X-Idempotency %q, want miss", got)
	}
	if first.creds.AccessKeyID == second.creds.AccessKeyID {
		t.Error("two calls got one set of credentials")
	}
}

func playTampered(t *testing.T, s *stage) {
	asked := len(s.aws.Asked())
	for name, tamper := range map[string]func(*agentkeystest.Call){
		"another path":     func(c *agentkeystest.Call) { c.Intent.ScopePath = "reports" },
		"another agent":    func(c *agentkeystest.Call) { c.Intent.AgentID = "other" },
		"a grant is named": func(c *agentkeystest.Call) { c.Intent.GrantID = s.grant.GrantID },
		"another id":       func(c *agentkeystest.Call) { c.RequestID = rand.Text() },
		"another time":     func(c *agentkeystest.Call) { c.IssuedAt = api.Timestamp{Time: s.now().Add(time.Second)} },
		"a digit of r":     func(c *agentkeystest.Call) { c.Auth.Signature = flipDigit(c.Auth.Signature, 10) },
		"a digit of s":     func(c *agentkeystest.Call) { c.Auth.Signature = flipDigit(c.Auth.Signature, 100) },
		"v":                func(c *agentkeystest.Call) { c.Auth.Signature = flipV(c.Auth.Signature) },
	} {
		t.Run(name, func(t *testing.T) {
			c := s.signed(t, "")
			tamper(c)
			s.want(t, c, 401, api.CodeCallSignature)
		})
	}
	for name, sign := range map[string]func(*agentkeystest.Call){
		"for another broker":   func(c *agentkeystest.Call) { c.URL = "https://other.example" + api.PathMintAWS },
		"for another endpoint": func(c *agentkeystest.Call) { c.URL = s.issuer + api.PathGrantCreate },
		"for another method":   func(c *agentkeystest.Call) { c.Method = "PUT" },
	} {
		t.Run(name, func(t *testing.T) {
			c := s.call("")
			sign(c)
			s.want(t, c.Sign(t), 401, api.CodeCallSignature)
		})
	}
	for name, off := range map[string]time.Duration{"signed long ago": -6 * time.Minute, "signed in the future": 6 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			c := s.call("")
			c.IssuedAt = api.Timestamp{Time: s.now().Add(off)}
			s.want(t, c.Sign(t), 401, api.CodeCallExpired)
		})
	}
	if n := len(s.aws.Asked()); n != asked {
		t.Errorf("STS was asked %d times for calls that were tampered with", n-asked)
	}
}

func flipDigit(hex string, at int) string {
	other := byte('0')
	if hex[at] == other {
		other = '1'
	}
	return hex[:at] + string(other) + hex[at+1:]
}

func flipV(signature string) string {
	v := "1b"
	if strings.HasSuffix(signature, v) {
		v = "1c"
	}
	return signature[:len(signature)-2] + v
}

func playWrongWallet(t *testing.T, s *stage) {
	other, err := client.NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	c := s.call("")
	c.Signer, c.Auth.Address = other, other.Address()
	s.want(t, c.Sign(t), 403, api.CodeWalletMismatch)
	c = s.call("")
	c.Signer = other // and says that it is the daemon
	s.want(t, c.Sign(t), 401, api.CodeCallSignature)
	c = s.call("")
	c.Session = s.owner.Session.SessionJWT
	s.want(t, c.Sign(t), 403, api.CodeWalletMismatch)
}

func playSessions(t *testing.T, s *stage) {
	wallet := strings.ToLower(s.daemon.Address())
	subject := token.Subject{IdentityType: "evm", IdentityValue: wallet, OmniAccount: s.daemon.Session.OmniAccount, Wallet: wallet}
	old, _, err := s.k.Sessions.Issue(subject, s.now().Add(-6*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	webIdentity, _, err := s.k.Identities.Mint(wallet, s.now())
	if err != nil {
		t.Fatal(err)
	}
	foreign := agentkeystest.New(t).Party(t)
	for name, tt := range map[string]struct {
		session string
		code    api.Code
	}{
		"missing":              {"", api.CodeSessionRequired},
		"expired":              {old.Reveal(), api.CodeTokenExpired},
		"of another broker":    {foreign.Session.SessionJWT, api.CodeUnknownKey},
		"a web identity token": {webIdentity.Reveal(), api.CodeWrongTokenType},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.call("")
			c.Session = tt.session
			s.want(t, c.Sign(t), 401, tt.code)
		})
	}
}

func playGrants(t *testing.T, s *stage) {
	stranger := s.k.Party(t)
	s.want(t, s.k.NewCall(stranger, "reports").Sign(t), 403, api.CodeGrantRequired)

	named := s.k.NewCall(stranger, "reports")
	named.Intent.GrantID = s.grant.GrantID // another daemon's
	s.want(t, named.Sign(t), 403, api.CodeGrantRequired)

	for _, path := range []string{"report", "reports2", "/", "other/reports"} {
		s.want(t, s.k.NewCall(s.daemon, path).Sign(t), 403, api.CodeScopeExceedsGrant)
	}
	for _, path := range []string{"../reports", "reports/..", "/reports", "reports/*", "reports/${aws:username}", "reports%2f", ""} {
		s.want(t, s.k.NewCall(s.daemon, path).Sign(t), 400, api.CodeBadRequest)
	}

	few := s.k.Party(t)
	s.k.Grant(t, s.owner, few, "few", func(r *api.GrantCreateRequest) { r.MaxUses = 2 })
	for range 2 {
		s.want(t, s.k.NewCall(few, "few").Sign(t), 200, "ok")
	}
	s.want(t, s.k.NewCall(few, "few").Sign(t), 403, api.CodeGrantExhausted)

	s.revoke(t)
	s.want(t, s.signed(t, ""), 403, api.CodeGrantRevoked)

	brief := s.k.Party(t)
	s.k.Grant(t, s.owner, brief, "brief", func(r *api.GrantCreateRequest) { r.ExpiresAt = s.now().Add(10 * time.Second).Unix() })
	s.want(t, s.k.NewCall(brief, "brief").Sign(t), 200, "ok")
	s.pass(t, 10*time.Second)
	s.want(t, s.k.NewCall(brief, "brief").Sign(t), 403, api.CodeGrantExpired)

	mine := s.k.Grant(t, stranger, stranger, "own") // an owner may grant to their own wallet
	if got := s.want(t, s.k.NewCall(stranger, "own").Sign(t), 200, "ok"); got.creds.Wallet != mine.Wallet {
		t.Errorf("the tenant is %s, want %s", got.creds.Wallet, mine.Wallet)
	}
}

func (s *stage) revoke(t *testing.T) {
	t.Helper()
	var answer api.GrantRevokeResponse
	if status, problem := s.k.Send(t, "POST", api.PathGrantRevoke, s.owner.Session.SessionJWT, api.GrantRevokeRequest{GrantID: s.grant.GrantID}, &answer); problem != nil {
		t.Fatalf("revoking: %d %+v", status, problem)
	}
}

func playRetries(t *testing.T, s *stage) {
	c := s.signed(t, rand.Text())
	first := s.want(t, c, 200, "ok")
	for range 3 {
		again := s.want(t, c, 200, "ok")
		if !bytes.Equal(again.body, first.body) || again.header.Get("X-Idempotency") != "hit" {
			t.Errorf("the retry got %s %q, want the first answer and hit", again.creds.AccessKeyID, again.header.Get("X-Idempotency"))
		}
	}
	other := s.call(c.IdempotencyKey)
	s.want(t, other.Sign(t), 422, api.CodeIdempotencyKeyReused)
	other = s.call(c.IdempotencyKey)
	other.RequestID, other.Intent.ScopePath = c.RequestID, "reports"
	s.want(t, other.Sign(t), 422, api.CodeIdempotencyKeyReused)

	replay := *c
	replay.IdempotencyKey = ""
	s.want(t, &replay, 401, api.CodeCallReplayed)
	replay.IdempotencyKey = rand.Text()
	s.want(t, &replay, 401, api.CodeCallReplayed)

	again, session := s.daemon, s.k.Party(t) // signs in anew: another session of the same account
	var err error
	if again.Session, err = s.k.Client.SignIn(t.Context(), s.daemon.Wallet, 1); err != nil {
		t.Fatal(err)
	}
	replay.Session = again.Session.SessionJWT
	s.want(t, &replay, 401, api.CodeCallReplayed)
	replay.IdempotencyKey = c.IdempotencyKey
	s.want(t, &replay, 200, "ok")
	replay.Session = session.Session.SessionJWT
	s.want(t, &replay, 403, api.CodeWalletMismatch)

	plain := s.signed(t, "")
	s.want(t, plain, 200, "ok")
	s.want(t, plain, 401, api.CodeCallReplayed)
	plain.IdempotencyKey = rand.Text() // a key comes too late
	s.want(t, plain, 401, api.CodeCallReplayed)
}

// held is a call that waits at STS.
type held struct {
	reply  chan reply
	failed chan error
	free   chan struct{}
}

// hold sends a call and returns once STS is asked.
func (w *world) hold(t *testing.T, c *agentkeystest.Call) held {
	t.Helper()
	h := held{make(chan reply, 1), make(chan error, 1), make(chan struct{})}
	asked := make(chan struct{})
	w.faultySTS(func(rw http.ResponseWriter, r *http.Request, next http.Handler) {
		close(asked)
		<-h.free
		next.ServeHTTP(rw, r.WithContext(context.WithoutCancel(r.Context())))
	})
	go func() {
		r, err := w.send(context.Background(), c)
		if err != nil {
			h.failed <- err
			return
		}
		h.reply <- r
	}()
	select {
	case <-asked:
	case r := <-h.reply:
		t.Fatalf("answered without STS: %d %s", r.status, r.code())
	}
	w.faultySTS(nil)
	return h
}

// end lets STS answer.
func (h held) end(t *testing.T, status int, code api.Code) {
	t.Helper()
	close(h.free)
	select {
	case r := <-h.reply:
		if r.status != status || r.code() != code {
			t.Errorf("the call that was held got %d %s, want %d %s", r.status, r.code(), status, code)
		}
	case err := <-h.failed:
		t.Errorf("the call that was held: %v", err)
	}
}

func playInProgress(t *testing.T, s *stage) {
	c := s.signed(t, rand.Text())
	h := s.hold(t, c)
	checkInvariant(t, s.world, "pending at STS")
	early := s.want(t, c, 409, api.CodeIdempotencyInProgress)
	if early.header.Get("Retry-After") == "" {
		t.Error("409 without Retry-After")
	}
	other := *c
	other.IdempotencyKey = rand.Text()
	s.want(t, &other, 401, api.CodeCallReplayed)
	other.IdempotencyKey = ""
	s.want(t, &other, 401, api.CodeCallReplayed)
	s.want(t, s.signed(t, c.IdempotencyKey), 422, api.CodeIdempotencyKeyReused)
	s.want(t, s.signed(t, ""), 200, "ok") // others are not held up
	h.end(t, 200, "ok")
	s.want(t, c, 200, "ok")
}

func playTwoCallers(t *testing.T, s *stage) {
	other := s.k.Party(t)
	s.k.Grant(t, s.owner, other, "reports")
	mine, theirs := s.signed(t, rand.Text()), s.k.NewCall(other, "reports/2026")
	theirs.IdempotencyKey, theirs.RequestID = mine.IdempotencyKey, mine.RequestID
	first := s.want(t, mine, 200, "ok")
	second := s.want(t, theirs.Sign(t), 200, "ok")
	if first.creds.AccessKeyID == second.creds.AccessKeyID || second.header.Get("X-Idempotency") != "miss" {
		t.Errorf("the second caller got %s %q", second.creds.AccessKeyID, second.header.Get("X-Idempotency"))
	}
	if again := s.want(t, theirs, 200, "ok"); again.creds.AccessKeyID != second.creds.AccessKeyID {
		t.Errorf("the second caller's retry got %s, want %s", again.creds.AccessKeyID, second.creds.AccessKeyID)
	}
}

// A signature is by the wallet and names no account: a call that was signed in one
// account may not be made once more in another of the same wallet.
func playTwoAccounts(t *testing.T, s *stage) {
	linked, _, err := s.k.Sessions.Issue(token.Subject{IdentityType: "email", IdentityValue: "d@example.com",
		OmniAccount: strings.Repeat("ab", 32), Wallet: strings.ToLower(s.daemon.Address())}, s.now())
	if err != nil {
		t.Fatal(err)
	}
	c := s.signed(t, rand.Text())
	s.want(t, c, 200, "ok")
	c.Session = linked.Reveal()
	s.want(t, c, 422, api.CodeIdempotencyKeyReused) // not the other account's answer
	c.IdempotencyKey = rand.Text()
	s.want(t, c, 401, api.CodeCallReplayed)
	c.IdempotencyKey = ""
	s.want(t, c, 401, api.CodeCallReplayed)
}

func playWindow(t *testing.T, s *stage) {
	c := s.call(rand.Text())
	c.IssuedAt = api.Timestamp{Time: s.now().Add(2 * time.Minute)} // so that it is fresh for as long as it can be
	first := s.want(t, c.Sign(t), 200, "ok")
	if n := s.sealed(t, c.RequestID); n == 0 {
		t.Error("no answer is kept")
	}
	s.pass(t, 5*time.Minute-time.Second)
	if again := s.want(t, c, 200, "ok"); again.creds.AccessKeyID != first.creds.AccessKeyID {
		t.Errorf("within the window the retry got %s, want %s", again.creds.AccessKeyID, first.creds.AccessKeyID)
	}
	s.clock.Move(time.Second) // and nothing is settled yet
	s.want(t, c, 401, api.CodeCallExpired)
	s.want(t, s.signed(t, c.IdempotencyKey), 200, "ok") // the key is as good as new
	s.settle(t)
	if n := s.sealed(t, c.RequestID); n != 0 {
		t.Errorf("after the window %d bytes of the answer are kept", n)
	}
	s.want(t, c, 422, api.CodeIdempotencyKeyReused) // of the second call
	c.IdempotencyKey = ""
	s.want(t, c, 401, api.CodeCallExpired)
	s.pass(t, 10*time.Minute) // by now the call is forgotten
	s.want(t, c, 401, api.CodeCallExpired)
	if n := s.count(t, "SELECT count(*) FROM mints"); n != 0 {
		t.Errorf("%d calls are remembered for ever", n)
	}
}

// sealed is how many bytes of an answer are kept.
func (w *world) sealed(t *testing.T, requestID string) int {
	t.Helper()
	return w.count(t, "SELECT COALESCE(max(length(answer)), 0) FROM mints WHERE request_id = $1", requestID)
}

func (w *world) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	err := w.view(t.Context(), func(tx *sql.Tx) error { return tx.QueryRow(query, args...).Scan(&n) })
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func playRevoked(t *testing.T, s *stage) {
	c := s.signed(t, rand.Text())
	s.want(t, c, 200, "ok")
	h := s.hold(t, s.signed(t, "")) // on its way when the grant is revoked
	s.revoke(t)
	s.want(t, c, 403, api.CodeGrantRevoked)
	s.want(t, s.signed(t, ""), 403, api.CodeGrantRevoked)
	h.end(t, 200, "ok")

	brief := s.k.Party(t)
	s.k.Grant(t, s.owner, brief, "brief", func(r *api.GrantCreateRequest) { r.ExpiresAt, r.MaxUses = s.now().Add(10*time.Second).Unix(), 1 })
	c = s.k.NewCall(brief, "brief")
	c.IdempotencyKey = rand.Text()
	s.want(t, c.Sign(t), 200, "ok")
	s.want(t, c, 200, "ok") // its own use does not make it exhausted
	s.pass(t, 10*time.Second)
	s.want(t, c, 403, api.CodeGrantExpired)

	s.broker.GrantOptional = true
	own := s.k.NewCall(s.k.Party(t), "own")
	own.IdempotencyKey = rand.Text()
	s.want(t, own.Sign(t), 200, "ok")
	s.want(t, own, 200, "ok")
	s.broker.GrantOptional = false // the migration is over
	s.want(t, own, 403, api.CodeGrantRequired)
}

func playKeptRefusal(t *testing.T, s *stage) {
	late := s.k.Party(t)
	c := s.k.NewCall(late, "late")
	c.IdempotencyKey = rand.Text()
	first := s.want(t, c.Sign(t), 403, api.CodeGrantRequired)
	if got := first.header.Get("X-Idempotency"); got != "miss" {
		t.Errorf("the first answer, a refusal: X-Idempotency %q, want miss", got)
	}
	s.k.Grant(t, s.owner, late, "late")
	again := s.want(t, c, 403, api.CodeGrantRequired)
	if again.header.Get("X-Idempotency") != "hit" || again.problem.Detail != first.problem.Detail {
		t.Errorf("the retry got %q %+v", again.header.Get("X-Idempotency"), again.problem)
	}
	c.IdempotencyKey = ""
	s.want(t, c, 401, api.CodeCallReplayed)
	s.want(t, s.k.NewCall(late, "late").Sign(t), 200, "ok")
}
