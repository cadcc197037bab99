package broker

import (
	"fmt"
	"testing"

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
