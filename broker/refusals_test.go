package broker

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"agentkeys/audit"
)

// Somebody with very many networks makes neither the memory nor the log grow without
// end: beyond a bound they are counted together, and none is lost.
func TestRefusalsOfManyNetworksAreBounded(t *testing.T) {
	const networks, each = 5 * maxCounts, 3
	f := newRefusals(prometheus.NewRegistry())
	f.unproven = newBudget(1)
	admitted := 0
	for range each {
		for i := range networks {
			r := &audit.Record{Time: budgetStart, Action: audit.ActionGrantList, Reason: "session_required", Source: fmt.Sprintf("10.0.%d.%d", i/256, i%256)}
			if f.admit(r) {
				admitted++
			}
		}
	}
	if admitted != networks {
		t.Errorf("%d refusals have a record of their own, want %d", admitted, networks)
	}
	counts := f.due(budgetStart, true)
	if len(counts) != maxCounts+1 {
		t.Errorf("%d kinds are counted, want %d and one for the rest", len(counts), maxCounts)
	}
	sum, rest := int64(0), counts[refusalKind{action: audit.ActionGrantList, reason: "session_required"}].n
	for _, c := range counts {
		sum += c.n
	}
	if sum != networks*(each-1) || rest != (networks-maxCounts)*(each-1) {
		t.Errorf("%d are counted, %d of them without a network; want %d and %d", sum, rest, networks*(each-1), (networks-maxCounts)*(each-1))
	}
	f.admit(&audit.Record{Time: budgetStart, Action: audit.ActionGrantList, Reason: "session_required", Source: "10.0.0.0"})
	f.recorded(counts, budgetStart)
	if left := f.due(budgetStart, true); len(left) != 1 || left[refusalKind{network: "10.0.0.0", action: audit.ActionGrantList, reason: "session_required"}].n != 1 {
		t.Errorf("what came while the others were recorded: %v, want one", left)
	}
	f.recorded(f.due(budgetStart, true), budgetStart)
	if left := f.due(budgetStart, true); len(left) != 0 {
		t.Errorf("%d kinds are left", len(left))
	}
}

// refused is a refusal of an account from an address.
func refused(account, source string) *audit.Record {
	return &audit.Record{Time: budgetStart, Action: audit.ActionMintOIDC, Reason: "bad_request", Source: source,
		OmniAccount: account, IdentityType: "email", IdentityValue: "of " + account}
}

// Somebody with very many accounts does not make it either, and takes nobody else's
// place: what callers of other networks did is still counted by their network.
func TestRefusalsOfManyAccountsAreBounded(t *testing.T) {
	const accounts, each = 5 * maxCounts, 3
	f := newRefusals(prometheus.NewRegistry())
	f.network = newBudget(1)
	admitted := 0
	for range each {
		for i := range accounts {
			if f.admit(refused(fmt.Sprint("account ", i), "10.0.0.1")) {
				admitted++
			}
		}
	}
	if admitted != 1 {
		t.Errorf("%d refusals of one network have a record of their own, want 1", admitted)
	}
	f.unproven = newBudget(1)
	for range 3 {
		f.admit(&audit.Record{Time: budgetStart, Action: audit.ActionGrantList, Reason: "session_required", Source: "10.0.0.2"})
		f.admit(refused("late", "10.0.0.3"))
	}
	counts := f.due(budgetStart, true)
	if len(counts) != maxCounts+3 || f.named != maxCounts {
		t.Errorf("%d kinds are counted, %d of them with an account, want %d and one for each network", len(counts), f.named, maxCounts)
	}
	sum := int64(0)
	for _, c := range counts {
		sum += c.n
	}
	for _, tc := range []struct {
		kind refusalKind
		want int64
	}{
		{refusalKind{proven: true, network: "10.0.0.1", action: audit.ActionMintOIDC, reason: "bad_request"}, (accounts-maxCounts)*each - 1}, // the first has its record
		{refusalKind{proven: true, network: "10.0.0.3", action: audit.ActionMintOIDC, reason: "bad_request"}, 2},
		{refusalKind{network: "10.0.0.2", action: audit.ActionGrantList, reason: "session_required"}, 2},
	} {
		if n := counts[tc.kind].n; n != tc.want {
			t.Errorf("of %+v %d are counted, want %d", tc.kind, n, tc.want)
		}
	}
	if want := int64(accounts*each - 1 + 4); sum != want {
		t.Errorf("%d are counted, want %d", sum, want)
	}
	f.recorded(counts, budgetStart)
	if left := f.due(budgetStart, true); len(left) != 0 || f.named != 0 {
		t.Errorf("%d kinds are left, %d of them with an account", len(left), f.named)
	}
	f.admit(refused("afterwards", "10.0.0.1"))
	for kind := range f.due(budgetStart, true) {
		if kind.who.omniAccount != "afterwards" || kind.who.identityValue != "of afterwards" {
			t.Errorf("there is room again, and %+v is counted", kind)
		}
	}
}

// The allowance comes back with time, evenly, and a record may be had again; counted
// refusals take nothing of it.
func TestRefusalsOfAnAccountRefill(t *testing.T) {
	f := newRefusals(prometheus.NewRegistry())
	at := func(after time.Duration, n int) (own int) {
		for range n {
			r := refused("a", "10.0.0.1")
			r.Time = budgetStart.Add(after)
			if f.admit(r) {
				own++
			}
		}
		return own
	}
	for _, tc := range []struct {
		after time.Duration
		want  int
	}{{0, refusalsOfAccount + 1}, {0, 0}, {10 * time.Second, refusalsOfAccount / 6}, {11 * time.Second, 1}, {time.Hour, refusalsOfAccount + 1}} {
		if got := at(tc.after, 1000); got != tc.want {
			t.Errorf("of 1000 refusals %v later %d have a record of their own, want %d", tc.after, got, tc.want)
		}
	}
}

// Whatever comes at once, and is summed up meanwhile, each refusal has a record of its
// own or is counted, once.
func TestRefusalsAreCountedOnceInParallel(t *testing.T) {
	f := newRefusals(prometheus.NewRegistry())
	var own, counted atomic.Int64
	summarise := func() {
		counts := f.due(budgetStart, true)
		for _, c := range counts {
			counted.Add(c.n)
		}
		f.recorded(counts, budgetStart)
	}
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for range 500 {
				if f.admit(refused(fmt.Sprint(i%4), "10.0.0.1")) {
					own.Add(1)
				}
			}
		})
	}
	for range 50 {
		summarise()
	}
	callers.Wait()
	summarise()
	if own.Load() != 4*(refusalsOfAccount+1) || own.Load()+counted.Load() != 8*500 {
		t.Errorf("%d have a record and %d are counted, want %d and all the rest of 4000", own.Load(), counted.Load(), 4*(refusalsOfAccount+1))
	}
}
