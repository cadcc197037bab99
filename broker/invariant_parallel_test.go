package broker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
)

// chance is what random tests draw from, by a seed that is printed when they fail.
type chance struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func newChance(t *testing.T) *chance {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("AGENTKEYS_TEST_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("AGENTKEYS_TEST_SEED: %v", err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("AGENTKEYS_TEST_SEED=%d draws the same faults, as far as the order of events allows", seed)
		}
	})
	return &chance{r: rand.New(rand.NewPCG(seed, 1))}
}

func (c *chance) n(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.IntN(n)
}

// of is true in so many of a thousand cases.
func (c *chance) of(thousandths int) bool { return c.n(1000) < thousandths }

// crowd is many callers with the calls that they made, which others repeat.
type crowd struct {
	*world
	*chance
	daemons []agentkeystest.Party

	mu     sync.Mutex // guards what follows
	made   []*agentkeystest.Call
	counts map[api.Code]int
}

const paths = 3

// newCrowd signs in owners and daemons. Each daemon has grants of some owners, many
// of them for few uses.
func newCrowd(t *testing.T, w *world, c *chance, owners, daemons int) *crowd {
	t.Helper()
	cr := &crowd{world: w, chance: c, counts: map[api.Code]int{}}
	for range daemons {
		cr.daemons = append(cr.daemons, w.k.Party(t))
	}
	for range owners {
		owner := w.k.Party(t)
		for i, d := range cr.daemons {
			w.k.Grant(t, owner, d, "p"+strconv.Itoa(i%paths), w.lasting(24*time.Hour), func(r *api.GrantCreateRequest) { r.MaxUses = int64(1 + c.n(30)) })
		}
	}
	return cr
}

// grants of one daemon are of several owners, so that calls name theirs.
func (cr *crowd) grantsOf(t *testing.T, d agentkeystest.Party) []api.Grant {
	t.Helper()
	var page api.GrantListResponse
	if status, problem := cr.k.Send(t, "GET", api.PathGrantList, d.Session.SessionJWT, nil, &page); problem != nil {
		t.Fatalf("listing grants: %d %+v", status, problem)
	}
	return page.Grants
}

// one makes a call: mostly a new one, else one that was made before, as it was or
// with a change.
func (cr *crowd) one(ctx context.Context, t *testing.T, grants [][]api.Grant) {
	c := cr.choose(t, grants)
	if cr.of(60) { // hangs up
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(cr.n(20))*time.Millisecond)
		defer cancel()
	}
	r, err := cr.send(ctx, c)
	cr.mu.Lock()
	defer cr.mu.Unlock()
	switch {
	case err != nil:
		cr.counts["no answer"]++
	case r.header.Get("X-Idempotency") == "hit":
		cr.counts["hit"]++
	default:
		cr.counts[r.code()]++
	}
}

func (cr *crowd) choose(t *testing.T, grants [][]api.Grant) *agentkeystest.Call {
	cr.mu.Lock()
	defer cr.mu.Unlock()
	var old *agentkeystest.Call
	if len(cr.made) > 0 {
		old = cr.made[len(cr.made)-1-cr.n(min(len(cr.made), 40))]
	}
	who := cr.n(len(cr.daemons))
	switch kind := cr.n(10); {
	case old != nil && kind < 3:
		return old
	case old != nil && kind == 3:
		again := *old
		again.IdempotencyKey = [...]string{"", "another"}[cr.n(2)]
		return &again
	}
	c := cr.k.NewCall(cr.daemons[who], "p"+strconv.Itoa(who%paths))
	c.IssuedAt = api.Timestamp{Time: cr.now()}
	c.Intent.GrantID = grants[who][cr.n(len(grants[who]))].GrantID
	switch cr.n(8) {
	case 0:
		c.Intent.ScopePath = "elsewhere"
	case 1, 2:
	case 3:
		c.IdempotencyKey = "key-" + strconv.Itoa(cr.n(20)) // that others use as well
	default:
		c.IdempotencyKey = c.RequestID
	}
	cr.made = append(cr.made, c.Sign(t))
	return c
}

// fault draws one for a record or a transaction.
func (cr *crowd) fault() fault {
	switch n := cr.n(1000); {
	case n < 30:
		return refused
	case n < 60:
		return lost
	}
	return works
}

func (cr *crowd) anchorFault() fault {
	switch n := cr.n(1000); {
	case n < 1:
		return slow
	case n < 2:
		return hung
	}
	return cr.fault()
}

// stsFault draws what STS does. Some calls wait there until the clock has moved.
func (cr *crowd) stsFault(h *hands) stsFault {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		switch n := cr.n(100); {
		case n < 4:
			refuseSTS(403, "AccessDenied")(w, r, next)
		case n < 8:
			hangUp(w, r, next)
		case n < 12:
			giveAndHangUp(0)(w, r, next)
		case n < 16:
			giveAndHangUp(50)(w, r, next)
		case n < 22:
			<-h.push()
			fallthrough
		default:
			next.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
		}
	}
}

// hands move a clock when they are pushed, and tell those who wait for it.
type hands struct {
	pushed chan struct{} // holds one push
	mu     sync.Mutex    // guards moved
	moved  chan struct{}
}

// push returns a channel that is closed once the clock has moved.
func (h *hands) push() <-chan struct{} {
	h.mu.Lock()
	moved := h.moved
	h.mu.Unlock()
	select {
	case h.pushed <- struct{}{}:
	default: // a push that nobody has seen yet comes after this one as well
	}
	return moved
}

func (h *hands) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.moved)
	h.moved = make(chan struct{})
}

// turn moves the clock and settles, under the faults that there are, until done.
func (cr *crowd) turn(h *hands, done <-chan struct{}) {
	for jumps := 0; ; h.tell() {
		select {
		case <-done:
			return
		case <-h.pushed:
		}
		if jumps < 5 && cr.of(100) {
			jumps++
			cr.clock.Move(overdue)
		} else {
			cr.clock.Move(time.Duration(cr.n(1000)) * time.Millisecond)
		}
		_ = cr.broker.Settle(context.Background()) // faults befall it too
	}
}

// unhang has what hangs end now and then, until done.
func (cr *crowd) unhang(done <-chan struct{}) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		for _, p := range cr.places {
			p.free()
		}
	}
}

// Sixty-four callers at once, under every kind of fault.
func TestInvariantInParallel(t *testing.T) {
	w, c := newWorld(t), newChance(t)
	w.broker.SetAnchorTimeout(time.Second)
	cr := newCrowd(t, w, c, 4, 8)
	for round := range 3 {
		var grants [][]api.Grant
		for _, d := range cr.daemons {
			grants = append(grants, cr.grantsOf(t, d))
		}
		cr.round(t, grants)
		checkInvariant(t, w, fmt.Sprintf("round %d", round))
	}
	checkSecrets(t, w, "all rounds")
	if got := cr.counts; got["ok"] == 0 || got["hit"] == 0 || got["no answer"] == 0 || got[api.CodeAuditUnavailable] == 0 || got[api.CodeMintInterrupted] == 0 {
		t.Errorf("the faults did not all befall: %v", got)
	}
	s := w.stage(t)
	s.want(t, s.signed(t, ""), 200, "ok")
}

// round has all callers make some calls under faults, with the clock moving and the
// settling going on, and ends when all is quiet and settled.
func (cr *crowd) round(t *testing.T, grants [][]api.Grant) {
	h := &hands{pushed: make(chan struct{}, 1), moved: make(chan struct{})}
	cr.faultySTS(cr.stsFault(h))
	cr.setRandom(cr.fault, cr.anchorFault)
	done := make(chan struct{})
	var callers, others sync.WaitGroup
	others.Go(func() { cr.turn(h, done) })
	others.Go(func() { cr.unhang(done) })
	for range 64 {
		callers.Go(func() {
			for range 3 {
				_ = cr.broker.AwaitAnchors(t.Context()) // or it would be refused for a fault that befell others
				cr.one(t.Context(), t, grants)
				h.push()
			}
		})
	}
	callers.Wait()
	cr.faultySTS(nil)
	cr.setRandom(nil, nil)
	for _, p := range cr.places {
		p.free()
	}
	must(t, cr.broker.CatchUp(t.Context()))
	cr.k.Quiet(t) // those who hung up may still have a call waiting for the clock
	close(done)
	others.Wait()
	cr.pass(t, overdue)
}

func (w *world) setRandom(transactions, anchors func() fault) {
	w.faults.set()
	w.faults.mu.Lock()
	w.faults.random = transactions
	w.faults.mu.Unlock()
	for _, p := range w.places {
		p.set(works)
		p.mu.Lock()
		p.random = anchors
		p.mu.Unlock()
	}
}
