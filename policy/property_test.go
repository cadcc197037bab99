package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The small closed world from which random documents and requests are drawn.
var (
	worldActions   = []string{"s3:GetObject", "s3:PutObject", "s3:ListBucket", "sts:AssumeRole", "sts:GetCallerIdentity"}
	worldPatterns  = []string{"*", "s3:*", "s3:Get*", "s3:?utObject", "S3:LISTBUCKET", "sts:Assume*"}
	worldResources = []string{"arn:aws:s3:::b", "arn:aws:s3:::b/a/x", "arn:aws:s3:::b/b/x", "*"}
	worldARNs      = []string{
		"*", "arn:aws:s3:::b", "arn:aws:s3:::b/*", "arn:aws:s3:::b/${aws:PrincipalTag/t}/*", "arn:aws:s3*",
		"arn:aws:s3:::b/${aws:PrincipalTag/t, 'a'}/*", "arn:*:s3:::b/a/?",
	}
	worldMembers = []string{
		`"*"`, `{"AWS":"*"}`, `{"AWS":"` + account + `"}`, `{"AWS":["` + roleARN + `"]}`, `{"AWS":"` + sessARN + `"}`,
		`{"AWS":["` + account + `","` + roleARN + `","` + sessARN + `"]}`, `{"AWS":"` + userARN + `"}`,
		`{"Federated":"` + providerA + `"}`, `{"Service":"s3.amazonaws.com"}`, `{"AWS":"` + foreign + `"}`,
	}
	worldOperators = []string{
		`"StringEquals":{"aws:PrincipalTag/t":"a"}`, `"StringNotEquals":{"aws:PrincipalTag/t":["a","b"]}`,
		`"StringLikeIfExists":{"s3:prefix":"${aws:PrincipalTag/t}/*"}`, `"StringNotLike":{"s3:prefix":"${aws:PrincipalTag/t}/*"}`,
		`"Null":{"aws:PrincipalTag/t":"true"}`, `"Null":{"aws:TagKeys":false}`, `"ForAllValues:StringEquals":{"aws:TagKeys":["t"]}`,
		`"ForAnyValue:StringNotEquals":{"aws:TagKeys":["t"]}`, `"NumericLessThan":{"s3:max-keys":10}`, `"Bool":{"aws:SecureTransport":true}`,
		`"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, `"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"}`, `"ArnNotLike":{"aws:PrincipalArn":"*"}`,
		`"StringNotEquals":{"aws:PrincipalTag/t":[]}`, `"DateGreaterThan":{"aws:CurrentTime":"2026-01-01"}`,
	}
	worldKeys = map[string][]string{
		"aws:PrincipalTag/t": {"", "a", "b", "*", "${aws:username}"}, "s3:prefix": {"", "a/", "b/", "*"}, "s3:max-keys": {"5", "100", "x"},
		"aws:SecureTransport": {"true", "false"}, "aws:SourceIp": {"10.1.1.1", "192.0.2.1", "x"}, "aws:PrincipalArn": {roleARN, "x"},
		"aws:CurrentTime": {"2026-06-01T00:00:00Z", "2025-01-01"}, "aws:TagKeys": {"t", "u", ""},
	}
	worldCallers = []Principal{{}, root(), user(), session(), federated(), webIdentity(), {Kind: Service, Service: "s3.amazonaws.com"}, stranger()}
)

func oneOf[T any](t *rapid.T, label string, list []T) T {
	return list[rapid.IntRange(0, len(list)-1).Draw(t, label)]
}

// drawDocument makes a document; resource says whether it names principals.
func drawDocument(t *rapid.T, resource bool) string {
	version := oneOf(t, "version", []string{`"Version":"2012-10-17",`, `"Version":"2012-10-17",`, `"Version":"2008-10-17",`, ``})
	var list []string
	for range rapid.IntRange(1, 4).Draw(t, "statements") {
		members := []string{
			`"Effect":"` + oneOf(t, "effect", []string{"Allow", "Allow", "Deny"}) + `"`,
			`"` + oneOf(t, "not", []string{"", "", "Not"}) + `Action":"` + oneOf(t, "action", worldPatterns) + `"`,
			`"` + oneOf(t, "not", []string{"", "", "Not"}) + `Resource":["` + oneOf(t, "resource", worldARNs) + `","` + oneOf(t, "resource", worldARNs) + `"]`,
		}
		if resource {
			members = append(members, `"`+oneOf(t, "not", []string{"", "", "", "Not"})+`Principal":`+oneOf(t, "principal", worldMembers))
		}
		a, b := oneOf(t, "condition", worldOperators), oneOf(t, "condition", worldOperators)
		switch n := rapid.IntRange(0, 2).Draw(t, "conditions"); {
		case n == 2 && a[:strings.Index(a, "{")] != b[:strings.Index(b, "{")]:
			members = append(members, `"Condition":{`+a+`,`+b+`}`)
		case n > 0:
			members = append(members, `"Condition":{`+a+`}`)
		}
		list = append(list, "{"+strings.Join(members, ",")+"}")
	}
	return `{` + version + `"Statement":[` + strings.Join(list, ",") + `]}`
}

func drawPolicies(t *rapid.T, layer string, resource bool, most int) []*Policy {
	var out []*Policy
	for i := range rapid.IntRange(0, most).Draw(t, layer) {
		d, err := Parse([]byte(drawDocument(t, resource)))
		if err != nil {
			t.Fatal(err)
		}
		p, err := Compile(fmt.Sprintf("%s %d", layer, i), d)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func drawSet(t *rapid.T) *Set {
	s := &Set{
		Identity:          drawPolicies(t, "identity", false, 2),
		Resource:          drawPolicies(t, "resource", true, 2),
		Boundary:          drawPolicies(t, "boundary", false, 1),
		Session:           drawPolicies(t, "session", false, 1),
		ResourceMustAllow: rapid.Bool().Draw(t, "must allow"),
	}
	if level := drawPolicies(t, "scp", false, 1); level != nil {
		s.ServiceControl = [][]*Policy{level}
	}
	if level := drawPolicies(t, "rcp", true, 1); level != nil {
		s.ResourceControl = [][]*Policy{level}
	}
	return s
}

func drawRequest(t *rapid.T) *Request {
	ctx := NewContext()
	for _, key := range sortedKeys(worldKeys) {
		values := worldKeys[key]
		switch rapid.IntRange(0, 3).Draw(t, "state of "+key) {
		case 0:
		case 1, 2:
			ctx.Set(key, oneOf(t, key, values))
		case 3:
			ctx.SetList(key, rapid.SliceOfN(rapid.SampledFrom(values), 0, 2).Draw(t, key)...)
		}
	}
	return &Request{
		Principal: oneOf(t, "caller", worldCallers), Action: oneOf(t, "action", worldActions),
		Resource: oneOf(t, "resource", worldResources), ResourceAccount: account, Context: ctx,
	}
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// checkExplanation holds Explain to Evaluate, and the decision to what is said
// of the statements.
func checkExplanation(t interface{ Fatalf(string, ...any) }, r *Request, s *Set) {
	d, x := Evaluate(r, s), Explain(r, s)
	if d != x.Decision {
		t.Fatalf("Evaluate and Explain differ:\n%+v\n%+v", d, x.Decision)
	}
	if lines := strings.Count(x.Text, "\n"); lines != 1+len(x.Statements) {
		t.Fatalf("got %d lines for %d statements:\n%s", lines, len(x.Statements), x.Text)
	}
	denied := false
	for _, st := range x.Statements {
		denied = denied || st.Matched && st.Effect == Deny
		if st.Matched == (st.Failed != "") {
			t.Fatalf("matched %v and failed %q: %+v", st.Matched, st.Failed, st)
		}
		if st.Statement == d.Statement && st.Layer == d.Layer && st.Policy == d.Policy {
			if !st.Matched || d.Sid != st.Sid || (st.Effect == Deny) != d.Explicit {
				t.Fatalf("the statement that decided: %+v\ndecision: %+v", st, d)
			}
		}
	}
	if denied != d.Explicit && !r.isGetCallerIdentity() {
		t.Fatalf("a Deny matched: %v, decision %+v\n%s", denied, d, x.Text)
	}
	if d.Allowed && (d.Ambiguous != "" || d.Explicit) {
		t.Fatalf("allowed, yet %+v", d)
	}
}

func TestExplainAgreesWithEvaluate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkExplanation(t, drawRequest(t), drawSet(t)) })
}

// TestOrderIsNothing: the order of statements and policies never matters.
func TestOrderIsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, s := drawRequest(t), drawSet(t)
		before := Evaluate(r, s)
		reversed := *s
		for _, layer := range []*[]*Policy{&reversed.Identity, &reversed.Resource, &reversed.Boundary, &reversed.Session} {
			if *layer != nil {
				*layer = reversePolicies(*layer)
			}
		}
		after := Evaluate(r, &reversed)
		if before.Allowed != after.Allowed || before.Explicit != after.Explicit || (before.Ambiguous == "") != (after.Ambiguous == "") {
			t.Fatalf("before %+v, after %+v", before, after)
		}
	})
}

func reversePolicies(list []*Policy) []*Policy {
	out := slices.Clone(list)
	slices.Reverse(out)
	for i, p := range out {
		d := p.doc.clone()
		slices.Reverse(d.Statements)
		out[i], _ = Compile(p.name, d)
	}
	return out
}

// TestMorePoliciesNeverSurprise: a Deny that is added never lets more through,
// an identity Allow that is added never less, and a boundary or a session policy
// that is added never more.
func TestMorePoliciesNeverSurprise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, s := drawRequest(t), drawSet(t)
		before := Evaluate(r, s).Allowed
		added := *s
		extra := drawPolicies(t, "extra", false, 1)
		what := "Deny"
		switch {
		case len(extra) == 0 && s.Boundary == nil:
			what = "boundary"
			added.Boundary = []*Policy{}
		case len(extra) == 0:
			return
		default:
			d := extra[0].doc.clone()
			effect := oneOf(t, "effect", []Effect{Allow, Deny})
			what = string(effect)
			for i := range d.Statements {
				d.Statements[i].Effect = effect
			}
			p, err := Compile("extra", d)
			if err != nil {
				t.Fatal(err)
			}
			added.Identity = append(slices.Clone(s.Identity), p)
		}
		after := Evaluate(r, &added).Allowed
		if what == "Allow" && before && !after || what != "Allow" && !before && after {
			t.Fatalf("%s added: before %v, after %v", what, before, after)
		}
	})
}

// TestTenantsAreAlike: with the two tenants' names exchanged in documents and
// request alike, the decision is the same.
func TestTenantsAreAlike(t *testing.T) {
	exchange := strings.NewReplacer("/a/", "/b/", "/b/", "/a/", `"a"`, `"b"`, `"b"`, `"a"`, "'a'", "'b'", "'b'", "'a'")
	swap := func(v string) string {
		return map[string]string{"a": "b", "b": "a", "a/": "b/", "b/": "a/"}[v]
	}
	rapid.Check(t, func(t *rapid.T) {
		text := drawDocument(t, true)
		r := drawRequest(t)
		other := *r
		other.Resource = exchange.Replace(r.Resource)
		other.Context = r.Context.Clone()
		for _, key := range []string{"aws:PrincipalTag/t", "s3:prefix"} {
			if v, ok := r.Context.lookup(foldKey(key)); ok && !v.multi && swap(v.single) != "" {
				other.Context.Set(key, swap(v.single))
			} else if ok && v.multi {
				return
			}
		}
		var d [2]Decision
		for i, form := range []struct {
			text string
			r    *Request
		}{{text, r}, {exchange.Replace(text), &other}} {
			doc, err := Parse([]byte(form.text))
			if err != nil {
				t.Fatal(err)
			}
			p, err := Compile("p", doc)
			if err != nil {
				t.Fatal(err)
			}
			d[i] = Evaluate(form.r, &Set{Resource: []*Policy{p}})
		}
		if d[0] != d[1] {
			t.Fatalf("%s\n%+v\n%+v", text, d[0], d[1])
		}
	})
}

// TestRoundTrip: what is parsed is written and parsed to the same, and the
// copy decides the same.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := Parse([]byte(drawDocument(t, true)))
		if err != nil {
			t.Fatal(err)
		}
		text, err := d.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(d, again) {
			t.Fatalf("got %+v\nwant %+v", again, d)
		}
		a, _ := Compile("p", d)
		b, _ := Compile("p", again)
		r := drawRequest(t)
		if x, y := Evaluate(r, &Set{Resource: []*Policy{a}}), Evaluate(r, &Set{Resource: []*Policy{b}}); x != y {
			t.Fatalf("%+v\n%+v", x, y)
		}
	})
}

// TestEvaluateAllocations: deciding costs no memory that grows with the request.
func TestEvaluateAllocations(t *testing.T) {
	s := &Set{Resource: []*Policy{compiledFile(t, "bucket-hardened.json")}}
	small := tenantRequest("s3:GetObject", own(walletA, "x"), walletA)
	large := tenantRequest("s3:GetObject", own(walletA, strings.Repeat("x/", 500)), walletA)
	for i := range 500 {
		large.Context.Set(fmt.Sprintf("aws:RequestTag/k%d", i), strings.Repeat("v", 256))
	}
	a := testing.AllocsPerRun(100, func() { Evaluate(small, s) })
	b := testing.AllocsPerRun(100, func() { Evaluate(large, s) })
	if a != b {
		t.Errorf("got %v allocations for a small request and %v for a large one", a, b)
	}
}
