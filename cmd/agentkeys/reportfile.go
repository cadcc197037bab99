package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// reportFile is a report that goes into a file.
type reportFile struct {
	path  string
	write func(io.Writer) error
}

// checkNew refuses, before there is anything to write, a file that is there
// already and a folder that is not.
func checkNew(flag, path string) error {
	switch _, err := os.Lstat(path); {
	case err == nil:
		return hint{fmt.Errorf("--%s: %s is there already; a report is never written over a file", flag, path), "name another file"}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("--%s: %w", flag, err)
	}
	info, err := os.Stat(filepath.Dir(path))
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no folder", filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("--%s: %w", flag, err)
	}
	return nil
}

// save writes the report to a new file of mode 0644, whole or not at all: a link
// gives the finished file its name, and fails where the name is taken.
func (r reportFile) save() (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the report %s: %w", r.path, err)
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(r.path), ".report-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	err = r.write(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), r.path)
}
