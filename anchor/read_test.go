package anchor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"agentkeys/audit"
)

func lineFor(e audit.Entry) string { return string(e.Line()) }

func readAll(r io.Reader) (entries []audit.Entry, err error) {
	for entry, err := range ReadFile(r) {
		if err != nil {
			return entries, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Files are read for years, so the form is fixed.
func TestForm(t *testing.T) {
	e := record("req <1>")
	e.Wallet = "0x71c7"
	want := `{"place":1,"leaf":{"action":"mint.aws_creds","id":"01ARZ3NDEKTSV4RRFFQ69G5FAV","outcome":"pending",` +
		`"person":"` + e.Digest().String() + `","request_id":"req <1>","time":"2030-01-02T12:00:00.000Z","v":1},` +
		`"person":{"wallet":"0x71c7"},"salt":"` + fmt.Sprintf("%x", e.Salt) + `","hash":"` + e.LeafHash(e.Digest()).String() + `"}` + "\n"
	got, err := lineOf(&e)
	if err != nil || string(got) != want {
		t.Errorf("error %v, got  %swant %s", err, got, want)
	}
}

func TestReadFileIsStrict(t *testing.T) {
	good := lineFor(record("good"))
	least := strings.TrimSuffix(lineFor(record("a")), "\n")
	change := func(before, after string) string {
		changed := strings.Replace(least, before, after, 1)
		if changed == least {
			t.Fatalf("%q is not in %s", before, least)
		}
		return changed + "\n"
	}
	for name, tt := range map[string]struct{ line, want string }{
		"cut off":             {least, "it is cut off: want a line break at its end"},
		"cut in the middle":   {least[:20], "it is cut off"},
		"empty":               {"\n", `want a line that begins with {"place":`},
		"not JSON":            {"hello\n", `want a line that begins with {"place":`},
		"zeros":               {"\x00\x00\x00\n", `want a line that begins with {"place":`},
		"two in one line":     {least + least + "\n", "salt: want 32"},
		"the form of before":  {`{"id":"1","time":"2030-01-02T12:00:00.000Z","action":"a"}` + "\n", "it is of the form from before"},
		"a place of zero":     {change(`"place":1`, `"place":0`), "place: want a number from 1"},
		"a place with a zero": {change(`"place":1`, `"place":01`), "place: want a number from 1"},
		"another leaf":        {change(`pending`, `refused`), "want the hash"},
		"another hash":        {change(`"hash":"`, `"hash":"00`), "hash: want 64"},
		"another person":      {change(`"person":{`, `"person":{"wallet":"x"`), "its personal members have the digest"},
		"pruned":              {`{"place":1,"hash":"` + strings.Repeat("0", 64) + "\"}\n", "the record was pruned"},
		"too long":            {strings.Repeat("x", maxLine) + "\n", "want a line of at most 32768 bytes, got more"},
		"an unknown member":   {change(`"leaf":`, `"token":"x","leaf":`), "want leaf behind place"},
		"another salt":        {change(`"salt":"73`, `"salt":"74`), "its personal members have the digest"},
		"a salt in capitals":  {change(`6f6374657473`, `6F6374657473`), "salt: want"},
	} {
		t.Run(name, func(t *testing.T) {
			entries, err := readAll(strings.NewReader(good + tt.line + good))
			if strings.HasPrefix(tt.want, "it is cut off") {
				entries, err = readAll(strings.NewReader(good + tt.line))
			}
			if len(entries) != 1 || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d entries and %v, want 1 and %q", len(entries), err, tt.want)
			}
			if where := "line 2, at byte " + itoa(len(good)); err != nil && !strings.Contains(err.Error(), where) {
				t.Errorf("the error %q does not say %q", err, where)
			}
		})
	}
}

// A record whose person was erased before it came here has its line too.
func TestErasedRecord(t *testing.T) {
	e := record("a")
	digest := e.Digest()
	e.Salt, e.Person = nil, digest[:]
	path := newPath(t)
	if err := open(t, path).Put(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, path, "a")
}

func TestReadFilePassesErrorsOn(t *testing.T) {
	good := lineFor(record("a"))
	broken := errors.New("broken")
	entries, err := readAll(io.MultiReader(strings.NewReader(good+good[:5]), iotest.ErrReader(broken)))
	if len(entries) != 1 || !errors.Is(err, broken) {
		t.Errorf("got %d entries and %v, want 1 and the reader's error", len(entries), err)
	}
	for range ReadFile(strings.NewReader(good + good)) {
		break // and nothing more is yielded, which would panic
	}
}

func FuzzReadFile(f *testing.F) {
	good := []byte(lineFor(record("a")))
	f.Add(good)
	f.Add(append(bytes.Clone(good), good...))
	f.Add(append(bytes.Clone(good), good[:9]...))
	f.Add([]byte(`{"place":1,"hash":"` + strings.Repeat("0", 64) + "\"}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		entries, err := readAll(bytes.NewReader(data))
		for _, e := range entries {
			line, err := lineOf(&e)
			if err != nil {
				t.Fatalf("%+v was read and cannot be written: %v", e, err)
			}
			again = append(again, line...)
		}
		if !bytes.HasPrefix(data, again) || err == nil && len(again) != len(data) {
			t.Fatalf("%q was read as what is written as %q (error %v)", data, again, err)
		}
	})
}
