package anchor

import (
	"context"
	"fmt"
	"io"
	"runtime"
)

// maxBatch bounds the records that share a flush, and those that wait for the
// next one.
const maxBatch = 128

// A put is a caller waiting in Put.
type put struct {
	ctx     context.Context // the caller's, to see whether it is still there
	text    []byte
	outcome chan error // what became of it; has room, so nobody need be there
}

// disk is what a file is written with: an *os.File of which the path is known
// (openDisk), or in tests one that fails.
type disk interface {
	// Write appends. An error may come with a part written.
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
	// Size is that of the file, which must still be the one of its name.
	Size() (int64, error)
}

func (f *File) loop() {
	defer close(f.done)
	defer func() { f.closed = f.disk.Close() }()
	for {
		select {
		case <-f.closing: // before anything that waits
			return
		default:
		}
		select {
		case p := <-f.queue:
			f.commit(f.batch(p))
		case <-f.closing:
			return
		}
	}
}

// batch is first and those who wait behind it, without those whose callers have
// left.
func (f *File) batch(first *put) (batch []*put) {
	for p, n := first, 1; p != nil; n++ {
		if p.ctx.Err() == nil {
			batch = append(batch, p)
		}
		p = nil
		if n < maxBatch {
			p = f.nextOrYield()
		}
	}
	return batch
}

// next is the next put that waits already, or nil.
func (f *File) next() *put {
	select {
	case p := <-f.queue:
		return p
	default:
		return nil
	}
}

// nextOrYield is next, after letting callers that are ready to run come and
// wait: where flushing is quick, they would else miss the batch by a hair.
func (f *File) nextOrYield() *put {
	if p := f.next(); p != nil {
		return p
	}
	runtime.Gosched()
	return f.next()
}

// commit appends the batch and tells those who wait what came of it.
func (f *File) commit(batch []*put) {
	if len(batch) == 0 {
		return
	}
	var text []byte
	for _, p := range batch {
		text = append(text, p.text...)
	}
	err := f.append(text)
	for _, p := range batch {
		p.outcome <- err
	}
}

// append makes the text durable at the end of the file. That the file has the
// name and the size that it should have is looked at last, so that it covers all
// that came before.
func (f *File) append(text []byte) error {
	if f.broken != nil {
		return f.broken
	}
	if n, err := f.write(text); err != nil {
		return f.repair(n, err)
	}
	want := f.good + int64(len(text))
	if err := f.disk.Sync(); err != nil {
		// The pages may be lost and yet count as clean, so that a later flush would
		// succeed without them. Cutting them off keeps a hole out of the file.
		if f.checkSize(want) == nil {
			_ = f.disk.Truncate(f.good)
		}
		return f.stop(fmt.Errorf("flushing: %w", cause(err)))
	}
	if err := f.checkSize(want); err != nil {
		return f.stop(err)
	}
	f.good = want
	return nil
}

func (f *File) write(text []byte) (int, error) {
	n, err := f.disk.Write(text)
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return n, err
}

// repair cuts off the n bytes of a write that failed. The flush of the next
// batch makes that durable as well; until then, a crash leaves a line that is
// cut off, which OpenFile finds.
func (f *File) repair(n int, failed error) error {
	err := f.checkSize(f.good + int64(n))
	if err == nil {
		err = f.disk.Truncate(f.good)
	}
	if err != nil {
		return f.stop(fmt.Errorf("writing: %w; cutting that off: %w", cause(failed), cause(err)))
	}
	return fmt.Errorf("writing: %w", cause(failed))
}

// checkSize refuses a file that somebody else changed.
func (f *File) checkSize(want int64) error {
	got, err := f.disk.Size()
	if err != nil {
		return cause(err)
	}
	if got != want {
		return fmt.Errorf("something else changed the file: want %d bytes, got %d", want, got)
	}
	return nil
}

// stop refuses all further records.
func (f *File) stop(err error) error {
	f.broken = fmt.Errorf("file stopped, restart to open it anew: %w", err)
	return f.broken
}
