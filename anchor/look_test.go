package anchor

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// Looking at a file finds what somebody else did to it before anything is lost in it, and
// writes nothing; what was put back before anything was to be written is fine.
func TestLook(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	mustPut(t, f, "a")
	for range 2 {
		if err := f.Look(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantRefusal(t, f.Look(t.Context()), "looking at anchor file \""+path+"\": it was moved, removed or replaced")
	}
	if err := os.Rename(path+".1", path); err != nil {
		t.Fatal(err)
	}
	if err := f.Look(t.Context()); err != nil {
		t.Errorf("after it was put back: %v", err)
	}
	mustPut(t, f, "b")
	wantIDs(t, path, "a", "b")

	if err := os.Truncate(path, 3); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, f.Look(t.Context()), "something else changed the file: want ")
	wantRefusal(t, f.Put(t.Context(), record("c")), "file stopped, restart to open it anew: something else changed")
	wantRefusal(t, f.Look(t.Context()), "file stopped, restart to open it anew: something else changed")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Look(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// A disk that hangs with what another puts holds nobody up who looks.
func TestLookAtAHangingDisk(t *testing.T) {
	answer := make(chan struct{})
	c := newCheckpoints(newLines(heads, "x", flushingAfter(answer), 0, nil), time.Now)
	published, looked := make(chan error, 1), make(chan error, 1)
	go func() { published <- c.Publish(t.Context(), signed(1)) }()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { looked <- c.Look(ctx) }()
	cancel() // the disk hangs, and holds nobody up
	if err := <-looked; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("looking at a disk that hangs: %v", err)
	}
	close(answer)
	if err := <-published; err != nil {
		t.Error(err)
	}
	if err := c.Look(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
