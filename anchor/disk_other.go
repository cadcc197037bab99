//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package anchor

import (
	"fmt"
	"runtime"
)

// openDisk refuses: without flock(2) two brokers could append to one file.
func openDisk(string, string) (lockedFile, error) {
	return lockedFile{}, fmt.Errorf("locking the file is not supported on %s", runtime.GOOS)
}
