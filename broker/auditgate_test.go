package broker_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// Whatever keeps the database from taking a record keeps credentials from leaving.
// An anchor that fails, and a process that dies, are in TestInvariant and in
// TestInvariantKilledAtEachStep.

// refusedBy mints until the fault shows: what was released until then has its
// records. It returns the call that was refused.
func (s *stage) refusedBy(t *testing.T, what string) *agentkeystest.Call {
	t.Helper()
	for range 400 {
		c := s.signed(t, rand.Text())
		r, err := s.send(t.Context(), c)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if r.creds != nil {
			continue
		}
		if r.status != http.StatusServiceUnavailable || r.code() != api.CodeAuditUnavailable {
			t.Errorf("%s: got %d %s, want 503 %s", what, r.status, r.code(), api.CodeAuditUnavailable)
		}
		checkInvariant(t, s.world, what)
		return c
	}
	t.Fatalf("%s: nothing was refused", what)
	return nil
}

// wantReady checks readiness. What was mended is seen to work by those who work in the
// background, so that readiness takes a moment to say so.
func (w *world) wantReady(t *testing.T, status string) {
	t.Helper()
	for tries := 0; status == api.StatusReady && tries < 200 && w.ready(t).Status != status; tries++ {
		<-time.After(50 * time.Millisecond)
	}
	if ready := w.ready(t); ready.Status != status {
		t.Errorf("readiness %+v, want %s", ready, status)
	}
}

// A file may not grow beyond its limit, which SQLite sees as a disk that fails: the
// store writes no more until the process is started again.
func TestAuditGateDiskFails(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "")
	s := p.stage(t)
	before := s.signed(t, rand.Text())
	first := s.want(t, before, 200, "ok")
	p.kill()
	wal, err := os.Stat(p.database + "-wal")
	must(t, err)
	p.setup.FileSize = uint64(wal.Size()) + 150_000
	p.start(t)
	c := s.refusedBy(t, "the disk fails")
	asked := len(p.aws.Asked())
	s.want(t, c, 503, api.CodeAuditUnavailable)
	s.want(t, s.signed(t, ""), 503, api.CodeAuditUnavailable)
	s.want(t, before, 503, api.CodeAuditUnavailable) // a replay needs its record as well
	if n := len(p.aws.Asked()); n != asked {
		t.Errorf("STS was asked %d times while nothing could be recorded", n-asked)
	}
	s.wantReady(t, api.StatusUnready)
	p.kill()
	p.setup.FileSize = 0
	p.start(t)
	checkInvariant(t, p.world, "started again")
	s.wantReady(t, api.StatusReady)
	if again := s.want(t, before, 200, "ok"); again.creds.AccessKeyID != first.creds.AccessKeyID {
		t.Errorf("the retry got %s, want %s", again.creds.AccessKeyID, first.creds.AccessKeyID)
	}
	p.wantRetry(t, c, p.outcomeOf(t, c))
	s.want(t, s.signed(t, ""), 200, "ok")
}

// The disk is full, before STS is asked and while it is. Once there is room again the
// broker mints, without a restart.
func TestAuditGateDiskFull(t *testing.T) {
	t.Parallel()
	p := newProcess(t, smallDisk(t))
	s := p.stage(t)
	s.want(t, s.signed(t, ""), 200, "ok")

	p.faultySTS(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		p.fill(t)
		next.ServeHTTP(w, r)
	})
	afterSTS := s.refusedBy(t, "the disk is full after STS")
	p.faultySTS(nil)
	if got := p.outcomeOf(t, afterSTS); got != audit.Pending {
		t.Errorf("the call is %q, want pending", got)
	}
	asked := len(p.aws.Asked())
	c := s.refusedBy(t, "the disk is full before STS")
	if n := len(p.aws.Asked()); n != asked {
		t.Errorf("STS was asked %d times while nothing could be recorded", n-asked)
	}
	s.wantReady(t, api.StatusUnready) // although a short record would just fit

	must(t, os.Remove(filepath.Join(p.dir, "ballast")))
	s.want(t, c, 200, "ok") // nothing of it was kept, so this is the first
	s.wantReady(t, api.StatusReady)
	s.want(t, afterSTS, 409, api.CodeIdempotencyInProgress)
	p.kill()
	p.start(t)
	s.want(t, afterSTS, 503, api.CodeMintInterrupted)
	s.want(t, c, 200, "ok")
}

// smallDisk is a file system of its own, which only root can make.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,mode=0700"); err != nil {
		t.Skipf("no file system can be mounted here: %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill takes all the room that there is.
func (p *process) fill(t *testing.T) {
	f, err := os.OpenFile(filepath.Join(p.dir, "ballast"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(t, err)
	defer f.Close()
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("filling the disk: %v", err)
		}
	}
}

// Another process holds the database's lock: an operator's shell that was left in a
// transaction.
func TestAuditGateDatabaseLocked(t *testing.T) {
	t.Parallel()
	t.Run("before STS", func(t *testing.T) {
		t.Parallel()
		p := newProcess(t, "")
		s := p.stage(t)
		unlock := p.lock(t)
		c := s.refusedBy(t, "the database is locked")
		if n := len(p.aws.Asked()); n != 0 {
			t.Errorf("STS was asked %d times while nothing could be recorded", n)
		}
		s.wantReady(t, api.StatusUnready)
		unlock()
		s.want(t, c, 200, "ok")
		s.wantReady(t, api.StatusReady)
	})
	t.Run("after STS", func(t *testing.T) {
		t.Parallel()
		p := newProcess(t, "")
		s := p.stage(t)
		var unlock func()
		p.faultySTS(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			unlock = p.lock(t)
			next.ServeHTTP(w, r)
		})
		c := s.refusedBy(t, "the database is locked")
		p.faultySTS(nil)
		unlock()
		s.want(t, c, 409, api.CodeIdempotencyInProgress)
		s.want(t, s.signed(t, ""), 200, "ok")
		p.kill()
		p.start(t)
		s.want(t, c, 503, api.CodeMintInterrupted)
	})
}

// lock has another process take the lock, until the function it returns is called.
func (p *process) lock(t *testing.T) func() {
	t.Helper()
	other := &process{setup: p.setup, socket: p.socket, stderr: p.stderr}
	if line := other.launch(t, "lock"); line != "ready" {
		t.Errorf("locking the database: %s", line)
	}
	return func() {
		must(t, other.stdin.Close())
		other.reap()
	}
}

// The file and its folder are made read-only under a broker that is no superuser. What
// it has open it may go on writing, so that it either mints with every record or
// refuses; started again it does not serve, until the file can be written.
func TestAuditGateReadOnlyFile(t *testing.T) {
	t.Parallel()
	p := newProcess(t, "")
	p.kill()
	p.disown(t)
	p.start(t)
	s := p.stage(t)
	before := s.signed(t, rand.Text())
	s.want(t, before, 200, "ok")
	must(t, os.Chmod(p.database, 0o400))
	must(t, os.Chmod(p.dir, 0o500))
	t.Cleanup(func() { must(t, os.Chmod(p.dir, 0o700)) })
	for range 20 {
		r, err := s.send(t.Context(), s.signed(t, rand.Text()))
		must(t, err)
		if r.creds == nil && r.status != http.StatusServiceUnavailable {
			t.Errorf("got %d %s, want 200 or 503", r.status, r.code())
		}
		checkInvariant(t, p.world, "the file is read-only")
	}
	p.kill()
	if line := p.launch(t, "broker"); !strings.HasPrefix(line, "error: opening database") {
		t.Fatalf("started over a read-only file, the broker says %q", line)
	}
	p.kill()
	must(t, os.Chmod(p.dir, 0o700))
	must(t, os.Chmod(p.database, 0o600))
	p.start(t)
	s.want(t, before, 200, "ok")
	s.want(t, s.signed(t, ""), 200, "ok")
}

// disown gives the folder to the user "nobody" and has the process run as that user,
// where this one is root.
func (p *process) disown(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	names, err := filepath.Glob(filepath.Join(p.dir, "*"))
	must(t, err)
	for _, name := range append(names, p.dir) {
		must(t, os.Chown(name, nobody, nobody))
	}
	must(t, os.Chmod(filepath.Dir(p.dir), 0o711))
	p.as = func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		cmd.Dir = p.dir
	}
}

// An anchor that is slow, or that hangs, holds nobody longer than the anchors have,
// and says so by its readiness.
func TestAuditGateSlowAnchor(t *testing.T) {
	for name, f := range map[string]fault{"slow": slow, "hangs": hung} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.broker.SetAnchorTimeout(100 * time.Millisecond)
			s := w.stage(t)
			w.places[0].set(f)
			s.want(t, s.signed(t, ""), 503, api.CodeAuditUnavailable)
			if n := len(w.aws.Asked()); n != 0 {
				t.Errorf("STS was asked %d times", n)
			}
			s.wantReady(t, api.StatusUnready)
			w.mend(t)
			s.wantReady(t, api.StatusReady)
			s.want(t, s.signed(t, ""), 200, "ok")
		})
	}
}

// A start finds more pending mints than one transaction settles, and its anchors down.
func TestSettleAllOfMany(t *testing.T) {
	const many = 600
	w := newWorld(t)
	s := w.stage(t)
	must(t, w.k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		for i := range many {
			if err := addPending(t.Context(), tx, i, w.now()); err != nil {
				return err
			}
		}
		return nil
	}))
	w.places[1].set(refused)
	must(t, w.broker.SettleAll(t.Context())) // nothing of it is released
	checkInvariant(t, w, "settled under a fault")
	s.want(t, s.signed(t, ""), 503, api.CodeAuditUnavailable) // and nothing else, before the anchor has it
	w.mend(t)
	s.want(t, s.signed(t, ""), 200, "ok")
	for _, p := range w.places {
		if n, all := len(p.all()), w.count(t, "SELECT count(*) FROM audit_records"); n != all {
			t.Errorf("anchor %s holds %d of %d records", p.name, n, all)
		}
	}
	if n := w.count(t, "SELECT count(*) FROM mints WHERE state = 'quarantined' AND request_id = 'r'"); n != many {
		t.Errorf("%d of %d are settled", n, many)
	}
	w.pass(t, time.Hour)
	if n := w.count(t, "SELECT count(*) FROM mints"); n != 0 {
		t.Errorf("%d of %d are remembered after an hour", n, many)
	}
}

// addPending adds what a process leaves that dies while STS is asked.
func addPending(ctx context.Context, tx *sql.Tx, i int, now time.Time) error {
	wallet := fmt.Sprintf("0x%040x", i)
	r := &audit.Record{Time: now, Action: "mint.aws_credentials", Outcome: audit.Pending, RequestID: fmt.Sprintf("r.%d", i),
		Wallet: wallet, Tenant: wallet, TokenID: rand.Text()}
	if err := audit.Append(ctx, tx, r); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO mints (call_digest, caller, request_id, body_hash, record_id, state, settle_by, forget_at)
		VALUES (randomblob(16), $1, 'r', x'00', $2, 'pending', $3, $4)`, wallet, r.ID, now.Add(broker.PendingTime).UnixMilli(), now.Add(5*time.Minute).UnixMilli())
	return err
}

// An anchor flushes once for the records that it is put together. Those that wait for
// it come together: one after the other, a start that finds many pending mints would
// hold up all others for a flush of each.
func TestRecordsAreBroughtTogether(t *testing.T) {
	const many = 40
	var calls, records atomic.Int32
	k, _ := agentkeystest.NewWithAWS(t, func(c *broker.Config) {
		c.Anchors = append(c.Anchors, broker.Anchor{Name: "file", Put: func(_ context.Context, entries ...audit.Entry) error {
			calls.Add(1)
			records.Add(int32(len(entries)))
			return nil
		}})
	})
	must(t, k.Store.Update(t.Context(), func(tx *sql.Tx) error {
		for i := range many {
			if err := addPending(t.Context(), tx, i, k.Clock.Now()); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, k.Broker.SettleAll(t.Context()))
	k.Quiet(t) // its request has the broker run
	must(t, k.Broker.CatchUp(t.Context()))
	if calls.Load() != 1 || records.Load() != 2*many {
		t.Errorf("%d records were brought in %d calls, want %d in one", records.Load(), calls.Load(), 2*many)
	}
}
