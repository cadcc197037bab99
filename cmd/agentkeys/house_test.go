package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// house says which of our packages each package may import. Imports point one
// way, and the packages at the edge know nothing of one another.
var house = map[string][]string{
	"agentkeys/anchor":               {"agentkeys/audit"},
	"agentkeys/api":                  {},
	"agentkeys/audit":                {},
	"agentkeys/auth":                 {"agentkeys/identity"},
	"agentkeys/bench":                {"agentkeys/api", "agentkeys/audit", "agentkeys/client", "agentkeys/federation", "agentkeys/policy", "agentkeys/store"},
	"agentkeys/broker":               {"agentkeys/api", "agentkeys/audit", "agentkeys/auth", "agentkeys/grant", "agentkeys/identity", "agentkeys/store", "agentkeys/token"},
	"agentkeys/client":               {"agentkeys/api"},
	"agentkeys/config":               {},
	"agentkeys/federation":           {"agentkeys/policy"},
	"agentkeys/grant":                {"agentkeys/identity"},
	"agentkeys/identity":             {},
	"agentkeys/localaws":             {"agentkeys/policy"},
	"agentkeys/policy":               {},
	"agentkeys/store":                {},
	"agentkeys/token":                {},
	"agentkeys/trail":                {"agentkeys/audit"},
	"agentkeys/agentkeystest/child":  {},
	"agentkeys/agentkeystest/landed": {"agentkeys/api"},
	"agentkeys/agentkeystest":        nil, // the test kit wires a whole broker
	"agentkeys/cmd/agentkeys":        nil, // and so does the program
}

// Every module that we require by choice has its reason on paper.
func TestDependenciesHaveTheirReasons(t *testing.T) {
	page, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{if not (or .Main .Indirect)}}{{.Path}}{{end}}", "all").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	if len(modules) == 0 {
		t.Fatal("no modules listed")
	}
	for _, m := range modules {
		name := strings.TrimPrefix(m, "github.com/aws/aws-sdk-go-v2/")
		if !strings.Contains(string(page), "`"+name) {
			t.Errorf("docs/dependencies.md does not say why %s", m)
		}
	}
}

type listed struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

func TestImportsKeepToTheHouse(t *testing.T) {
	seen := make(map[string]bool)
	for _, p := range list(t) {
		allowed, known := house[p.ImportPath]
		if !known {
			t.Errorf("%s is not in the house: a new package needs a new noun and a line here", p.ImportPath)
			continue
		}
		seen[p.ImportPath] = true
		for _, imported := range p.Imports {
			if allowed != nil && strings.HasPrefix(imported, "agentkeys/") && !slices.Contains(allowed, imported) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
	for name := range house {
		if !seen[name] {
			t.Errorf("%s is in the house's plan and not in the module", name)
		}
	}
}

// What decides over policies stands on the standard library alone, what records
// opens no database, and no testing package is linked into the program.
func TestImportsOfOthers(t *testing.T) {
	for _, p := range list(t) {
		for _, imported := range p.Imports {
			outside := strings.Contains(strings.SplitN(imported, "/", 2)[0], ".")
			switch {
			case p.ImportPath == "agentkeys/policy" && outside:
				t.Errorf("policy imports %s; it stands on the standard library alone", imported)
			case p.ImportPath == "agentkeys/audit" && strings.Contains(imported, "sqlite"):
				t.Errorf("audit imports the driver %s", imported)
			}
		}
		if p.ImportPath == "agentkeys/cmd/agentkeys" && slices.ContainsFunc(p.Deps, func(d string) bool { return d == "testing" || d == "agentkeys/agentkeystest" }) {
			t.Error("the program links the testing package")
		}
	}
}

// maxProgram is how large the program may be that "make build" makes, in bytes.
const maxProgram = 40 << 20

// The linker leaves out the methods that nothing calls, but only as long as no method
// is looked up by a name that is not known before the program runs. Executing a
// template of text/template or html/template does that, and one is enough to keep every
// exported method of every type in use: of the AWS clients' thousands, all.
func TestProgramHoldsWhatItCallsAlone(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "agentkeys")
	// Without -dwarf=false, which changes nothing of a stripped program, the go command would
	// keep what the linker says with the package that "make build" compiles, and print it there.
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-gcflags=-dwarf=false", "-ldflags", "-s -w -dumpdep", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var edges bytes.Buffer // the linker's reasons, a line each: what needs what
	cmd.Stderr = &edges
	if err := cmd.Run(); err != nil {
		t.Fatalf("building the program: %v: %.1000s", err, edges.Bytes())
	}
	if !strings.Contains(edges.String(), "\nmain.main -> ") {
		t.Error("the linker did not say what main.main needs")
	}
	for edge := range strings.Lines(edges.String()) {
		if strings.Contains(edge, "<ReflectMethod>") {
			t.Errorf("a method is looked up by its name, which keeps them all, first in: %s", edge)
			break
		}
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxProgram {
		t.Errorf("the program has %d bytes, want at most %d", info.Size(), maxProgram)
	}
}

func list(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "agentkeys/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		t.Fatal("no packages listed")
	}
	return all
}
