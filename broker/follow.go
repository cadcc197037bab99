package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"agentkeys/audit"
)

// How a follower deals with an anchor that fails.
const (
	followBatch  = 128                    // records that are put together
	followRetry  = 100 * time.Millisecond // after the first failure in a row, doubled with each
	failuresOpen = 3                      // in a row that open the breaker
	probeEvery   = time.Second            // while it is open, doubled with each failure
	probeMost    = 30 * time.Second
	lookEvery    = 5 * time.Second // at one that lacks nothing
)

// A follower brings what is durable in the database to one anchor, in the order of the
// log and one call at a time. Nothing is dropped: what the anchor does not take comes
// again. One goroutine runs it; others wait for it and look at it.
type follower struct {
	name string
	has  func() int64 // how far the anchor is at the start; nil where it cannot tell
	// next finds what the anchor lacks behind a place: how to bring it, and up to
	// where it then has everything. Without anything to bring, bring is nil.
	next func(ctx context.Context, after int64) (bring func(context.Context) error, upto int64, err error)
	// look is the Look of the anchor; nil where there is none.
	look func(context.Context) error
	// patience is how long the anchor has for one call.
	patience func() time.Duration
	now      func() time.Time
	log      *slog.Logger
	wake     chan struct{} // holds one: there may be something to bring
	probe    chan struct{} // holds one: the next try need not wait any longer

	kept int64      // how far the database knows it to be; of keepCursors alone
	hung chan error // of a call that did not return; only run uses it
	due  bool       // whether the anchor is to be looked at; only run uses it

	mu       sync.Mutex    // guards what follows
	upto     int64         // the anchor has all up to this place
	failures int           // in a row
	open     bool          // nobody waits for the anchor, until it has caught up
	reason   string        // of the last failure
	public   string        // what of that anybody may read
	since    time.Time     // when open last turned; zero while it never was
	changed  chan struct{} // closed, and made anew, when one of these changes
}

func newFollower(name string, b *Broker) *follower {
	return &follower{name: name, patience: func() time.Duration { return b.anchorFor }, now: b.Now, log: b.Log,
		wake: make(chan struct{}, 1), probe: make(chan struct{}, 1), changed: make(chan struct{})}
}

// follow makes the follower of an anchor.
func (b *Broker) follow(a Anchor) *follower {
	f := newFollower(a.Name, b)
	f.has, f.look = a.Has, a.Look
	f.next = b.nextEntries(a.Put)
	if a.Publish != nil {
		f.next = b.nextHead(a.Publish)
	}
	return f
}

// nextEntries finds the records that an anchor lacks.
func (b *Broker) nextEntries(put func(context.Context, ...audit.Entry) error) func(context.Context, int64) (func(context.Context) error, int64, error) {
	return func(ctx context.Context, after int64) (func(context.Context) error, int64, error) {
		if after >= b.log.end() {
			return nil, after, nil
		}
		var entries []audit.Entry
		err := b.Store.View(ctx, func(tx *sql.Tx) (err error) {
			entries, err = entriesAfter(ctx, tx, after)
			return err
		})
		if err != nil || len(entries) == 0 {
			return nil, after, err
		}
		return func(ctx context.Context) error { return put(ctx, entries...) }, entries[len(entries)-1].Seq, nil
	}
}

// entriesAfter reads the next records. It refuses to pass over one that was not pruned:
// who waits for the record of a place waits for all before it.
func entriesAfter(ctx context.Context, tx *sql.Tx, after int64) ([]audit.Entry, error) {
	entries, err := audit.After(ctx, tx, after, followBatch)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	standing, err := audit.ReadStanding(ctx, tx)
	if err != nil {
		return nil, err
	}
	want := max(after, standing.Pruned) + 1
	for _, e := range entries {
		if e.Seq > want {
			return nil, fmt.Errorf("want the record at place %d, got the one at %d: records are missing", want, e.Seq)
		}
		want = max(want, e.Seq+1)
	}
	return entries, nil
}

// nextHead finds the head that an anchor lacks.
func (b *Broker) nextHead(publish func(context.Context, audit.Checkpoint) error) func(context.Context, int64) (func(context.Context) error, int64, error) {
	return func(_ context.Context, after int64) (func(context.Context) error, int64, error) {
		head := b.log.newest()
		if head.Size <= after {
			return nil, after, nil
		}
		return func(ctx context.Context) error { return publish(ctx, head) }, head.Size, nil
	}
}

// run follows until ctx ends, and then brings what is left as long as the anchor takes
// it, within its patience.
func (f *follower) run(ctx context.Context) {
	var looks <-chan time.Time
	if f.look != nil {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		looks = ticker.C
	}
	for ctx.Err() == nil {
		moved, err := f.step(ctx)
		switch {
		case err != nil:
			f.pause(ctx)
		case !moved:
			select {
			case <-ctx.Done():
			case <-f.wake:
			case <-looks:
				f.due = true
			}
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.patience())
	defer cancel()
	for moved, err := true, error(nil); moved && err == nil && last.Err() == nil; {
		moved, err = f.step(last)
	}
}

// step brings the next that the anchor lacks. At one that lacks nothing it looks, when
// that is due or the last call failed: only what works is taken to work again.
func (f *follower) step(ctx context.Context) (moved bool, err error) {
	bring, upto, err := f.next(ctx, f.at())
	call := bring
	if bring == nil && (f.due || f.failing()) {
		call, f.due = f.look, false
	}
	if err == nil && call != nil {
		err = f.attempt(ctx, call)
	}
	switch {
	case err != nil && ctx.Err() != nil: // it was looking that was cut short, at the end
		return false, err
	case err != nil:
		f.failed(err)
		return false, err
	case bring == nil:
		f.caughtUp()
		return false, nil
	}
	f.took(upto)
	return true, nil
}

var errHung = errors.New("the call before has not returned yet")

// attempt makes a call that may never return. It waits for no longer than the patience
// with the anchor; while a call is on its way it makes no other.
func (f *follower) attempt(ctx context.Context, call func(context.Context) error) error {
	select {
	case <-f.hung:
		f.hung = nil
	default:
		if f.hung != nil {
			return errHung
		}
	}
	patience := f.patience()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- call(ctx) }() // ends with the call, which has the deadline; nobody can end one that hangs
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		f.hung = done
		return fmt.Errorf("no answer within %v: %w", patience, ctx.Err())
	}
}

// pause waits after a failure, until the next try is due, or a call that hung returns.
func (f *follower) pause(ctx context.Context) {
	due := time.NewTimer(f.backoff())
	defer due.Stop()
	select {
	case <-ctx.Done():
	case <-due.C:
	case <-f.probe:
	case <-f.hung:
		f.hung = nil
	}
}

// backoff is how long to wait before the next try.
func (f *follower) backoff() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open {
		return followRetry << max(f.failures-1, 0)
	}
	return min(probeEvery<<min(max(f.failures-failuresOpen, 0), 10), probeMost)
}

// at is how far the anchor is.
func (f *follower) at() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.upto
}

func (f *follower) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *follower) failing() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failures > 0 || f.open
}

func (f *follower) took(upto int64) {
	f.change(func() { f.upto, f.failures = upto, 0 })
}

// failed counts a failure. Enough in a row open the breaker, and so does a call that
// took all the time that it had.
func (f *follower) failed(err error) {
	f.log.Warn("an anchor failed; it is tried again", "anchor", f.name, "error", err)
	f.change(func() {
		f.failures++
		f.reason, f.public = err.Error(), public(err)
		late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errHung)
		if !f.open && (late || f.failures >= failuresOpen) {
			f.open, f.since = true, f.now()
		}
	})
}

// public is what anybody may read of an error, "" for nothing.
func public(err error) string {
	var p interface{ Public() string }
	if errors.As(err, &p) {
		return p.Public()
	}
	return ""
}

// caughtUp closes the breaker: the anchor lacks nothing.
func (f *follower) caughtUp() {
	f.mu.Lock()
	open, failures := f.open, f.failures
	f.mu.Unlock()
	switch {
	case open:
		f.log.Info("an anchor works again and lacks nothing", "anchor", f.name)
		f.change(func() { f.open, f.since, f.failures = false, f.now(), 0 })
	case failures > 0:
		f.change(func() { f.failures = 0 })
	}
}

// wait returns nil once the anchor has all up to a place. It does not wait for one
// whose breaker is open.
func (f *follower) wait(ctx context.Context, place int64) error {
	for {
		f.mu.Lock()
		has, open, reason, changed := f.upto >= place, f.open, f.reason, f.changed
		f.mu.Unlock()
		switch {
		case has:
			return nil
		case open:
			return fmt.Errorf("anchor %s is given up until it works again: %s", f.name, reason)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("anchor %s has not taken the record: %w", f.name, ctx.Err())
		}
	}
}

// standing is how the anchor stands.
type standing struct {
	upto     int64
	open     bool
	failures int
	public   string    // what anybody may read of the last failure
	since    time.Time // when open last turned; zero while it never was
}

func (f *follower) standing() standing {
	f.mu.Lock()
	defer f.mu.Unlock()
	return standing{f.upto, f.open, f.failures, f.public, f.since}
}

func readCursors(ctx context.Context, tx *sql.Tx, into map[string]int64) error {
	rows, err := tx.QueryContext(ctx, "SELECT name, upto FROM audit_anchors")
	if err != nil {
		return fmt.Errorf("reading how far the anchors are: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var upto int64
		if err := rows.Scan(&name, &upto); err != nil {
			return fmt.Errorf("reading how far the anchors are: %w", err)
		}
		into[name] = upto
	}
	return rows.Err()
}

// keepCursors has the database know how far the anchors are, for those who look there
// and for the next start. What is lost of it is brought to the anchors again.
func (b *Broker) keepCursors(ctx context.Context) error {
	now := make(map[*follower]int64)
	for _, f := range b.anchors() {
		if upto := f.at(); upto != f.kept {
			now[f] = upto
		}
	}
	if len(now) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err := b.place(ctx, func(tx *sql.Tx) error {
		for f, upto := range now {
			if _, err := tx.ExecContext(ctx, `INSERT INTO audit_anchors (name, upto) VALUES ($1, $2)
				ON CONFLICT (name) DO UPDATE SET upto = excluded.upto`, f.name, upto); err != nil {
				return fmt.Errorf("keeping how far anchor %s is: %w", f.name, err)
			}
		}
		return nil
	})
	if err == nil {
		for f, upto := range now {
			f.kept = upto
		}
	}
	return err
}
