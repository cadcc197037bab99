package federation

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// RevocationProof is what a RevocationProver works with.
type RevocationProof struct {
	Config Config
	Target Target
	// Tenant is the one to be revoked. Its Token gives a token for each session. Its
	// Name is not used.
	Tenant Tenant
	// Other is a tenant whom the revocation must not touch; nil: nobody looks. It need
	// not exist: whoever has a tag may list the prefix of that tag, which is then empty.
	Other *Tenant
	// Timeout is how long IAM may take to put the revocation in force everywhere; two
	// minutes if zero, and at most MaxRevocationTimeout.
	Timeout time.Duration
	// Progress, if any, is told what is being done, in a line.
	Progress func(string)
	// Now is the clock; time.Now if nil. Pause waits; nil waits for real.
	Now   func() time.Time
	Pause func(context.Context, time.Duration) error
}

// MaxRevocationTimeout leaves the sessions of a proof, which last 15 minutes, alive
// to its end: an expired session's refusal would prove nothing.
const MaxRevocationTimeout = 10 * time.Minute

// Validate reports what a RevocationProver would not start with.
func (p RevocationProof) Validate() error {
	if err := p.Config.Validate(); err != nil {
		return err
	}
	for _, t := range []*Tenant{&p.Tenant, p.Other} {
		if t == nil {
			continue
		}
		if err := CheckTenant(t.Tag); err != nil {
			return fmt.Errorf("proof of a revocation: %w", err)
		}
		if t.Token == nil {
			return fmt.Errorf("proof of a revocation: want a way to get a token for %s, got none", t.Tag)
		}
	}
	if p.Other != nil && p.Other.Tag == p.Tenant.Tag {
		return fmt.Errorf("proof of a revocation: want another tenant beside %s, got the same", p.Tenant.Tag)
	}
	if p.Timeout < 0 || p.Timeout > MaxRevocationTimeout {
		return fmt.Errorf("proof of a revocation: want a timeout of at most %v, got %v", MaxRevocationTimeout, p.Timeout)
	}
	return nil
}

// RevocationCheck is one fact: what a session could do, and when.
type RevocationCheck struct {
	ID       string `json:"id"` // "old_session_before", "old_session_after", "new_session_after", …
	What     string `json:"what"`
	Expected Answer `json:"expected"`
	Actual   Answer `json:"actual"`
	Requests int    `json:"requests"` // how many were made until it was so, or until it was given up
	Said     string `json:"said,omitempty"`
}

func (c RevocationCheck) held() bool { return c.Actual == c.Expected }

// RevocationReport is what came of a revocation. Its JSON form is stable.
type RevocationReport struct {
	Verdict Verdict           `json:"verdict"`
	Target  TargetReport      `json:"target"`
	Tenant  string            `json:"tenant"`
	Role    string            `json:"role"` // ARN
	Policy  string            `json:"policy"`
	Since   time.Time         `json:"since,omitzero"` // sessions issued before it are shut out
	Over    time.Time         `json:"over,omitzero"`  // when the policy can go
	Blocked bool              `json:"blocked"`        // all sessions are shut out; Since and Over are not there
	Changed bool              `json:"changed"`
	Checks  []RevocationCheck `json:"checks"`
	// NotProven says what was not observed, and why.
	NotProven []string `json:"not_proven"`
}

// Unproven is the report of a revocation that nobody tried, for the reason why.
func (p RevocationProof) Unproven(r Revocation, why string) *RevocationReport {
	return &RevocationReport{
		Verdict: Inconclusive, Target: targetReport(p.Target), Tenant: r.Tenant, Role: p.Config.RoleARN(), Policy: r.Policy(),
		Since: r.Since, Over: r.Over(), Blocked: r.Blocked, Checks: []RevocationCheck{}, NotProven: []string{why},
	}
}

// RevocationProver shows with real requests what a revocation does: a session from
// before is refused, a new one and another tenant's are not. Of a block it shows that
// new ones are refused too. What it asks for is a
// listing of the tenant's own prefix, and it changes nothing. It is used by one
// goroutine.
type RevocationProver struct {
	RevocationProof
	asker *prover
	close func()

	old, other   trialSession
	oldB, otherB RevocationCheck // before
}

// trialSession is a session that is asked again.
type trialSession struct {
	webSession
	tag string
}

// NewRevocationProver makes one, which is to be closed.
func NewRevocationProver(p RevocationProof) (*RevocationProver, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if p.Timeout == 0 {
		p.Timeout = 2 * time.Minute
	}
	if p.Progress == nil {
		p.Progress = func(string) {}
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Pause == nil {
		p.Pause = pause
	}
	proof := Proof{Config: p.Config, Target: p.Target, Now: p.Now}
	done := proof.setDefaults()
	return &RevocationProver{RevocationProof: p, asker: newProver(proof), close: done}, nil
}

// Close lets go of the connections.
func (v *RevocationProver) Close() { v.close() }

// Before makes the sessions that are to be old, and sees what they can do. It comes
// before Revoker.Plan, so that the revocation's time is after theirs.
func (v *RevocationProver) Before(ctx context.Context) {
	v.Progress("making a session of the tenant, to be shut out")
	v.old, v.oldB = v.before(ctx, v.Tenant, "revoked", RevocationCheck{
		ID: "old_session_before", What: "a session of the tenant, before", Expected: Allowed,
	})
	if v.Other != nil {
		v.other, v.otherB = v.before(ctx, *v.Other, "other", RevocationCheck{
			ID: "other_session_before", What: "a session of another tenant, before", Expected: Allowed,
		})
	}
}

// before tries a few sessions: an earlier revocation's time may be the second that
// begins, and then it is the session after next that is let in.
func (v *RevocationProver) before(ctx context.Context, t Tenant, name string, c RevocationCheck) (trialSession, RevocationCheck) {
	for n := 1; ; n++ {
		w, r := v.session(ctx, t, name)
		if r.answer == Allowed {
			r = v.list(ctx, w)
		}
		if r.answer != Denied || n == 3 || v.Pause(ctx, time.Second) != nil {
			return w, c.settled(r, n)
		}
	}
}

// session makes one of a tenant's.
func (v *RevocationProver) session(ctx context.Context, t Tenant, name string) (trialSession, reply) {
	raw, err := t.Token(ctx)
	if err != nil {
		return trialSession{}, reply{answer: NotTried, code: "no token", message: oneLine(err.Error())}
	}
	v.asker.silent = 0
	r, s := v.asker.exchange(ctx, raw, name)
	return trialSession{s, t.Tag}, r
}

// list has a session list its own prefix, which is allowed whether or not anything
// lies there.
func (v *RevocationProver) list(ctx context.Context, w trialSession) reply {
	prefix := v.Config.TenantPrefix(w.tag)
	v.asker.silent = 0
	return v.asker.ask(ctx, func(ctx context.Context) reply {
		return v.asker.list(listing{prefix: &prefix, maxKeys: aws.Int32(1)})(ctx, w.client)
	})
}

func (c RevocationCheck) settled(r reply, requests int) RevocationCheck {
	c.Actual, c.Requests = r.answer, requests
	switch {
	case r.answer == Denied:
		c.Said = r.refusal.String()
	case r.answer != Allowed:
		c.Said = r.text()
	}
	return c
}

// untried is a check that could not be made.
func (c RevocationCheck) untried(why string) RevocationCheck {
	c.Actual, c.Said = NotTried, why
	return c
}

// After sees what the sessions can do once the revocation is written. IAM takes a
// while to put it in force, so it asks until it is, or until the time is over.
func (v *RevocationProver) After(ctx context.Context, r Revocation) *RevocationReport {
	report := v.Unproven(r, "")
	report.NotProven = []string{}
	deadline := v.Now().Add(v.Timeout)
	report.Checks = append(report.Checks, v.oldB)
	if v.Other != nil {
		report.Checks = append(report.Checks, v.otherB)
	}
	after := v.after(ctx, r, deadline)
	report.Checks = append(report.Checks, after...)
	report.conclude(v.Other != nil)
	return report
}

// after asks the old session first and again in the end: IAM's servers do not learn
// of the revocation all at once.
func (v *RevocationProver) after(ctx context.Context, r Revocation, deadline time.Time) []RevocationCheck {
	out := RevocationCheck{ID: "old_session_after", What: "the tenant's old session, after", Expected: Denied}
	in := RevocationCheck{ID: "new_session_after", What: "a new session of the tenant", Expected: Allowed}
	if r.Blocked {
		in.Expected = Denied
	}
	other := RevocationCheck{ID: "other_session_after", What: "the other tenant's old session, after", Expected: Allowed}
	out = v.shutOut(ctx, r, out, deadline)
	if r.Blocked {
		in = v.keptOut(ctx, in, deadline)
	} else {
		in = v.letIn(ctx, r, in, deadline)
	}
	checks := []RevocationCheck{out, in}
	if v.Other != nil {
		checks = append(checks, v.spared(ctx, r, other, deadline))
	}
	if out.held() {
		checks[0].Requests++
		if again := orOtherRefusal(v.list(ctx, v.old)); again.answer != Denied {
			checks[0] = v.shutOut(ctx, r, out, deadline)
		}
	}
	return checks
}

// steadily is how many refusals in a row count for one.
const steadily = 3

// shutOut asks with the old session until it is refused.
func (v *RevocationProver) shutOut(ctx context.Context, r Revocation, c RevocationCheck, deadline time.Time) RevocationCheck {
	switch {
	case !v.oldB.held():
		return c.untried("no session worked before the revocation, so that a refusal would say nothing")
	case !r.catches(v.old.issued):
		return c.untried(fmt.Sprintf("the session was issued at %s and is no older than the revocation's %s: only one that is can show it",
			stamp(v.old.issued), stamp(r.Since)))
	}
	v.Progress("asking with the old session until it is refused")
	return v.untilRefused(ctx, c, deadline, func() reply { return v.list(ctx, v.old) })
}

// keptOut makes new sessions until they are refused.
func (v *RevocationProver) keptOut(ctx context.Context, c RevocationCheck, deadline time.Time) RevocationCheck {
	v.Progress("asking with new sessions until they are refused")
	return v.untilRefused(ctx, c, deadline, func() reply {
		w, answer := v.session(ctx, v.Tenant, "renewed")
		if answer.answer != Allowed {
			return reply{answer: NotTried, code: answer.code, status: answer.status, message: "no new session: " + answer.message}
		}
		return v.list(ctx, w)
	})
}

// untilRefused asks until the revocation has refused steadily.
func (v *RevocationProver) untilRefused(ctx context.Context, c RevocationCheck, deadline time.Time, ask func() reply) RevocationCheck {
	row := 0
	return v.until(ctx, c, deadline, func() (reply, bool) {
		answer := orOtherRefusal(ask())
		if row++; answer.answer != Denied {
			row = 0
		}
		return answer, row == steadily
	})
}

// orOtherRefusal takes a refusal for what it is not where no Deny on the role
// pronounced it: that of a revocation is explicit and identity-based.
func orOtherRefusal(r reply) reply {
	if r.answer != Denied || r.refusal.Layer == layerNotSaid || r.refusal.Explicit && r.refusal.Layer == "identity-based policy" {
		return r
	}
	return reply{answer: Unclear, code: r.code, status: r.status, message: "refused, but not by the revocation: " + r.refusal.String()}
}

// letIn makes new sessions until one can list. One that was issued too early for the
// revocation is not new.
func (v *RevocationProver) letIn(ctx context.Context, r Revocation, c RevocationCheck, deadline time.Time) RevocationCheck {
	v.Progress("asking with a new session until it is allowed")
	return v.until(ctx, c, deadline, func() (reply, bool) {
		w, answer := v.session(ctx, v.Tenant, "renewed")
		if answer.answer != Allowed {
			return answer, false
		}
		if w.issued.Before(r.Since) {
			return reply{answer: NotTried, code: "too early", message: "issued at " + stamp(w.issued) + ", before the revocation's time"}, false
		}
		answer = v.list(ctx, w)
		return answer, answer.answer == Allowed
	})
}

// spared asks with the other tenant's session, which is as old.
func (v *RevocationProver) spared(ctx context.Context, r Revocation, c RevocationCheck, deadline time.Time) RevocationCheck {
	switch {
	case !v.otherB.held():
		return c.untried("no session of another tenant worked before the revocation")
	case !r.catches(v.other.issued):
		return c.untried("the session is no older than the revocation's time, which alone would spare it")
	}
	v.Progress("asking with another tenant's old session")
	return v.until(ctx, c, deadline, func() (reply, bool) {
		answer := v.list(ctx, v.other)
		return answer, answer.answer == Allowed || answer.answer == Denied
	})
}

// until asks again and again, at growing intervals.
func (v *RevocationProver) until(ctx context.Context, c RevocationCheck, deadline time.Time, try func() (reply, bool)) RevocationCheck {
	const longest = 5 * time.Second
	for n, wait := 1, 250*time.Millisecond; ; n, wait = n+1, min(2*wait, longest) {
		r, done := try()
		if done {
			return c.settled(r, n)
		}
		if !v.Now().Add(wait).Before(deadline) {
			return c.givenUp(r, n, v.Timeout)
		}
		if err := v.Pause(ctx, wait); err != nil {
			return c.settled(reply{answer: Unclear, code: "interrupted", message: oneLine(err.Error())}, n)
		}
	}
}

// givenUp settles a check that did not come out in time. A few refusals at the end
// are not yet steady.
func (c RevocationCheck) givenUp(r reply, n int, timeout time.Duration) RevocationCheck {
	if r.answer == c.Expected {
		r = reply{answer: Unclear, code: "not steady", message: "it came out as expected in the end, but too late to be sure"}
	}
	c = c.settled(r, n)
	if c.Said != "" {
		c.Said += ", "
	}
	c.Said += fmt.Sprintf("still so after %v", timeout)
	return c
}

// conclude draws the verdict. Broken is what was observed and must not be once the
// revocation is written; what was not observed leaves it open.
func (r *RevocationReport) conclude(others bool) {
	r.Verdict = Proven
	for _, c := range r.Checks {
		observed := c.Actual == Allowed || c.Actual == Denied
		before := c.ID == "old_session_before" || c.ID == "other_session_before"
		switch {
		case c.held():
		case observed && !before:
			r.Verdict = Broken
		default:
			r.NotProven = append(r.NotProven, fmt.Sprintf("%s: %s", c.What, c.Said))
			if r.Verdict == Proven {
				r.Verdict = Inconclusive
			}
		}
	}
	if !others {
		r.NotProven = append(r.NotProven, "that other tenants are spared: no session of another was at hand (--oidc-key makes one)")
	}
}
