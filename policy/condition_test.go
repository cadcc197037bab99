package policy

import (
	"fmt"
	"strings"
	"testing"
)

// keyState is how a condition key stands in a request.
type keyState struct {
	name string
	set  func(*Context)
}

func absent() keyState { return keyState{"absent", func(*Context) {}} }

func single(v string) keyState {
	return keyState{fmt.Sprintf("%q", v), func(c *Context) { c.Set("aws:K", v) }}
}

func list(vs ...string) keyState {
	return keyState{fmt.Sprintf("%q", vs), func(c *Context) { c.SetList("aws:k", vs...) }}
}

// conditionHolds evaluates one condition in an Allow. It also evaluates it in a
// Deny, where an unsettled condition must hold instead.
func conditionHolds(t *testing.T, operator, values string, key keyState) (holds, ambiguous bool) {
	t.Helper()
	cond := fmt.Sprintf(`"Condition":{%q:{"AWS:k":%s}}`, operator, values)
	ctx := NewContext()
	key.set(ctx)
	r := &Request{Principal: user(), Action: "s3:GetObject", Resource: objectARN, ResourceAccount: account, Context: ctx}
	allow := compiled(t, statementJSON(`"Effect":"Allow","Action":"*","Resource":"*",`+cond))
	deny := compiled(t, statementJSON(`"Effect":"Deny","Action":"*","Resource":"*",`+cond))
	d := check(t, r, &Set{Identity: []*Policy{allow}})
	denied := check(t, r, &Set{Identity: []*Policy{deny, compiled(t, allowAll)}})
	ambiguous = d.Ambiguous != ""
	if ambiguous != (denied.Ambiguous != "") {
		t.Errorf("%s %s, key %s: ambiguous in Allow %q, in Deny %q", operator, values, key.name, d.Ambiguous, denied.Ambiguous)
	}
	if want := d.Allowed || ambiguous; denied.Explicit != want {
		t.Errorf("%s %s, key %s: Deny applied %v, want %v", operator, values, key.name, denied.Explicit, want)
	}
	return d.Allowed, ambiguous
}

// families is one matching and one other value for every operator.
var families = []struct {
	operators string // positive | negated
	value     string // the policy's
	same      string // a request's that matches
	other     string // a request's that does not
}{
	{"StringEquals|StringNotEquals", `"v"`, "v", "w"},
	{"StringEqualsIgnoreCase|StringNotEqualsIgnoreCase", `"v"`, "V", "w"},
	{"StringLike|StringNotLike", `"v*"`, "vx", "w"},
	{"NumericEquals|NumericNotEquals", `"5"`, "5.0", "6"},
	{"NumericLessThan|", `"5"`, "4", "5"},
	{"NumericLessThanEquals|", `"5"`, "5", "5.1"},
	{"NumericGreaterThan|", `"5"`, "5.01", "5"},
	{"NumericGreaterThanEquals|", `"5"`, "5", "4.9"},
	{"DateEquals|DateNotEquals", `"2026-01-02T03:04:05Z"`, "1767323045", "2026-01-02"},
	{"DateLessThan|", `"2026-01-02T00:00:00Z"`, "2026-01-01", "2026-01-02"},
	{"DateLessThanEquals|", `"2026-01-02"`, "2026-01-02", "2026-01-03"},
	{"DateGreaterThan|", `"2026-01-02"`, "2026-01-03", "2026-01-02"},
	{"DateGreaterThanEquals|", `"2026-01-02"`, "2026-01-02", "2026-01-01"},
	{"Bool|", `"true"`, "TRUE", "false"},
	{"BinaryEquals|", `"aGk="`, "hi", "ho"},
	{"IpAddress|NotIpAddress", `"10.0.0.0/8"`, "10.1.2.3", "11.1.2.3"},
	{"ArnEquals|ArnNotEquals", `"arn:aws:s3:::b/*"`, "arn:aws:s3:::b/k", "arn:aws:s3:::c/k"},
	{"ArnLike|ArnNotLike", `"arn:aws:s3:::b/*"`, "arn:aws:s3:::b/k", "arn:aws:s3:::c/k"},
}

// TestTruthTable is the table of missing, empty and multivalued keys: a row per
// form, for each operator.
func TestTruthTable(t *testing.T) {
	for _, f := range families {
		positive, negated, _ := strings.Cut(f.operators, "|")
		t.Run(positive, func(t *testing.T) { testForms(t, positive, f.value, f.same, f.other, true) })
		if negated != "" {
			t.Run(negated, func(t *testing.T) { testForms(t, negated, f.value, f.other, f.same, false) })
		}
	}
}

// testForms goes through the rows for one operator; yes and no are request
// values for which it holds and does not.
func testForms(t *testing.T, op, value, yes, no string, positive bool) {
	rows := []struct {
		operator string
		key      keyState
		want     bool
	}{
		// scalar: a missing key is false for a positive and true for a negated operator
		{op, absent(), !positive},
		{op, single(yes), true},
		{op, single(no), false},
		// a multivalued key is false, even for a negated operator and with one value
		{op, list(yes), false},
		{op, list(no), false},
		{op, list(), false},
		// IfExists: a missing key is true for both
		{op + "IfExists", absent(), true},
		{op + "IfExists", single(yes), true},
		{op + "IfExists", single(no), false},
		{op + "IfExists", list(yes), false},
		// ForAllValues: vacuously true; otherwise every value must match
		{"ForAllValues:" + op, absent(), true},
		{"ForAllValues:" + op, list(), true},
		{"ForAllValues:" + op, list(yes, yes), true},
		{"ForAllValues:" + op, list(yes, no), false},
		{"ForAllValues:" + op, single(yes), true},
		{"ForAllValues:" + op, single(no), false},
		{"ForAllValues:" + op + "IfExists", absent(), true},
		// ForAnyValue: a missing key is false, also for a negated operator
		{"ForAnyValue:" + op, absent(), false},
		{"ForAnyValue:" + op, list(), false},
		{"ForAnyValue:" + op, list(no, yes), true},
		{"ForAnyValue:" + op, list(no, no), false},
		{"ForAnyValue:" + op, single(yes), true},
		{"ForAnyValue:" + op + "IfExists", absent(), true},
		{"ForAnyValue:" + op + "IfExists", list(no), false},
	}
	for _, row := range rows {
		got, ambiguous := conditionHolds(t, row.operator, value, row.key)
		if got != row.want || ambiguous {
			t.Errorf("%s %s, key %s: got %v (ambiguous %v), want %v", row.operator, value, row.key.name, got, ambiguous, row.want)
		}
	}
	// an empty list of values matches nothing that is present
	for _, prefix := range []string{"", "ForAllValues:", "ForAnyValue:"} {
		key := list(yes)
		if prefix == "" {
			key = single(yes)
		}
		if got, _ := conditionHolds(t, prefix+op, `[]`, key); got {
			t.Errorf("%s%s [], key %s: got true, want false", prefix, op, key.name)
		}
	}
	if got, ambiguous := conditionHolds(t, op+"IfExists", `[]`, absent()); !got || ambiguous {
		t.Errorf("%sIfExists [], absent: got %v, want true", op, got)
	}
	if got, ambiguous := conditionHolds(t, "ForAllValues:"+op, `[]`, absent()); !got || ambiguous {
		t.Errorf("ForAllValues:%s [], absent: got %v, want true", op, got)
	}
	if got, ambiguous := conditionHolds(t, op, `[]`, absent()); got || ambiguous == positive {
		t.Errorf("%s [], absent: got %v (ambiguous %v)", op, got, ambiguous)
	}
}

// TestConditionRows holds what differs between the operators: empty values,
// values that do not convert, lists of values, case, and text forms.
func TestConditionRows(t *testing.T) {
	const unsettled = "unsettled"
	rows := []struct {
		operator, values string
		key              keyState
		want             string
	}{
		// an empty value is compared as ""
		{"StringEquals", `""`, single(""), "true"},
		{"StringEquals", `"v"`, single(""), "false"},
		{"StringNotEquals", `""`, single(""), "false"},
		{"StringNotEquals", `""`, absent(), "true"}, // the fault of the negated trust policy
		{"StringLike", `"*"`, single(""), "true"},
		{"StringLike", `"?*"`, single(""), "false"},
		{"Null", `"true"`, absent(), "true"},
		{"Null", `"true"`, single(""), "false"},
		{"Null", `"true"`, single("v"), "false"},
		{"Null", `"true"`, list("v"), "false"},
		{"Null", `"true"`, list(), "false"},
		{"Null", `"false"`, absent(), "false"},
		{"Null", `"false"`, single(""), "true"}, // an empty tag passes
		{"Null", `"false"`, list("v"), "true"},
		{"Null", `false`, single("v"), "true"},
		{"Null", `["true","false"]`, absent(), "true"},
		{"Null", `["true","false"]`, single("v"), "true"},
		{"Null", `[]`, absent(), "false"},
		{"ForAllValues:StringEquals", `"v"`, single(""), unsettled},
		{"ForAllValues:StringEquals", `"v"`, list(""), unsettled},
		{"ForAllValues:StringEquals", `"v"`, list("", "v"), "false"},
		{"ForAllValues:StringEquals", `["v",""]`, list("", "v"), "true"},
		{"ForAnyValue:StringEquals", `"v"`, list(""), "false"},

		// the values of a key are alternatives; for a negated operator none may match
		{"StringEquals", `["a","b"]`, single("b"), "true"},
		{"StringNotEquals", `["a","b"]`, single("b"), "false"},
		{"StringNotEquals", `["a","b"]`, single("c"), "true"},
		{"ForAllValues:StringNotEquals", `["a","b"]`, list("c", "a"), "false"},
		{"ForAnyValue:StringNotEquals", `["a","b"]`, list("c", "a"), "true"},

		// strings
		{"StringEquals", `"V"`, single("v"), "false"},
		{"StringEquals", `"a*"`, single("ab"), "false"},
		{"StringEquals", `"a*"`, single("a*"), "true"},
		{"StringEquals", `"${*}${?}${$}"`, single("*?$"), "true"},
		{"StringLike", `"a${*}"`, single("ab"), "false"},
		{"StringLike", `"a${*}"`, single("a*"), "true"},
		{"StringLike", `"a${?}${$}{x}"`, single("a?${x}"), "true"},
		{"StringLike", `"a?"`, single("a"), "false"},
		{"StringLike", `"a*c"`, single("a/b\nc"), "true"},
		{"StringLike", `"?"`, single("é"), "true"},
		{"StringLike", `"?"`, single("😀"), "false"},
		{"StringLike", `"??"`, single("😀"), "true"},
		{"StringLike", `"?*?"`, single("😀"), "true"},
		{"StringLike", `"*?😀"`, single("😀"), "false"},
		{"StringLike", `"?😀*"`, single("😀"), "false"},
		{"StringLike", `"*a?"`, single("abc"), "false"},
		{"StringLike", `"*a?"`, single("abac"), "true"},
		{"StringLike", `"A"`, single("a"), "false"},
		{"StringEqualsIgnoreCase", `"ſ"`, single("S"), "false"}, // lower-casing, not folding
		{"StringEqualsIgnoreCase", `"ΟΔΟΣ"`, single("οδος"), "true"},
		{"StringEqualsIgnoreCase", `"ΟΔΟΣ"`, single("οδοσ"), "false"},
		{"StringEqualsIgnoreCase", `"ΣΟΦΟΣ."`, single("σοφος."), "true"},
		{"StringEqualsIgnoreCase", `"Σ"`, single("σ"), "true"},
		{"StringEqualsIgnoreCase", `"İ"`, single("i"), "false"},
		{"StringEqualsIgnoreCase", `"ÀB"`, single("àb"), "true"},
		{"StringEqualsIgnoreCase", `"a*"`, single("AB"), "false"},

		// numbers
		{"NumericEquals", `5`, single("+005.00"), "true"},
		{"NumericEquals", `"-0"`, single("0"), "true"},
		{"NumericEquals", `"1000"`, single("1e3"), "false"},
		{"NumericLessThan", `"-1"`, single("-2"), "true"},
		{"NumericLessThan", `"0.1"`, single("0.0999"), "true"},
		{"NumericGreaterThan", `"9"`, single("10"), "true"},
		{"NumericLessThan", `"99999999999999999999999999"`, single("99999999999999999999999998.9"), "true"},
		{"NumericEquals", `"5"`, single("five"), "false"},
		{"NumericNotEquals", `"5"`, single("five"), "true"},
		{"NumericNotEquals", `"5"`, single(""), "true"},
		{"NumericLessThan", `"5"`, single(" 4"), "false"},

		// dates
		{"DateEquals", `"2026-01-02T03:04:05+01:00"`, single("2026-01-02T02:04:05Z"), "true"},
		{"DateEquals", `"2026-01-02T03:04:05.123Z"`, single("2026-01-02T03:04:05.1239Z"), "true"}, // milliseconds
		{"DateEquals", `"2026-01-02T03:04:05.123Z"`, single("2026-01-02T03:04:05.124Z"), "false"},
		{"DateEquals", `1767323045`, single("2026-01-02T03:04:05Z"), "true"},
		{"DateEquals", `"1767323045.5"`, single("2026-01-02T03:04:05.500Z"), "true"},
		{"DateEquals", `"2026-01-02T03:04Z"`, single("2026-01-02T03:04:00"), "true"},
		{"DateEquals", `"2026-01"`, single("2026-01-01T00:00:00Z"), "true"},
		{"DateLessThan", `"2026-01-02"`, single("yesterday"), "false"},
		{"DateLessThan", `"2026-01-02"`, single("2026-01-01T3:04:05Z"), "false"},
		{"DateNotEquals", `"2026-01-02"`, single("yesterday"), "true"},

		// booleans
		{"Bool", `true`, single("True"), "true"},
		{"Bool", `"false"`, single("no"), "true"},
		{"Bool", `"true"`, single("1"), "false"},
		{"Bool", `"false"`, single(""), "true"},
		{"Bool", `"false"`, absent(), "false"},
		{"Bool", `["true","false"]`, single("x"), "true"},

		// binary
		{"BinaryEquals", `"AAE="`, single("\x00\x01"), "true"},
		{"BinaryEquals", `"AAE="`, single("AAE="), "false"},

		// addresses
		{"IpAddress", `"10.0.0.7"`, single("10.0.0.7"), "true"},
		{"IpAddress", `"10.0.0.7/8"`, single("10.9.9.9"), "true"},
		{"IpAddress", `"2001:db8::/32"`, single("2001:db8:1::1"), "true"},
		{"IpAddress", `"2001:db8::1/32"`, single("2001:db8::1"), "false"}, // host bits set
		{"NotIpAddress", `"2001:db8::1/32"`, single("2001:db8::1"), "true"},
		{"IpAddress", `"0.0.0.0/0"`, single("10.0.0.256"), "false"},
		{"NotIpAddress", `"10.0.0.0/8"`, single("10.0.0.256"), "false"}, // malformed never matches, even negated
		{"NotIpAddress", `"10.0.0.0/8"`, single(""), "false"},
		{"NotIpAddress", `"10.0.0.0/8"`, single("fe80::1%eth0"), "false"},
		{"IpAddress", `"0.0.0.0/0"`, single("2001:db8::1"), "false"},
		{"IpAddress", `["10.0.0.0/8","2001:db8::/32"]`, single("2001:db8::1"), "true"},

		// ARNs
		{"ArnLike", `"arn:aws:iam::*:role/*"`, single("arn:aws:iam::111122223333:role/a/b"), "true"},
		{"ArnLike", `"arn:aws:*:b"`, single("arn:aws:s3:::b"), "false"}, // a star stays in its part
		{"ArnLike", `"arn:aws:sns:*:*:t"`, single("arn:aws:sns:r:a:t"), "true"},
		{"ArnLike", `"arn:aws:sns:*:t:x"`, single("arn:aws:sns:r:a:t:x"), "false"},
		{"ArnLike", `"arn:aws:sns:r:a:t*"`, single("arn:aws:sns:r:a:t:x"), "true"},
		{"ArnEquals", `"ARN:aws:s3:::b"`, single("arn:aws:s3:::b"), "false"},
		{"ArnEquals", `"arn:aws:s3:::B"`, single("arn:aws:s3:::b"), "false"},
		{"ArnLike", `"arn:aws:s3:::*"`, single("b"), "false"},
		{"ArnNotLike", `"arn:aws:s3:::*"`, single("b"), "false"}, // malformed never matches, even negated
		{"ArnNotLike", `"arn:aws:s3:::*"`, single(""), "false"},
		{"ArnNotEquals", `"arn:aws:s3:::c"`, single("arn:aws:s3:::b"), "true"},
		{"ArnLike", `"*"`, single("arn:aws:s3:::b"), unsettled},
		{"ArnNotLike", `"*"`, single("arn:aws:s3:::b"), unsettled},
	}
	for _, row := range rows {
		got, ambiguous := conditionHolds(t, row.operator, row.values, row.key)
		text := fmt.Sprint(got)
		if ambiguous {
			text = unsettled
		}
		if text != row.want {
			t.Errorf("%s %s, key %s: got %s, want %s", row.operator, row.values, row.key.name, text, row.want)
		}
	}
}

// TestConditionsCombine: operators and keys are all needed, for an Allow and
// for a Deny; an over-specified Deny never fires.
func TestConditionsCombine(t *testing.T) {
	cond := `"Condition":{"StringEquals":{"aws:a":"1","aws:b":"2"},"Null":{"aws:c":"true"}}`
	deny := compiled(t, statementJSON(`"Effect":"Deny","Action":"*","Resource":"*",`+cond))
	for _, row := range []struct {
		keys   []string
		denied bool
	}{
		{[]string{"aws:a=1", "aws:b=2"}, true},
		{[]string{"aws:a=1"}, false},
		{[]string{"aws:a=1", "aws:b=3"}, false},
		{[]string{"aws:a=1", "aws:b=2", "aws:c="}, false},
	} {
		ctx := NewContext()
		for _, kv := range row.keys {
			k, v, _ := strings.Cut(kv, "=")
			ctx.Set(k, v)
		}
		r := &Request{Principal: user(), Action: "s3:GetObject", Resource: objectARN, ResourceAccount: account, Context: ctx}
		if d := check(t, r, &Set{Identity: []*Policy{deny, compiled(t, allowAll)}}); d.Explicit != row.denied {
			t.Errorf("%v: denied %v, want %v", row.keys, d.Explicit, row.denied)
		}
	}
}

// TestKeyNames: names of keys are compared without case, also the tag's part,
// but a letter outside ASCII never stands for one inside it.
func TestKeyNames(t *testing.T) {
	p := compiled(t, statementJSON(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/Key":"v"}}`))
	for key, want := range map[string]bool{
		"aws:PrincipalTag/Key":      true,
		"AWS:principaltag/kEY":      true,
		"aws:PrincipalTag/\u212Aey": false, // the Kelvin sign
		"aws:PrincipalTag/Key ":     false,
	} {
		ctx := NewContext()
		ctx.Set(key, "v")
		r := &Request{Principal: user(), Action: "s3:GetObject", Resource: objectARN, ResourceAccount: account, Context: ctx}
		if d := check(t, r, &Set{Identity: []*Policy{p}}); d.Allowed != want {
			t.Errorf("key %q: got %v, want %v", key, d.Allowed, want)
		}
	}
}
