package broker

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"agentkeys/api"
	"agentkeys/audit"
)

// serveHealth says that the process serves. It touches nothing it depends on.
func (b *Broker) serveHealth(c *call) error {
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("Cache-Control", "no-store")
	_, _ = c.w.Write([]byte("ok\n"))
	return nil
}

// serveReady says whether the broker can do its work.
func (b *Broker) serveReady(c *call) error {
	answer := api.Readiness{Status: api.StatusReady, Checks: []api.Check{b.checkDatabase(c), b.checkClock(c), b.checkLog()}}
	for _, f := range b.anchors() {
		answer.Checks = append(answer.Checks, b.checkAnchor(f))
	}
	for _, check := range answer.Checks {
		if check.Status == api.StatusUnready || answer.Status == api.StatusReady {
			answer.Status = check.Status
		}
	}
	if answer.Status != api.StatusUnready {
		return c.writeJSON(answer)
	}
	body, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = c.w.Write(append(body, '\n'))
	return nil
}

// checkDatabase reads, and where the last write failed it writes: a record that
// says the database took one again.
func (b *Broker) checkDatabase(c *call) api.Check {
	check := b.newCheck("database")
	err := b.Store.View(c.ctx, func(tx *sql.Tx) error {
		var one int
		return tx.QueryRowContext(c.ctx, "SELECT count(*) FROM (SELECT 1 FROM accounts LIMIT 1)").Scan(&one)
	})
	if err != nil && c.r.Context().Err() == nil {
		b.recording.failed(c.now, err)
	}
	if err == nil && b.recording.due(c.now) {
		r := c.record(audit.ActionStoreRecovered)
		r.Outcome = audit.Confirmed
		if b.recordWithRoom(c, r) == nil {
			b.Log.InfoContext(c.ctx, "the database takes records again", "request_id", c.requestID)
		}
	}
	reason, since := b.recording.state()
	if !since.IsZero() {
		check.Since = since.Unix()
	}
	if reason != "" {
		c.note("database", reason)
		check.Status, check.Reason = api.StatusUnready, "the database failed when it was last needed; the log of the broker says why"
	}
	return check
}

// probeSize is more than a mint writes, so that a disk on which a short record just
// fits is not taken for one that has room again.
const probeSize = 64 << 10

// recordWithRoom makes a record durable together with as much as a mint could need.
func (b *Broker) recordWithRoom(c *call, r *audit.Record) error {
	data := make([]byte, probeSize)
	rand.Read(data) // never fails, see crypto/rand
	return b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "UPDATE probe SET data = $1 WHERE id = 1", data); err != nil {
			return err
		}
		return c.append(ctx, tx, r)
	})
}

func (b *Broker) checkClock(c *call) api.Check {
	check := b.newCheck("clock")
	if err := b.clock.check(c.now); err != nil {
		check.Status, check.Reason = api.StatusUnready, asAPI(err).Detail
		check.Since = c.now.Unix() // by the clock that is wrong; there is no other
	}
	return check
}

// checkLog says whether records get their places, and the heads of the log theirs.
func (b *Broker) checkLog() api.Check {
	check := b.newCheck("log")
	unready := func(since time.Time, reason string) api.Check {
		check.Status, check.Since, check.Reason = api.StatusUnready, since.Unix(), reason
		return check
	}
	s := b.log.standing()
	switch {
	case s.broken != nil:
		return unready(s.brokenAt, "the audit log is not as it was left, and nothing is released; the log of the broker says what was found")
	case !s.unplaced.IsZero() && time.Since(s.unplaced) > unplacedFor:
		return unready(s.unplaced, fmt.Sprintf("without a place in the audit log yet: %s; the log of the broker says why", audit.Count(s.committed-s.head.Size, "record")))
	}
	if h := b.heads().standing(); h.open {
		return unready(h.since, fmt.Sprintf("the file of heads has failed %s in a row; %s", audit.Count(h.failures, "time"), h.why()))
	}
	return check
}

// checkAnchor says whether an anchor takes what it is brought. One that nobody waits
// for does not keep the broker from its work.
func (b *Broker) checkAnchor(f *follower) api.Check {
	check := b.newCheck("anchor")
	check.Name += "." + f.name
	s := f.standing()
	if !s.since.IsZero() {
		check.Since = s.since.Unix()
	}
	if !s.open {
		return check
	}
	check.Status = api.StatusUnready
	if b.AnchorsFollow {
		check.Status = api.StatusDegraded
	}
	check.Reason = fmt.Sprintf("the anchor has failed %s in a row and lacks %s; %s", audit.Count(s.failures, "time"), audit.Count(max(0, b.log.end()-s.upto), "record"), s.why())
	return check
}

// why says of the last failure what anybody may read.
func (s standing) why() string {
	if s.public == "" {
		return "the log of the broker says why"
	}
	return s.public + "; the log of the broker says more"
}

func (b *Broker) newCheck(name string) api.Check {
	return api.Check{Name: name, Status: api.StatusReady, Since: b.started.Unix(),
		Docs: b.Issuer + api.PathRunbook + "#check-" + name}
}
