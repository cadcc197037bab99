package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint is the signed head of a log: that its first Size records have the
// tree of this Root, and no others come between them.
type Checkpoint struct {
	Origin string // which log; also the name of the key that signed
	Size   int64
	Root   Digest
	Note   string // the signed text (C2SP tlog-checkpoint in a C2SP signed-note)
}

// text is what is signed.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]))
}

// sign fills in the note.
func (c *Checkpoint) sign(signer note.Signer) error {
	signed, err := note.Sign(&note.Note{Text: c.text()}, signer)
	if err != nil {
		return fmt.Errorf("signing checkpoint of %s: %w", Count(c.Size, "record"), err)
	}
	c.Note = string(signed)
	return nil
}

// OpenCheckpoint reads a checkpoint that one of the verifiers signed for the log of
// that origin. Signatures of others beside it, witnesses say, are let be.
func OpenCheckpoint(text, origin string, verifiers ...note.Verifier) (Checkpoint, error) {
	n, err := note.Open([]byte(text), note.VerifierList(verifiers...))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("opening checkpoint: %w", signatureError(err, verifiers))
	}
	c, err := readNote(n, text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("opening checkpoint: %w", err)
	}
	if c.Origin != origin {
		return Checkpoint{}, fmt.Errorf("opening checkpoint: want the log %q, got %q", origin, c.Origin)
	}
	return c, nil
}

// readNote reads what a note says. The base64 of its signatures must be the one that
// their bytes have: package note passes over bits that stand for none, and a note that
// can be changed is not the one that was signed.
func readNote(n *note.Note, text string) (Checkpoint, error) {
	for _, s := range append(n.Sigs[:len(n.Sigs):len(n.Sigs)], n.UnverifiedSigs...) {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return Checkpoint{}, fmt.Errorf("signature by %s+%08x: %w", s.Name, s.Hash, err)
		}
	}
	c, err := parseCheckpoint(n.Text)
	c.Note = text
	return c, err
}

// signatureError names whose signature was wanted and whose there is.
func signatureError(err error, verifiers []note.Verifier) error {
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return err
	}
	var want, got []string
	for _, v := range verifiers {
		want = append(want, fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash()))
	}
	for _, s := range unverified.Note.UnverifiedSigs {
		got = append(got, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return unsignedError{fmt.Sprintf("want a signature by %s, got %s", strings.Join(want, " or "), strings.Join(got, " and ")), err}
}

// unsignedError says in our words what a *note.UnverifiedNoteError says, which stays
// in reach of errors.As.
type unsignedError struct {
	text string
	err  error
}

func (e unsignedError) Error() string { return e.text }
func (e unsignedError) Unwrap() error { return e.err }

// parseCheckpoint reads the three lines. Further ones, which C2SP admits, are ours
// never, and are refused: what they mean is not known.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return Checkpoint{}, fmt.Errorf("want origin, size and root on a line each, got %s", Count(len(lines)-1, "line"))
	}
	c := Checkpoint{Origin: lines[0]}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("size: want digits without leading zeros, got %.40q", lines[1])
	}
	c.Size = size
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != len(c.Root) {
		return Checkpoint{}, fmt.Errorf("root: want %d bytes in base64, got %.60q", len(c.Root), lines[2])
	}
	copy(c.Root[:], root)
	return c, nil
}

func (c Checkpoint) tree() tlog.Tree { return tlog.Tree{N: c.Size, Hash: tlog.Hash(c.Root)} }
