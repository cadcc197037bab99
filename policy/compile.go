package policy

import (
	"fmt"
	"slices"
	"strings"
)

// Policy is a compiled Document: the only thing that decides. It is immutable.
type Policy struct {
	name       string
	doc        *Document
	statements []statement
}

// statement is a Statement whose patterns were compiled once.
type statement struct {
	sid          string
	effect       Effect
	principal    []member
	notPrincipal []member
	action       []string // lower-cased
	notAction    []string
	resource     []arnPattern
	notResource  []arnPattern
	conditions   []condition
}

// Compile makes a Policy of a document. The name stands for it in decisions and
// explanations. It refuses what Parse refuses, so that a document which was put
// together in Go is held to the same rules. Later changes of d do not reach the
// Policy.
func Compile(name string, d *Document) (*Policy, error) {
	if d == nil {
		return nil, fmt.Errorf("compiling policy %q: want a document, got none", name)
	}
	d = d.clone()
	statements, err := d.compile()
	if err != nil {
		return nil, fmt.Errorf("compiling policy %q: %w", name, err)
	}
	return &Policy{name: name, doc: d, statements: statements}, nil
}

// Name returns the name given to Compile.
func (p *Policy) Name() string { return p.name }

// Document returns the document that was compiled. It must not be changed.
func (p *Policy) Document() *Document { return p.doc }

// compile checks the whole document and compiles its statements.
func (d *Document) compile() ([]statement, error) {
	switch d.Version {
	case "", version2008, version2012:
	default:
		return nil, &ParseError{Statement: -1, Element: "Version", Reason: fmt.Sprintf("want %q or %q, got %q", version2012, version2008, clip(d.Version))}
	}
	if len(d.Statements) == 0 {
		return nil, &ParseError{Statement: -1, Element: "Statement", Reason: "want at least one statement, got none", Missing: d.Statements == nil, empty: d.Statements != nil}
	}
	var list []statement
	for i := range d.Statements {
		st, err := compileStatement(&d.Statements[i], d.Version == version2012)
		if err != nil {
			err.Statement = i
			return nil, err
		}
		list = append(list, st)
	}
	return list, nil
}

func compileStatement(s *Statement, vars bool) (statement, *ParseError) {
	st := statement{sid: s.Sid, effect: s.Effect}
	switch s.Effect {
	case Allow, Deny:
	case "":
		return st, &ParseError{Element: "Effect", Reason: "want Allow or Deny, got none", Missing: true}
	default:
		return st, &ParseError{Element: "Effect", Reason: fmt.Sprintf("want Allow or Deny, got %q", clip(string(s.Effect)))}
	}
	if err := s.checkPresence(); err != nil {
		return st, err
	}
	st.principal, st.notPrincipal = compilePrincipals(s.Principal), compilePrincipals(s.NotPrincipal)
	var err error
	if st.action, err = compileActions(s.Action); err != nil {
		return st, &ParseError{Element: "Action", Reason: err.Error()}
	}
	if st.notAction, err = compileActions(s.NotAction); err != nil {
		return st, &ParseError{Element: "NotAction", Reason: err.Error()}
	}
	if st.resource, err = compileResources(s.Resource, vars); err != nil {
		return st, &ParseError{Element: "Resource", Reason: err.Error()}
	}
	if st.notResource, err = compileResources(s.NotResource, vars); err != nil {
		return st, &ParseError{Element: "NotResource", Reason: err.Error()}
	}
	if st.conditions, err = compileConditions(s.Condition, vars); err != nil {
		return st, &ParseError{Element: "Condition", Reason: err.Error()}
	}
	return st, nil
}

// checkPresence refuses an element beside its opposite, an empty list, and a
// statement without any action.
func (s *Statement) checkPresence() *ParseError {
	lists := []struct {
		name    string
		present bool
		empty   bool
	}{
		{"Action", s.Action != nil, len(s.Action) == 0},
		{"NotAction", s.NotAction != nil, len(s.NotAction) == 0},
		{"Resource", s.Resource != nil, len(s.Resource) == 0},
		{"NotResource", s.NotResource != nil, len(s.NotResource) == 0},
		{"Principal", s.Principal != nil, s.Principal.empty()},
		{"NotPrincipal", s.NotPrincipal != nil, s.NotPrincipal.empty()},
	}
	for i, l := range lists {
		if l.present && l.empty {
			return &ParseError{Element: l.name, Reason: "want at least one value, got none"}
		}
		if i%2 == 1 && l.present && lists[i-1].present {
			return &ParseError{Element: l.name, Reason: fmt.Sprintf("want it or %s, got both", lists[i-1].name)}
		}
	}
	if s.Action == nil && s.NotAction == nil {
		return &ParseError{Element: "Action", Reason: "want Action or NotAction, got neither", Missing: true}
	}
	for _, p := range []*Principals{s.Principal, s.NotPrincipal} {
		if err := p.check(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Principals) empty() bool {
	return p == nil || !p.Any && len(p.AWS)+len(p.Federated)+len(p.Service)+len(p.CanonicalUser) == 0
}

// check refuses what a Principals value made in Go could say and JSON could not.
func (p *Principals) check() *ParseError {
	if p == nil {
		return nil
	}
	if p.Any && len(p.AWS)+len(p.Federated)+len(p.Service)+len(p.CanonicalUser) > 0 {
		return &ParseError{Element: "Principal", Reason: `want "*" or members, got both`}
	}
	for _, list := range [][]string{p.AWS, p.Federated, p.Service, p.CanonicalUser} {
		for _, text := range list {
			if text == "" {
				return &ParseError{Element: "Principal", Reason: `want a principal, got ""`}
			}
			if strings.Contains(text, "${") {
				return &ParseError{Element: "Principal", Reason: fmt.Sprintf("want no policy variable, got %q", clip(text))}
			}
		}
	}
	return nil
}

func compileActions(list []string) ([]string, error) {
	var out []string
	for _, a := range list {
		if err := checkAction(a); err != nil {
			return nil, err
		}
		out = append(out, strings.ToLower(a))
	}
	return out, nil
}

// checkAction wants "*" or service:name, with wildcards in the name alone.
func checkAction(a string) error {
	if a == "*" || a == "*:*" {
		return nil
	}
	service, name, ok := strings.Cut(a, ":")
	if !ok || service == "" || name == "" {
		return fmt.Errorf(`action %q: want "*" or service:name`, clip(a))
	}
	for _, r := range service {
		if !isActionRune(r) {
			return fmt.Errorf("action %q: want a service of letters, digits and hyphens", clip(a))
		}
	}
	for _, r := range name {
		if !isActionRune(r) && r != '*' && r != '?' {
			return fmt.Errorf("action %q: want a name of letters, digits and wildcards", clip(a))
		}
	}
	return nil
}

func isActionRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

func compileResources(list []string, vars bool) ([]arnPattern, error) {
	var out []arnPattern
	for _, text := range list {
		p, err := parseARNPattern(text, vars)
		if err == nil {
			err = p.checkResource()
		}
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func compileConditions(list []Condition, vars bool) ([]condition, error) {
	var out []condition
	seen := make(map[[2]string]bool)
	for _, c := range list {
		one, err := compileCondition(c, vars)
		if err != nil {
			return nil, err
		}
		id := [2]string{one.operator, one.key}
		if seen[id] {
			return nil, fmt.Errorf("condition %s names the key %q twice", c.Operator, c.Key)
		}
		seen[id] = true
		out = append(out, one)
	}
	return out, nil
}

// clone returns a deep copy.
func (d *Document) clone() *Document {
	c := *d
	c.Statements = slices.Clone(d.Statements)
	for i := range c.Statements {
		s := &c.Statements[i]
		s.Principal, s.NotPrincipal = s.Principal.clone(), s.NotPrincipal.clone()
		s.Action, s.NotAction = slices.Clone(s.Action), slices.Clone(s.NotAction)
		s.Resource, s.NotResource = slices.Clone(s.Resource), slices.Clone(s.NotResource)
		s.Condition = slices.Clone(s.Condition)
		for j := range s.Condition {
			s.Condition[j].Values = slices.Clone(s.Condition[j].Values)
		}
	}
	return &c
}

func (p *Principals) clone() *Principals {
	if p == nil {
		return nil
	}
	return &Principals{p.Any, slices.Clone(p.AWS), slices.Clone(p.Federated), slices.Clone(p.Service), slices.Clone(p.CanonicalUser)}
}
