package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const eventsPage = "../../docs/audit-events.md"

// constants are those of a file of package audit, by name.
func constants(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../audit/"+file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for i, name := range spec.Names {
				value, err := strconv.Unquote(spec.Values[i].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				found[name.Name] = value
			}
		}
		return true
	})
	if len(found) == 0 {
		t.Fatalf("no constants in %s", file)
	}
	return found
}

func values(m map[string]string) (all []string) {
	for _, v := range m {
		all = append(all, v)
	}
	slices.Sort(all)
	return all
}

// The page has each action once, with outcomes that there are, and none that is not
// there.
func TestEventsPageIsWhole(t *testing.T) {
	page, err := os.ReadFile(eventsPage)
	if err != nil {
		t.Fatal(err)
	}
	outcomes := values(constants(t, "outcome.go"))
	var actions []string
	used := map[string]bool{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+\\.[a-z_.]+)` \\| [^|]+ \\| ([^|]+) \\|.*\\|$")
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		actions = append(actions, m[1])
		for word := range strings.SplitSeq(m[2], ", ") {
			word = strings.Trim(word, "` ")
			used[word] = true
			if !slices.Contains(outcomes, word) {
				t.Errorf("%s: there is no outcome %q", m[1], word)
			}
		}
	}
	slices.Sort(actions)
	if diff := cmp.Diff(values(constants(t, "action.go")), actions); diff != "" {
		t.Errorf("the actions of the program (-) and of the page (+): %s", diff)
	}
	for _, outcome := range outcomes {
		if !used[outcome] {
			t.Errorf("no action of the page has the outcome %s", outcome)
		}
	}
}

// Actions have one place: audit/action.go. Each of them is used, and no record has one
// that is written out.
func TestActionsHaveOnePlace(t *testing.T) {
	unused := constants(t, "action.go")
	files := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "action.go" {
			return err
		}
		files++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok {
				delete(unused, id.Name)
			}
			if literal := writtenOut(n); literal != nil {
				t.Errorf("%s: the action %s is written out; package audit has the actions", fset.Position(literal.Pos()), literal.Value)
			}
			return true
		})
		return nil
	})
	if err != nil || files < 50 {
		t.Fatalf("%d files, %v", files, err)
	}
	for name := range unused {
		t.Errorf("nothing uses audit.%s", name)
	}
}

// dotted is what an action looks like.
var dotted = regexp.MustCompile(`^"[a-z_]+(\.[a-z_]+)+"$`)

// writtenOut is the literal of an action that a node gives to a record or to a name.
func writtenOut(n ast.Node) *ast.BasicLit {
	var candidates []ast.Expr
	switch n := n.(type) {
	case *ast.KeyValueExpr:
		if id, ok := n.Key.(*ast.Ident); ok && id.Name == "Action" {
			candidates = []ast.Expr{n.Value}
		}
	case *ast.CallExpr:
		if s, ok := n.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "record" {
			candidates = n.Args
		}
	case *ast.AssignStmt:
		for _, left := range n.Lhs {
			if s, ok := left.(*ast.SelectorExpr); ok && s.Sel.Name == "Action" {
				candidates = n.Rhs
			}
		}
	case *ast.ValueSpec:
		if strings.HasPrefix(strings.ToLower(n.Names[0].Name), "action") {
			candidates = n.Values
		}
	}
	for _, c := range candidates {
		if literal, ok := c.(*ast.BasicLit); ok && dotted.MatchString(literal.Value) {
			return literal
		}
	}
	return nil
}
