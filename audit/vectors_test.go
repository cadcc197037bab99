package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

const vectorsFile = "testdata/vectors.json"

// vectors are what testdata/vectors.json has: records, what each comes to, and the heads
// of the log that they are, signed by a key that everybody knows.
type vectors struct {
	About    string         `json:"about"`
	Origin   string         `json:"origin"`
	Seed     string         `json:"seed"`
	Verifier string         `json:"verifier"`
	Records  []vectorRecord `json:"records"`
	Heads    []vectorHead   `json:"heads"`
	Proofs   []vectorProof  `json:"proofs"`
}

type vectorRecord struct {
	Name    string            `json:"name"`
	Members map[string]string `json:"members"`
	Salt    string            `json:"salt"`
	Erased  bool              `json:"erased,omitempty"`
	Person  string            `json:"person"` // the text
	Digest  string            `json:"digest"`
	Leaf    string            `json:"leaf"`
	Hash    string            `json:"hash"`
	Line    string            `json:"line"`
}

type vectorHead struct {
	Size       int64  `json:"size"`
	Root       string `json:"root"`
	Checkpoint string `json:"checkpoint"`
}

type vectorProof struct {
	Place int64  `json:"place"`
	Text  string `json:"text"`
}

// memberOf are the texts of a record by their names in JSON.
func memberOf(r *audit.Record, name string) *string {
	if name == "id" {
		return &r.ID
	}
	if name == "detail" {
		return &r.Detail
	}
	return members[name](r)
}

// entry is the record of a vector.
func (v vectorRecord) entry(t testing.TB, place int64) audit.Entry {
	t.Helper()
	e := audit.Entry{Record: audit.Record{Seq: place}}
	for name, value := range v.Members {
		if name == "time" {
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				t.Fatal(err)
			}
			e.Time = at
			continue
		}
		*memberOf(&e.Record, name) = value
	}
	salt, err := hex.DecodeString(v.Salt)
	if err != nil {
		t.Fatal(err)
	}
	e.Salt = salt
	return e
}

// erased is the entry without its personal members.
func erased(e audit.Entry) audit.Entry {
	digest := e.Digest()
	e.Person, e.Salt = digest[:], nil
	for _, name := range []string{"agent", "identity_type", "identity_value", "omni_account", "scope_path", "source", "tenant", "wallet"} {
		*members[name](&e.Record) = ""
	}
	return e
}

// testKey is the note key of a seed.
func testKey(t testing.TB, seed, origin string) (note.Signer, note.Verifier, string) {
	t.Helper()
	private, err := hex.DecodeString(seed)
	if err != nil {
		t.Fatal(err)
	}
	public := ed25519.NewKeyFromSeed(private).Public().(ed25519.PublicKey)
	vkey, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	var hash [4]byte
	binary.BigEndian.PutUint32(hash[:], verifier.KeyHash())
	signer, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%x+%s", origin, hash, base64.StdEncoding.EncodeToString(append([]byte{1}, private...))))
	if err != nil {
		t.Fatal(err)
	}
	return signer, verifier, vkey
}

// compute fills in what the records come to.
func (v *vectors) compute(t testing.TB) {
	t.Helper()
	signer, _, vkey := testKey(t, v.Seed, v.Origin)
	v.Verifier = vkey
	v.Heads, v.Proofs = nil, nil
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, i := range indexes {
			found = append(found, stored[i])
		}
		return found, nil
	})
	for i := range v.Records {
		r := &v.Records[i]
		e := r.entry(t, int64(i+1))
		r.Person = string(e.PersonText())
		r.Digest = e.Digest().String()
		if r.Erased {
			e = erased(e)
		}
		r.Leaf = string(e.Leaf())
		r.Hash = e.LeafHash(e.Digest()).String()
		r.Line = strings.TrimSuffix(string(e.Line()), "\n")
		more, err := tlog.StoredHashes(int64(i), []byte(r.Leaf), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
		v.head(t, int64(i+1), reader, signer)
	}
	for i := range v.Records {
		v.proof(t, int64(i), reader)
	}
}

func (v *vectors) head(t testing.TB, size int64, reader tlog.HashReader, signer note.Signer) {
	t.Helper()
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: fmt.Sprintf("%s\n%d\n%s\n", v.Origin, size, root)}, signer)
	if err != nil {
		t.Fatal(err)
	}
	v.Heads = append(v.Heads, vectorHead{size, hex.EncodeToString(root[:]), string(signed)})
}

func (v *vectors) proof(t testing.TB, index int64, reader tlog.HashReader) {
	t.Helper()
	path, err := tlog.ProveRecord(int64(len(v.Records)), index, reader)
	if err != nil {
		t.Fatal(err)
	}
	p := audit.Proof{Index: index, Checkpoint: v.Heads[len(v.Heads)-1].Checkpoint}
	for _, h := range path {
		p.Hashes = append(p.Hashes, audit.Digest(h))
	}
	v.Proofs = append(v.Proofs, vectorProof{index + 1, p.Text()})
}

func readVectors(t testing.TB) (v vectors) {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if len(v.Records) < 5 {
		t.Fatalf("%d records", len(v.Records))
	}
	return v
}

// The vectors are what we make of their records.
func TestVectorsFromRecords(t *testing.T) {
	want := readVectors(t)
	got := readVectors(t)
	got.compute(t)
	if *update {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(got); err != nil {
			t.Fatal(err)
		}
		write(t, vectorsFile, b.String())
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("vectors (-want +got):\n%s", diff)
	}
}

// And their lines, heads and proofs read back as the records.
func TestVectorsToRecords(t *testing.T) {
	v := readVectors(t)
	_, verifier, _ := testKey(t, v.Seed, v.Origin)
	for i, r := range v.Records {
		line, err := audit.ParseLine([]byte(r.Line))
		if err == nil {
			err = line.Check()
		}
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		got, err := line.Entry()
		if err != nil {
			t.Fatalf("%s: %v", r.Name, err)
		}
		want := r.entry(t, int64(i+1))
		if r.Erased {
			want = erased(want)
		}
		want.Hash = line.Hash[:]
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", r.Name, diff)
		}
		p, err := audit.ParseProof([]byte(v.Proofs[i].Text))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Verify(v.Origin, []note.Verifier{verifier}, line.Hash); err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
	}
	for _, h := range v.Heads {
		c, err := audit.OpenCheckpoint(h.Checkpoint, v.Origin, verifier)
		if err != nil || c.Size != h.Size || c.Root.String() != h.Root {
			t.Errorf("head of %d: %+v, %v", h.Size, c, err)
		}
	}
}

// Others come to the same: the vectors as an export and its proofs.
func TestVectorsToOutsiders(t *testing.T) {
	v := readVectors(t)
	dir := t.TempDir()
	var export strings.Builder
	for _, r := range v.Records {
		export.WriteString(r.Line + "\n")
	}
	export.Write(endLine(t, audit.Checkpoint{Note: v.Heads[len(v.Heads)-1].Checkpoint}))
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("export"), export.String())
	want := fmt.Sprintf("%d records\n", len(v.Records))
	for _, o := range outsiders(t) {
		t.Run(o.name, func(t *testing.T) {
			args := []string{v.Verifier, path("export")}
			if o.name == "Python" {
				needPython(t)
				write(t, path("proof"), v.Proofs[3].Text)
				write(t, path("line"), v.Records[3].Line)
				args = append(args, path("proof"), path("line"))
			}
			if out, err := o.run(t, args...); err != nil || out != want {
				t.Errorf("%v: %s, want %s", err, out, want)
			}
		})
	}
}
