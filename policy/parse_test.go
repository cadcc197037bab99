package policy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestParseRefuses: one document per thing that is not understood, and the
// words that say so.
func TestParseRefuses(t *testing.T) {
	st := func(members string) string { return `{"Version":"2012-10-17","Statement":[{` + members + `}]}` }
	cond := func(c string) string {
		return st(`"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":` + c)
	}
	good := `"Effect":"Allow","Action":"s3:*","Resource":"*"`
	rows := []struct{ text, want string }{
		{``, "want one JSON object"},
		{`null`, "want an object, got null"},
		{`[]`, "want an object, got a list"},
		{`"x"`, `want an object, got the string "x"`},
		{`{}`, "want at least one statement"},
		{`{"Statement":[]}`, "want at least one statement"},
		{`{"Statement":[{` + good + `}]} {}`, "nothing after it"},
		{`{"Statement":[{` + good + `}]}x`, "nothing after it"},
		{`{"Statement":[{` + good + `},]}`, "want one JSON object"},
		{"{\"Statement\":[{" + good + "}],\"Id\":\"\xff\"}", "want UTF-8"},
		{`{"Statement":[{` + good + `}],"Id":"\ud800"}`, "surrogate"},
		{`{"Statement":[{` + good + `}],"Id":"\udc00\ud800"}`, "surrogate"},
		{`{"Statement":[{` + good + `}],"Id":"\ud800\u0041"}`, "surrogate"},
		{`{"Statement":[{` + good + `}],"Id":7}`, "Id: want a string, got the number 7"},
		{`{"Version":"2012-10-18","Statement":[{` + good + `}]}`, `Version: want "2012-10-17" or "2008-10-17", got "2012-10-18"`},
		{`{"Version":"","Statement":[{` + good + `}]}`, "Version: want"},
		{`{"Version":20121017,"Statement":[{` + good + `}]}`, "Version: want a string"},
		{`{"version":"2012-10-17","Statement":[{` + good + `}]}`, `got "version"`},
		{`{"Statement":[{` + good + `}],"Extra":1}`, `got "Extra"`},
		{`{"Statement":[{` + good + `}],"Statement":[{` + good + `}]}`, `"Statement" twice`},
		{`{"Statement":"x"}`, "Statement: want an object or a list"},
		{`{"Statement":["x"]}`, "Statement: want an object"},
		{`{"Statement":[[{` + good + `}]]}`, "Statement: want an object"},
		{st(``), "Effect: want Allow or Deny, got none"},
		{st(`"Effect":"allow","Action":"*","Resource":"*"`), `Effect: want Allow or Deny, got "allow"`},
		{st(`"Effect":"","Action":"*","Resource":"*"`), "Effect: want Allow or Deny"},
		{st(`"Effect":["Allow"],"Action":"*","Resource":"*"`), "Effect: want a string, got a list"},
		{st(`"effect":"Allow","Action":"*","Resource":"*"`), `got "effect"`},
		{st(good + `,"Effect":"Deny"`), `"Effect" twice`},
		{st(good + `,"NotAction":"iam:*"`), "NotAction: want it or Action, got both"},
		{st(good + `,"NotResource":"*"`), "NotResource: want it or Resource, got both"},
		{st(good + `,"Principal":"*","NotPrincipal":{"AWS":"*"}`), "NotPrincipal: want it or Principal, got both"},
		{st(good + `,"Sid":1`), "Sid: want a string"},
		{st(`"Effect":"Allow","Resource":"*"`), "Action: want Action or NotAction"},
		{st(`"Effect":"Allow","Action":[],"Resource":"*"`), "Action: want at least one value"},
		{st(`"Effect":"Allow","Action":"*","Resource":[]`), "Resource: want at least one value"},
		{st(`"Effect":"Allow","Action":1,"Resource":"*"`), "Action: want a string or a list of strings, got the number 1"},
		{st(`"Effect":"Allow","Action":[["*"]],"Resource":"*"`), "Action: want a string or a list of strings, got a list"},
		{st(`"Effect":"Allow","Action":["*",null],"Resource":"*"`), "got null"},
		{st(`"Effect":"Allow","Action":"GetObject","Resource":"*"`), "want \"*\" or service:name"},
		{st(`"Effect":"Allow","Action":"s3:","Resource":"*"`), "want \"*\" or service:name"},
		{st(`"Effect":"Allow","Action":"s*:GetObject","Resource":"*"`), "want a service of letters"},
		{st(`"Effect":"Allow","Action":"s3:Get${aws:username}","Resource":"*"`), "want a name of letters"},
		{st(`"Effect":"Allow","Action":"s3:Get Object","Resource":"*"`), "want a name of letters"},
		{st(`"Effect":"Allow","Action":"s3:ＧetObject","Resource":"*"`), "want a name of letters"},
		{st(`"Effect":"Allow","Action":"*","Resource":"b/x"`), "want an ARN"},
		{st(`"Effect":"Allow","Action":"*","Resource":"arn:aws:s3"`), "want the six parts"},
		{st(`"Effect":"Allow","Action":"*","Resource":"arn:aws:s*:::b"`), "no wildcard and no variable in the service"},
		{st(`"Effect":"Allow","Action":"*","Resource":"arn:aws:${aws:x}:::b"`), "no wildcard and no variable in the service"},
		{st(`"Effect":"Allow","Action":"*","NotResource":"${aws:username"`), "no closing brace"},
		{st(good + `,"Principal":"arn:aws:iam::111122223333:root"`), `Principal: want "*" or an object`},
		{st(good + `,"Principal":[]`), `Principal: want "*" or an object, got a list`},
		{st(good + `,"Principal":{}`), "Principal: want at least one value"},
		{st(good + `,"Principal":{"AWS":[]}`), "want at least one value under AWS"},
		{st(good + `,"Principal":{"aws":"*"}`), `got "aws"`},
		{st(good + `,"Principal":{"*":"*"}`), `got "*"`},
		{st(good + `,"Principal":{"AWS":"*","AWS":"*"}`), `"AWS" twice`},
		{st(good + `,"Principal":{"AWS":111122223333}`), "want a string or a list of strings"},
		{st(good + `,"Principal":{"AWS":"arn:aws:iam::111122223333:user/${aws:username}"}`), "want no policy variable"},
		{st(good + `,"Principal":{"AWS":""}`), `want a principal, got ""`},
		{cond(`[]`), "Condition: want an object, got a list"},
		{cond(`{"StringEquals":{}}`), "want at least one key"},
		{cond(`{"StringEquals":"x"}`), "Condition: want an object"},
		{cond(`{"StringEquals":{"aws:a":null}}`), "got null"},
		{cond(`{"StringEquals":{"aws:a":{"x":"y"}}}`), "got an object"},
		{cond(`{"StringEquals":{"aws:a":[["x"]]}}`), "got a list"},
		{cond(`{"StringEquals":{"aws:a":"x","aws:a":"y"}}`), `"aws:a" twice`},
		{cond(`{"StringEquals":{"aws:a":"x","AWS:A":"y"}}`), "twice"},
		{cond(`{"StringEquals":{"aws:a":"x"},"StringEquals":{"aws:b":"y"}}`), `"StringEquals" twice`},
		{cond(`{"stringEquals":{"aws:a":"x"}}`), `operator "stringEquals" is not known`},
		{cond(`{"StringEqualsifexists":{"aws:a":"x"}}`), "is not known"},
		{cond(`{"ForAllValue:StringEquals":{"aws:a":"x"}}`), "is not known"},
		{cond(`{"ForAnyValue:ForAllValues:StringEquals":{"aws:a":"x"}}`), "is not known"},
		{cond(`{"ForAnyValue:":{"aws:a":"x"}}`), "is not known"},
		{cond(`{"NullIfExists":{"aws:a":"true"}}`), "Null takes neither"},
		{cond(`{"ForAnyValue:Null":{"aws:a":"true"}}`), "Null takes neither"},
		{cond(`{"Null":{"aws:a":"yes"}}`), "want true or false"},
		{cond(`{"Bool":{"aws:a":"1"}}`), "want true or false"},
		{cond(`{"Bool":{"aws:a":"${aws:b}"}}`), "want true or false"},
		{cond(`{"NumericEquals":{"aws:a":"${aws:b}"}}`), "want a decimal number"},
		{cond(`{"NumericEquals":{"aws:a":"1e3"}}`), "want a decimal number"},
		{cond(`{"DateEquals":{"aws:a":"soon"}}`), "want an ISO 8601 date"},
		{cond(`{"BinaryEquals":{"aws:a":"***"}}`), "want base64"},
		{cond(`{"IpAddress":{"aws:a":"10.0.0.0/33"}}`), "want an address or a network"},
		{cond(`{"IpAddress":{"aws:a":"${aws:b}"}}`), "want an address or a network"},
		{cond(`{"StringEquals":{"a":"x"}}`), "want the form prefix:name"},
		{cond(`{"StringEquals":{"aws:PrincipalTag/${aws:b}":"x"}}`), "a character that no key has"},
		{cond(`{"StringEquals":{"aws:a*":"x"}}`), "a character that no key has"},
		{cond(`{"StringEquals":{"aws:a":"${aws:b"}}`), "no closing brace"},
		{strings.Repeat(`{"Statement":`, 5000) + `1` + strings.Repeat(`}`, 5000), "want"},
		{`{"Statement":[` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `]}`, "want an object"},
		{`{"Id":"` + strings.Repeat("x", MaxDocument) + `"}`, "want at most 131072 bytes"},
	}
	for _, row := range rows {
		d, err := Parse([]byte(row.text))
		var perr *ParseError
		switch {
		case err == nil:
			t.Errorf("%.200s: got %+v, want an error with %q", row.text, d, row.want)
		case !errors.As(err, &perr):
			t.Errorf("%.200s: got a %T, want a *ParseError", row.text, err)
		case !strings.Contains(err.Error(), row.want):
			t.Errorf("%.200s: got %q, want %q in it", row.text, err, row.want)
		case strings.ContainsAny(err.Error(), "\n\x00") || len(err.Error()) > 400:
			t.Errorf("%.200s: got more than a short line: %q", row.text, err)
		}
	}
}

// TestParseAccepts: forms that mean the same parse to the same.
func TestParseAccepts(t *testing.T) {
	want := &Document{
		Version: version2012,
		Statements: []Statement{{
			Effect: Allow, Action: []string{"s3:*"}, Resource: []string{"*"},
			Condition: []Condition{{"NumericEquals", "aws:n", []string{"1.50"}}, {"Bool", "aws:b", []string{"true"}}},
		}},
	}
	for _, text := range []string{
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"NumericEquals":{"aws:n":1.50},"Bool":{"aws:b":true}}}}`,
		` {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:*"],"Resource":["*"],"Condition":{"NumericEquals":{"aws:n":["1.50"]},"Bool":{"aws:b":["true"]}}}]}` + "\n",
		`{"Statement":[{"Condition":{"NumericEquals":{"aws:n":[1.50]},"Bool":{"aws:b":"true"}},"Resource":"*","Sid":"","Action":"s3:*","Effect":"Allow"}],"Version":"2012-10-17","Id":""}`,
	} {
		d, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Errorf("%s:\n%s", text, diff)
		}
	}
	empty, err := Parse([]byte(`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{}}}`))
	if err != nil || empty.Version != "" || empty.Statements[0].Condition != nil {
		t.Errorf("empty Condition: got %+v, %v", empty, err)
	}
}

// TestMarshal holds the canonical form, and that both a value and a pointer
// are written so.
func TestMarshal(t *testing.T) {
	in := `{"Statement":[{"Condition":{"StringLike":{"s3:prefix":["a<b","c&d"],"aws:x":[]}},"NotResource":["arn:aws:s3:::b/*"],"NotAction":["s3:A","s3:B"],"NotPrincipal":{"Service":["x.amazonaws.com"],"AWS":"111122223333"},"Effect":"Deny","Sid":"S"}],"Id":"I","Version":"2012-10-17"}`
	want := `{"Version":"2012-10-17","Id":"I","Statement":[{"Sid":"S","Effect":"Deny","NotPrincipal":{"AWS":"111122223333","Service":"x.amazonaws.com"},"NotAction":["s3:A","s3:B"],"NotResource":"arn:aws:s3:::b/*","Condition":{"StringLike":{"s3:prefix":["a<b","c&d"],"aws:x":[]}}}]}`
	var d Document
	if err := json.Unmarshal([]byte(in), &d); err != nil {
		t.Fatal(err)
	}
	got, err := d.MarshalJSON()
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
	byValue, pointer := quoted(t, d), quoted(t, &d)
	if byValue != pointer {
		t.Errorf("by value %s\npointer  %s", byValue, pointer)
	}
	split := Document{Statements: []Statement{{Effect: Allow, Action: []string{"*"}, Resource: []string{"*"}, Condition: []Condition{
		{"Null", "aws:a", []string{"true"}}, {"StringEquals", "aws:b", []string{"1"}}, {"Null", "aws:c", []string{"true"}},
	}}}}
	if got, want := quoted(t, split), `"Condition":{"Null":{"aws:a":"true","aws:c":"true"},"StringEquals":{"aws:b":"1"}}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s in it", got, want)
	}
	if _, err := (Document{}).MarshalJSON(); err == nil {
		t.Error("a document without statements: got no error")
	}
}

// TestCompile: a document made in Go is held to the parser's rules, and later
// changes of it do not reach the policy.
func TestCompile(t *testing.T) {
	d := &Document{Version: version2012, Statements: []Statement{{Effect: Allow, Action: []string{"s3:GetObject"}, Resource: []string{"*"}}}}
	p, err := Compile("p", d)
	if err != nil {
		t.Fatal(err)
	}
	d.Statements[0].Action[0] = "iam:*"
	d.Statements[0].Effect = Deny
	if dec := check(t, get(user()), &Set{Identity: []*Policy{p}}); !dec.Allowed || dec.Policy != "p" {
		t.Errorf("after changing the document: got %+v, want allowed by p", dec)
	}
	if p.Name() != "p" || p.Document().Statements[0].Effect != Allow {
		t.Errorf("got name %q and %+v", p.Name(), p.Document())
	}
	for name, bad := range map[string]*Document{
		"nil":     nil,
		"empty":   {},
		"effect":  {Statements: []Statement{{Effect: "Permit", Action: []string{"*"}}}},
		"any and": {Statements: []Statement{{Effect: Allow, Principal: &Principals{Any: true, AWS: []string{"*"}}, Action: []string{"*"}}}},
		"twice": {Statements: []Statement{{Effect: Allow, Action: []string{"*"}, Condition: []Condition{
			{"Null", "aws:a", []string{"true"}}, {"Null", "aws:A", []string{"false"}},
		}}}},
	} {
		if _, err := Compile(name, bad); err == nil || !strings.Contains(err.Error(), `"`+name+`"`) {
			t.Errorf("%s: got %v, want an error that names it", name, err)
		}
	}
}
