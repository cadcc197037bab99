package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// proveOptions are the flags of federation prove.
type proveOptions struct {
	federationOptions
	target, stsEndpoint, s3Endpoint string
	other                           bool
	publicBucket                    string

	broker  string
	wallets []string
	chainID int64
	tokens  []string

	oidcKey, controlToken string
	seed                  bool

	format, out, json, html string

	repeat      time.Duration
	metricsBind string
	outDir      string
	keep        int
}

func (p *program) federationProve() *cobra.Command {
	var o proveOptions
	cmd := &cobra.Command{
		Use:   "prove",
		Short: "Prove the isolation with real requests, once or again and again",
		Long: `Exchanges the tokens of two tenants at STS and tries, in both directions, what must be allowed and
what must be refused. What it writes lies under names of its own and is deleted again; nothing else
is changed.

The tenants come in one of two ways. With two --wallet files, on a machine that reaches both the
broker and AWS, each run signs them in and mints fresh tokens. With two --token files, minted
elsewhere by "agentkeys mint --out", the machine that makes the proof needs neither the broker nor a
wallet; who each token is for stands in it. Files are read again for each run.

Without the issuer's key (--oidc-key) or a token that it signed without the tag (--control-token)
nobody knows whether the role would take a token without the tag: the report says that this control
was not taken, and the verdict is INCONCLUSIVE at best. With --seed the AWS credentials of the
environment, an administrator's, lay objects under the tenants' prefixes and beside them; without it
the tenants lay their own, and what is beside them stays untried.

As JSON the report has AWS's ids of the calls that made its sessions, by which "agentkeys audit
reconcile --proof" tells them from anybody else's.

The report names its target. A loopback endpoint is local, whatever --target-name calls it: only a
run against AWS proves AWS.

With --repeat it proves at once and then at every interval, each time with new sessions, until it is
told to end. Reports go to --out-dir as JSON and HTML, the oldest beyond --keep are deleted, and a
line for each run goes to the log on standard error. --metrics-bind serves, among others,
agentkeys_isolation_last_proven_timestamp_seconds, which only PROVEN moves on. A run that fails is
INCONCLUSIVE, and the next one is made all the same.

Exit status: 0 PROVEN, 1 BROKEN, 3 INCONCLUSIVE or nothing could be observed, 2 wrong use. With
--repeat it is that of the last run that ended, so a service manager should take 1 and 3 for an
orderly end as well.`,
		Example: `  agentkeys federation prove --config federation.json --endpoint-url http://127.0.0.1:4566 \
      --wallet alice.key --wallet bob.key --oidc-key oidc.jwk
  agentkeys federation prove --config federation.json --token alice=alice.jwt --token bob=bob.jwt --html proof.html
  agentkeys federation prove --config federation.json --wallet a.key --wallet b.key --oidc-key oidc.jwk --seed \
      --repeat 1h --metrics-bind 127.0.0.1:9102 --out-dir /var/lib/agentkeys/proofs`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := p.runProve(cmd, &o)
			var s status
			if err != nil && !errors.As(err, &s) {
				return status{exitInconclusive, err} // 1 would say BROKEN, and nothing was observed
			}
			return err
		},
	}
	o.bind(cmd)
	o.bindEndpoint(cmd)
	o.bindProve(cmd)
	return cmd
}

func (o *proveOptions) bindProve(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&o.stsEndpoint, "sts-endpoint-url", "", "`URL` of STS, where it is not --endpoint-url's")
	flags.StringVar(&o.s3Endpoint, "s3-endpoint-url", "", "`URL` of S3, where it is not --endpoint-url's")
	flags.StringVar(&o.target, "target-name", "", "`NAME` of the target in the report; its kind unless set")
	flags.BoolVar(&o.other, "other-server", false, "the target is neither AWS nor a local AWS, but Ceph's RADOS gateway, say")
	flags.StringVar(&o.publicBucket, "public-bucket", "",
		"what callers without a signature call the bucket, where that is not its name (TENANT:BUCKET at a RADOS gateway)")
	flags.StringVar(&o.broker, "broker", "", "`URL` of the broker to sign in at; the issuer unless set")
	flags.StringArrayVar(&o.wallets, "wallet", nil, "[NAME=]`FILE` of a tenant's wallet key; twice")
	flags.Int64Var(&o.chainID, "chain-id", 1, "EIP-155 chain id to sign in for")
	flags.StringArrayVar(&o.tokens, "token", nil, "`NAME=FILE` with a tenant's web identity token, instead of wallets; twice")
	flags.StringVar(&o.oidcKey, "oidc-key", "", "`FILE` of the issuer's key, to sign the control token without the tag")
	flags.StringVar(&o.controlToken, "control-token", "", "`FILE` with a control token that was made elsewhere")
	flags.BoolVar(&o.seed, "seed", false, "lay objects with the AWS credentials of the environment")
	flags.StringVar(&o.format, "format", "text", "`FORMAT` of the report: text, json or html")
	flags.StringVar(&o.out, "out", "", "new `FILE` for the report instead of standard output")
	flags.StringVar(&o.json, "json", "", "new `FILE` for the report as JSON, besides")
	flags.StringVar(&o.html, "html", "", "new `FILE` for the report as one self-contained page, besides")
	flags.DurationVar(&o.repeat, "repeat", 0, "prove again at every `INTERVAL`, such as 1h")
	flags.StringVar(&o.metricsBind, "metrics-bind", "", "`ADDR` to serve Prometheus metrics at, with --repeat")
	flags.StringVar(&o.outDir, "out-dir", "", "`DIR` that is there, for the reports of --repeat")
	flags.IntVar(&o.keep, "keep", 168, "how many runs' reports to keep in --out-dir")
}

func (p *program) runProve(cmd *cobra.Command, o *proveOptions) error {
	if err := o.check(cmd); err != nil {
		return usage(hint{err, `see "agentkeys federation prove --help"`})
	}
	c, err := o.load(cmd, p.environ)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	prepared, err := o.prepare(ctx, c)
	if err != nil {
		return err
	}
	if o.repeat > 0 {
		return p.proveAgain(ctx, o, prepared)
	}
	proof, err := prepared.proof()
	if err != nil {
		return usage(err)
	}
	if o.format == "text" && o.out == "" {
		fmt.Fprintln(p.stderr, "… signing two tenants in and trying what each of them reaches")
	}
	report, err := federation.Prove(ctx, proof)
	if err != nil {
		return err
	}
	if err := p.writeReports(o, report); err != nil {
		return err // a verdict that nobody could read is none
	}
	return status{code: report.Verdict.ExitStatus()}.orNil()
}

// check holds the flags against each other.
func (o *proveOptions) check(cmd *cobra.Command) error {
	if err := o.checkEndpoints(); err != nil {
		return err
	}
	set := cmd.Flags().Changed
	switch {
	case len(o.wallets) == 0 && len(o.tokens) == 0:
		return errors.New("the tenants are missing: want --wallet twice or --token twice")
	case len(o.wallets) > 0 && len(o.tokens) > 0:
		return errors.New("want the tenants by --wallet or by --token, got both")
	case len(o.wallets)+len(o.tokens) != 2:
		return fmt.Errorf("want two tenants, got %d", len(o.wallets)+len(o.tokens))
	case len(o.tokens) > 0 && (set("broker") || set("chain-id")):
		return errors.New("--broker and --chain-id are for --wallet: tokens that are there already need no broker")
	case o.oidcKey != "" && o.controlToken != "":
		return errors.New("want the control by --oidc-key or by --control-token, got both")
	}
	if !set("repeat") {
		for _, flag := range []string{"metrics-bind", "out-dir", "keep"} {
			if set(flag) {
				return fmt.Errorf("--%s is for --repeat", flag)
			}
		}
		return o.checkOutput()
	}
	for _, flag := range []string{"format", "out", "json", "html"} {
		if set(flag) {
			return fmt.Errorf("--%s is for one run: with --repeat the reports go to --out-dir", flag)
		}
	}
	switch {
	case o.repeat < time.Second:
		return fmt.Errorf("--repeat: want at least 1s, got %v", o.repeat)
	case set("keep") && o.outDir == "":
		return errors.New("--keep is for --out-dir")
	case o.keep < 1:
		return fmt.Errorf("--keep: want at least 1, got %d", o.keep)
	}
	return nil
}

func (o *proveOptions) checkEndpoints() error {
	for _, e := range []struct{ flag, url string }{{"sts-endpoint-url", o.stsEndpoint}, {"s3-endpoint-url", o.s3Endpoint}} {
		if u, err := url.Parse(e.url); e.url != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			return fmt.Errorf("--%s: want a URL with http or https, got %q", e.flag, e.url)
		}
	}
	return nil
}

// checkOutput refuses files before the proof is made that could not be written
// after it.
func (o *proveOptions) checkOutput() error {
	if _, known := reportWriters(false)[o.format]; !known {
		return fmt.Errorf("--format: want text, json or html, got %q", o.format)
	}
	seen := map[string]string{}
	for _, f := range []struct{ flag, path string }{{"out", o.out}, {"json", o.json}, {"html", o.html}} {
		if f.path == "" {
			continue
		}
		if err := checkNew(f.flag, f.path); err != nil {
			return err
		}
		if other := seen[filepath.Clean(f.path)]; other != "" {
			return fmt.Errorf("--%s and --%s: want two files, got %s for both", other, f.flag, f.path)
		}
		seen[filepath.Clean(f.path)] = f.flag
	}
	return nil
}

// reportWriters are the forms of a report.
func reportWriters(colour bool) map[string]func(*federation.Report, io.Writer) error {
	return map[string]func(*federation.Report, io.Writer) error{
		"text": func(r *federation.Report, w io.Writer) error { return r.WriteText(w, colour) },
		"json": (*federation.Report).WriteJSON,
		"html": (*federation.Report).WriteHTML,
	}
}

// writeReports writes the report wherever it was asked for, files first.
func (p *program) writeReports(o *proveOptions, r *federation.Report) error {
	writers := reportWriters(p.colour() && o.out == "")
	var errs []error
	for _, f := range []struct{ format, path string }{{o.format, o.out}, {"json", o.json}, {"html", o.html}} {
		if f.path == "" {
			continue
		}
		write := func(w io.Writer) error { return writers[f.format](r, w) }
		errs = append(errs, reportFile{f.path, write}.save())
	}
	if o.out == "" {
		if err := writers[o.format](r, p.stdout); err != nil {
			errs = append(errs, fmt.Errorf("printing the report: %w", err))
		}
	}
	return errors.Join(errs...)
}

// preparedProof is a proof but for what is read anew for each run.
type preparedProof struct {
	config  federation.Config
	target  federation.Target
	tenants func() ([2]federation.Tenant, error)
	control controlSource // nil for none
	seeder  *s3.Client
}

// prepare reads the files that do not change from run to run and makes the
// clients.
func (o *proveOptions) prepare(ctx context.Context, c federation.Config) (*preparedProof, error) {
	sdk, err := o.sdkConfig(ctx, c)
	if err != nil {
		return nil, err
	}
	prepared := &preparedProof{config: c, target: o.targetOf(sdk)}
	if prepared.tenants, err = o.tenantsOf(c); err != nil {
		return nil, usage(err)
	}
	if prepared.control, err = o.controlOf(c); err != nil {
		return nil, usage(err)
	}
	if o.seed {
		if _, err := sdk.Credentials.Retrieve(ctx); err != nil {
			return nil, hint{fmt.Errorf("--seed: finding an administrator's AWS credentials: %w", err),
				"set AWS_PROFILE or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or leave --seed out"}
		}
		prepared.seeder = s3.NewFromConfig(sdk, func(s *s3.Options) {
			s.BaseEndpoint, s.UsePathStyle = nil, prepared.target.S3 != ""
			if prepared.target.S3 != "" {
				s.BaseEndpoint = aws.String(prepared.target.S3)
			}
		})
	}
	return prepared, nil
}

// targetOf is where the requests go: the endpoints of the flags, or else those that
// the AWS configuration of the environment names, as the AWS CLI has it.
func (o *proveOptions) targetOf(sdk aws.Config) federation.Target {
	pick := func(flag string, configured *string) string {
		if flag != "" {
			return flag
		}
		if o.endpoint != "" {
			return o.endpoint
		}
		return aws.ToString(configured)
	}
	return federation.Target{
		Name: o.target, Other: o.other, PublicBucket: o.publicBucket,
		STS: pick(o.stsEndpoint, sts.NewFromConfig(sdk).Options().BaseEndpoint),
		S3:  pick(o.s3Endpoint, s3.NewFromConfig(sdk).Options().BaseEndpoint),
	}
}

// proof is the proof of one run.
func (p *preparedProof) proof() (federation.Proof, error) {
	tenants, err := p.tenants()
	if err != nil {
		return federation.Proof{}, err
	}
	proof := federation.Proof{Config: p.config, Target: p.target, Tenants: tenants, Seeder: p.seeder}
	if p.control != nil {
		if proof.Control, err = p.control(tenants[0]); err != nil {
			return federation.Proof{}, err
		}
	}
	return proof, proof.Validate()
}
