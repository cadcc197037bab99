package anchor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"agentkeys/agentkeystest/child"
)

func TestMain(m *testing.M) { child.Main(m, roles) }

var roles = map[string]func(args []string) error{
	"put":   rolePut,
	"write": roleWrite,
	"limit": roleLimit,
}

// acknowledge puts a record and prints its ID if that was durable, in one write.
func acknowledge(f *File, id string) bool {
	if err := f.Put(context.Background(), record(id)); err != nil {
		fmt.Println("error:", err)
		return false
	}
	fmt.Println(id)
	return true
}

// rolePut puts args[1] into args[0].
func rolePut(args []string) error {
	f, err := OpenFile(args[0])
	if err != nil {
		return err
	}
	acknowledge(f, args[1])
	return f.Close()
}

// roleWrite puts records named args[1]-… into args[0] until it is killed.
func roleWrite(args []string) error {
	f, err := OpenFile(args[0])
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for c := range 16 {
		wg.Go(func() {
			for i := 0; ; i++ {
				acknowledge(f, fmt.Sprintf("%s-%d-%d", args[1], c, i))
			}
		})
	}
	wg.Wait()
	return nil
}

// roleLimit puts records into args[0] with files limited to args[1] bytes until
// that has failed three times, then lifts the limit and puts one more.
func roleLimit(args []string) error {
	limit, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return err
	}
	f, err := OpenFile(args[0])
	if err != nil {
		return err
	}
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	err = errors.Join(syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before),
		syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: before.Max}))
	if err != nil {
		return err
	}
	for i, failed := 0, 0; failed < 3; i++ {
		if !acknowledge(f, strconv.Itoa(i)) {
			failed++
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	acknowledge(f, "last")
	return f.Close()
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	path := newPath(t)
	var acknowledged []string
	for round, lines := range []int{1, 700, 37, 1200, 5, 211, 90, 3000} {
		acknowledged = append(acknowledged, child.KillAfter(t, child.Command(t, "write", path, itoa(round)), lines)...)
		f, err := OpenFile(path)
		if err != nil { // it was killed in the middle of a write
			mend(t, path, err)
			f = open(t, path)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		kept := make(map[string]bool)
		for _, id := range idsOf(t, path) {
			kept[id] = true
		}
		for _, id := range acknowledged {
			if !kept[id] {
				t.Fatalf("round %d: record %s was acknowledged and is gone", round, id)
			}
		}
	}
}

// A write that the kernel takes in part: at the limit it takes what fits.
func TestFileAtItsLimit(t *testing.T) {
	path := newPath(t)
	out := strings.Split(strings.TrimSpace(child.Output(t, child.Command(t, "limit", path, "5000"))), "\n")
	n := len(out)
	if n < 14 || out[n-1] != "last" {
		t.Fatalf("want records, three refusals, and a record after the limit was lifted, got %q", out)
	}
	for _, line := range out[n-4 : n-1] {
		if !strings.HasPrefix(line, "error: ") || !strings.HasSuffix(line, ": writing: file too large") {
			t.Errorf("at the limit: %q, want a refusal that says why", line)
		}
	}
	wantIDs(t, path, append(out[:n-4], "last")...)
}

// A disk that is full, and has room again later.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root mounts a small disk")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no small disk here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmounting %s: %v", dir, err)
		}
	})
	path := filepath.Join(dir, "anchor.jsonl")
	if err := CreateFile(path); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 32<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i, failed := 0, 0; failed < 3; i++ {
		if err := f.Put(t.Context(), record(itoa(i))); err != nil {
			failed++
			wantRefusal(t, err, ": writing: no space left on device")
			continue
		}
		want = append(want, itoa(i))
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	mustPut(t, f, "last")
	if len(want) < 80 {
		t.Errorf("%d records fitted into 32 KiB, want 80 or more", len(want))
	}
	wantIDs(t, path, append(want, "last")...)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
