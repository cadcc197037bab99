package federation

import (
	"fmt"
	"strings"

	"agentkeys/policy"
)

// Causes that are not among the three faults.
const (
	faultBucketPolicy Fault = "bucket-policy" // the bucket policy itself lets a stranger in
	faultUnknown      Fault = "unknown"       // something lets a stranger in, and the documents are not known
)

// tokenCauses looks at the token that a tenant sent.
func (v *prover) tokenCauses(a *actor, c claims) {
	switch {
	case c.TagProblem != "":
		v.addCause(Cause{
			Fault:    FaultTagsClaim,
			Evidence: fmt.Sprintf("%s's token makes no session tag: %s.", a.Name, c.TagProblem),
			Fix:      fmt.Sprintf(`Mint %q as {"principal_tags": {%q: ["<tag>"]}}.`, tagsClaim, v.Config.TagKey),
		})
	case c.Tag != a.Tag:
		v.addCause(Cause{
			Fault:    FaultTagsClaim,
			Evidence: fmt.Sprintf("%s's token carries tag %q, not %q.", a.Name, c.Tag, a.Tag),
			Fix:      "Mint the tag from the identity that was verified.",
		})
	}
}

// addCause adds a cause unless its fault is named already: the second tenant's
// token seldom says more than the first's.
func (v *prover) addCause(c Cause) {
	for _, have := range v.report.Causes {
		if have.Fault == c.Fault {
			return
		}
	}
	v.report.Causes = append(v.report.Causes, c)
}

// observedCauses names what the answers alone show, where the documents did not
// already say it.
func (v *prover) observedCauses() {
	untagged := v.report.AtAGlance.Untagged == Allowed
	for i, a := range v.actors {
		if a.client != nil && v.report.Tenants[i].TokenTag == "" {
			untagged = true
		}
	}
	if untagged {
		v.addCause(Cause{
			Fault:    FaultTrustPolicy,
			Evidence: "STS gave a session for a token without the tag.",
			Fix:      v.trustFix(),
		})
	}
	if v.report.AtAGlance.Foreign == Allowed && v.InForce == nil && !v.swapped() {
		v.addCause(Cause{
			Fault:    faultUnknown,
			Evidence: "A stranger's read was allowed; S3 does not say by which policy.",
			Fix:      "Look at the role's inline and attached policies first, then at the bucket policy.",
		})
	}
}

// swapped reports whether a tenant's token carries the other's tag, which explains
// every way in.
func (v *prover) swapped() bool {
	t := v.report.Tenants
	return t[0].TokenTag == t[1].Tag || t[1].TokenTag == t[0].Tag
}

func (v *prover) trustFix() string {
	return fmt.Sprintf(`Test it with {"Null": {"aws:RequestTag/%s": "false"}} and a StringLike of its shape; a negated comparison holds for a tag that is not there.`, v.Config.TagKey)
}

// documentCauses evaluates the documents in force, where they are known: which
// statement admits an untagged token, and which lets one tenant read another's
// object.
func (v *prover) documentCauses() {
	if v.InForce == nil {
		return
	}
	if err := v.trustCause(); err != nil {
		v.addCause(Cause{Fault: faultUnknown, Evidence: oneLine(err.Error()), Fix: "Correct the document."})
	}
	if err := v.grantCauses(); err != nil {
		v.addCause(Cause{Fault: faultUnknown, Evidence: oneLine(err.Error()), Fix: "Correct the document."})
	}
}

// trustCause asks the trust policy about a token without tags.
func (v *prover) trustCause() error {
	if v.InForce.Documents.Trust == nil {
		return nil
	}
	c := v.Config
	trust, err := policy.Compile("trust policy", v.InForce.Documents.Trust)
	if err != nil {
		return fmt.Errorf("the trust policy: %w", err)
	}
	d := policy.Evaluate(untaggedRequest(c, v.actors[0].Tag), &policy.Set{
		Resource: []*policy.Policy{trust}, ResourceMustAllow: true,
	})
	if !d.Allowed {
		return nil
	}
	evidence := "The trust policy admits a token without the tag" + byStatement(d)
	if s := v.InForce.Documents.Trust.Statements; d.Statement >= 0 && d.Statement < len(s) {
		evidence += tagTests(s[d.Statement], "aws:RequestTag/"+c.TagKey)
	}
	v.addCause(Cause{Fault: FaultTrustPolicy, Evidence: evidence + ".", Fix: v.trustFix()})
	return nil
}

// untaggedRequest is what STS evaluates for a token without tags.
func untaggedRequest(c Config, tag string) *policy.Request {
	keys := policy.NewContext()
	keys.Set(c.ProviderID()+":aud", c.Audience)
	keys.Set(c.ProviderID()+":sub", strings.TrimSuffix(SubjectPattern, "*")+tag)
	return &policy.Request{
		Principal: policy.Principal{Kind: policy.WebIdentity, Account: c.Account, Provider: c.ProviderARN()},
		Action:    "sts:AssumeRoleWithWebIdentity", Resource: c.RoleARN(), ResourceAccount: c.Account, Context: keys,
	}
}

// tagTests quotes the conditions of a statement that are about the tag.
func tagTests(s policy.Statement, key string) string {
	var tests []string
	for _, c := range s.Condition {
		if strings.EqualFold(c.Key, key) {
			tests = append(tests, fmt.Sprintf("%s %q", c.Operator, c.Values))
		}
	}
	if len(tests) == 0 {
		return ", which tests no tag"
	}
	return ", whose test of the tag is " + strings.Join(tests, " and ")
}

func byStatement(d policy.Decision) string {
	if d.Statement < 0 {
		return ""
	}
	s := fmt.Sprintf(" by statement %d", d.Statement+1)
	if d.Sid != "" {
		s += " (" + d.Sid + ")"
	}
	return s
}

// grantCauses asks each side's policies, apart and together, whether the first
// tenant's session may read the second's object. What one side allows and all of
// them together do not is contained.
func (v *prover) grantCauses() error {
	identity, bucket, err := v.compiled()
	if err != nil {
		return err
	}
	a, o := v.actors[0], v.actors[1]
	together := &policy.Set{Identity: identity, Resource: bucket}
	for _, side := range []struct {
		fault Fault
		set   *policy.Set
		fix   string
	}{
		{FaultInlinePolicy, &policy.Set{Identity: identity}, "Take the S3 statements out of it; the bucket policy alone grants S3."},
		{faultBucketPolicy, &policy.Set{Resource: bucket}, "Scope the statement by ${aws:PrincipalTag/" + v.Config.TagKey + "} and a slash."},
	} {
		for _, r := range foreignReads(v.Config, a.Tag, o.Tag) {
			d := policy.Evaluate(r, side.set)
			if !d.Allowed {
				continue
			}
			v.addCause(Cause{
				Fault:     side.fault,
				Contained: !policy.Evaluate(r, together).Allowed,
				Evidence:  fmt.Sprintf("%s lets %s's session do %s on what is %s's%s.", d.Policy, a.Name, r.Action, o.Name, byStatement(d)),
				Fix:       side.fix,
			})
		}
	}
	return nil
}

func (v *prover) compiled() (identity, bucket []*policy.Policy, err error) {
	add := func(to *[]*policy.Policy, name string, d *policy.Document) error {
		if d == nil {
			return nil
		}
		p, err := policy.Compile(name, d)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*to = append(*to, p)
		return nil
	}
	if err := add(&identity, "the role's inline policy "+rolePolicyName, v.InForce.Documents.RolePolicy); err != nil {
		return nil, nil, err
	}
	for _, name := range sortedNames(v.InForce.Inline) {
		if err := add(&identity, "the role's inline policy "+name, v.InForce.Inline[name]); err != nil {
			return nil, nil, err
		}
	}
	err = add(&bucket, "the bucket policy", v.InForce.Documents.BucketPolicy)
	return identity, bucket, err
}

// foreignReads are a stranger's session reading and listing what is another's.
func foreignReads(c Config, tag, other string) []*policy.Request {
	get := sessionRequest(c, tag, "s3:GetObject", c.BucketARN()+"/"+c.TenantPrefix(other)+"object")
	list := sessionRequest(c, tag, "s3:ListBucket", c.BucketARN())
	list.Context.Set("s3:prefix", c.TenantPrefix(other))
	return []*policy.Request{get, list}
}

// sessionRequest is a request of a session of the data role; an empty tag is a
// session without one.
func sessionRequest(c Config, tag, action, resource string) *policy.Request {
	keys := policy.NewContext()
	keys.Set("aws:PrincipalArn", c.RoleARN())
	keys.Set("aws:PrincipalAccount", c.Account)
	keys.Set("aws:PrincipalType", "AssumedRole")
	if tag != "" {
		keys.Set("aws:PrincipalTag/"+c.TagKey, tag)
	}
	return &policy.Request{
		Principal: policy.Principal{
			Kind: policy.RoleSession, Account: c.Account, Issuer: c.RoleARN(),
			ARN: c.sessionARN("session"),
		},
		Action: action, Resource: resource, ResourceAccount: c.Account, Context: keys,
	}
}
