package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"agentkeys/anchor"
	"agentkeys/client"
	"agentkeys/store"
	"agentkeys/token"
)

func (p *program) keygen() *cobra.Command {
	var purpose, out string
	cmd := &cobra.Command{
		Use:   "keygen --purpose oidc|session|wallet --out FILE",
		Short: "Make a key file, mode 0600, never over an existing one",
		Long: `Makes a new key and writes it to a file of mode 0600. An existing file is never touched.

  oidc     signs the web identity tokens that AWS takes; its public part is published as the JWKS
  session  signs the session tokens that this broker alone takes
  wallet   an Ethereum key for an agent that signs in (a line of hexadecimal digits)`,
		Example: "  agentkeys keygen --purpose oidc --out oidc.jwk",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			if out == "" {
				return usage(hint{errors.New("--out is missing: it names the file to write"), `see "agentkeys keygen --help"`})
			}
			switch purpose {
			case string(token.PurposeOIDC), string(token.PurposeSession):
				return p.keygenToken(token.Purpose(purpose), out)
			case "wallet":
				return p.keygenWallet(out)
			}
			return usage(hint{fmt.Errorf("--purpose: want oidc, session or wallet, got %q", purpose), `see "agentkeys keygen --help"`})
		},
	}
	cmd.Flags().StringVar(&purpose, "purpose", "", "what the key is for: oidc, session or wallet")
	cmd.Flags().StringVar(&out, "out", "", "file to write")
	return cmd
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

func (p *program) init() *cobra.Command {
	var dir, anchorFile string
	cmd := &cobra.Command{
		Use:   "init --data-dir DIR [--anchor-file FILE]",
		Short: "Make the data folder, its database and an anchor file; agentkeys serve never does",
		Long: `Makes what agentkeys serve wants to find, and never anything over what is there already.

  --data-dir     the data folder and its database (BROKER_DATA_DIR)
  --anchor-file  a second file for the audit records, best on another disk (BROKER_AUDIT_ANCHOR_FILE); also
                 alone, for a broker that has its database`,
		Example: "  agentkeys init --data-dir /var/lib/agentkeys --anchor-file /mnt/audit/anchor.jsonl",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" && anchorFile == "" {
				return usage(hint{errors.New("--data-dir is missing: it names the folder to make"), `see "agentkeys init --help"`})
			}
			if dir != "" {
				if err := p.initData(cmd.Context(), dir); err != nil {
					return err
				}
			}
			if anchorFile != "" {
				return p.initAnchor(anchorFile)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "data-dir", "", "folder to make the database in")
	cmd.Flags().StringVar(&anchorFile, "anchor-file", "", "file to make for a second copy of the audit records")
	return cmd
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
		return err
	}
	fmt.Fprintf(p.stdout, "made %s\n", path)
	return nil
}

func (p *program) initAnchor(path string) error {
	if err := anchor.CreateFile(path); err != nil {
		return err
	}
	fmt.Fprintf(p.stdout, "made %s\n", path)
	return nil
}
