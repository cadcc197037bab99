package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"agentkeys/policy"
)

func (a *account) revoker() Revoker {
	return Revoker{AWS: a.aws, Config: a.config, Pause: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
}

func (a *account) revoke(t testing.TB, tenant string, since time.Time) Revocation {
	t.Helper()
	p, r, err := a.revoker().Plan(t.Context(), tenant, since)
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func (a *account) clear(t testing.TB, r Revoker, tenant string, force bool) *Plan {
	t.Helper()
	p, err := r.PlanClear(t.Context(), tenant, force)
	if err != nil {
		t.Fatal(err)
	}
	if err := Apply(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// hardened is an account that is set up, with an inline policy of somebody else's.
func hardened(t testing.TB) *account {
	t.Helper()
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Hardened), nil)
	a.putInline(t, "mail", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ses:SendEmail","Resource":"*"}]}`)
	return a
}

func wantRefused(t testing.TB, err error, texts ...string) {
	t.Helper()
	var e *RevocationRefused
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want a RevocationRefused", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q, want it to say %q", err, text)
		}
	}
}

// A tenant's revocation moves on and never back, and touches nothing else.
func TestRevocationMovesOnAndNeverBack(t *testing.T) {
	a := hardened(t)
	before := a.snapshot(t)
	first := a.revoke(t, walletA, time.Now().Add(-time.Hour))
	a.revoke(t, walletB, time.Now().Add(-2*time.Hour))
	second := a.revoke(t, walletA, time.Now().Add(-time.Minute))
	if !second.Since.After(first.Since) {
		t.Fatalf("revoked for %v and then for %v", first.Since, second.Since)
	}
	_, _, err := a.revoker().Plan(t.Context(), walletA, first.Since)
	wantRefused(t, err, stamp(first.Since), stamp(second.Since))
	writes := a.writes(t)
	if p, _, err := a.revoker().Plan(t.Context(), walletA, second.Since); err != nil || len(p.Steps) > 0 {
		t.Errorf("the same again: %v (%v), want nothing to change", p, err)
	}
	a.intercept = nil
	_, list, err := a.revoker().InForce(t.Context())
	if err != nil || len(list) != 2 || list[0].Revocation != second && list[1].Revocation != second {
		t.Errorf("in force %+v (%v), want %+v and walletB's", list, err, second)
	}
	if len(*writes) > 0 {
		t.Errorf("it wrote %q", *writes)
	}
	for _, tenant := range []string{walletA, walletB} {
		a.clear(t, a.revoker(), tenant, true)
	}
	if after := a.snapshot(t); !cmp.Equal(before, after) {
		t.Errorf("once all are cleared: %s", cmp.Diff(before, after))
	}
}

// Now is AWS's: a machine whose clock is wrong neither leaves sessions alive nor shuts
// new ones out.
func TestRevocationGoesByTheClockOfAWS(t *testing.T) {
	for _, ahead := range []time.Duration{-4 * time.Minute, 4 * time.Minute} {
		a := hardened(t)
		a.ahead.Store(int64(ahead))
		low := a.now()
		r := a.revoke(t, walletA, time.Time{})
		if r.Since.Before(low) || r.Since.After(a.now().Add(time.Second)) {
			t.Errorf("AWS's clock is %v ahead: revoked for %v, want the second after %v", ahead, r.Since, low)
		}
		low = a.now()
		_, r, err := a.revoker().PlanAgo(t.Context(), walletB, 15*time.Minute)
		if err != nil || r.Since.Before(low.Add(-15*time.Minute)) || r.Since.After(a.now().Add(time.Second-15*time.Minute)) {
			t.Errorf("AWS's clock is %v ahead: 15 minutes ago is %v, %v; want the second after 15 minutes before %v", ahead, r.Since, err, low)
		}
		_, _, err = a.revoker().Plan(t.Context(), walletB, a.now().Add(time.Minute))
		wantRefused(t, err, "would shut out new sessions")
	}
}

func TestRevocationsRefused(t *testing.T) {
	a := hardened(t)
	writes := a.writes(t)
	_, _, err := a.revoker().Plan(t.Context(), strings.ToUpper(walletA), time.Time{})
	wantRefused(t, err, "as the broker stores it, "+walletA)
	for _, ago := range []time.Duration{0, -time.Nanosecond, -15 * time.Minute} {
		_, _, err = a.revoker().PlanAgo(t.Context(), walletA, ago)
		wantRefused(t, err, "want a length of time above zero")
	}
	_, err = a.revoker().PlanClear(t.Context(), "bob", true)
	wantRefused(t, err, "want 0x and 40")
	_, err = a.revoker().PlanClear(t.Context(), "", true)
	wantRefused(t, err, "force is for one tenant")
	a.config.Account = "444455556666"
	if _, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{}); err == nil || !strings.Contains(err.Error(), "want credentials of account 444455556666, got some of account 000011112222") {
		t.Errorf("error %v, want one about the account", err)
	}
	a.config.Account, a.config.Role = "000011112222", "nobody"
	if _, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{}); err == nil || !strings.Contains(err.Error(), `iam GetRole "nobody"`) {
		t.Errorf("error %v, want one about the role", err)
	}
	if len(*writes) > 0 {
		t.Errorf("it wrote %q", *writes)
	}
}

// A revocation goes once the last session that it shuts out has ended by itself, and
// not a moment before; then sessions of the longest kind are over whatever the role
// allows today.
func TestClearingRevocations(t *testing.T) {
	a := hardened(t)
	old, young := a.revoke(t, walletA, noon), a.revoke(t, walletB, noon.Add(time.Second))
	at := a.revoker()
	var now time.Time
	at.Now = func() time.Time { return now }

	now = old.Since.Add(12*time.Hour - time.Nanosecond)
	p := a.clear(t, at, "", false)
	if len(p.Steps) > 0 || len(p.Kept) != 2 || !strings.Contains(p.Kept[0], "may live until 2026-05-02T00:00:0") {
		t.Errorf("a moment too early: %v, kept %q", p.Steps, p.Kept)
	}
	_, err := at.PlanClear(t.Context(), walletA, false)
	wantRefused(t, err, "may live until 2026-05-02T00:00:00Z, now it is 2026-05-01T23:59:59.999999999Z")

	now = old.Over()
	if p = a.clear(t, at, "", false); len(p.Steps) != 1 || len(p.Kept) != 1 {
		t.Errorf("at %v: %v, kept %q, want one of each", now, p.Steps, p.Kept)
	}
	_, list, err := at.InForce(t.Context())
	if err != nil || len(list) != 1 || list[0].Revocation != young {
		t.Errorf("in force %+v (%v), want %+v", list, err, young)
	}
	_, err = at.PlanClear(t.Context(), walletA, true)
	wantRefused(t, err, "the tenant has none on role")
	if p = a.clear(t, at, walletB, true); len(p.Steps) != 1 {
		t.Errorf("by force: %v, want one step", p.Steps)
	}
	if names := a.snapshot(t)["names"]; names != "mail" {
		t.Errorf("inline policies %q, want mail alone", names)
	}
}

// A block takes the place of the tenant's revocation. It never ends by itself, no
// revocation loosens it unasked, and it turns into a revocation in one write, so that
// at no moment an old session gets in.
func TestBlockStaysUntilItIsTakenBack(t *testing.T) {
	a := hardened(t)
	first, other := a.revoke(t, walletA, time.Now().Add(-time.Hour)), a.revoke(t, walletB, noon)
	_, _, err := a.revoker().PlanUnblock(t.Context(), walletA)
	wantRefused(t, err, "want a tenant who is blocked, got one whose sessions issued before "+stamp(first.Since))
	put := func(plan func(context.Context, string) (*Plan, Revocation, error)) Revocation {
		p, r, err := plan(t.Context(), walletA)
		if err == nil {
			err = Apply(t.Context(), p, nil)
		}
		if err != nil || len(p.Steps) != 1 {
			t.Fatalf("%v: %v, want one step", err, p)
		}
		return r
	}
	inForce := func(want ...Revocation) {
		t.Helper()
		_, list, err := a.revoker().InForce(t.Context())
		if err != nil || len(list) != len(want) {
			t.Fatalf("in force %+v (%v), want %+v", list, err, want)
		}
		for _, have := range list {
			if !slices.Contains(want, have.Revocation) {
				t.Errorf("in force %+v, want %+v", have, want)
			}
		}
	}
	block := put(a.revoker().PlanBlock)
	inForce(block, other)
	if p, _, err := a.revoker().PlanBlock(t.Context(), walletA); err != nil || len(p.Steps) > 0 {
		t.Errorf("blocked again: %v (%v), want nothing to change", p, err)
	}
	for _, since := range []time.Time{{}, first.Since, time.Now().Add(-time.Second)} {
		_, _, err := a.revoker().Plan(t.Context(), walletA, since)
		wantRefused(t, err, "is blocked", "would let new ones in again")
	}
	later := a.revoker()
	later.Now = func() time.Time { return time.Now().Add(1000 * time.Hour) }
	if p := a.clear(t, later, "", false); len(p.Steps) != 1 || len(p.Kept) != 1 || !strings.Contains(p.Kept[0], "a block") {
		t.Errorf("much later: %v, kept %q, want the other's revocation cleared and the block kept", p.Steps, p.Kept)
	}
	_, err = later.PlanClear(t.Context(), walletA, false)
	wantRefused(t, err, "a block, which shuts out all sessions, old and new")

	low := a.now()
	lifted := put(a.revoker().PlanUnblock)
	if lifted.Blocked || lifted.Since.Before(low) {
		t.Errorf("unblocked at %v into %+v", low, lifted)
	}
	inForce(lifted)
	put(a.revoker().PlanBlock)
	a.clear(t, a.revoker(), walletA, true)
	inForce()
	_, _, err = a.revoker().PlanUnblock(t.Context(), walletA)
	wantRefused(t, err, "got one without any revocation")
	a.putInline(t, block.Policy(), oldInline)
	if _, _, err := a.revoker().PlanBlock(t.Context(), walletA); err == nil || !strings.Contains(err.Error(), "is not written over") {
		t.Errorf("a policy of somebody else's: error %v, want it not written over", err)
	}
}

// IAM takes so much and no more. The last that fits is taken, and the next is refused
// before anything is written, with the way out.
func TestRevocationsUpToTheLimit(t *testing.T) {
	a := hardened(t)
	tenant := func(n int) string { return fmt.Sprintf("0x%040x", n) }
	n := 0
	var err error
	for ; err == nil; n++ {
		var p *Plan
		if p, _, err = a.revoker().Plan(t.Context(), tenant(n), noon); err == nil {
			err = Apply(t.Context(), p, nil)
		}
	}
	n--
	if n < 30 || !strings.Contains(err.Error(), "want at most 10240 characters") ||
		!strings.Contains(err.Error(), fmt.Sprintf("%d revocations", n)) || !strings.Contains(err.Error(), "agentkeys revoke --clear") {
		t.Fatalf("after %d: %v", n, err)
	}
	writes := a.writes(t)
	if _, _, err := a.revoker().Plan(t.Context(), tenant(n), noon); err == nil || len(*writes) > 0 {
		t.Errorf("over the limit it wrote %q (%v)", *writes, err)
	}
	// Nearly all of the room is used, so that the count is IAM's own.
	if p, _, err := a.revoker().Plan(t.Context(), tenant(0), noon.Add(time.Hour)); err != nil || Apply(t.Context(), p, nil) != nil {
		t.Errorf("one that is in force does not move on: %v", err)
	}
	a.putInline(t, "room", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"a:b","Resource":"*"}]}`)
	at := a.revoker()
	at.Now = func() time.Time { return noon.Add(12 * time.Hour) }
	if p := a.clear(t, at, "", false); len(p.Steps) != n-1 || len(p.Kept) != 1 {
		t.Errorf("cleared %d, kept %q, want %d and one", len(p.Steps), p.Kept, n-1)
	}
	a.revoke(t, tenant(n), noon)
}

// characters counts as IAM does, whose emulation refuses at the same length.
func TestCharacters(t *testing.T) {
	if got := characters("{ \"a\":\t\"é\"\r\n}"); got != 9 {
		t.Errorf("got %d, want 9", got)
	}
}

// A failure at any request, refused or with its answer lost, leaves the role either as
// before or revoked; what was written and reported lost is no error; and a second run
// ends where one without a failure ends.
func TestRevokingHalfWay(t *testing.T) {
	straight := hardened(t)
	straight.revoke(t, walletB, noon)
	before := straight.snapshot(t)
	straight.revoke(t, walletA, noon)
	revoked := straight.snapshot(t)
	for _, lost := range []bool{false, true} {
		a := hardened(t)
		a.revoke(t, walletB, noon)
		for n, more := 1, true; more && !t.Failed(); n++ {
			f := &failing{at: n, lost: lost}
			a.intercept = f.intercept(t, a)
			p, _, err := a.revoker().Plan(t.Context(), walletA, noon)
			if err == nil {
				err = Apply(t.Context(), p, nil)
			}
			a.intercept = nil
			more = f.seen >= n
			now := a.snapshot(t)
			switch {
			case !cmp.Equal(now, before) && !cmp.Equal(now, revoked):
				t.Errorf("request %d, lost %v: neither as before nor revoked: %s", n, lost, cmp.Diff(revoked, now))
			case err == nil && !cmp.Equal(now, revoked):
				t.Errorf("request %d, lost %v: no error, and not revoked: %s", n, lost, cmp.Diff(revoked, now))
			case err != nil && lost && !isRead(f.hit):
				t.Errorf("request %d: %s was carried out, and the run ended with %v", n, f.hit, err)
			case err != nil && strings.Contains(err.Error(), "\n"):
				t.Errorf("request %d: the error has more than one line: %q", n, err)
			}
			a.revoke(t, walletA, noon)
			if now := a.snapshot(t); !cmp.Equal(now, revoked) {
				t.Errorf("request %d, lost %v: a second run ends with %s", n, lost, cmp.Diff(revoked, now))
			}
			a.clear(t, a.revoker(), walletA, true)
		}
	}
}

// What another tool does to the role meanwhile: to the policy itself it stops the run,
// before or right after it is written, and to others it does not matter.
func TestRoleChangedMeanwhile(t *testing.T) {
	other := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:DeleteObject","Resource":"*"}]}`
	name := revocationPrefix + walletA
	t.Run("before it is written", func(t *testing.T) {
		a := hardened(t)
		p, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		a.putInline(t, name, other)
		if err := Apply(t.Context(), p, nil); err == nil || !strings.Contains(err.Error(), "was changed after the plan was made") {
			t.Errorf("error %v", err)
		}
		if _, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{}); err == nil || !strings.Contains(err.Error(), "is not written over") {
			t.Errorf("error %v, want it not written over", err)
		}
		_, err = a.revoker().PlanClear(t.Context(), walletA, false)
		wantRefused(t, err, "want the statement that agentkeys revoke writes")
		if p := a.clear(t, a.revoker(), "", false); len(p.Steps) > 0 || len(p.Kept) != 1 {
			t.Errorf("clearing all takes %v and keeps %q", p.Steps, p.Kept)
		}
		a.clear(t, a.revoker(), walletA, true)
		a.revoke(t, walletA, time.Time{})
	})
	t.Run("right after it is written", func(t *testing.T) {
		a := hardened(t)
		p, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		written := false
		a.intercept = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
			call := callName(t, r)
			if call == "GetRolePolicy" && written {
				a.intercept = nil
				a.putInline(t, name, other)
			}
			written = written || call == "PutRolePolicy"
			return false
		}
		if err := Apply(t.Context(), p, nil); err == nil || !strings.Contains(err.Error(), "was changed by somebody else right after") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("another policy", func(t *testing.T) {
		a := hardened(t)
		p, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		a.putInline(t, "another", other)
		b := a.revoke(t, walletB, time.Time{})
		if err := Apply(t.Context(), p, nil); err != nil {
			t.Fatal(err)
		}
		if names := a.snapshot(t)["names"]; names != strings.Join([]string{name, b.Policy(), "another", "mail"}, " ") &&
			names != strings.Join([]string{b.Policy(), name, "another", "mail"}, " ") {
			t.Errorf("inline policies %q", names)
		}
	})
}

// Runs at once for different tenants lose nothing of one another's.
func TestRevokingManyAtOnce(t *testing.T) {
	a := hardened(t)
	const many = 8
	errs := make(chan error, many)
	for n := range many {
		go func() { // ended by the receiving below
			p, _, err := a.revoker().Plan(t.Context(), fmt.Sprintf("0x%040x", n), noon)
			if err == nil {
				err = Apply(t.Context(), p, nil)
			}
			errs <- err
		}()
	}
	for range many {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if _, list, err := a.revoker().InForce(t.Context()); err != nil || len(list) != many {
		t.Errorf("%d in force (%v), want %d", len(list), err, many)
	}
}

// IAM's reads lag behind its writes. What is not yet to be seen is waited for, and
// what never comes is an error.
func TestRevocationReadBackLate(t *testing.T) {
	for _, c := range []struct {
		late  int // reads after the write that still show the state before
		fails bool
	}{{3, false}, {1000, true}} {
		a := hardened(t)
		p, _, err := a.revoker().Plan(t.Context(), walletA, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		written, reads := false, 0
		a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
			call := callName(t, r)
			if call == "GetRolePolicy" && written {
				if reads++; reads <= c.late {
					recorded{404, "NoSuchEntity", "The role policy cannot be found."}.sts(w)
					return true
				}
			}
			written = written || call == "PutRolePolicy"
			return false
		}
		err = Apply(t.Context(), p, nil)
		if (err != nil) != c.fails || err != nil && !strings.Contains(err.Error(), "want it read back as written, got it as before") {
			t.Errorf("%d late reads: %v", c.late, err)
		}
	}
}

// A plan and an apply of the documents leave revocations alone.
func TestPlanLeavesRevocationsAlone(t *testing.T) {
	a := hardened(t)
	r := a.revoke(t, walletA, time.Time{})
	if p := a.makePlan(t, PlanOptions{}); len(p.Steps) > 0 || len(p.Warnings) > 0 {
		t.Errorf("steps %v, warnings %q, want none", p.Steps, p.Warnings)
	}
	a.putInline(t, "old", oldInline)
	a.apply(t, PlanOptions{DropUnknown: true})
	if _, list, err := a.revoker().InForce(t.Context()); err != nil || len(list) != 1 || list[0].Revocation != r {
		t.Errorf("in force %+v (%v), want %+v", list, err, r)
	}
	p, block, err := a.revoker().PlanBlock(t.Context(), walletB)
	if err != nil || Apply(t.Context(), p, nil) != nil {
		t.Fatal(err)
	}
	if p := a.makePlan(t, PlanOptions{DropUnknown: true}); len(p.Steps) > 0 || len(p.Warnings) > 0 {
		t.Errorf("with %+v: steps %v, warnings %q, want none", block, p.Steps, p.Warnings)
	}
	account, err := Fetch(t.Context(), a.aws, a.config)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Check(account)
	if err != nil || len(report.Findings) > 0 {
		t.Errorf("findings %+v (%v), want none", report.Findings, err)
	}
	if !slices.ContainsFunc(report.Advice, func(s string) bool { return strings.Contains(s, walletA+" from before "+stamp(r.Since)) }) {
		t.Errorf("advice %q says nothing of the revocation", report.Advice)
	}
}

// A document that is not to be read as a policy stops nothing but its own tenant.
func TestRevocationsBesideAPolicyOfAnotherTagKey(t *testing.T) {
	a := hardened(t)
	other := a.config
	other.TagKey = "team"
	text := marshal(t, revocation(t, walletA, noon).Document(other))
	a.putInline(t, revocationPrefix+walletA, text)
	a.revoke(t, walletB, noon)
	_, list, err := a.revoker().InForce(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("in force %+v (%v)", list, err)
	}
	for _, have := range list {
		if (have.Problem != nil) != strings.HasSuffix(have.Policy, walletA) {
			t.Errorf("%s: problem %v", have.Policy, have.Problem)
		}
	}
	if d, err := policy.Parse([]byte(text)); err != nil || len(d.Statements) != 1 {
		t.Fatal(err)
	}
}
