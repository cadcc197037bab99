package anchor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// lockedFile is the disk that is one: a file that this process alone appends to.
type lockedFile struct {
	*os.File
	path string // absolute
}

func (d lockedFile) Size() (int64, error) {
	held, err := d.Stat()
	if err != nil {
		return 0, err
	}
	named, err := os.Lstat(d.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(held, named) {
		return 0, meddled("it was moved, removed or replaced")
	}
	return held.Size(), err
}

// meddled is what somebody else did to a file. It names neither the file nor what is in
// it.
type meddled string

func (m meddled) Error() string { return string(m) }

// Public says it to anybody who asks whether the anchor works (see broker.Anchor).
func (m meddled) Public() string { return string(m) }

// check looks at an open file, whose name may lead elsewhere by now.
func (d lockedFile) check() error {
	info, err := d.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("want a regular file, got one of type %s", info.Mode().Type())
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("others than its owner can reach it: want mode 0600, got %04o", info.Mode().Perm())
	}
	return nil
}

// readTail wants the file to end with a whole line of its kind, and returns it; nil for
// an empty file. A write that was cut off, by a crash or a power failure, leaves the
// beginning of one; somebody must see that before anything is appended to it.
func (k kind) readTail(r io.ReaderAt, size int64, path string) ([]byte, error) {
	end := make([]byte, min(size, 2*maxLine))
	start := size - int64(len(end))
	if _, err := r.ReadAt(end, start); err != nil && err != io.EOF {
		return nil, err
	}
	whole := bytes.LastIndexByte(end, '\n') + 1
	switch {
	case whole == 0 && start > 0:
		return nil, fmt.Errorf("want a file of lines, got none that ends in its last %d bytes", len(end))
	case whole < len(end):
		good := start + int64(whole)
		return nil, fmt.Errorf("its last line is cut off, from byte %d to %d: nothing there was acknowledged; keep a copy, then run: truncate -s %d %s",
			good, size, good, path)
	case whole == 0:
		return nil, nil
	}
	last := bytes.LastIndexByte(end[:whole-1], '\n') + 1
	if err := k.check(end[last:]); err != nil {
		return nil, fmt.Errorf("its last line, from byte %d, is none of its kind: %w", start+int64(last), err)
	}
	return end[last:], nil
}
