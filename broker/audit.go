package broker

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/identity"
)

// maxPageLines bounds the lines of a page in bytes, and so the page: JSON in JSON has
// every quote escaped, and all members twice.
const maxPageLines = 1 << 20

// serveAuditEntries shows the audit log: to an account what concerns it, to an auditor
// all of it. Shown or refused, the answer waits until the record of the reading is
// durable. Only a spent budget is not recorded, since it is what bounds how many
// records readers add; so the network's comes before anything that is.
func (b *Broker) serveAuditEntries(c *call) error {
	if err := take(c.now, taking{b.budgets.readsOfNetwork, network(c.source), "network"}); err != nil {
		return err
	}
	record := c.record(audit.ActionRead)
	return b.recorded(c, record, func() error {
		answer, err := b.readEntries(c, record)
		if err != nil {
			return err
		}
		record.Outcome = audit.Confirmed
		if err := b.record(c, record); err != nil {
			return err
		}
		return c.writeJSON(answer)
	})
}

// readEntries decides what the caller may see and reads it. It fills in who asks, and
// for what, as soon as that is known.
func (b *Broker) readEntries(c *call, record *audit.Record) (api.AuditEntries, error) {
	session, err := b.session(c)
	if err != nil {
		return api.AuditEntries{}, err
	}
	id := identity.Identity{Type: identity.Type(session.IdentityType), Value: session.IdentityValue}
	b.describe(record, id)
	if err := b.clock.check(c.now); err != nil {
		return api.AuditEntries{}, err
	}
	if err := take(c.now, taking{b.budgets.readsOfAccount, session.OmniAccount, "account"}); err != nil {
		return api.AuditEntries{}, recordedRefusal{err} // it bounds how many records readers add
	}
	q, err := parseAuditQuery(c.r.URL.RawQuery)
	if err != nil {
		return api.AuditEntries{}, err
	}
	record.ScopePath = q.whose()
	if err := b.scope(&q, id); err != nil {
		return api.AuditEntries{}, err
	}
	page, err := b.readPage(c, q.Reading)
	if err != nil {
		return api.AuditEntries{}, err
	}
	answer := showPage(page, q, id)
	if q.Owner == nil { // whose records they are sees who read them
		record.Tenant = cmp.Or(q.Tenant, q.Account)
	}
	record.Detail = fmt.Sprintf("%s, %d shown%s", answer.Scope, len(answer.Entries), q.filters())
	return answer, nil
}

// scope limits a query to what an identity may see, and finds its place in the log.
// The session is proven at each request, so whoever is no auditor any more sees their
// own from the next start on.
func (b *Broker) scope(q *auditQuery, id identity.Identity) error {
	if !slices.Contains(b.Auditors, id) {
		q.Owner = &audit.Owner{Account: id.OmniAccount(), Tenant: id.TenantTag()}
		if q.Account != "" && q.Account != q.Owner.Account || q.Tenant != "" && q.Tenant != q.Owner.Tenant {
			return api.Errorf(api.CodeAuditorRequired, "account and tenant are not the caller's")
		}
	}
	return q.locate()
}

func (b *Broker) readPage(c *call, r audit.Reading) (page audit.Page, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, writeTimeout)
	defer cancel()
	err = b.Store.View(ctx, func(tx *sql.Tx) error {
		page, err = audit.Read(ctx, tx, r)
		return err
	})
	if err != nil {
		return page, b.readFailed(err)
	}
	return page, nil
}

// showPage is a page in the eyes of the caller. One that would be too long goes on at
// the next cursor.
func showPage(page audit.Page, q auditQuery, caller identity.Identity) api.AuditEntries {
	answer := api.AuditEntries{Entries: []api.AuditEntry{}, Scope: api.AuditScopeAll}
	if q.Owner != nil {
		answer.Scope = api.AuditScopeOwn
	}
	length := 0
	for _, e := range page.Entries {
		shown := showEntry(e, q.Owner == nil || e.OmniAccount == caller.OmniAccount())
		if length += len(shown.Line); length > maxPageLines && len(answer.Entries) > 0 {
			page.Cut(len(answer.Entries))
			break
		}
		answer.Entries = append(answer.Entries, shown)
	}
	answer.More = page.More
	if page.More || q.Ascending {
		answer.Cursor = q.cursorAt(page.Next)
	}
	return answer
}

// showEntry is an entry in whole, or in part: of somebody else in the caller's prefix
// not who they are beside their wallet, nor where they come from. The salt would let
// the caller find that out by trying, so the line has none.
func showEntry(e audit.Seen, full bool) api.AuditEntry {
	line := audit.RawLine{Place: e.Seq, Hash: e.LeafHash(e.Digest()), Leaf: e.Leaf(), Salt: e.Salt}
	shown := api.ShownFull
	switch {
	case len(e.Person) > 0:
		shown = api.ShownErased
	case full:
		line.Person = e.PersonText()
	default:
		shown = api.ShownInPart
		e.OmniAccount, e.IdentityType, e.IdentityValue, e.Source = "", "", "", ""
	}
	return api.AuditEntry{
		ID: e.ID, Place: e.Seq, Time: e.Time.Unix(), Shown: shown, Action: e.Action, Status: e.Status, Outcome: e.Outcome, Reason: e.Reason, Detail: e.Detail,
		OmniAccount: e.OmniAccount, IdentityType: e.IdentityType, IdentityValue: e.IdentityValue, Wallet: e.Wallet, Source: e.Source,
		Tenant: e.Tenant, Agent: e.Agent, Service: e.Service, ScopePath: e.ScopePath, GrantID: e.GrantID,
		KeyID: e.KeyID, TokenID: e.TokenID, CredentialID: e.CredentialID, RequestID: e.RequestID, Settles: e.Settles,
		Hash: line.Hash.String(), Line: string(line.Append(nil)),
	}
}

// checkpointMaxAge is how many seconds a cache may keep the checkpoint. The next one
// follows a record within a second.
const checkpointMaxAge = 5

// serveAuditCheckpoint gives the signed head of the log to anybody. It and the proofs
// show no record, so they are not recorded.
func (b *Broker) serveAuditCheckpoint(c *call) error {
	if err := noParameters(c); err != nil {
		return err
	}
	var head audit.Checkpoint
	err := b.Store.View(c.ctx, func(tx *sql.Tx) (err error) {
		head, err = b.Audit.Head(c.ctx, tx)
		return err
	})
	if err != nil {
		return b.auditFailed(err)
	}
	note := []byte(head.Note)
	return c.servePublic(document{body: note, etag: etag(note)}, "text/plain; charset=utf-8", checkpointMaxAge)
}

// serveAuditProof proves to anybody that a record is in the log.
func (b *Broker) serveAuditProof(c *call) error {
	if err := b.takeProof(c); err != nil {
		return err
	}
	var p audit.Proof
	err := b.Store.View(c.ctx, func(tx *sql.Tx) (err error) {
		p, err = b.Audit.Prove(c.ctx, tx, c.r.PathValue("entry"))
		return err
	})
	if err != nil {
		return b.auditFailed(err)
	}
	return c.writeJSON(p) // as api.AuditProof, and as "agentkeys audit verify-proof" reads it
}

// serveAuditConsistency proves to anybody that the log only grew: without it a
// witness could not tell a longer log from another one.
func (b *Broker) serveAuditConsistency(c *call) error {
	if err := b.takeProof(c, "from", "to"); err != nil {
		return err
	}
	from, to, err := parseSizes(c.r.URL.RawQuery)
	if err != nil {
		return err
	}
	var proof []audit.Digest
	var head audit.Checkpoint
	err = b.Store.View(c.ctx, func(tx *sql.Tx) (err error) {
		proof, head, err = b.Audit.Consistency(c.ctx, tx, from, to)
		return err
	})
	if err != nil {
		return b.auditFailed(err)
	}
	return c.writeJSON(api.AuditConsistency{Origin: head.Origin, From: from, To: cmp.Or(to, head.Size), Hashes: hexHashes(proof), Checkpoint: head.Note})
}

// takeProof holds a request for a proof to the parameters that it may have and to the
// budget of its network.
func (b *Broker) takeProof(c *call, parameters ...string) error {
	if err := noParameters(c, parameters...); err != nil {
		return err
	}
	return take(c.now, taking{b.budgets.proofsOfNetwork, network(c.source), "network"})
}

// auditFailed is what the client gets of an error of the log.
func (b *Broker) auditFailed(err error) error {
	var sizes *audit.RangeError
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return api.Errorf(api.CodeRecordUnknown, "no record has this id")
	case errors.Is(err, audit.ErrNotInTree), errors.Is(err, audit.ErrEmpty):
		return api.Errorf(api.CodeAuditPending, "the tree does not reach that far yet")
	case errors.As(err, &sizes):
		return api.Errorf(api.CodeBadRequest, "from and to: %v", sizes)
	case errors.Is(err, audit.ErrChanged): // which no other try mends
		return fmt.Errorf("%w: %w", api.Errorf(api.CodeInternal, "see the log"), err)
	}
	return b.readFailed(err)
}

func hexHashes(hashes []audit.Digest) []string {
	texts := make([]string, 0, len(hashes))
	for _, h := range hashes {
		texts = append(texts, h.String())
	}
	return texts
}
