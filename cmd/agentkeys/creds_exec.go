package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// What a shell gives back for a command that it cannot run (POSIX.1-2024, Shell
// Command Language, 2.8.2).
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// runWithCredentials makes this process the command. So signals reach it, and its
// exit status is that of the command, with nobody between; and what this process
// knew is gone.
func (p *program) runWithCredentials(ctx context.Context, o credsOptions, command []string) error {
	path, err := findCommand(command[0]) // before a use of the grant is spent on it
	if err != nil {
		return err
	}
	given, err := o.ask(ctx)
	if err != nil {
		return err
	}
	restoreSignals()
	if err := ctx.Err(); err != nil { // a signal came before; from here on the next one ends the process
		return fmt.Errorf("running %s: %w", command[0], err)
	}
	err = syscall.Exec(path, command, withCredentials(p.environ, given))
	return status{exitNotExecutable, fmt.Errorf("running %s: %w", path, err)}
}

func findCommand(name string) (string, error) {
	path, err := exec.LookPath(name)
	var lookup *exec.Error
	if errors.As(err, &lookup) {
		err = lookup.Err
	}
	switch {
	case err == nil:
		return path, nil
	case errors.Is(err, fs.ErrPermission):
		return "", status{exitNotExecutable, fmt.Errorf("running %q: %w", name, err)}
	}
	return "", status{exitNotFound, fmt.Errorf("running %q: %w", name, err)}
}

// restoreSignals gives the command the signals that this process was given: caught
// ones go back to their defaults by themselves, ignored ones stay ignored, and
// runProcess ignores SIGPIPE.
func restoreSignals() {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signal.Reset(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}
