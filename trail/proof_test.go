package trail_test

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/agentkeystest"
	"agentkeys/federation"
	"agentkeys/token"
	"agentkeys/trail"
)

// prove makes a proof with tokens that are signed past the broker, and gives what its
// report says of its calls.
func (x *kit) prove() trail.Proof {
	x.Helper()
	tenant := func(name string, p agentkeystest.Party) federation.Tenant {
		return federation.Tenant{Name: name, Tag: strings.ToLower(p.Address()), Token: func(context.Context) (string, error) { return x.behind(p, p), nil }}
	}
	r, err := federation.Prove(x.Context(), federation.Proof{Config: x.aws.Config, Target: federation.Target{STS: x.aws.URL, S3: x.aws.URL}, Now: x.Clock.Now,
		Tenants: [2]federation.Tenant{tenant("a", x.owner), tenant("b", x.daemon)},
		Seeder:  s3.NewFromConfig(x.admin(), func(o *s3.Options) { o.UsePathStyle = true }),
		Control: func(context.Context) (string, error) {
			jwt, _, err := x.Identities.MintUntagged(strings.ToLower(x.owner.Address()), x.Clock.Now())
			return jwt.Reveal(), err
		}})
	x.ok(err)
	var report bytes.Buffer
	x.ok(r.WriteJSON(&report))
	read, err := federation.ReadProofRecord(report.Bytes())
	x.ok(err)
	p := trail.Proof{Source: "proof.json", Digest: strings.Repeat("ab", 32), From: read.StartedAt, To: read.FinishedAt}
	for _, e := range read.Exchanges {
		p.Calls = append(p.Calls, trail.ProofCall{RequestID: e.RequestID, At: e.At, SessionName: e.SessionName, Subject: e.Subject, Tag: e.Tag, Got: e.Answer == federation.Allowed})
	}
	return p
}

func by(proofs ...trail.Proof) func(*trail.Scope) {
	return func(s *trail.Scope) { s.Proofs = proofs }
}

// Without its report the sessions of a proof are as anybody's who has the issuer's key.
// With it they are told apart, each of them.
func TestProofIsToldByItsReport(t *testing.T) {
	x := newKit(t)
	x.useMinted(x.minted())
	p := x.prove()
	if len(p.Calls) != 3 {
		t.Fatalf("the report has the calls %+v", p.Calls)
	}
	x.wantFindings(x.reconcile(), trail.ForeignUse, trail.ForeignUse, trail.Unrecorded, trail.Unrecorded, trail.Attempt)
	r := x.reconcile(by(p))
	x.wantFindings(r)
	c := r.Counts
	if c.Sessions != 3 || c.ByKey != 1 || c.ByProof != 2 || c.Refused != 1 || c.ProofRefused != 1 || c.ProofReports != 1 {
		t.Errorf("counts: %+v", c)
	}
	if len(r.Proofs) != 1 || len(r.Proofs[0].Calls) != 3 || r.Proofs[0].SHA256 != p.Digest || r.Proofs[0].Report != "proof.json" {
		t.Fatalf("it tells %+v", r.Proofs)
	}
	for n, call := range r.Proofs[0].Calls {
		if got := call.AccessKeyID != ""; got != p.Calls[n].Got || got != (call.Uses > 10) || call.SessionName != p.Calls[n].SessionName || call.Event.ID == "" {
			t.Errorf("it tells %+v of %+v", call, p.Calls[n])
		}
	}
	var text bytes.Buffer
	x.ok(r.WriteText(&text))
	for _, want := range []string{"proofs     1 report: 2 sessions and 1 refused call", "SHA-256 " + p.Digest, "proof-a: ASIA", "proof-b: ASIA", "proof-untagged: refused", "verdict    CLEAN"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("want %q in\n%s", want, text.String())
		}
	}
	if before := x.reconcile(by(p), func(s *trail.Scope) { s.Until = p.From.Add(-time.Hour) }); len(before.Proofs) > 0 || before.Counts.ByProof > 0 {
		t.Errorf("of another time it tells %+v", before.Proofs)
	}
}

// Whoever makes sessions with the issuer's key cannot hide them behind a proof: not by
// its session names, subjects and times, and not by trying again under its token.
func TestNobodyHidesBehindAProof(t *testing.T) {
	x := newKit(t)
	p := x.prove()
	x.useGiven(x.exchanged(x.behind(x.owner, x.owner), "proof-a"))
	r := x.reconcile(by(p))
	x.wantFindings(r, trail.ForeignUse, trail.Unrecorded)
	if f := r.Findings[1]; f.SessionName != "proof-a" || f.Proof != "" {
		t.Errorf("found %+v", f)
	}
	x.exchanged(x.behind(x.daemon, x.daemon), "proof-untagged")
	x.wantFindings(x.reconcile(by(p)), trail.ForeignUse, trail.Unrecorded, trail.Unrecorded)
	untagged, _, err := x.Identities.MintUntagged(strings.ToLower(x.owner.Address()), x.Clock.Now())
	x.ok(err)
	if _, err := x.exchange(untagged.Reveal(), "proof-untagged"); err == nil {
		t.Fatal("want STS to refuse")
	}
	x.wantFindings(x.reconcile(by(p)), trail.ForeignUse, trail.Unrecorded, trail.Unrecorded, trail.Attempt)
}

// A report that says something else than the trail is a finding, and so is a session of it
// that the trail does not have.
func TestReportThatTheTrailContradicts(t *testing.T) {
	x := newKit(t)
	x.minted()
	p := x.prove()
	for name, tt := range map[string]struct {
		change func(*trail.ProofCall)
		codes  []trail.Code
	}{
		"another name":            {func(c *trail.ProofCall) { c.SessionName = "proof-b" }, []trail.Code{trail.Mismatch}},
		"another subject":         {func(c *trail.ProofCall) { c.Subject += "0" }, []trail.Code{trail.Mismatch}},
		"another tag":             {func(c *trail.ProofCall) { c.Tag = "" }, []trail.Code{trail.Mismatch}},
		"another time":            {func(c *trail.ProofCall) { c.At = c.At.Add(-time.Hour) }, []trail.Code{trail.Mismatch}},
		"a refusal":               {func(c *trail.ProofCall) { c.Got = false }, []trail.Code{trail.Mismatch}},
		"a call that nobody made": {func(c *trail.ProofCall) { c.RequestID = "of-nobody" }, []trail.Code{trail.ForeignUse, trail.Unrecorded, trail.Missing}},
	} {
		other := p
		other.Calls = append([]trail.ProofCall{}, p.Calls...)
		tt.change(&other.Calls[0])
		r := x.reconcile(by(other))
		x.wantFindings(r, tt.codes...)
		if f := r.Findings[len(r.Findings)-1]; f.Proof != "proof.json" {
			t.Errorf("%s: found %+v", name, f)
		}
	}
	other := p
	other.Calls = append([]trail.ProofCall{}, p.Calls...)
	other.Calls[2].Got = true
	x.wantFindings(x.reconcile(by(other)), trail.Mismatch)
	twice := x.reconcile(by(p, p))
	x.wantFindings(twice)
	if len(twice.Proofs) != 1 || twice.Counts.ByProof != 2 {
		t.Errorf("the same report twice: %+v", twice)
	}
}

// A request is one call: of two that have its id the report accounts for one.
func TestOneRequestIsOneCall(t *testing.T) {
	x := newKit(t)
	p := x.prove()
	x.exchanged(x.behind(x.owner, x.owner), "proof-a")
	x.rewrite(func(r map[string]any) map[string]any {
		if asked, _ := r["requestParameters"].(map[string]any); asked["roleSessionName"] == "proof-a" {
			r["requestID"] = p.Calls[0].RequestID
		}
		return r
	})
	r := x.reconcile(by(p))
	if n := len(r.Findings); n == 0 || r.Findings[n-1].Code != trail.Unrecorded || r.Counts.ByProof != 2 {
		t.Errorf("found %+v", r.Findings)
	}
}

// Credentials of a proof that are used after it ended are in somebody's hands.
func TestCredentialsOfAProofUsedAfterItsEnd(t *testing.T) {
	x := newKit(t)
	tag := strings.ToLower(x.owner.Address())
	keys := x.exchanged(x.behind(x.owner, x.owner), "proof-a")
	now := x.Clock.Now()
	p := trail.Proof{Source: "proof.json", From: now, To: now, Calls: []trail.ProofCall{
		{RequestID: x.requestOf(*keys.AccessKeyId), At: now, SessionName: "proof-a", Subject: token.SubjectPrefix + tag, Tag: tag, Got: true}}}
	x.useGiven(keys)
	x.wantFindings(x.reconcile(by(p)))
	x.Clock.Move(5 * time.Minute)
	x.useGiven(keys)
	r := x.reconcile(by(p))
	x.wantFindings(r, trail.ForeignUse)
	if f := r.Findings[0]; f.Proof != "proof.json" || f.AccessKeyID != *keys.AccessKeyId || f.Uses != 6 || !f.Event.Time.After(p.To.Add(4*time.Minute)) {
		t.Errorf("found %+v", f)
	}
}

// requestOf is the request id by which the trail knows how a session was made.
func (x *kit) requestOf(accessKeyID string) string {
	x.Helper()
	x.ok(x.aws.Local.DeliverTrail())
	all, err := trail.Read(x.scope.Keep, x.dir)
	x.ok(err)
	for _, e := range all.Kept {
		if e.Assumed != nil && e.Assumed.AccessKeyID == accessKeyID {
			return e.RequestID
		}
	}
	x.Fatalf("no event made %s", accessKeyID)
	return ""
}
