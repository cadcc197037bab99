// Package broker is the HTTP server of AgentKeys: sign-in, the OIDC issuer that
// AWS reads, minting of web identity tokens and of AWS credentials, grants, and the
// audit log.
//
// It keeps the invariant that no token and no credential leaves before its record is
// durable, and that the tenant in it is the verified identity of the session, or the
// owner of the grant that is used, and nothing that the request says. It bounds how
// often it mints and what a caller can make it record, not how often it is asked. It
// does not terminate TLS, and it trusts the host it runs on: who can read the key
// files can mint.
package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/grant"
	"agentkeys/identity"
	"agentkeys/store"
	"agentkeys/token"
)

// Config is what a broker is made of. Every member is required but AWS, Anchors,
// AnchorsFollow, AuditRetention, Auditors, GrantOptional, JWKSMaxAge, LookAtHeads and
// TrustedProxies.
type Config struct {
	Issuer         string
	Store          *store.Store
	Sessions       *token.Sessions
	OIDCKeys       *token.Keyring
	Wallet         *auth.Wallet
	Mint           Mint
	TagKey         string // of the session tag and claim in what Mint makes, as discovery advertises it
	Sealer         *token.Sealer
	GrantProofs    *token.GrantProofs
	GrantMaxLife   time.Duration       // the longest life of a grant
	GrantOptional  bool                // a wallet may mint for its own prefix without a grant: for a migration
	CallSkew       time.Duration       // how far issued_at of a call may be from now, either way
	Budgets        Budgets             // of mints, and of all else that leaves a record
	AWS            *AWS                // nil where the broker gives no AWS credentials
	Audit          *audit.Log          // signs the heads of the audit log
	Anchors        []Anchor            // beside the database
	AnchorsFollow  bool                // answers leave when the database has their records; without it, when every anchor has them
	AuditRetention time.Duration       // how old a record may be before its operator is told; 0 for ever
	Pseudonym      func(string) string // of an e-mail address, in records (token.AuditKey)
	JWKSMaxAge     time.Duration       // how long clients may keep the JWKS
	TrustedProxies []netip.Prefix      // whose X-Forwarded-For is believed
	Auditors       []identity.Identity // who may read all of the audit log
	Now            func() time.Time
	Log            *slog.Logger

	// Heads keeps the signed heads that the broker saw of its own log, outside of the
	// database. It is as the Publish of an Anchor, and no answer waits for it.
	Heads func(context.Context, audit.Checkpoint) error
	// LookAtHeads is as the Look of an Anchor.
	LookAtHeads func(context.Context) error
}

// Mint makes a web identity token for a tenant: token.WebIdentities.Mint, but
// in a demonstration of what happens when it goes wrong.
type Mint func(tag string, now time.Time) (token.Secret, token.WebIdentity, error)

// Broker serves the API. It is safe for concurrent use.
type Broker struct {
	Config
	clock     clock
	recording recording
	budgets   budgets
	grants    grant.Known
	refusals  *refusals
	started   time.Time
	metrics   *metrics
	discovery document
	jwks      document
	handler   http.Handler
	log       *sequence
	followers []*follower // of the file of heads, then of the anchors

	transact  func(context.Context, func(*sql.Tx) error) error // Store.Update, but in tests of what follows its faults
	place     func(context.Context, func(*sql.Tx) error) error // the same, for what gives records their places
	anchorFor time.Duration                                    // anchorTimeout, but in tests
}

// New makes a broker that is ready to serve, and that Run keeps going. It reads how
// far the audit log came, and refuses one that does not hold together.
func New(c Config) (*Broker, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := keeping(c)
	if err != nil {
		return nil, fmt.Errorf("making the broker: %w", err)
	}
	b.metrics = newMetrics(c.Store)
	b.metrics.follow(b)
	b.metrics.age(b)
	b.budgets = newBudgets(c.Budgets)
	b.refusals = newRefusals(b.metrics.registry)
	b.discovery = discoveryDocument(c.Issuer, c.TagKey)
	b.jwks = document{body: c.OIDCKeys.JWKS(), etag: etag(c.OIDCKeys.JWKS())}
	b.handler = b.routes()
	return b, nil
}

func (c Config) check() error {
	u, err := url.Parse(c.Issuer)
	switch {
	case err != nil || u.Host == "":
		return fmt.Errorf("making the broker: want an issuer URL, got %q", c.Issuer)
	case c.Sessions == nil, c.OIDCKeys == nil, c.Wallet == nil, c.Mint == nil:
		return errors.New("making the broker: sessions, OIDC keys, wallet sign-in and mint are all required")
	case c.TagKey == "":
		return errors.New("making the broker: want the key of the session tag that Mint puts into tokens, got none")
	case c.AuditRetention < 0:
		return fmt.Errorf("making the broker: want a retention of audit records, or none, got %v", c.AuditRetention)
	case c.Pseudonym == nil:
		return errors.New("making the broker: pseudonyms are required: no record has an e-mail address in clear")
	case c.Sealer == nil, c.GrantProofs == nil:
		return errors.New("making the broker: a sealer and grant proofs are required")
	case c.GrantMaxLife <= 0:
		return fmt.Errorf("making the broker: want a longest life of grants, got %v", c.GrantMaxLife)
	case c.CallSkew <= 0 || c.CallSkew > maxCallSkew:
		return fmt.Errorf("making the broker: want a skew of calls of at most %v, got %v", maxCallSkew, c.CallSkew)
	}
	if err := c.checkKeeping(); err != nil {
		return fmt.Errorf("making the broker: %w", err)
	}
	for _, id := range c.Auditors {
		if err := id.Check(); err != nil {
			return fmt.Errorf("making the broker: auditors: %w", err)
		}
	}
	if c.AWS != nil {
		if err := c.AWS.check(); err != nil {
			return err
		}
	}
	return c.Budgets.check()
}

// ServeHTTP serves the public API.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.handler.ServeHTTP(w, r) }

// Registry holds the broker's metrics.
func (b *Broker) Registry() *prometheus.Registry { return b.metrics.registry }

// Limits of one request. The largest honest body is a signature with its
// request id, well under a kilobyte.
const (
	maxBody        = 16 << 10
	maxHeader      = 16 << 10
	bodyTimeout    = 5 * time.Second  // for a body to arrive
	writeTimeout   = 10 * time.Second // for the database to take a record
	anchorTimeout  = 5 * time.Second  // for the other anchors to take it
	stsTimeout     = 10 * time.Second // for AWS to answer
	requestTimeout = bodyTimeout + 2*(writeTimeout+anchorTimeout) + stsTimeout

	// pendingTime is when a mint without an outcome is settled; by then whoever
	// works on it has given up.
	pendingTime = requestTimeout + 15*time.Second
)

// Server returns an http.Server for a handler of the broker with the limits
// that keep a slow or greedy client from holding it up.
func Server(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      requestTimeout + 10*time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeader,

		DisableGeneralOptionsHandler: true, // OPTIONS * is answered like any path that is not there
		ErrorLog:                     slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}
