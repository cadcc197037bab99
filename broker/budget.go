package broker

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Budgets say how many AWS credentials may be minted a minute by one account, under
// one grant and from one network. An account and a network may as often, each counted
// apart, get web identity tokens, get credentials again in a retry, make grants and
// read the audit log; and a network may ask for proofs of the log and start sign-ins,
// of these never fewer than 60. Each is 1 or more, refills evenly, and a whole
// minute's worth may be used at once.
type Budgets struct{ PerAccount, PerGrant, PerNetwork int }

// check refuses a budget that would let nothing through, or everything.
func (b Budgets) check() error {
	for _, m := range []struct {
		name      string
		perMinute int
	}{{"account", b.PerAccount}, {"grant", b.PerGrant}, {"network", b.PerNetwork}} {
		if m.perMinute < 1 {
			return fmt.Errorf("making the broker: budget per %s: want 1 or more mints a minute, got %d", m.name, m.perMinute)
		}
	}
	return nil
}

const (
	// maxBudgetKeys bounds the limiters of one budget, and so its memory: about
	// 20 MB when all are in use.
	maxBudgetKeys = 100_000
	// firstSweep is how many limiters there are before any is looked at again.
	firstSweep = 1024
	// sweepPause is the least time between two sweeps of a budget that is at its
	// bound, where every new key would else look at all the others.
	sweepPause = time.Second
)

// budget is one kind of budget: a token bucket (rate.Limiter) for each key. It is
// safe for concurrent use.
//
// A key whose bucket is full is not kept, since a new bucket is full too. Buckets
// that are not full are never given up: whoever could press one out would have a
// whole minute's worth again. Once there are maxKeys of them, all further keys
// share one more bucket. The choice against it is to refuse further keys: then
// somebody who fills the table, with wallets that cost nothing, shuts out every
// account that has not minted within the last minute, and that is nearly all.
// With the shared bucket the same attacker has to win the race for each of its
// tokens as well, and gains by it no more than one key's worth in all.
//
// Time is that of the requests. Between readings of this process's clock Go
// measures by the monotonic clock, so setting the wall clock changes nothing
// here. For other readings: a moment before the latest one, by no more than
// ClockLeeway, is a request that was overtaken (a slow body does that, so callers
// can bring it about) and counts as the latest. A moment farther back means
// that the clock was set; time is counted on from there. Neither refills a
// bucket, and neither stops its refilling for longer than ClockLeeway.
type budget struct {
	limit   rate.Limit
	burst   int
	maxKeys int

	mu       sync.Mutex               // guards the rest
	limiters map[string]*rate.Limiter // by key
	overflow *rate.Limiter            // of the keys beyond maxKeys
	latest   time.Time                // by the requests' clock
	elapsed  time.Duration            // counted so far; the limiters' clock
	sweepAt  int                      // how many limiters make the next sweep due
	swept    time.Duration            // elapsed at the last sweep
}

// newBudget makes a budget of so many takes a minute, 1 or more, for each key.
func newBudget(perMinute int) *budget {
	b := &budget{
		limit:    rate.Limit(float64(perMinute) / 60),
		burst:    perMinute,
		maxKeys:  maxBudgetKeys,
		limiters: make(map[string]*rate.Limiter),
		sweepAt:  firstSweep,
	}
	b.overflow = b.limiter()
	return b
}

func (b *budget) limiter() *rate.Limiter { return rate.NewLimiter(b.limit, b.burst) }

// take takes one mint out of the key's budget. Where none is left it takes
// nothing, and one will be there wait after now unless others take it before.
func (b *budget) take(key string, now time.Time) (wait time.Duration, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait = b.missing(key, now); wait > 0 {
		return wait, false
	}
	b.spend(key)
	return 0, true
}

// missing is how long after now there is one to take of the key's budget, 0 where there
// is one. mu is held.
func (b *budget) missing(key string, now time.Time) time.Duration {
	behind := b.advance(now)
	l := b.find(key)
	if l == nil {
		return 0
	}
	wait := (1 - l.TokensAt(b.at())) / float64(b.limit) * float64(time.Second)
	if wait < 1 { // as rate.Limiter counts: what is less than a nanosecond away is there
		return 0
	}
	return behind + time.Duration(math.Ceil(wait))
}

// spend takes one that is not missing. mu is held, and was since that was found.
func (b *budget) spend(key string) {
	l := b.find(key)
	if l == nil {
		l = b.limiter()
		b.limiters[key] = l
	}
	l.AllowN(b.at(), 1)
}

// at is the time by the limiters' clock.
func (b *budget) at() time.Time { return time.Time{}.Add(b.elapsed) }

// advance counts the time up to now and returns how far now lies behind what is
// counted already. More than a minute is counted as one, which fills every
// bucket; so elapsed cannot overflow, whatever the clock does.
func (b *budget) advance(now time.Time) (behind time.Duration) {
	step := now.Sub(b.latest)
	if step < 0 && step >= -ClockLeeway {
		return -step
	}
	b.latest = now
	b.elapsed += min(max(step, 0), time.Minute)
	return 0
}

// find is the limiter of a key, nil for one that is to have a new one.
func (b *budget) find(key string) *rate.Limiter {
	if l, ok := b.limiters[key]; ok {
		return l
	}
	full := len(b.limiters) >= b.maxKeys
	if len(b.limiters) >= b.sweepAt || full && b.elapsed-b.swept >= sweepPause {
		b.sweep()
		full = len(b.limiters) >= b.maxKeys
	}
	if full {
		return b.overflow
	}
	return nil
}

// sweep drops the limiters that are full. The next one is due when there are
// twice as many as it left, so it costs each new key a look at two others.
func (b *budget) sweep() {
	for key, l := range b.limiters {
		if l.TokensAt(b.at()) >= float64(b.burst) {
			delete(b.limiters, key)
		}
	}
	b.sweepAt = max(firstSweep, 2*len(b.limiters))
	b.swept = b.elapsed
}

// network is the key of a client's network, from what call.source says: an IPv4
// address as it is, also when it is written as an IPv6 one, and the /64 of an
// IPv6 address, since a host may take any address of its subnet (RFC 4291,
// section 2.5.1). All that is no address is "unknown".
func network(source string) string {
	addr, err := netip.ParseAddr(source)
	if err != nil {
		return "unknown"
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return addr.String()
	}
	return netip.PrefixFrom(addr, 64).Masked().String()
}

// retryAfter is the value of the header (RFC 9110, section 10.2.3): whole
// seconds, rounded up so that whoever waits so long is not early, and 1 or more.
func retryAfter(wait time.Duration) string {
	s := wait / time.Second
	if wait%time.Second > 0 {
		s++
	}
	return strconv.FormatInt(int64(max(s, 1)), 10)
}
