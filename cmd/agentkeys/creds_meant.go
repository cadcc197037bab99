package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"agentkeys/api"
	"agentkeys/grant"
	"agentkeys/identity"
)

// meant is whose objects a call is for: the tenant that its credentials must be of,
// and the grant that it names. Anybody may grant to any wallet, so a call that says
// neither may land in a stranger's prefix.
type meant struct{ tenant, grant string }

// findMeant finds the grant that was named, or one of the owner that was; owner is ""
// or as parseOwner gives it.
func (c caller) findMeant(ctx context.Context, owner string, o credsOptions) (meant, error) {
	if o.grant == "" {
		return c.findOwners(ctx, owner, o)
	}
	g, err := c.GrantShow(ctx, c.session.SessionJWT, o.grant)
	if err != nil {
		return meant{}, credsRefusal(err, o)
	}
	if owner != "" && !isOwner(g, owner) {
		return meant{}, fmt.Errorf("--grant %s is of %s, want one of --owner %s", g.GrantID, g.Wallet, owner)
	}
	return meant{g.Wallet, g.GrantID}, nil
}

var omniAccount = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parseOwner reads an owner's wallet in any valid spelling, or an omni account.
func parseOwner(text string) (string, error) {
	if omniAccount.MatchString(text) {
		return text, nil
	}
	wallet, err := identity.ParseAddress(text)
	if err != nil {
		return "", fmt.Errorf("want the owner's wallet or omni account: %w", err)
	}
	return wallet, nil
}

func isOwner(g api.Grant, owner string) bool { return g.Wallet == owner || g.Owner == owner }

// findOwners finds among the grants of an owner to this wallet the one to use. Where
// none fits, the newest is named all the same, so that the broker says what is wrong
// with it, and records that. A wallet may mean itself without a grant, in a broker's
// migration window, unless the broker could take a stranger's for it.
func (c caller) findOwners(ctx context.Context, owner string, o credsOptions) (meant, error) {
	all, err := c.allGrants(ctx)
	if err != nil {
		return meant{}, err
	}
	daemon := strings.ToLower(c.wallet.Address())
	var theirs, strangers []api.Grant
	for _, g := range all {
		switch {
		case g.DaemonAddress != daemon:
		case isOwner(g, owner):
			theirs = append(theirs, g)
		default:
			strangers = append(strangers, g)
		}
	}
	switch {
	case len(theirs) > 0:
		best := fitting(theirs, o)
		return meant{best.Wallet, best.GrantID}, nil
	case owner == daemon || owner == c.session.OmniAccount:
		return meant{tenant: daemon}, checkNoStrangers(daemon, strangers, o)
	}
	return meant{}, credsRefusal(api.Errorf(api.CodeGrantRequired, "%s has no grant of %s", daemon, owner), o)
}

// checkNoStrangers refuses a call that names no grant where one of other owners fits.
// It may be taken, and to see that from the answer is late: a use of it is spent, and
// there are credentials of a tenant that nobody meant.
func checkNoStrangers(daemon string, strangers []api.Grant, o credsOptions) error {
	if len(strangers) == 0 {
		return nil
	}
	g := fitting(strangers, o)
	if g.Status != "active" || !covers(g, o) {
		return nil
	}
	return hint{fmt.Errorf("getting credentials: %s has no grant of its own for %q, and a call that names none could be given %s of %s", daemon, o.path, g.GrantID, g.Wallet),
		"grant the path to your own wallet (agentkeys grant create), or name the other owner with --owner"}
}

// covers reports whether a grant is for what is asked for. Of a path that is none the
// broker says what is wrong, whatever the grant.
func covers(g api.Grant, o credsOptions) bool {
	path, err := grant.ParsePath(o.path)
	return err == nil && g.Service == o.service && grant.Path(g.ScopePath).Covers(path)
}

// fitting is the active grant that covers what is asked for and ends last, or else the
// first that covers it, or else the first.
func fitting(grants []api.Grant, o credsOptions) api.Grant {
	best, rank := grants[0], 0
	for _, g := range grants {
		switch {
		case !covers(g, o):
		case g.Status != "active" && rank == 0:
			best, rank = g, 1
		case g.Status == "active" && (rank < 2 || g.ExpiresAt > best.ExpiresAt):
			best, rank = g, 2
		}
	}
	return best
}

// inFlags says of a refusal that names a member of a request what is wrong with the
// flag that it came from.
func inFlags(err error, path string) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return err
	}
	member, _, _ := strings.Cut(strings.TrimPrefix(e.Detail, "intent."), ":")
	inside := strings.TrimLeft(path, "/")
	_, wrong := grant.ParsePath(inside)
	switch {
	case member == "scope_path" && inside != path && wrong == nil:
		return hint{err, fmt.Sprintf("--path: leave the leading slash out: %q", inside)}
	case member == "scope_path" && strings.ContainsAny(path, "*?"):
		return hint{err, "--path: leave the wildcard out: a path covers all that lies beneath it"}
	case member == "scope_path":
		return hint{err, `--path: want one below the owner's prefix such as reports/2026, or "/" for all of it`}
	case flagOf[member] != "":
		return hint{err, "correct " + flagOf[member]}
	}
	return refusal(err)
}

// flagOf names the flags whose values become these members.
var flagOf = map[string]string{
	"daemon_address": "--daemon", "service": "--service", "actions": "--actions", "expires_at": "--expires", "max_uses": "--uses",
	"agent_id": "--agent", "grant_id": "--grant",
}
