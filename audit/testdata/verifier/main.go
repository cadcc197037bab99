// Command verifier verifies an export of the audit log with nothing of AgentKeys: with
// golang.org/x/mod and encoding/json, as docs/audit-format.md says.
//
//	verifier VKEY EXPORT
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// line is a line of an export.
type line struct {
	Place      int64           `json:"place"`
	Leaf       json.RawMessage `json:"leaf"`
	Person     json.RawMessage `json:"person"`
	Salt       string          `json:"salt"`
	Hash       string          `json:"hash"`
	Checkpoint string          `json:"checkpoint"`
}

func main() {
	if len(os.Args) != 3 {
		fail(fmt.Errorf("usage: verifier VKEY EXPORT"))
	}
	n, err := verify(os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	fmt.Printf("%d records\n", n)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "verifier:", err)
	os.Exit(1)
}

func verify(vkey, path string) (int64, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := int64(0); lines.Scan(); n++ {
		var l line
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return 0, err
		}
		if l.Checkpoint != "" {
			return n, checkHead(l.Checkpoint, verifier, n, reader)
		}
		if l.Place != n+1 {
			return 0, fmt.Errorf("want place %d, got %d", n+1, l.Place)
		}
		hash, err := l.check()
		if err != nil {
			return 0, fmt.Errorf("place %d: %w", l.Place, err)
		}
		more, err := tlog.StoredHashesForRecordHash(n, hash, reader)
		if err != nil {
			return 0, err
		}
		stored = append(stored, more...)
	}
	return 0, fmt.Errorf("no checkpoint: %v", lines.Err())
}

// check holds a leaf against its hash, and the personal members against the leaf.
func (l line) check() (hash tlog.Hash, err error) {
	if l.Leaf == nil { // pruned
		b, err := hex.DecodeString(l.Hash)
		copy(hash[:], b)
		return hash, err
	}
	hash = tlog.RecordHash(l.Leaf)
	if got := hex.EncodeToString(hash[:]); got != l.Hash {
		return hash, fmt.Errorf("want the hash %s, got %s", l.Hash, got)
	}
	var leaf struct {
		Person string `json:"person"`
	}
	if err := json.Unmarshal(l.Leaf, &leaf); err != nil || l.Person == nil {
		return hash, err
	}
	salt, err := hex.DecodeString(l.Salt)
	if err != nil {
		return hash, err
	}
	if digest := sha256.Sum256(append(salt, l.Person...)); hex.EncodeToString(digest[:]) != leaf.Person {
		return hash, fmt.Errorf("want the digest %s, got %x", leaf.Person, digest)
	}
	return hash, nil
}

// checkHead holds the head against its signature and against the tree.
func checkHead(text string, verifier note.Verifier, n int64, reader tlog.HashReader) error {
	head, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return err
	}
	root, err := tlog.TreeHash(n, reader)
	if err != nil {
		return err
	}
	want := fmt.Sprintf("%s\n%d\n%s\n", verifier.Name(), n, root)
	if !bytes.Equal([]byte(head.Text), []byte(want)) {
		return fmt.Errorf("want the head\n%sgot\n%s", want, strings.TrimSpace(head.Text))
	}
	return nil
}
