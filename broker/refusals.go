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

// How many refusals have a record of their own a minute.
const (
	// refusalsPerMinute of callers who proved no identity, for each network.
	refusalsPerMinute = 60
	// refusalsOfAccount of a proven identity, beside the first of each action and
	// reason: a flood of one kind must not hide that there was another.
	refusalsOfAccount = 60
	// refusalsOfNetwork of all proven identities, for each network, since accounts
	// cost nothing. It is that of ten accounts, so that none shuts out the others.
	refusalsOfNetwork = 10 * refusalsOfAccount
)

const (
	// summariseEvery is how long further ones are counted before their number is
	// recorded.
	summariseEvery = time.Minute
	// maxCounts bounds what is counted apart, by account and by network. What more
	// there is of accounts counts as of several in a network, and of networks as of
	// several.
	maxCounts = 1000
)

// refusals keeps callers from filling the disk with records of what they were refused,
// which costs them nothing. The first refusals of each network's callers who proved
// nothing, and of each account, have their own record; the rest are counted and
// recorded as a number, by account or network, action and reason. What was counted and
// not yet recorded is lost with the process. Only refusals are ever counted: whatever
// was released has a record of its own. It is safe for concurrent use.
type refusals struct {
	unproven *budget // of each network, of callers who proved no identity
	account  *budget // of each account
	first    *budget // of each account, action and reason
	network  *budget // of each network, of all its accounts

	mu     sync.Mutex // guards what follows
	counts map[refusalKind]refusalCount
	named  int // those of counts that name an account

	summarised prometheus.Counter
}

// refusalKind is what is counted together.
type refusalKind struct {
	proven         bool   // an identity was
	who            person // none for several, or where none was proven
	network        string // "" for several
	action, reason string
}

// person is whom a record is of.
type person struct{ omniAccount, identityType, identityValue, wallet string }

type refusalCount struct {
	n     int64
	since time.Time
}

func newRefusals(registry *prometheus.Registry) *refusals {
	f := &refusals{unproven: newBudget(refusalsPerMinute), account: newBudget(refusalsOfAccount), first: newBudget(1), network: newBudget(refusalsOfNetwork),
		counts: make(map[refusalKind]refusalCount), summarised: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "agentkeys_summarised_refusals_total", Help: "Refusals without a record of their own, whose number is recorded."})}
	registry.MustRegister(f.summarised)
	return f
}

// admission is what became of a refusal.
type admission struct {
	kind refusalKind
	own  bool // it has a record of its own
}

func kindOf(r *audit.Record) refusalKind {
	return refusalKind{r.OmniAccount != "", person{r.OmniAccount, r.IdentityType, r.IdentityValue, r.Wallet}, network(r.Source), r.Action, r.Reason}
}

// admitIn is admit for a transaction, which may run twice: the same refusal of a call is
// counted once.
func (f *refusals) admitIn(c *call, r *audit.Record) bool {
	if kind := kindOf(r); c.admitted == nil || c.admitted.kind != kind {
		c.admitted = &admission{kind, f.admit(r)}
	}
	return c.admitted.own
}

// admit says whether a refusal is to have its own record. One that is not was counted.
func (f *refusals) admit(r *audit.Record) bool {
	kind := kindOf(r)
	if f.hasOwn(kind, r.Time) {
		return true
	}
	f.count(kind, r.Time)
	return false
}

// hasOwn takes a record of its own for a refusal. What is beyond the account's takes
// nothing from its network.
func (f *refusals) hasOwn(k refusalKind, now time.Time) bool {
	if !k.proven {
		_, ok := f.unproven.take(k.network, now)
		return ok
	}
	_, ok := f.first.take(k.who.omniAccount+" "+k.action+" "+k.reason, now)
	if !ok {
		_, ok = f.account.take(k.who.omniAccount, now)
	}
	if ok {
		_, ok = f.network.take(k.network, now)
	}
	return ok
}

func (f *refusals) count(k refusalKind, now time.Time) {
	f.summarised.Inc()
	f.mu.Lock()
	defer f.mu.Unlock()
	k = f.placeOf(k)
	count, known := f.counts[k]
	if !known {
		count.since = now
		if k.who != (person{}) {
			f.named++
		}
	}
	count.n++
	f.counts[k] = count
}

// placeOf is the kind that there is room to count a refusal under.
func (f *refusals) placeOf(k refusalKind) refusalKind {
	if _, known := f.counts[k]; known {
		return k
	}
	if k.who != (person{}) {
		if f.named < maxCounts {
			return k
		}
		k.who = person{}
		return f.placeOf(k)
	}
	if len(f.counts)-f.named >= maxCounts {
		k.network = "" // of which there are no more than twice actions times reasons
	}
	return k
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
			if kind.who != (person{}) {
				f.named--
			}
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
	r.OmniAccount, r.IdentityType, r.IdentityValue, r.Wallet = k.who.omniAccount, k.who.identityType, k.who.identityValue, k.who.wallet
	r.Detail = fmt.Sprintf("action=%s count=%d since=%s", k.action, count.n, count.since.UTC().Format(time.RFC3339))
	if k.proven && k.who == (person{}) {
		r.Detail += " accounts=several"
	}
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

// appendRefusal records a refusal, or counts it, in a transaction that decides more.
func (b *Broker) appendRefusal(ctx context.Context, tx *sql.Tx, c *call, r *audit.Record) error {
	if !b.refusals.admitIn(c, r) {
		return nil
	}
	return c.append(ctx, tx, r)
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
