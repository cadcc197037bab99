package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

Stop the broker first. Without --dry-run there is no way back.`,
		Example: `  agentkeys audit erase --data-dir /var/lib/agentkeys --dry-run \
      --identity evm:0x70997970c51812dc3a010c7d01b50e0d17dc79c8`,
		Args: usageArgs(cobra.NoArgs),
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
	var e broker.Erasure
	err := alone(ctx, path, func(db *store.Store) (err error) {
		e, err = broker.Erase(ctx, db, account, wallet, time.Now(), o.dryRun)
		return err
	})
	switch {
	case errors.Is(err, broker.ErrUnsettled):
		return hint{err, "start the broker once and stop it: it settles what was cut off"}
	case errors.Is(err, broker.ErrNothingToErase):
		return hint{err, "the account is that of one identity, in the form that it signs in with"}
	case err != nil:
		return err
	}
	done := "erased"
	if o.dryRun {
		done = "would erase"
	}
	_, err = fmt.Fprintf(p.stdout, "%s account %s: %s of the audit log, %s, %d of them not ended before, %s and %s\n",
		done, account, audit.Count(e.Records, "record"), audit.Count(e.Grants, "grant"), len(e.Revoked), audit.Count(e.Challenges, "sign-in"), audit.Count(e.Calls, "call"))
	if err != nil {
		return printed("what was done", err)
	}
	if !o.dryRun {
		fmt.Fprintln(p.stderr, "Anchor files, exports, backups, the log stream and CloudTrail have their own copies: see docs/audit-events.md.")
	}
	return nil
}

// alone opens the database of a broker that does not run, and wants to be the last to
// close it: only then is nothing of what was deleted left in the log beside it.
func alone(ctx context.Context, path string, do func(*store.Store) error) (err error) {
	db, err := store.Open(ctx, path)
	if err != nil {
		return databaseHint(err)
	}
	if err = unchanged(ctx, db); err == nil {
		err = do(db)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return hint{fmt.Errorf("it is done, but %s is still there, with what was deleted: somebody else has the database open", path+"-wal"),
			"close what reads it, an sqlite3 shell say; the last one to close it takes that file away"}
	}
	return nil
}
