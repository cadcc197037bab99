package audit

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Proof is that a record is in the tree of a signed head (RFC 6962, section 2.1.1).
// Who holds it, the record and the key of the log needs nothing else.
//
// Its text is that of C2SP tlog-proof. Its JSON is that of the broker's answers, which
// has the hash of the leaf besides.
type Proof struct {
	Index      int64    // of the record, from 0: its place less one
	Leaf       *Digest  // of the record; nil where the proof does not have it
	Hashes     []Digest // from the leaf's sibling up to the root's child
	Checkpoint string   // the signed head
	Extra      []byte   // of tlog-proof: no part of what is proven
}

// ErrChanged is returned for a record that is not the one that the tree has, or a tree
// that is not the one of its head.
var ErrChanged = errors.New("it was changed")

// Prove proves that the record of an ID is in the tree of the head: ErrNotInTree where
// it is not yet, sql.ErrNoRows where there is no such record. What the record says now
// is held against the tree, and the head against the keys of the log.
func (l *Log) Prove(ctx context.Context, tx *sql.Tx, id string) (Proof, error) {
	p, err := Prove(ctx, tx, id)
	if err != nil {
		return Proof{}, err
	}
	if _, err := p.Verify(l.origin, l.verifiers, *p.Leaf); err != nil {
		return Proof{}, fmt.Errorf("proving record %s: %w", id, err)
	}
	return p, nil
}

// Prove proves as Log.Prove does, for who has no key: that the head is signed is left
// to those who verify the proof.
func Prove(ctx context.Context, tx *sql.Tx, id string) (Proof, error) {
	e, err := ByID(ctx, tx, id)
	if err != nil {
		return Proof{}, err
	}
	_, text, err := readHead(ctx, tx)
	if err != nil {
		return Proof{}, err
	}
	if text == "" {
		return Proof{}, fmt.Errorf("proving record %s: %w", id, ErrNotInTree)
	}
	head, err := claimed(text)
	if err != nil {
		return Proof{}, fmt.Errorf("reading the head of the audit log: %w", err)
	}
	if e.Seq > head.Size {
		return Proof{}, fmt.Errorf("proving record %s: %w", id, ErrNotInTree)
	}
	leaf := e.LeafHash(e.Digest())
	path, err := tlog.ProveRecord(head.Size, e.Seq-1, hashes(ctx, tx, head))
	if err == nil {
		err = tlog.CheckRecord(path, head.Size, tlog.Hash(head.Root), e.Seq-1, tlog.Hash(leaf))
	}
	if err != nil {
		return Proof{}, fmt.Errorf("proving record %s at place %d: %w: %w", id, e.Seq, ErrChanged, err)
	}
	return Proof{Index: e.Seq - 1, Leaf: &leaf, Hashes: fromTree(path), Checkpoint: head.Note}, nil
}

// Verify returns the head in whose tree the leaf of that hash is, at the proof's index.
func (p Proof) Verify(origin string, verifiers []note.Verifier, leaf Digest) (Checkpoint, error) {
	head, err := OpenCheckpoint(p.Checkpoint, origin, verifiers...)
	if err != nil {
		return Checkpoint{}, err
	}
	if p.Leaf != nil && *p.Leaf != leaf {
		return Checkpoint{}, fmt.Errorf("verifying the proof: it is of the leaf %s, and the record's is %s", p.Leaf, leaf)
	}
	if err := tlog.CheckRecord(toTree(p.Hashes), head.Size, tlog.Hash(head.Root), p.Index, tlog.Hash(leaf)); err != nil {
		return Checkpoint{}, fmt.Errorf("verifying the proof: the leaf %s is not at index %d of the tree of %s: %w", leaf, p.Index, Count(head.Size, "record"), err)
	}
	return head, nil
}

func fromTree(hashes []tlog.Hash) []Digest {
	digests := make([]Digest, len(hashes))
	for i, h := range hashes {
		digests[i] = Digest(h)
	}
	return digests
}

func toTree(digests []Digest) []tlog.Hash {
	hashes := make([]tlog.Hash, len(digests))
	for i, d := range digests {
		hashes[i] = tlog.Hash(d)
	}
	return hashes
}

// proofVersion is the first line of a proof (C2SP tlog-proof).
const proofVersion = "c2sp.org/tlog-proof@v1"

// The bounds of a proof that is read. A tree has at most 2^63 leaves.
const (
	maxProof       = 64 << 10 // bytes
	maxProofHashes = 63
)

// Text is the proof as C2SP tlog-proof has it.
func (p Proof) Text() string {
	var b strings.Builder
	b.WriteString(proofVersion + "\n")
	if len(p.Extra) > 0 {
		b.WriteString("extra " + base64.StdEncoding.EncodeToString(p.Extra) + "\n")
	}
	fmt.Fprintf(&b, "index %d\n", p.Index)
	for _, h := range p.Hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	return b.String() + "\n" + p.Checkpoint
}

// ParseProof reads a proof, as Text writes it or as MarshalJSON does. It looks at no
// signature.
func ParseProof(text []byte) (Proof, error) {
	if len(text) > maxProof {
		return Proof{}, fmt.Errorf("reading proof: want at most %d bytes, got %d", maxProof, len(text))
	}
	parse := parseProofText
	if bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) {
		parse = parseProofJSON
	}
	p, err := parse(text)
	if err != nil {
		return Proof{}, fmt.Errorf("reading proof: %w", err)
	}
	return p, nil
}

func parseProofText(text []byte) (p Proof, err error) {
	head, checkpoint, found := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	if !found || lines[0] != proofVersion {
		return p, fmt.Errorf("want %s in the first line, and an empty line before the checkpoint", proofVersion)
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if p.Extra, err = decode64(lines[0][len("extra "):]); err != nil || len(p.Extra) == 0 {
			return p, errors.New("extra: want base64")
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return p, errors.New("want a line with the index")
	}
	if p.Index, err = parseIndex(lines[0][len("index "):]); err != nil {
		return p, err
	}
	for i, line := range lines[1:] {
		hash, err := decode64(line)
		if err != nil || len(hash) != len(Digest{}) || i == maxProofHashes {
			return p, fmt.Errorf("hash %d: want %d bytes in base64, and at most %d of them, got %.60q", i+1, len(Digest{}), maxProofHashes, line)
		}
		p.Hashes = append(p.Hashes, Digest(hash))
	}
	p.Checkpoint = checkpoint
	_, err = claimed(checkpoint)
	return p, err
}

func decode64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which the decoder passes over
		return nil, errors.New("want no line breaks")
	}
	return base64.StdEncoding.Strict().DecodeString(text)
}

func parseIndex(digits string) (int64, error) {
	index, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || index < 0 || strconv.FormatInt(index, 10) != digits {
		return 0, fmt.Errorf("index: want digits without leading zeros, got %.40q", digits)
	}
	return index, nil
}

// proofJSON is a proof in JSON, its hashes in hexadecimal. Origin and size are those of
// the checkpoint.
type proofJSON struct {
	Origin     string   `json:"origin"`
	Index      int64    `json:"index"`
	Size       int64    `json:"size"`
	LeafHash   string   `json:"leaf_hash"`
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"`
}

// MarshalJSON is the proof as the broker answers with it.
func (p Proof) MarshalJSON() ([]byte, error) {
	head, err := claimed(p.Checkpoint)
	if err != nil {
		return nil, fmt.Errorf("writing proof: %w", err)
	}
	if p.Leaf == nil {
		return nil, errors.New("writing proof: want the hash of the leaf, got none")
	}
	j := proofJSON{Origin: head.Origin, Index: p.Index, Size: head.Size, LeafHash: p.Leaf.String(), Hashes: []string{}, Checkpoint: p.Checkpoint}
	for _, h := range p.Hashes {
		j.Hashes = append(j.Hashes, h.String())
	}
	return json.Marshal(j)
}

func parseProofJSON(text []byte) (p Proof, err error) {
	var j proofJSON
	if err := strictly(text, &j); err != nil {
		return p, err
	}
	if err := namedOnce(text, reflect.TypeFor[proofJSON]()); err != nil {
		return p, err
	}
	head, err := claimed(j.Checkpoint)
	if err != nil {
		return p, err
	}
	if j.Origin != head.Origin || j.Size != head.Size {
		return p, fmt.Errorf("want the origin %q and the size %d of its checkpoint, got %q and %d", head.Origin, head.Size, j.Origin, j.Size)
	}
	if j.Index < 0 || len(j.Hashes) > maxProofHashes {
		return p, fmt.Errorf("want an index from 0 and at most %d hashes, got %d and %d", maxProofHashes, j.Index, len(j.Hashes))
	}
	leaf, err := ParseDigest(j.LeafHash)
	if err != nil {
		return p, fmt.Errorf("leaf_hash: %w", err)
	}
	p = Proof{Index: j.Index, Leaf: &leaf, Checkpoint: j.Checkpoint}
	for _, text := range j.Hashes {
		h, err := ParseDigest(text)
		if err != nil {
			return p, fmt.Errorf("hashes: %w", err)
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// namedOnce refuses an object of JSON that does not have each member of a struct once
// and by its own name. encoding/json takes the last of two members, and any spelling of
// a name's case: another reader would read another proof.
func namedOnce(text []byte, of reflect.Type) error {
	var left []string
	for f := range of.Fields() {
		left = append(left, f.Tag.Get("json"))
	}
	d := json.NewDecoder(bytes.NewReader(text))
	_, _ = d.Token() // the bracket: the text was read before as JSON, so no token fails
	for d.More() {
		name, _ := d.Token()
		i := slices.Index(left, fmt.Sprint(name))
		if i < 0 {
			return fmt.Errorf("want each member once and by its name, got %.40q", name)
		}
		left = slices.Delete(left, i, i+1)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	if len(left) > 0 {
		return fmt.Errorf("want the member %q, got none", left[0])
	}
	return nil
}

// ParseDigest reads what Digest.String writes.
func ParseDigest(text string) (d Digest, err error) {
	if hex.DecodedLen(len(text)) != len(d) || !lowerHex([]byte(text)) {
		return d, fmt.Errorf("want %d lower-case digits of hexadecimal, got %.80q", 2*len(d), text)
	}
	_, err = hex.Decode(d[:], []byte(text))
	return d, err
}
