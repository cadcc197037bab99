package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"agentkeys/agentkeystest/landed"
)

// An upgraded is the host of a broker of an earlier release, on which the program of
// today is run as the run-book says.
type upgraded struct {
	dir    string
	was    landed.Story
	vkey   string
	anchor string
}

func (u *upgraded) path(name string) string { return filepath.Join(u.dir, name) }

// The run-book's steps from each release that landed, done with the program itself.
func TestServeGoesOnFromLandedReleases(t *testing.T) {
	eachUpgraded(t, func(t *testing.T, release string, u *upgraded) {
		before := u.records(t)
		u.prepare(t, release)
		u.serve(t)
		after := u.records(t)
		if len(before) < 6 || len(after) <= len(before) || strings.Join(after[:len(before)], "\n") != strings.Join(before, "\n") {
			t.Errorf("records were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
		}
		u.wantSettled(t)
		u.verify(t)

		state := u.query(t, "SELECT json_group_array(json_array(grant_id, used_count, revoked_at, standing)) FROM grants", "SELECT count(*) FROM mints",
			"SELECT json_group_array(json_array(omni_account, wallet, created_at, last_sign_in_at)) FROM accounts")
		u.serve(t)
		for _, added := range u.records(t)[len(after):] {
			if !strings.Contains(added, "|broker.st") && !strings.Contains(added, "|config.loaded|") && !strings.Contains(added, "|key.loaded|") {
				t.Errorf("a second start recorded %s", added)
			}
		}
		if again := u.query(t, "SELECT json_group_array(json_array(grant_id, used_count, revoked_at, standing)) FROM grants", "SELECT count(*) FROM mints",
			"SELECT json_group_array(json_array(omni_account, wallet, created_at, last_sign_in_at)) FROM accounts"); again != state {
			t.Errorf("a second start made of\n%s\nthis:\n%s", state, again)
		}
		u.verify(t)
	})
}

func eachUpgraded(t *testing.T, test func(t *testing.T, release string, u *upgraded)) {
	releases, err := landed.Releases()
	if err != nil {
		t.Fatal(err)
	}
	for _, release := range releases {
		t.Run(release, func(t *testing.T) {
			u := &upgraded{dir: t.TempDir()}
			if u.was, err = landed.Restore(t.Context(), release, u.dir); err != nil {
				t.Fatal(err)
			}
			u.anchor = u.path("anchor.jsonl")
			test(t, release, u)
		})
	}
}

// prepare makes the files that the release did not know, and moves away that which is in
// the form of then.
func (u *upgraded) prepare(t *testing.T, release string) {
	t.Helper()
	if _, err := os.Stat(u.path(headsFile)); errors.Is(err, fs.ErrNotExist) {
		agentkeys(t, "keygen", "--purpose", "audit", "--out", u.path(auditKeyFile)).must(t)
		u.refuses(t, "not upgrading its schema from version "+release+" to ", "opening file of heads", "file does not exist")
		agentkeys(t, "init", "--heads-file", u.path(headsFile)).must(t)
		if _, err := os.Stat(u.anchor); err == nil {
			u.refuses(t, "not upgrading its schema from version "+release+" to ", "opening anchor file", "it is of the form from before the audit log was a tree")
			if err := os.Rename(u.anchor, u.anchor+".then"); err != nil {
				t.Fatal(err)
			}
		}
		agentkeys(t, "init", "--anchor-file", u.anchor).must(t)
	}
	u.vkey = strings.TrimSpace(agentkeys(t, "keygen", "--purpose", "audit", "--show", u.path(auditKeyFile), "--issuer", u.was.Issuer).must(t).stdout)
}

// environ is the configuration of a broker over the host. Collecting less often is for
// a process that does nothing else.
func (u *upgraded) environ() []string {
	return []string{"GOGC=100", "BROKER_ISSUER=" + u.was.Issuer, "BROKER_BIND=127.0.0.1:0", "BROKER_DATA_DIR=" + u.dir, "BROKER_OIDC_KEY_FILE=" + u.path(oidcKeyFile),
		"BROKER_SESSION_KEY_FILE=" + u.path(sessionKeyFile), "BROKER_AUDIT_KEY_FILE=" + u.path(auditKeyFile),
		"BROKER_AUDIT_ANCHORS=sqlite,file", "BROKER_AUDIT_ANCHOR_FILE=" + u.anchor}
}

// untilServing is a log that ends the broker once it serves.
type untilServing struct {
	end  context.CancelFunc
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *untilServing) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if bytes.Contains(p, []byte(`"msg":"serving"`)) {
		l.end()
	}
	return l.text.Write(p)
}

// serve runs the broker until it serves, and ends it in order. The clock of the machine
// that runs this may be behind the one that the release ran on.
func (u *upgraded) serve(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	log := &untilServing{end: cancel}
	if status := run(ctx, []string{"serve", "--accept-clock"}, u.environ(), io.Discard, log); status != exitOK || ctx.Err() == nil {
		cancel()
		t.Fatalf("exit status %d\n%s", status, &log.text)
	}
}

// refuses wants the broker not to start, with one line of error, at most one of what to
// do, and the database as it was.
func (u *upgraded) refuses(t *testing.T, words ...string) {
	t.Helper()
	before, err := os.ReadFile(u.path(databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"serve", "--accept-clock"}, append(u.environ(), "BROKER_LOG_LEVEL=error"), io.Discard, &stderr)
	first, hint, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	if status != exitBroken || hint != "" && !strings.HasPrefix(hint, "agentkeys: hint: ") || strings.Contains(hint, "\n") {
		t.Errorf("exit status %d, want %d and one line\n%s", status, exitBroken, &stderr)
	}
	for _, w := range words {
		if !strings.Contains(first, w) {
			t.Errorf("refused with %s, want %q in it", first, w)
		}
	}
	if after, err := os.ReadFile(u.path(databaseFile)); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the start was refused with %s, and changed the database (%v)", first, err)
	}
}

// records are what the log says, a line each, without what the tree adds.
func (u *upgraded) records(t *testing.T) []string {
	t.Helper()
	return strings.Split(u.query(t, "SELECT group_concat(seq || '|' || id || '|' || time || '|' || action || '|' || outcome || '|' || reason || '|' || identity_value || '|' || omni_account || '|' || wallet || '|' || key_id || '|' || token_id || '|' || request_id, char(10)) FROM (SELECT * FROM audit_records ORDER BY seq)"), "\n")
}

// query answers questions of one value each, on lines, beside the broker's back.
func (u *upgraded) query(t *testing.T, queries ...string) string {
	t.Helper()
	db, err := sql.Open("sqlite", u.path(databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var answers []string
	for _, q := range queries {
		var answer string
		if err := db.QueryRowContext(t.Context(), q).Scan(&answer); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		answers = append(answers, answer)
	}
	return strings.Join(answers, "\n")
}

// wantSettled wants the call that the broker of then died in to have its one outcome.
func (u *upgraded) wantSettled(t *testing.T) {
	t.Helper()
	if u.was.Cut == nil {
		return
	}
	id := u.query(t, "SELECT id FROM audit_records WHERE outcome = 'pending' AND time >= (SELECT max(time) FROM audit_records WHERE outcome = 'pending')")
	got := u.query(t, fmt.Sprintf("SELECT group_concat(outcome) FROM audit_records WHERE settles = '%s'", id),
		"SELECT count(*) FROM audit_records WHERE outcome = 'pending' AND id NOT IN (SELECT settles FROM audit_records)")
	if got != "quarantined\n0" {
		t.Errorf("the outcome of what was cut off, and what is pending: %q, want quarantined and none", got)
	}
}

// verify wants the whole log, the file of heads and the anchor to agree.
func (u *upgraded) verify(t *testing.T) {
	t.Helper()
	verdict := agentkeys(t, "audit", "verify", "--data-dir", u.dir, "--key", u.vkey, "--anchor", u.anchor).must(t).stdout
	if !strings.Contains(verdict, "INTACT") || !strings.Contains(verdict, "COMPLETE") || strings.Contains(verdict, "INCOMPLETE") {
		t.Errorf("the log does not verify:\n%s", verdict)
	}
}

// A database of a later release stops the start, and stays as it is.
func TestServeRefusesANewerDatabase(t *testing.T) {
	eachUpgraded(t, func(t *testing.T, release string, u *upgraded) {
		u.prepare(t, release)
		u.serve(t)
		execute(t, u.dir, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)")
		u.refuses(t, "opening database", "its schema has version 99, this program knows versions up to ", "run the release that wrote it or a later one")
	})
}
