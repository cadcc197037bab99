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
	return b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		return c.append(ctx, tx, r)
	})
}

// append adds a record to the log in a transaction of commit.
func (c *call) append(ctx context.Context, tx *sql.Tx, r *audit.Record) error {
	r.Time = r.Time.UTC().Truncate(time.Millisecond) // as the database keeps it: all places have one record
	if err := audit.Append(ctx, tx, r); err != nil {
		return err
	}
	c.place = r.Seq
	return nil
}

// update runs fn in a transaction and returns once its records are where they must be
// before an answer leaves. Its error is what the client gets.
func (b *Broker) update(c *call, code api.Code, fn func(context.Context, *sql.Tx) error) error {
	if err := b.commit(c, code, fn); err != nil {
		return err
	}
	return b.awaitAnchors(c)
}

// commit runs fn in a transaction whose time does not depend on the client: one
// that hangs up right after asking would otherwise leave no record of it. The anchors
// get its records, in their time. As with Store.Update, fn may run twice: what it sets
// outside the database it sets anew, and what it takes there it takes once.
func (b *Broker) commit(c *call, code api.Code, fn func(context.Context, *sql.Tx) error) error {
	if err := b.log.whole(); err != nil {
		return fmt.Errorf("%w: %w", errLogBroken(), err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), writeTimeout)
	defer cancel()
	err := b.transact(ctx, func(tx *sql.Tx) error {
		c.place = 0 // it may run twice
		return fn(ctx, tx)
	})
	if err != nil {
		if c.place > 0 { // it may be durable all the same, and then wants its place
			nudge(b.log.wake)
		}
		return b.storeFailed(c, code, err)
	}
	if c.place > 0 { // a transaction that wrote nothing shows nothing
		b.recording.worked(c.now)
	}
	b.appended(c)
	return nil
}

// storeFailed turns an error of the database into one for the client, and has
// readiness say so until a write works again.
func (b *Broker) storeFailed(c *call, code api.Code, err error) error {
	b.recording.failed(c.now, err)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", api.Errorf(code, "the database did not answer within %v", writeTimeout), err)
	}
	return fmt.Errorf("%w: %w", api.Errorf(code, "the database did not do its part"), err)
}

// recording remembers whether the database worked when it was last needed.
type recording struct {
	mu     sync.Mutex // guards what follows
	reason string     // "" while it works
	since  time.Time  // when that last turned
	tried  time.Time  // when readiness last tried a write of its own
}

func (r *recording) failed(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason == "" {
		r.since = now
	}
	r.reason = err.Error()
}

func (r *recording) worked(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.reason != "" {
		r.reason, r.since = "", now
	}
}

// state returns the reason that the database fails, "" while it works, and since
// when.
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
