package broker

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var budgetStart = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// takes is how many of n takes at one moment are allowed.
func takes(b *budget, key string, n int, now time.Time) (allowed int) {
	for range n {
		if _, ok := b.take(key, now); ok {
			allowed++
		}
	}
	return allowed
}

func wantTakes(t *testing.T, b *budget, key string, n int, now time.Time, want int) {
	t.Helper()
	if got := takes(b, key, n, now); got != want {
		t.Errorf("of %d takes of %s at %v, %d were allowed, want %d", n, key, now.Sub(budgetStart), got, want)
	}
}

func TestBudgetRefillsEvenly(t *testing.T) {
	for _, perMinute := range []int{1, 7, 60, 600, 1_000_000} {
		b := newBudget(perMinute)
		wantTakes(t, b, "k", perMinute+5, budgetStart, perMinute)
		every := time.Minute / time.Duration(perMinute)
		now := budgetStart
		for range 100 {
			wait, ok := b.take("k", now)
			if off := (wait - every).Abs(); ok || off > 2 { // 7 do not divide a minute
				t.Fatalf("%d a minute, all used: take = %v, %t; want to wait %v", perMinute, wait, ok, every)
			}
			if again, ok := b.take("k", now.Add(wait/2)); ok || (again-(wait-wait/2)).Abs() > 2 {
				t.Fatalf("%d a minute, half the wait later: take = %v, %t; want to wait %v", perMinute, again, ok, wait-wait/2)
			}
			now = now.Add(wait)
			if wait, ok := b.take("k", now); !ok {
				t.Fatalf("%d a minute: refused after waiting as told, and told to wait %v more", perMinute, wait)
			}
		}
	}
}

func TestBudgetKeepsAMinutesWorth(t *testing.T) {
	b := newBudget(60)
	wantTakes(t, b, "k", 61, budgetStart, 60)
	wantTakes(t, b, "k", 100, budgetStart.Add(30*time.Second), 30)
	wantTakes(t, b, "k", 100, budgetStart.Add(90*time.Second), 60)
	wantTakes(t, b, "k", 100, budgetStart.Add(24*time.Hour), 60)
	wantTakes(t, b, "other", 100, budgetStart.Add(24*time.Hour), 60)
}

func TestRefusalsTakeNothing(t *testing.T) {
	b := newBudget(60)
	wantTakes(t, b, "k", 60, budgetStart, 60)
	wantTakes(t, b, "k", 10_000, budgetStart, 0)
	if wait, ok := b.take("k", budgetStart); ok || wait != time.Second {
		t.Errorf("after 10000 refusals take = %v, %t; want to wait 1s as after the first", wait, ok)
	}
}

func TestBudgetUnderParallelTakes(t *testing.T) {
	b := newBudget(100)
	var allowed [3]atomic.Int32
	var wg sync.WaitGroup
	for n := range 900 {
		wg.Go(func() {
			if _, ok := b.take(fmt.Sprint(n%3), budgetStart); ok {
				allowed[n%3].Add(1)
			}
		})
	}
	wg.Wait()
	for key := range allowed {
		if got := allowed[key].Load(); got != 100 {
			t.Errorf("of 300 parallel takes of key %d, %d were allowed, want 100", key, got)
		}
	}
}

// Somebody with very many keys must not make a spent one fresh.
func TestSpentKeysOutlastASweep(t *testing.T) {
	b := newBudget(2)
	wantTakes(t, b, "spent", 3, budgetStart, 2)
	for n := range 3 * firstSweep {
		wantTakes(t, b, fmt.Sprint("a", n), 1, budgetStart, 1)
	}
	wantTakes(t, b, "spent", 1, budgetStart, 0)
	later := budgetStart.Add(31 * time.Second) // those that were used once are full again
	for n := range 3 * firstSweep {
		wantTakes(t, b, fmt.Sprint("b", n), 1, later, 1)
	}
	wantTakes(t, b, "spent", 2, later, 1)
	for n := range 3 * firstSweep {
		if b.limiters[fmt.Sprint("a", n)] != nil {
			t.Fatalf("the full limiter of a%d was not dropped", n)
		}
	}
}

func TestBudgetForgetsFullKeys(t *testing.T) {
	b := newBudget(60)
	now := budgetStart
	for n := range 50 * firstSweep {
		wantTakes(t, b, fmt.Sprint(n), 1, now, 1)
		now = now.Add(10 * time.Millisecond) // a key is full again after 100 others
	}
	if got := len(b.limiters); got > firstSweep {
		t.Errorf("%d limiters are kept of %d keys, want at most %d", got, 50*firstSweep, firstSweep)
	}
}

func TestKeysBeyondTheBoundShareOneLimiter(t *testing.T) {
	b := newBudget(3)
	b.maxKeys = 10
	for n := range 10 {
		wantTakes(t, b, fmt.Sprint("attacker", n), 4, budgetStart, 3)
	}
	allowed := 0
	for n := range 1000 {
		allowed += takes(b, fmt.Sprint("new", n), 1, budgetStart)
	}
	if allowed != 3 || len(b.limiters) != 10 {
		t.Errorf("a full table let %d takes of other keys through and holds %d keys, want 3 and 10", allowed, len(b.limiters))
	}
	for n := range 10 {
		wantTakes(t, b, fmt.Sprint("attacker", n), 1, budgetStart, 0)
	}
	if wait, ok := b.take("new", budgetStart); ok || wait != 20*time.Second {
		t.Errorf("the shared limiter's take = %v, %t; want to wait 20s", wait, ok)
	}
	wantTakes(t, b, "new", 3, budgetStart.Add(20*time.Second), 1)
	later := budgetStart.Add(2 * time.Minute)
	wantTakes(t, b, "new", 4, later, 3)
	wantTakes(t, b, "another", 4, later, 3)
}

// At the bound a new key must not cost a look at all others.
func TestSweepsAtTheBoundArePaused(t *testing.T) {
	b := newBudget(1)
	b.maxKeys = 10
	sweeps := make(map[time.Duration]bool)
	for n := range 5000 {
		b.take(fmt.Sprint(n), budgetStart.Add(time.Duration(n)*time.Millisecond))
		sweeps[b.swept] = true
	}
	if len(sweeps) < 3 || len(sweeps) > 7 {
		t.Errorf("%d sweeps in 5 s, want about one a second", len(sweeps))
	}
}

func TestBudgetClock(t *testing.T) {
	spent := func() *budget {
		b := newBudget(60)
		wantTakes(t, b, "k", 61, budgetStart, 60)
		return b
	}
	t.Run("overtaken requests refill nothing", func(t *testing.T) {
		b := spent()
		for n := range 10_000 {
			wantTakes(t, b, "k", 1, budgetStart.Add(-time.Duration(n%2)*ClockLeeway), 0)
		}
		if wait, ok := b.take("k", budgetStart.Add(-10*time.Second)); ok || wait != 11*time.Second {
			t.Errorf("10s behind, take = %v, %t; want to wait 11s, when one is there by the latest clock", wait, ok)
		}
	})
	t.Run("setting it back refills nothing", func(t *testing.T) {
		b := spent()
		for n := range 100 {
			wantTakes(t, b, "k", 1, budgetStart.Add(-time.Duration(n)*24*time.Hour), 0)
		}
	})
	t.Run("setting it back locks nobody out", func(t *testing.T) {
		b := newBudget(60)
		wantTakes(t, b, "k", 61, budgetStart.AddDate(900, 0, 0), 60)
		wantTakes(t, b, "k", 1, budgetStart, 0)
		wantTakes(t, b, "k", 3, budgetStart.Add(time.Second), 1)
	})
	t.Run("setting it forward gives a minute's worth", func(t *testing.T) {
		b := spent()
		wantTakes(t, b, "k", 1000, budgetStart.AddDate(900, 0, 0), 60)
	})
	t.Run("the monotonic clock is what counts", func(t *testing.T) {
		b := newBudget(60)
		now := time.Now()
		wantTakes(t, b, "k", 61, now, 60)
		wantTakes(t, b, "k", 2, now.Add(time.Second), 1)
	})
}

// Over any moments that come no later than ClockLeeway after a later one, each
// key has exactly a token bucket by the latest moment seen, and so no more than
// two minutes' worth within a minute.
func TestBudgetIsATokenBucket(t *testing.T) {
	const token = int64(time.Minute) // a nanosecond refills perMinute of these parts
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.Int64Range(1, 100).Draw(t, "perMinute")
		b := newBudget(int(perMinute))
		type round struct {
			latest  int64 // nanoseconds
			allowed int64
		}
		var rounds []round
		parts, latest := perMinute*token, int64(0)
		for range rapid.IntRange(1, 60).Draw(t, "rounds") {
			step := rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "step")
			latest += step
			parts = min(parts+step*perMinute, perMinute*token)
			b.take("another", budgetStart.Add(time.Duration(latest)))
			now := latest - rapid.Int64Range(0, int64(ClockLeeway)).Draw(t, "behind")
			n := rapid.Int64Range(1, 2*perMinute).Draw(t, "takes")
			got := int64(takes(b, "k", int(n), budgetStart.Add(time.Duration(now))))
			if want := min(n, parts/token); got != want && got != min(n, (parts+2*perMinute)/token) { // the limiter may be 2 ns early
				t.Fatalf("of %d takes %d were allowed, want %d", n, got, want)
			}
			parts -= got * token
			rounds = append(rounds, round{latest, got})
		}
		for i := range rounds {
			within := int64(0)
			for _, r := range rounds[i:] {
				if r.latest-rounds[i].latest <= int64(time.Minute) {
					within += r.allowed
				}
			}
			if within > 2*perMinute {
				t.Fatalf("%d takes within a minute, want at most %d", within, 2*perMinute)
			}
		}
	})
}

// Over any moments at all: what is let through is bounded by the steps forward
// alone, and nobody is shut out for longer than the leeway and one token's time.
func TestBudgetUnderAnyClock(t *testing.T) {
	const years = 200 * 365 * 24 * time.Hour
	moment := rapid.OneOf(rapid.Int64Range(-int64(time.Minute), int64(time.Minute)),
		rapid.Int64Range(-int64(time.Hour), int64(time.Hour)), rapid.Int64Range(-int64(years), int64(years)))
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.IntRange(1, 50).Draw(t, "perMinute")
		b := newBudget(perMinute)
		var now time.Time
		var forward float64 // minutes
		allowed := 0
		for i := range rapid.IntRange(1, 40).Draw(t, "rounds") {
			next := budgetStart.Add(time.Duration(moment.Draw(t, "moment")))
			if i > 0 && next.After(now) {
				forward += min(1, next.Sub(now).Minutes())
			}
			now = next
			allowed += takes(b, "k", rapid.IntRange(1, 2*perMinute).Draw(t, "takes"), now)
			if most := float64(perMinute) * (1 + forward); float64(allowed) > most+1e-6 {
				t.Fatalf("%d takes while the clock went forward by %.3f minutes, want at most %.3f", allowed, forward, most)
			}
		}
		later := now.Add(ClockLeeway + time.Minute/time.Duration(perMinute) + 1)
		if wait, ok := b.take("k", later); !ok {
			t.Fatalf("shut out for %v more, %v after the last take", wait, later.Sub(now))
		}
	})
}

// Whoever waits as told gets one, and nobody does who waits less.
func TestBudgetWaitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.IntRange(1, 2000).Draw(t, "perMinute")
		b := newBudget(perMinute)
		now := budgetStart
		takes(b, "k", perMinute, now)
		for range 10 {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)/int64(perMinute)).Draw(t, "step")))
			wait, ok := b.take("k", now)
			if ok {
				continue
			}
			if _, ok := b.take("k", now.Add(wait-3)); ok { // rounded up, and the limiter may be 2 ns early
				t.Fatalf("told to wait %v, and allowed earlier", wait)
			}
			if more, ok := b.take("k", now.Add(wait)); !ok {
				t.Fatalf("waited %v as told, then told to wait %v more", wait, more)
			}
			now = now.Add(wait)
		}
	})
}

func TestNetwork(t *testing.T) {
	for source, want := range map[string]string{
		"192.0.2.7":                "192.0.2.7",
		"192.0.2.8":                "192.0.2.8",
		"::ffff:192.0.2.7":         "192.0.2.7",
		"::ffff:c000:207":          "192.0.2.7",
		"2001:db8:1:2:3:4:5:6":     "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::":      "2001:db8:1:2::/64",
		"2001:db8:1:3::1":          "2001:db8:1:3::/64",
		"2001:0DB8:1:2::6":         "2001:db8:1:2::/64",
		"fe80::1%eth0":             "fe80::/64",
		"::1":                      "::/64",
		"unknown":                  "unknown",
		"":                         "unknown",
		"192.0.2.7:443":            "unknown",
		strings.Repeat("x", 1<<20): "unknown",
	} {
		if got := network(source); got != want {
			t.Errorf("network(%.40q) = %q, want %q", source, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	for wait, want := range map[time.Duration]string{
		-time.Second:             "1",
		0:                        "1",
		1:                        "1",
		time.Second - 1:          "1",
		time.Second:              "1",
		time.Second + 1:          "2",
		60 * time.Second:         "60",
		60*time.Second + 1:       "61",
		time.Duration(1<<63 - 1): "9223372037",
	} {
		if got := retryAfter(wait); got != want {
			t.Errorf("retryAfter(%v) = %q, want %q", wait, got, want)
		}
	}
}

func TestBudgetsCheck(t *testing.T) {
	if err := (Budgets{1, 1, 1}).check(); err != nil {
		t.Error(err)
	}
	for want, b := range map[string]Budgets{
		"budget per account: want 1 or more mints a minute, got 0": {0, 1, 1},
		"budget per grant: want 1 or more mints a minute, got -1":  {1, -1, 1},
		"budget per network: want 1 or more mints a minute, got 0": {1, 1, 0},
	} {
		if err := b.check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("check of %+v = %v, want %q", b, err, want)
		}
	}
}

func BenchmarkBudgetTake(b *testing.B) {
	bu := newBudget(1_000_000)
	now := budgetStart
	for b.Loop() {
		now = now.Add(time.Millisecond)
		bu.take("k", now)
	}
}
