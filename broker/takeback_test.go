package broker_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"strconv"
	"strings"
	"sync"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// What an anchor did not take is taken back, or released to a retry, and never both:
// whichever of the two transactions comes first decides.

// hooks run before and after the transactions of a broker, counted from 1 since they
// were set.
type hooks struct {
	mu     sync.Mutex // guards what follows
	n      int
	before map[int]func()
	after  map[int]func()
}

func (h *hooks) set(before, after map[int]func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n, h.before, h.after = 0, before, after
}

func (h *hooks) next() (before, after func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.n++
	return h.before[h.n], h.after[h.n]
}

func (h *hooks) around(update broker.Transact) broker.Transact {
	return func(ctx context.Context, fn func(*sql.Tx) error) error {
		before, after := h.next()
		if before != nil {
			before()
		}
		err := update(ctx, fn)
		if after != nil {
			after()
		}
		return err
	}
}

// The transactions of a mint that an anchor does not take the outcome of.
const (
	concluding = 2 // after that of the intent
	takingBack = 3
)

func newRace(t *testing.T) (*stage, *hooks) {
	w, h := newWorld(t), &hooks{}
	w.broker.WrapTransactions(h.around)
	return w.stage(t), h
}

// stateOf is what is remembered of a call, and what took back what was confirmed.
func (w *world) stateOf(t *testing.T, c *agentkeystest.Call) (state string, back int) {
	t.Helper()
	return w.outcomeOf(t, c), w.count(t, `SELECT count(*) FROM audit_records b JOIN audit_records o ON b.settles = o.id
		JOIN mints m ON o.settles = m.record_id WHERE m.request_id = $1 AND b.outcome = 'quarantined'`, c.RequestID)
}

func (w *world) wantState(t *testing.T, c *agentkeystest.Call, state string, back int) {
	t.Helper()
	if got, n := w.stateOf(t, c); got != state || n != back {
		t.Errorf("the call is %s and was taken back %d times, want %s and %d", got, n, state, back)
	}
}

// The anchor works again while the first request gives up, and a retry comes before
// what it got is taken back.
func TestRetryBeforeItIsTakenBack(t *testing.T) {
	s, h := newRace(t)
	c := s.signed(t, rand.Text())
	s.places[0].set(refused, audit.Confirmed)
	h.set(map[int]func(){takingBack: func() {
		s.mend(t)
		if r := s.want(t, c, 200, "ok"); r.header.Get("X-Idempotency") != "hit" {
			t.Errorf("X-Idempotency %q, want hit", r.header.Get("X-Idempotency"))
		}
	}}, nil)
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.wantState(t, c, audit.Confirmed, 0)
	s.want(t, c, 200, "ok") // and again
}

// A retry comes right after.
func TestRetryAfterItIsTakenBack(t *testing.T) {
	s, h := newRace(t)
	c := s.signed(t, rand.Text())
	s.places[0].set(refused, audit.Confirmed)
	h.set(nil, map[int]func(){takingBack: func() {
		s.mend(t)
		s.want(t, c, 503, api.CodeMintInterrupted)
	}})
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.wantState(t, c, audit.Quarantined, 1)
	s.want(t, c, 503, api.CodeMintInterrupted)
}

// Two retries come before, while the anchor is down: neither is released, and what they
// were given is not taken back, since they may be asked for again.
func TestRetriesWhileTheAnchorIsDown(t *testing.T) {
	s, h := newRace(t)
	c := s.signed(t, rand.Text())
	s.places[0].set(refused, audit.Confirmed)
	h.set(map[int]func(){takingBack: func() {
		var retries sync.WaitGroup
		for range 2 {
			retries.Go(func() { s.want(t, c, 503, api.CodeAuditUnavailable) })
		}
		retries.Wait()
	}}, nil)
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.wantState(t, c, audit.Confirmed, 0)
	s.mend(t)
	s.want(t, c, 200, "ok")
	s.wantState(t, c, audit.Confirmed, 0)
}

// Whoever asked without a key cannot ask again, and it is taken back all the same.
func TestTakenBackWithoutAKey(t *testing.T) {
	s, _ := newRace(t)
	c := s.signed(t, "")
	s.places[0].set(refused, audit.Confirmed)
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.wantState(t, c, audit.Quarantined, 1)
	s.mend(t)
	s.want(t, c, 401, api.CodeCallReplayed)
}

// The call was forgotten by the time that it would be taken back.
func TestTakenBackTooLate(t *testing.T) {
	s, h := newRace(t)
	c := s.signed(t, rand.Text())
	s.places[0].set(refused, audit.Confirmed)
	h.set(map[int]func(){takingBack: func() { s.pass(t, 2*broker.KeepAnswers) }}, nil)
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.mend(t)
	s.want(t, c, 401, api.CodeCallExpired)
}

// The database fails when it is taken back. It stays confirmed where that did not come
// to be durable, and a retry gets it once the anchor works; or it was taken back.
func TestTakingBackFails(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  fault
		state  string
		back   int
		status int
		code   api.Code
	}{
		"fails":                                 {refused, audit.Confirmed, 0, 200, "ok"},
		"is stored and reported to have failed": {lost, audit.Quarantined, 1, 503, api.CodeMintInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.stage(t)
			c := s.signed(t, rand.Text())
			s.places[0].set(refused, audit.Confirmed)
			s.faults.set(works, works, tt.fault)
			s.want(t, c, 503, api.CodeAuditUnavailable)
			s.faults.set()
			s.wantState(t, c, tt.state, tt.back)
			s.mend(t)
			s.want(t, c, tt.status, tt.code)
			s.wantState(t, c, tt.state, tt.back)
		})
	}
}

// The anchor takes the outcome while the first request is about to wait for it.
func TestAnchorWorksInTime(t *testing.T) {
	s, h := newRace(t)
	c := s.signed(t, rand.Text())
	s.places[0].set(hung, audit.Confirmed)
	h.set(nil, map[int]func(){concluding: func() {
		s.places[0].set(works)
		s.places[0].free()
	}})
	s.want(t, c, 200, "ok")
	s.wantState(t, c, audit.Confirmed, 0)
}

// The process is killed at each step of a mint of which an anchor does not take the
// outcome. The next one works with an anchor that does: what was confirmed and not
// taken back is released to a retry, and what was taken back never.
func TestKilledWhileTakingBack(t *testing.T) {
	p := newProcess(t, "")
	s := p.stage(t)
	var steps []string
	for n := 1; ; n++ {
		c, replied := s.signed(t, rand.Text()), make(chan error, 1)
		p.places[0].set(refused, audit.Confirmed)
		p.tell(t, "die at "+strconv.Itoa(n))
		if line := p.line(); line != "armed" {
			t.Fatalf("the process says %q", line)
		}
		go func() {
			_, err := p.send(context.Background(), c)
			replied <- err
		}()
		if err := <-replied; err == nil {
			p.places[0].set(works)
			break
		}
		step := p.line()
		steps = append(steps, step)
		p.reap()
		p.places[0].set(works)
		checkInvariant(t, p.world, step) // as it was left
		before := p.outcomeOf(t, c)
		p.start(t)
		checkInvariant(t, p.world, step+", settled")
		after := p.outcomeOf(t, c)
		p.wantSettled(t, before, after)
		p.wantRetry(t, c, after)
		p.wantRetry(t, c, p.outcomeOf(t, c))
		if t.Failed() {
			t.Fatalf("killed at step %d, %s", n, step)
		}
	}
	t.Logf("killed at %d steps: %s", len(steps), strings.Join(steps, "; "))
	if got := strings.Count(strings.Join(steps, ";"), "after a transaction"); got < takingBack {
		t.Errorf("killed after %d transactions, want the one that takes back among them", got)
	}
}
