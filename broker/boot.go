package broker

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"strings"

	"agentkeys/api"
	"agentkeys/audit"
)

// A Start is what a broker records of itself when it starts.
type Start struct {
	Version       string
	Configuration string            // the digest of all of it
	Variables     map[string]string // those that are set, by name: a digest of the value
	Keys          []LoadedKey
}

// A LoadedKey is a key that a broker has.
type LoadedKey struct {
	ID, Purpose string
	Signs       bool // or else it is there for what it has signed
}

// The kinds of rows of the table boot.
const (
	bootKey           = "key"
	bootVariable      = "variable"
	bootConfiguration = "configuration"
)

// Start records that the broker starts: its version, its configuration, its keys, and
// what of them differs from the start before, and that the log was restored where it was
// since then. It is to be called once, before the
// broker serves, and SettleAll before it. The records are durable in the database when
// it returns; the anchors get them like all others, and it does not wait for them.
func (b *Broker) Start(ctx context.Context, s Start) error {
	c := &call{ctx: ctx, now: b.Now(), requestID: "start-" + rand.Text()}
	err := b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error {
		before, err := readBoot(ctx, tx)
		if err != nil {
			return err
		}
		records := s.records(c, before)
		note, err := audit.RestoreNote(ctx, tx)
		if err != nil {
			return err
		}
		if note != "" { // writeBoot takes it away
			r := c.record(audit.ActionRestored)
			r.Outcome, r.Detail = audit.Confirmed, note
			records = append(records, r)
		}
		for _, r := range records {
			if err := c.append(ctx, tx, r); err != nil {
				return err
			}
		}
		if err := b.nameAnchors(ctx, tx); err != nil {
			return err
		}
		return writeBoot(ctx, tx, s.boot())
	})
	if err != nil {
		return fmt.Errorf("recording the start of the broker: %w", err)
	}
	b.noteOld(ctx)
	return nil
}

// nameAnchors has the database know each anchor, also one that never took a record:
// what it lacks may not be pruned.
func (b *Broker) nameAnchors(ctx context.Context, tx *sql.Tx) error {
	for _, f := range b.anchors() {
		if _, err := tx.ExecContext(ctx, "INSERT INTO audit_anchors (name, upto) VALUES ($1, 0) ON CONFLICT (name) DO NOTHING", f.name); err != nil {
			return fmt.Errorf("naming anchor %s: %w", f.name, err)
		}
	}
	return nil
}

// Stop records the refusals that were counted, and that the broker stops. It is to be
// called once, after the last request. A broker that did not record it was cut off.
func (b *Broker) Stop(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // by now it has ended
	if err := b.Summarise(ctx, true); err != nil {
		return err
	}
	c := &call{ctx: ctx, now: b.Now(), requestID: "stop-" + rand.Text()}
	r := c.record(audit.ActionBrokerStopped)
	r.Outcome = audit.Confirmed
	err := b.commit(c, api.CodeAuditUnavailable, func(ctx context.Context, tx *sql.Tx) error { return c.append(ctx, tx, r) })
	if err != nil {
		return fmt.Errorf("recording the stop of the broker: %w", err)
	}
	return nil
}

// bootRow is a row of the table boot without its value.
type bootRow struct{ kind, name string }

func readBoot(ctx context.Context, tx *sql.Tx) (map[bootRow]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT kind, name, value FROM boot WHERE NOT (kind = $1 AND name = $2)", audit.NoteKind, audit.NoteName)
	if err != nil {
		return nil, fmt.Errorf("reading what the start before had: %w", err)
	}
	defer rows.Close()
	found := make(map[bootRow]string)
	for rows.Next() {
		var row bootRow
		var value string
		if err := rows.Scan(&row.kind, &row.name, &value); err != nil {
			return nil, fmt.Errorf("reading what the start before had: %w", err)
		}
		found[row] = value
	}
	return found, rows.Err()
}

func writeBoot(ctx context.Context, tx *sql.Tx, boot map[bootRow]string) error {
	if _, err := tx.ExecContext(ctx, "DELETE FROM boot"); err != nil {
		return fmt.Errorf("keeping what this start has: %w", err)
	}
	for row, value := range boot {
		if _, err := tx.ExecContext(ctx, "INSERT INTO boot (kind, name, value) VALUES ($1, $2, $3)", row.kind, row.name, value); err != nil {
			return fmt.Errorf("keeping what this start has: %w", err)
		}
	}
	return nil
}

// boot is what the next start compares itself with.
func (s Start) boot() map[bootRow]string {
	boot := map[bootRow]string{{bootConfiguration, ""}: s.Configuration}
	for name, digest := range s.Variables {
		boot[bootRow{bootVariable, name}] = digest
	}
	for _, k := range s.Keys {
		boot[bootRow{bootKey, k.ID}] = k.Purpose
	}
	return boot
}

// records are those of a start. Before is empty where there was none to compare with.
func (s Start) records(c *call, before map[bootRow]string) (records []*audit.Record) {
	add := func(action, key string, details ...string) {
		for _, detail := range details {
			r := c.record(action)
			r.Outcome, r.KeyID, r.Detail = audit.Confirmed, key, detail
			records = append(records, r)
		}
	}
	now := s.boot()
	add(audit.ActionBrokerStarted, "", fmt.Sprintf("version=%q configuration=%s", s.Version, s.Configuration))
	add(audit.ActionConfigLoaded, "", details(slices.Sorted(maps.Keys(s.Variables)))...)
	for _, k := range s.Keys {
		use := "verify"
		if k.Signs {
			use = "sign"
		}
		add(audit.ActionKeyLoaded, k.ID, "purpose="+k.Purpose+" use="+use)
	}
	if len(before) == 0 {
		return records
	}
	if before[bootRow{bootConfiguration, ""}] != s.Configuration {
		changes := changes(bootVariable, before, now)
		if len(changes) == 0 {
			changes = []string{"defaults"} // of another release
		}
		add(audit.ActionConfigChanged, "", details(changes)...)
	}
	for _, change := range changes(bootKey, before, now) {
		row := bootRow{bootKey, change[1:]}
		if change[0] != '-' {
			add(audit.ActionKeyAdded, row.name, "purpose="+now[row])
		}
		if change[0] != '+' {
			add(audit.ActionKeyRetired, row.name, "purpose="+before[row])
		}
	}
	return records
}

// changes names the rows of a kind that are new (+), gone (-) or of another value (~).
func changes(kind string, before, now map[bootRow]string) (found []string) {
	for row := range before {
		if _, still := now[row]; row.kind == kind && !still {
			found = append(found, "-"+row.name)
		}
	}
	for row, value := range now {
		old, known := before[row]
		switch {
		case row.kind != kind || known && old == value:
		case known:
			found = append(found, "~"+row.name)
		default:
			found = append(found, "+"+row.name)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Compare(a[1:], b[1:]) })
	return found
}

// maxDetail is how long the detail of a record may be, in bytes.
const maxDetail = 512

// details puts words into as many details as they take.
func details(words []string) (found []string) {
	detail := ""
	for _, word := range words {
		if len(detail)+1+len(word) > maxDetail {
			found, detail = append(found, detail), ""
		}
		detail = strings.TrimPrefix(detail+" "+word, " ")
	}
	return append(found, detail)
}
