package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	"agentkeys/audit"

	"pgregory.net/rapid"
)

// mustFindAny wants some finding, and a verdict that says so.
func mustFindAny(r *audit.Report) error {
	if len(r.Findings) == 0 || r.Integrity != audit.Broken && r.Completeness != audit.Incomplete {
		return fmt.Errorf("nothing was found: %+v", r)
	}
	return nil
}

// Whichever bit of an export is changed, it is found.
func TestEveryBitOfAnExportCounts(t *testing.T) {
	l := newLedger(t, 5, 0)
	export := l.export(t)
	mustBeGood(t, verifyExport(t, l.verification(), export))
	checkpoint := string(decodeHead(t, l.heads))
	changed := make([]byte, len(export))
	flip := func(bit int) {
		copy(changed, export)
		changed[bit/8] ^= 1 << (bit % 8)
		r, err := l.verification().Export(t.Context(), bytes.NewReader(changed), int64(len(changed)), checkpoint)
		if err != nil {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if err := mustFindAny(r); err != nil {
			t.Errorf("bit %d of byte %q in …%s…: %v", bit%8, export[bit/8], around(export, bit/8), err)
		}
	}
	// Of the checkpoint each bit, of each byte of the fourth line two, of the others a few.
	first, last := bytes.Index(export, []byte(`{"place":4,`)), bytes.LastIndex(export, []byte(`{"checkpoint"`))
	for bit := range len(export) * 8 {
		if at := bit / 8; bit%37 == 0 || at >= first && at < first+500 && (bit-at)%4 == 0 || at >= last {
			flip(bit)
		}
	}
}

func around(text []byte, at int) []byte { return text[max(0, at-20):min(len(text), at+20)] }

// Logs of any records are good, and any line that is changed, dropped, repeated or put
// elsewhere is found.
func TestAnyExportIsHeldToItsHead(t *testing.T) {
	l := newLedger(t, 300, 0)
	lines := bytes.SplitAfter(l.export(t), []byte("\n"))
	lines = lines[:len(lines)-1]
	rapid.Check(t, func(rt *rapid.T) {
		text := slices.Clone(lines)
		i := rapid.IntRange(0, len(text)-2).Draw(rt, "line")
		j := rapid.IntRange(0, len(text)-2).Filter(func(j int) bool { return j != i }).Draw(rt, "other")
		switch rapid.SampledFrom([]string{"drop", "repeat", "swap", "replace", "cut", "no head", "bytes"}).Draw(rt, "how") {
		case "drop":
			text = slices.Delete(text, i, i+1)
		case "repeat":
			text = slices.Insert(text, i, text[i])
		case "swap":
			text[i], text[j] = text[j], text[i]
		case "replace":
			text[i] = text[j]
		case "cut":
			text = append(text[:i:i], text[len(text)-1])
		case "no head":
			text = text[:len(text)-1]
		case "bytes":
			line := slices.Clone(text[i])
			at := rapid.IntRange(0, len(line)-1).Draw(rt, "at")
			to := rapid.Byte().Filter(func(b byte) bool { return b != line[at] }).Draw(rt, "to")
			line[at], text[i] = to, line
		}
		whole := bytes.Join(text, nil)
		r, err := l.verification().Export(t.Context(), bytes.NewReader(whole), int64(len(whole)), "")
		if err != nil {
			rt.Fatal(err)
		}
		if r.Integrity == audit.Intact && r.Completeness == audit.Complete {
			rt.Fatalf("nothing was found: %+v", r)
		}
	})
}

func TestExportsOfParts(t *testing.T) {
	l := newLedger(t, 300, 0)
	lines := bytes.SplitAfter(l.export(t), []byte("\n"))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	heads := bytes.SplitAfter(l.heads, []byte("\n"))
	end := func(n int) []byte {
		return endLine(t, audit.Checkpoint{Note: string(decodeHead(t, heads[n]))})
	}
	verify := func(text []byte, checkpoint string) *audit.Report {
		r, err := l.verification().Export(t.Context(), bytes.NewReader(text), int64(len(text)), checkpoint)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	// Exports that continue one another, each with its head.
	r := verify(join(join(lines[:100]...), end(0), join(lines[100:]...)), "")
	mustBeGood(t, r)
	if r.Heads != 1 {
		t.Errorf("%d heads agree, want the one in between", r.Heads)
	}
	mustFind(t, verify(join(join(lines[:99]...), end(0), join(lines[99:]...)), ""), audit.LineUnreadable, 100)

	// A place that comes twice, or before.
	mustFind(t, verify(join(join(lines[:100]...), lines[99], join(lines[100:]...)), ""), audit.RecordTwice, 100)
	mustFind(t, verify(join(join(lines[:100]...), lines[7], join(lines[100:]...)), ""), audit.RecordTwice, 8)

	// One that begins late has no tree.
	r = verify(join(lines[100:]...), "")
	mustFind(t, r, audit.RecordMissing, 1)
	if r.Integrity != audit.Unknown || len(r.Unsure) != 1 || !strings.Contains(r.Unsure[0], "places 1 to 100") {
		t.Errorf("integrity %s, %q", r.Integrity, r.Unsure)
	}

	// One without a head is held against one beside it, also a later one.
	records := join(lines[:300]...)
	mustBeGood(t, verify(records, string(decodeHead(t, heads[2]))))
	r = verify(join(lines[:200]...), string(decodeHead(t, heads[2])))
	mustFind(t, r, audit.RecordMissing, 201)
	if r.Integrity != audit.Unknown {
		t.Errorf("an export of 200 of 300 records: %+v", r)
	}
	r = verify(records, "")
	if r.Integrity != audit.Unknown || r.Completeness != audit.Unknown {
		t.Errorf("without a head: %+v", r)
	}

	// Records of which the hash alone is there, and nobody says that they were pruned.
	for i := range 150 {
		lines[i] = pruned(t, lines[i])
	}
	r = verify(join(lines...), "")
	if r.Integrity != audit.Intact || r.Completeness != audit.Unknown || r.Records != 150 {
		t.Errorf("withheld: %+v", r)
	}
	lines[100] = bytes.Replace(lines[100], []byte(`"hash":"`), []byte(`"hash":"00`), 1)[:len(lines[100])]
	if err := mustFindAny(verify(join(lines...), "")); err != nil {
		t.Error(err)
	}
}

func pruned(t testing.TB, line []byte) []byte {
	t.Helper()
	l, err := audit.ParseLine(line)
	if err != nil {
		t.Fatal(err)
	}
	return (&audit.RawLine{Place: l.Place, Hash: l.Hash}).Append(nil)
}

var errDisk = errors.New("the disk is on fire")

type brokenDisk struct{}

func (brokenDisk) ReadAt([]byte, int64) (int, error) { return 0, errDisk }
func (brokenDisk) Read([]byte) (int, error)          { return 0, errDisk }

// What cannot be read is an error, and no verdict.
func TestVerifyWhatCannotBeRead(t *testing.T) {
	l := newLedger(t, 300, 0)
	if r, err := l.verification().Export(t.Context(), brokenDisk{}, 100, ""); !errors.Is(err, errDisk) || r != nil {
		t.Errorf("%+v, %v", r, err)
	}
	export := l.export(t)
	if r, err := l.verification().Export(t.Context(), bytes.NewReader(export), int64(len(export))+10, ""); err == nil {
		t.Errorf("an export that is shorter than it was: %+v", r)
	}
	v := l.verification()
	v.Witnesses = []*audit.Witness{audit.NewWitness("anchor", io.MultiReader(bytes.NewReader(l.anchor[:2000]), brokenDisk{}))}
	if r, err := v.Export(t.Context(), bytes.NewReader(export), int64(len(export)), ""); !errors.Is(err, errDisk) {
		t.Errorf("%+v, %v", r, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := l.verification().Export(ctx, bytes.NewReader(export), int64(len(export)), ""); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", r, err)
	}
	for name, v := range map[string]*audit.Verification{
		"nothing":       {},
		"no key":        {Origin: origin},
		"another's key": {Origin: "other.example.com/audit", Verifiers: l.verification().Verifiers},
	} {
		if _, err := v.Export(t.Context(), bytes.NewReader(export), int64(len(export)), ""); err == nil {
			t.Errorf("%s: it was verified", name)
		}
	}
}

// FuzzParseLine: a line that is read and checked is written as it was, and comes to the
// hash that it names.
func FuzzParseLine(f *testing.F) {
	l := newLedger(f, 20, 0)
	for line := range bytes.Lines(l.anchor) {
		f.Add(bytes.Clone(line))
		f.Add(pruned(f, line))
	}
	for _, r := range readVectors(f).Records {
		f.Add([]byte(r.Line))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := audit.ParseLine(text)
		if err != nil {
			return
		}
		if again := l.Append(nil); !bytes.Equal(bytes.TrimSuffix(again, []byte("\n")), bytes.TrimSuffix(text, []byte("\n"))) {
			t.Fatalf("%q is written as %q", text, again)
		}
		e, err := l.Entry()
		if err != nil || l.Check() != nil {
			return
		}
		if again := e.Line(); !bytes.Equal(again, l.Append(nil)) {
			t.Fatalf("the entry of %q is written as %q", text, again)
		}
	})
}

// A proof in JSON is read in one way alone: members in another order and between white
// space are the same, and one that is there twice, not at all or in another case is none.
func TestProofsInJSONHaveEachMemberOnce(t *testing.T) {
	p, err := audit.ParseProof([]byte(readVectors(t).Proofs[0].Text))
	if err != nil {
		t.Fatal(err)
	}
	p.Leaf = &audit.Digest{1}
	good, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(good, &members); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.MarshalIndent(members, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.ParseProof(sorted); err != nil {
		t.Errorf("members in another order: %v", err)
	}
	for name, value := range members {
		member := fmt.Sprintf("%q:%s", name, value)
		less := maps.Clone(members)
		delete(less, name)
		lacking, err := json.Marshal(less)
		if err != nil {
			t.Fatal(err)
		}
		for what, bad := range map[string]string{
			"twice":           strings.Replace(string(good), "{", "{"+member+",", 1),
			"in another case": strings.Replace(string(good), member, strings.ToUpper(member[:2])+member[2:], 1),
			"missing":         string(lacking),
		} {
			if _, err := audit.ParseProof([]byte(bad)); err == nil {
				t.Errorf("a proof with %s %s was read: %s", name, what, bad)
			}
		}
	}
}

// FuzzParseProof: a proof that is read is written as it was, in the form that it had.
func FuzzParseProof(f *testing.F) {
	for _, p := range readVectors(f).Proofs {
		f.Add([]byte(p.Text))
		proof, err := audit.ParseProof([]byte(p.Text))
		if err != nil {
			f.Fatal(err)
		}
		proof.Leaf = &audit.Digest{1}
		text, err := proof.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add([]byte(strings.Replace(p.Text, "\nindex", "\nextra AAAA\nindex", 1)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := audit.ParseProof(text)
		if err != nil {
			return
		}
		if p.Leaf == nil {
			if p.Text() != string(text) {
				t.Fatalf("%q is written as %q", text, p.Text())
			}
			return
		}
		again, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		back, err := audit.ParseProof(again)
		if err != nil || back.Text() != p.Text() || *back.Leaf != *p.Leaf {
			t.Fatalf("%q is read back as %+v, %v", again, back, err)
		}
	})
}

// recordLines are the lines of an export that are of records.
func recordLines(text []byte) (lines []byte) {
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte(`{"checkpoint"`)) {
			lines = append(lines, line...)
		}
	}
	return lines
}

// FuzzVerifyExport: no export makes a verification fail, and none but the true one is
// found to be good.
func FuzzVerifyExport(f *testing.F) {
	l := newLedger(f, 20, 0)
	export := l.export(f)
	f.Add(export)
	f.Add(export[:len(export)/2])
	f.Add([]byte("\n\n{\"checkpoint\":\"\"}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := l.verification()
		v.Witnesses = []*audit.Witness{audit.NewWitness("itself", bytes.NewReader(text))}
		r, err := v.Export(t.Context(), bytes.NewReader(text), int64(len(text)), "")
		if err != nil {
			t.Fatal(err)
		}
		good := r.Integrity == audit.Intact && r.Completeness == audit.Complete
		if good && (r.Size != 20 || !bytes.Equal(recordLines(text), recordLines(export))) {
			t.Fatalf("%q is found to be good: %+v", text, r)
		}
	})
}
