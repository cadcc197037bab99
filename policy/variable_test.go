package policy

import (
	"strings"
	"testing"
)

// TestVariables goes through the rules of policy variables. Tag "-" is absent,
// and "[…]" a multivalued key.
func TestVariables(t *testing.T) {
	const v = "${aws:PrincipalTag/k}"
	resource := func(r string) string { return `"Action":"*","Resource":"arn:aws:s3:::b/` + r + `"` }
	notResource := func(r string) string { return `"Action":"*","NotResource":"arn:aws:s3:::b/` + r + `"` }
	condition := func(op, value string) string {
		return `"Action":"*","Resource":"*","Condition":{"` + op + `":{"aws:K":"` + value + `"}}`
	}
	rows := []struct {
		name, version, statement, tag, key string // key: the object's and the value of aws:K
		want                               string // true, false or unsettled
	}{
		{"resource", "2012-10-17", resource(v + "/*"), "a", "a/x", "true"},
		{"resource, other value", "2012-10-17", resource(v + "/*"), "a", "b/x", "false"},
		{"name without case", "2012-10-17", resource("${AWS:principaltag/K}/*"), "a", "a/x", "true"},
		{"value keeps case", "2012-10-17", resource(v + "/*"), "A", "a/x", "false"},
		{"2008: literal", "2008-10-17", resource(v + "/*"), "a", "a/x", "false"},
		{"2008: literal text", "2008-10-17", resource(v + "/*"), "a", v + "/x", "true"},
		{"no version: literal text", "", resource(v + "/*"), "a", v + "/x", "true"},
		{"no version: condition", "", condition("StringEquals", v), "a", v, "true"},

		{"star in a value", "2012-10-17", resource(v + "/*"), "*", "a/x", "false"},
		{"star in a value, literally", "2012-10-17", resource(v + "/*"), "*", "*/x", "true"},
		{"question mark in a value", "2012-10-17", resource(v + "/*"), "?", "a/x", "false"},
		{"variable in a value", "2012-10-17", resource(v + "/*"), "${aws:K}", "a/x", "false"},
		{"variable in a value, literally", "2012-10-17", resource(v + "/*"), "${aws:K}", "${aws:K}/x", "true"},
		{"literal escape in a value", "2012-10-17", resource(v + "/*"), "${*}", "*/x", "false"},
		{"slash in a value", "2012-10-17", resource(v + "/*"), "a/b", "a/b/x", "true"},
		{"StringLike, star in a value", "2012-10-17", condition("StringLike", v+"/*"), "*", "a/x", "false"},
		{"StringLike", "2012-10-17", condition("StringLike", v+"/*"), "a", "a/x", "true"},
		{"StringEquals", "2012-10-17", condition("StringEquals", "x-"+v+"-"+v), "a", "x-a-a", "true"},
		{"StringEqualsIgnoreCase", "2012-10-17", condition("StringEqualsIgnoreCase", "X-"+v), "A", "x-a", "true"},
		{"ArnLike", "2012-10-17", condition("ArnLike", "arn:aws:s3:::"+v+"/*"), "a", "arn:aws:s3:::a/x", "true"},
		{"ArnLike, colon in a value", "2012-10-17", condition("ArnLike", "arn:aws:s3:"+v+":x"), "r:a", "arn:aws:s3:r:a:x", "false"},
		{"ArnLike, star in a value", "2012-10-17", condition("ArnLike", "arn:aws:s3:::"+v), "*", "arn:aws:s3:::a", "false"},

		{"missing, resource", "2012-10-17", resource(v + "*"), "-", "x", "false"},
		{"missing, resource literal", "2012-10-17", resource(v + "*"), "-", v, "false"},
		{"missing, NotResource", "2012-10-17", notResource(v + "/*"), "-", "x", "unsettled"},
		{"present, NotResource, inside", "2012-10-17", notResource(v + "/*"), "a", "a/x", "false"},
		{"present, NotResource, outside", "2012-10-17", notResource(v + "/*"), "a", "b/x", "true"},
		{"missing, positive", "2012-10-17", condition("StringLike", v+"*"), "-", "x", "false"},
		{"missing, negated", "2012-10-17", condition("StringNotEquals", v), "-", "x", "true"},
		{"missing, negated like", "2012-10-17", condition("StringNotLike", v+"/*"), "-", "x", "true"},
		{"missing, negated ARN", "2012-10-17", condition("ArnNotLike", "arn:aws:s3:::"+v), "-", "arn:aws:s3:::x", "true"},

		{"default, missing", "2012-10-17", resource("${aws:PrincipalTag/k, 'shared'}/*"), "-", "shared/x", "true"},
		{"default, present", "2012-10-17", resource("${aws:PrincipalTag/k, 'shared'}/*"), "a", "shared/x", "false"},
		{"default is literal", "2012-10-17", resource("${aws:PrincipalTag/k, '*'}/*"), "-", "a/x", "false"},
		{"default is literal text", "2012-10-17", resource("${aws:PrincipalTag/k, '${*}'}/*"), "-", "${*}/x", "true"},
		{"empty default", "2012-10-17", resource("${aws:PrincipalTag/k, ''}/*"), "-", "/x", "true"},
		{"default, negated", "2012-10-17", condition("StringNotEquals", "${aws:PrincipalTag/k, 'd'}"), "-", "d", "false"},
		{"empty value without default", "2012-10-17", resource(v + "/*"), "", "/x", "true"},
		{"empty value, default would match", "2012-10-17", resource("${aws:PrincipalTag/k, 'shared'}/*"), "", "shared/x", "unsettled"},
		{"empty value would match", "2012-10-17", resource("${aws:PrincipalTag/k, 'shared'}/*"), "", "/x", "unsettled"},
		{"empty value, neither matches", "2012-10-17", resource("${aws:PrincipalTag/k, 'shared'}/*"), "", "z/x", "false"},

		{"multivalued, resource", "2012-10-17", resource(v + "/*"), "[a]", "a/x", "false"},
		{"multivalued, default", "2012-10-17", resource("${aws:PrincipalTag/k, 'a'}/*"), "[a]", "a/x", "false"},
		{"multivalued, negated", "2012-10-17", condition("StringNotEquals", "${aws:PrincipalTag/k, 'a'}"), "[a]", "a", "true"},
		{"multivalued, NotResource", "2012-10-17", notResource(v + "/*"), "[a]", "b/x", "unsettled"},
	}
	for _, row := range rows {
		version := `"Version":"` + row.version + `",`
		if row.version == "" {
			version = ""
		}
		allow := compiled(t, `{`+version+`"Statement":{"Effect":"Allow",`+row.statement+`}}`)
		deny := compiled(t, `{`+version+`"Statement":{"Effect":"Deny",`+row.statement+`}}`)
		r := get(user())
		r.Resource = "arn:aws:s3:::b/" + row.key
		r.Context.Set("aws:k", row.key)
		switch {
		case strings.HasPrefix(row.tag, "["):
			r.Context.SetList("aws:PrincipalTag/k", strings.Trim(row.tag, "[]"))
		case row.tag != "-":
			r.Context.Set("aws:PrincipalTag/k", row.tag)
		}
		d := check(t, r, &Set{Identity: []*Policy{allow}})
		got := map[bool]string{true: "true", false: "false"}[d.Allowed]
		if d.Ambiguous != "" {
			got = "unsettled"
		}
		if got != row.want {
			t.Errorf("%s: got %s, want %s", row.name, got, row.want)
		}
		denied := check(t, r, &Set{Identity: []*Policy{deny, compiled(t, allowAll)}})
		if want := row.want != "false"; denied.Explicit != want || (denied.Ambiguous != "") != (row.want == "unsettled") {
			t.Errorf("%s, Deny: got %+v, want explicit %v", row.name, denied, want)
		}
	}
}

// TestVariableSyntax: what is no variable is refused, not taken for text.
func TestVariableSyntax(t *testing.T) {
	for text, ok := range map[string]bool{
		"${aws:username}":                true,
		"${aws:username, 'x y'}":         true,
		"${aws:PrincipalTag/my key}":     true,
		"${127.0.0.1:8091:sub}":          true,
		"$":                              true,
		"$}{":                            true,
		"${$}{aws:username}":             true,
		"${aws:username":                 false,
		"${}":                            false,
		"${username}":                    false,
		"${aws:username,'x'}":            false,
		"${aws:username,  'x'}":          false,
		"${aws:username, x}":             false,
		"${aws:username, 'x}":            false,
		"${aws:username, 'x' }":          false,
		"${ aws:username}":               false,
		"${aws:${aws:username}}":         false,
		"${aws:PrincipalTag/*}":          false,
		"${**}":                          false,
		"${aws:a, 'b'}${aws:c, 'd'":      false,
		"${aws:a, 'b'}${aws:c, 'd'}e":    true,
		"${aws:a, ''}":                   true,
		"x${aws:username}y${?}z${*}${$}": true,
	} {
		_, err := parsePattern(text, true, true)
		if (err == nil) != ok {
			t.Errorf("%q: got %v, want accepted %v", text, err, ok)
		}
		if _, err := parsePattern(text, true, false); err != nil {
			t.Errorf("%q in an old version: %v", text, err)
		}
	}
}
