package broker_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
)

// The process is killed at every step of a mint in turn. The next one settles, and
// the client's retry hears what was decided: the answer if it was confirmed, that
// the first request was cut off if it was begun, or it is the first that is known of
// the call.
func TestInvariantKilledAtEachStep(t *testing.T) {
	p := newProcess(t, "")
	s := p.stage(t)
	var steps []string
	for n := 1; ; n++ {
		c, replied := s.signed(t, rand.Text()), make(chan error, 1)
		given := len(p.aws.Given())
		p.tell(t, "die at "+strconv.Itoa(n))
		if line := p.line(); line != "armed" {
			t.Fatalf("the process says %q", line)
		}
		go func() {
			_, err := p.send(context.Background(), c)
			replied <- err
		}()
		err := <-replied
		if err == nil { // it lived through all of its steps
			break
		}
		step := p.line()
		steps = append(steps, step)
		p.reap()
		checkInvariant(t, p.world, step) // as it was left
		before := p.outcomeOf(t, c)
		p.start(t)
		after := p.outcomeOf(t, c)
		checkInvariant(t, p.world, step+", settled")
		p.wantSettled(t, before, after)
		p.wantRetry(t, c, after)
		p.wantRetry(t, c, p.outcomeOf(t, c))
		if got := len(p.aws.Given()) - given; got > 1 {
			t.Errorf("%s: STS gave %d credentials for one call", step, got)
		}
		if t.Failed() {
			t.Fatalf("killed at step %d, %s", n, step)
		}
	}
	t.Logf("killed at %d steps: %s", len(steps), strings.Join(steps, "; "))
	for _, step := range []string{"before a transaction", "in a transaction before its commit", "after a transaction", "has the pending",
		"after the token was signed", "after STS", "has the confirmed"} {
		if !strings.Contains(strings.Join(steps, ";"), step) {
			t.Errorf("nothing was killed %s", step)
		}
	}
	if got := steps[len(steps)-1]; !strings.HasPrefix(got, "died after anchor ") || !strings.HasSuffix(got, " has the confirmed") {
		t.Errorf("the last step is %q", got)
	}
}

// outcomeOf is what the database has of a call: "" for nothing.
func (w *world) outcomeOf(t *testing.T, c *agentkeystest.Call) string {
	t.Helper()
	s := &state{records: map[string]audit.Record{}, outcomes: map[string][]audit.Record{}}
	must(t, w.view(t.Context(), s.read))
	for _, m := range s.mints {
		if m.requestID == c.RequestID {
			return m.state
		}
	}
	return ""
}

func (p *process) wantSettled(t *testing.T, before, after string) {
	t.Helper()
	want := before
	if before == audit.Pending {
		want = audit.Quarantined
	}
	if after != want {
		t.Errorf("a call that was %q when the process died is %q, want %q", before, after, want)
	}
}

func (p *process) wantRetry(t *testing.T, c *agentkeystest.Call, state string) {
	t.Helper()
	switch state {
	case "":
		if r := p.want(t, c, 200, "ok"); r.header.Get("X-Idempotency") != "miss" {
			t.Errorf("the retry of a call that left nothing: X-Idempotency %q, want miss", r.header.Get("X-Idempotency"))
		}
	case audit.Confirmed:
		if r := p.want(t, c, 200, "ok"); r.header.Get("X-Idempotency") != "hit" {
			t.Errorf("the retry of a call that was confirmed: X-Idempotency %q, want hit", r.header.Get("X-Idempotency"))
		}
	default:
		p.want(t, c, 503, api.CodeMintInterrupted)
	}
}

// The process is killed at random moments while many callers are served.
func TestInvariantKilledUnderLoad(t *testing.T) {
	p, chance := newProcess(t, ""), newChance(t)
	cr := newCrowd(t, p.world, chance, 2, 6)
	for round := range 3 {
		var grants [][]api.Grant
		for _, d := range cr.daemons {
			grants = append(grants, cr.grantsOf(t, d))
		}
		done, stop := p.load(t, cr, grants)
		enough := 10 + chance.n(50)
		for n := len(p.replies()); len(p.replies()) < n+enough; {
			<-done
		}
		p.kill()
		stop() // those who wait for an answer that will not come
		for range done {
		}
		checkInvariant(t, p.world, fmt.Sprintf("round %d, killed", round))
		left := p.pending(t)
		p.start(t)
		checkInvariant(t, p.world, fmt.Sprintf("round %d, settled", round))
		for _, id := range p.pending(t) { // calls that the process never accepted are made now
			if slices.Contains(left, id) {
				t.Errorf("round %d: intent %s is pending after the start", round, id)
			}
		}
		p.retryAll(t, cr)
		checkInvariant(t, p.world, fmt.Sprintf("round %d, retried", round))
		if t.Failed() {
			return
		}
	}
	checkSecrets(t, p.world, "all rounds")
	s := p.stage(t)
	s.want(t, s.signed(t, ""), 200, "ok")
}

// pending are the intents without an outcome.
func (p *process) pending(t *testing.T) (ids []string) {
	t.Helper()
	s := &state{records: map[string]audit.Record{}, outcomes: map[string][]audit.Record{}}
	must(t, p.view(t.Context(), s.read))
	for _, m := range s.mints {
		if m.state == audit.Pending {
			ids = append(ids, m.recordID)
		}
	}
	return ids
}

// load has sixteen callers call until the cancel function is called. Each call that
// ended is a value of the channel, which is closed when all have gone.
func (p *process) load(t *testing.T, cr *crowd, grants [][]api.Grant) (<-chan struct{}, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{}, 16)
	var callers sync.WaitGroup
	for range 16 {
		callers.Go(func() {
			for ctx.Err() == nil {
				cr.one(ctx, t, grants)
				ended <- struct{}{}
			}
		})
	}
	go func() {
		callers.Wait()
		close(ended)
	}()
	return ended, cancel
}

// retryAll makes the latest calls once more. Each hears at once what was decided, but
// for one that the new process is at work on.
func (p *process) retryAll(t *testing.T, cr *crowd) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range cr.made[max(0, len(cr.made)-15):] {
		r, err := p.send(ctx, c)
		for tries := 0; err == nil && r.code() == api.CodeIdempotencyInProgress && tries < 500; tries++ {
			r, err = p.send(ctx, c)
		}
		if err != nil {
			t.Fatalf("retrying: %v", err)
		}
		if r.code() == api.CodeIdempotencyInProgress || r.code() == api.CodeInternal {
			t.Errorf("the retry got %d %s", r.status, r.code())
		}
	}
}
