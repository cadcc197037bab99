package anchor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// fakeDisk keeps apart what was written and what was flushed, and fails on
// demand. What a crash leaves is what was flushed last.
type fakeDisk struct {
	mu      sync.Mutex // guards the rest
	written []byte
	flushed []byte
	syncs   int

	// fault says what happens to an operation; nil is the good disk. It runs
	// without the lock, so it may block.
	fault func(operation string) fault
}

// fault is an error of a disk and how much was done all the same.
type fault struct {
	err  error
	done float64 // 0 is nothing, 1 is all of it
}

func (d *fakeDisk) next(operation string) fault {
	if d.fault == nil {
		return fault{nil, 1}
	}
	return d.fault(operation)
}

func (d *fakeDisk) Write(p []byte) (int, error) {
	f := d.next("write")
	d.mu.Lock()
	defer d.mu.Unlock()
	n := int(float64(len(p)) * f.done)
	d.written = append(d.written, p[:n]...)
	return n, f.err
}

func (d *fakeDisk) Sync() error {
	f := d.next("sync")
	d.mu.Lock()
	defer d.mu.Unlock()
	d.syncs++
	if f.done == 1 {
		d.flushed = bytes.Clone(d.written)
	}
	return f.err
}

func (d *fakeDisk) Truncate(size int64) error {
	f := d.next("truncate")
	d.mu.Lock()
	defer d.mu.Unlock()
	if f.done == 1 {
		d.written = d.written[:size:size]
	}
	return f.err
}

func (d *fakeDisk) Size() (int64, error) {
	f := d.next("size")
	d.mu.Lock()
	defer d.mu.Unlock()
	return int64(len(d.written)), f.err
}

func (d *fakeDisk) Close() error { return d.next("close").err }

// holds are the IDs of what is read back of a disk's content, without a line
// that is cut off.
func holds(t interface{ Fatalf(string, ...any) }, content []byte) (ids []string) {
	whole := content[:bytes.LastIndexByte(content, '\n')+1]
	records, err := readAll(bytes.NewReader(whole))
	if err != nil {
		t.Fatalf("reading what is on the disk: %v", err)
	}
	for _, r := range records {
		ids = append(ids, r.RequestID)
	}
	return ids
}

func (d *fakeDisk) contents() (written, flushed []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return bytes.Clone(d.written), bytes.Clone(d.flushed)
}

// failing makes the operations of some kinds fail from now on.
func (d *fakeDisk) failing(f fault, operations ...string) {
	d.fault = func(op string) fault {
		if slices.Contains(operations, op) {
			return f
		}
		return fault{nil, 1}
	}
}

// flushingAfter is a good disk whose flushes wait for a channel.
func flushingAfter(c <-chan struct{}) *fakeDisk {
	return &fakeDisk{fault: func(op string) fault {
		if op == "sync" {
			<-c
		}
		return fault{nil, 1}
	}}
}

var errDisk = errors.New("input/output error")

// newFile is a file on a disk that has nothing yet.
func newFile(d disk) *File { return &File{lines: newLines(records, "x", d, 0, nil)} }

func TestNothingIsAcknowledgedBeforeItIsFlushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flush := make(chan struct{})
		d := flushingAfter(flush)
		f := newFile(d)
		var acknowledged []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 3 {
				if err := f.Put(t.Context(), record(itoa(i))); err != nil {
					t.Error(err)
				}
				acknowledged = append(acknowledged, itoa(i))
			}
		}()
		for i := range 3 {
			synctest.Wait()
			written, flushed := d.contents()
			if len(holds(t, written)) != i+1 || len(holds(t, flushed)) != i || len(acknowledged) != i {
				t.Errorf("before flush %d: %d written, %d flushed, %d acknowledged; want %d, %d, %d",
					i, len(holds(t, written)), len(holds(t, flushed)), len(acknowledged), i+1, i, i)
			}
			flush <- struct{}{}
		}
		<-done
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestThoseWhoWaitShareAFlush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flush := make(chan struct{})
		d := flushingAfter(flush)
		f := newFile(d)
		var wg sync.WaitGroup
		put := func(id string) {
			wg.Go(func() {
				if err := f.Put(t.Context(), record(id)); err != nil {
					t.Error(err)
				}
			})
		}
		put("first")
		synctest.Wait()
		for n := range 63 {
			put(itoa(n))
		}
		synctest.Wait()
		flush <- struct{}{}
		flush <- struct{}{}
		wg.Wait()
		if _, flushed := d.contents(); d.syncs != 2 || len(holds(t, flushed)) != 64 {
			t.Errorf("64 records took %d flushes and %d are on the disk, want 2 and 64", d.syncs, len(holds(t, flushed)))
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// The disk hangs: callers leave when their time is up, what waits stays bounded,
// and when the disk answers again the file goes on.
func TestHangingDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		d := flushingAfter(answer)
		f := newFile(d)
		var wg sync.WaitGroup
		start := time.Now()
		for n := range 3 * maxBatch {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				if err := f.Put(ctx, record(itoa(n))); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Put on a hanging disk = %v, want the deadline", err)
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the callers left after %v, want 2s", took)
		}
		if waiting := len(f.queue); waiting > maxBatch {
			t.Errorf("%d records wait, want at most %d", waiting, maxBatch)
		}
		close(answer)
		if err := f.Put(t.Context(), record("after")); err != nil {
			t.Errorf("after the disk answered: %v", err)
		}
		written, _ := d.contents()
		got := holds(t, written)
		if len(got) > maxBatch+1 || got[len(got)-1] != "after" {
			t.Errorf("%d records were written and the last is %s; want those of the batch that hung, then the one after", len(got), got[len(got)-1])
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestCloseOnAHangingDisk(t *testing.T) {
	for range 20 { // select is random
		synctest.Test(t, closeOnAHangingDisk)
	}
}

func closeOnAHangingDisk(t *testing.T) {
	answer := make(chan struct{})
	d := flushingAfter(answer)
	f := newFile(d)
	var outcomes [2]error
	var wg sync.WaitGroup
	for n := range outcomes {
		wg.Go(func() { outcomes[n] = f.Put(t.Context(), record(itoa(n))) })
		synctest.Wait()
	}
	start := time.Now()
	wantRefusal(t, f.Close(), `closing anchor file "x": the disk has not answered for 10s`)
	if took := time.Since(start); took != closeWait {
		t.Errorf("Close took %v, want %v", took, closeWait)
	}
	close(answer)
	if err := f.Close(); err != nil {
		t.Errorf("Close after the disk answered = %v", err)
	}
	wg.Wait()
	if outcomes[0] != nil || !errors.Is(outcomes[1], ErrClosed) {
		t.Errorf("what was being written ended with %v and what waited with %v, want nil and ErrClosed", outcomes[0], outcomes[1])
	}
}

// A put of the last batch may look for its outcome when the loop has ended.
func TestOutcomeOfTheLastBatch(t *testing.T) {
	f := newFile(&fakeDisk{})
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	for range 50 { // select is random
		p := &put{ctx: t.Context(), outcome: make(chan error, 1)}
		p.outcome <- nil
		if err := f.await(p); err != nil {
			t.Fatalf("a durable record was reported as failed: %v", err)
		}
	}
}

func TestDiskFaults(t *testing.T) {
	failing := func(f fault, operations ...string) func(*fakeDisk) {
		return func(d *fakeDisk) { d.failing(f, operations...) }
	}
	intruded := func(f fault, operation string) func(*fakeDisk) {
		return func(d *fakeDisk) { d.failing(f, operation); d.intrude(operation) }
	}
	for name, tt := range map[string]struct {
		fault func(*fakeDisk)
		want  string
		stops bool
	}{
		"nothing written":                    {failing(fault{errDisk, 0}, "write"), ": writing: input/output error", false},
		"a part written":                     {failing(fault{errDisk, 0.5}, "write"), ": writing: input/output error", false},
		"all written, reported failed":       {failing(fault{errDisk, 1}, "write"), ": writing: input/output error", false},
		"a part written, reported done":      {failing(fault{nil, 0.5}, "write"), ": writing: short write", false},
		"a part written that cannot be cut":  {failing(fault{errDisk, 0.5}, "write", "truncate"), "cutting that off: input/output error", true},
		"cut, reported failed":               {failing(fault{errDisk, 1}, "write", "truncate"), "cutting that off: input/output error", true},
		"not flushed":                        {failing(fault{errDisk, 0}, "sync"), ": flushing: input/output error", true},
		"flushed, reported failed":           {failing(fault{errDisk, 1}, "sync"), ": flushing: input/output error", true},
		"not flushed, and cannot be cut":     {failing(fault{errDisk, 0}, "sync", "truncate"), ": flushing: input/output error", true},
		"the size cannot be looked at":       {failing(fault{errDisk, 1}, "size"), "input/output error", true},
		"nor after a part that was written":  {failing(fault{errDisk, 0.5}, "write", "size"), "cutting that off: input/output error", true},
		"a part written, and something else": {intruded(fault{errDisk, 0.5}, "write"), "something else changed the file", true},
		"not flushed, and something else":    {intruded(fault{errDisk, 0}, "sync"), ": flushing: input/output error", true},
	} {
		t.Run(name, func(t *testing.T) {
			d := &fakeDisk{}
			f := newFile(d)
			defer f.Close()
			mustPut(t, f, "before")
			tt.fault(d)
			wantRefusal(t, f.Put(t.Context(), record("lost")), tt.want)
			d.fault = nil
			err := f.Put(t.Context(), record("after"))
			want := []string{"before", "after"}
			if tt.stops {
				wantRefusal(t, err, "file stopped, restart to open it anew: ")
				wantRefusal(t, f.Put(t.Context(), record("again")), tt.want)
				want = want[:1]
			} else if err != nil {
				t.Error(err)
			}
			written, flushed := d.contents()
			if strings.Contains(name, "something else") {
				if !bytes.Contains(written, []byte("foreign")) {
					t.Error("what somebody else wrote was cut off")
				}
				return
			}
			if got := holds(t, flushed); !slices.Equal(got, want) && !(tt.stops && slices.Equal(got, append(want, "lost"))) {
				t.Errorf("the disk holds %q, want %q", got, want)
			}
			if got := holds(t, written); !tt.stops && (!slices.Equal(got, want) || written[len(written)-1] != '\n') {
				t.Errorf("the file holds %q, want %q and nothing else", got, want)
			}
		})
	}
}

// intrude lets somebody else append before an operation.
func (d *fakeDisk) intrude(operation string) {
	before := d.fault
	d.fault = func(op string) fault {
		if op == operation {
			d.mu.Lock()
			d.written = append(d.written, "foreign\n"...)
			d.mu.Unlock()
		}
		return before(op)
	}
}

// A flush that failed must leave nothing behind that a later broker takes for
// durable because its own flush succeeds.
func TestWhatWasNotFlushedIsCutOff(t *testing.T) {
	d := &fakeDisk{}
	f := newFile(d)
	defer f.Close()
	mustPut(t, f, "before")
	d.failing(fault{errDisk, 0}, "sync")
	wantRefusal(t, f.Put(t.Context(), record("lost")), "flushing")
	if written, _ := d.contents(); !slices.Equal(holds(t, written), []string{"before"}) {
		t.Errorf("the file holds %q, want what was flushed alone", holds(t, written))
	}
}

// Whatever the disk does, a record that was acknowledged is on it, and what was
// read back of it is whole lines.
func TestAcknowledgedRecordsOutlastAnyFaults(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var mu sync.Mutex // guards faults: only the loop takes from it, but rapid may not be called there
		faults := rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 11), drawFault), 60, 60).Draw(t, "faults")
		d := &fakeDisk{}
		d.fault = func(op string) fault {
			mu.Lock()
			defer mu.Unlock()
			if op == "close" || len(faults) == 0 {
				return fault{nil, 1}
			}
			f := faults[0]
			faults = faults[1:]
			return f
		}
		f := newFile(d)
		defer f.Close()
		var acknowledged []string
		for round := range rapid.IntRange(1, 12).Draw(t, "rounds") {
			acknowledged = append(acknowledged, putTogether(f, round, rapid.IntRange(1, 6).Draw(t, "together"))...)
			written, flushed := d.contents()
			for _, content := range [][]byte{written, flushed} {
				got := holds(t, content)
				for _, id := range acknowledged {
					if !slices.Contains(got, id) {
						t.Fatalf("%s was acknowledged, and the disk holds %q", id, got)
					}
				}
			}
		}
	})
}

// drawFault makes two operations of three go well.
func drawFault(n int) fault {
	switch n {
	case 0:
		return fault{errDisk, 0}
	case 1:
		return fault{errDisk, 1}
	case 2:
		return fault{errDisk, 0.37}
	case 3:
		return fault{io.ErrShortWrite, 0.99}
	}
	return fault{nil, 1}
}

// putTogether puts n records side by side and returns those acknowledged.
func putTogether(f *File, round, n int) (acknowledged []string) {
	outcomes := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { outcomes[i] = f.Put(context.Background(), record(fmt.Sprintf("%d-%d", round, i))) })
	}
	wg.Wait()
	for i, err := range outcomes {
		if err == nil {
			acknowledged = append(acknowledged, fmt.Sprintf("%d-%d", round, i))
		}
	}
	return acknowledged
}

func TestDiskErrorsNameTheFileOnce(t *testing.T) {
	path := newPath(t)
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.disk.Close(); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{f.Put(t.Context(), record("a")), f.Close()} {
		wantRefusal(t, err, "file already closed")
		if n := strings.Count(err.Error(), path); n != 1 {
			t.Errorf("the error names the file %d times: %v", n, err)
		}
	}
}
