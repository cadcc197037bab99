package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/broker"
	"agentkeys/config"
	"agentkeys/store"
	"agentkeys/token"
)

func (p *program) serve() *cobra.Command {
	var acceptClock bool
	var variables strings.Builder
	_ = config.PrintText(&variables) // a strings.Builder takes every write
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker, configured by BROKER_* variables",
		Long: `Runs the broker. It is configured by the environment alone, refuses BROKER_* variables that it does
not know, and never makes a key or a database: see "agentkeys keygen" and "agentkeys init".

SIGTERM, SIGINT or SIGHUP ends it in order: running requests may end, for BROKER_SHUTDOWN_SECONDS at
most. What comes within a second after the first signal says the same; a later one ends it at once.

` + variables.String(),
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(p.environ)
			if err != nil {
				return usage(hint{err, `"agentkeys serve --help" lists the variables`})
			}
			return p.runServe(cmd.Context(), c, acceptClock)
		},
	}
	cmd.Flags().BoolVar(&acceptClock, "accept-clock", false, "start although the newest record lies in the future")
	return cmd
}

func (p *program) runServe(ctx context.Context, c config.Config, acceptClock bool) (err error) {
	log := newLog(p.stderr, c.LogFormat, c.LogLevel)
	if !slices.ContainsFunc(p.environ, func(e string) bool { return strings.HasPrefix(e, "GOGC=") }) {
		// The broker keeps little in memory and leaves much behind with each mint,
		// so collecting half as often saves a fifth of its CPU for 4 MiB.
		debug.SetGCPercent(200)
	}
	keys, err := loadKeys(c)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, filepath.Join(c.DataDir, databaseFile), beforeUpgrade(c))
	if err != nil {
		return databaseHint(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if !acceptClock {
		if err := checkClock(ctx, db, time.Now()); err != nil {
			return hint{err, "set the clock; if the newest record's time is the wrong one, start once with --accept-clock"}
		}
	}
	b, files, err := openBroker(ctx, c, keys, db, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	defer background(ctx, b.Run)()
	public, err := listen(c.Bind, "BROKER_BIND")
	if err != nil {
		return err
	}
	defer public.Close() // closed already once it was served
	servers := []server{{public, broker.Server(b, log)}}
	if c.AdminBind != "" {
		admin, err := listen(c.AdminBind, "BROKER_ADMIN_BIND")
		if err != nil {
			return err
		}
		servers = append(servers, server{admin, broker.Server(b.Admin(), log)})
	}
	logAWS(log, c)
	if err := b.Start(ctx, startOf(keys, p.environ)); err != nil {
		return err
	}
	log.Info("serving", "issuer", c.Issuer, "bind", public.Addr().String(), "version", version(),
		"oidc_key", keys.oidc[0].ID(), "session_key", keys.session[0].ID(), "audit_key", keys.audit.ID())
	err = errors.Join(serveAll(ctx, servers, c.ShutdownGrace), b.Stop(ctx))
	log.Info("stopped")
	return err
}

// openBroker makes the broker over a database with the files of its audit log, which
// are the caller's to close once it has stopped.
func openBroker(ctx context.Context, c config.Config, keys keySet, db *store.Store, log *slog.Logger) (*broker.Broker, *auditFiles, error) {
	parts, _, err := assemble(c, keys, db, log)
	if err != nil {
		return nil, nil, err
	}
	files, err := openAuditFiles(c)
	if err != nil {
		return nil, nil, err
	}
	b, err := takeOver(ctx, parts, files)
	if err != nil {
		return nil, nil, errors.Join(err, files.close())
	}
	return b, files, nil
}

// takeOver holds the audit log against what was seen of it, makes the broker and
// settles what an earlier process left undecided, before anybody can ask for it.
func takeOver(ctx context.Context, parts broker.Config, files *auditFiles) (*broker.Broker, error) {
	if err := checkAudit(ctx, parts.Store, parts.Audit, files); err != nil {
		return nil, err
	}
	files.into(&parts)
	b, err := broker.New(parts)
	if err != nil {
		return nil, err
	}
	if err := b.SettleAll(ctx); err != nil {
		return nil, fmt.Errorf("settling what an earlier start left undecided: %w", err)
	}
	return b, nil
}

// databaseHint adds what to do, where the error does not say it itself. It never
// advises to make a new database in the place of one that is there.
func databaseHint(err error) error {
	var known hint
	switch {
	case errors.As(err, &known):
		return err
	case errors.Is(err, store.ErrInUse):
		return hint{err, "stop the other broker first; one database has one"}
	case errors.Is(err, fs.ErrNotExist):
		return hint{err, `"agentkeys init --data-dir DIR" makes a new database`}
	}
	return err
}

// keySet holds the loaded keys of all purposes; the first of each list signs.
type keySet struct {
	oidc, session []*token.Key
	audit         *token.AuditKey
	certificates  []*token.Certificate
}

func loadKeys(c config.Config) (keySet, error) {
	var k keySet
	var err error
	if k.oidc, err = loadPurpose(token.PurposeOIDC, c.OIDCKeyFile, c.OIDCExtraKeys); err != nil {
		return k, err
	}
	if k.session, err = loadPurpose(token.PurposeSession, c.SessionKeyFile, c.SessionExtraKeys); err != nil {
		return k, err
	}
	if k.audit, err = token.LoadAuditKeyFile(c.AuditKeyFile); err != nil {
		return k, err
	}
	for _, path := range c.OIDCCertificates {
		certificate, err := token.LoadCertificateFile(path)
		if err != nil {
			return k, err
		}
		k.certificates = append(k.certificates, certificate)
	}
	return k, nil
}

func loadPurpose(purpose token.Purpose, signing string, extra []string) ([]*token.Key, error) {
	var keys []*token.Key
	for _, path := range append([]string{signing}, extra...) {
		key, err := token.LoadKeyFile(path, purpose)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// background runs a function until the function that is returned is called, which
// waits for its end. That ctx ends is not enough: requests may be under way that need
// what runs.
func background(ctx context.Context, run func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

// assemble builds the parts of a broker from its configuration. It gives the
// maker of web identity tokens too, since the demo needs tokens that no broker
// mints.
func assemble(c config.Config, keys keySet, db *store.Store, log *slog.Logger) (broker.Config, *token.WebIdentities, error) {
	fail := func(err error) (broker.Config, *token.WebIdentities, error) { return broker.Config{}, nil, err }
	oidc, err := token.NewKeyring(keys.oidc[0], keys.oidc[1:]...)
	if err != nil {
		return fail(err)
	}
	if len(keys.certificates) > 0 {
		if oidc, err = certified(oidc, keys.certificates, log); err != nil {
			return fail(err)
		}
	}
	session, err := token.NewKeyring(keys.session[0], keys.session[1:]...)
	if err != nil {
		return fail(err)
	}
	if err := token.Disjoint(oidc, session); err != nil {
		return fail(err)
	}
	sessions, err := token.NewSessions(c.Issuer, session, c.SessionTTL)
	if err != nil {
		return fail(err)
	}
	identities, err := token.NewWebIdentities(token.WebIdentityConfig{
		Issuer: c.Issuer, Audience: c.OIDCAudience, Keys: oidc, TTL: c.OIDCTokenTTL, TagKey: c.OIDCTagKey})
	if err != nil {
		return fail(err)
	}
	wallet, err := auth.NewWallet(auth.WalletConfig{
		Issuer: c.Issuer, ChainIDs: c.WalletChainIDs, TTL: auth.DefaultWalletTTL, Statement: "Sign in to AgentKeys."})
	if err != nil {
		return fail(err)
	}
	sealer, err := token.NewSealer(session)
	if err != nil {
		return fail(err)
	}
	proofs, err := token.NewGrantProofs(c.Issuer, session)
	if err != nil {
		return fail(err)
	}
	records, err := auditLog(c, keys.audit)
	if err != nil {
		return fail(err)
	}
	aws, err := awsPart(c, identities, log)
	if err != nil {
		return fail(err)
	}
	if !c.RequireGrant {
		log.Warn("a wallet may mint AWS credentials for its own prefix without a grant, since BROKER_REQUIRE_EXPLICIT_GRANT is false")
	}
	return broker.Config{
		Sealer: sealer, GrantProofs: proofs, GrantMaxLife: c.GrantMax, GrantOptional: !c.RequireGrant, CallSkew: c.CallSkew,
		Budgets: broker.Budgets(c.Mints), AWS: aws, Audit: records, AnchorsFollow: c.AuditPolicy == config.SQLitePrimary,
		Issuer: c.Issuer, Store: db, Sessions: sessions, OIDCKeys: oidc, Wallet: wallet, Mint: identities.Mint, TagKey: c.OIDCTagKey,
		Pseudonym: keys.audit.Pseudonym, AuditRetention: c.AuditRetention, JWKSMaxAge: c.JWKSMaxAge, TrustedProxies: c.TrustedProxies, Auditors: auditors(c.Auditors), Now: time.Now, Log: log,
	}, identities, nil
}

// certificateNotice is how long before its end a certificate is warned of. One that
// has ended keeps the broker from starting again.
const certificateNotice = 30 * 24 * time.Hour

// certified puts the certificates into the JWKS.
func certified(oidc *token.Keyring, certificates []*token.Certificate, log *slog.Logger) (*token.Keyring, error) {
	now := time.Now()
	for _, c := range certificates {
		if end := c.ExpiresAt(); end.After(now) && end.Before(now.Add(certificateNotice)) {
			log.Warn("a certificate ends soon", "key", c.KeyID(), "until", end.Format(time.RFC3339))
		}
	}
	oidc, err := oidc.WithCertificates(now, certificates...)
	if err != nil {
		return nil, hint{err, "correct BROKER_OIDC_CERTIFICATE_FILES; \"agentkeys certificate\" makes a certificate for a key"}
	}
	return oidc, nil
}

// checkClock refuses a clock that lies before the newest record.
func checkClock(ctx context.Context, db *store.Store, now time.Time) error {
	var newest []audit.Entry
	err := db.View(ctx, func(tx *sql.Tx) (err error) {
		newest, err = audit.Find(ctx, tx, audit.Query{Limit: 1})
		return err
	})
	if err != nil || len(newest) == 0 {
		return err
	}
	if last := newest[0].Time; now.Add(broker.ClockLeeway).Before(last) {
		return fmt.Errorf("the clock says %s, but the newest record is of %s",
			now.UTC().Format(time.RFC3339), last.UTC().Format(time.RFC3339))
	}
	return nil
}

// server is a listener and what answers on it.
type server struct {
	net.Listener
	*http.Server
}

// listen listens on an address that a flag or a variable gave, "" for one that needs
// no name.
func listen(addr, from string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	switch {
	case err == nil:
		return l, nil
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hint{fmt.Errorf("listening on %s: %w", addr, errors.Unwrap(err)), "another process holds the port; name another one with " + from}
	case errors.Is(err, syscall.EACCES):
		return nil, hint{fmt.Errorf("listening on %s: %w", addr, errors.Unwrap(err)), "ports below 1024 need root; name a higher one with " + from}
	}
	return nil, fmt.Errorf("listening on %s: %w", addr, errors.Unwrap(err))
}

// serveAll serves until ctx ends or a server fails, then lets running requests
// end within the grace period.
func serveAll(ctx context.Context, servers []server, grace time.Duration) error {
	failed := make(chan error, len(servers))
	for _, s := range servers {
		go func() { failed <- s.Serve(s.Listener) }() // ended by Shutdown or Close below
	}
	var err error
	running := len(servers)
	select {
	case <-ctx.Done():
	case err = <-failed:
		running--
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(stop) != nil { // somebody is still at it after the grace; that is no fault of ours
			err = errors.Join(err, s.Server.Close())
		}
	}
	for range running {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func newLog(w io.Writer, format, level string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // the configuration admits known levels only
	options := &slog.HandlerOptions{Level: l}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
