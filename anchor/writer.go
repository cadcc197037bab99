package anchor

import (
	"context"
	"fmt"
	"io"
	"runtime"
)

// maxBatch bounds the puts that share a flush, and those that wait for the
// next one.
const maxBatch = 128

// A put is a caller waiting in lines.put.
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

func (l *lines) loop() {
	defer close(l.done)
	defer func() { l.closed = l.disk.Close() }()
	for {
		select {
		case <-l.closing: // before anything that waits
			return
		default:
		}
		select {
		case p := <-l.queue:
			l.commit(l.batch(p))
		case <-l.closing:
			return
		}
	}
}

// batch is first and those who wait behind it, without those whose callers have
// left.
func (l *lines) batch(first *put) (batch []*put) {
	for p, n := first, 1; p != nil; n++ {
		if p.ctx.Err() == nil {
			batch = append(batch, p)
		}
		p = nil
		if n < maxBatch {
			p = l.nextOrYield()
		}
	}
	return batch
}

// next is the next put that waits already, or nil.
func (l *lines) next() *put {
	select {
	case p := <-l.queue:
		return p
	default:
		return nil
	}
}

// nextOrYield is next, after letting callers that are ready to run come and
// wait: where flushing is quick, they would else miss the batch by a hair.
func (l *lines) nextOrYield() *put {
	if p := l.next(); p != nil {
		return p
	}
	runtime.Gosched()
	return l.next()
}

// commit appends the batch and tells those who wait what came of it.
func (l *lines) commit(batch []*put) {
	if len(batch) == 0 {
		return
	}
	var text []byte
	for _, p := range batch {
		text = append(text, p.text...)
	}
	commit := l.append
	if len(text) == 0 { // all of them only look
		commit = l.look
	}
	err := commit(text)
	for _, p := range batch {
		p.outcome <- err
	}
}

// look is append without a text. It stops nothing: somebody may put back what is not
// there, as long as nothing was to be written.
func (l *lines) look([]byte) error {
	if l.broken != nil {
		return l.broken
	}
	return l.checkSize(l.good)
}

// append makes the text durable at the end of the file. That the file has the
// name and the size that it should have is looked at last, so that it covers all
// that came before.
func (l *lines) append(text []byte) error {
	if l.broken != nil {
		return l.broken
	}
	if n, err := l.write(text); err != nil {
		return l.repair(n, err)
	}
	want := l.good + int64(len(text))
	if err := l.disk.Sync(); err != nil {
		// The pages may be lost and yet count as clean, so that a later flush would
		// succeed without them. Cutting them off keeps a hole out of the file.
		if l.checkSize(want) == nil {
			_ = l.disk.Truncate(l.good)
		}
		return l.stop(fmt.Errorf("flushing: %w", cause(err)))
	}
	if err := l.checkSize(want); err != nil {
		return l.stop(err)
	}
	l.good = want
	return nil
}

func (l *lines) write(text []byte) (int, error) {
	n, err := l.disk.Write(text)
	if err == nil && n < len(text) {
		err = io.ErrShortWrite
	}
	return n, err
}

// repair cuts off the n bytes of a write that failed. The flush of the next
// batch makes that durable as well; until then, a crash leaves a line that is
// cut off, which OpenFile finds.
func (l *lines) repair(n int, failed error) error {
	err := l.checkSize(l.good + int64(n))
	if err == nil {
		err = l.disk.Truncate(l.good)
	}
	if err != nil {
		return l.stop(fmt.Errorf("writing: %w; cutting that off: %w", cause(failed), cause(err)))
	}
	return fmt.Errorf("writing: %w", cause(failed))
}

// checkSize refuses a file that somebody else changed.
func (l *lines) checkSize(want int64) error {
	got, err := l.disk.Size()
	if err != nil {
		return cause(err)
	}
	if got != want {
		return meddled(fmt.Sprintf("something else changed the file: want %d bytes, got %d", want, got))
	}
	return nil
}

// stop refuses all further lines.
func (l *lines) stop(err error) error {
	l.broken = fmt.Errorf("file stopped, restart to open it anew: %w", err)
	return l.broken
}
