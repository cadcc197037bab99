package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"agentkeys/api"
	"agentkeys/client"
)

func (p *program) mint() *cobra.Command {
	var broker, wallet, out string
	var chainID int64
	cmd := &cobra.Command{
		Use:   "mint --broker URL --wallet FILE",
		Short: "Sign in with a wallet and print a web identity token for AWS STS",
		Long: `Signs in at a broker with the wallet in a file (see "agentkeys keygen --purpose wallet") and prints a web
identity token, and nothing else, to standard output. With --out it goes to a file of mode 0600, without a line end, as
AWS_WEB_IDENTITY_TOKEN_FILE wants it. The token is a credential, for five minutes unless the broker is told otherwise, and at
STS for up to five more.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if broker == "" || wallet == "" {
				return usage(hint{errors.New("--broker and --wallet are both needed"), `see "agentkeys mint --help"`})
			}
			w, err := readWallet(wallet)
			if err != nil {
				return err
			}
			c, err := client.New(broker, nil)
			if err != nil {
				return usage(err)
			}
			session, err := c.SignIn(cmd.Context(), w, chainID)
			if err != nil {
				return refusal(err)
			}
			minted, err := c.MintOIDC(cmd.Context(), session.SessionJWT)
			if err != nil {
				return refusal(err)
			}
			if out != "" {
				return writeToken(out, minted.JWT)
			}
			_, err = fmt.Fprintln(p.stdout, minted.JWT)
			return printed("the token", err)
		},
	}
	cmd.Flags().StringVar(&broker, "broker", "", "issuer URL of the broker")
	cmd.Flags().StringVar(&wallet, "wallet", "", "file of the wallet's key")
	cmd.Flags().StringVar(&out, "out", "", "file to write the token to, in the place of an earlier one")
	cmd.Flags().Int64Var(&chainID, "chain-id", 1, "EIP-155 chain id to sign in for")
	return cmd
}

// writeToken puts a token into a file in one step, so that an SDK that reads it
// meanwhile finds the old one or the new one whole.
func writeToken(path, jwt string) (err error) {
	if err := checkPlaceOfToken(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".token-") // of mode 0600
	if err != nil {
		return fmt.Errorf("writing the token: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the token: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if _, err := f.WriteString(jwt); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// refusal adds the broker's own advice to its refusal.
func refusal(err error) error {
	var e *api.Error
	if errors.As(err, &e) && e.Remediation != "" {
		return hint{err, inTime(e)}
	}
	var unreachable *url.Error
	if errors.As(err, &unreachable) && !errors.Is(err, context.Canceled) {
		return hint{err, "see that the broker runs, and that --broker is its issuer URL"}
	}
	var noJSON *json.SyntaxError
	if errors.As(err, &noJSON) || e != nil && e.RequestID == "" && e.Code == api.CodeInternal {
		return hint{err, "is this the broker? No broker answers so; --broker wants its issuer URL"}
	}
	return err
}

// inTime is the advice of a broker for a command line, where its header is not to be
// seen.
func inTime(e *api.Error) string {
	if e.RetryAfter == 0 {
		return e.Remediation
	}
	return strings.Replace(e.Remediation, "as long as Retry-After says", e.RetryAfter.String(), 1)
}

// checkPlaceOfToken lets a token take the place of an earlier one, or of nothing:
// a key or a configuration under that name is a slip of the hand.
func checkPlaceOfToken(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("writing the token: %w", err)
	}
	refused := hint{fmt.Errorf("writing the token: %s is there and holds no token; it is not written over", path), "name another file with --out"}
	if !info.Mode().IsRegular() || info.Size() > maxSecret {
		return refused
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("writing the token: %w", err)
	}
	if text := strings.TrimSpace(string(data)); text != "" && (!strings.HasPrefix(text, "eyJ") || strings.Count(text, ".") != 2) {
		return refused
	}
	return nil
}
