package broker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"agentkeys/audit"
)

const (
	extendEvery = 150 * time.Millisecond // records that come meanwhile share a head
	extendBatch = 1000                   // records in one transaction, which others wait for
	extendRetry = 500 * time.Millisecond // after an extension that failed
	// unplacedFor is how long records may be without a place before readiness says so.
	unplacedFor = 5 * time.Second
	// noteEvery is how often the newest head goes into the log of the broker.
	noteEvery = time.Minute
)

// sequence is how far the audit log has come: which records are durable, and which of
// them the signed head has.
type sequence struct {
	wake   chan struct{} // holds one: there may be records without a place
	urgent chan struct{} // holds one: somebody waits for the head

	mu        sync.Mutex       // guards what follows
	committed int64            // place of the last record that is durable, as far as is known
	head      audit.Checkpoint // the newest head that is durable
	signed    time.Time        // when that was seen first
	unplaced  time.Time        // by the clock of the process: since when there are records without a place; zero where there are none
	broken    error            // why the log may not be extended any more
	brokenAt  time.Time
}

func newSequence() *sequence {
	return &sequence{wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1)}
}

// nudge lets one who waits for c go on, now or when it comes to waiting.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// appended notes that the records up to a place are durable.
func (s *sequence) appended(place int64, urgent bool) {
	s.mu.Lock()
	s.committed = max(s.committed, place)
	if s.unplaced.IsZero() && s.committed > s.head.Size {
		s.unplaced = time.Now()
	}
	s.mu.Unlock()
	nudge(s.wake)
	if urgent {
		nudge(s.urgent)
	}
}

// moved notes a head that is durable.
func (s *sequence) moved(head audit.Checkpoint, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if head.Size > s.head.Size {
		s.head, s.signed = head, now
	}
	s.committed = max(s.committed, s.head.Size)
	s.unplaced = time.Time{}
	if s.committed > s.head.Size {
		s.unplaced = time.Now()
	}
}

// failed notes why an extension failed. An error that another try cannot mend ends
// them all: the log is not what it was, and nothing may be signed over that.
func (s *sequence) failed(err error, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, audit.ErrBroken) && s.broken == nil {
		s.broken, s.brokenAt = err, now
	}
}

// whole is an error once the log is not what it was.
func (s *sequence) whole() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// progress is how far a sequence is, at one moment.
type progress struct {
	committed                  int64
	head                       audit.Checkpoint
	signed, unplaced, brokenAt time.Time
	broken                     error
}

func (s *sequence) standing() progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return progress{s.committed, s.head, s.signed, s.unplaced, s.brokenAt, s.broken}
}

// newest is the newest head that is durable.
func (s *sequence) newest() audit.Checkpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.head
}

// end is the place of the last record that is durable.
func (s *sequence) end() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.committed
}

// extend gives the records that are there their places, until none is left, and lets
// those know who follow.
func (b *Broker) extend(ctx context.Context) error {
	for more := true; more; {
		if err := b.log.whole(); err != nil {
			return err
		}
		var head audit.Checkpoint
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
		err := b.place(ctx, func(tx *sql.Tx) (err error) {
			head, more, err = b.Audit.Extend(ctx, tx, extendBatch)
			return err
		})
		cancel()
		if err != nil {
			b.log.failed(err, b.Now())
			return err
		}
		b.log.moved(head, b.Now())
		for _, f := range b.followers {
			nudge(f.wake)
		}
	}
	return nil
}

// extendAlways extends the log whenever there are records without a place, until ctx
// ends.
func (b *Broker) extendAlways(ctx context.Context) {
	var noted time.Time
	nudge(b.log.wake) // for what an earlier process left
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.log.wake:
		}
		if err := b.extend(ctx); err != nil {
			b.noteExtension(ctx, err)
			if errors.Is(err, audit.ErrBroken) {
				return
			}
			nudge(b.log.wake)
			pause(ctx, extendRetry)
			continue
		}
		if now := time.Now(); now.Sub(noted) >= noteEvery {
			noted = now
			b.noteHead(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-b.log.urgent:
		case <-time.After(extendEvery):
		}
	}
}

func (b *Broker) noteExtension(ctx context.Context, err error) {
	if errors.Is(err, audit.ErrBroken) {
		b.Log.ErrorContext(ctx, "the audit log is not as it was left; nothing is released any more", "error", err)
		return
	}
	b.Log.WarnContext(ctx, "extending the audit log failed; it is tried again", "error", err)
}

// noteHead puts the newest head into the log of the broker, which is one more place
// that a log which is put back or forked can be held against.
func (b *Broker) noteHead(ctx context.Context) {
	if head := b.log.newest(); head.Size > 0 {
		b.Log.InfoContext(ctx, "checkpoint", "size", head.Size, "note", head.Note)
	}
}

// openLog reads how far the log and its followers came in an earlier process. A log
// that does not hold together, or lacks records that an anchor has, is refused.
func (b *Broker) openLog(ctx context.Context) error {
	remembered := map[string]int64{}
	var head audit.Checkpoint
	var last int64
	err := b.Store.View(ctx, func(tx *sql.Tx) (err error) {
		if head, err = b.Audit.Check(ctx, tx); err != nil && !errors.Is(err, audit.ErrEmpty) {
			return err
		}
		if last, err = lastPlace(ctx, tx); err != nil {
			return err
		}
		return readCursors(ctx, tx, remembered)
	})
	if err != nil {
		return err
	}
	b.log.head, b.log.signed, b.log.committed = head, b.started, max(last, head.Size)
	if last > head.Size {
		b.log.unplaced = time.Now()
	}
	for _, f := range b.followers {
		f.upto = remembered[f.name]
		if f.has != nil {
			f.upto = f.has()
		}
		f.kept = remembered[f.name]
		if f.upto > b.log.committed {
			return fmt.Errorf("anchor %s has the record at place %d, and the database ends with the one at place %d: it was cut or put back to an earlier copy", f.name, f.upto, b.log.committed)
		}
	}
	return nil
}

func lastPlace(ctx context.Context, tx *sql.Tx) (last int64, err error) {
	if err := tx.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM audit_records").Scan(&last); err != nil {
		return 0, fmt.Errorf("looking for the last audit record: %w", err)
	}
	return last, nil
}
