package main

import (
	"errors"
	"io"
	"syscall"
)

// output is standard output that remembers that its reader went away.
type output struct {
	io.Writer
	gone bool
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		o.gone = true
	}
	return n, err
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
