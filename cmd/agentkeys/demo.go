package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"agentkeys/broker"
	"agentkeys/client"
	"agentkeys/federation"
	"agentkeys/store"
	"agentkeys/token"
)

type demoOptions struct {
	faults   []string
	hardened bool
	json     bool
	html     string
}

func (p *program) demo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show the main job on this machine, and prove the isolation with real requests",
		Long: `Starts a broker and a local AWS on loopback ports and in a temporary folder, signs two wallets in, exchanges
their tokens at STS, and tries with real S3 requests what each tenant reaches of its own and of the other's prefix.

--break puts a fault back that makes such a set-up look green while nothing is enforced; it may be given more than once:

  tags-claim     the token lacks the claim https://aws.amazon.com/tags, so the session has no tag
  trust-policy   the trust policy tests the tag with StringNotEquals "", which a missing tag satisfies
  inline-policy  an old policy on the role grants reading of the whole bucket

With --break the documents are the plain ones, tag-scoped allows only, so that the faults show; --hardened keeps the
backstop denies and shows what they contain. Without --break the documents are always hardened.

Exit status: 0 PROVEN, 1 BROKEN, 3 INCONCLUSIVE, 2 wrong use.`,
		Example: `  agentkeys demo
  agentkeys demo --break tags-claim --break trust-policy --break inline-policy`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := p.runDemo(cmd.Context(), o)
			if err != nil {
				return err
			}
			return status{code: report.Verdict.ExitStatus()}.orNil()
		},
	}
	cmd.Flags().StringArrayVar(&o.faults, "break", nil, "`FAULT` to put back: tags-claim, trust-policy or inline-policy; repeatable")
	cmd.Flags().BoolVar(&o.hardened, "hardened", false, "keep the backstop denies although something is broken")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the report as JSON")
	cmd.Flags().StringVar(&o.html, "html", "", "new `FILE` for the report as one self-contained page")
	return cmd
}

// orNil is the error of an exit status: none for success.
func (s status) orNil() error {
	if s.code == exitOK {
		return nil
	}
	return s
}

func (p *program) runDemo(ctx context.Context, o demoOptions) (*federation.Report, error) {
	faults, err := parseFaults(o.faults)
	if err != nil {
		return nil, usage(hint{err, `see "agentkeys demo --help"`})
	}
	if o.html != "" {
		if err := checkNew("html", o.html); err != nil {
			return nil, usage(err)
		}
	}
	progress := p.stderr
	if o.json {
		progress = io.Discard
	}
	report, err := prove(ctx, faults, o.hardened, progress)
	if err != nil {
		return nil, status{exitInconclusive, err} // nothing was observed, so nothing is known
	}
	if o.json {
		err = report.WriteJSON(p.stdout)
	} else {
		err = report.WriteText(p.stdout, p.colour())
	}
	if err != nil { // a verdict that nobody could read is none
		return nil, status{exitInconclusive, fmt.Errorf("printing the report: %w", err)}
	}
	if o.html != "" {
		if err := (reportFile{o.html, report.WriteHTML}).save(); err != nil {
			return nil, status{exitInconclusive, err}
		}
	}
	return report, nil
}

func parseFaults(names []string) ([]federation.Fault, error) {
	var faults []federation.Fault
	for _, name := range names {
		fault, err := federation.ParseFault(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(faults, fault) {
			faults = append(faults, fault)
		}
	}
	return faults, nil
}

// colour says whether the output is a terminal that wants colour
// (https://no-color.org).
func (p *program) colour() bool {
	if slices.ContainsFunc(p.environ, func(e string) bool { return strings.HasPrefix(e, "NO_COLOR=") && e != "NO_COLOR=" }) {
		return false
	}
	f, ok := bare(p.stdout).(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// prove runs the whole story in a temporary folder and removes it again.
func prove(ctx context.Context, faults []federation.Fault, hardened bool, progress io.Writer) (_ *federation.Report, err error) {
	dir, err := os.MkdirTemp("", "agentkeys-demo-")
	if err != nil {
		return nil, fmt.Errorf("making a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	step := func(text string) { fmt.Fprintf(progress, "… %s\n", text) }

	step("making keys, a database and an AWS account")
	if err := createLocal(ctx, dir); err != nil {
		return nil, err
	}
	d, err := startDemo(ctx, dir, slices.Contains(faults, federation.FaultTagsClaim))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()

	step("registering the provider; making the role, the bucket and their policies")
	c := localFederation(d.issuer, "agentkeys-demo")
	inForce, err := d.setUp(ctx, c, faults, hardened)
	if err != nil {
		return nil, err
	}
	step("signing two wallets in")
	tenants, err := d.tenants(ctx)
	if err != nil {
		return nil, err
	}
	step("exchanging their tokens and trying what each of them reaches")
	return federation.Prove(ctx, federation.Proof{
		Config:  c,
		Target:  federation.Target{Name: "local AWS of agentkeys demo", Local: true, STS: d.aws.url, S3: d.aws.url},
		Tenants: tenants,
		Control: func(context.Context) (string, error) {
			jwt, _, err := d.identities.MintUntagged(tenants[0].Tag, time.Now())
			return jwt.Reveal(), err
		},
		Seeder:  d.aws.admin().S3,
		InForce: inForce,
	})
}

// demoServers are the two servers of one run.
type demoServers struct {
	issuer     string
	aws        *localAWS
	broker     *http.Server
	served     chan error
	db         *store.Store
	files      *auditFiles
	background func() // ends what the broker does beside answering
	identities *token.WebIdentities
}

// startDemo starts both servers on free ports. With untagged the broker mints
// tokens without the tags claim.
func startDemo(ctx context.Context, dir string, untagged bool) (_ *demoServers, err error) {
	public, err := listen("127.0.0.1:0", "")
	if err != nil {
		return nil, err
	}
	d := &demoServers{issuer: "http://" + public.Addr().String(), served: make(chan error, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, public.Close(), d.stop())
		}
	}()
	log := slog.New(slog.DiscardHandler)
	c := localConfig(dir, d.issuer)
	keys, err := loadKeys(c)
	if err != nil {
		return nil, err
	}
	if d.db, err = store.Open(ctx, filepath.Join(dir, databaseFile)); err != nil {
		return nil, err
	}
	parts, identities, err := assemble(c, keys, d.db, log)
	if err != nil {
		return nil, err
	}
	d.identities = identities
	if untagged {
		parts.Mint = identities.MintUntagged
	}
	if d.files, err = openAuditFiles(c); err != nil {
		return nil, err
	}
	b, err := takeOver(ctx, parts, d.files)
	if err != nil {
		return nil, err
	}
	d.background = background(ctx, b.Run)
	l, err := listen("127.0.0.1:0", "")
	if err != nil {
		return nil, err
	}
	if d.aws, err = startAWS(l, awsConfig(dir, log)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	d.serve(public, broker.Server(b, log))
	return d, nil
}

func (d *demoServers) serve(l net.Listener, s *http.Server) {
	d.broker = s
	go func() { d.served <- s.Serve(l) }() // ended by stop
}

// stop ends what was started.
func (d *demoServers) stop() error {
	var err error
	if d.broker != nil {
		err = d.broker.Close()
		if e := <-d.served; !errors.Is(e, http.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	if d.aws != nil {
		err = errors.Join(err, d.aws.stop())
	}
	if d.background != nil {
		d.background()
	}
	if d.files != nil {
		err = errors.Join(err, d.files.close())
	}
	if d.db != nil {
		err = errors.Join(err, d.db.Close())
	}
	return err
}

// setUp puts the documents in force, with the faults among them.
func (d *demoServers) setUp(ctx context.Context, c federation.Config, faults []federation.Fault, hardened bool) (*federation.InForce, error) {
	form := federation.Hardened
	if len(faults) > 0 && !hardened {
		form = federation.Plain
	}
	documents, err := federation.Render(c, form)
	if err != nil {
		return nil, err
	}
	documents, inline, err := federation.Break(c, documents, faults...)
	if err != nil {
		return nil, err
	}
	if err := federation.SetUp(ctx, d.aws.admin(), c, documents, inline); err != nil {
		return nil, err
	}
	return &federation.InForce{Documents: documents, Inline: inline}, nil
}

// tenants signs two new wallets in, over HTTP as any client does.
func (d *demoServers) tenants(ctx context.Context) ([2]federation.Tenant, error) {
	var tenants [2]federation.Tenant
	c, err := client.New(d.issuer, nil)
	if err != nil {
		return tenants, err
	}
	for i, name := range []string{"alice", "bob"} {
		w, err := client.NewWallet()
		if err != nil {
			return tenants, err
		}
		session, err := c.SignIn(ctx, w, 1)
		if err != nil {
			return tenants, fmt.Errorf("signing %s in: %w", name, err)
		}
		tenants[i] = federation.Tenant{Name: name, Tag: session.WalletAddress, Token: func(ctx context.Context) (string, error) {
			minted, err := c.MintOIDC(ctx, session.SessionJWT)
			return minted.JWT, err
		}}
	}
	return tenants, nil
}
