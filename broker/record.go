package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
)

// record begins the audit record of a call.
func (c *call) record(action string) *audit.Record {
	return &audit.Record{Time: c.now, Action: action, Source: c.source, RequestID: c.requestID}
}

// record makes a record durable. Its error is what the client gets: nothing may
// be released then.
func (b *Broker) record(c *call, r *audit.Record) error {
	err := b.Store.Update(c.ctx, func(tx *sql.Tx) error { return audit.Append(c.ctx, tx, r) })
	if err != nil {
		return b.storeFailed(c, api.CodeAuditUnavailable, err)
	}
	b.recording.worked()
	return nil
}

// storeFailed turns an error of the database into one for the client, and has
// readiness say so until a write works again.
func (b *Broker) storeFailed(c *call, code api.Code, err error) error {
	if c.r.Context().Err() == nil { // a client that went away says nothing about the database
		b.recording.failed(c.now, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", api.Errorf(code, "the database did not answer within %v", requestTimeout), err)
	}
	return fmt.Errorf("%w: %w", api.Errorf(code, "the database did not take the record"), err)
}

// recording remembers whether the last write worked.
type recording struct {
	mu     sync.Mutex // guards what follows
	reason string     // "" while writes work
	since  time.Time
	tried  time.Time // when readiness last tried a write of its own
}

func (r *recording) failed(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == "" {
		r.since = now
	}
	r.reason = err.Error()
}

func (r *recording) worked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != "" {
		r.reason = ""
	}
}

// state returns the reason that writes fail, "" while they work.
func (r *recording) state() (reason string, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason, r.since
}

// due says whether readiness should try a write, at most once a second, since a
// broker that is taken out of service sees no mint that could show the mend.
func (r *recording) due(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == "" || now.Sub(r.tried) < time.Second && !now.Before(r.tried) {
		return false
	}
	r.tried = now
	return true
}
