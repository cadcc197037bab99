package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"agentkeys/api"
	"agentkeys/client"
)

// signInOptions say at which broker to sign in, and with which wallet.
type signInOptions struct {
	broker, wallet string
	chainID        int64
}

func (o *signInOptions) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.broker, "broker", "", "issuer `URL` of the broker")
	cmd.Flags().StringVar(&o.wallet, "wallet", "", "`FILE` of the wallet's key")
	cmd.Flags().Int64Var(&o.chainID, "chain-id", 1, "EIP-155 chain `ID` to sign in for")
}

// caller is somebody who is signed in at a broker.
type caller struct {
	*client.Client
	wallet  *client.Wallet
	session api.Session
}

func (o signInOptions) signIn(ctx context.Context) (caller, error) {
	w, err := readWallet(o.wallet)
	if err != nil {
		return caller{}, err
	}
	c, err := client.New(o.broker, nil)
	if err != nil {
		return caller{}, usage(err)
	}
	session, err := c.SignIn(ctx, w, o.chainID)
	if err != nil {
		return caller{}, refusal(err)
	}
	return caller{c, w, session}, nil
}

func readWallet(path string) (*client.Wallet, error) {
	w, err := client.ReadWalletFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint{err, `"agentkeys keygen --purpose wallet --out FILE" makes a wallet`}
	}
	return w, err
}

// texts are the flags of the commands about grants whose value is a text.
var texts = []string{"broker", "wallet", "daemon", "path", "service", "actions", "expires", "uses", "grant", "owner", "agent", "format"}

// files are those of texts that name a file, which may be any bytes.
var files = []string{"wallet"}

// need makes the lack of a flag a usage error that names each flag. No flag may be
// given an empty text: that is what a shell makes of a variable that is not set, and
// it must not pass for a flag that was left out. Nor one that is no text.
func need(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range texts {
		f := cmd.Flags().Lookup(name)
		switch needed := slices.Contains(names, name); {
		case needed && !f.Changed:
			missing = append(missing, "--"+name)
		case f != nil && f.Changed && f.Value.String() == "":
			return lacking(cmd, "--"+name+`: want a value, got ""`)
		case f != nil && !utf8.ValidString(f.Value.String()) && !slices.Contains(files, name): // JSON would carry another text
			return lacking(cmd, fmt.Sprintf("--%s: want UTF-8, got %q", name, f.Value.String()))
		}
	}
	switch n := len(missing); n {
	case 0:
		return nil
	case 1:
		return lacking(cmd, missing[0]+" is needed")
	default:
		return lacking(cmd, strings.Join(missing[:n-1], ", ")+" and "+missing[n-1]+" are needed")
	}
}

func lacking(cmd *cobra.Command, text string) error {
	return usage(hint{errors.New(text), `see "` + cmd.CommandPath() + ` --help"`})
}
