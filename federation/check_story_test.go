package federation

import (
	"slices"
	"testing"

	"agentkeys/policy"
)

// The three faults of the story, alone and together, are findings each with a
// witness of its own, and none hides another: the broad grant is found though
// the trust policy is sound, the trust policy's fault though the grant alone lets
// everybody in, and the token's fault though the session would reach everything.
func TestCheckFindsEachFaultOfTheStory(t *testing.T) {
	codesOf := map[Fault]Code{FaultTagsClaim: OwnerLockedOut, FaultTrustPolicy: UntaggedSession, FaultInlinePolicy: ForeignRead}
	files := claimFiles(t)
	for _, faults := range [][]Fault{
		nil, {FaultTagsClaim}, {FaultTrustPolicy}, {FaultInlinePolicy}, {FaultTagsClaim, FaultTrustPolicy},
		{FaultTagsClaim, FaultInlinePolicy}, {FaultTrustPolicy, FaultInlinePolicy}, Faults(),
	} {
		a := brokenAccount(t, Plain, faults...)
		report, err := Check(a)
		if err != nil {
			t.Fatal(err)
		}
		name := "minted"
		if slices.Contains(faults, FaultTagsClaim) {
			name = "no-tags"
		}
		byToken, err := CheckToken(a, payload(files[name]))
		if err != nil {
			t.Fatal(err)
		}
		found := map[Code]Finding{}
		for _, f := range append(report.Findings, byToken...) {
			found[f.Code] = f
		}
		witnesses := map[string]bool{}
		for fault, code := range codesOf {
			f, ok := found[code]
			if ok != slices.Contains(faults, fault) {
				t.Errorf("%v: %s found: got %v, want %v", faults, code, ok, slices.Contains(faults, fault))
			}
			if ok {
				witnesses[f.Witness.Action+" "+f.Witness.Resource+" by "+f.Witness.Principal] = true
			}
		}
		if len(witnesses) != len(faults) {
			t.Errorf("%v: want %d witnesses, got %v", faults, len(faults), witnesses)
		}
	}
}

// brokenAccount is an account with the documents of a form and the faults in it.
func brokenAccount(t *testing.T, form Form, faults ...Fault) *Account {
	c := checkConfig()
	d, err := Render(c, form)
	if err != nil {
		t.Fatal(err)
	}
	d, inline, err := Break(c, d, faults...)
	if err != nil {
		t.Fatal(err)
	}
	a := checkAccount(t, nil, d.BucketPolicy)
	a.Roles[0].Trust.Policy = d.Trust
	for _, name := range sortedNames(inline) {
		a.Roles[0].Inline = append(a.Roles[0].Inline, Document{Name: "role " + c.Role + ", inline policy " + name, Policy: inline[name]})
	}
	return a
}

// The backstops of the hardened form contain the broad grant: it lets nobody in,
// and so is no finding.
func TestCheckKnowsWhatTheBackstopsContain(t *testing.T) {
	report, err := Check(brokenAccount(t, Hardened, FaultInlinePolicy))
	if err != nil || len(report.Findings) != 0 {
		t.Errorf("want no findings, got %+v (%v)", report.Findings, err)
	}
	if report, err = Check(brokenAccount(t, Plain, FaultInlinePolicy)); err != nil || len(report.Findings) == 0 {
		t.Errorf("want the plain form's findings, got %+v (%v)", report.Findings, err)
	}
}

// Each grant that lets somebody in is named, whichever other grants do as well.
func TestCheckNamesEveryGrant(t *testing.T) {
	a := brokenAccount(t, Plain, FaultInlinePolicy)
	c := a.Config
	a.Roles[0].Inline = append(a.Roles[0].Inline, Document{Name: "role " + c.Role + ", inline policy second", Policy: document(
		policy.Statement{Effect: policy.Allow, Action: []string{"sqs:*"}, Resource: []string{"*"}},
		policy.Statement{Sid: "Second", Effect: policy.Allow, Action: []string{"s3:Get*"}, Resource: []string{"*"}})})
	a.Bucket.Policy.Statements = append(a.Bucket.Policy.Statements, policy.Statement{
		Sid: "Third", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{c.RoleARN()}}, Action: []string{"s3:GetObject"},
		Resource: []string{c.BucketARN() + "/bots/*"},
	})
	report, err := Check(a)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, f := range report.Findings {
		if f.Code == ForeignRead {
			named = append(named, f.DecidedBy[0].Sid)
		}
	}
	slices.Sort(named)
	if want := []string{"ReadWholeBucket", "Second", "Third"}; !slices.Equal(named, want) {
		t.Errorf("got %v, want %v", named, want)
	}
}

// A grant whose conditions nobody meets is not named for what another one lets in.
func TestCheckNamesNoInnocentGrant(t *testing.T) {
	inline := document(
		policy.Statement{Sid: "Never", Effect: policy.Allow, Action: []string{"s3:GetObject"}, Resource: []string{"*"},
			Condition: []policy.Condition{{Operator: "StringEquals", Key: "aws:PrincipalTag/team", Values: []string{"x"}}}},
		policy.Statement{Sid: "Always", Effect: policy.Allow, Action: []string{"s3:GetObject"}, Resource: []string{"*"}},
	)
	a := brokenAccount(t, Plain)
	a.Roles[0].Inline = []Document{{Name: "role " + a.Config.Role + ", inline policy test", Policy: inline}}
	report, err := Check(a)
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, f := range report.Findings {
		if f.Code == ForeignRead {
			named = append(named, f.DecidedBy[0].Sid)
		}
	}
	if !slices.Equal(named, []string{"Always"}) {
		t.Errorf("got %v, want the grant without a condition alone", named)
	}
}
