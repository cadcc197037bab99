package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxReaders bounds the connections, and so the Views, that read side by side.
const maxReaders = 8

// An Option changes how Open opens a database.
type Option func(*options)

type options struct {
	readOnly bool
	ready    func() error // nil asks nobody
}

// ReadOnly opens for View alone. It takes no lock, so it also works beside a
// running broker, and it migrates nothing.
func ReadOnly() Option { return func(o *options) { o.readOnly = true } }

// BeforeUpgrade has Open ask before it changes an older database. An error of ready is
// Open's, and the database stays as it is, for the release that it is of.
func BeforeUpgrade(ready func() error) Option { return func(o *options) { o.ready = ready } }

// Create makes a new database file of mode 0600 with the current schema. It
// refuses a path where anything exists already. A file that it could not
// finish is removed.
func Create(ctx context.Context, path string) error {
	if err := create(ctx, path); err != nil {
		return fmt.Errorf("creating database %q: %w", path, err)
	}
	return nil
}

func create(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	lock, err := lockFile(lockPath(path))
	if err != nil {
		return err
	}
	defer unlock(lock)
	if err := makeFile(path); err != nil {
		return err
	}
	if err := migrate(ctx, path, migrations()); err != nil {
		for _, suffix := range []string{"", "-wal", "-shm"} {
			_ = os.Remove(path + suffix)
		}
		return explain(err)
	}
	return syncFolder(filepath.Dir(path))
}

// makeFile makes the empty file. A log without its database is what is left of
// one that was lost, and SQLite would delete it, so it is refused as well.
func makeFile(path string) error {
	if _, err := os.Lstat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the log of an earlier database is there: %q", path+"-wal")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return errors.New("it exists already")
	}
	if err != nil {
		return err
	}
	return f.Close()
}

func lockPath(path string) string { return path + "-lock" }

// syncFolder makes the name of a new file as durable as its content.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Open opens the database at path and applies the migrations that it lacks. It
// refuses a file that is missing, open to others than its owner, not a database
// of AgentKeys, of a schema newer than this program knows, or in use (ErrInUse).
func Open(ctx context.Context, path string, opts ...Option) (*Store, error) {
	s, err := open(ctx, path, migrations(), opts)
	if err != nil {
		return nil, fmt.Errorf("opening database %q: %w", path, explain(err))
	}
	return s, nil
}

func open(ctx context.Context, path string, migrations fs.FS, opts []Option) (_ *Store, err error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := checkFile(path); err != nil {
		return nil, err
	}
	s := &Store{}
	defer func() {
		if err != nil {
			_ = s.disconnect()
		}
	}()
	if !o.readOnly {
		if s.lock, err = lockFile(lockPath(path)); err != nil {
			return nil, err
		}
	}
	if err := checkSchema(ctx, path, migrations, o); err != nil {
		return nil, err
	}
	if err := s.connect(ctx, path, o); err != nil {
		return nil, err
	}
	return s, nil
}

// connect opens the connections. The first of each kind is opened at once, so
// that a setting that is not in force is found now.
func (s *Store) connect(ctx context.Context, path string, o options) error {
	if !o.readOnly {
		if err := s.connectWriter(ctx, path); err != nil {
			return err
		}
	}
	c, err := newConnector(path, readerSettings, false)
	if err != nil {
		return err
	}
	s.readers = sql.OpenDB(c)
	s.readers.SetMaxOpenConns(maxReaders)
	s.readers.SetMaxIdleConns(maxReaders)
	return s.readers.PingContext(ctx)
}

func (s *Store) connectWriter(ctx context.Context, path string) error {
	c, err := newConnector(path, writerSettings, true)
	if err != nil {
		return err
	}
	s.writing = sql.OpenDB(c)
	s.writing.SetMaxOpenConns(1)
	conn, err := s.writing.Conn(ctx)
	if err != nil {
		return err
	}
	s.writer = newWriter(conn)
	go s.writer.loop()
	return nil
}

// checkFile looks at the file from outside, without opening it.
func checkFile(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New("it does not exist; agentkeys init creates one")
	}
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("want a regular file, got %s", info.Mode().Type())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("others than its owner can reach it: want mode 0600, got %04o", perm)
	}
	return nil
}
