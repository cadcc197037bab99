package broker

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"net/http"

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
	answer := api.Readiness{Status: api.StatusReady, Checks: []api.Check{b.checkDatabase(c), b.checkClock(c)}}
	for _, check := range answer.Checks {
		if check.Status != api.StatusReady {
			answer.Status = api.StatusUnready
		}
	}
	if answer.Status == api.StatusReady {
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
	return b.update(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
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

func (b *Broker) newCheck(name string) api.Check {
	return api.Check{Name: name, Status: api.StatusReady, Since: b.started.Unix(),
		Docs: b.Issuer + api.PathRunbook + "#check-" + name}
}
