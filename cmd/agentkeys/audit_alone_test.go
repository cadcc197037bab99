package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/config"
	"agentkeys/store"
)

// environOf is the environment in which serve has the configuration.
func environOf(c config.Config) []string {
	env := []string{"BROKER_ISSUER=" + c.Issuer, "BROKER_BIND=" + c.Bind, "BROKER_DATA_DIR=" + c.DataDir, "BROKER_OIDC_KEY_FILE=" + c.OIDCKeyFile,
		"BROKER_SESSION_KEY_FILE=" + c.SessionKeyFile, "BROKER_AUDIT_KEY_FILE=" + c.AuditKeyFile}
	if c.AnchorFile != "" {
		env = append(env, "BROKER_AUDIT_ANCHORS=sqlite,file,checkpoints", "BROKER_AUDIT_ANCHOR_FILE="+c.AnchorFile, "BROKER_AUDIT_CHECKPOINTS_FILE="+c.CheckpointsFile)
	}
	return env
}

// agentkeysIn runs a command in an environment.
func agentkeysIn(t *testing.T, environ []string, args ...string) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, environ, &stdout, &stderr)
	return ran{status, stdout.String(), stderr.String()}
}

// anchored is an old log that a broker with every file has served.
func anchored(t *testing.T, records int) *servedLog {
	t.Helper()
	s := oldLog(t, records)
	s.AnchorFile, s.CheckpointsFile = filepath.Join(s.DataDir, "anchor.jsonl"), filepath.Join(s.DataDir, "checkpoints")
	if err := errors.Join(anchor.CreateFile(s.AnchorFile), anchor.CreateCheckpoints(s.CheckpointsFile)); err != nil {
		t.Fatal(err)
	}
	s.serve(t, s.DataDir)
	return s
}

// pruneIn prunes in an environment all that can be pruned.
func (s *servedLog) pruneIn(t *testing.T, environ []string, export string, more ...string) ran {
	t.Helper()
	return agentkeysIn(t, environ, append([]string{"audit", "prune", "--data-dir", s.DataDir, "--keep-days", "1", "--exported", export, "--key", s.vkey}, more...)...)
}

func (s *servedLog) eraseIn(t *testing.T, environ []string, more ...string) ran {
	t.Helper()
	return agentkeysIn(t, environ, append([]string{"audit", "erase", "--data-dir", s.DataDir, "--identity", "evm:" + testWallet}, more...)...)
}

// verified is what verify says with every file there is.
func (s *servedLog) verified(t *testing.T) ran {
	t.Helper()
	args := []string{"audit", "verify", "--data-dir", s.DataDir, "--key", s.vkey}
	if s.AnchorFile != "" {
		args = append(args, "--heads", filepath.Join(s.DataDir, headsFile), "--heads", s.CheckpointsFile, "--anchor", s.AnchorFile)
	}
	return agentkeys(t, args...)
}

// wantWhole wants both verdicts to be good, every record in its place, and all files to
// end where the log does.
func (s *servedLog) wantWhole(t *testing.T, when string) {
	t.Helper()
	if r := s.verified(t); r.status != exitOK || !strings.Contains(r.stdout, ", 0 of them without a place") {
		t.Errorf("%s: exit status %d\n%s%s", when, r.status, r.stdout, r.stderr)
	}
	head := headOf(t, s.DataDir)
	for _, path := range []string{filepath.Join(s.DataDir, headsFile), s.CheckpointsFile} {
		if path == "" {
			continue
		}
		if last, err := lastHead(path); err != nil || last != head.Note {
			t.Errorf("%s: %s does not end with the head of %d records: %v", when, path, head.Size, err)
		}
	}
	if s.AnchorFile == "" {
		return
	}
	lines := strings.Split(strings.TrimSpace(read(t, s.AnchorFile)), "\n")
	if l, err := audit.ParseLine([]byte(lines[len(lines)-1])); err != nil || l.Place != head.Size {
		t.Errorf("%s: the anchor file ends at place %d of %d: %v", when, l.Place, head.Size, err)
	}
	withStore(t, s.DataDir, func(db *store.Store) error {
		return db.View(t.Context(), func(tx *sql.Tx) error {
			_, lack, err := audit.AnchoredAt(t.Context(), tx, head.Size)
			if len(lack) > 0 {
				t.Errorf("%s: the database has %q behind", when, lack)
			}
			return err
		})
	})
}

// Where the audit key is at hand, the record of the command has its place, and every file
// has it, when the command ends.
func TestAloneExtendsTheLog(t *testing.T) {
	for name, make := range map[string]func(*testing.T, int) *servedLog{"with anchors": anchored, "nothing but the database, never served": oldLog} {
		t.Run(name, func(t *testing.T) {
			s := make(t, 12)
			env := environOf(s.Config)
			before := headOf(t, s.DataDir)
			export := s.export(t, s.DataDir)
			if r := s.pruneIn(t, env, export, "--dry-run").must(t); r.stderr != "" || strings.Contains(r.stdout, "head") || headOf(t, s.DataDir) != before {
				t.Errorf("a dry run says %q %q", r.stdout, r.stderr)
			}
			r := s.pruneIn(t, env, export).must(t)
			if !strings.HasPrefix(r.stdout, "pruned 12 records, up to place 12;") || !strings.HasSuffix(r.stdout, "\nthe signed head counts all "+fmt.Sprint(before.Size+1)+" records\n") || r.stderr != "" {
				t.Errorf("printed %q %q", r.stdout, r.stderr)
			}
			s.wantWhole(t, "after the prune")
			s.serve(t, s.DataDir)
			s.wantWhole(t, "after a start")

			withStore(t, s.DataDir, func(db *store.Store) error { // somebody to erase
				return db.Update(t.Context(), func(tx *sql.Tx) error {
					r := testRecord(99)
					return audit.Append(t.Context(), tx, &r)
				})
			})
			before = headOf(t, s.DataDir)
			r = s.eraseIn(t, env).must(t)
			if !strings.HasPrefix(r.stdout, "erased account ") || !strings.HasSuffix(r.stdout, "\nthe signed head counts all "+fmt.Sprint(before.Size+2)+" records\n") || strings.Contains(r.stderr, "place") {
				t.Errorf("printed %q %q", r.stdout, r.stderr)
			}
			s.wantWhole(t, "after the erasure")
			s.serve(t, s.DataDir)
			s.wantWhole(t, "after the last start")
		})
	}
}

// Where the key is not at hand the command does its work, and says in one line why the
// log is as it is. The next start mends it, and so does the same command with the key.
func TestAloneWithoutTheKey(t *testing.T) {
	other := func(env []string, name, value string) (changed []string) {
		for _, e := range env {
			if !strings.HasPrefix(e, name+"=") {
				changed = append(changed, e)
			}
		}
		if value != "" {
			changed = append(changed, name+"="+value)
		}
		return changed
	}
	for name, tt := range map[string]struct {
		change func(t *testing.T, s *servedLog, env []string) []string
		want   string
	}{
		"no configuration": {func(*testing.T, *servedLog, []string) []string { return nil }, "BROKER_AUDIT_KEY_FILE is not set."},
		"half of one":      {func(_ *testing.T, _ *servedLog, env []string) []string { return other(env, "BROKER_ISSUER", "") }, "BROKER_ISSUER is not set"},
		"none of its name": {func(_ *testing.T, _ *servedLog, env []string) []string { return append(env, "BROKER_AUDIT_ANCHOR=x") }, "BROKER_AUDIT_ANCHOR is not a variable"},
		"a key that is away": {func(_ *testing.T, s *servedLog, env []string) []string {
			return other(env, "BROKER_AUDIT_KEY_FILE", s.AuditKeyFile+"x")
		}, "file does not exist"},
		"a key that is none": {func(_ *testing.T, s *servedLog, env []string) []string {
			return other(env, "BROKER_AUDIT_KEY_FILE", s.OIDCKeyFile)
		}, "oidc"},
		"of another folder": {func(t *testing.T, _ *servedLog, env []string) []string {
			return other(env, "BROKER_DATA_DIR", t.TempDir())
		}, "which is not the folder"},
	} {
		t.Run(name, func(t *testing.T) {
			s := anchored(t, 12)
			env := environOf(s.Config)
			head := headOf(t, s.DataDir)
			export := s.export(t, s.DataDir)
			r := s.pruneIn(t, tt.change(t, s, env), export).must(t)
			if !strings.HasPrefix(r.stdout, "pruned 12 records") || strings.Contains(r.stdout, "signed head") || strings.Count(r.stderr, "\n") != 1 ||
				!strings.HasPrefix(r.stderr, "Without a place in the log until the next start of the broker: records "+fmt.Sprint(head.Size+1)+" to "+fmt.Sprint(head.Size+1)+", as the audit key is not at hand: ") || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("printed %q %q, want %q", r.stdout, r.stderr, tt.want)
			}
			if headOf(t, s.DataDir) != head {
				t.Error("the head moved")
			}
			if r := s.verified(t); r.status != exitInconclusive || !strings.Contains(r.stdout, "has no place in the tree yet: nobody signed it") {
				t.Errorf("verify: exit status %d\n%s", r.status, r.stdout)
			}
			if r := s.pruneIn(t, env, export, "--dry-run").must(t); r.stderr != "" || headOf(t, s.DataDir) != head {
				t.Errorf("a dry run extended the log, or says %q", r.stderr)
			}
			if r := s.pruneIn(t, env, export).must(t); !strings.HasPrefix(r.stdout, "nothing to prune: ") || !strings.Contains(r.stdout, "the signed head counts all ") {
				t.Errorf("again, with the key: %q", r.stdout)
			}
			s.wantWhole(t, "with the key")
			s.serve(t, s.DataDir)
			s.wantWhole(t, "after a start")
		})
	}
}

// Somebody presses Ctrl-C when the work is done: its record has its place all the same.
func TestAloneInterruptedWhenItIsDone(t *testing.T) {
	s := anchored(t, 12)
	ctx, cancel := context.WithCancel(t.Context())
	var stdout, stderr bytes.Buffer
	p := &program{environ: environOf(s.Config), stdout: &stdout, stderr: &stderr}
	err := p.alone(ctx, aloneWork{filepath.Join(s.DataDir, databaseFile), false, func(db *store.Store) (string, error) {
		defer cancel()
		return "done\n", db.Update(ctx, func(tx *sql.Tx) error {
			r := testRecord(99)
			return audit.Append(ctx, tx, &r)
		})
	}})
	if err != nil || !strings.HasPrefix(stdout.String(), "done\nthe signed head counts all ") || stderr.Len() > 0 {
		t.Errorf("got %v, %q %q", err, stdout.String(), stderr.String())
	}
	if head := headOf(t, s.DataDir); !strings.Contains(stdout.String(), fmt.Sprint(head.Size)) {
		t.Errorf("the head is of %d records, and it says %q", head.Size, stdout.String())
	}
}

// Cut off at any step, the next command and the next start find the log as one that a
// broker left: nothing is signed twice, and nothing stays behind.
func TestAloneCutOff(t *testing.T) {
	s := anchored(t, 12)
	env := environOf(s.Config)
	database, heads, checkpoints, records := copyOf(t, filepath.Join(s.DataDir, databaseFile)), copyOf(t, filepath.Join(s.DataDir, headsFile)), copyOf(t, s.CheckpointsFile), copyOf(t, s.AnchorFile)
	export := s.export(t, s.DataDir)
	for name, undo := range map[string][]func(){
		"before the heads are witnessed": {heads, checkpoints, records},
		"before the anchors have it":     {checkpoints, records},
		"between the anchors":            {records},
	} {
		for _, next := range []string{"command", "start"} {
			database()
			heads()
			checkpoints()
			records()
			s.pruneIn(t, env, export).must(t)
			for _, undo := range undo {
				undo()
			}
			execute(t, s.DataDir, "UPDATE audit_anchors SET upto = upto - 1") // kept last of all
			if next == "start" {
				s.serve(t, s.DataDir)
			} else {
				s.pruneIn(t, env, export).must(t)
			}
			if r := s.verified(t); r.status != exitOK {
				t.Errorf("%s, then a %s: exit status %d\n%s", name, next, r.status, r.stdout)
			}
			s.serve(t, s.DataDir)
			s.wantWhole(t, name+", after a start")
		}
	}
}

// Nothing is deleted from a log that does not extend what was seen of it, or while a file
// of it is not there: what is left of it is the evidence.
func TestAloneHoldsTheLogAgainstWhatWasSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, s *servedLog, older func())
		want   string
	}{
		"put back": {func(_ *testing.T, _ *servedLog, older func()) { older() }, "it was cut or put back to an earlier copy"},
		"no file of heads": {func(t *testing.T, s *servedLog, _ func()) {
			if err := os.Remove(filepath.Join(s.DataDir, headsFile)); err != nil {
				t.Fatal(err)
			}
		}, "opening file of heads"},
		"a tile was changed": {func(t *testing.T, s *servedLog, _ func()) {
			execute(t, s.DataDir, "UPDATE audit_tiles SET hashes = zeroblob(length(hashes)) WHERE level = 0")
		}, "got .* from its tiles"},
		"another key": {func(t *testing.T, s *servedLog, _ func()) {
			if err := os.Remove(s.AuditKeyFile); err != nil {
				t.Fatal(err)
			}
			agentkeys(t, "keygen", "--purpose", "audit", "--out", s.AuditKeyFile).must(t)
		}, "BROKER_AUDIT_OLD_KEYS"},
	} {
		t.Run(name, func(t *testing.T) {
			s := anchored(t, 12)
			older := copyOf(t, filepath.Join(s.DataDir, databaseFile))
			s.serve(t, s.DataDir)
			export := s.export(t, s.DataDir)
			tt.change(t, s, older)
			env := environOf(s.Config)
			before := read(t, filepath.Join(s.DataDir, databaseFile))
			for _, r := range []ran{s.pruneIn(t, env, export), s.pruneIn(t, env, export, "--dry-run"), s.eraseIn(t, env)} {
				if r.status != exitBroken || r.stdout != "" || !matches(tt.want, r.stderr) {
					t.Errorf("exit status %d, %q\n%swant %q", r.status, r.stdout, r.stderr, tt.want)
				}
			}
			if read(t, filepath.Join(s.DataDir, databaseFile)) != before {
				t.Error("the database was written")
			}
		})
	}
}

// A log that was restored from hashes alone, and on which no broker has started, takes the
// record of an erasure that has its place at once, and starts.
func TestAloneAfterARestore(t *testing.T) {
	s := oldLog(t, 12)
	s.prune(t, s.DataDir, s.export(t, s.DataDir))
	s.DataDir = s.restore(t, s.export(t, s.DataDir))
	withStore(t, s.DataDir, func(db *store.Store) error {
		return db.Update(t.Context(), func(tx *sql.Tx) error {
			r := testRecord(0)
			return audit.Append(t.Context(), tx, &r)
		})
	})
	head := headOf(t, s.DataDir)
	r := s.eraseIn(t, environOf(s.Config)).must(t)
	if !strings.HasSuffix(r.stdout, "\nthe signed head counts all 14 records\n") {
		t.Errorf("printed %q %q", r.stdout, r.stderr)
	}
	s.serve(t, s.DataDir)
	wantRestored(t, s.DataDir, fmt.Sprintf("size=12 root=%s records=12 pruned=12", head.Root))
}
