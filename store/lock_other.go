//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package store

import (
	"fmt"
	"os"
	"runtime"
)

// lockFile refuses: without flock(2) two brokers could write one database.
func lockFile(string) (*os.File, error) {
	return nil, fmt.Errorf("locking the database is not supported on %s", runtime.GOOS)
}

// unlock gives up what lockFile never took.
func unlock(f *os.File) error { return f.Close() }
