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
	"text/template"
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
	devFile   = "dev.json"
	devFormat = 1
	devBucket = "agentkeys-dev"
)

type devOptions struct{ dir, broker, aws string }

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
	return cmd
}

func (p *program) runDev(ctx context.Context, o devOptions) (err error) {
	if set := config.Set(p.environ); len(set) > 0 {
		return usage(hint{fmt.Errorf("%s is set: dev does not start over the configuration of a real broker", strings.Join(set, ", ")),
			"unset BROKER_* for dev, or run agentkeys serve"})
	}
	for flag, addr := range map[string]string{"--broker": o.broker, "--aws": o.aws} {
		if err := checkLoopback(flag, addr); err != nil {
			return usage(err)
		}
	}
	public, err := listen(o.broker)
	if err != nil {
		return err
	}
	aws, err := listen(o.aws)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	state, made, err := openDev(ctx, o.dir, "http://"+public.Addr().String())
	if err != nil {
		return errors.Join(err, public.Close(), aws.Close())
	}
	return p.serveDev(ctx, o.dir, state, made, public, aws)
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
func (p *program) serveDev(ctx context.Context, dir string, state devState, made bool, public, awsListener net.Listener) (err error) {
	log := newLog(p.stderr, "text", "info")
	c := localConfig(dir, state.Issuer)
	keys, err := loadKeys(c)
	if err != nil {
		return errors.Join(err, public.Close(), awsListener.Close())
	}
	db, err := store.Open(ctx, filepath.Join(dir, databaseFile))
	if err != nil {
		return errors.Join(err, public.Close(), awsListener.Close())
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := checkClock(ctx, db, time.Now()); err != nil {
		return errors.Join(hint{err, "set the clock, or start over in another folder"}, public.Close(), awsListener.Close())
	}
	parts, _, err := assemble(c, keys, db, log)
	if err != nil {
		return errors.Join(err, public.Close(), awsListener.Close())
	}
	b, err := broker.New(parts)
	if err != nil {
		return errors.Join(err, public.Close(), awsListener.Close())
	}
	a, err := startAWS(awsListener, awsConfig(dir, log))
	if err != nil {
		return errors.Join(err, public.Close(), awsListener.Close())
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	if err := p.printDev(dir, state, made, a); err != nil {
		return errors.Join(err, public.Close())
	}
	err = serveAll(ctx, []server{{public, broker.Server(b, log)}}, 5*time.Second)
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

// createDev makes everything in a folder beside the wanted one and renames it,
// so that a start that fails leaves no half of a state.
func createDev(ctx context.Context, dir, issuer string) (_ devState, err error) {
	parent, name := filepath.Split(filepath.Clean(dir))
	work, err := os.MkdirTemp(filepath.Clean(parent), name+".new-")
	if err != nil {
		return devState{}, fmt.Errorf("making the folder of the state: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }() // gone already when the rename worked
	if err := createLocal(ctx, work); err != nil {
		return devState{}, err
	}
	state := devState{Format: devFormat, Issuer: issuer, Bucket: devBucket, Wallets: map[string]string{}}
	for _, name := range []string{"alice", "bob"} {
		w, err := client.NewWallet()
		if err != nil {
			return devState{}, err
		}
		if err := client.WriteWalletFile(filepath.Join(work, name+".key"), w); err != nil {
			return devState{}, err
		}
		state.Wallets[name] = w.Address()
	}
	if err := setUpDev(ctx, work, state); err != nil {
		return devState{}, err
	}
	data, err := json.MarshalIndent(state, "", "  ")
	if err != nil {
		return devState{}, err
	}
	if err := os.WriteFile(filepath.Join(work, devFile), append(data, '\n'), 0o600); err != nil {
		return devState{}, fmt.Errorf("writing the state: %w", err)
	}
	if err := os.Rename(work, filepath.Clean(dir)); err != nil {
		return devState{}, fmt.Errorf("putting the state in its place: %w", err)
	}
	return state, nil
}

// setUpDev puts provider, role, bucket and policies into the new account, over
// the wire as an operator would.
func setUpDev(ctx context.Context, dir string, state devState) (err error) {
	l, err := listen("127.0.0.1:0")
	if err != nil {
		return err
	}
	a, err := startAWS(l, awsConfig(dir, slog.New(slog.DiscardHandler)))
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer func() { err = errors.Join(err, a.stop()) }()
	c := localFederation(state.Issuer, state.Bucket)
	documents, err := federation.Render(c, federation.Hardened)
	if err != nil {
		return err
	}
	return federation.SetUp(ctx, a.admin(), c, documents, nil)
}

var devText = template.Must(template.New("dev").Parse(`
  ********************************************************************
  *  LOCAL DEVELOPMENT ONLY: keys in a folder, no TLS, loopback only  *
  *  A green result here proves the local AWS, not AWS.              *
  ********************************************************************

  broker     {{.Issuer}}
  local AWS  {{.AWS}}   account {{.Account}}, region {{.Region}}
  state      {{.Dir}} ({{if .Made}}made now{{else}}found as it was left{{end}})
  bucket     {{.Bucket}}, role {{.Role}}, policies in the hardened form
  tenants    alice {{.Alice}}
             bob   {{.Bob}}

What to paste next, in another terminal:

  export AWS_EC2_METADATA_DISABLED=true AWS_PAGER= AWS_REGION={{.Region}}
  TOKEN=$({{.Program}} mint --broker {{.Issuer}} --wallet {{.Dir}}/alice.key)
  eval "$(aws --endpoint-url {{.AWS}} sts assume-role-with-web-identity \
      --role-arn arn:aws:iam::{{.Account}}:role/{{.Role}} --role-session-name alice \
      --web-identity-token "$TOKEN" --output text \
      --query 'Credentials.[AccessKeyId,SecretAccessKey,SessionToken]' |
      awk '{print "export AWS_ACCESS_KEY_ID="$1, "AWS_SECRET_ACCESS_KEY="$2, "AWS_SESSION_TOKEN="$3}')"
  echo hello | aws --endpoint-url {{.AWS}} s3 cp - s3://{{.Bucket}}/{{.Prefix}}/{{.AliceTag}}/hello.txt
  aws --endpoint-url {{.AWS}} s3 ls s3://{{.Bucket}}/{{.Prefix}}/{{.AliceTag}}/   # her own: listed
  aws --endpoint-url {{.AWS}} s3 ls s3://{{.Bucket}}/{{.Prefix}}/{{.BobTag}}/   # bob's: AccessDenied

The administrator of the local account, to change what you like:

  AWS_ACCESS_KEY_ID={{.AdminID}} AWS_SECRET_ACCESS_KEY={{.AdminSecret}}

Ctrl-C stops both servers.

`))

func (p *program) printDev(dir string, state devState, made bool, a *localAWS) error {
	id, secret := a.AdminCredentials()
	program, err := os.Executable()
	if err != nil {
		program = "agentkeys"
	}
	return devText.Execute(p.stdout, map[string]any{
		"Issuer": state.Issuer, "AWS": a.url, "Account": localAccount, "Region": localRegion, "Dir": dir, "Made": made,
		"Bucket": state.Bucket, "Role": localRole, "Prefix": localPrefix, "Program": program,
		"Alice": state.Wallets["alice"], "AliceTag": strings.ToLower(state.Wallets["alice"]),
		"Bob": state.Wallets["bob"], "BobTag": strings.ToLower(state.Wallets["bob"]),
		"AdminID": id, "AdminSecret": secret,
	})
}
