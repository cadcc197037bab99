package federation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/policy"
)

// revocationProof is a proof in which a pause moves AWS's clock and this one on
// instead of waiting. After each pause it calls tick, if any, with how many there
// were.
func (a *account) revocationProof(t testing.TB, tick func(n int)) RevocationProof {
	n := 0
	return RevocationProof{
		Config: a.config, Target: Target{Name: "local AWS", Local: true, STS: a.url, S3: a.url},
		Tenant: Tenant{Tag: walletA, Token: a.issuer.minter(t, walletA)},
		Other:  &Tenant{Tag: walletB, Token: a.issuer.minter(t, walletB)},
		Now:    a.now, Timeout: 30 * time.Second,
		Pause: func(ctx context.Context, d time.Duration) error {
			a.ahead.Add(int64(d))
			if n++; tick != nil {
				tick(n)
			}
			return ctx.Err()
		},
	}
}

// proveRevocation makes the proof around whatever puts the revocation in force.
func (a *account) proveRevocation(t testing.TB, p RevocationProof, apply func() Revocation) *RevocationReport {
	t.Helper()
	v, err := NewRevocationProver(p)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.Before(t.Context())
	report := v.After(t.Context(), apply())
	t.Cleanup(func() {
		if t.Failed() {
			var out bytes.Buffer
			_ = report.WriteText(&out, false)
			t.Log("\n" + out.String())
		}
	})
	return report
}

func (a *account) nextSecond(t testing.TB, tenant string) Revocation {
	return revocation(t, tenant, NextSecond(a.now()))
}

// answers are the report's by the checks' ids.
func answers(r *RevocationReport) string {
	var all []string
	for _, c := range r.Checks {
		all = append(all, c.ID+" "+string(c.Actual))
	}
	return strings.Join(all, ", ")
}

const provenAnswers = "old_session_before allowed, other_session_before allowed, old_session_after denied, new_session_after allowed, other_session_after allowed"

func (a *account) block(t testing.TB, tenant string) Revocation {
	t.Helper()
	p, r, err := a.revoker().PlanBlock(t.Context(), tenant)
	if err == nil {
		err = Apply(t.Context(), p, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const blockedAnswers = "old_session_before allowed, other_session_before allowed, old_session_after denied, new_session_after denied, other_session_after allowed"

func TestBlockIsProven(t *testing.T) {
	a := hardened(t)
	report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation { return a.block(t, walletA) })
	if report.Verdict != Proven || answers(report) != blockedAnswers || len(report.NotProven) > 0 {
		t.Errorf("verdict %s: %s, not proven %q", report.Verdict, answers(report), report.NotProven)
	}
	var text, machine bytes.Buffer
	if err := errors.Join(report.WriteText(&text, false), report.WriteJSON(&machine)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"all sessions, old and new", "agentkeys revoke --unblock", "Try the leaked one as well"} {
		if !strings.Contains(strings.Join(strings.Fields(text.String()), " "), want) {
			t.Errorf("the report says nothing of %q:\n%s", want, text.String())
		}
	}
	if s := machine.String(); !strings.Contains(s, `"blocked": true`) || strings.Contains(s, `"since"`) || strings.Contains(s, `"over"`) {
		t.Errorf("as JSON %s", s)
	}
}

// What is less than a block is not taken for one.
func TestBlocksThatAreBroken(t *testing.T) {
	for _, c := range []struct {
		name    string
		written func(*account) Revocation
		answers string
	}{
		{"of old sessions alone", func(a *account) Revocation { return a.nextSecond(t, walletA) },
			"old_session_after denied, new_session_after allowed, other_session_after allowed"},
		{"of another tenant", func(*account) Revocation { return Revocation{Tenant: walletB, Blocked: true} },
			"old_session_after allowed, new_session_after allowed, other_session_after denied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := hardened(t)
			report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation {
				block := Revocation{Tenant: walletA, Blocked: true}
				a.putInline(t, block.Policy(), marshal(t, c.written(a).Document(a.config)))
				return block
			})
			_, after, _ := strings.Cut(answers(report), "other_session_before allowed, ")
			if after != c.answers || report.Verdict != Broken {
				t.Errorf("verdict %s: %s, want %s: %s", report.Verdict, after, Broken, c.answers)
			}
		})
	}
}

// A new session that STS refuses to make was not seen to be refused by the block.
func TestBlockWithoutANewSession(t *testing.T) {
	a := hardened(t)
	report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation {
		a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
			if callName(t, r) == "AssumeRoleWithWebIdentity" {
				recorded{403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}.sts(w)
				return true
			}
			return false
		}
		r := Revocation{Tenant: walletA, Blocked: true}
		a.putInline(t, r.Policy(), marshal(t, r.Document(a.config)))
		return r
	})
	if report.Verdict != Inconclusive || !strings.Contains(strings.Join(report.NotProven, "\n"), "no new session") {
		t.Errorf("verdict %s: %s, not proven %q", report.Verdict, answers(report), report.NotProven)
	}
}

func TestRevocationIsProven(t *testing.T) {
	a := hardened(t)
	report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation { return a.revoke(t, walletA, time.Time{}) })
	if report.Verdict != Proven || answers(report) != provenAnswers || len(report.NotProven) > 0 {
		t.Errorf("verdict %s: %s, not proven %q", report.Verdict, answers(report), report.NotProven)
	}
	var out bytes.Buffer
	if err := report.WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var back RevocationReport
	if err := json.Unmarshal(out.Bytes(), &back); err != nil || back.Tenant != walletA || !back.Over.Equal(back.Since.Add(12*time.Hour)) {
		t.Errorf("as JSON %s (%v)", out.String(), err)
	}
	if keys := a.objects(t); len(keys) > 0 {
		t.Errorf("the proof left %q", keys)
	}
}

// A tenant that was revoked in the second that runs has no session that works until the
// next. The proof waits for one.
func TestRevocationRightAfterAnother(t *testing.T) {
	a := hardened(t)
	now := a.now()
	a.ahead.Store(int64(now.Truncate(time.Second).Add(time.Second).Sub(now)))
	first := a.revoke(t, walletA, time.Time{})
	report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation { return a.revoke(t, walletA, time.Time{}) })
	if report.Verdict != Proven || answers(report) != provenAnswers || !report.Since.After(first.Since) {
		t.Errorf("verdict %s: %s, revoked for %v after %v", report.Verdict, answers(report), report.Since, first.Since)
	}
}

// In whichever part of a second somebody revokes, the session of that second is out
// and the one of the next is in.
func TestRevocationWithinASecond(t *testing.T) {
	for _, part := range []time.Duration{0, time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond} {
		a := hardened(t)
		now := a.now()
		a.ahead.Store(int64(now.Truncate(time.Second).Add(time.Second + part).Sub(now)))
		report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation { return a.revoke(t, walletA, time.Time{}) })
		if report.Verdict != Proven || answers(report) != provenAnswers {
			t.Errorf("%v into a second: verdict %s: %s", part, report.Verdict, answers(report))
		}
	}
}

// IAM puts a policy in force when it will. The proof waits, and one refusal is not
// enough for it.
func TestRevocationInForceLate(t *testing.T) {
	a := hardened(t)
	var r Revocation
	name := revocationPrefix + walletA
	put := func() { a.putInline(t, name, marshal(t, r.Document(a.config))) }
	take := func() { a.clear(t, a.revoker(), walletA, true) }
	p := a.revocationProof(t, func(n int) {
		switch n {
		case 3, 7:
			put()
		case 5:
			take()
		}
	})
	report := a.proveRevocation(t, p, func() Revocation { r = a.nextSecond(t, walletA); return r })
	if report.Verdict != Proven || answers(report) != provenAnswers {
		t.Errorf("verdict %s: %s", report.Verdict, answers(report))
	}
	if n := report.Checks[2].Requests; n < 10 {
		t.Errorf("%d requests with the old session, want at least 10: refused, let in and refused for good", n)
	}
}

// What a revocation must not be, each with what the proof says of it.
func TestRevocationsThatAreBroken(t *testing.T) {
	deny := func(conditions ...policy.Condition) *policy.Document {
		return document(policy.Statement{Effect: policy.Deny, Action: []string{"*"}, Resource: []string{"*"}, Condition: conditions})
	}
	for _, c := range []struct {
		name     string
		document func(Revocation, Config) *policy.Document
		answers  string // after
		verdict  Verdict
	}{
		{"never in force", func(r Revocation, c Config) *policy.Document { r.Tenant = walletB[:41] + "0"; return r.Document(c) },
			"old_session_after allowed, new_session_after allowed, other_session_after allowed", Broken},
		{"a minute too early", func(r Revocation, c Config) *policy.Document {
			r.Since = r.Since.Add(-time.Minute)
			return r.Document(c)
		}, "old_session_after allowed, new_session_after allowed, other_session_after allowed", Broken},
		{"for all tenants", func(r Revocation, c Config) *policy.Document { return deny(r.Document(c).Statements[0].Condition[1]) },
			"old_session_after denied, new_session_after allowed, other_session_after denied", Broken},
		{"for all time", func(r Revocation, c Config) *policy.Document { return deny(r.Document(c).Statements[0].Condition[0]) },
			"old_session_after denied, new_session_after denied, other_session_after allowed", Broken},
		{"for another tenant", func(r Revocation, c Config) *policy.Document { r.Tenant = walletB; return r.Document(c) },
			"old_session_after allowed, new_session_after allowed, other_session_after denied", Broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := hardened(t)
			report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation {
				r := a.nextSecond(t, walletA)
				a.putInline(t, r.Policy(), marshal(t, c.document(r, a.config)))
				return r
			})
			if _, after, _ := strings.Cut(answers(report), "other_session_before allowed, "); after != c.answers || report.Verdict != c.verdict {
				t.Errorf("verdict %s: %s, want %s: %s", report.Verdict, after, c.verdict, c.answers)
			}
		})
	}
}

// What cannot be observed is no proof, and no hole either; but where new sessions are
// shut out, or others', that was seen.
func TestRevocationsThatAreNotProven(t *testing.T) {
	shut := func(a *account) { // by somebody else, for good
		a.putInline(t, "shut", marshal(t, document(policy.Statement{Effect: policy.Deny, Action: []string{"*"}, Resource: []string{"*"},
			Condition: []policy.Condition{{Operator: "StringEquals", Key: "aws:PrincipalTag/" + DefaultTagKey, Values: []string{walletA}}}})))
	}
	for _, c := range []struct {
		name    string
		prepare func(*account, *RevocationProof)
		apply   func(*account) Revocation
		said    string
		verdict Verdict
	}{
		{"a time in the past", nil, func(a *account) Revocation { return a.revoke(t, walletA, a.now().Add(-time.Hour)) },
			"is no older than the revocation's", Inconclusive},
		{"no token", func(_ *account, p *RevocationProof) {
			p.Tenant.Token = func(context.Context) (string, error) { return "", errors.New("the broker is down") }
		}, nil, "the broker is down", Inconclusive},
		{"a tenant who was shut out before", func(a *account, _ *RevocationProof) { shut(a) },
			nil, "no session worked before the revocation", Broken},
		{"a tenant who was shut out until then", func(a *account, _ *RevocationProof) { shut(a) }, func(a *account) Revocation {
			if err := (site{a.aws, a.config}).deleteInline(t.Context(), "shut"); err != nil {
				t.Fatal(err)
			}
			return a.revoke(t, walletA, time.Time{})
		}, "no session worked before the revocation", Inconclusive},
		{"somebody emptied the bucket's policy meanwhile", nil, func(a *account) Revocation {
			a.putBucketPolicy(t, marshal(t, document(allowSES(a.config))))
			return a.nextSecond(t, walletA)
		}, "refused, but not by the revocation: no identity-based policy allows it", Broken},
		{"the session expired", nil, func(a *account) Revocation {
			a.intercept = func(actor string, w http.ResponseWriter, _ *http.Request) bool {
				if actor == "revoked" {
					recorded{400, "ExpiredToken", "The provided token has expired."}.s3(w)
				}
				return actor == "revoked"
			}
			return a.revoke(t, walletA, time.Time{})
		}, "ExpiredToken 400", Inconclusive},
		{"somebody else answers", nil, func(a *account) Revocation {
			a.intercept = func(actor string, w http.ResponseWriter, _ *http.Request) bool {
				if actor == "revoked" {
					w.WriteHeader(http.StatusForbidden)
				}
				return actor == "revoked"
			}
			return a.revoke(t, walletA, time.Time{})
		}, "still so after 30s", Inconclusive},
		{"no session of another tenant", func(_ *account, p *RevocationProof) {
			p.Other.Token = func(context.Context) (string, error) { return "", errors.New("no other") }
		}, nil, "no session of another tenant worked before", Inconclusive},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := hardened(t)
			p := a.revocationProof(t, nil)
			if c.prepare != nil {
				c.prepare(a, &p)
			}
			report := a.proveRevocation(t, p, func() Revocation {
				if c.apply != nil {
					return c.apply(a)
				}
				return a.revoke(t, walletA, time.Time{})
			})
			if report.Verdict != c.verdict {
				t.Errorf("verdict %s: %s, want %s", report.Verdict, answers(report), c.verdict)
			}
			if !slices.ContainsFunc(report.NotProven, func(s string) bool { return strings.Contains(s, c.said) }) {
				t.Errorf("not proven %q, want %q", report.NotProven, c.said)
			}
			for _, s := range report.NotProven {
				if strings.Contains(s, "eyJ") {
					t.Errorf("%q shows a token", s)
				}
			}
		})
	}
}

// Without another tenant the rest can be proven, and the report says what was not.
func TestRevocationWithoutAnotherTenant(t *testing.T) {
	a := hardened(t)
	p := a.revocationProof(t, nil)
	p.Other = nil
	report := a.proveRevocation(t, p, func() Revocation { return a.revoke(t, walletA, time.Time{}) })
	if report.Verdict != Proven || len(report.Checks) != 3 || len(report.NotProven) != 1 || !strings.Contains(report.NotProven[0], "other tenants are spared") {
		t.Errorf("verdict %s: %s, not proven %q", report.Verdict, answers(report), report.NotProven)
	}
}

// An interrupted proof ends at once, and is none.
func TestRevocationProofInterrupted(t *testing.T) {
	a := hardened(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := a.revocationProof(t, func(n int) {
		if n == 2 {
			cancel()
		}
	})
	v, err := NewRevocationProver(p)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	v.Before(ctx)
	report := v.After(ctx, a.nextSecond(t, walletA)) // which nobody puts in force
	if report.Verdict != Inconclusive || report.Checks[2].Requests > 3 {
		t.Errorf("verdict %s: %s", report.Verdict, answers(report))
	}
}

func TestRevocationProofValidate(t *testing.T) {
	a := newAccount(t)
	for want, edit := range map[string]func(*RevocationProof){
		"account: want twelve digits":      func(p *RevocationProof) { p.Config.Account = "" },
		"as the broker stores it":          func(p *RevocationProof) { p.Tenant.Tag = strings.ToUpper(walletA) },
		"want a way to get a token":        func(p *RevocationProof) { p.Tenant.Token = nil },
		"want another tenant":              func(p *RevocationProof) { p.Other.Tag = walletA },
		"want a timeout of at most 10m0s":  func(p *RevocationProof) { p.Timeout = MaxRevocationTimeout + 1 },
		"a token for " + walletB + ", got": func(p *RevocationProof) { p.Other.Token = nil },
	} {
		p := a.revocationProof(t, nil)
		edit(&p)
		if _, err := NewRevocationProver(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

// A revocation that somebody takes away while the proof looks at new sessions is not
// proven: the old session is asked once more in the end.
func TestRevocationTakenAwayMeanwhile(t *testing.T) {
	a := hardened(t)
	report := a.proveRevocation(t, a.revocationProof(t, nil), func() Revocation {
		r := a.revoke(t, walletA, time.Time{})
		a.intercept = func(actor string, _ http.ResponseWriter, _ *http.Request) bool {
			if actor == "renewed" {
				a.intercept = nil
				a.clear(t, a.revoker(), walletA, true)
			}
			return false
		}
		return r
	})
	if report.Verdict != Broken || report.Checks[2].Actual != Allowed {
		t.Errorf("verdict %s: %s, want %s", report.Verdict, answers(report), Broken)
	}
}
