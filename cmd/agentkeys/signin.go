package main

import (
	"context"
	"errors"
	"strings"

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
	w, err := client.ReadWalletFile(o.wallet)
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

// need makes the lack of a flag a usage error that names each flag.
func need(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range names {
		if f := cmd.Flags().Lookup(name); !f.Changed || f.Value.String() == "" {
			missing = append(missing, "--"+name)
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
