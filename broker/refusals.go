package broker

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"agentkeys/api"
	"agentkeys/audit"
)

const (
	// refusalsPerMinute is how many refusals of callers who proved no identity have a
	// record of their own, for each network.
	refusalsPerMinute = 60
	// summariseEvery is how long further ones are counted before their number is
	// recorded.
	summariseEvery = time.Minute
	// maxCounts bounds what is counted apart. Whatever more there is counts as of
	// several networks.
	maxCounts = 1000
)

// refusals keeps callers who proved nothing from filling the disk with records: they
// cost such a caller nothing. A refusal that concerns a proven identity always has its
// own record. Of the others each network's first ones have, and the rest are counted
// and recorded as a number, by network, action and reason; what was counted and not
// yet recorded is lost with the process. It is safe for concurrent use.
type refusals struct {
	own *budget // of each network

	mu     sync.Mutex // guards counts
	counts map[refusalKind]refusalCount

	summarised prometheus.Counter
}

type refusalKind struct{ network, action, reason string } // network is "" for several

type refusalCount struct {
	n     int64
	since time.Time
}

func newRefusals(registry *prometheus.Registry) *refusals {
	f := &refusals{own: newBudget(refusalsPerMinute), counts: make(map[refusalKind]refusalCount), summarised: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "agentkeys_summarised_refusals_total", Help: "Refusals without a record of their own, of callers who proved nothing."})}
	registry.MustRegister(f.summarised)
	return f
}

// admit says whether a refusal is to have its own record. One that is not was counted.
func (f *refusals) admit(r *audit.Record) bool {
	if r.OmniAccount != "" {
		return true
	}
	kind := refusalKind{network(r.Source), r.Action, r.Reason}
	if _, ok := f.own.take(kind.network, r.Time); ok {
		return true
	}
	f.summarised.Inc()
	f.mu.Lock()
	defer f.mu.Unlock()
	count, known := f.counts[kind]
	if !known && len(f.counts) >= maxCounts {
		kind.network = "" // of which there are no more than actions times reasons
		count, known = f.counts[kind]
	}
	if !known {
		count.since = r.Time
	}
	count.n++
	f.counts[kind] = count
	return false
}

// due is what has been counted for long enough, or all there is.
func (f *refusals) due(now time.Time, all bool) map[refusalKind]refusalCount {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := make(map[refusalKind]refusalCount)
	for kind, count := range f.counts {
		if age := now.Sub(count.since); all || age >= summariseEvery || age < 0 {
			found[kind] = count
		}
	}
	return found
}

// recorded takes out what is durable. What was counted meanwhile stays.
func (f *refusals) recorded(counts map[refusalKind]refusalCount, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for kind, count := range counts {
		left := refusalCount{f.counts[kind].n - count.n, now}
		if left.n == 0 {
			delete(f.counts, kind)
		} else {
			f.counts[kind] = left
		}
	}
}

// Summarise records how many refusals were counted, of those that it is time for, or
// of all. Run does so every few seconds, Stop at the end.
func (b *Broker) Summarise(ctx context.Context, all bool) error {
	c := &call{ctx: ctx, now: b.Now(), requestID: "summary-" + rand.Text()}
	counts := b.refusals.due(c.now, all)
	if len(counts) == 0 {
		return nil
	}
	err := b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		for kind, count := range counts {
			if err := c.append(ctx, tx, kind.summary(c, count)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("recording how many refusals there were: %w", err)
	}
	b.refusals.recorded(counts, c.now)
	return nil
}

// summary is one record in the place of many.
func (k refusalKind) summary(c *call, count refusalCount) *audit.Record {
	r := c.record(audit.ActionRefusalsSummarised)
	r.Outcome, r.Reason, r.Source = audit.Refused, k.reason, k.network
	r.Detail = fmt.Sprintf("action=%s count=%d since=%s", k.action, count.n, count.since.UTC().Format(time.RFC3339))
	return r
}

// recordedRefusal is a refusal that has its record already.
type recordedRefusal struct{ error }

func (r recordedRefusal) Unwrap() error { return r.error }

// recorded serves what leaves a record when it is refused. The refusal waits until
// its record is durable, and says otherwise that it could not be recorded.
func (b *Broker) recorded(c *call, r *audit.Record, serve func() error) error {
	defer func() {
		if p := recover(); p != nil { // a refusal too, if an unwanted one
			_ = b.refuse(c, r, api.Errorf(api.CodeInternal, "see the log"))
			panic(p)
		}
	}()
	if err := serve(); err != nil {
		return b.refuse(c, r, err)
	}
	return nil
}

// refuse records a refusal and returns what the client gets. Where the database or an
// anchor has just failed to take a record it does not try another.
func (b *Broker) refuse(c *call, r *audit.Record, refusal error) error {
	var done recordedRefusal
	if errors.As(refusal, &done) {
		return refusal
	}
	code := asAPI(refusal).Code
	if code == api.CodeAuditUnavailable || code == api.CodeStoreUnavailable {
		return refusal
	}
	r.ID, r.Outcome, r.Reason = "", audit.Refused, string(code)
	if !b.refusals.admit(r) {
		return refusal
	}
	if err := b.record(c, r); err != nil {
		return err
	}
	return refusal
}
