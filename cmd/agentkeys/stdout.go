package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// output is standard output that remembers that it failed, and that its reader went
// away: what a command printed and nobody got to read must not pass for done.
type output struct {
	io.Writer
	gone   bool
	failed error // of the first write that failed
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		o.gone = true
	}
	if err != nil && o.failed == nil {
		o.failed = fmt.Errorf("printing: %w", err)
	}
	return n, err
}

// bare is what w writes to, without its memory.
func bare(w io.Writer) io.Writer {
	if o, ok := w.(*output); ok {
		return o.Writer
	}
	return w
}

// helpOutput is standard output for cobra, which would tell of a reader that went
// away.
type helpOutput struct{ io.Writer }

func (h helpOutput) Write(p []byte) (int, error) {
	n, err := h.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		return len(p), nil
	}
	return n, err
}
