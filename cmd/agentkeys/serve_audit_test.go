package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/config"
	"agentkeys/store"
	"agentkeys/token"
)

// auditedConfig is a broker with every file that the audit log is written to.
func auditedConfig(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	if err := createLocal(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	c := localConfig(dir, "http://127.0.0.1:8091")
	c.AnchorFile, c.CheckpointsFile = filepath.Join(dir, "anchor.jsonl"), filepath.Join(dir, "checkpoints")
	if err := errors.Join(anchor.CreateFile(c.AnchorFile), anchor.CreateCheckpoints(c.CheckpointsFile)); err != nil {
		t.Fatal(err)
	}
	return c
}

// runFor starts a broker, has it record so many things, and stops it.
func runFor(ctx context.Context, c config.Config, records int) (err error) {
	keys, err := loadKeys(c)
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, filepath.Join(c.DataDir, databaseFile))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b, files, err := openBroker(ctx, c, keys, db, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.close()) }()
	for range records {
		err := db.Update(ctx, func(tx *sql.Tx) error {
			return audit.Append(ctx, tx, &audit.Record{Time: time.Now(), Action: "test", Outcome: audit.Confirmed, RequestID: "r"})
		})
		if err != nil {
			return err
		}
	}
	background(ctx, b.Run)()
	return nil
}

// copyOf keeps a file as it is, and puts it back.
func copyOf(t *testing.T, path string) (putBack func()) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A seenLog is a broker whose log was seen elsewhere. The functions put back what was
// there after five records of twelve.
type seenLog struct {
	config.Config
	database, heads, anchor, checkpoints func()
}

// fork has a broker go on from the copy as far as the log went, with the same key, and other
// files.
func (w *seenLog) fork(t *testing.T) {
	t.Helper()
	w.database()
	other := w.Config
	other.HeadsFile, other.AnchorFile, other.CheckpointsFile = filepath.Join(w.DataDir, "heads2"), "", ""
	if err := errors.Join(anchor.CreateCheckpoints(other.HeadsFile), runFor(t.Context(), other, 20)); err != nil {
		t.Fatal(err)
	}
}

// forgetHeads empties both files of heads.
func (w *seenLog) forgetHeads(t *testing.T) {
	t.Helper()
	for _, path := range []string{filepath.Join(w.DataDir, headsFile), w.CheckpointsFile} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What was seen of the log outside the database keeps a broker from starting over
// another log, an earlier copy of it, or none.
func TestServeHoldsTheLogAgainstWhatWasSeen(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, w *seenLog)
		want   string // "" starts
	}{
		"as it was left":   {func(*testing.T, *seenLog) {}, ""},
		"a restored copy":  {func(_ *testing.T, w *seenLog) { w.database() }, `the newest head in "HEADS", of .*: the log was seen with 12 records, and has 5: it was cut or put back to an earlier copy`},
		"all was restored": {func(_ *testing.T, w *seenLog) { w.database(); w.heads(); w.anchor(); w.checkpoints() }, ""},
		"a restored copy, with its heads": {func(_ *testing.T, w *seenLog) { w.database(); w.heads(); w.anchor() },
			`the newest head in "CHECKPOINTS", of .*: the log was seen with 12 records, and has 5`},
		"a restored copy, with all heads": {func(_ *testing.T, w *seenLog) { w.database(); w.heads(); w.checkpoints() },
			`the anchor file "ANCHOR", which ends with the record at place 12: the database has none there`},
		"a fork that was pruned, without heads": {func(t *testing.T, w *seenLog) {
			w.fork(t)
			leaveTheTree(t, w.DataDir)
			w.forgetHeads(t)
		}, `the anchor file "ANCHOR", which ends with the record at place 12: want the hash .*, got .* in the database: it was forked`},
		"a fork": {func(t *testing.T, w *seenLog) { w.fork(t) }, `the newest head in "HEADS", of .*: the log was seen with the root .* at 12 records, and has .* there: it was forked`},
		"a fork, without heads": {func(t *testing.T, w *seenLog) {
			w.fork(t)
			w.forgetHeads(t)
		}, `the anchor file "ANCHOR", which ends with the record at place 12: want the hash .*, got .* in the database: it was forked`},
		"no heads": {func(t *testing.T, w *seenLog) {
			if err := os.Remove(filepath.Join(w.DataDir, headsFile)); err != nil {
				t.Fatal(err)
			}
		}, `opening file of heads "HEADS": file does not exist`},
		"a torn head": {func(t *testing.T, w *seenLog) {
			if err := os.Truncate(filepath.Join(w.DataDir, headsFile), 40); err != nil {
				t.Fatal(err)
			}
		}, `its last line is cut off, from byte 0 to 40: .*then run: truncate -s 0 HEADS`},
		"another key": {func(t *testing.T, w *seenLog) { newAuditKey(t, &w.Config) }, "want a signature by"},
		"another key, and the old one named": {func(t *testing.T, w *seenLog) {
			old, err := token.LoadAuditKeyFile(w.AuditKeyFile)
			if err != nil {
				t.Fatal(err)
			}
			text, err := verifierKey(old, w.Issuer)
			if err != nil {
				t.Fatal(err)
			}
			newAuditKey(t, &w.Config)
			w.AuditOldKeys = []string{text}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			startsAfter(t, tt.change, tt.want)
		})
	}
}

// A database that says another thing than it was made to, of what was pruned or by its
// schema, keeps a broker from starting, and so does a new one.
func TestServeRefusesAChangedDatabase(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(t *testing.T, w *seenLog)
		want   string // "" starts
	}{
		"all was pruned": {func(t *testing.T, w *seenLog) { leaveTheTree(t, w.DataDir) }, ""},
		"the tail is gone and counts as pruned": {func(t *testing.T, w *seenLog) {
			execute(t, w.DataDir, "UPDATE audit_head SET pruned = 12")
			execute(t, w.DataDir, "DELETE FROM audit_records WHERE seq > 9") // which the mark lets everybody
		}, "all 12 records that its head counts are to be pruned, and no record behind them says so: the database ends with the one at place 9"},
		"all is gone and counts as pruned": {func(t *testing.T, w *seenLog) {
			execute(t, w.DataDir, "UPDATE audit_head SET pruned = 12")
			execute(t, w.DataDir, "DELETE FROM audit_records")
		}, "and no record behind them says so: the database ends with the one at place 0"},
		"the last one is gone and counts as pruned, and another is there": {func(t *testing.T, w *seenLog) {
			execute(t, w.DataDir, "UPDATE audit_head SET pruned = 12")
			execute(t, w.DataDir, "DELETE FROM audit_records WHERE seq > 9")
			execute(t, w.DataDir, "INSERT INTO audit_records (id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id) VALUES ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 0, 'test', 'confirmed', '', '', '', '', '', '', '', '', 'r')")
		}, "and no record behind them says so: the database ends with the one at place 13"},
		"a trigger that keeps records out": {func(t *testing.T, w *seenLog) {
			execute(t, w.DataDir, "CREATE TRIGGER quiet BEFORE INSERT ON audit_records WHEN NEW.action = 'test' BEGIN SELECT RAISE(IGNORE); END")
		}, `the schema of the database is not as it was made: the trigger "quiet" is not AgentKeys'`},
		"a trigger that was taken away": {func(t *testing.T, w *seenLog) {
			execute(t, w.DataDir, "DROP TRIGGER audit_records_no_delete")
		}, "the trigger audit_records_no_delete is missing"},
		"a new database": {func(t *testing.T, w *seenLog) {
			path := filepath.Join(w.DataDir, databaseFile)
			if err := errors.Join(os.Remove(path), store.Create(t.Context(), path)); err != nil {
				t.Fatal(err)
			}
		}, "the log was seen with 12 records, and has 0"},
	} {
		t.Run(name, func(t *testing.T) {
			startsAfter(t, tt.change, tt.want)
		})
	}
}

// startsAfter changes something behind the back of a log of twelve records, and holds
// what the next start says against what is wanted.
func startsAfter(t *testing.T, change func(*testing.T, *seenLog), want string) {
	t.Helper()
	w := &seenLog{Config: auditedConfig(t)}
	if err := runFor(t.Context(), w.Config, 5); err != nil {
		t.Fatal(err)
	}
	heads := filepath.Join(w.DataDir, headsFile)
	w.database, w.heads, w.anchor, w.checkpoints = copyOf(t, filepath.Join(w.DataDir, databaseFile)), copyOf(t, heads), copyOf(t, w.AnchorFile), copyOf(t, w.CheckpointsFile)
	if err := runFor(t.Context(), w.Config, 7); err != nil {
		t.Fatal(err)
	}
	change(t, w)
	err := runFor(t.Context(), w.Config, 1)
	if want == "" {
		if err != nil {
			t.Fatal(err)
		}
		wantFiles(t, w.Config)
		return
	}
	want = strings.NewReplacer("HEADS", heads, "ANCHOR", w.AnchorFile, "CHECKPOINTS", w.CheckpointsFile).Replace(want)
	var h hint
	if errors.As(err, &h) && strings.Contains(h.text, "BROKER_AUDIT_OLD_KEYS") != strings.Contains(want, "want a signature by") {
		t.Errorf("the next step is %q", h.text)
	}
	if err == nil || !matches(want, err.Error()) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want one line with %s", err, want)
	}
	if !errors.As(err, &h) && !strings.Contains(want, "then run:") {
		t.Error("it does not say what to do next")
	}
}

// execute runs SQL behind the broker's back.
func execute(t *testing.T, dir, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

// leaveTheTree prunes all that the head counts.
func leaveTheTree(t *testing.T, dir string) {
	t.Helper()
	withStore(t, dir, func(db *store.Store) error {
		return db.Update(t.Context(), func(tx *sql.Tx) error {
			standing, err := audit.ReadStanding(t.Context(), tx)
			if err == nil {
				_, err = audit.Prune(t.Context(), tx, standing.Size, int(standing.Size), audit.Digest{}, audit.Record{Time: time.Now(), RequestID: "prune-1"})
			}
			return err
		})
	})
}

// matches says whether the parts of a pattern between its .* are in a text, in order.
func matches(pattern, text string) bool {
	for part := range strings.SplitSeq(pattern, ".*") {
		_, rest, found := strings.Cut(text, part)
		if !found {
			return false
		}
		text = rest
	}
	return true
}

func newAuditKey(t *testing.T, c *config.Config) {
	t.Helper()
	key, err := token.GenerateAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	c.AuditKeyFile += ".new"
	if err := token.WriteAuditKeyFile(c.AuditKeyFile, key); err != nil {
		t.Fatal(err)
	}
}

// wantFiles wants every file to end with what the database ends with.
func wantFiles(t *testing.T, c config.Config) {
	t.Helper()
	files, err := openAuditFiles(c)
	if err != nil {
		t.Fatal(err)
	}
	heads, _ := files.heads.Last()
	checkpoints, _ := files.checkpoints.Last()
	file, _ := files.file.Last()
	if err := files.close(); err != nil {
		t.Error(err)
	}
	withStore(t, c.DataDir, func(db *store.Store) error {
		return db.View(t.Context(), func(tx *sql.Tx) error {
			var head, last, upto int64
			err := tx.QueryRow("SELECT size, (SELECT max(seq) FROM audit_records), (SELECT min(upto) FROM audit_anchors) FROM audit_head").Scan(&head, &last, &upto)
			if got := fmt.Sprint(heads.Size, checkpoints.Size, file.Place, head, upto); got != fmt.Sprint(last, last, last, last, last) {
				t.Errorf("heads, checkpoints, anchor file, head and cursors are at %s, want %d", got, last)
			}
			return err
		})
	})
}
