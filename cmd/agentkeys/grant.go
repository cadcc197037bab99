package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/api"
)

// grant is the group of commands about an owner's leave for a daemon.
func (p *program) grant() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "grant",
		Short: "Let an agent's wallet act within a path of your own prefix; see and revoke such leave",
		Long: `A grant is an owner's leave for a daemon, the wallet of an agent, to get AWS credentials for a path of the owner's
own prefix, until then, so often. AWS enforces the path: the credentials carry it as a session policy. The daemon gets
them with "agentkeys creds".`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.grantCreate(), p.grantList(), p.grantShow(), p.grantRevoke())
	return cmd
}

type grantOptions struct {
	signInOptions
	daemon, path, service, expires string
	actions                        []string
	uses                           int64
	json                           bool
}

func (p *program) grantCreate() *cobra.Command {
	var o grantOptions
	cmd := &cobra.Command{
		Use:   "create --broker URL --wallet FILE --daemon ADDRESS --path PATH --expires WHEN --uses N",
		Short: "Grant a path of your prefix to an agent's wallet",
		Long: `Grants a path of your own prefix to a daemon. The id of the grant, and nothing else, goes to standard output; what
was granted is told on standard error. Every limit has to be named: there is no grant without an end.

A path is relative to your prefix and covers what lies beneath it: "reports" covers reports/2026 and not reports-old.
"/" is all of the prefix.`,
		Example: `  agentkeys grant create --broker https://broker.example.com --wallet alice.key \
      --daemon 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --path reports --actions list,get --expires 24h --uses 100`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "broker", "wallet", "daemon", "path", "expires", "uses"); err != nil {
				return err
			}
			return p.createGrant(cmd.Context(), o)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.daemon, "daemon", "", "`ADDRESS` of the agent's wallet")
	cmd.Flags().StringVar(&o.path, "path", "", "`PATH` under your prefix")
	cmd.Flags().StringVar(&o.service, "service", "s3", "`SERVICE` at AWS; s3 is the one there is")
	cmd.Flags().StringSliceVar(&o.actions, "actions", nil, "of list, get, put, delete, by comma; all of them where it is left out")
	cmd.Flags().StringVar(&o.expires, "expires", "", "`WHEN` it ends: in 30m, 24h or 7d from now, or at a time such as 2026-12-31T18:00:00Z")
	cmd.Flags().Int64Var(&o.uses, "uses", 0, "how often it may be used; each \"agentkeys creds\" is one use")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the grant with the broker's signed proof as JSON")
	return cmd
}

func (p *program) createGrant(ctx context.Context, o grantOptions) error {
	end, err := parseEnd(o.expires, time.Now())
	if err != nil {
		return usage(fmt.Errorf("--expires: %w", err))
	}
	if o.uses < 1 {
		return usage(fmt.Errorf("--uses: want 1 or more, got %d", o.uses))
	}
	c, err := o.signIn(ctx)
	if err != nil {
		return err
	}
	g, err := c.GrantCreate(ctx, c.session.SessionJWT, api.GrantCreateRequest{
		DaemonAddress: o.daemon, Service: o.service, ScopePath: o.path, ExpiresAt: end.Unix(), MaxUses: o.uses, Actions: o.actions})
	if err != nil {
		return grantRefusal(err)
	}
	if o.json {
		return writeJSON(p.stdout, g)
	}
	fmt.Fprintln(p.stdout, printable(g.GrantID))
	for _, line := range []string{
		fmt.Sprintf("granted: %s may %s", g.DaemonAddress, strings.Join(g.Actions, ", ")),
		fmt.Sprintf("         under %s of %s,", shownPath(g.ScopePath), g.Wallet),
		fmt.Sprintf("         until %s, %s", moment(g.ExpiresAt), times(g.MaxUses)),
	} {
		fmt.Fprintln(p.stderr, printable(line))
	}
	return nil
}

// grantRefusal tells a grant that cannot be made, which is wrong use, from other
// refusals.
func grantRefusal(err error) error {
	malformed := []api.Code{api.CodeGrantInvalid, api.CodeAddressMalformed, api.CodeAddressChecksum, api.CodeBadRequest}
	var e *api.Error
	if errors.As(err, &e) && slices.Contains(malformed, e.Code) {
		return usage(refusal(err))
	}
	return refusal(err)
}

var wholeDays = regexp.MustCompile(`^([0-9]{1,5})d$`)

// parseEnd reads a time, or a length of time from now on.
func parseEnd(text string, now time.Time) (time.Time, error) {
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		var d time.Duration
		if days := wholeDays.FindStringSubmatch(text); days != nil {
			n, _ := strconv.Atoi(days[1]) // five digits are a number
			d = time.Duration(n) * 24 * time.Hour
		} else if d, err = time.ParseDuration(text); err != nil {
			return time.Time{}, fmt.Errorf("want a length of time such as 24h or 7d, or a time such as 2026-12-31T18:00:00Z, got %q", text)
		}
		at = now.Add(d)
	}
	if !at.After(now) {
		return time.Time{}, fmt.Errorf("want a time after now, %s, got %q", now.UTC().Format(time.RFC3339), text)
	}
	return at, nil
}

func (p *program) grantList() *cobra.Command {
	var o grantOptions
	cmd := &cobra.Command{
		Use:   "list --broker URL --wallet FILE",
		Short: "List the grants that you gave and those that you were given",
		Long: `Lists the grants of a wallet, the newest first: those that it gave as an owner, and those that it was given as a
daemon. "agentkeys grant show" tells all about one of them.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "broker", "wallet"); err != nil {
				return err
			}
			c, err := o.signIn(cmd.Context())
			if err != nil {
				return err
			}
			grants, err := c.allGrants(cmd.Context())
			if err != nil {
				return err
			}
			if o.json {
				return writeJSON(p.stdout, grants)
			}
			if len(grants) == 0 {
				fmt.Fprintf(p.stderr, "no grants, given or got, of %s\n", c.wallet.Address())
				return nil
			}
			return writeGrants(p.stdout, grants, time.Now())
		},
	}
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "print the whole grants as a JSON array")
	return cmd
}

// allGrants reads page after page.
func (c caller) allGrants(ctx context.Context) ([]api.Grant, error) {
	all := []api.Grant{}
	for cursor := ""; ; {
		page, err := c.GrantList(ctx, c.session.SessionJWT, cursor, 0)
		if err != nil {
			return nil, refusal(err)
		}
		all = append(all, page.Grants...)
		if page.Cursor == "" {
			return all, nil
		}
		if page.Cursor == cursor {
			return nil, fmt.Errorf("listing grants: want a next page, got the cursor %q again", cursor)
		}
		cursor = page.Cursor
	}
}

func (p *program) grantShow() *cobra.Command {
	var o grantOptions
	cmd := &cobra.Command{
		Use:   "show --broker URL --wallet FILE GRANT",
		Short: "Show all about one grant",
		Long: `Shows one grant to its owner or to its daemon: what it allows, how often it was used, the audit record of the last
use, and the name of the sessions at AWS, as CloudTrail and "aws sts get-caller-identity" show it.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := need(cmd, "broker", "wallet"); err != nil {
				return err
			}
			c, err := o.signIn(cmd.Context())
			if err != nil {
				return err
			}
			g, err := c.GrantShow(cmd.Context(), c.session.SessionJWT, args[0])
			if err != nil {
				return refusal(err)
			}
			if o.json {
				return writeJSON(p.stdout, g)
			}
			return writeGrant(p.stdout, g)
		},
	}
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "print the grant as JSON")
	return cmd
}

func (p *program) grantRevoke() *cobra.Command {
	var o grantOptions
	cmd := &cobra.Command{
		Use:   "revoke --broker URL --wallet FILE GRANT",
		Short: "End a grant now",
		Long: `Ends a grant of yours. The daemon's next call for credentials is refused; to revoke a grant again changes nothing.
Credentials that are out already work until they end by themselves: "agentkeys revoke" ends the live AWS sessions of a
tenant.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := need(cmd, "broker", "wallet"); err != nil {
				return err
			}
			c, err := o.signIn(cmd.Context())
			if err != nil {
				return err
			}
			done, err := c.GrantRevoke(cmd.Context(), c.session.SessionJWT, args[0])
			if err != nil {
				return refusal(err)
			}
			if o.json {
				return writeJSON(p.stdout, done)
			}
			fmt.Fprintf(p.stdout, "revoked %s at %s\n", printable(done.GrantID), moment(done.RevokedAt))
			fmt.Fprintln(p.stderr, `Credentials that are out already work until they end; "agentkeys revoke" ends them at AWS.`)
			return nil
		},
	}
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, "print the answer as JSON")
	return cmd
}
