package client

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// WriteWalletFile writes the key of a wallet, 64 hexadecimal digits, to a new
// file of mode 0600, and flushes both. An existing file is never touched, and
// where writing fails nothing stays behind.
func WriteWalletFile(path string, w *Wallet) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the wallet key, never over an existing file: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the wallet key: %w", errors.Join(err, os.Remove(path)))
		}
	}()
	_, err = fmt.Fprintln(f, hex.EncodeToString(w.key.Serialize()))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// ReadWalletFile reads what WriteWalletFile wrote. What is no file, and a file
// that others than its owner can read, is refused.
func ReadWalletFile(path string) (*Wallet, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO would wait for ever
	if err != nil {
		return nil, fmt.Errorf("reading the wallet key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the wallet key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("reading the wallet key %s: want a file, got %s", path, kind(info.Mode()))
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("reading the wallet key %s: want mode 0600, got %#o", path, perm)
	}
	data, err := io.ReadAll(io.LimitReader(f, 1024))
	if err != nil {
		return nil, fmt.Errorf("reading the wallet key: %w", err)
	}
	w, err := ParseWallet(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, fmt.Errorf("reading the wallet key %s: %w", path, err)
	}
	return w, nil
}

// kind says what is not a file.
func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a folder"
	case mode&fs.ModeDevice != 0:
		return "a device"
	case mode&fs.ModeNamedPipe != 0:
		return "a FIFO"
	}
	return mode.Type().String()
}
