package client

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// WriteWalletFile writes the key of a wallet, 64 hexadecimal digits, to a new
// file of mode 0600. An existing file is never touched.
func WriteWalletFile(path string, w *Wallet) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("writing the wallet key: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := fmt.Fprintln(f, hex.EncodeToString(w.key.Serialize())); err != nil {
		return fmt.Errorf("writing the wallet key: %w", err)
	}
	return f.Sync()
}

// ReadWalletFile reads what WriteWalletFile wrote. A file that others than its
// owner can read is refused.
func ReadWalletFile(path string) (*Wallet, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the wallet key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the wallet key: %w", err)
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
