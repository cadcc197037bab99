// Package grant decides what an agent may ask for: an owner lets a daemon address
// mint credentials for a service under a path of the owner's own prefix, until
// then, so often.
//
// What it keeps safe: a path is relative to the owner's prefix and cannot leave
// it, so no grant reaches another tenant; a use is counted in the transaction
// that records it; and what a grant allows is compiled into a session policy that
// only narrows, so that AWS enforces it whatever the role may do.
//
// What it does not: credentials that were given out live on after a grant is
// revoked, until they end or the tenant's sessions are revoked at AWS. It proves
// no identity, and it checks nothing of the documents at AWS; package federation
// does.
package grant

import (
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"time"

	"agentkeys/identity"
)

// Grant is a row of the table grants.
type Grant struct {
	ID         string // "grn-" and 16 characters
	Owner      string // omni account
	Tenant     string // the owner's session tag: whose prefix the path is under
	Daemon     string // lower-case address that may mint
	Service    string // S3
	Path       Path
	Actions    Actions
	CreatedAt  time.Time // UTC, milliseconds, like all times here
	ExpiresAt  time.Time
	MaxUses    int64
	UsedCount  int64
	RevokedAt  time.Time // zero while it is not
	LastUsedAt time.Time // zero before the first use
	LastRecord string    // the audit record of the last use
}

// S3 is the one service there is.
const S3 = "s3"

const (
	idPrefix = "grn-"
	// idLength leaves room for the id beside an address in the name of a role
	// session, which AWS bounds to 64 characters.
	idLength = 16
)

// MaxUses is the most uses that a grant may have.
const MaxUses = 1_000_000_000

// Terms are what an owner grants.
type Terms struct {
	Daemon    string // an address in any spelling that is valid
	Service   string
	Path      string
	Actions   []string // empty for all
	ExpiresAt time.Time
	MaxUses   int64
}

// New makes a grant by an owner, or says as an *Error why the terms are none that
// can be granted. A grant lives at most longest. Its end is cut to the second, so
// that the row, its proof and the session policies say the same.
func New(owner identity.Identity, t Terms, longest time.Duration, now time.Time) (Grant, error) {
	daemon, err := identity.ParseAddress(t.Daemon)
	if err != nil {
		return Grant{}, refuse(CodeInvalid, "daemon_address: %v", err)
	}
	if t.Service != S3 {
		return Grant{}, refuse(CodeInvalid, "service: want %q, got %.40q", S3, t.Service)
	}
	path, err := ParsePath(t.Path)
	if err != nil {
		return Grant{}, refuse(CodeInvalid, "scope_path: %v", err)
	}
	actions, err := parseActions(t.Actions)
	if err != nil {
		return Grant{}, refuse(CodeInvalid, "actions: %v", err)
	}
	t.ExpiresAt = t.ExpiresAt.UTC().Truncate(time.Second)
	if !t.ExpiresAt.After(now) || t.ExpiresAt.After(now.Add(longest)) {
		return Grant{}, refuse(CodeInvalid, "expires_at: want a time after %s and not after %s, got %s", stamp(now), stamp(now.Add(longest)), stamp(t.ExpiresAt))
	}
	if t.MaxUses < 1 || t.MaxUses > MaxUses {
		return Grant{}, refuse(CodeInvalid, "max_uses: want 1 to %d, got %d", MaxUses, t.MaxUses)
	}
	return Grant{
		ID: idPrefix + rand.Text()[:idLength], Owner: owner.OmniAccount(), Tenant: owner.TenantTag(), Daemon: daemon, Service: t.Service,
		Path: path, Actions: actions, CreatedAt: now.UTC().Truncate(time.Millisecond), ExpiresAt: t.ExpiresAt, MaxUses: t.MaxUses,
	}, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Request is what an agent asks for.
type Request struct {
	Daemon  string // the lower-case address that signed the call
	Service string
	Path    Path
	GrantID string // "" to take the one grant that fits
}

// Check says whether a grant allows a request at a time: nil, or an *Error with
// the reason. Of several it is the first of: another daemon's, revoked, expired,
// out of scope, exhausted. Another daemon's grant is refused in the words of Find
// for one that does not exist.
func Check(g Grant, r Request, now time.Time) error {
	switch {
	case g.Daemon != r.Daemon:
		return absent(r.Daemon, g.ID)
	case !g.RevokedAt.IsZero() || !now.Before(g.ExpiresAt):
		return g.ended(now)
	case g.Service != r.Service || !g.Path.Covers(r.Path) || r.Path.check() != nil:
		return refuse(CodeScope, "grant %s is for %s under %q, got %.40q under %.200q", g.ID, g.Service, g.Path, r.Service, r.Path)
	}
	return g.ended(now)
}

func absent(daemon, id string) *Error {
	return refuse(CodeRequired, "%s has no grant %.40q", daemon, id)
}

// ended says whether and why a grant allows nothing any more.
func (g Grant) ended(now time.Time) error {
	switch g.Status(now) {
	case "revoked":
		return refuse(CodeRevoked, "grant %s was revoked at %s", g.ID, stamp(g.RevokedAt))
	case "expired":
		return refuse(CodeExpired, "grant %s ended at %s, and it is %s", g.ID, stamp(g.ExpiresAt), stamp(now))
	case "exhausted":
		return refuse(CodeExhausted, "grant %s is used up: %d of %d", g.ID, g.UsedCount, g.MaxUses)
	}
	return nil
}

// Status is the one word for the state of a grant.
func (g Grant) Status(now time.Time) string {
	switch {
	case !g.RevokedAt.IsZero():
		return "revoked"
	case !now.Before(g.ExpiresAt):
		return "expired"
	case g.UsedCount >= g.MaxUses:
		return "exhausted"
	}
	return "active"
}

// SessionName is the name of the role sessions that a daemon's credentials are
// of: the daemon and the grant, which CloudTrail then shows. Without a grant it is
// the daemon alone.
func SessionName(daemon, grantID string) string {
	if grantID == "" {
		return daemon
	}
	return daemon + "@" + grantID
}

// Action is one kind of thing to do with objects.
type Action string

// The actions.
const (
	ActionList   Action = "list"
	ActionGet    Action = "get"
	ActionPut    Action = "put"
	ActionDelete Action = "delete"
)

// Actions is a set of actions in the order list, get, put, delete; never empty.
type Actions []Action

// AllActions is the set of all of them.
func AllActions() Actions { return Actions{ActionList, ActionGet, ActionPut, ActionDelete} }

// parseActions reads a set. No names mean all of them.
func parseActions(names []string) (Actions, error) {
	if len(names) == 0 {
		return AllActions(), nil
	}
	var set Actions
	for _, a := range AllActions() {
		if slices.Contains(names, string(a)) {
			set = append(set, a)
		}
	}
	for i, name := range names {
		if !slices.Contains(AllActions(), Action(name)) || slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("want each of list, get, put, delete at most once, got %.40q", name)
		}
	}
	return set, nil
}

// Strings are the names of the actions.
func (a Actions) Strings() []string {
	var names []string
	for _, action := range a {
		names = append(names, string(action))
	}
	return names
}

// String joins the names with commas.
func (a Actions) String() string { return strings.Join(a.Strings(), ",") }
