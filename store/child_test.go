package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"agentkeys/agentkeystest/child"
)

func TestMain(m *testing.M) { child.Main(m, roles) }

var roles = map[string]func(args []string) error{
	"open":    roleOpen,
	"create":  func(args []string) error { return Create(context.Background(), args[0]) },
	"write":   roleWrite,
	"limit":   roleLimit,
	"upgrade": roleUpgrade,
}

// roleOpen opens args[0] and puts a row.
func roleOpen(args []string) error {
	ctx := context.Background()
	s, err := Open(ctx, args[0])
	if err != nil {
		return err
	}
	return errors.Join(s.Update(ctx, func(tx *sql.Tx) error { return put(ctx, tx, "child") }), s.Close())
}

// roleWrite puts rows named args[1]-… into args[0] until it is killed, and
// prints each id once its Update has returned nil.
func roleWrite(args []string) error {
	s, err := Open(context.Background(), args[0])
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				acknowledge(s, fmt.Sprintf("%s-%d-%d", args[1], c, i))
			}
		})
	}
	wg.Wait()
	return nil
}

// acknowledge puts a row and prints its id if that was durable, in one write.
func acknowledge(s *Store, id string) bool {
	ctx := context.Background()
	if err := s.Update(ctx, func(tx *sql.Tx) error { return put(ctx, tx, id) }); err != nil {
		fmt.Println("error:", err)
		return false
	}
	fmt.Println(id)
	return true
}

// roleLimit puts rows into args[0] with files limited to args[1] bytes, until
// that has failed twice.
func roleLimit(args []string) error {
	limit, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	s, err := Open(context.Background(), args[0])
	if err != nil {
		return err
	}
	for i, failed := 0, 0; failed < 2; i++ {
		if !acknowledge(s, strconv.Itoa(i)) {
			failed++
		}
	}
	return nil
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	wantErrors(t, []error{Create(t.Context(), path)}, nil)
	var acknowledged []string
	for round, lines := range []int{1, 700, 37, 1200, 5, 211} {
		acknowledged = append(acknowledged, child.KillAfter(t, child.Command(t, "write", path, strconv.Itoa(round)), lines)...)
		s, err := Open(t.Context(), path)
		if err != nil {
			t.Fatalf("opening after the kill: %v", err)
		}
		kept := make(map[string]bool)
		for _, id := range ids(t, s) {
			kept[id] = true
		}
		wantErrors(t, []error{s.Close()}, nil)
		for _, id := range acknowledged {
			if !kept[id] {
				t.Fatalf("round %d: row %s was acknowledged and is gone", round, id)
			}
		}
	}
	wantIntegrity(t, path)
}

func wantIntegrity(t *testing.T, path string) {
	t.Helper()
	db, err := openPlain(path, inspectSettings)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var result string
	if err := db.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		t.Errorf("integrity_check: %s, %v", result, err)
	}
}

// The disk fails in the middle of a commit: writing beyond the limit is an I/O
// error to SQLite.
func TestDiskErrorStopsWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	wantErrors(t, []error{Create(t.Context(), path)}, nil)
	lines := strings.Split(strings.TrimSpace(child.Output(t, child.Command(t, "limit", path, "300000"))), "\n")
	n := len(lines)
	if n < 10 || !strings.Contains(lines[n-2], "error: committing: the disk reported an error") {
		t.Fatalf("want rows, then a failed commit, got %q", lines)
	}
	if !strings.Contains(lines[n-1], "store stopped writing") {
		t.Errorf("after the failed commit: %q, want a refusal", lines[n-1])
	}
	got := ids(t, openStore(t, path))
	for _, id := range lines[:n-2] {
		if !slices.Contains(got, id) {
			t.Errorf("row %s was acknowledged and is gone", id)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	s, path := newStore(t)
	out := child.Output(t, child.Command(t, "open", path))
	if want := fmt.Sprintf("database is in use: process %d has it", os.Getpid()); !strings.Contains(out, want) {
		t.Errorf("second process printed %q, want %q", out, want)
	}
	wantErrors(t, []error{s.Close()}, nil)
	if out := child.Output(t, child.Command(t, "open", path)); out != "" {
		t.Errorf("after Close the second process printed %q, want nothing", out)
	}
	wantIDs(t, openStore(t, path), "child")
}

// Another process that is just being started holds a copy of every descriptor.
func TestClosedDatabaseIsFreeDespiteACopyOfItsLock(t *testing.T) {
	s, path := newStore(t)
	held, err := syscall.Dup(int(s.lock.Fd()))
	wantErrors(t, []error{err}, nil)
	defer syscall.Close(held)
	wantErrors(t, []error{s.Close()}, nil)
	wantErrors(t, []error{openStore(t, path).Close()}, nil)
}

// Root may write anything, so these play an unprivileged user.
func TestWithoutPermission(t *testing.T) {
	for name, tt := range map[string]struct {
		role         string
		folder, file os.FileMode
		want         string
	}{
		"open, folder not writable":   {"open", 0o500, 0o600, "permission denied"},
		"open, file not writable":     {"open", 0o700, 0o400, "the file cannot be written"},
		"open, file not readable":     {"open", 0o700, 0o000, "the file or its folder cannot be opened"},
		"create, folder not writable": {"create", 0o500, 0, "permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "agentkeys.db")
			if tt.role == "open" {
				wantErrors(t, []error{Create(t.Context(), path), os.Remove(lockPath(path)), os.Chmod(path, tt.file)}, nil, nil, nil)
			}
			cmd := child.Command(t, tt.role, path)
			disown(t, cmd, folder)
			wantErrors(t, []error{os.Chmod(folder, tt.folder)}, nil)
			t.Cleanup(func() { _ = os.Chmod(folder, 0o700) })
			out := child.Output(t, cmd)
			if !strings.Contains(out, tt.want) || !strings.Contains(out, path) || strings.Count(out, "\n") != 1 {
				t.Errorf("got %q, want one line with %q and %q", out, tt.want, path)
			}
		})
	}
}

// disown gives the folder and what is in it to the user "nobody", and runs the
// command as that user, if this process is root.
func disown(t *testing.T, cmd *exec.Cmd, folder string) {
	t.Helper()
	if os.Getuid() != 0 {
		return
	}
	const nobody = 65534
	names, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(names, folder) {
		wantErrors(t, []error{os.Chown(name, nobody, nobody)}, nil)
	}
	wantErrors(t, []error{os.Chmod(filepath.Dir(folder), 0o711)}, nil)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.Dir = folder
}
