package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"agentkeys/api"
)

// AuditQuery says which entries of the audit log to read. Members that are zero say
// nothing. Only an auditor may name an Account or a Tenant that is not their own.
type AuditQuery struct {
	Account   string
	Tenant    string
	GrantID   string
	Action    string
	Outcome   string
	Since     int64 // Unix seconds; entries of this time or later
	Until     int64 // entries before this time
	Ascending bool  // the oldest first; else the newest
	Limit     int   // of a page
}

func (q AuditQuery) values(cursor string) url.Values {
	v := make(url.Values)
	for name, value := range map[string]string{
		"account": q.Account, "tenant": q.Tenant, "grant_id": q.GrantID, "action": q.Action, "outcome": q.Outcome, "cursor": cursor,
		"since": number(q.Since), "until": number(q.Until), "limit": number(int64(q.Limit)),
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Ascending {
		v.Set("order", "asc")
	}
	return v
}

func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}

// AuditEntries returns a page of the audit log as far as the session may see it. Cursor
// is "" for the first page, and the last answer's for the next. Every call is itself
// recorded in the log.
func (c *Client) AuditEntries(ctx context.Context, sessionJWT string, q AuditQuery, cursor string) (api.AuditEntries, error) {
	var answer api.AuditEntries
	path := api.PathAuditEntries
	if v := q.values(cursor); len(v) > 0 {
		path += "?" + v.Encode()
	}
	err := c.send(ctx, http.MethodGet, path, sessionJWT, nil, nil, &answer)
	return answer, err
}

// AuditAll goes through the entries page by page until there are no more. It ends with
// the first error. In ascending order it sees the records of its own reading too, if
// they are appended before its end.
func (c *Client) AuditAll(ctx context.Context, sessionJWT string, q AuditQuery) iter.Seq2[api.AuditEntry, error] {
	return func(yield func(api.AuditEntry, error) bool) {
		if q.Ascending && q.Limit == 1 {
			yield(api.AuditEntry{}, errors.New("reading the audit log: in ascending order want a limit of 2 or more, got 1: each page adds a record"))
			return
		}
		cursor := ""
		for more := true; more; {
			page, err := c.AuditEntries(ctx, sessionJWT, q, cursor)
			if err == nil && page.More && (page.Cursor == "" || page.Cursor == cursor) {
				err = fmt.Errorf("reading the answer of %s: want a cursor that leads on, got %q again", api.PathAuditEntries, page.Cursor)
			}
			if err != nil {
				yield(api.AuditEntry{}, err)
				return
			}
			for _, e := range page.Entries {
				if !yield(e, nil) {
					return
				}
			}
			cursor, more = page.Cursor, page.More
		}
	}
}

// AuditCheckpoint returns the signed head of the audit log, a C2SP tlog-checkpoint,
// which the caller holds against the broker's audit key. It takes no session.
func (c *Client) AuditCheckpoint(ctx context.Context) (string, error) {
	var note string
	err := c.send(ctx, http.MethodGet, api.PathAuditCheckpoint, "", nil, nil, &note)
	return note, err
}

// AuditProof returns the proof that a record is in the tree, for the caller to check.
// A record that has no place there yet has one within a second, so it is asked for
// again when the broker says, at most five times in all; then it is
// api.CodeAuditPending. It takes no session.
func (c *Client) AuditProof(ctx context.Context, recordID string) (api.AuditProof, error) {
	for sent := 1; ; sent++ {
		var answer api.AuditProof
		err := c.send(ctx, http.MethodGet, api.PathAuditProof+url.PathEscape(recordID), "", nil, nil, &answer)
		var pending *api.Error
		if !errors.As(err, &pending) || pending.Code != api.CodeAuditPending || sent == maxSends || wait(ctx, min(pending.RetryAfter, longestPause)) != nil {
			return answer, err
		}
	}
}

// AuditConsistency returns the proof that the tree of size to begins with the tree of
// size from, for the caller to check; a to of 0 is the present tree. It takes no
// session.
func (c *Client) AuditConsistency(ctx context.Context, from, to int64) (api.AuditConsistency, error) {
	v := url.Values{"from": {strconv.FormatInt(from, 10)}}
	if to != 0 {
		v.Set("to", strconv.FormatInt(to, 10))
	}
	var answer api.AuditConsistency
	err := c.send(ctx, http.MethodGet, api.PathAuditConsistency+"?"+v.Encode(), "", nil, nil, &answer)
	return answer, err
}
