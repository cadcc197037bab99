package anchor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"time"

	"agentkeys/audit"
)

// closeWait is how long Close waits for a disk that does not answer.
const closeWait = 10 * time.Second

// A kind is what the lines of a file are.
type kind struct {
	name  string                  // as errors call the file
	flag  string                  // of agentkeys init, which makes one
	check func(line []byte) error // refuses a line that is none of them
}

// lines is an append-only file of lines, which this process alone writes. It is safe
// for concurrent use: lines that wait share one write and one flush.
type lines struct {
	kind
	path    string // absolute
	queue   chan *put
	closing chan struct{} // closed by Close
	close   sync.Once
	done    chan struct{} // closed when loop has returned
	closed  error         // of closing the disk; set before done is closed
	tail    []byte        // the last line when it was opened, nil where there was none

	// Only loop's goroutine uses these.
	disk disk
	good int64 // size of the file, of which every byte is durable
	// broken is why nothing more may be written: it is not known what the file
	// holds behind good, or somebody else uses it.
	broken error
}

// create makes an empty file of mode 0600 and returns when it and its name are
// durable. It refuses a path where anything exists already, a symbolic link
// included.
func (k kind) create(path string) error {
	if err := createFile(path); err != nil {
		return fmt.Errorf("creating %s %q: %w", k.name, path, cause(err))
	}
	return nil
}

func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; it is never written over", fs.ErrExist)
	}
	if err != nil {
		return err
	}
	err = f.Chmod(0o600) // whatever the umask took away
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path) // it is empty, and in the way of the next try
	}
	return err
}

// syncFolder makes the name of a new file as durable as its content.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// cause drops the operation and the path that errors of os repeat.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// open opens a file that create made, for this process alone. It refuses a file that
// is missing, no regular file or a symbolic link, that others than its owner can
// reach, that another process or this one has open (ErrInUse), and one whose last
// line is cut off or not of its kind.
func (k kind) open(path string) (*lines, error) {
	l, err := k.openLines(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s %q: %w", k.name, path, cause(err))
	}
	return l, nil
}

func (k kind) openLines(path string) (*lines, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d, err := openDisk(path, k.flag)
	if err != nil {
		return nil, err
	}
	size, err := d.Size()
	var tail []byte
	if err == nil {
		tail, err = k.readTail(d, size, path)
	}
	if err != nil {
		_ = d.Close() // nothing was written
		return nil, err
	}
	return newLines(k, path, d, size, tail), nil
}

// newLines starts the loop, which Close ends.
func newLines(k kind, path string, d disk, size int64, tail []byte) *lines {
	l := &lines{
		kind:    k,
		path:    path,
		queue:   make(chan *put, maxBatch),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		tail:    tail,
		disk:    d,
		good:    size,
	}
	go l.loop()
	return l
}

// put appends text, which is whole lines, and returns nil when it is durable. When
// the context ends it returns at once, also while the disk hangs: what is being
// written goes on in the background, and text that still waits for its turn is not
// written any more. A bounded number waits; further ones wait for room until their
// contexts end.
//
// When the disk is full, or takes a part only, the file is cut back to its last
// durable line and stays in use. When it cannot be cut, when a flush fails or when
// somebody else changed the file, it refuses everything until it is opened again.
func (l *lines) put(ctx context.Context, text []byte) error {
	p := &put{ctx: ctx, text: text, outcome: make(chan error, 1)}
	select {
	case l.queue <- p:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.closing:
		return ErrClosed
	}
	return l.await(p)
}

// await waits for what becomes of a put.
func (l *lines) await(p *put) error {
	select {
	case err := <-p.outcome:
		return err
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-l.done:
	}
	select {
	case err := <-p.outcome: // it was in the last batch
		return err
	default:
		return ErrClosed
	}
}

// Look says whether the file is still the one of its name, and as it was left, so that
// it could take what comes; it writes nothing. A file that was moved away and back
// meanwhile is fine. When the context ends it returns at once.
func (l *lines) Look(ctx context.Context) error {
	if err := l.put(ctx, nil); err != nil {
		return fmt.Errorf("looking at %s %q: %w", l.name, l.path, err)
	}
	return nil
}

// Close lets the batch that is being written end, refuses what waits behind it,
// closes the file and so releases its lock. From a disk that hangs it returns
// after ten seconds with an error; the lock is then held until the disk answers
// or the process ends. To call it again is fine.
func (l *lines) Close() error {
	l.close.Do(func() { close(l.closing) })
	var err error
	select {
	case <-l.done:
		err = l.closed
	case <-time.After(closeWait):
		err = fmt.Errorf("the disk has not answered for %v", closeWait)
	}
	if err != nil {
		return fmt.Errorf("closing %s %q: %w", l.name, l.path, cause(err))
	}
	return nil
}

// maxLine is the longest line in bytes, with its line break.
const maxLine = audit.MaxLine

// read reads the lines of a file of a kind.
func read[T any](r io.Reader, k kind, parse func([]byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		in := bufio.NewReaderSize(r, maxLine)
		offset := 0
		for n := 1; ; n++ {
			text, err := in.ReadSlice('\n')
			if err == io.EOF && len(text) == 0 {
				return
			}
			var value T
			if err = lineError(err); err == nil {
				value, err = parse(text)
			}
			if err != nil {
				var none T
				yield(none, fmt.Errorf("reading %s: line %d, at byte %d: %w", k.name, n, offset, err))
				return
			}
			if !yield(value, nil) {
				return
			}
			offset += len(text)
		}
	}
}

// ErrCutOff is returned for the end of a file whose last line has no line break: its
// writer died, or writes still.
var ErrCutOff = errors.New("it is cut off: want a line break at its end")

// lineError words what a bufio.Reader says of a line that it cannot give.
func lineError(err error) error {
	switch {
	case err == io.EOF:
		return ErrCutOff
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("want a line of at most %d bytes, got more", maxLine)
	}
	return err
}

// Path is where the file is, from the root.
func (l *lines) Path() string { return l.path }
