package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
)

// aged is a log with a record for each of so many hours until now, under its head.
func aged(t *testing.T, hours int) *testLog {
	t.Helper()
	l := newTestLog(t)
	var records []audit.Record
	for i := range hours {
		r := testRecord(i)
		r.Time = time.Now().Add(-time.Duration(hours-i) * time.Hour).Add(time.Minute)
		records = append(records, r)
	}
	l.append(t, records...)
	l.extend(t)
	return l
}

// An operator exports, prunes what is older than ten days, and goes on: the log holds
// together, and the file is rid of what went.
func TestAuditPrune(t *testing.T) {
	const hours, kept = 20 * 24, 10 * 24
	l := aged(t, hours)
	first := l.lines(t)[:200]
	out := filepath.Join(t.TempDir(), "export.ndjson")
	l.audit(t, "export", "--out", out).must(t)
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(text)
	key := filepath.Join(t.TempDir(), "audit.vkey")
	if err := os.WriteFile(key, []byte(l.vkey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--keep-days", "10", "--exported", out, "--key", key}

	l.audit(t, "prune", args...).refused(t, exitBroken, "database is in use", "stop the other broker first")
	l.close(t)
	if r := l.audit(t, "prune", append(args, "--dry-run")...).must(t); !strings.HasPrefix(r.stdout, "would prune 240 records, up to place 240; ") {
		t.Errorf("a dry run says %q", r.stdout)
	}
	l.open(t)
	if !bytes.HasPrefix(l.lines(t), first) {
		t.Error("a dry run deleted")
	}
	l.close(t)

	cut := filepath.Join(t.TempDir(), "cut.ndjson")
	if err := os.WriteFile(cut, text[200:], 0o600); err != nil {
		t.Fatal(err)
	}
	l.audit(t, "prune", "--keep-days", "10", "--exported", cut, "--key", l.vkey).refused(t, exitBroken, "checking the export: line 1: ", "the records from place 1 to 240 are to go")
	l.audit(t, "prune", "--keep-days", "10", "--exported", out+"x", "--key", l.vkey).refused(t, exitBroken, "no such file")
	l.audit(t, "prune", "--keep-days", "10", "--exported", out, "--key", newTestLog(t).vkey).refused(t, exitBroken, "want a signature by")

	if r := l.audit(t, "prune", args...).must(t); r.stdout != "pruned 240 records, up to place 240; they are in the export with the SHA-256 "+hex.EncodeToString(sum[:])+"\n" {
		t.Errorf("printed %q", r.stdout)
	}
	data, err := os.ReadFile(filepath.Join(l.dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(testRecord(5).CredentialID)) || !bytes.Contains(data, []byte(testRecord(hours-1).CredentialID)) {
		t.Error("the file has what was pruned, or lacks what was not")
	}
	if r := l.audit(t, "prune", args...).must(t); r.stdout != "nothing to prune: the record at place 241 stays, since it is not old enough\n" {
		t.Errorf("pruning again: %q", r.stdout)
	}

	l.open(t)
	head := l.extend(t)
	err = l.db.View(t.Context(), func(tx *sql.Tx) error {
		_, err := l.log.Check(t.Context(), tx)
		if err != nil {
			return err
		}
		e, err := audit.AtPlace(t.Context(), tx, hours+1)
		if want := "through=240 exported=" + hex.EncodeToString(sum[:]); err == nil && (e.Action != audit.ActionPruned || e.Detail != want || !strings.HasPrefix(e.RequestID, "prune-")) {
			t.Errorf("recorded %+v", e)
		}
		return err
	})
	if err != nil || head.Size != hours+1 {
		t.Errorf("the head is of %d records: %v", head.Size, err)
	}
	again := filepath.Join(t.TempDir(), "again.ndjson")
	l.audit(t, "export", "--out", again).must(t)
}

// The retention that is given is one that somebody means.
func TestAuditPruneRefuses(t *testing.T) {
	l := aged(t, 72)
	l.close(t)
	rest := []string{"--exported", "x", "--key", l.vkey}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{append([]string{"--keep-days", "0"}, rest...), "--keep-days: want 1 to 36600, got 0"},
		{append([]string{"--keep-days", "-1"}, rest...), "--keep-days: want 1 to 36600, got -1"},
		{append([]string{"--keep-days", "36601"}, rest...), "want 1 to 36600"},
		{append([]string{"--keep-days", "1.5"}, rest...), "invalid argument"},
		{append([]string{"--before", time.Now().Add(-23 * time.Hour).Format(time.RFC3339)}, rest...), "at least 24h0m0s ago"},
		{append([]string{"--before", time.Now().Add(time.Hour).Format(time.RFC3339)}, rest...), "at least 24h0m0s ago"},
		{append([]string{"--before", "yesterday"}, rest...), "want a time such as"},
		{rest, "--keep-days and --before: want one of them"},
		{append([]string{"--keep-days", "1", "--before", "2020-01-01T00:00:00Z"}, rest...), "want one of them"},
		{[]string{"--keep-days", "1", "--key", l.vkey}, "--exported and --key are needed"},
		{[]string{"--keep-days", "1", "--exported", "x"}, "--exported and --key are needed"},
		{[]string{"--keep-days", "1", "--exported", "x", "--key", "x"}, "want a verifier key"},
	} {
		l.audit(t, "prune", tc.args...).refused(t, exitUsage, tc.want)
	}
	agentkeys(t, append([]string{"audit", "prune", "--keep-days", "1"}, rest...)...).refused(t, exitUsage, "--data-dir is needed")
	l.open(t)
	if n := bytes.Count(l.lines(t), []byte("\n")); n != 72 {
		t.Errorf("%d records are left of 72", n)
	}
}

// Somebody who reads the database while records are deleted keeps them in its log, and
// the command says so.
func TestAuditPruneBesideAReader(t *testing.T) {
	l := aged(t, 72)
	out := filepath.Join(t.TempDir(), "export.ndjson")
	l.audit(t, "export", "--out", out).must(t)
	l.close(t)
	db, err := sql.Open("sqlite", "file:"+filepath.Join(l.dir, databaseFile)+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	tx, err := db.BeginTx(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRow("SELECT count(*) FROM audit_records").Scan(&n); err != nil || n != 72 {
		t.Fatalf("%d records, %v", n, err)
	}
	r := l.audit(t, "prune", "--keep-days", "1", "--exported", out, "--key", l.vkey)
	if r.status != exitBroken || !strings.Contains(r.stderr, "agentkeys.db-wal is still there") || !strings.HasPrefix(r.stdout, "pruned 48 records") {
		t.Errorf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}
