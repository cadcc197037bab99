package federation

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const corpusDir = "testdata/corpus"

// corpusCase is one set-up of the corpus: a folder of documents and what is
// true of it. testdata/README.md says what the members of truth.json mean.
type corpusCase struct {
	name, dir string
	truth     corpusTruth
}

type corpusTruth struct {
	Says      string                 `json:"says"`
	Findings  []Code                 `json:"findings"`
	May       []Code                 `json:"may"`
	Ambiguous []Code                 `json:"ambiguous"`
	OneOf     [][]Code               `json:"one_of"`
	Advice    []string               `json:"advice"`
	Unread    []string               `json:"unread"`
	Witness   map[Code]corpusWitness `json:"witness"`
}

// corpusWitness is what some finding of a code must show. An empty member is
// not asked for.
type corpusWitness struct {
	Document  string `json:"decided_by_document"`
	Statement *int   `json:"statement"`
	Action    string `json:"action"`
}

// silent reports whether the set-up must yield no finding.
func (c corpusTruth) silent() bool {
	return len(c.Findings) == 0 && len(c.May) == 0 && len(c.OneOf) == 0 && len(c.Unread) == 0
}

// corpus reads every set-up of the corpus.
func corpus(t *testing.T) []corpusCase {
	t.Helper()
	entries, err := os.ReadDir(corpusDir)
	if err != nil {
		t.Fatal(err)
	}
	var cases []corpusCase
	for _, e := range entries {
		c := corpusCase{name: e.Name(), dir: filepath.Join(corpusDir, e.Name())}
		f, err := os.Open(filepath.Join(c.dir, "truth.json"))
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(f)
		d.DisallowUnknownFields()
		if err := d.Decode(&c.truth); err != nil {
			t.Fatalf("%s: truth.json: %v", c.name, err)
		}
		f.Close()
		cases = append(cases, c)
	}
	return cases
}

// TestCorpusSize holds the corpus to what makes it worth its name: many
// set-ups, many of them sound, and every code somewhere.
func TestCorpusSize(t *testing.T) {
	cases := corpus(t)
	silent, found := 0, map[Code]int{}
	for _, c := range cases {
		if c.truth.silent() {
			silent++
		}
		for _, code := range c.truth.Findings {
			found[code]++
		}
	}
	if len(cases) < 60 || silent < 15 {
		t.Errorf("want at least 60 set-ups, 15 of them silent, got %d and %d", len(cases), silent)
	}
	for _, code := range Codes() {
		if found[code] == 0 {
			t.Errorf("no set-up has to be reported as %s", code)
		}
	}
}

// TestCorpusTruth checks the form of every truth.json.
func TestCorpusTruth(t *testing.T) {
	for _, c := range corpus(t) {
		if c.truth.Says == "" {
			t.Errorf("%s: want a word on what it is, got none", c.name)
		}
		if strings.HasPrefix(c.name, "sound-") && !c.truth.silent() {
			t.Errorf("%s: a sound set-up must be silent", c.name)
		}
		reported := slices.Concat(c.truth.Findings, c.truth.May, slices.Concat(c.truth.OneOf...))
		for _, code := range reported {
			if !slices.Contains(Codes(), code) {
				t.Errorf("%s: want a code of Codes, got %q", c.name, code)
			}
		}
		for _, code := range c.truth.May {
			if slices.Contains(c.truth.Findings, code) {
				t.Errorf("%s: %s both must and may be reported", c.name, code)
			}
		}
		for _, code := range c.truth.Ambiguous {
			if !slices.Contains(reported, code) {
				t.Errorf("%s: %s is ambiguous and not to be reported", c.name, code)
			}
		}
		for code := range c.truth.Witness {
			if !slices.Contains(c.truth.Findings, code) {
				t.Errorf("%s: %s has a witness and need not be reported", c.name, code)
			}
		}
	}
}

// TestCorpusReads reads every set-up. A document that cannot be read is one
// that truth.json says cannot.
func TestCorpusReads(t *testing.T) {
	for _, c := range corpus(t) {
		a, err := ReadAccount(c.dir)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if len(a.Remarks) > 0 {
			t.Errorf("%s: want no remarks, got %q", c.name, a.Remarks)
		}
		if !slices.ContainsFunc(a.Roles, func(r Role) bool { return r.Name == a.Config.Role }) {
			t.Errorf("%s: want the data role %s, got none", c.name, a.Config.Role)
		}
		for _, d := range corpusDocuments(a) {
			named := func(word string) bool { return strings.Contains(d.Name, word) }
			if d.Err != nil && !slices.ContainsFunc(c.truth.Unread, named) {
				t.Errorf("%s: %v", c.name, d.Err)
			}
		}
	}
}

// corpusDocuments lists every document of an account.
func corpusDocuments(a *Account) []Document {
	docs := []Document{a.Bucket}
	for _, u := range a.Users {
		docs = append(docs, u.Inline...)
	}
	for _, g := range a.Groups {
		docs = append(docs, g.Inline...)
	}
	for _, r := range a.Roles {
		docs = append(append(docs, r.Trust), r.Inline...)
	}
	for _, d := range a.Managed {
		docs = append(docs, d)
	}
	for _, p := range a.AccessPoints {
		docs = append(docs, p.Policy)
	}
	if a.Organization != nil {
		for _, l := range slices.Concat(a.Organization.Service, a.Organization.Resource) {
			docs = append(docs, l.Policies...)
		}
	}
	return docs
}
