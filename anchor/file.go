package anchor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"agentkeys/audit"
)

// closeWait is how long Close waits for a disk that does not answer.
const closeWait = 10 * time.Second

// File is an append-only file of audit records, one JSON object a line. It is
// safe for concurrent use: records that wait share one write and one flush.
type File struct {
	path    string // absolute
	queue   chan *put
	closing chan struct{} // closed by Close
	close   sync.Once
	done    chan struct{} // closed when loop has returned
	closed  error         // of closing the disk; set before done is closed

	// Only loop's goroutine uses these.
	disk disk
	good int64 // size of the file, of which every byte is durable
	// broken is why nothing more may be written: it is not known what the file
	// holds behind good, or somebody else uses it.
	broken error
}

// CreateFile makes an empty file of mode 0600 and returns when it and its name
// are durable. It refuses a path where anything exists already, a symbolic link
// included.
func CreateFile(path string) error {
	if err := createFile(path); err != nil {
		return fmt.Errorf("creating anchor file %q: %w", path, cause(err))
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

// OpenFile opens a file that CreateFile made, for this process alone. It refuses
// a file that is missing, no regular file or a symbolic link, that others than
// its owner can reach, that another File has open (ErrInUse), and one whose last
// line is cut off or no record.
func OpenFile(path string) (*File, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, fmt.Errorf("opening anchor file %q: %w", path, cause(err))
	}
	return f, nil
}

func openFile(path string) (*File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	d, err := openDisk(path)
	if err != nil {
		return nil, err
	}
	size, err := d.Size()
	if err == nil {
		err = checkTail(d, size, path)
	}
	if err != nil {
		_ = d.Close() // nothing was written
		return nil, err
	}
	return newFile(path, d, size), nil
}

// newFile starts the loop, which Close ends.
func newFile(path string, d disk, size int64) *File {
	f := &File{
		path:    path,
		queue:   make(chan *put, maxBatch),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		disk:    d,
		good:    size,
	}
	go f.loop()
	return f
}

// Name is what the configuration and the answers of the broker call this kind.
func (f *File) Name() string { return "file" }

// Put appends the record, which audit.Append has completed, and returns nil when
// it is durable. After an error the record may be in the file or not, except
// that it is not when the error comes before any writing (it cannot be encoded,
// the context had ended, the file is closed or has stopped).
//
// Putting a record again is fine, and puts another line with the same content;
// Put does not look for two different records under one ID.
//
// When the context ends, Put returns at once, also while the disk hangs: what is
// being written goes on in the background, and a record that still waits for its
// turn is not written any more. A bounded number waits; further ones wait for
// room until their contexts end.
//
// When the disk is full, or takes a part only, the file is cut back to its last
// durable record and stays in use. When it cannot be cut, when a flush fails or
// when somebody else changed the file, it refuses everything until it is opened
// again.
func (f *File) Put(ctx context.Context, r audit.Record) error {
	if err := f.put(ctx, r); err != nil {
		return fmt.Errorf("putting audit record %.40q into anchor file %q: %w", r.ID, f.path, err)
	}
	return nil
}

func (f *File) put(ctx context.Context, r audit.Record) error {
	text, err := encode(r)
	if err != nil {
		return err
	}
	p := &put{ctx: ctx, text: text, outcome: make(chan error, 1)}
	select {
	case f.queue <- p:
	case <-ctx.Done():
		return ctx.Err()
	case <-f.closing:
		return ErrClosed
	}
	return f.await(p)
}

// await waits for what becomes of a put.
func (f *File) await(p *put) error {
	select {
	case err := <-p.outcome:
		return err
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-f.done:
	}
	select {
	case err := <-p.outcome: // it was in the last batch
		return err
	default:
		return ErrClosed
	}
}

// Close lets the batch that is being written end, refuses what waits behind it,
// closes the file and so releases its lock. From a disk that hangs it returns
// after ten seconds with an error; the lock is then held until the disk answers
// or the process ends. To call it again is fine.
func (f *File) Close() error {
	f.close.Do(func() { close(f.closing) })
	var err error
	select {
	case <-f.done:
		err = f.closed
	case <-time.After(closeWait):
		err = fmt.Errorf("the disk has not answered for %v", closeWait)
	}
	if err != nil {
		return fmt.Errorf("closing anchor file %q: %w", f.path, cause(err))
	}
	return nil
}
