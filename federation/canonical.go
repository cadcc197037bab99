package federation

import (
	"bytes"
	"cmp"
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"agentkeys/policy"
)

// canonical is a document as indented JSON in which every list without meaning in
// its order is sorted, so that documents that say the same are the same text; ""
// for none.
func canonical(d *policy.Document) (string, error) {
	if d == nil {
		return "", nil
	}
	text, err := ordered(d).MarshalJSON()
	if err != nil {
		return "", err
	}
	return indented(text), nil
}

// jsonIndented is one of our own values as indented JSON.
func jsonIndented(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("federation: encoding a value of texts failed: " + err.Error())
	}
	return indented(text)
}

func indented(text []byte) string {
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		panic("federation: indenting JSON of ours failed: " + err.Error())
	}
	return b.String() + "\n"
}

// same reports whether two documents say the same. AWS keeps neither the order
// of conditions nor that of values.
func same(a, b *policy.Document) bool {
	return reflect.DeepEqual(ordered(a), ordered(b))
}

// ordered is a copy of d in which every list without meaning in its order is
// sorted, and an empty list is nil.
func ordered(d *policy.Document) *policy.Document {
	out := &policy.Document{Version: d.Version, ID: d.ID}
	for _, s := range d.Statements {
		out.Statements = append(out.Statements, orderedStatement(s))
	}
	return out
}

func orderedStatement(s policy.Statement) policy.Statement {
	list := func(l []string) []string {
		if len(l) == 0 {
			return nil
		}
		return slices.Compact(slices.Sorted(slices.Values(l)))
	}
	principals := func(p *policy.Principals) *policy.Principals {
		if p == nil {
			return nil
		}
		return &policy.Principals{
			Any: p.Any, AWS: list(p.AWS), Federated: list(p.Federated),
			Service: list(p.Service), CanonicalUser: list(p.CanonicalUser),
		}
	}
	s.Principal, s.NotPrincipal = principals(s.Principal), principals(s.NotPrincipal)
	s.Action, s.NotAction = list(s.Action), list(s.NotAction)
	s.Resource, s.NotResource = list(s.Resource), list(s.NotResource)
	var conditions []policy.Condition
	for _, c := range s.Condition {
		c.Values = list(c.Values)
		conditions = append(conditions, c)
	}
	slices.SortFunc(conditions, func(a, b policy.Condition) int {
		return cmp.Or(strings.Compare(a.Operator, b.Operator), strings.Compare(a.Key, b.Key))
	})
	s.Condition = conditions
	return s
}
