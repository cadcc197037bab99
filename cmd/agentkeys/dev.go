package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/broker"
	"agentkeys/client"
	"agentkeys/config"
	"agentkeys/federation"
	"agentkeys/store"
)

// devState marks a folder as one that dev made, and holds what must not change
// from one start to the next.
type devState struct {
	Format  int               `json:"format"`
	Issuer  string            `json:"issuer"`
	Bucket  string            `json:"bucket"`
	Wallets map[string]string `json:"wallets"` // name to address
}

const (
	devFile = "dev.json"
	// federationFile is the configuration for agentkeys federation.
	federationFile = "federation.json"

	devFormat = 1
	devBucket = "agentkeys-dev"
)

type devOptions struct{ dir, broker, aws, trail string }

func (p *program) dev() *cobra.Command {
	var o devOptions
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run the broker and a local AWS on loopback, with their state in a folder",
		Long: `Runs the broker and a local AWS that enforces IAM, both on loopback, and keeps their state in a folder.
The first start makes keys, a database, an account with the OIDC provider, the role, the bucket and the policies in
their hardened form, and two wallets to play with. Later starts find all that as it was left.

For development alone: the keys lie in the folder, and there is no TLS.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runDev(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.dir, "dir", "./.agentkeys", "folder of the state; made when it is not there")
	cmd.Flags().StringVar(&o.broker, "broker", "127.0.0.1:8091", "loopback address and port of the broker")
	cmd.Flags().StringVar(&o.aws, "aws", "127.0.0.1:4566", "loopback address and port of the local AWS")
	cmd.Flags().StringVar(&o.trail, "cloudtrail", "", "folder for the local AWS to write log files to as CloudTrail does; none unless set")
	return cmd
}

func (p *program) runDev(ctx context.Context, o devOptions) (err error) {
	if set := config.Set(p.environ); len(set) > 0 {
		return usage(hint{fmt.Errorf("%s is set: dev does not start over the configuration of a real broker", strings.Join(set, ", ")),
			"unset BROKER_* for dev, or run agentkeys serve"})
	}
	if err := errors.Join(checkLoopback("--broker", o.broker), checkLoopback("--aws", o.aws)); err != nil {
		return usage(err)
	}
	if o.dir == "" {
		return usage(errors.New(`--dir: want a folder, got ""`))
	}
	// What is printed to be pasted must work in any folder.
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return fmt.Errorf("finding the folder of the state: %w", err)
	}
	public, err := listen(o.broker, "--broker")
	if err != nil {
		return err
	}
	defer public.Close() // closed already once it was served
	aws, err := listen(o.aws, "--aws")
	if err != nil {
		return err
	}
	defer aws.Close()
	state, made, err := openDev(ctx, dir, "http://"+public.Addr().String())
	if err != nil {
		return err
	}
	if o.trail != "" {
		if o.trail, err = filepath.Abs(o.trail); err != nil {
			return fmt.Errorf("finding the folder of the CloudTrail: %w", err)
		}
	}
	return p.serveDev(ctx, dir, o.trail, state, made, public, aws)
}

func checkLoopback(flag, addr string) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return fmt.Errorf("%s: want a loopback address and a port such as 127.0.0.1:8091, got %q", flag, addr)
	}
	if !ap.Addr().IsLoopback() {
		return fmt.Errorf("%s: want a loopback address, got %s", flag, ap.Addr())
	}
	return nil
}

// serveDev runs both servers over a folder until ctx ends.
func (p *program) serveDev(ctx context.Context, dir, trail string, state devState, made bool, public, awsListener net.Listener) (err error) {
	log := newLog(p.stderr, "text", "info")
	c := localConfig(dir, state.Issuer)
	mintLocally(&c, state.Bucket, "http://"+awsListener.Addr().String())
	keys, err := loadKeys(c)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, filepath.Join(dir, databaseFile), beforeUpgrade(c))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkClock(ctx, db, time.Now()); err != nil {
		return hint{err, "set the clock, or start over in another folder"}
	}
	b, files, err := openBroker(ctx, c, keys, db, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	defer background(ctx, b.Run)()
	local := awsConfig(dir, log)
	local.CloudTrail = trail
	a, err := openAWS(awsListener.Addr(), local)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	defer background(ctx, func(ctx context.Context) { a.deliverTrail(ctx, log) })()
	if err := p.printDev(dir, state, made, a); err != nil {
		return err
	}
	if err := b.Start(ctx, startOf(keys, p.environ)); err != nil {
		return err
	}
	err = errors.Join(serveAll(ctx, []server{{public, broker.Server(b, log)}, {awsListener, a.http}}, 5*time.Second), b.Stop(ctx))
	fmt.Fprintf(p.stdout, "\nStopped. The state is in %s; start again to go on with it.\n", dir)
	return err
}

// openDev finds the state of an earlier start or makes a new one. It reports
// whether it made it.
func openDev(ctx context.Context, dir, issuer string) (devState, bool, error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		state, err := createDev(ctx, dir, issuer)
		return state, true, err
	case err != nil:
		return devState{}, false, fmt.Errorf("opening the folder of the state: %w", err)
	}
	state, err := readDev(filepath.Join(dir, devFile))
	if errors.Is(err, fs.ErrNotExist) {
		return devState{}, false, hint{fmt.Errorf("%s holds files but no %s: dev did not make it and does not start over it", dir, devFile),
			"name another folder with --dir"}
	}
	if err == nil && state.Issuer != issuer {
		err = hint{fmt.Errorf("%s was made for the issuer %s, this start would be %s", dir, state.Issuer, issuer),
			"start with the same --broker, or name another folder with --dir"}
	}
	return state, false, err
}

func readDev(path string) (devState, error) {
	var state devState
	data, err := os.ReadFile(path)
	if err != nil {
		return state, fmt.Errorf("reading the state: %w", err)
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return state, fmt.Errorf("reading %s: %w", path, err)
	}
	if state.Format != devFormat {
		return state, fmt.Errorf("reading %s: want format %d, got %d", path, devFormat, state.Format)
	}
	return state, nil
}

// createDev makes everything in a folder inside the wanted one and moves it up,
// the mark of a whole state last, so that a start that fails leaves no half of a
// state behind.
func createDev(ctx context.Context, dir, issuer string) (_ devState, err error) {
	made := os.Mkdir(dir, 0o700)
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return devState{}, fmt.Errorf("making the folder of the state: %w", made)
	}
	defer func() {
		if err != nil && made == nil {
			err = errors.Join(err, os.Remove(dir))
		}
	}()
	work, err := os.MkdirTemp(dir, ".new-")
	if err != nil {
		return devState{}, fmt.Errorf("making the folder of the state: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	state, err := fillDev(ctx, work, issuer)
	if err != nil {
		return devState{}, err
	}
	entries, err := os.ReadDir(work)
	if err != nil {
		return devState{}, fmt.Errorf("putting the state in its place: %w", err)
	}
	names := []string{}
	for _, e := range entries {
		if e.Name() != devFile {
			names = append(names, e.Name())
		}
	}
	for _, name := range append(names, devFile) {
		if err := os.Rename(filepath.Join(work, name), filepath.Join(dir, name)); err != nil {
			return devState{}, fmt.Errorf("putting the state in its place: %w", err)
		}
	}
	return state, nil
}

// fillDev makes keys, database, account and wallets in an empty folder.
func fillDev(ctx context.Context, dir, issuer string) (devState, error) {
	state := devState{Format: devFormat, Issuer: issuer, Bucket: devBucket, Wallets: map[string]string{}}
	if err := createLocal(ctx, dir); err != nil {
		return state, err
	}
	for _, name := range []string{"alice", "bob"} {
		w, err := client.NewWallet()
		if err != nil {
			return state, err
		}
		if err := client.WriteWalletFile(filepath.Join(dir, name+".key"), w); err != nil {
			return state, err
		}
		state.Wallets[name] = w.Address()
	}
	if err := setUpDev(ctx, dir, state); err != nil {
		return state, err
	}
	c := localFederation(state.Issuer, state.Bucket)
	c.Administrators = []string{"arn:aws:iam::" + localAccount + ":user/admin"}
	for name, value := range map[string]any{devFile: state, federationFile: c} {
		data, err := json.MarshalIndent(value, "", "  ")
		if err != nil {
			return state, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o600); err != nil {
			return state, fmt.Errorf("writing the state: %w", err)
		}
	}
	return state, nil
}

// setUpDev puts provider, role, bucket and policies into the new account, over
// the wire as an operator would.
func setUpDev(ctx context.Context, dir string, state devState) (err error) {
	l, err := listen("127.0.0.1:0", "")
	if err != nil {
		return err
	}
	defer l.Close() // closed already once it was served
	a, err := startAWS(l, awsConfig(dir, slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	c := localFederation(state.Issuer, state.Bucket)
	documents, err := federation.Render(c, federation.Hardened)
	if err != nil {
		return err
	}
	return federation.SetUp(ctx, a.admin(), c, documents, nil)
}

const devText = `
  *********************************************************************
  *  LOCAL DEVELOPMENT ONLY: keys in a folder, no TLS, loopback only  *
  *  A green result here proves the local AWS, not AWS.               *
  *********************************************************************

  broker     {{Issuer}}
  local AWS  {{AWS}}   account {{Account}}, region {{Region}}
  state      {{Dir}} ({{Found}})
  bucket     {{Bucket}}, role {{Role}}, policies in the hardened form
  objects    s3://{{Bucket}}/{{Prefix}}/WALLET/PATH/, the wallet in lower case
  tenants    alice {{Alice}}
             bob   {{Bob}}

What to paste, in another terminal. First:

  AK={{Program}}
  STATE={{QuotedDir}}
  BROKER={{Issuer}}
  ALICE={{AliceTag}} BOB={{BobTag}}
  OBJECTS=s3://{{Bucket}}/{{Prefix}}
  export AWS_ENDPOINT_URL={{AWS}} AWS_EC2_METADATA_DISABLED=true AWS_PAGER=
  export AWS_REGION={{Region}} AWS_DEFAULT_REGION={{Region}}

Alice's own prefix is listed, bob's is AccessDenied. The slash at the end matters:

  TOKEN=$("$AK" mint --broker $BROKER --wallet "$STATE/alice.key")
  eval "$(aws sts assume-role-with-web-identity --role-session-name alice \
      --role-arn arn:aws:iam::{{Account}}:role/{{Role}} \
      --web-identity-token "$TOKEN" --output text \
      --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' |
      awk '{print "export AWS_ACCESS_KEY_ID="$1,
                  "AWS_SECRET_ACCESS_KEY="$2, "AWS_SESSION_TOKEN="$3}')"
  echo hello | aws s3 cp - $OBJECTS/$ALICE/hello.txt
  aws s3 ls $OBJECTS/$ALICE/
  aws s3 ls $OBJECTS/$BOB/

Alice lets bob's agent list, read and write her reports/ and nothing else, and takes it back. The
three lists are allowed, AccessDenied and, after that, grant_revoked:

  GRANT=$("$AK" grant create --broker $BROKER --wallet "$STATE/alice.key" --daemon $BOB \
      --path reports --actions list,get,put --expires 24h --uses 100)
  as_bob() {
    "$AK" creds --broker $BROKER --wallet "$STATE/bob.key" --path reports --grant $GRANT -- aws "$@"
  }
  echo hello | as_bob s3 cp - $OBJECTS/$ALICE/reports/hello.txt
  as_bob s3 ls $OBJECTS/$ALICE/reports/
  as_bob s3 ls $OBJECTS/$ALICE/
  "$AK" grant revoke --broker $BROKER --wallet "$STATE/alice.key" $GRANT
  as_bob s3 ls $OBJECTS/$ALICE/reports/

What the broker recorded of all this (-f goes on with what comes), and whether its log is whole:

  "$AK" audit tail --data-dir "$STATE"
  VERIFIER=$("$AK" keygen --purpose audit --show "$STATE/{{AuditKey}}" --issuer $BROKER)
  "$AK" audit verify --data-dir "$STATE" --key $VERIFIER

The administrator of the local account, to change what you like:

  unset AWS_SESSION_TOKEN; export \
  AWS_ACCESS_KEY_ID={{AdminID}} AWS_SECRET_ACCESS_KEY={{AdminSecret}}
{{Checks}}
Ctrl-C stops both servers.

`

// devChecks are in the text where the state has a configuration to check by.
const devChecks = `
With these in the environment, the ways in that are left, the proof of what is closed, and the end
of alice's sessions that are live:

  "$AK" federation check --config "$STATE/{{Federation}}" --endpoint-url $AWS_ENDPOINT_URL
  "$AK" federation prove --config "$STATE/{{Federation}}" --endpoint-url $AWS_ENDPOINT_URL \
      --wallet "$STATE/alice.key" --wallet "$STATE/bob.key" --oidc-key "$STATE/{{OIDCKey}}"
  "$AK" revoke --config "$STATE/{{Federation}}" --endpoint-url $AWS_ENDPOINT_URL \
      --tenant $ALICE --oidc-key "$STATE/{{OIDCKey}}"
`

// shellQuote makes one word of a path for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (p *program) printDev(dir string, state devState, made bool, a *localAWS) error {
	id, secret := a.AdminCredentials()
	program, err := os.Executable()
	if err != nil {
		program = "agentkeys"
	}
	found := "found as it was left"
	if made {
		found = "made now"
	}
	checks := ""
	if _, err := os.Stat(filepath.Join(dir, federationFile)); err == nil { // a state from before there was one lacks it
		checks = devChecks
	}
	text := strings.Replace(devText, "{{Checks}}", checks, 1)
	_, err = strings.NewReplacer(
		"{{Federation}}", federationFile, "{{OIDCKey}}", oidcKeyFile, "{{AuditKey}}", auditKeyFile,
		"{{Issuer}}", state.Issuer, "{{AWS}}", a.url, "{{Account}}", localAccount, "{{Region}}", localRegion,
		"{{Dir}}", dir, "{{QuotedDir}}", shellQuote(dir), "{{Found}}", found, "{{Program}}", shellQuote(program),
		"{{Bucket}}", state.Bucket, "{{Role}}", localRole, "{{Prefix}}", localPrefix,
		"{{Alice}}", state.Wallets["alice"], "{{AliceTag}}", strings.ToLower(state.Wallets["alice"]),
		"{{Bob}}", state.Wallets["bob"], "{{BobTag}}", strings.ToLower(state.Wallets["bob"]),
		"{{AdminID}}", id, "{{AdminSecret}}", secret,
	).WriteString(p.stdout, text)
	return err
}
