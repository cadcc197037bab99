package main

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/config"
	"agentkeys/store"
)

// A servedLog is a broker that can be started on one data folder after another.
type servedLog struct {
	config.Config
	keys string // the folder of its keys
	vkey string // file of the log's verifier key
}

// oldLog is a broker with a log of so many records, all of them old enough to be pruned.
func oldLog(t *testing.T, records int) *servedLog {
	t.Helper()
	l, err := listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := localConfig(dir, "http://"+l.Addr().String())
	c.Bind, c.ShutdownGrace, c.LogFormat, c.LogLevel = l.Addr().String(), time.Second, "json", "info"
	if err := errors.Join(l.Close(), createLocal(t.Context(), dir)); err != nil { // serve takes the port
		t.Fatal(err)
	}
	s := &servedLog{Config: c, keys: dir, vkey: filepath.Join(t.TempDir(), "audit.vkey")}
	keys, err := loadKeys(c)
	if err != nil {
		t.Fatal(err)
	}
	text, err := verifierKey(keys.audit, c.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.vkey, text+"\n")
	log, err := auditLog(c, keys.audit)
	if err != nil {
		t.Fatal(err)
	}
	withStore(t, dir, func(db *store.Store) error {
		return db.Update(t.Context(), func(tx *sql.Tx) error {
			for i := range records {
				r := testRecord(i)
				r.Time = time.Now().Add(time.Duration(i)*time.Second - 72*time.Hour)
				if err := audit.Append(t.Context(), tx, &r); err != nil {
					return err
				}
			}
			_, _, err := log.Extend(t.Context(), tx, records)
			return err
		})
	})
	return s
}

// serve starts and stops the broker on the folder.
func (s *servedLog) serve(t *testing.T, dir string) {
	t.Helper()
	c := s.Config
	c.DataDir = dir
	serveUntilReady(t, c)
}

// restore makes a new folder out of exports.
func (s *servedLog) restore(t *testing.T, exports ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := errors.Join(store.Create(t.Context(), filepath.Join(dir, databaseFile)), anchor.CreateCheckpoints(filepath.Join(dir, headsFile))); err != nil {
		t.Fatal(err)
	}
	agentkeys(t, append([]string{"audit", "import", "--data-dir", dir, "--key", s.vkey}, exports...)...).must(t)
	return dir
}

func (s *servedLog) export(t *testing.T, dir string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "export.ndjson")
	agentkeys(t, "audit", "export", "--data-dir", dir, "--out", path).must(t)
	return path
}

// prune prunes all that can be pruned.
func (s *servedLog) prune(t *testing.T, dir, export string) string {
	t.Helper()
	return agentkeys(t, "audit", "prune", "--data-dir", dir, "--keep-days", "1", "--exported", export, "--key", s.vkey).must(t).stdout
}

// wantRestored wants records of restores with these details, all of them in the tree, and
// no note that waits for another.
func wantRestored(t *testing.T, dir string, details ...string) {
	t.Helper()
	withStore(t, dir, func(db *store.Store) error {
		return db.View(t.Context(), func(tx *sql.Tx) error {
			found, err := audit.Find(t.Context(), tx, audit.Query{Action: audit.ActionRestored, OldestFirst: true, Limit: 10})
			standing, standingErr := audit.ReadStanding(t.Context(), tx)
			note, noteErr := audit.RestoreNote(t.Context(), tx)
			var got []string
			for _, e := range found {
				got = append(got, e.Detail)
				if e.Outcome != audit.Confirmed || !strings.HasPrefix(e.RequestID, "start-") || e.Seq > standing.Size {
					t.Errorf("recorded %+v under a head of %d", e.Record, standing.Size)
				}
			}
			if !slices.Equal(got, details) || note != "" {
				t.Errorf("the log says that it was restored with %q, want %q; the note is %q", got, details, note)
			}
			return cmp.Or(err, standingErr, noteErr)
		})
	})
}

func headOf(t *testing.T, dir string) (head audit.Checkpoint) {
	t.Helper()
	withStore(t, dir, func(db *store.Store) error {
		return db.View(t.Context(), func(tx *sql.Tx) error {
			standing, err := audit.ReadStanding(t.Context(), tx)
			if err == nil {
				head, err = standing.Head()
			}
			return err
		})
	})
	return head
}

// All that can be pruned is pruned, and the broker starts; what is left is restored, even
// if that is hashes alone, and it starts again, and says in the log once that the log was
// restored, and from what.
func TestServeTakesWhatPrunesAndImportsLeave(t *testing.T) {
	const records = 12
	s := oldLog(t, records)
	dir := s.DataDir
	head := headOf(t, dir)
	whole := s.export(t, dir)
	if said := s.prune(t, dir, whole); !strings.HasPrefix(said, "pruned 12 records, up to place 12;") {
		t.Fatalf("pruning said %q", said)
	}
	bare := s.export(t, dir) // the prune's own record has no place yet
	if text := read(t, bare); strings.Contains(text, `"leaf"`) || strings.Count(text, `"hash"`) != records {
		t.Fatalf("exported\n%s\nwant hashes alone", text)
	}
	s.serve(t, dir)
	s.serve(t, dir)
	wantRestored(t, dir)
	later := s.export(t, dir)

	for name, tt := range map[string]struct {
		export string
		head   audit.Checkpoint
		pruned int64
		whole  bool
	}{
		"the whole log":                       {whole, head, 0, true},
		"hashes alone":                        {bare, head, records, false},
		"hashes, and records behind them":     {later, headOf(t, dir), records, true},
		"the log with its pruned records too": {"", headOf(t, dir), 0, true},
	} {
		exports := []string{tt.export}
		if tt.export == "" {
			rest := filepath.Join(t.TempDir(), "rest.ndjson")
			agentkeys(t, "audit", "export", "--data-dir", dir, "--out", rest, "--after", fmt.Sprint(records)).must(t)
			exports = []string{whole, rest}
		}
		restored := s.restore(t, exports...)
		verify := func(when string) {
			t.Helper()
			if r := agentkeys(t, "audit", "verify", "--data-dir", restored, "--key", s.vkey); tt.whole && r.status != exitOK {
				t.Errorf("%s, %s: exit status %d\n%s%s", name, when, r.status, r.stdout, r.stderr)
			}
		}
		verify("before the broker starts")
		for range 2 {
			s.serve(t, restored)
			wantRestored(t, restored, fmt.Sprintf("size=%d root=%s records=%d pruned=%d", tt.head.Size, tt.head.Root, tt.head.Size, tt.pruned))
		}
		verify("after it started")
	}
}
