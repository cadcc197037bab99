package broker

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/grant"
)

// decide settles in one transaction what becomes of a call: it is a retry, and hears
// what was decided before; or it is refused; or it goes on, and then its
// Idempotency-Key, its request_id, one use of its grant and its record of intent are
// durable together. It returns an earlier answer, or nil to go on.
func (b *Broker) decide(c *call, m *mint) (*kept, error) {
	var earlier *kept
	var refusal error
	asked := *m.intent
	err := b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) (err error) {
		m.decision, *m.intent = decision{}, asked // it may run twice
		earlier, refusal, err = b.decideIn(ctx, tx, c, m)
		return err
	})
	switch {
	case err != nil:
		b.abandon(c, m)
		b.metrics.mintAWS(audit.Refused, string(api.CodeAuditUnavailable))
		return nil, err
	case earlier != nil && earlier.Credentials != nil:
		b.metrics.mintAWS(audit.Replayed, "")
	case earlier != nil:
		b.metrics.mintAWS(audit.Refused, string(earlier.Code))
	case refusal != nil:
		b.metrics.mintAWS(audit.Refused, string(asAPI(refusal).Code))
	}
	return earlier, refusal
}

func (b *Broker) decideIn(ctx context.Context, tx *sql.Tx, c *call, m *mint) (earlier *kept, refusal, err error) {
	stale := b.checkFresh(m, c.now)
	row, err := known(ctx, tx, c, m, stale == nil)
	m.first = err == nil && row == nil && stale == nil
	switch {
	case err != nil:
		return nil, nil, err
	case row != nil: // a retry, which may be older than a new call
		return b.repeat(ctx, tx, c, m, row)
	case stale != nil:
		return nil, stale, b.appendRefusal(ctx, tx, c, m.refused(stale.Code))
	}
	refusal, err = b.authorize(ctx, tx, c, m)
	if err != nil {
		return nil, nil, err
	}
	if refusal != nil {
		return nil, refusal, b.keepRefusal(ctx, tx, c, m, asAPI(refusal))
	}
	return nil, nil, b.begin(ctx, tx, c, m)
}

// checkFresh refuses a call that was signed too long ago, or too far in the future.
func (b *Broker) checkFresh(m *mint, now time.Time) *api.Error {
	if off := now.Sub(m.request.IssuedAt.Time); off > b.CallSkew || off < -b.CallSkew {
		return api.Errorf(api.CodeCallExpired, "the call was issued at %s, and it is %s: want at most %v between them",
			m.request.IssuedAt.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), b.CallSkew)
	}
	return nil
}

// authorize finds the grant, compiles what it allows, takes from the budgets, and last
// of all counts the use of the grant, which is where one that was revoked or is used up
// is found out at the latest.
func (b *Broker) authorize(ctx context.Context, tx *sql.Tx, c *call, m *mint) (refusal, err error) {
	g, err := b.findGrant(ctx, tx, m, c.now)
	var none *grant.Error
	if errors.As(err, &none) {
		return none, nil
	}
	if err != nil {
		return nil, err
	}
	m.grant, m.until = g, g.ExpiresAt
	m.intent.Tenant, m.intent.GrantID = g.Tenant, g.ID
	if b.AWS == nil {
		return api.Errorf(api.CodeAWSNotConfigured, "the broker has no AWS account to ask"), nil
	}
	m.policy, err = b.grants.SessionPolicy(b.AWS.Target, g, m.path)
	if err != nil {
		return api.Errorf(api.CodeBadRequest, "intent.scope_path: %v", err), nil
	}
	if refusal := b.takeMint(c, m); refusal != nil || g.ID == "" {
		return refusal, nil
	}
	err = b.grants.Use(ctx, tx, g, m.intent.ID, c.now)
	if errors.As(err, &none) {
		return none, nil
	}
	return nil, err
}

// findGrant finds the grant for a call. Where the deployment does not require one, a
// wallet without any may reach what it asks for under its own prefix, and a call that
// names none is not given another owner's: the choice would be one of tenants.
func (b *Broker) findGrant(ctx context.Context, tx *sql.Tx, m *mint, now time.Time) (grant.Grant, error) {
	ask := grant.Request{Daemon: m.session.Wallet, Service: m.request.Intent.Service, Path: m.path, GrantID: m.request.Intent.GrantID}
	g, err := b.grants.Find(ctx, tx, ask, now)
	if !b.GrantOptional || ask.GrantID != "" || b.AWS == nil {
		return g, err
	}
	var none *grant.Error
	switch {
	case ask.Service == grant.S3 && errors.As(err, &none) && none.Code == grant.CodeRequired:
		return grant.Grant{Tenant: m.session.Wallet, Actions: grant.AllActions(), ExpiresAt: now.Add(b.AWS.Session)}, nil
	case err == nil && g.Tenant != m.session.Wallet:
		return grant.Grant{}, &grant.Error{Code: grant.CodeAmbiguous, Detail: "grant " + g.ID + " is another owner's, and without one this wallet reaches its own prefix"}
	}
	return g, err
}

// taking is one budget that is taken from.
type taking struct {
	of         *budget
	key, whose string
}

// take takes one from each budget, or from none where one of them is spent: what one
// account asks too often costs its network nothing, nor what it asks under one grant
// another. It waits for the longest. What the database refuses then has been taken.
// Budgets are named in the order account, grant, network, in which they are locked.
func take(now time.Time, from ...taking) error {
	for _, t := range from {
		t.of.mu.Lock()
		defer t.of.mu.Unlock()
	}
	var spent *api.Error
	for _, t := range from {
		if wait := t.of.missing(t.key, now); wait > 0 && (spent == nil || wait > spent.RetryAfter) {
			spent = api.Errorf(api.CodeBudgetSpent, "the budget of this %s, %d a minute, is spent", t.whose, t.of.burst)
			spent.RetryAfter = wait
		}
	}
	if spent != nil {
		return spent
	}
	for _, t := range from {
		t.of.spend(t.key)
	}
	return nil
}

// pay takes in a transaction, which may run twice, what a call costs once.
func (c *call) pay(from ...taking) error {
	if c.paid {
		return nil
	}
	err := take(c.now, from...)
	c.paid = err == nil
	return err
}

// takeMint takes one mint from the budgets that bound it.
func (b *Broker) takeMint(c *call, m *mint) error {
	from := []taking{{b.budgets.account, m.session.OmniAccount, "account"}}
	if m.grant.ID != "" {
		from = append(from, taking{b.budgets.grant, m.grant.ID, "grant"})
	}
	return c.pay(append(from, taking{b.budgets.network, network(c.source), "network"})...)
}

// takeToken takes one web identity token.
func (b *Broker) takeToken(c *call, account string) error {
	return take(c.now, taking{b.budgets.tokensOfAccount, account, "account"}, taking{b.budgets.tokensOfNetwork, network(c.source), "network"})
}

// takeReplay takes one answer that is given again, which mints nothing and leaves a
// record.
func (b *Broker) takeReplay(c *call, account string) error {
	return c.pay(taking{b.budgets.replaysOfAccount, account, "account"}, taking{b.budgets.replaysOfNetwork, network(c.source), "network"})
}

// takeGrant takes one grant that is made. An account and a network may make as many
// as they may mint, counted apart.
func (b *Broker) takeGrant(c *call, account string) error {
	return take(c.now, taking{b.budgets.grantsOfAccount, account, "account"}, taking{b.budgets.grantsOfNetwork, network(c.source), "network"})
}

// takeSignIn takes one sign-in that is started, each of which leaves a challenge and a
// record. A network may start as many as it may mint, counted apart, and never fewer
// than leastSignIns.
func (b *Broker) takeSignIn(c *call) error {
	return take(c.now, taking{b.budgets.signInsOfNetwork, network(c.source), "network"})
}

// leastSignIns is how many sign-ins a network may start a minute, however little it
// may mint.
const leastSignIns = 60

// begin records the intent. Once that is durable, with the use of the grant, STS may be
// asked.
func (b *Broker) begin(ctx context.Context, tx *sql.Tx, c *call, m *mint) error {
	m.intent.Outcome, m.intent.TokenID = audit.Pending, newTokenID()
	return c.append(ctx, tx, m.intent)
}

// keepRefusal records a refusal and keeps it as the answer of the call: a request_id
// is decided once, also when it is refused. What is not decided for good, or counted
// without a record to remember it by, may be sent again as it is.
func (b *Broker) keepRefusal(ctx context.Context, tx *sql.Tx, c *call, m *mint, refusal *api.Error) error {
	record := m.refused(refusal.Code)
	record.ID = m.intent.ID // under which the call is remembered
	own := b.refusals.admitIn(c, record)
	if own {
		if err := c.append(ctx, tx, record); err != nil {
			return err
		}
	}
	if !own || refusal.Code == api.CodeBudgetSpent || refusal.Code == api.CodeAWSNotConfigured {
		return forgetRow(ctx, tx, m.row())
	}
	sealed, err := b.seal(m.row(), keptRefusal(refusal))
	if err != nil {
		return err
	}
	_, err = concludeRow(ctx, tx, m.row(), audit.Refused, sealed)
	return err
}

// repeat answers a call whose request_id or Idempotency-Key is known.
func (b *Broker) repeat(ctx context.Context, tx *sql.Tx, c *call, m *mint, row *mintRow) (earlier *kept, refusal, err error) {
	refuse := func(code api.Code, detail string) (*kept, error, error) {
		return nil, api.Errorf(code, "%s", detail), b.appendRefusal(ctx, tx, c, m.refused(code))
	}
	switch {
	case m.keyDigest == nil || !bytes.Equal(row.key, m.keyDigest):
		return refuse(api.CodeCallReplayed, "this request_id was decided before")
	case row.bodyHash != m.bodyHash:
		return refuse(api.CodeIdempotencyKeyReused, "this Idempotency-Key came with another body")
	case row.state == audit.Pending && c.now.Before(row.settleBy):
		return refuse(api.CodeIdempotencyInProgress, "the first request has no outcome yet")
	case row.state == audit.Pending:
		if err := b.settleRow(ctx, tx, c, row); err != nil {
			return nil, nil, err
		}
		return refuse(api.CodeMintInterrupted, "the first request was cut off")
	}
	answer, err := b.open(row)
	if err != nil {
		return refuse(api.CodeMintInterrupted, "the answer of the first request is not at hand")
	}
	if answer.Credentials == nil {
		return answer, nil, b.appendRefusal(ctx, tx, c, m.refused(answer.Code))
	}
	return b.replay(ctx, tx, c, m, row, answer)
}

// replay gives credentials again that an earlier call got, unless their grant has
// ended since. Each time has its record, so how often is bounded.
func (b *Broker) replay(ctx context.Context, tx *sql.Tx, c *call, m *mint, row *mintRow, answer *kept) (*kept, error, error) {
	if answer.GrantID == "" && !b.GrantOptional { // it was, when the first request came
		return nil, api.Errorf(api.CodeGrantRequired, "the first request had no grant"), b.appendRefusal(ctx, tx, c, m.refused(api.CodeGrantRequired))
	}
	if answer.GrantID != "" {
		g, err := grant.ByID(ctx, tx, answer.GrantID)
		if err != nil {
			return nil, nil, err
		}
		g.UsedCount = 0 // this use was counted
		var ended *grant.Error
		err = grant.Check(g, grant.Request{Daemon: m.session.Wallet, Service: m.request.Intent.Service, Path: m.path}, c.now)
		if errors.As(err, &ended) {
			return nil, ended, b.appendRefusal(ctx, tx, c, m.refused(api.Code(ended.Code)))
		}
	}
	if spent := b.takeReplay(c, m.session.OmniAccount); spent != nil {
		return nil, spent, b.appendRefusal(ctx, tx, c, m.refused(api.CodeBudgetSpent))
	}
	if err := keepConfirmed(ctx, tx, row); err != nil {
		return nil, nil, err
	}
	if err := tx.QueryRowContext(ctx, "SELECT seq FROM audit_records WHERE settles = $1", row.recordID).Scan(&answer.place); err != nil {
		return nil, nil, fmt.Errorf("looking for the record of what is given again: %w", err)
	}
	record := *m.intent
	record.Outcome, record.GrantID, record.Tenant = audit.Replayed, answer.GrantID, answer.Credentials.Wallet
	record.ID, record.CredentialID = "", answer.Credentials.AccessKeyID
	return answer, nil, c.append(ctx, tx, &record)
}

// budgets bound whatever leaves a record, and proofs of the audit log, which are work:
// how many AWS credentials and web identity tokens are minted, how often credentials
// are given again, how many grants are made, how many sign-ins are started, and how
// often the audit log is read or proven. An account and a network may do of each as
// much as they may mint, counted apart: whoever has a session asks for tokens, and must
// not thereby keep the wallet that it is of from credentials, for which each call is
// signed.
type budgets struct {
	account, grant, network            *budget
	tokensOfAccount, tokensOfNetwork   *budget
	replaysOfAccount, replaysOfNetwork *budget
	grantsOfAccount, grantsOfNetwork   *budget
	signInsOfNetwork                   *budget
	readsOfAccount, readsOfNetwork     *budget
	proofsOfNetwork                    *budget
}

func newBudgets(c Budgets) budgets {
	return budgets{account: newBudget(c.PerAccount), grant: newBudget(c.PerGrant), network: newBudget(c.PerNetwork),
		tokensOfAccount: newBudget(c.PerAccount), tokensOfNetwork: newBudget(c.PerNetwork),
		replaysOfAccount: newBudget(c.PerAccount), replaysOfNetwork: newBudget(c.PerNetwork),
		grantsOfAccount: newBudget(c.PerAccount), grantsOfNetwork: newBudget(c.PerNetwork),
		signInsOfNetwork: newBudget(max(c.PerNetwork, leastSignIns)),
		readsOfAccount:   newBudget(c.PerAccount), readsOfNetwork: newBudget(c.PerNetwork), proofsOfNetwork: newBudget(c.PerNetwork)}
}
