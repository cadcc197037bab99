package broker_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// world is a broker with all that the invariant is about.
type world struct {
	k        *agentkeystest.Broker // nil where the broker is another process
	broker   *broker.Broker        // likewise
	clock    *agentkeystest.Clock  // likewise
	issuer   string
	now      func() time.Time
	view     func(context.Context, func(*sql.Tx) error) error
	database string
	aws      *agentkeystest.AWS
	places   []*place
	faults   *faults
	http     *http.Client
	log      func() string
	calls    atomic.Int64

	mu      sync.Mutex // guards what follows
	answers []reply
	broken  []string // seen at the moment that it happened
	sts     func(w http.ResponseWriter, r *http.Request, next http.Handler)
}

// newWorld starts a broker with two anchors beside its database.
func newWorld(t *testing.T, changes ...func(*broker.Config)) *world {
	t.Helper()
	w := &world{places: []*place{newPlace("east"), newPlace("west")}, faults: &faults{}, database: filepath.Join(t.TempDir(), "agentkeys.db")}
	changes = append([]func(*broker.Config){func(c *broker.Config) {
		for _, p := range w.places {
			c.Anchors = append(c.Anchors, broker.Anchor{Name: p.name, Put: p.Put})
		}
	}}, changes...)
	w.k, w.aws = agentkeystest.NewAtWithAWS(t, w.database, changes...)
	w.broker, w.clock, w.issuer, w.now, w.view, w.http, w.log = w.k.Broker, w.k.Clock, w.k.Issuer, w.k.Clock.Now, w.k.Store.View, w.k.HTTP, w.k.Log.String
	w.broker.WrapTransactions(w.faults.around)
	w.broker.SetAnchorTimeout(anchorPatience)
	w.aws.Intercept(w.watchSTS)
	return w
}

// anchorPatience is how long the anchors of these tests have. Only those that are
// made slow use it up.
const anchorPatience = time.Second

// watchSTS checks, at the moment that STS is asked, that the intent is durable
// everywhere, before it lets STS or a fault answer.
func (w *world) watchSTS(rw http.ResponseWriter, r *http.Request, next http.Handler) {
	form, err := readForm(r)
	if err != nil {
		w.violated("reading what STS is asked: %v", err)
	}
	jti, err := tokenID(form.Get("WebIdentityToken"))
	if err != nil {
		w.violated("STS is asked with what is no token: %v", err)
	}
	if why := w.intended(jti); why != "" {
		w.violated("STS is asked with token %s: %s", jti, why)
	}
	if form.Get("Policy") == "" {
		w.violated("STS is asked without a session policy")
	}
	w.mu.Lock()
	fault := w.sts
	w.mu.Unlock()
	if fault != nil {
		fault(rw, r, next)
		return
	}
	next.ServeHTTP(rw, r)
}

// intended says what is wrong with the intent of a token. That it has an outcome is
// no fault: a call may be on its way for longer than its deadline.
func (w *world) intended(jti string) string {
	var id string
	err := w.view(context.Background(), func(tx *sql.Tx) error {
		return tx.QueryRow("SELECT id FROM audit_records WHERE token_id = $1 AND outcome = 'pending'", jti).Scan(&id)
	})
	if err != nil {
		return fmt.Sprintf("its intent: %v", err)
	}
	for _, p := range w.places {
		if !p.holds(id) {
			return fmt.Sprintf("anchor %s does not hold its intent %s", p.name, id)
		}
	}
	return ""
}

func readForm(r *http.Request) (url.Values, error) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(body))
}

// tokenID reads the jti of a token.
func tokenID(jwt string) (string, error) {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return "", fmt.Errorf("want three parts, got %d", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", err
	}
	var claims struct {
		ID string `json:"jti"`
	}
	err = json.Unmarshal(data, &claims)
	return claims.ID, err
}

// faultySTS has f answer in the place of STS, until it is nil.
func (w *world) faultySTS(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sts = f
}

func (w *world) violated(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = append(w.broken, fmt.Sprintf(format, args...))
}

func (w *world) noted() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.broken)
}

func (w *world) replies() []reply {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.answers)
}

// reply is an answer to a call for credentials. One of creds and problem is nil.
type reply struct {
	id, wallet, requestID string // id is the X-Request-Id, of the request_id and a number
	status                int
	header                http.Header
	body                  []byte
	creds                 *api.MintAWSResponse
	problem               *api.Problem
}

// code is "ok" or that of the problem.
func (r reply) code() api.Code {
	if r.creds != nil {
		return "ok"
	}
	return r.problem.Code
}

// send sends a signed call and keeps the answer. Credentials in it are held against
// their records at once. The error is of an answer that did not arrive.
func (w *world) send(ctx context.Context, c *agentkeystest.Call) (reply, error) {
	r := reply{wallet: strings.ToLower(c.Signer.Address()), requestID: c.RequestID, id: fmt.Sprintf("%s.%d", c.RequestID, w.calls.Add(1))}
	data, err := json.Marshal(c.MintAWSRequest)
	if err != nil {
		return r, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", w.issuer+api.PathMintAWS, bytes.NewReader(data))
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Request-Id", r.id)
	if c.Session != "" {
		req.Header.Set("Authorization", "Bearer "+c.Session)
	}
	if c.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", c.IdempotencyKey)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return r, err
	}
	defer resp.Body.Close()
	if r.body, err = io.ReadAll(resp.Body); err != nil {
		return r, err
	}
	r.status, r.header = resp.StatusCode, resp.Header
	return r, w.keep(&r)
}

// keep reads an answer and adds it to those that are checked.
func (w *world) keep(r *reply) error {
	var into any = &r.problem
	if r.status == http.StatusOK {
		into = &r.creds
	}
	if err := json.Unmarshal(r.body, into); err != nil {
		return fmt.Errorf("an answer %d that cannot be read: %w", r.status, err)
	}
	if r.creds != nil {
		s := &state{records: map[string]audit.Record{}, outcomes: map[string][]audit.Record{}}
		if err := w.view(context.Background(), s.readOne(r.creds.AuditRecordID)); err != nil {
			w.violated("%s is released: reading its records: %v", r.creds.AccessKeyID, err)
		} else if missing := s.recorded(r.creds, w.places); missing != "" {
			w.violated("%s is released: %s", r.creds.AccessKeyID, missing)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, *r)
	return nil
}

// readOne reads an intent and its outcomes.
func (s *state) readOne(id string) func(*sql.Tx) error {
	return func(tx *sql.Tx) error {
		intent, err := audit.ByID(context.Background(), tx, id)
		if err != nil {
			return err
		}
		s.records[id] = intent.Record
		var outcome string
		err = tx.QueryRow("SELECT id FROM audit_records WHERE settles = $1", id).Scan(&outcome)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		record, err := audit.ByID(context.Background(), tx, outcome)
		if err != nil {
			return err
		}
		s.outcomes[id] = append(s.outcomes[id], record.Record)
		var back int
		if err := tx.QueryRow("SELECT count(*) FROM audit_records WHERE settles = $1", outcome).Scan(&back); err != nil || back == 0 {
			return err
		}
		s.back = map[string][]audit.Record{outcome: make([]audit.Record, back)}
		return nil
	}
}

// want sends a signed call and checks its answer and then the invariant.
func (w *world) want(t *testing.T, c *agentkeystest.Call, status int, code api.Code) reply {
	t.Helper()
	r, err := w.send(t.Context(), c)
	if err != nil {
		t.Fatalf("calling: %v", err)
	}
	if r.status != status || r.code() != code {
		t.Errorf("got %d %s, want %d %s", r.status, r.code(), status, code)
	}
	checkInvariant(t, w, fmt.Sprintf("%d %s", status, code))
	return r
}

// place is an anchor: a place to record that may fail.
type place struct {
	name string
	busy atomic.Bool

	mu      sync.Mutex // guards what follows
	last    int64      // the place of the newest record
	missed  []string   // where a record was put before those before it
	kept    map[string]audit.Record
	fault   fault
	on      []string // the outcomes of the records that the fault is for; empty for all
	random  func() fault
	before  func(audit.Record) // runs before a record is put; nil for nothing
	release chan struct{}      // closed to end those that hang
}

// fault is what becomes of a record.
type fault int

const (
	works   fault = iota
	refused       // it is not stored, and that is said
	lost          // it is stored, and reported not to be
	slow          // it is stored, after everybody's patience has ended
	hung          // nothing, not even for a caller who gives up
)

func newPlace(name string) *place {
	return &place{name: name, kept: map[string]audit.Record{}, release: make(chan struct{})}
}

// Put is the anchor's. Of records that come together those before the one that the
// fault befalls are stored.
func (p *place) Put(ctx context.Context, entries ...audit.Entry) error {
	if p.busy.Swap(true) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.missed = append(p.missed, p.name+" was called while a call was on its way")
		return errors.New("this place is busy")
	}
	defer p.busy.Store(false)
	drawn := p.draw()
	for i, e := range entries {
		f, release := p.next(e.Record)
		if drawn != works && i == len(entries)-1 {
			f = drawn
		}
		if err := p.put(ctx, e.Record, f, release); err != nil {
			return err
		}
	}
	return nil
}

func (p *place) put(ctx context.Context, r audit.Record, f fault, release chan struct{}) error {
	if before := p.first(); before != nil {
		before(r)
	}
	switch f {
	case refused:
		return errors.New("this place is down")
	case slow:
		<-ctx.Done()
	case hung:
		<-release
		return errors.New("this place hung")
	}
	p.mu.Lock()
	if r.Seq > p.last+1 {
		p.missed = append(p.missed, fmt.Sprintf("it was put the record at place %d behind the one at %d", r.Seq, p.last))
	}
	p.kept[r.ID], p.last = r, max(p.last, r.Seq)
	p.mu.Unlock()
	if f == lost {
		return errors.New("the answer of this place was lost")
	}
	return ctx.Err()
}

func (p *place) next(r audit.Record) (fault, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.random == nil && (len(p.on) == 0 || slices.Contains(p.on, r.Outcome)) {
		return p.fault, p.release
	}
	return works, p.release
}

// draw draws a fault for a call, where faults are random.
func (p *place) draw() fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.random == nil {
		return works
	}
	return p.random()
}

func (p *place) first() func(audit.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.before
}

// meanwhile has f run before each record is put; nil ends it.
func (p *place) meanwhile(f func(audit.Record)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = f
}

// set has a fault befall records of the given outcomes, or all.
func (p *place) set(f fault, outcomes ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.on, p.random = f, outcomes, nil
}

// free ends those that hang.
func (p *place) free() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.release)
	p.release = make(chan struct{})
}

func (p *place) holds(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, found := p.kept[id]
	return found
}

// faulty says where the place was not given the records in their order.
func (p *place) faulty() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.missed)
}

// mend has all places work, and returns when they have all that there is.
func (w *world) mend(t *testing.T) {
	t.Helper()
	for _, p := range w.places {
		p.set(works)
		p.free()
	}
	must(t, w.broker.CatchUp(t.Context()))
}

func (p *place) all() []audit.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.kept))
}

// faults befall the transactions of a broker, in the order of the plan, and then as
// rest says.
type faults struct {
	mu     sync.Mutex // guards what follows
	plan   []fault
	rest   fault
	random func() fault
}

var errDisk = errors.New("the disk reported an error")

// set plans the faults of the next transactions. Those after them work.
func (f *faults) set(plan ...fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan, f.rest, f.random = plan, works, nil
}

// setRest has every transaction after the plan fail so.
func (f *faults) setRest(rest fault, plan ...fault) {
	f.set(plan...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rest = rest
}

func (f *faults) next() fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.random != nil {
		return f.random()
	}
	if len(f.plan) == 0 {
		return f.rest
	}
	next := f.plan[0]
	f.plan = f.plan[1:]
	return next
}

// around is what faults do to the store: a refused transaction ran and is undone, a
// lost one is durable and reported not to be, as the store's contract has it.
func (f *faults) around(update broker.Transact) broker.Transact {
	return func(ctx context.Context, fn func(*sql.Tx) error) error {
		switch f.next() {
		case refused:
			return update(ctx, func(tx *sql.Tx) error { return errors.Join(fn(tx), errDisk) })
		case lost:
			return errors.Join(update(ctx, fn), errDisk)
		}
		return update(ctx, fn)
	}
}
