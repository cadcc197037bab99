package federation

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"agentkeys/policy"
)

// CheckToken finds why a tenant with this web identity token is kept out, which no
// reading of policies shows: the token makes no session tag of the configured key,
// or STS refuses it for its issuer, audience or subject. The signature and the
// times are not looked at; Explain goes through all that STS checks.
//
// The findings never hold the token itself, and neither does the error for text
// that is none.
func CheckToken(a *Account, raw string) ([]Finding, error) {
	c, err := readClaims(strings.TrimSpace(raw), a.Config.TagKey)
	if err != nil {
		return nil, err
	}
	t := tokenCheck{account: a, Config: a.Config, claims: c}
	t.issuer()
	t.audience()
	t.subject()
	t.tag()
	return t.findings, nil
}

// tokenCheck is one run of CheckToken.
type tokenCheck struct {
	Config
	account  *Account
	claims   claims
	findings []Finding
}

// add makes a finding whose witness is the exchange of the token for a session.
func (t *tokenCheck) add(fix, title string, args ...any) {
	context := map[string][]string{
		t.ProviderID() + ":aud": {oneLine(t.claims.Audience)},
		t.ProviderID() + ":sub": {oneLine(t.claims.Subject)},
	}
	if t.claims.Tag != "" {
		context["aws:RequestTag/"+t.TagKey] = []string{oneLine(t.claims.Tag)}
	}
	t.findings = append(t.findings, Finding{
		Code: OwnerLockedOut, Title: oneLine(fmt.Sprintf(title, args...)), Fix: fix, DecidedBy: []Statement{},
		Witness: Witness{
			Principal: "bearer of the given web identity token", Action: "sts:AssumeRoleWithWebIdentity", Resource: t.roleARN(), Context: context,
		},
	})
}

// role is the data role; nil where the account has none.
func (t *tokenCheck) role() *Role {
	i := slices.IndexFunc(t.account.Roles, func(r Role) bool { return r.Name == t.Role })
	if i < 0 {
		return nil
	}
	return &t.account.Roles[i]
}

// roleARN has the role's path, where it is known.
func (t *tokenCheck) roleARN() string {
	if r := t.role(); r != nil {
		return r.ARN
	}
	return t.RoleARN()
}

// issuer compares byte by byte, as STS does when it looks for the provider.
func (t *tokenCheck) issuer() {
	if t.claims.Issuer != t.Issuer {
		t.add(fmt.Sprintf("Mint tokens whose iss is %q, byte for byte.", t.Issuer),
			"STS finds no provider for the token: its iss is %q, the configured issuer %q", t.claims.Issuer, t.Issuer)
	}
}

// audience and subject are findings only where they keep the bearer out: where the
// trust policy lets another one in, that is a way in and Check's to find.
func (t *tokenCheck) audience() {
	if t.claims.Audience == t.Audience || t.admits(t.claims.Audience, t.goodSubject()) {
		return
	}
	fix := fmt.Sprintf("Mint tokens whose aud is %q alone.", t.Audience)
	if t.claims.Audience == "" {
		t.add(fix, "STS refuses the token: it does not have exactly one aud, want %q", t.Audience)
		return
	}
	t.add(fix, "STS refuses the token: its aud is %q, the configured audience %q", t.claims.Audience, t.Audience)
}

func (t *tokenCheck) subject() {
	if !strings.HasPrefix(t.claims.Subject, subjectStart) && !t.admits(t.Audience, t.claims.Subject) {
		t.add(fmt.Sprintf("Mint tokens whose sub is %q with the tenant in the place of the star.", SubjectPattern),
			"STS refuses the token: its sub is %q, not of the form %s", t.claims.Subject, SubjectPattern)
	}
}

var (
	subjectStart = strings.TrimSuffix(SubjectPattern, "*")
	tenantForm   = regexp.MustCompile(`^(?:0x[0-9a-f]{40}|[0-9a-f]{64})$`)
)

// tag sees that the session is the tenant's. A letter in upper case is enough to
// make it another's: S3 compares keys with case.
func (t *tokenCheck) tag() {
	fix := fmt.Sprintf(`Mint the claim %q as {"principal_tags": {%q: ["<tenant>"]}}.`, tagsClaim, t.TagKey)
	c := t.claims
	tenant, isAgent := strings.CutPrefix(c.Subject, subjectStart)
	switch {
	case c.TagProblem != "":
		t.add(fix, "the token makes no session tag: %s", c.TagProblem)
	case !tenantForm.MatchString(c.Tag):
		t.add("Mint the tag as 0x and 40, or 64, hexadecimal digits in lower case.",
			"the token's session tag names no tenant: want 0x and 40, or 64, lower-case hexadecimal digits, got %q", c.Tag)
	case isAgent && tenant != c.Tag:
		t.add("Mint sub and tag from the same verified identity.",
			"the token gives tenant %q the session tag of tenant %q", tenant, c.Tag)
	}
}

// goodTag is the token's tag, or another of the right shape.
func (t *tokenCheck) goodTag() string {
	if tenantForm.MatchString(t.claims.Tag) {
		return t.claims.Tag
	}
	return "0x" + strings.Repeat("0", 40)
}

func (t *tokenCheck) goodSubject() string { return subjectStart + t.goodTag() }

// admits reports whether provider and trust policy are known to let a tagged token
// with this audience and subject in.
func (t *tokenCheck) admits(audience, subject string) bool {
	provider := slices.IndexFunc(t.account.Providers, func(p Provider) bool { return p.ARN == t.ProviderARN() })
	if provider < 0 || !slices.Contains(t.account.Providers[provider].ClientIDs, audience) {
		return false
	}
	role := t.role()
	if role == nil || role.Trust.Policy == nil {
		return false
	}
	trust, err := policy.Compile(role.Trust.Name, role.Trust.Policy)
	if err != nil {
		return false
	}
	context := policy.NewContext()
	context.Set(t.ProviderID()+":aud", audience)
	context.Set(t.ProviderID()+":sub", subject)
	context.Set("aws:RequestTag/"+t.TagKey, t.goodTag())
	context.SetList("aws:TagKeys", t.TagKey)
	context.SetList("sts:TransitiveTagKeys", t.TagKey)
	for _, action := range []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"} {
		d := policy.Evaluate(&policy.Request{
			Principal: policy.Principal{Kind: policy.WebIdentity, Account: t.Account, Provider: t.ProviderARN()},
			Action:    action, Resource: role.ARN, ResourceAccount: t.Account, Context: context,
		}, &policy.Set{Resource: []*policy.Policy{trust}, ResourceMustAllow: true})
		if !d.Allowed {
			return false
		}
	}
	return true
}
