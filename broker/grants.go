package broker

import (
	"context"
	"database/sql"
	"strconv"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/grant"
	"agentkeys/identity"
	"agentkeys/token"
)

// serveGrantCreate makes a grant by the bearer of a session.
func (b *Broker) serveGrantCreate(c *call) error {
	r := c.record(audit.ActionGrantCreate)
	return b.recorded(c, r, func() error { return b.createGrant(c, r) })
}

func (b *Broker) createGrant(c *call, r *audit.Record) error {
	session, owner, err := b.caller(c, r)
	if err != nil {
		return err
	}
	req, err := decode[api.GrantCreateRequest](c)
	if err != nil {
		return err
	}
	g, err := grant.New(owner, grant.Terms{
		Daemon: req.DaemonAddress, Service: req.Service, Path: req.ScopePath, Actions: req.Actions,
		ExpiresAt: time.Unix(req.ExpiresAt, 0), MaxUses: req.MaxUses}, b.GrantMaxLife, c.now)
	if err != nil {
		return err
	}
	if err := b.checkFits(g); err != nil {
		return err
	}
	if err := b.takeGrant(c, session.OmniAccount); err != nil {
		return err
	}
	proof, err := b.GrantProofs.Sign(terms(g))
	if err != nil {
		return err
	}
	if err := b.insertGrant(c, owner, g); err != nil {
		return err
	}
	c.note("grant", g.ID)
	shown := showGrant(g, session, c.now)
	shown.AuditProof = proof
	return c.writeJSON(shown)
}

// insertGrant makes a grant. One that an anchor did not take is revoked before its
// owner hears of that: an owner who hears that it could not be recorded grants again,
// and a first one beside the second would double what was granted.
func (b *Broker) insertGrant(c *call, owner identity.Identity, g grant.Grant) error {
	record := b.grantRecord(c, audit.ActionGrantCreate, owner, g)
	err := b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		if err := grant.Insert(ctx, tx, g); err != nil {
			return err
		}
		return c.append(ctx, tx, record)
	})
	if err != nil {
		return err
	}
	unanchored := b.awaitAnchors(c)
	if unanchored == nil {
		return nil
	}
	failed := *record
	failed.ID, failed.Outcome, failed.Reason, failed.Settles = "", audit.Failed, string(api.CodeAuditUnavailable), record.ID
	err = b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		if _, _, err := grant.Revoke(ctx, tx, g.Owner, g.ID, c.now); err != nil {
			return err
		}
		return c.append(ctx, tx, &failed)
	})
	if err != nil {
		b.Log.WarnContext(c.ctx, "a grant that an anchor did not take is there all the same", "request_id", c.requestID, "grant", g.ID, "error", err)
	}
	return unanchored
}

// caller is the identity of a session at a time that the clock vouches for. It fills
// in who asks as soon as that is proven.
func (b *Broker) caller(c *call, r *audit.Record) (token.Session, identity.Identity, error) {
	session, err := b.session(c)
	if err != nil {
		return token.Session{}, identity.Identity{}, err
	}
	id := identity.Identity{Type: identity.Type(session.IdentityType), Value: session.IdentityValue}
	b.describe(r, id)
	return session, id, b.clock.check(c.now)
}

// checkFits refuses a grant whose session policy AWS would not take, while its owner
// can still choose a shorter path.
func (b *Broker) checkFits(g grant.Grant) error {
	if b.AWS == nil {
		return nil
	}
	if _, err := grant.SessionPolicy(b.AWS.Target, g.Tenant, g.Path, g.Actions, g.ExpiresAt); err != nil {
		return api.Errorf(api.CodeGrantInvalid, "scope_path: %v", err)
	}
	return nil
}

func terms(g grant.Grant) token.GrantTerms {
	return token.GrantTerms{
		ID: g.ID, Owner: g.Owner, Tenant: g.Tenant, Daemon: g.Daemon, Service: g.Service, Path: string(g.Path), Actions: g.Actions.String(),
		ExpiresAt: g.ExpiresAt, MaxUses: g.MaxUses, CreatedAt: g.CreatedAt,
	}
}

// grantRecord is the record of what an owner did to a grant. Its agent is the
// daemon that the grant is for.
func (b *Broker) grantRecord(c *call, action string, owner identity.Identity, g grant.Grant) *audit.Record {
	r := c.record(action)
	b.describe(r, owner)
	r.Outcome, r.Tenant, r.Agent, r.Service = audit.Confirmed, g.Tenant, g.Daemon, g.Service
	r.ScopePath, r.GrantID = string(g.Path), g.ID
	return r
}

// serveGrantList lists the grants that the caller gave and those that the caller's
// wallet was given.
func (b *Broker) serveGrantList(c *call) error {
	r := c.record(audit.ActionGrantList)
	return b.recorded(c, r, func() error { return b.listGrants(c, r) })
}

func (b *Broker) listGrants(c *call, r *audit.Record) error {
	session, _, err := b.caller(c, r)
	if err != nil {
		return err
	}
	q, err := grantQuery(c, session)
	if err != nil {
		return err
	}
	var found []grant.Grant
	limit := q.Limit
	q.Limit++ // one more tells whether there is a next page
	err = b.Store.View(c.ctx, func(tx *sql.Tx) (err error) {
		found, err = grant.List(c.ctx, tx, q)
		return err
	})
	if err != nil {
		return b.readFailed(err)
	}
	answer := api.GrantListResponse{Grants: []api.Grant{}}
	for i, g := range found {
		if i == limit {
			answer.Cursor = found[i-1].ID
			break
		}
		answer.Grants = append(answer.Grants, showGrant(g, session, c.now))
	}
	return c.writeJSON(answer)
}

// maxGrantPage bounds a page of grants.
const maxGrantPage = grant.MaxLimit - 1

// grantQuery reads the parameters cursor, limit and grant_id, each at most once.
func grantQuery(c *call, session token.Session) (grant.Query, error) {
	q := grant.Query{Owner: session.OmniAccount, Daemon: session.Wallet, Limit: grant.DefaultLimit}
	parameters, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return q, err
	}
	for name, values := range parameters {
		if len(values) != 1 {
			return q, api.Errorf(api.CodeBadRequest, "want the parameter %q once, got it %d times", clip(name), len(values))
		}
		switch name {
		case "cursor":
			q.Before = values[0]
		case "grant_id":
			q.ID = values[0]
		case "limit":
			n, err := strconv.Atoi(values[0])
			if err != nil || n < 1 || n > maxGrantPage {
				return q, api.Errorf(api.CodeBadRequest, "limit: want 1 to %d", maxGrantPage)
			}
			q.Limit = n
		default:
			return q, api.Errorf(api.CodeUnknownField, "the parameter %q is not known here", clip(name))
		}
	}
	return q, nil
}

// serveGrantRevoke ends a grant of the caller. A daemon's next call finds it so.
func (b *Broker) serveGrantRevoke(c *call) error {
	r := c.record(audit.ActionGrantRevoke)
	return b.recorded(c, r, func() error { return b.revokeGrant(c, r) })
}

func (b *Broker) revokeGrant(c *call, r *audit.Record) error {
	session, owner, err := b.caller(c, r)
	if err != nil {
		return err
	}
	req, err := decode[api.GrantRevokeRequest](c)
	if err != nil {
		return err
	}
	if isPrintable(req.GrantID, 64) { // else it is the id of none
		r.GrantID = req.GrantID
	}
	var g grant.Grant
	var refusal error
	err = b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) (err error) {
		var first bool
		g, first, err = grant.Revoke(ctx, tx, session.OmniAccount, req.GrantID, c.now)
		if refusal, err = asRefusal(err); refusal != nil || err != nil || !first {
			return err
		}
		return c.append(ctx, tx, b.grantRecord(c, audit.ActionGrantRevoke, owner, g))
	})
	if err != nil || refusal != nil {
		return firstOf(err, refusal)
	}
	return c.writeJSON(api.GrantRevokeResponse{Revoked: true, GrantID: g.ID, RevokedAt: g.RevokedAt.Unix()})
}

// showGrant is a grant in the eyes of the caller.
func showGrant(g grant.Grant, caller token.Session, now time.Time) api.Grant {
	role := api.GrantRoleDaemon
	if g.Owner == caller.OmniAccount {
		role = api.GrantRoleOwner
	}
	return api.Grant{
		GrantID: g.ID, Role: role, Status: g.Status(now), Owner: g.Owner, Wallet: g.Tenant, DaemonAddress: g.Daemon,
		Service: g.Service, ScopePath: string(g.Path), Actions: g.Actions.Strings(),
		CreatedAt: g.CreatedAt.Unix(), ExpiresAt: g.ExpiresAt.Unix(), MaxUses: g.MaxUses, UsedCount: g.UsedCount,
		RevokedAt: seconds(g.RevokedAt), SessionName: grant.SessionName(g.Daemon, g.ID),
		LastUsedAt: seconds(g.LastUsedAt), LastRecordID: g.LastRecord,
	}
}

// seconds is a time in Unix seconds, and nil where there is none.
func seconds(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	s := t.Unix()
	return &s
}
