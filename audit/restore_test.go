package audit_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agentkeys/audit"

	"golang.org/x/mod/sumdb/note"
)

// Each attack on an export is found, and leaves the log empty.
func TestRestoreRefuses(t *testing.T) {
	s := newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 40)
	extend(t, s, l)
	erase(t, s, 3)
	text := mustExport(t, s, 0, "")
	lines := slices.Collect(bytes.Lines(text))
	head := lines[40]
	stranger, _ := newLog(t)
	fill(t, s, 40, 41)
	longer := extend(t, s, l)
	change := func(place int, old, new string) [][]byte {
		changed := slices.Clone(lines)
		changed[place-1] = bytes.Replace(changed[place-1], []byte(old), []byte(new), 1)
		if bytes.Equal(changed[place-1], lines[place-1]) {
			t.Fatalf("%q is not in %s", old, lines[place-1])
		}
		return changed
	}
	rehashed := func() [][]byte { // a forged line whose parts agree with one another
		forged := find(t, s, audit.Query{After: 9, Before: 11})[0]
		forged.Outcome = "refused"
		return slices.Concat(lines[:9], [][]byte{forged.Line()}, lines[10:])
	}
	for name, tt := range map[string]struct {
		lines [][]byte
		want  string
	}{
		"a leaf that was changed":     {change(11, `"outcome":"issued"`, `"outcome":"failed"`), "place 11: want the hash"},
		"a person that was changed":   {change(11, "0x71c7", "0x81c7"), "place 11: its personal members have the digest"},
		"an erased one that came up":  {change(3, `,"hash":`, `,"person":{},"salt":"00000000000000000000000000000000","hash":`), "place 3: its personal members have the digest"},
		"a salt that was changed":     {change(11, `"salt":"`, `"salt":"00`), "salt: want 32"},
		"a leaf in another spelling":  {change(11, `{"action":`, `{ "action":`), "place 11: want the hash"},
		"a forged record":             {rehashed(), "and the records have"},
		"two in the other order":      {slices.Concat(lines[:5], lines[6:7], lines[5:6], lines[7:]), "want the record at place 6, got that at place 7"},
		"one that is missing":         {slices.Delete(slices.Clone(lines), 5, 6), "want the record at place 6, got that at place 7"},
		"one that is there twice":     {slices.Insert(slices.Clone(lines), 5, lines[5]), "want the record at place 7, got that at place 6"},
		"the last one is missing":     {slices.Concat(lines[:39], [][]byte{head}), "the checkpoint counts 40 records, and there are 39"},
		"the first one is missing":    {lines[1:], "want the record at place 1, got that at place 2"},
		"no checkpoint":               {lines[:40], "want a checkpoint, got none"},
		"the checkpoint of a later":   {slices.Concat(lines[:40], [][]byte{longer.Line()}), "the checkpoint counts 41 records, and there are 40"},
		"a checkpoint of another log": {slices.Concat(lines, [][]byte{foreign(t)}), "want a signature by"},
		"no lines":                    {[][]byte{head}, "the checkpoint counts 40 records, and there are 0"},
		"a line that is none":         {slices.Insert(slices.Clone(lines), 0, []byte("{}\n")), "want a line that begins with"},
		"a bare one behind the head":  {slices.Concat(lines[:40], [][]byte{fmt.Appendf(nil, `{"place":41,"hash":"%064d"}`+"\n", 0), head}), "place 41: there is its hash alone"},
		"a pruned one, of a fork":     {slices.Concat(lines[:9], [][]byte{fmt.Appendf(nil, `{"place":10,"hash":"%064d"}`+"\n", 0)}, lines[10:]), "and the records have"},
	} {
		t.Run(name, func(t *testing.T) {
			fresh := newStore(t)
			_, err := restore(fresh, l, slices.Concat(tt.lines...))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("restored with %v, want %q", err, tt.want)
			}
			if left := column(t, fresh, "SELECT (SELECT count(*) FROM audit_records) || ' ' || (SELECT count(*) FROM audit_tiles) || ' ' || size || ' ' || pruned || note FROM audit_head"); left[0] != "0 0 0 0" {
				t.Errorf("left in the database: %q", left)
			}
			if _, err := restore(fresh, l, text); err != nil {
				t.Errorf("and the whole export afterwards: %v", err)
			}
		})
	}
	if _, err := restore(newStore(t), stranger, text); err == nil {
		t.Error("the checkpoint of another key was taken")
	}
	if _, err := restore(s, l, text); !errors.Is(err, audit.ErrNotEmpty) {
		t.Errorf("into a log with records: %v, want %v", err, audit.ErrNotEmpty)
	}
}

// foreign is the line of a checkpoint of another origin.
func foreign(t *testing.T) []byte {
	t.Helper()
	private, _, err := note.GenerateKey(rand.Reader, "other.example.com/audit")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: "other.example.com/audit\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return audit.Checkpoint{Note: string(signed)}.Line()
}

// Lines behind the checkpoint, as an anchor's file has them, wait for their place.
func TestRestoreBehindTheCheckpoint(t *testing.T) {
	s, fresh := newStore(t), newStore(t)
	l, _ := newLog(t)
	fill(t, s, 0, 260)
	head := extend(t, s, l)
	fill(t, s, 260, 270)
	var lines []byte
	for _, e := range after(t, s, 0) {
		lines = append(lines, e.Line()...)
	}
	done, err := restore(fresh, l, lines, head)
	if err != nil || done.Records != 270 || done.Head.Size != 260 {
		t.Fatalf("restored %+v: %v", done, err)
	}
	if want, got := extend(t, s, l), extend(t, fresh, l); want.Root != got.Root || got.Size != 270 {
		t.Errorf("it goes on to %d %s, want %d %s", got.Size, got.Root, want.Size, want.Root)
	}
}
