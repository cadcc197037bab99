package localaws

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	stateName = "state.json"
	keyName   = "session.key"
	lockName  = "lock"
)

// stateStore holds the state in memory and on disk. Readers take the current
// snapshot without waiting; updates run one at a time.
type stateStore struct {
	dir     string
	lock    *os.File
	mu      sync.Mutex // serialises update, from the copy to the published snapshot
	current atomic.Pointer[snapshot]
}

// envelope is the state file: the state as it was written and its digest, so
// that damage is noticed even where it still reads as JSON.
type envelope struct {
	Format int             `json:"format"`
	SHA256 string          `json:"sha256"`
	State  json.RawMessage `json:"state"`
}

func (s *stateStore) snapshot() *snapshot { return s.current.Load() }

// update runs fn on a copy of the state. The copy takes effect once it is
// durable; where fn refuses, or writing fails, nothing has changed.
func (s *stateStore) update(fn func(*snapshot) *apiError) (*apiError, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := json.Marshal(s.snapshot().state)
	if err != nil {
		return nil, fmt.Errorf("copying state: %w", err)
	}
	draft := &snapshot{state: new(state)}
	if err := json.Unmarshal(before, draft.state); err != nil {
		return nil, fmt.Errorf("copying state: %w", err)
	}
	if refused := fn(draft); refused != nil {
		return refused, nil
	}
	if err := writeState(s.dir, draft.state); err != nil {
		return nil, err
	}
	s.current.Store(&snapshot{state: draft.state})
	return nil, nil
}

func (s *stateStore) close() error { return unlock(s.lock) }

// unlock gives the folder up. Closing alone would not be enough: a child that
// is just being started holds a copy of the descriptor until it runs its program.
func unlock(f *os.File) error {
	return errors.Join(syscall.Flock(int(f.Fd()), syscall.LOCK_UN), f.Close())
}

// lockFolder takes the folder for this process; the lock goes with the process.
func lockFolder(dir string) (*os.File, error) {
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("opening state folder %q: %w", dir, errors.Unwrap(err))
	} else if !info.IsDir() {
		return nil, fmt.Errorf("opening state folder %q: it is not a folder", dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder %q cannot be written: %w", dir, errors.Unwrap(err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("locking state folder %q: another process uses it: %w", dir, err)
	}
	return f, nil
}

// createState writes a new folder's key and state; the state last, since its
// presence is what makes a folder an account.
func createState(dir string, st *state) error {
	lock, err := lockFolder(dir)
	if err != nil {
		return err
	}
	defer unlock(lock)
	if _, err := os.Lstat(filepath.Join(dir, stateName)); err == nil {
		return fmt.Errorf("creating state in %q: %s exists already", dir, stateName)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("creating state in %q: %w", dir, err)
	}
	key := make([]byte, sessionKeySize)
	rand.Read(key) // never fails, see crypto/rand
	if err := writeAtomic(dir, keyName, []byte(hex.EncodeToString(key)+"\n")); err != nil {
		return err
	}
	return writeState(dir, st)
}

func openState(dir string) (*stateStore, error) {
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	st, err := readState(dir)
	if err != nil {
		return nil, errors.Join(err, unlock(lock))
	}
	s := &stateStore{dir: dir, lock: lock}
	s.current.Store(&snapshot{state: st})
	return s, nil
}

func readState(dir string) (*state, error) {
	path := filepath.Join(dir, stateName)
	data, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("opening state folder %q: it holds no %s", dir, stateName)
	}
	if err != nil {
		return nil, err
	}
	st, err := decodeState(data)
	if err != nil {
		return nil, fmt.Errorf("reading state file %q: %w", path, err)
	}
	return st, nil
}

func decodeState(data []byte) (*state, error) {
	var version struct{ Format int }
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, err
	}
	if version.Format != stateFormat {
		return nil, fmt.Errorf("want format %d, got %d", stateFormat, version.Format)
	}
	var e envelope
	if err := decodeStrict(data, &e); err != nil {
		return nil, err
	}
	if got := digest(e.State); got != e.SHA256 {
		return nil, fmt.Errorf("it is damaged: want SHA-256 %s, got %s", e.SHA256, got)
	}
	st := newState("")
	if err := decodeStrict(e.State, st); err != nil {
		return nil, err
	}
	return st, st.check()
}

// check refuses a state whose parts do not fit together.
func (s *state) check() error {
	if !isAccountID(s.Account) {
		return fmt.Errorf("account: want twelve digits, got %q", s.Account)
	}
	if err := s.checkNames(); err != nil {
		return err
	}
	if s.Keys[s.AdminKey] == nil && s.AdminKey != "" {
		return fmt.Errorf("admin key %s: no such access key", s.AdminKey)
	}
	for id, k := range s.Keys {
		if k == nil || s.userByID(k.UserID) == nil {
			return fmt.Errorf("access key %s: its user does not exist", id)
		}
	}
	check := &snapshot{state: s}
	for name, r := range s.Roles {
		if _, err := check.compile(name, r.Trust); err != nil {
			return fmt.Errorf("role %q: trust policy: %w", name, err)
		}
		if _, err := check.policiesOf(&r.entity, "role "+name); err != nil {
			return fmt.Errorf("role %q: %w", name, err)
		}
	}
	for name, u := range s.Users {
		if _, err := check.policiesOf(&u.entity, "user "+name); err != nil {
			return fmt.Errorf("user %q: %w", name, err)
		}
	}
	for name, g := range s.Groups {
		if _, err := check.policiesOf(&g.entity, "group "+name); err != nil {
			return fmt.Errorf("group %q: %w", name, err)
		}
	}
	return nil
}

// checkNames holds that each thing is there and kept under its own name.
func (s *state) checkNames() error {
	wrong := func(kind, name string) error {
		return fmt.Errorf("%s %q: empty, or kept under another name", kind, name)
	}
	for name, r := range s.Roles {
		if r == nil || strings.ToLower(r.Name) != name {
			return wrong("role", name)
		}
	}
	for name, u := range s.Users {
		if u == nil || strings.ToLower(u.Name) != name {
			return wrong("user", name)
		}
	}
	for name, g := range s.Groups {
		if g == nil || strings.ToLower(g.Name) != name {
			return wrong("group", name)
		}
	}
	for arn, p := range s.Policies {
		if p == nil || s.policyARN(p) != arn || p.version(p.Default) == nil {
			return wrong("policy", arn)
		}
	}
	for name, p := range s.Providers {
		if p == nil || providerName(p.URL) != name {
			return wrong("OIDC provider", name)
		}
	}
	return nil
}

func writeState(dir string, st *state) error {
	body, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("encoding state: %w", err)
	}
	data, err := json.Marshal(envelope{Format: stateFormat, SHA256: digest(body), State: body})
	if err != nil {
		return fmt.Errorf("encoding state: %w", err)
	}
	return writeAtomic(dir, stateName, append(data, '\n'))
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// decodeStrict refuses unknown members and anything after the value.
func decodeStrict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more after the end")
	}
	return nil
}

// readPrivate reads a file that nobody but its owner may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading %q: want a regular file of mode 0600, got %v", path, mode)
	}
	return io.ReadAll(f)
}

// writeAtomic replaces a file so that a crash leaves the old or the new one.
func writeAtomic(dir, name string, data []byte) error {
	f, err := os.CreateTemp(dir, "."+name+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("state folder %q cannot be written: %w", dir, errors.Unwrap(err))
	}
	defer os.Remove(f.Name()) // gone already once renamed
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	if err == nil {
		err = syncFolder(dir)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// syncFolder makes a rename in the folder durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
