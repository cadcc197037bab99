package audit_test

import (
	"bytes"
	"crypto"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/transparency-dev/formats/log"
	tlogproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// vkeyOf is the verifier's text.
func vkeyOf(t testing.TB, v note.Verifier) string {
	t.Helper()
	text, ok := v.(interface{ text() string })
	if !ok {
		t.Fatalf("%T has no text", v)
	}
	return text.text()
}

// An outsider is a program that knows nothing of this package.
type outsider struct {
	name string
	run  func(t testing.TB, args ...string) (string, error)
}

// outsiders are one of Go, on golang.org/x/mod alone, and one of Python, on its standard
// library alone.
func outsiders(t *testing.T) []outsider {
	t.Helper()
	program := filepath.Join(t.TempDir(), "verifier")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./testdata/verifier").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := func(name string, before ...string) outsider {
		return outsider{name, func(t testing.TB, args ...string) (string, error) {
			out, err := exec.CommandContext(t.Context(), before[0], append(before[1:], args...)...).CombinedOutput()
			return string(out), err
		}}
	}
	return []outsider{run("Go", program), run("Python", "python3", "testdata/verify.py")}
}

// needPython skips by name: continuous integration installs it.
func needPython(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("NOT RUN: the verifier in Python: no python3 here")
	}
}

func TestOutsidersAcceptOurExports(t *testing.T) {
	l := newLedger(t, placed, unplaced)
	l.tamper(t, eraseSQL(t, l, 20), eraseSQL(t, l, 600))
	export := string(l.export(t))
	pruned := prunedLine(t, export, 30)
	for _, o := range outsiders(t) {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			if o.name == "Python" {
				needPython(t)
			}
			path := filepath.Join(t.TempDir(), "export")
			for name, text := range map[string]string{"whole": export, "pruned": pruned} {
				write(t, path, text)
				if out, err := o.run(t, vkeyOf(t, l.verifier), path); err != nil || out != "600 records\n" {
					t.Errorf("%s: %v %s", name, err, out)
				}
			}
			for name, text := range map[string]string{
				"a leaf":        strings.Replace(export, `"issued"`, `"issuex"`, 1),
				"a person":      strings.Replace(export, "2001:db8::1", "2001:db8::2", 1),
				"a line less":   export[strings.IndexByte(export, '\n')+1:],
				"the signature": strings.Replace(export, lastSignature(export)[:8], flip(lastSignature(export)[:8]), 1),
				"the size":      strings.Replace(export, `\n600\n`, `\n599\n`, 1),
				"two swapped":   swapLines(export, 5, 6),
				"a pruned hash": strings.Replace(pruned, `{"place":30,"hash":"`, `{"place":30,"hash":"00`, 1),
			} {
				write(t, path, text)
				if out, err := o.run(t, vkeyOf(t, l.verifier), path); err == nil || text == export {
					t.Errorf("%s was changed, and it says: %s", name, out)
				}
			}
		})
	}
}

// prunedLine has no more than the hash of the record at a place.
func prunedLine(t testing.TB, export string, place int) string {
	t.Helper()
	lines := strings.SplitAfter(export, "\n")
	l, err := audit.ParseLine([]byte(lines[place-1]))
	if err != nil {
		t.Fatal(err)
	}
	lines[place-1] = string((&audit.RawLine{Place: l.Place, Hash: l.Hash}).Append(nil))
	return strings.Join(lines, "")
}

// lastSignature is the base64 of the signature in an export, behind the key's hash.
func lastSignature(export string) string {
	text := export[strings.LastIndex(export, "— ")+len("— "):]
	return text[strings.IndexByte(text, ' ')+1+6:]
}

func flip(text string) string {
	b := []byte(text)
	if b[0] == 'A' {
		b[0] = 'B'
	} else {
		b[0] = 'A'
	}
	return string(b)
}

// swapLines puts two records at one another's place, and says so.
func swapLines(export string, a, b int) string {
	lines := strings.SplitAfter(export, "\n")
	first, second := lines[a-1], lines[b-1]
	number := func(line string, n string) string { return `{"place":` + n + line[strings.IndexByte(line, ','):] }
	lines[a-1], lines[b-1] = number(second, "5"), number(first, "6")
	return strings.Join(lines, "")
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPythonAcceptsOurProofs(t *testing.T) {
	needPython(t)
	l := newLedger(t, placed, 0)
	dir := t.TempDir()
	export, proofFile, lineFile := filepath.Join(dir, "export"), filepath.Join(dir, "proof"), filepath.Join(dir, "line")
	write(t, export, string(l.export(t)))
	python := outsiders(t)[1]
	l.with(t, func(s *store.Store) {
		all := after(t, s, 0)
		for _, place := range []int{1, 257, 600} {
			e := all[place-1]
			write(t, proofFile, l.prove(t, s, e.ID).Text())
			write(t, lineFile, string(e.Line()))
			if out, err := python.run(t, vkeyOf(t, l.verifier), export, proofFile, lineFile); err != nil {
				t.Errorf("place %d: %v %s", place, err, out)
			}
			write(t, lineFile, string(all[place%600].Line()))
			if out, err := python.run(t, vkeyOf(t, l.verifier), export, proofFile, lineFile); err == nil {
				t.Errorf("the proof of place %d is one of another record: %s", place, out)
			}
		}
	})
}

func (l *ledger) prove(t testing.TB, s *store.Store, id string) (p audit.Proof) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		p, err = l.log.Prove(t.Context(), tx, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The libraries of the transparency.dev community read our checkpoints and proofs, and
// agree with them.
func TestTransparencyDevAgrees(t *testing.T) {
	l := newLedger(t, placed, 0)
	hasher := rfc6962.New(crypto.SHA256)
	l.with(t, func(s *store.Store) {
		for _, e := range after(t, s, 0) {
			if e.Seq%5 != 1 && e.Seq != 256 && e.Seq < 599 {
				continue
			}
			ours := l.prove(t, s, e.ID)
			var p tlogproof.TLogProof
			if err := p.Unmarshal([]byte(ours.Text())); err != nil {
				t.Fatal(err)
			}
			head, rest, _, err := log.ParseCheckpoint(p.Checkpoint, origin, l.verifier)
			if err != nil || len(rest) > 0 || head.Size != placed {
				t.Fatalf("%v, %q behind %+v", err, rest, head)
			}
			var hashes [][]byte
			for _, h := range p.Hashes {
				hashes = append(hashes, h[:])
			}
			if err := proof.VerifyInclusion(hasher, p.Index, head.Size, hasher.HashLeaf(e.Leaf()), hashes, head.Hash); err != nil {
				t.Fatalf("place %d: %v", e.Seq, err)
			}
			if err := proof.VerifyInclusion(hasher, p.Index, head.Size, hasher.HashLeaf(append(e.Leaf(), ' ')), hashes, head.Hash); err == nil {
				t.Fatalf("place %d: another leaf is in the tree", e.Seq)
			}
			if again := p.Marshal(); !bytes.Equal(again, []byte(ours.Text())) {
				t.Fatalf("they write %s, we write %s", again, ours.Text())
			}
		}
		l.consistent(t, s, hasher)
	})
}

// consistent has the library follow the log from head to head.
func (l *ledger) consistent(t testing.TB, s *store.Store, hasher *rfc6962.Hasher) {
	t.Helper()
	for line := range bytes.Lines(l.heads) {
		earlier, _, _, err := log.ParseCheckpoint(decodeHead(t, line), origin, l.verifier)
		if err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(tx *sql.Tx) error {
			ours, head, err := l.log.Consistency(t.Context(), tx, int64(earlier.Size), 0)
			if err != nil {
				return err
			}
			var hashes [][]byte
			for _, h := range ours {
				hashes = append(hashes, h[:])
			}
			return proof.VerifyConsistency(hasher, earlier.Size, uint64(head.Size), hashes, earlier.Hash, head.Root[:])
		})
		if err != nil {
			t.Errorf("from %d: %v", earlier.Size, err)
		}
	}
}
