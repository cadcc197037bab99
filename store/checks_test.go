package store

import (
	"database/sql"
	"fmt"
	"slices"
	"testing"
)

const (
	insertMint = `INSERT INTO mints (call_digest, caller, request_id, body_hash, record_id, state, settle_by, forget_at)
		VALUES (randomblob(16), 'a', 'b', x'', '', '%[1]v', 0, 0)`
	insertGrant = `INSERT INTO grants (grant_id, owner, tenant, daemon, service, path, actions, created_at, expires_at, max_uses, used_count, last_record_id, standing)
		VALUES ('%[1]v', '', '', '', '', '%[1]v', '', 0, 0, 1, CASE WHEN %[1]v = 0 THEN 1 ELSE 0 END, '', %[1]v)`
)

func TestChecksAcceptTheirAlternativesOnly(t *testing.T) {
	s, _ := newStore(t)
	for insert, values := range map[string]struct{ good, bad []any }{
		insertMint:  {[]any{"pending", "refused", "confirmed", "failed", "quarantined"}, []any{"", "Pending", "issued", "pending "}},
		insertGrant: {[]any{0, 1, 2}, []any{-1, 3}},
	} {
		for _, v := range slices.Concat(values.good, values.bad) {
			err := s.Update(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), fmt.Sprintf(insert, v))
				return err
			})
			if good := slices.Contains(values.good, v); good != (err == nil) {
				t.Errorf("%v: got %v, want it accepted: %t", v, err, good)
			}
		}
	}
}

// SQLite builds a table of the alternatives of IN for each row that a CHECK with
// three or more is evaluated of.
func TestChecksBuildNoTables(t *testing.T) {
	_, path := newStore(t)
	db, err := openPlain(path, writerSettings)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, query := range []string{
		fmt.Sprintf(insertMint, "pending"), fmt.Sprintf(insertGrant, 1),
		"UPDATE mints SET state = 'failed' WHERE seq = 1", "UPDATE grants SET used_count = 1 WHERE grant_id = 'a'",
	} {
		if steps := opcodes(t, db, query); !slices.Contains(steps, "MakeRecord") || slices.Contains(steps, "OpenEphemeral") {
			t.Errorf("%s: want a program that makes a record and opens no table of its own, got %v", query, steps)
		}
	}
}

func opcodes(t *testing.T, db *sql.DB, query string) (steps []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN "+query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var opcode string
		if err := rows.Scan(new(any), &opcode, new(any), new(any), new(any), new(any), new(any), new(any)); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, opcode)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
