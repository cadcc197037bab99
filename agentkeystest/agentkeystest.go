// Package agentkeystest is the test kit: a whole broker on a loopback port with
// a real database, beside it a local AWS (package localaws) where a test wants one,
// and a clock that tests set. Nothing of ours in it is a fake but the clock.
package agentkeystest

import (
	"bytes"
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/broker"
	"agentkeys/client"
	"agentkeys/store"
	"agentkeys/token"
)

// Broker is a running broker.
type Broker struct {
	Issuer     string
	Client     *client.Client
	Clock      *Clock
	Store      *store.Store
	Broker     *broker.Broker
	Sessions   *token.Sessions
	Identities *token.WebIdentities // for tokens that the broker itself never mints
	SessionKey *token.Key
	OIDCKey    *token.Key
	AuditKey   *token.AuditKey
	Audit      *audit.Log
	HeadsFile  string // the path
	Log        *Log
	HTTP       *http.Client // to the broker, past its own client
	busy       busy
	run        sync.Once // starts Broker.Run
	stop       func()    // ends it; set by run
	stopping   sync.Once
}

// New starts a broker that ends with the test. Each change sees the broker's
// configuration before it is built.
func New(t testing.TB, changes ...func(*broker.Config)) *Broker {
	t.Helper()
	return NewAt(t, filepath.Join(t.TempDir(), "agentkeys.db"), changes...)
}

// NewAt is New with a new database at path, for tests that reach into it.
func NewAt(t testing.TB, path string, changes ...func(*broker.Config)) *Broker {
	t.Helper()
	check(t, store.Create(context.Background(), path))
	db, err := store.Open(context.Background(), path)
	check(t, err)
	t.Cleanup(func() { _ = db.Close() }) // a test may have closed it to see what follows
	return Over(t, Parts{Store: db, OIDCKey: newKey(t, token.PurposeOIDC), SessionKey: newKey(t, token.PurposeSession)}, changes...)
}

// Parts are what a broker that is started again finds.
type Parts struct {
	Store      *store.Store
	OIDCKey    *token.Key
	SessionKey *token.Key
	AuditKey   *token.AuditKey // nil for a new one, over a database that has no head yet
	HeadsFile  string          // "" for a new one
	Listener   net.Listener    // nil for one of its own
	Issuer     string          // "" for the URL of the listener; HTTP and Client find the broker of another there too
}

// Over is New over parts that there are already.
func Over(t testing.TB, p Parts, changes ...func(*broker.Config)) *Broker {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	if p.Listener != nil {
		check(t, server.Listener.Close())
		server.Listener = p.Listener
	}
	issuer := cmp.Or(p.Issuer, "http://"+server.Listener.Addr().String())
	k := &Broker{Issuer: issuer, Store: p.Store, Clock: &Clock{now: time.Now().Truncate(time.Millisecond)}, Log: &Log{}}

	k.OIDCKey, k.SessionKey = p.OIDCKey, p.SessionKey
	oidc, session := newRing(t, k.OIDCKey), newRing(t, k.SessionKey)
	var err error
	k.Sessions, err = token.NewSessions(issuer, session, 5*time.Hour)
	check(t, err)
	k.Identities, err = token.NewWebIdentities(token.WebIdentityConfig{
		Issuer: issuer, Audience: "sts.amazonaws.com", Keys: oidc, TTL: 5 * time.Minute, TagKey: token.TagKey})
	check(t, err)
	wallet, err := auth.NewWallet(auth.WalletConfig{Issuer: issuer, ChainIDs: []int64{1}, TTL: 45 * time.Minute, Statement: "Sign in to AgentKeys."})
	check(t, err)

	sealer, err := token.NewSealer(session)
	check(t, err)
	proofs, err := token.NewGrantProofs(issuer, session)
	check(t, err)

	heads := k.auditLog(t, p)
	c := broker.Config{
		Audit: k.Audit, Heads: heads.Publish,
		Sealer: sealer, GrantProofs: proofs, GrantMaxLife: 90 * 24 * time.Hour, CallSkew: 2 * time.Minute,
		Budgets: broker.Budgets{PerAccount: 600, PerGrant: 600, PerNetwork: 6000},
		Issuer:  issuer, Store: k.Store, Sessions: k.Sessions, OIDCKeys: oidc, Wallet: wallet, Mint: k.Identities.Mint, TagKey: token.TagKey,
		Pseudonym: k.AuditKey.Pseudonym, JWKSMaxAge: 5 * time.Minute, Now: k.Clock.Now, Log: slog.New(slog.NewJSONHandler(k.Log, nil)),
	}
	for _, change := range changes {
		change(&c)
	}
	k.Broker, err = broker.New(c)
	check(t, err)
	server.Config = broker.Server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.run.Do(k.start)
		k.Broker.ServeHTTP(w, r)
	}), c.Log)
	server.Config.ConnState = k.busy.note
	server.Start()
	t.Cleanup(k.Stop)
	t.Cleanup(server.Close)
	k.HTTP = server.Client()
	if p.Issuer != "" {
		k.HTTP.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
		}
	}
	k.Client, err = client.New(issuer, k.HTTP, client.WithClock(k.Clock.Now))
	check(t, err)
	return k
}

// Quiet returns once the broker has ended every request, those of clients who hung
// up among them. No request may be sent meanwhile.
func (k *Broker) Quiet(t testing.TB) {
	t.Helper()
	k.HTTP.CloseIdleConnections()
	// Connections are accepted in order: once this one is, all before it are known.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.Issuer+api.PathHealth, nil)
	check(t, err)
	req.Close = true
	resp, err := k.HTTP.Do(req)
	check(t, err)
	check(t, resp.Body.Close())
	k.busy.wait()
}

// busy knows the connections that a request is on, or that may yet bring one.
type busy struct {
	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	idle  chan struct{} // closed when there are none; nil while nobody waits
}

func (b *busy) note(c net.Conn, s http.ConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conns == nil {
		b.conns = map[net.Conn]bool{}
	}
	if s == http.StateNew || s == http.StateActive {
		b.conns[c] = true
		return
	}
	delete(b.conns, c)
	if len(b.conns) == 0 && b.idle != nil {
		close(b.idle)
		b.idle = nil
	}
}

func (b *busy) wait() {
	b.mu.Lock()
	idle := make(chan struct{})
	if len(b.conns) == 0 {
		close(idle)
	} else {
		b.idle = idle
	}
	b.mu.Unlock()
	<-idle
}

// SignIn signs a new wallet in.
func (k *Broker) SignIn(t testing.TB) (*client.Wallet, api.Session) {
	t.Helper()
	w, err := client.NewWallet()
	check(t, err)
	session, err := k.Client.SignIn(t.Context(), w, 1)
	check(t, err)
	return w, session
}

func newKey(t testing.TB, purpose token.Purpose) *token.Key {
	t.Helper()
	key, err := token.GenerateKey(purpose)
	check(t, err)
	return key
}

func newRing(t testing.TB, key *token.Key) *token.Keyring {
	t.Helper()
	ring, err := token.NewKeyring(key)
	check(t, err)
	return ring
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

// Now returns the time that the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Move sets the clock forward, or back where d is negative.
func (c *Clock) Move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Log keeps what the broker logged.
type Log struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write takes a line of the log.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String returns all that was logged.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
