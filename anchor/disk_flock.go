//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package anchor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// openDisk opens a file for appending and locks it. The kernel releases the lock
// when the process ends, however it ends. A FIFO or a terminal must not hold up
// the start, and a symbolic link could lead to the database's own disk, or to a
// file of somebody else's choice.
func openDisk(path, flag string) (lockedFile, error) {
	const flags = os.O_RDWR | os.O_APPEND | syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY
	f, err := os.OpenFile(path, flags, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return lockedFile{}, fmt.Errorf("%w; agentkeys init %s FILE makes one", fs.ErrNotExist, flag)
	case errors.Is(err, syscall.ELOOP):
		return lockedFile{}, errors.New("want a regular file, got a symbolic link")
	case err != nil:
		return lockedFile{}, err
	}
	d := lockedFile{f, path}
	if err = d.check(); err == nil {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		_ = f.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrInUse
		}
		return lockedFile{}, err
	}
	return d, nil
}

// Close gives the file up. Closing alone would not do: another process that is being
// started here holds a copy of the descriptor until it runs its program, and the lock
// belongs to all copies (flock(2)).
func (d lockedFile) Close() error {
	return errors.Join(syscall.Flock(int(d.Fd()), syscall.LOCK_UN), d.File.Close())
}
