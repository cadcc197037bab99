package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/identity"
	"agentkeys/store"
)

type eraseOptions struct {
	dataDir
	account, identity string
	dryRun            bool
}

func (p *program) auditErase() *cobra.Command {
	var o eraseOptions
	cmd := &cobra.Command{
		Use:   "erase --data-dir DIR (--account ID | --identity TYPE:VALUE) [--dry-run]",
		Short: "Erase a person from the database of a broker that does not run",
		Long: `Takes a person out of the database: the account, its sign-ins and remembered calls, its name in the
grants it gave and received, which end, and the personal members of every audit record that is about
it. The records stay, with a digest in the place of what is gone, so the log still verifies; that
somebody was erased is itself recorded.

It reaches this database alone. Anchor files, exports, backups, the log stream and AWS CloudTrail
have their own copies: docs/audit-events.md says what to do about each. Whoever can still sign in
has a new account after the next sign-in.

Stop the broker first. In its environment, the configuration that "agentkeys serve" reads, the log
is held against its files before, and the record has its place in it afterwards; otherwise at the
next start. Without --dry-run there is no way back.`,
		Example: `  agentkeys audit erase --data-dir /var/lib/agentkeys --identity email:ada@example.org --dry-run`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := p.databasePath(cmd, o.dataDir)
			if err != nil {
				return err
			}
			account, wallet, err := o.whom()
			if err != nil {
				return usage(hint{err, `see "agentkeys audit erase --help"`})
			}
			return p.erase(cmd.Context(), path, o, account, wallet)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.account, "account", "", "`ID` of the account: the omni account, 64 digits of hexadecimal")
	cmd.Flags().StringVar(&o.identity, "identity", "", "the identity that signs in, `TYPE:VALUE`, such as evm:0x and 40 digits in lower case")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would be erased, and erase nothing")
	return cmd
}

var omniForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// whom is the account, and its wallet where that is known by its identity.
func (o eraseOptions) whom() (account, wallet string, err error) {
	switch {
	case (o.account == "") == (o.identity == ""):
		return "", "", errors.New("--account and --identity: want one of them")
	case o.account != "" && !omniForm.MatchString(o.account):
		return "", "", fmt.Errorf("--account: want 64 of 0-9 a-f, got %d characters", len(o.account))
	case o.account != "":
		return o.account, "", nil
	}
	kind, value, _ := strings.Cut(o.identity, ":")
	id := identity.Identity{Type: identity.Type(kind), Value: value}
	if err := id.Check(); err != nil {
		return "", "", fmt.Errorf("--identity: %w", err)
	}
	return id.OmniAccount(), id.Wallet(), nil
}

func (p *program) erase(ctx context.Context, path string, o eraseOptions, account, wallet string) error {
	err := p.alone(ctx, aloneWork{path, o.dryRun, func(db *store.Store) (string, error) {
		e, err := broker.Erase(ctx, db, account, wallet, time.Now(), o.dryRun)
		return o.said(account, e), err
	}})
	switch {
	case errors.Is(err, broker.ErrUnsettled):
		return hint{err, "start the broker once and stop it: it settles what was cut off"}
	case errors.Is(err, broker.ErrNothingToErase):
		return hint{err, "the account is that of one identity, in the form that it signs in with"}
	case err != nil:
		return err
	}
	if !o.dryRun {
		fmt.Fprintln(p.stderr, "Anchor files, exports, backups, the log stream and CloudTrail have their own copies: see docs/audit-events.md.")
	}
	return nil
}

// said tells what was erased.
func (o eraseOptions) said(account string, e broker.Erasure) string {
	done := "erased"
	if o.dryRun {
		done = "would erase"
	}
	return fmt.Sprintf("%s account %s: %s of the audit log, %s, %d of them not ended before, %s and %s\n",
		done, account, audit.Count(e.Records, "record"), audit.Count(e.Grants, "grant"), len(e.Revoked), audit.Count(e.Challenges, "sign-in"), audit.Count(e.Calls, "call"))
}
