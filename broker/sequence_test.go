package broker_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/anchor"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// placed waits until every record has its place, and returns the signed head.
func placed(t *testing.T, k *agentkeystest.Broker) (head audit.Checkpoint) {
	t.Helper()
	for {
		var records int64
		must(t, k.Store.View(t.Context(), func(tx *sql.Tx) (err error) {
			if head, err = k.Audit.Check(t.Context(), tx); err != nil && !errors.Is(err, audit.ErrEmpty) {
				return err
			}
			return tx.QueryRow("SELECT count(*) FROM audit_records").Scan(&records)
		}))
		if head.Size == records && records > 0 {
			return head
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatalf("the head has %d of %d records", head.Size, records)
		}
	}
}

// Each record gets its place by itself, the heads are seen outside, each extends the
// one before, and the last of them is published when the broker stops.
func TestRecordsGetTheirPlaces(t *testing.T) {
	w := newWorld(t)
	s := w.stage(t)
	placed(t, w.k)
	for range 3 {
		s.want(t, s.signed(t, ""), 200, "ok")
	}
	w.k.Stop()
	seen, records := w.k.Seen(t), w.count(t, "SELECT count(*) FROM audit_records")
	if len(seen) < 2 || seen[len(seen)-1].Size != int64(records) {
		t.Fatalf("the heads that were seen are of %+v, and there are %d records", seen, records)
	}
	must(t, w.view(t.Context(), func(tx *sql.Tx) error {
		head, err := w.k.Audit.Check(t.Context(), tx)
		must(t, err)
		for _, one := range seen {
			c, err := w.k.Audit.Open(one.Note)
			must(t, err)
			must(t, w.k.Audit.Extends(t.Context(), tx, head, c))
		}
		return nil
	}))
	for _, want := range []string{`"msg":"checkpoint"`, `"size":` + strconv.Itoa(records), w.k.Audit.Origin() + `\n` + strconv.Itoa(records) + `\n`} {
		if !strings.Contains(w.log(), want) {
			t.Errorf("the log of the broker does not have %s", want)
		}
	}
	for _, name := range []string{"east", "west"} {
		if n := w.count(t, "SELECT upto FROM audit_anchors WHERE name = $1", name); n != records {
			t.Errorf("the database has anchor %s at %d of %d", name, n, records)
		}
	}
}

// tamper does to the database what its triggers do not let anybody do through a store.
func tamper(t *testing.T, database string, statements ...string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+database+"?_pragma=busy_timeout(5000)")
	must(t, err)
	defer db.Close()
	for _, s := range statements {
		if _, err := db.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// Once the log is not what it was, no head is signed any more, STS is not asked, nothing
// leaves, and readiness says so.
func TestLogThatIsNotAsItWasLeft(t *testing.T) {
	for name, statement := range map[string]string{
		"a place is missing":    "UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'audit_records'",
		"a tile was changed":    "UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0",
		"a tile is missing":     "DELETE FROM audit_tiles",
		"the head was put back": "UPDATE audit_head SET size = 1",
		"the head is gone":      "DELETE FROM audit_head",
		"another head":          "UPDATE audit_head SET note = replace(note, char(10), char(10) || 'x')",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.stage(t)
			kept := s.signed(t, rand.Text())
			s.want(t, kept, 200, "ok")
			placed(t, w.k)
			var head string
			must(t, w.view(t.Context(), func(tx *sql.Tx) error { return tx.QueryRow("SELECT note FROM audit_head").Scan(&head) }))
			for seen := w.k.Seen(t); len(seen) == 0 || seen[len(seen)-1].Note != head; seen = w.k.Seen(t) { // it is published after it is durable
				<-time.After(10 * time.Millisecond)
			}
			tamper(t, w.database, statement)
			seen := len(w.k.Seen(t))

			var refused *api.Problem
			for range 100 { // until the log is extended next, which is a moment after a record
				if _, refused = w.k.Mint(t, s.signed(t, "")); refused != nil {
					break
				}
				<-time.After(10 * time.Millisecond)
			}
			if refused == nil || refused.Code != api.CodeAuditUnavailable || strings.Contains(refused.Detail, "tile") {
				t.Fatalf("nothing was refused, or it says too much: %+v", refused)
			}
			asked := len(w.aws.Asked())
			for range 3 {
				if _, problem := w.k.Mint(t, s.signed(t, "")); problem == nil || problem.Code != api.CodeAuditUnavailable {
					t.Errorf("got %+v, want %s", problem, api.CodeAuditUnavailable)
				}
			}
			if _, problem := w.k.Mint(t, kept); problem == nil || problem.Code != api.CodeAuditUnavailable {
				t.Errorf("a retry got %+v, want %s", problem, api.CodeAuditUnavailable)
			}
			if _, err := w.k.Client.MintOIDC(t.Context(), s.daemon.Session.SessionJWT); err == nil {
				t.Error("a web identity token was released")
			}
			if n := len(w.aws.Asked()); n != asked {
				t.Errorf("STS was asked %d times", n-asked)
			}
			ready := w.ready(t)
			i := slices.IndexFunc(ready.Checks, func(c api.Check) bool { return c.Name == "log" })
			if ready.Status != api.StatusUnready || i < 0 || ready.Checks[i].Status != api.StatusUnready || !strings.Contains(ready.Checks[i].Reason, "not as it was left") {
				t.Errorf("readiness: %+v", ready)
			}
			if !strings.Contains(w.log(), `"level":"ERROR","msg":"the audit log is not as it was left; nothing is released any more"`) {
				t.Error("the log of the broker does not say why")
			}
			w.k.Stop()
			if n := len(w.k.Seen(t)); n != seen {
				t.Errorf("%d heads were published over it", n-seen)
			}
			if name != "the head is gone" {
				if n := w.count(t, "SELECT count(*) FROM audit_head WHERE note = $1 OR note LIKE '%x%'", head); n != 1 {
					t.Error("another head was signed over it")
				}
			}
		})
	}
}

// An extension that fails is tried again, and meanwhile the broker mints: the records
// are durable.
func TestExtensionThatFailsIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	f := &faults{}
	w.broker.WrapPlacing(f.around)
	f.setRest(refused)
	s := w.stage(t)
	s.want(t, s.signed(t, ""), 200, "ok")
	must(t, w.broker.CatchUp(t.Context()))
	if n := w.count(t, "SELECT size FROM audit_head"); n != 0 {
		t.Errorf("%d records have a place of a transaction that failed", n)
	}
	if n := len(w.k.Seen(t)); n != 0 {
		t.Errorf("%d heads were published that are not durable", n)
	}
	f.set(lost) // the head is durable, and the broker does not know it
	placed(t, w.k)
	s.want(t, s.signed(t, ""), 200, "ok")
	placed(t, w.k)
	s.wantReady(t, api.StatusReady)
	if !strings.Contains(w.log(), "extending the audit log failed; it is tried again") {
		t.Error("the log of the broker does not tell")
	}
}

// The file of heads fails: readiness says so, and says that it works again.
func TestHeadsFileFails(t *testing.T) {
	var fails atomic.Bool
	w := newWorld(t, func(c *broker.Config) {
		publish := c.Heads
		c.Heads = func(ctx context.Context, head audit.Checkpoint) error {
			if fails.Load() {
				return errors.New("/secret/path: no room")
			}
			return publish(ctx, head)
		}
	})
	s := w.stage(t)
	fails.Store(true)
	s.want(t, s.signed(t, ""), 200, "ok")
	placed(t, w.k)
	for w.ready(t).Status == api.StatusReady {
		<-time.After(5 * time.Millisecond)
	}
	ready := w.ready(t)
	i := slices.IndexFunc(ready.Checks, func(c api.Check) bool { return c.Status != api.StatusReady })
	if c := ready.Checks[i]; c.Name != "log" || c.Status != api.StatusUnready || !strings.Contains(c.Reason, "the file of heads has failed") || strings.Contains(c.Reason, "secret") {
		t.Errorf("readiness: %+v", c)
	}
	fails.Store(false)
	s.wantReady(t, api.StatusReady)
	w.k.Stop()
	if seen := w.k.Seen(t); seen[len(seen)-1].Size != int64(w.count(t, "SELECT size FROM audit_head")) {
		t.Errorf("the last head that was seen is of %d records", seen[len(seen)-1].Size)
	}
}

// An anchor of heads: an answer waits for the head that covers its records, which is
// signed at once and not in its time.
func TestAnchorOfHeads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "checkpoints")
	must(t, anchor.CreateCheckpoints(path))
	c, err := anchor.OpenCheckpoints(path, time.Now)
	must(t, err)
	defer c.Close()
	k, _ := agentkeystest.NewWithAWS(t, func(b *broker.Config) {
		b.Anchors = append(b.Anchors, broker.Anchor{Name: c.Name(), Publish: c.Publish})
	})
	owner, daemon := k.Party(t), k.Party(t)
	k.Grant(t, owner, daemon, "reports")
	for range 3 {
		answer, problem := k.Mint(t, k.NewCall(daemon, "reports").Sign(t))
		if problem != nil {
			t.Fatalf("minting: %+v", problem)
		}
		last, _ := c.Last()
		var place int64
		must(t, k.Store.View(t.Context(), func(tx *sql.Tx) error {
			return tx.QueryRow("SELECT seq FROM audit_records WHERE settles = $1", answer.AuditRecordID).Scan(&place)
		}))
		if last.Size < place || !slices.Equal(answer.Anchored, []string{"sqlite", "checkpoints"}) {
			t.Errorf("the record at place %d was released, anchored at %v, and the newest head in the file is of %d", place, answer.Anchored, last.Size)
		}
	}
	k.Stop() // the next request needs the head, and nobody signs it
	k.Broker.SetAnchorTimeout(50 * time.Millisecond)
	if _, problem := k.Mint(t, k.NewCall(daemon, "reports").Sign(t)); problem == nil || problem.Code != api.CodeAuditUnavailable {
		t.Errorf("without a head: %+v, want %s", problem, api.CodeAuditUnavailable)
	}
}

// Where the anchors follow, answers do not wait for them, and name those alone that
// have the records.
func TestAnchorsThatFollow(t *testing.T) {
	w := newWorld(t, func(c *broker.Config) { c.AnchorsFollow = true })
	w.places[1].set(hung)
	s := &stage{world: w, owner: w.k.Party(t), daemon: w.k.Party(t)}
	s.grant = w.k.Grant(t, s.owner, s.daemon, "reports")
	c := s.signed(t, rand.Text())
	mint := func() []string {
		t.Helper()
		answer, problem := w.k.Mint(t, c)
		if problem != nil {
			t.Fatalf("minting while an anchor hangs: %+v", problem)
		}
		return answer.Anchored
	}
	if got := mint(); got[0] != "sqlite" || slices.Contains(got, "west") {
		t.Errorf("anchored at %v, want sqlite and not west, which hangs", got)
	}
	for w.ready(t).Status == api.StatusReady {
		<-time.After(5 * time.Millisecond)
	}
	ready := w.ready(t)
	i := slices.IndexFunc(ready.Checks, func(c api.Check) bool { return c.Name == "anchor.west" })
	if ready.Status != api.StatusDegraded || ready.Checks[i].Status != api.StatusDegraded || !strings.Contains(ready.Checks[i].Reason, "lacks") {
		t.Errorf("readiness: %+v", ready)
	}
	answer := httptest.NewRecorder()
	w.broker.ServeHTTP(answer, httptest.NewRequest("GET", api.PathReady, nil))
	if answer.Code != 200 {
		t.Errorf("degraded is %d, want 200", answer.Code)
	}
	metrics := httptest.NewRecorder()
	w.broker.Admin().ServeHTTP(metrics, httptest.NewRequest("GET", api.PathMetrics, nil))
	for _, want := range []string{`agentkeys_anchor_open{anchor="west"} 1`, `agentkeys_anchor_open{anchor="east"} 0`, `agentkeys_anchor_lag_records{anchor="west"} `,
		"agentkeys_audit_log_records ", "agentkeys_audit_unplaced_records ", "agentkeys_audit_head_age_seconds "} {
		if !strings.Contains(metrics.Body.String(), want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	w.mend(t)
	if got := mint(); !slices.Equal(got, []string{"sqlite", "east", "west"}) {
		t.Errorf("given again once all have it, it is anchored at %v", got)
	}
	s.wantReady(t, api.StatusReady)
	if n, all := len(w.places[1].all()), w.count(t, "SELECT count(*) FROM audit_records"); n < all-1 { // the last may be on its way
		t.Errorf("the anchor that hung has %d of %d records", n, all)
	}
}

// A broker is not made over a log that is not its own, nor one that lacks what an anchor
// has.
func TestNewHoldsTheLogAgainstItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	var config broker.Config
	k := agentkeystest.NewAt(t, path, func(c *broker.Config) { config = *c })
	k.SignIn(t)
	size := k.Head(t).Size
	k.Stop()
	put := func(context.Context, ...audit.Entry) error { return nil }
	for want, change := range map[string]func(*broker.Config){
		"": func(c *broker.Config) {
			c.Anchors = []broker.Anchor{{Name: "file", Put: put, Has: func() int64 { return size }}}
		},
		"it was cut or put back to an earlier copy": func(c *broker.Config) {
			c.Anchors = []broker.Anchor{{Name: "file", Put: put, Has: func() int64 { return size + 1 }}}
		},
		"want a signature by": func(c *broker.Config) {
			c.Audit = agentkeystest.New(t, func(o *broker.Config) { o.Issuer = k.Issuer }).Audit
		},
		"an audit log and a place for its heads": func(c *broker.Config) { c.Heads = nil },
		"want names of their own, got \"heads\"": func(c *broker.Config) { c.Anchors = []broker.Anchor{{Name: "heads", Put: put}} },
		"want a way to put records or one":       func(c *broker.Config) { c.Anchors = []broker.Anchor{{Name: "file"}} },
	} {
		c := config
		change(&c)
		_, err := broker.New(c)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	tamper(t, path, "DELETE FROM audit_tiles")
	if _, err := broker.New(config); !errors.Is(err, audit.ErrBroken) {
		t.Errorf("over a log without its tree: %v, want ErrBroken", err)
	}
}
