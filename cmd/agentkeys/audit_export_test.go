package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"
	"agentkeys/token"
)

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Exports that follow one another are, put into a new database, the log again, which
// goes on from there.
func TestExportsAndImport(t *testing.T) {
	key, err := token.GenerateAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	l, fresh, dir := newTestLogOf(t, key), newTestLogOf(t, key), t.TempDir()
	first, second, third := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "3")
	l.fill(t, 300)
	if r := l.audit(t, "export", "--out", first).must(t); r.stdout != "" || r.stderr != "exported places 1 to 300; the next export begins with --after "+first+"\n" {
		t.Errorf("told %q %q", r.stdout, r.stderr)
	}
	l.close(t) // the broker is started anew
	l.open(t)
	l.fill(t, 20)
	l.audit(t, "export", "--out", second, "--after", first).must(t)
	if r := l.audit(t, "export", "--out", third, "--after", second).must(t); r.stderr != "nothing new: the log's signed head counts 320 records\n" {
		t.Errorf("told %q", r.stderr)
	}
	if info, err := os.Stat(first); err != nil || info.Mode() != 0o600 {
		t.Errorf("the export has the mode %v (%v)", info.Mode(), err)
	}

	whole := l.audit(t, "export", "--out", "-").must(t).stdout
	parts := strings.Split(read(t, first)+read(t, second), "\n")
	if got := strings.Join(append(parts[:300:300], parts[301:]...), "\n"); got != whole {
		t.Error("the exports one after the other are not the whole one")
	}
	if got := l.audit(t, "export", "--out", "-", "--after", "300").must(t).stdout; got != read(t, second) {
		t.Error("the export behind place 300 is not the one behind the file")
	}

	fresh.close(t)
	r := fresh.audit(t, "import", "--key", l.vkey, first, second, third).must(t)
	if r.stdout != "restored 320 records of the log broker.example.com/audit under its signed head of 320\n" || r.stderr != "" {
		t.Errorf("told %q %q", r.stdout, r.stderr)
	}
	if again := fresh.audit(t, "export", "--out", "-").must(t).stdout; again != whole {
		t.Error("the export of what was imported is another")
	}
	fresh.open(t)
	if a, b := fresh.fill(t, 5), l.fill(t, 5); a.Size != 325 || b.Size != 325 {
		t.Errorf("it goes on to %d and %d records, want 325", a.Size, b.Size)
	}
	fresh.close(t)
	fresh.audit(t, "import", "--key", l.vkey, first).refused(t, exitBroken, "the audit log has records already", "import is for a new database")
}

// What is under the name of an export is a whole one: nothing is written over, and
// nothing is left of one that failed.
func TestExportIsWholeOrNotThere(t *testing.T) {
	l := newTestLog(t)
	out := filepath.Join(t.TempDir(), "out")
	l.audit(t, "export", "--out", out).refused(t, exitBroken, "has no head yet", "run agentkeys serve")
	l.fill(t, 3)
	write(t, out, "mine")
	l.audit(t, "export", "--out", out).refused(t, exitBroken, "file already exists")
	if read(t, out) != "mine" {
		t.Error("a file was written over")
	}
	failed := errors.New("the disk is full")
	path := filepath.Join(t.TempDir(), "new")
	err := writeNew(path, func(w io.Writer) error {
		_, err := io.WriteString(w, "half")
		return errors.Join(err, failed)
	})
	if !errors.Is(err, failed) {
		t.Errorf("writeNew = %v, want %v", err, failed)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	if err := writeNew(path, func(io.Writer) error { return os.WriteFile(path, []byte("another's"), 0o600) }); !errors.Is(err, fs.ErrExist) || read(t, path) != "another's" {
		t.Errorf("a file that came meanwhile: %v, and now %q", err, read(t, path))
	}
}

// An interrupted export is gone on with behind its last whole line.
func TestExportAfterAnInterruption(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 50)
	whole := l.audit(t, "export", "--out", "-").must(t).stdout
	cut := whole[:len(whole)/2]
	path := write(t, filepath.Join(t.TempDir(), "cut"), cut)
	l.audit(t, "export", "--out", "-", "--after", path).refused(t, exitBroken, "want a signed head as the last line", "name the place of its last whole line")
	part := cut[:strings.LastIndex(cut, "\n")+1]
	place := strings.Count(part, "\n")
	rest := l.audit(t, "export", "--out", "-", "--after", strconv.Itoa(place)).must(t).stdout
	if part+rest != whole {
		t.Error("the parts are not the whole")
	}
}

// The cursor of another log, and one that is none, are refused.
func TestExportRefusesCursors(t *testing.T) {
	l, other := newTestLog(t), newTestLog(t)
	l.fill(t, 20)
	other.fill(t, 30)
	path := filepath.Join(t.TempDir(), "export")
	l.audit(t, "export", "--out", path).must(t)
	other.audit(t, "export", "--out", "-", "--after", path).refused(t, exitBroken, "it was forked")
	l.audit(t, "export", "--out", "-", "--after", "21").refused(t, exitBroken, "the cursor is place 21, and the head of the log counts 20 records")
	l.audit(t, "export", "--out", "-", "--after", "-1").refused(t, exitUsage, "--after: want the place of a record")
	l.audit(t, "export", "--out", "-", "--after", "").refused(t, exitUsage, `--after: want a value, got ""`)
	l.audit(t, "export", "--out", "-", "--after", filepath.Join(t.TempDir(), "none")).refused(t, exitBroken, "no such file")
	l.audit(t, "export", "--out", "-", "--after", write(t, filepath.Join(t.TempDir(), "empty"), "")).refused(t, exitBroken, "want a signed head as the last line")
	l.audit(t, "export").refused(t, exitUsage, "--out is needed")
	l.audit(t, "export", "--out", "-", "--format", "csv").refused(t, exitUsage, `--format: want one of ndjson, ocsf, got "csv"`)
	l.audit(t, "export", "--out", "-", "--tenant", "Alice").refused(t, exitUsage, "--tenant: want the owner's wallet or omni account")
	agentkeys(t, "audit", "export", "--out", "-").refused(t, exitUsage, "--data-dir is needed")
	agentkeys(t, "audit", "export", "--out", "-", "--data-dir", t.TempDir()).refused(t, exitBroken, "it does not exist")
}

// With --tenant nothing of others is in the file, and it has the whole tree.
func TestExportForATenant(t *testing.T) {
	l := newTestLog(t)
	theirs := testRecord(1)
	theirs.Tenant = strings.Repeat("a1", 32)
	l.append(t, testRecord(0), theirs, testRecord(2))
	l.extend(t)
	r := l.audit(t, "export", "--out", "-", "--tenant", theirs.Tenant).must(t)
	lines := strings.Split(r.stdout, "\n")
	if len(lines) != 5 || strings.Contains(r.stdout, "req-0") || strings.Contains(r.stdout, "req-2") || !strings.Contains(lines[1], theirs.Tenant) {
		t.Errorf("the export is\n%s", r.stdout)
	}
	fresh := newTestLog(t)
	fresh.close(t)
	path := write(t, filepath.Join(t.TempDir(), "export"), r.stdout)
	fresh.audit(t, "import", "--key", l.vkey, path).refused(t, exitBroken, "of 1 record behind others that are there the files have the hash alone", "--allow-pruned")
	if r := fresh.audit(t, "import", "--key", l.vkey, "--allow-pruned", path).must(t); !strings.Contains(r.stdout, "of 2 of them there is the hash alone, and in 0 what was personal is erased\n") {
		t.Errorf("told %q", r.stdout)
	}
}

func TestExportAsOCSF(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 3)
	out := filepath.Join(t.TempDir(), "out")
	if r := l.audit(t, "export", "--out", out, "--format", "ocsf", "--after", "1").must(t); r.stderr != "exported places 2 to 3; the next export begins with --after 3\n" {
		t.Errorf("told %q", r.stderr)
	}
	if text := read(t, out); strings.Count(text, "\n") != 2 || strings.Count(text, `"class_uid":6003`) != 2 || strings.Contains(text, "checkpoint") {
		t.Errorf("the export is\n%s", text)
	}
}

// A long export holds no transaction open: between its pages the database's log can be
// written back whole.
func TestExportLetsTheDatabaseCheckpoint(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, exportPage+10)
	reader, err := store.Open(t.Context(), filepath.Join(l.dir, databaseFile), store.ReadOnly())
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	raw, err := sql.Open("sqlite", filepath.Join(l.dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var x *audit.Export
	if err := reader.View(t.Context(), func(tx *sql.Tx) (err error) {
		x, err = audit.NewExport(t.Context(), tx, audit.Cursor{}, "")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	pages := 0
	err = writeExport(t.Context(), reader, x, formatLines, writerFunc(func(text []byte) (int, error) {
		pages++
		l.append(t, testRecord(1))
		var busy, frames, back int
		err := raw.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&busy, &frames, &back)
		if busy != 0 || frames != 0 {
			t.Errorf("page %d: the log was not written back: busy %d, %d frames left", pages, busy, frames)
		}
		return len(text), err
	}))
	if err != nil || pages != 3 {
		t.Errorf("%d pages, want 2 and the checkpoint (%v)", pages, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A database that somebody changed is not exported, and show says so of the record.
func TestChangedRecordIsTold(t *testing.T) {
	l := newTestLog(t)
	l.fill(t, 5)
	l.close(t)
	raw, err := sql.Open("sqlite", filepath.Join(l.dir, databaseFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range []string{"DROP TRIGGER audit_records_no_update", "UPDATE audit_records SET outcome = 'refused' WHERE seq = 3"} {
		if _, err := raw.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	l.audit(t, "export", "--out", out).refused(t, exitBroken, "the record at place 3 is not the one in the tree")
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the export is there (%v)", err)
	}
	r := l.audit(t, "show", "3")
	if r.status != exitBroken || !strings.Contains(r.stdout, "NO: the signed head of 5 records has another one here") || !strings.Contains(r.stderr, "keep a copy") {
		t.Errorf("show: %+v", r)
	}
	if r := l.audit(t, "show", "2").must(t); !strings.Contains(r.stdout, "yes, under the signed head of 5 records") {
		t.Errorf("show: %+v", r)
	}
}

// What is imported is all there or nothing is, and it says what was wrong and where.
func TestImportRefuses(t *testing.T) {
	l, other, dir := newTestLog(t), newTestLog(t), t.TempDir()
	l.fill(t, 10)
	text := l.audit(t, "export", "--out", "-").must(t).stdout
	lines := strings.SplitAfter(text, "\n")
	whole := write(t, filepath.Join(dir, "whole"), text)
	bare := write(t, filepath.Join(dir, "bare"), strings.Join(lines[:10], ""))
	gap := write(t, filepath.Join(dir, "gap"), strings.Join(append(lines[:4:4], lines[5:]...), ""))
	tail := write(t, filepath.Join(dir, "tail"), strings.Join(lines[5:], ""))
	torn := write(t, filepath.Join(dir, "torn"), text[:len(text)-40])
	long := write(t, filepath.Join(dir, "long"), strings.Repeat("x", audit.MaxLine+1)+"\n")
	forged := write(t, filepath.Join(dir, "forged"), strings.Replace(text, `"outcome":"confirmed"`, `"outcome":"failed"`, 1))
	note := write(t, filepath.Join(dir, "note"), "not a note")
	fresh := newTestLog(t)
	fresh.audit(t, "import", "--key", l.vkey, whole).refused(t, exitBroken, "in use", "stop the other broker first")
	fresh.close(t)
	for _, tt := range []struct {
		args   []string
		status int
		want   string
	}{
		{[]string{whole}, exitUsage, "--key is needed"},
		{[]string{"--key", l.vkey}, exitUsage, "requires at least 1 arg"},
		{[]string{"--key", "x", whole}, exitUsage, `--key: want a verifier key or a file of them, got "x"`},
		{[]string{"--key", other.vkey, whole}, exitBroken, "whole: line 11: opening checkpoint: want a signature by"},
		{[]string{"--key", l.vkey, bare}, exitUsage, "want a checkpoint, and there is none in the files"},
		{[]string{"--key", l.vkey, gap}, exitBroken, "gap: line 5: want the record at place 5, got that at place 6"},
		{[]string{"--key", l.vkey, tail}, exitBroken, "tail: line 1: want the record at place 1, got that at place 6"},
		{[]string{"--key", l.vkey, whole, whole}, exitBroken, "whole: line 1: want the record at place 11, got that at place 1"},
		{[]string{"--key", l.vkey, torn}, exitBroken, "torn: line 11: it ends within this line"},
		{[]string{"--key", l.vkey, long}, exitBroken, "long: line 1: want a line of at most 32768 bytes"},
		{[]string{"--key", l.vkey, forged}, exitBroken, "forged: line 1: the record at place 1: want the hash"},
		{[]string{"--key", l.vkey, dir}, exitBroken, "want a file, since it is read twice"},
		{[]string{"--key", l.vkey, whole + "-"}, exitBroken, "no such file"},
		{[]string{"--key", l.vkey, "--checkpoint", note, bare}, exitBroken, "--checkpoint: "},
		{[]string{"--key", l.vkey, "--heads", note, bare}, exitBroken, "--heads: "},
		{[]string{"--key", l.vkey, "--heads", note, "--checkpoint", note, bare}, exitUsage, "--checkpoint and --heads: want one of them"},
	} {
		fresh.audit(t, "import", tt.args...).refused(t, tt.status, tt.want)
	}
	fresh.audit(t, "import", "--key", l.vkey, whole).must(t) // nothing was left there before
}

// The file of an anchor with the heads that the broker keeps is as good as an export,
// and what lies behind the last head waits for its place.
func TestImportOfAnAnchorsFile(t *testing.T) {
	l, dir := newTestLog(t), t.TempDir()
	early := l.fill(t, 5)
	head := l.fill(t, 5)
	l.append(t, testRecord(1))
	lines := write(t, filepath.Join(dir, "anchor"), string(l.lines(t)))
	heads := write(t, filepath.Join(dir, "heads"), headLine(early)+headLine(head))
	torn := write(t, filepath.Join(dir, "torn"), headLine(early)+headLine(head)+headLine(head)[:30])
	checkpoint := write(t, filepath.Join(dir, "checkpoint"), head.Note)
	for _, flags := range [][]string{{"--heads", heads}, {"--heads", torn}, {"--checkpoint", checkpoint}} {
		fresh := newTestLog(t)
		fresh.close(t)
		r := fresh.audit(t, "import", append(flags, "--key", l.vkey, lines)...).must(t)
		if !strings.HasPrefix(r.stdout, "restored 11 records of the log broker.example.com/audit under its signed head of 10\n") || !strings.HasPrefix(r.stderr, "behind the head: 1 record, which nothing signed vouches for") {
			t.Errorf("%q: told %q %q", flags, r.stdout, r.stderr)
		}
		fresh.log, fresh.vkey = l.log, l.vkey
		fresh.open(t)
		if got := fresh.extend(t); got.Size != 11 || !bytes.Equal(fresh.lines(t), l.lines(t)) {
			t.Errorf("%q: goes on to %d records, want 11 and the same lines", flags, got.Size)
		}
	}
}

// headLine is a line of a file of heads.
func headLine(c audit.Checkpoint) string {
	line := string(c.Line())
	return `{"time":"2030-01-02T12:00:00.000Z","size":` + strconv.FormatInt(c.Size, 10) + "," + strings.TrimPrefix(line, "{")
}
