package federation

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/google/go-cmp/cmp"
)

// situations are where an apply may start.
var situations = map[string]func(testing.TB, *account){
	"from nothing":  func(testing.TB, *account) {},
	"from worn out": func(t testing.TB, a *account) { a.wornOut(t) },
}

// A failure at any request, refused or with its answer lost, leaves an account in
// which every document is either as before or as planned; the error says which are;
// and a second run ends where a run without a failure ends.
func TestApplyHalfWay(t *testing.T) {
	t.Parallel()
	for name, prepare := range situations {
		straight := newAccount(t)
		prepare(t, straight)
		before := straight.snapshot(t)
		straight.apply(t, PlanOptions{Detach: true})
		want := straight.snapshot(t)
		for _, lost := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, lost %v", name, lost), func(t *testing.T) {
				t.Parallel()
				a := newAccount(t)
				prepare(t, a)
				for n, more := 1, true; more && !t.Failed(); n++ {
					var applied bool
					if more, applied = a.failAt(t, n, lost, before, want); !applied {
						continue // in the same account, as nothing was changed
					}
					if t.Failed() {
						t.Logf("at request %d", n)
					}
					a.apply(t, PlanOptions{Detach: true})
					if got := a.snapshot(t); !cmp.Equal(got, want) {
						t.Errorf("request %d: after a second run %s", n, cmp.Diff(want, got))
					}
					a = newAccount(t)
					prepare(t, a)
				}
			})
		}
	}
}

// failAt runs plan and apply with a failure at request n, and reports whether there
// was such a request and whether it came to an apply.
func (a *account) failAt(t *testing.T, n int, lost bool, before, want map[string]string) (more, applied bool) {
	t.Helper()
	f := &failing{at: n, lost: lost}
	a.intercept = f.intercept(t, a)
	defer func() { a.intercept = nil }()
	p, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{Detach: true})
	planned := err == nil
	if planned {
		err = Apply(t.Context(), p, nil)
	}
	a.intercept = nil
	now := a.snapshot(t)
	var incomplete *Incomplete
	switch {
	case err == nil && f.seen < n:
		return false, true
	case err == nil: // the answer was lost and the state asked for instead
		if !lost || !cmp.Equal(now, want) {
			t.Errorf("no error, and %s", cmp.Diff(want, now))
		}
	case !planned:
		if changed := differences(before, now); len(changed) > 0 {
			t.Errorf("making a plan failed and changed %v", changed)
		}
		return true, false
	case lost && !isRead(f.hit):
		t.Errorf("%s was carried out, and the run ended with %v", f.hit, err)
	case !errors.As(err, &incomplete):
		t.Errorf("error %v, want an *Incomplete", err)
	default:
		a.holdIncomplete(t, p, incomplete)
	}
	for _, name := range differences(before, now) {
		if now[name] != want[name] && name != "names" && !slices.Contains([]string{"ownership", "public access"}, name) {
			t.Errorf("%s is neither as before nor as planned: %q", name, now[name])
		}
	}
	return true, true
}

// holdIncomplete checks that an error names each step once, and tells those that are
// in force from those that are not.
func (a *account) holdIncomplete(t *testing.T, p *Plan, i *Incomplete) {
	t.Helper()
	if strings.Contains(i.Error(), "\n") {
		t.Errorf("the error has more than one line: %q", i)
	}
	all := append(append(slices.Clone(i.Done), i.Failed), i.Left...)
	if len(all) != len(p.Steps) {
		t.Fatalf("%d steps done, failed or left, want %d", len(all), len(p.Steps))
	}
	for n, s := range all {
		if s.What != p.Steps[n].What {
			t.Errorf("step %d is %s, want %s", n+1, s, p.Steps[n])
		}
		if n == len(i.Done) || n > len(i.Done) && !s.exact {
			continue // not known; or a setting that a new bucket has anyway
		}
		now, err := s.read(t.Context())
		if done := err == nil && now == s.After; done != (n < len(i.Done)) {
			t.Errorf("%s is in force: %v (%v); done are %v", s, done, err, i.Done)
		}
	}
}

// Two runs at once end where one ends.
func TestApplyTwiceAtOnce(t *testing.T) {
	for name, prepare := range situations {
		t.Run(name, func(t *testing.T) {
			straight := newAccount(t)
			prepare(t, straight)
			straight.apply(t, PlanOptions{Detach: true})
			want := straight.snapshot(t)
			for range 3 {
				a := newAccount(t)
				prepare(t, a)
				errs := a.applyAtOnce(t, Hardened, Hardened)
				if err := errors.Join(errs...); err != nil {
					t.Fatal(err)
				}
				if got := a.snapshot(t); !cmp.Equal(got, want) {
					t.Fatal(cmp.Diff(want, got))
				}
			}
		})
	}
}

// Two runs at once that want different things: each document is whole and is what one
// of them wants, what is not ours is there, and one more run settles it.
func TestApplyTwoPlansAtOnce(t *testing.T) {
	for range 4 {
		a := newAccount(t)
		a.wornOut(t)
		a.applyAtOnce(t, Plain, Hardened)
		got := a.snapshot(t)
		if !strings.Contains(got["bucket policy"], "AllowSES") || !strings.Contains(got["bucket policy"], sidTenantObjects) {
			t.Fatalf("the bucket policy is\n%s", got["bucket policy"])
		}
		a.apply(t, PlanOptions{Detach: true})
		if p := a.makePlan(t, PlanOptions{}); len(p.Steps) > 0 {
			t.Fatalf("left to do: %v", p.Steps)
		}
	}
}

func (a *account) applyAtOnce(t *testing.T, forms ...Form) []error {
	t.Helper()
	errs := make([]error, len(forms))
	var wait sync.WaitGroup
	for i, form := range forms {
		wait.Go(func() {
			d, err := Render(a.config, form)
			if err == nil {
				var p *Plan
				if p, err = MakePlan(t.Context(), a.aws, a.config, d, PlanOptions{Detach: true}); err == nil {
					err = Apply(t.Context(), p, nil)
				}
			}
			errs[i] = err
		})
	}
	wait.Wait()
	return errs
}

// A document that changed after the plan was made is not written over.
func TestApplyStopsAtWhatChangedInBetween(t *testing.T) {
	for name, change := range map[string]func(*account){
		"policy of bucket": func(a *account) {
			s := allowSES(a.config)
			s.Sid, s.Principal.Service = "InBetween", []string{"logs.amazonaws.com"}
			d := render(t, a.config, Plain)
			a.putBucketPolicy(t, marshal(t, document(append(slices.Clone(d.BucketPolicy.Statements), s)...)))
		},
		"trust policy": func(a *account) { a.putTrust(t, render(t, a.config, Plain).Trust) },
		"inline policy old": func(a *account) {
			a.putInline(t, "old", strings.Replace(oldInline, `"Mail"`, `"InBetween"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			a.wornOut(t)
			p := a.makePlan(t, PlanOptions{})
			change(a)
			changed := a.snapshot(t)
			err := Apply(t.Context(), p, nil)
			if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "was changed after the plan was made") {
				t.Errorf("error %v, want one that names the %s", err, name)
			}
			thing := map[string]string{"policy of bucket": "bucket policy", "trust policy": "trust", "inline policy old": "inline old"}[name]
			if now := a.snapshot(t); now[thing] != changed[thing] {
				t.Errorf("the %s was written over: %s", name, cmp.Diff(changed[thing], now[thing]))
			}
			a.apply(t, PlanOptions{})
			if name != "trust policy" && !strings.Contains(a.snapshot(t)[thing], "InBetween") {
				t.Errorf("what was added in between is gone from the %s", name)
			}
		})
	}
}

func TestApplyTellsOfEachStep(t *testing.T) {
	a := newAccount(t)
	p := a.makePlan(t, PlanOptions{})
	var told []string
	if err := Apply(t.Context(), p, func(s Step) { told = append(told, s.String()) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{
		"create OIDC provider " + a.config.ProviderARN(), "create role agentkeys-data-role", "create bucket agentkeys-test",
		"create ownership controls of bucket agentkeys-test", "create public access block of bucket agentkeys-test",
		"create policy of bucket agentkeys-test",
	}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
}

// A first run that failed after it made the role is followed by one for which the
// role is not new, and S3 may still not know it.
func TestApplyWaitsForARoleOfARunBefore(t *testing.T) {
	a := newAccount(t)
	_, err := a.aws.IAM.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &a.config.Role,
		AssumeRolePolicyDocument: aws.String(marshal(t, render(t, a.config, Hardened).Trust))})
	if err != nil {
		t.Fatal(err)
	}
	refusals := 0
	a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
		if refusals == 0 && sdkCall(t, r) == "PutBucketPolicy" {
			refusals++
			recorded{400, "MalformedPolicy", "Invalid principal in policy"}.s3(w)
			return true
		}
		return false
	}
	a.apply(t, PlanOptions{})
	if refusals != 1 {
		t.Errorf("%d refusals, want 1", refusals)
	}
}
