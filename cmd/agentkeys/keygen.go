package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"agentkeys/anchor"
	"agentkeys/client"
	"agentkeys/store"
	"agentkeys/token"
)

// The purposes of key files beside those of package token's JWKs for tokens.
const (
	purposeAudit  = string(token.PurposeAudit)
	purposeWallet = "wallet"
)

type keygenFlags struct{ purpose, out, show, issuer string }

func (p *program) keygen() *cobra.Command {
	var o keygenFlags
	cmd := &cobra.Command{
		Use:   "keygen --purpose oidc|session|audit|wallet (--out FILE | --show FILE [--issuer URL])",
		Short: "Make a key file, mode 0600, never over an existing one",
		Long: `Makes a new key and writes it to a file of mode 0600, and prints its id, or the address of a wallet.
An existing file is never touched; --show prints the id or the address of one.

  oidc     signs the web identity tokens that AWS takes; its public part is published as the JWKS
  session  signs the session tokens that this broker alone takes
  audit    signs the heads of the audit log. With --issuer, --show prints the verifier key of that
           broker's log, which checks them: keep it where the broker's host cannot change it
  wallet   an Ethereum key for an agent that signs in (a line of hexadecimal digits)`,
		Example: `  agentkeys keygen --purpose oidc --out oidc.jwk
  agentkeys keygen --purpose audit --show audit.jwk --issuer https://broker.example.com
  agentkeys keygen --purpose wallet --show bob.key`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if err := o.check(); err != nil {
				return usage(hint{err, `see "agentkeys keygen --help"`})
			}
			if o.show != "" {
				return p.showKey(o)
			}
			return p.makeKey(o)
		},
	}
	cmd.Flags().StringVar(&o.purpose, "purpose", "", "what the key is for: oidc, session, audit or wallet")
	cmd.Flags().StringVar(&o.out, "out", "", "`FILE` to write")
	cmd.Flags().StringVar(&o.show, "show", "", "`FILE` that is there, to print the id of its key or the address of its wallet")
	cmd.Flags().StringVar(&o.issuer, "issuer", "", "with --show and an audit key: `URL` of the broker whose log's verifier key to print")
	return cmd
}

func (o keygenFlags) check() error {
	switch {
	case o.show != "" && o.out != "":
		return errors.New("--out and --show: want one of them")
	case o.show == "" && o.out == "":
		return errors.New("--out is missing: it names the file to write")
	case !slices.Contains([]string{string(token.PurposeOIDC), string(token.PurposeSession), purposeAudit, purposeWallet}, o.purpose):
		return fmt.Errorf("--purpose: want oidc, session, audit or wallet, got %q", o.purpose)
	case o.issuer != "" && (o.show == "" || o.purpose != purposeAudit):
		return errors.New("--issuer: want it with --purpose audit --show FILE alone")
	}
	return nil
}

// showKey prints what is public of a key: its id, the verifier key of a log, or the
// address of a wallet.
func (p *program) showKey(o keygenFlags) error {
	public, err := publicPart(o)
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, public)
	return nil
}

func publicPart(o keygenFlags) (string, error) {
	switch o.purpose {
	case purposeWallet:
		w, err := readWallet(o.show)
		if err != nil {
			return "", err
		}
		return w.Address(), nil
	case purposeAudit:
		key, err := token.LoadAuditKeyFile(o.show)
		if err != nil {
			return "", err
		}
		if o.issuer == "" {
			return key.ID(), nil
		}
		return verifierKey(key, o.issuer)
	}
	key, err := token.LoadKeyFile(o.show, token.Purpose(o.purpose))
	if err != nil {
		return "", err
	}
	return key.ID(), nil
}

// verifierKey is the public half of the key for the log of an issuer.
func verifierKey(key *token.AuditKey, issuer string) (string, error) {
	origin, err := token.AuditOrigin(issuer)
	if err != nil {
		return "", usage(err)
	}
	return key.Verifier(origin)
}

func (p *program) makeKey(o keygenFlags) error {
	switch o.purpose {
	case purposeWallet:
		return p.keygenWallet(o.out)
	case purposeAudit:
		return p.keygenAudit(o.out)
	}
	return p.keygenToken(token.Purpose(o.purpose), o.out)
}

func (p *program) keygenAudit(out string) error {
	key, err := token.GenerateAuditKey()
	if err != nil {
		return err
	}
	if err := token.WriteAuditKeyFile(out, key); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "wrote %s: %s\n", out, key.ID())
	return nil
}

func (p *program) keygenToken(purpose token.Purpose, out string) error {
	key, err := token.GenerateKey(purpose)
	if err != nil {
		return err
	}
	if err := token.WriteKeyFile(out, key); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "wrote %s: %s\n", out, key.ID())
	return nil
}

func (p *program) keygenWallet(out string) error {
	w, err := client.NewWallet()
	if err != nil {
		return err
	}
	if err := client.WriteWalletFile(out, w); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "wrote %s: %s\n", out, w.Address())
	return nil
}

// databaseFile is the name of the database inside the data folder.
const databaseFile = "agentkeys.db"

type initFlags struct{ dir, heads, anchor, checkpoints string }

func (p *program) init() *cobra.Command {
	var o initFlags
	cmd := &cobra.Command{
		Use:   "init --data-dir DIR [--heads-file FILE] [--anchor-file FILE] [--checkpoints-file FILE]",
		Short: "Make the data folder, its database and the files of the audit log, which serve never does",
		Long: `Makes what agentkeys serve wants to find, and never anything over what is there already.

  --data-dir          the data folder with its database (BROKER_DATA_DIR), and its file of heads
  --heads-file        the file of heads in another place (BROKER_AUDIT_HEADS_FILE)
  --anchor-file       a second file for the audit records (BROKER_AUDIT_ANCHOR_FILE)
  --checkpoints-file  a second file for the heads of the audit log (BROKER_AUDIT_CHECKPOINTS_FILE)

The files are best on another disk than the database, and out of reach of who can write to that.

Each of the files can be made alone, for a broker that has its database.`,
		Example: "  agentkeys init --data-dir /var/lib/agentkeys --anchor-file /mnt/audit/anchor.jsonl",
		Args:    usageArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.runInit(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.dir, "data-dir", "", "folder to make the database in")
	cmd.Flags().StringVar(&o.heads, "heads-file", "", "file to make for the heads of the audit log; heads in the data folder when that is made")
	cmd.Flags().StringVar(&o.anchor, "anchor-file", "", "file to make for a second copy of the audit records")
	cmd.Flags().StringVar(&o.checkpoints, "checkpoints-file", "", "file to make for a second copy of the heads")
	return cmd
}

func (p *program) runInit(ctx context.Context, o initFlags) error {
	if o == (initFlags{}) {
		return usage(hint{errors.New("--data-dir is missing: it names the folder to make"), `see "agentkeys init --help"`})
	}
	if o.dir != "" {
		if err := p.initData(ctx, o.dir); err != nil {
			return err
		}
		o.heads = cmp.Or(o.heads, filepath.Join(o.dir, headsFile))
	}
	for _, f := range []struct {
		path   string
		create func(string) error
	}{{o.heads, anchor.CreateCheckpoints}, {o.anchor, anchor.CreateFile}, {o.checkpoints, anchor.CreateCheckpoints}} {
		if f.path == "" {
			continue
		}
		if err := f.create(f.path); err != nil {
			return err
		}
		fmt.Fprintf(p.stdout, "made %s\n", f.path)
	}
	return nil
}

func (p *program) initData(ctx context.Context, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("making the data folder: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("making the data folder: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o022 != 0 {
		return hint{fmt.Errorf("making the data folder: %s: want a folder that its owner alone can write, got mode %#o", dir, perm), "chmod 700 " + dir}
	}
	path := filepath.Join(dir, databaseFile)
	if err := store.Create(ctx, path); err != nil {
		if _, missing := os.Lstat(path); missing == nil {
			return hint{err, "it is never made over; without --data-dir, init makes the files of the audit log alone, for a broker that has its database"}
		}
		return err
	}
	fmt.Fprintf(p.stdout, "made %s\n", path)
	return nil
}
