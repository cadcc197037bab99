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
	"agentkeys/audit"
	"agentkeys/grant"
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
	daemon, path, service, actions, expires, uses string
	json                                          bool
}

func (p *program) grantCreate() *cobra.Command {
	var o grantOptions
	cmd := &cobra.Command{
		Use:   "create --broker URL --wallet FILE --daemon ADDRESS --path PATH --actions LIST --expires WHEN --uses N",
		Short: "Grant a path of your prefix to an agent's wallet",
		Long: `Grants a path of your own prefix to a daemon. The id of the grant, and nothing else, goes to standard output; what
was granted is told on standard error. Every limit has to be named: there is no grant without an end, and none for more
than was said.

A path is relative to your prefix and covers what lies beneath it: "reports" covers reports/2026 and not reports-old.
"/" is all of the prefix.

The agent tells you the address of its wallet; "agentkeys keygen --purpose wallet" makes one and prints it.`,
		Example: `  agentkeys grant create --broker https://broker.example.com --wallet alice.key \
      --daemon 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --path reports --actions list,get --expires 24h --uses 100`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && strings.HasSuffix(o.actions, ",") {
				return lacking(cmd, fmt.Sprintf("--actions: want %s, by comma and without a space, got %q and then %q", allActions, o.actions, args[0]))
			}
			return usageArgs(cobra.NoArgs)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "broker", "wallet", "daemon", "path", "actions", "expires", "uses"); err != nil {
				return err
			}
			return p.createGrant(cmd.Context(), o)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.daemon, "daemon", "", "`ADDRESS` of the agent's wallet")
	cmd.Flags().StringVar(&o.path, "path", "", "`PATH` under your prefix")
	cmd.Flags().StringVar(&o.service, "service", "s3", "`SERVICE` at AWS; s3 is the one there is")
	cmd.Flags().StringVar(&o.actions, "actions", "", "`LIST` of what it may do: of "+allActions+", by comma")
	cmd.Flags().StringVar(&o.expires, "expires", "", "`WHEN` it ends: in 30m, 24h or 7d from now, or at a time such as 2026-12-31T18:00:00Z")
	cmd.Flags().StringVar(&o.uses, "uses", "", "`N`, how often it may be used; each \"agentkeys creds\" is one use")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the grant with the broker's signed proof as JSON")
	return cmd
}

func (p *program) createGrant(ctx context.Context, o grantOptions) error {
	actions, err := parseActions(o.actions)
	if err != nil {
		return usage(fmt.Errorf("--actions: %w", err))
	}
	end, err := parseEnd(o.expires, time.Now())
	if err != nil {
		return usage(fmt.Errorf("--expires: %w", err))
	}
	uses, err := parseUses(o.uses)
	if err != nil {
		return usage(fmt.Errorf("--uses: %w", err))
	}
	c, err := o.signIn(ctx)
	if err != nil {
		return err
	}
	g, err := c.GrantCreate(ctx, c.session.SessionJWT, api.GrantCreateRequest{
		DaemonAddress: o.daemon, Service: o.service, ScopePath: o.path, ExpiresAt: end.Unix(), MaxUses: uses, Actions: actions})
	if err != nil {
		return grantRefusal(err, o)
	}
	if o.json {
		err = writeJSON(p.stdout, g)
	} else {
		_, err = fmt.Fprintln(p.stdout, printable(g.GrantID))
	}
	if err != nil {
		return fmt.Errorf("grant %s is made, and printing it failed: %w", g.GrantID, err)
	}
	if o.json {
		return nil
	}
	for _, line := range []string{
		fmt.Sprintf("granted: %s may %s", g.DaemonAddress, strings.Join(g.Actions, ", ")),
		fmt.Sprintf("         under %s of %s,", shownPath(g.ScopePath), g.Wallet),
		fmt.Sprintf("         until %s, %s", moment(g.ExpiresAt), audit.Count(g.MaxUses, "time")),
	} {
		fmt.Fprintln(p.stderr, printable(line))
	}
	return nil
}

// allActions are the words for --actions. There is none for all of them: whoever
// grants delete has to say so.
const allActions = "list,get,put,delete"

// parseActions reads words by comma, each of them once.
func parseActions(text string) ([]string, error) {
	actions := strings.Split(text, ",")
	for i, action := range actions {
		if !slices.Contains(strings.Split(allActions, ","), action) || slices.Contains(actions[:i], action) {
			return nil, fmt.Errorf("want of %s, each once at most, by comma and without a space, got %q", allActions, text)
		}
	}
	return actions, nil
}

// parseUses reads a number of uses in decimal digits alone.
func parseUses(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil || n < 1 || n > grant.MaxUses {
		return 0, fmt.Errorf("want a number from 1 to %d, got %q; there is no grant without a limit", grant.MaxUses, text)
	}
	return int64(n), nil
}

// grantRefusal tells a grant that cannot be made, which is wrong use, from other
// refusals, and says what to write in the flags.
func grantRefusal(err error, o grantOptions) error {
	malformed := []api.Code{api.CodeGrantInvalid, api.CodeAddressMalformed, api.CodeAddressChecksum, api.CodeBadRequest}
	var e *api.Error
	if errors.As(err, &e) && slices.Contains(malformed, e.Code) {
		return usage(inFlags(err, o.path))
	}
	return refusal(err)
}

var wholeDays = regexp.MustCompile(`^([0-9]{1,5})d$`)

// parseEnd reads a time, or a length of time from now on. A grant ends on a full second.
func parseEnd(text string, now time.Time) (time.Time, error) {
	at, err := api.ParseTime(text)
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
	if at = at.Truncate(time.Second); !at.After(now) {
		return time.Time{}, fmt.Errorf("want a time after now, %s, to the full second, got %q", now.UTC().Format(time.RFC3339), text)
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
	return p.aboutGrant(&cobra.Command{
		Use:   "show --broker URL --wallet FILE GRANT",
		Short: "Show all about one grant",
		Long: `Shows one grant to its owner or to its daemon: what it allows, how often it was used, the audit record of the last
use, and the name of the sessions at AWS, as CloudTrail and "aws sts get-caller-identity" show it.`,
	}, "print the grant as JSON", func(ctx context.Context, c caller, id string, json bool) error {
		g, err := c.GrantShow(ctx, c.session.SessionJWT, id)
		if err != nil {
			return refusal(err)
		}
		if json {
			return writeJSON(p.stdout, g)
		}
		return writeGrant(p.stdout, g)
	})
}

func (p *program) grantRevoke() *cobra.Command {
	return p.aboutGrant(&cobra.Command{
		Use:   "revoke --broker URL --wallet FILE GRANT",
		Short: "End a grant now",
		Long: `Ends a grant of yours. The daemon's next call for credentials is refused; to revoke a grant again changes nothing.
Credentials that are out already work until they end by themselves; until when at the latest is told on standard error.
To end them now is for the operator of the AWS side: "agentkeys revoke" ends the live AWS sessions of a tenant.`,
	}, "print the answer as JSON", func(ctx context.Context, c caller, id string, json bool) error {
		done, err := c.GrantRevoke(ctx, c.session.SessionJWT, id)
		if err != nil {
			return refusal(err)
		}
		if json {
			return writeJSON(p.stdout, done)
		}
		fmt.Fprintf(p.stdout, "revoked %s at %s\n", printable(done.GrantID), moment(done.RevokedAt))
		g, err := c.GrantShow(ctx, c.session.SessionJWT, done.GrantID)
		if err != nil {
			return fmt.Errorf("the grant is revoked; what is left of it is not known: %w", err)
		}
		writeLeft(p.stderr, g)
		return nil
	})
}

// aboutGrant completes a command that signs in and does something with one grant.
func (p *program) aboutGrant(cmd *cobra.Command, json string, do func(ctx context.Context, c caller, id string, json bool) error) *cobra.Command {
	var o grantOptions
	cmd.Args = oneGrant
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := need(cmd, "broker", "wallet"); err != nil {
			return err
		}
		c, err := o.signIn(cmd.Context())
		if err != nil {
			return err
		}
		return do(cmd.Context(), c, args[0], o.json)
	}
	o.bind(cmd)
	cmd.Flags().BoolVar(&o.json, "json", false, json)
	return cmd
}

// oneGrant wants the id of a grant. One that is empty is what a shell makes of a
// variable that is not set.
func oneGrant(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return lacking(cmd, "want the id of a grant, got none")
	case len(args) > 1:
		return lacking(cmd, fmt.Sprintf("want the id of one grant, got %q and then %q", args[0], args[1]))
	case args[0] == "":
		return lacking(cmd, `want the id of a grant, got ""`)
	}
	return nil
}
