package federation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"agentkeys/policy"
)

// Revoker puts revocations on the data role and takes them away again. It makes
// plans, which Apply carries out.
//
// Of two runs for one tenant at the same moment the one that writes last decides:
// each reads right before it writes and reads back after, and a change within that
// moment is lost. Two runs for two tenants have nothing in common.
type Revoker struct {
	AWS    AWS
	Config Config
	// Now is the clock. If it is nil it is AWS's own, by the date of an answer of
	// IAM's: AWS compares with its own clock, and this machine's may be wrong.
	Now func() time.Time
	// Pause waits between two looks at what was written; nil waits for real.
	Pause func(context.Context, time.Duration) error
}

// RevocationRefused is the error for what a Revoker does not do, whatever the
// account holds: it is the caller who has to ask for something else.
type RevocationRefused struct {
	Why string
	// Next says what to ask for instead, where there is something.
	Next string
}

func (e *RevocationRefused) Error() string { return e.Why }

const (
	nextUnblock = "--unblock lets new sessions in, and none from before"
	nextForce   = "wait, or give --force to let such sessions in again"
	nextList    = "agentkeys revoke --list shows who has one"
)

func refused(format string, args ...any) error {
	return &RevocationRefused{Why: fmt.Sprintf(format, args...)}
}

// maxRoleInline is how many characters all inline policies of a role have together,
// not counting white space (IAM and STS quotas).
const maxRoleInline = 10240

// inForce is what a Revoker found.
type inForce struct {
	now       time.Time
	list      []RevocationInForce // in the order of their policies' names
	documents map[string]*policy.Document
	size      map[string]int // of every inline policy of the role, in characters
}

// InForce lists the revocations on the data role, in the order of their policies'
// names, and says what time it is by the Revoker's clock.
func (r Revoker) InForce(ctx context.Context) (time.Time, []RevocationInForce, error) {
	f, err := r.look(ctx)
	if err != nil {
		return time.Time{}, nil, err
	}
	return f.now, f.list, nil
}

// Plan is the plan to shut out what was issued to a tenant before since; a zero since
// is the next second after now. A since in the future would shut out new sessions,
// and one before what is in force would let revoked ones in again: both are a
// RevocationRefused.
//
// Where the tenant is blocked, a revocation would let new sessions in: that too is
// refused, and is for PlanUnblock.
func (r Revoker) Plan(ctx context.Context, tenant string, since time.Time) (*Plan, Revocation, error) {
	return r.plan(ctx, tenant, func(f *inForce) (Revocation, error) {
		if since.After(f.now) {
			return Revocation{}, refused("revoking %s: want a time up to now, %s by AWS's clock, got %s, which would shut out new sessions",
				tenant, stamp(f.now), stamp(since))
		}
		return f.since(tenant, cmp.Or(since, NextSecond(f.now)))
	})
}

// PlanAgo is like Plan, for what was issued to a tenant more than a length of time ago, by
// AWS's clock. One that is not above zero is a RevocationRefused: now is Plan's, and
// before that the future.
func (r Revoker) PlanAgo(ctx context.Context, tenant string, ago time.Duration) (*Plan, Revocation, error) {
	if ago <= 0 {
		return nil, Revocation{}, refused("revoking %s: want a length of time above zero, got %v", tenant, ago)
	}
	return r.plan(ctx, tenant, func(f *inForce) (Revocation, error) { return f.since(tenant, NextSecond(f.now).Add(-ago)) })
}

// since is the revocation of what was issued before a time, if it takes nothing back.
func (f *inForce) since(tenant string, t time.Time) (Revocation, error) {
	next, err := NewRevocation(tenant, t)
	if err != nil {
		return next, err
	}
	return next, f.admits(next)
}

// PlanBlock is the plan to shut out all of a tenant's sessions, new ones too. It takes
// the place of the tenant's revocation, which shuts out less.
func (r Revoker) PlanBlock(ctx context.Context, tenant string) (*Plan, Revocation, error) {
	return r.plan(ctx, tenant, func(f *inForce) (Revocation, error) {
		next, err := NewBlock(tenant)
		if err != nil {
			return next, err
		}
		return next, f.admits(next)
	})
}

// PlanUnblock is the plan to turn a tenant's block into a revocation up to now, in one
// step: new sessions get in, and at no moment one from before. A tenant who is not
// blocked is a RevocationRefused.
func (r Revoker) PlanUnblock(ctx context.Context, tenant string) (*Plan, Revocation, error) {
	return r.plan(ctx, tenant, func(f *inForce) (Revocation, error) {
		have, ok := f.of(tenant)
		switch {
		case !ok:
			return Revocation{}, refused("unblocking %s: want a tenant who is blocked, got one without any revocation", tenant)
		case have.Problem != nil:
			return Revocation{}, fmt.Errorf("unblocking %s: %w; it is not written over", tenant, have.Problem)
		case !have.Blocked:
			return Revocation{}, refused("unblocking %s: want a tenant who is blocked, got one whose %s are shut out",
				tenant, have.ShutsOut())
		}
		return NewRevocation(tenant, NextSecond(f.now))
	})
}

// plan is the plan to put in force what decide makes of what is in force.
func (r Revoker) plan(ctx context.Context, tenant string, decide func(*inForce) (Revocation, error)) (*Plan, Revocation, error) {
	if err := CheckTenant(tenant); err != nil {
		return nil, Revocation{}, &RevocationRefused{Why: err.Error()}
	}
	f, err := r.look(ctx)
	if err != nil {
		return nil, Revocation{}, err
	}
	next, err := decide(f)
	if err != nil {
		return nil, next, err
	}
	p := r.planner(ctx)
	if err := r.step(p, next.Policy(), f.documents[next.Policy()], next.Document(r.Config)); err != nil {
		return nil, next, err
	}
	return p.plan, next, f.fits(next, r.Config)
}

// admits reports whether a revocation takes nothing back that is in force.
func (f *inForce) admits(next Revocation) error {
	have, ok := f.of(next.Tenant)
	switch {
	case !ok:
	case have.Problem != nil:
		return fmt.Errorf("revoking %s: %w; it is not written over", next.Tenant, have.Problem)
	case next.Blocked:
	case have.Blocked:
		return &RevocationRefused{Next: nextUnblock, Why: fmt.Sprintf(
			"revoking %s: the tenant is blocked, which shuts out all sessions; a revocation would let new ones in again", next.Tenant)}
	case next.Since.Before(have.Since):
		return refused("revoking %s: sessions from before %s are revoked already, got the earlier %s, which would let some of them in again",
			next.Tenant, stamp(have.Since), stamp(next.Since))
	}
	return nil
}

// of is what is in force of a tenant's.
func (f *inForce) of(tenant string) (RevocationInForce, bool) {
	name := Revocation{Tenant: tenant}.Policy()
	i := slices.IndexFunc(f.list, func(have RevocationInForce) bool { return have.Policy == name })
	if i < 0 {
		return RevocationInForce{}, false
	}
	return f.list[i], true
}

// fits reports whether IAM takes a revocation beside the role's other inline policies.
func (f *inForce) fits(next Revocation, c Config) error {
	text, err := next.Document(c).MarshalJSON()
	if err != nil {
		return err
	}
	total := characters(string(text))
	for name, n := range f.size {
		if name != next.Policy() {
			total += n
		}
	}
	if total <= maxRoleInline {
		return nil
	}
	return fmt.Errorf("revoking %s: want at most %d characters in the inline policies of role %s, got %d with this one: %s in force take room; agentkeys revoke --clear takes away those that are over",
		next.Tenant, maxRoleInline, c.Role, total, count(len(f.list), "revocation"))
}

// characters counts as IAM's quotas do.
func characters(text string) int {
	return len([]rune(text)) - strings.Count(text, " ") - strings.Count(text, "\t") - strings.Count(text, "\r") - strings.Count(text, "\n")
}

// PlanClear is the plan to take revocations away: all that are over, which is when
// the last session that they shut out has ended by itself; or that of one tenant,
// which before that time, or where the policy is not as agentkeys writes it, takes
// force. A block is never over. What stays is in Plan.Kept. A tenant of whom nothing
// is in force is a RevocationRefused: it may be a slip of the hand.
func (r Revoker) PlanClear(ctx context.Context, tenant string, force bool) (*Plan, error) {
	if tenant != "" {
		if err := CheckTenant(tenant); err != nil {
			return nil, &RevocationRefused{Why: err.Error()}
		}
	} else if force {
		return nil, refused("clearing revocations: force is for one tenant, got none")
	}
	f, err := r.look(ctx)
	if err != nil {
		return nil, err
	}
	if _, ok := f.of(tenant); tenant != "" && !ok {
		return nil, &RevocationRefused{fmt.Sprintf("clearing the revocation of %s: the tenant has none on role %s", tenant, r.Config.Role), nextList}
	}
	p := r.planner(ctx)
	for _, have := range f.list {
		if tenant != "" && have.Policy != (Revocation{Tenant: tenant}).Policy() {
			continue
		}
		why := have.stays(f.now)
		switch {
		case force && f.documents[have.Policy] == nil:
			err = fmt.Errorf("clearing the revocation of %s: %w; delete it with aws iam delete-role-policy", tenant, have.Problem)
		case why == "", force:
			err = r.step(p, have.Policy, f.documents[have.Policy], nil)
		case tenant != "":
			err = have.refuseClearing(tenant, why)
		default:
			p.plan.Kept = append(p.plan.Kept, why)
		}
		if err != nil {
			return nil, err
		}
	}
	return p.plan, nil
}

func (have RevocationInForce) refuseClearing(tenant, why string) error {
	next := nextForce
	if have.Blocked {
		next = nextUnblock + "; --force lets all in again"
	}
	return &RevocationRefused{fmt.Sprintf("clearing the revocation of %s: %s", tenant, why), next}
}

// stays says why a revocation must not go yet; "" where it can.
func (have RevocationInForce) stays(now time.Time) string {
	switch {
	case have.Problem != nil:
		return have.Problem.Error()
	case have.Blocked:
		return fmt.Sprintf("inline policy %s: a block, which shuts out %s until it is taken back", have.Policy, have.ShutsOut())
	case now.Before(have.Over()):
		return fmt.Sprintf("inline policy %s: sessions from before %s may live until %s, now it is %s",
			have.Policy, stamp(have.Since), stamp(have.Over()), stamp(now))
	}
	return ""
}

// stamp is a time for a person: in UTC, with no more digits than it has.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func (r Revoker) site() site { return site{r.AWS, r.Config} }

func (r Revoker) planner(ctx context.Context) *planner {
	return &planner{site: r.site(), ctx: ctx, plan: &Plan{Target: targetOf(r.AWS, r.Config)}}
}

// step adds the step to an inline policy, and has it read back what it wrote.
func (r Revoker) step(p *planner, name string, before, after *policy.Document) error {
	n := len(p.plan.Steps)
	if err := p.addInline(name, before, after); err != nil || len(p.plan.Steps) == n {
		return err
	}
	s := &p.plan.Steps[n]
	write, planned := s.do, *s
	s.do = func(ctx context.Context) error {
		if err := write(ctx); err != nil {
			return err
		}
		return r.readBack(ctx, planned)
	}
	return nil
}

// readBack waits until IAM shows what was written: its reads may lag behind.
func (r Revoker) readBack(ctx context.Context, s Step) error {
	const patience = 16 * time.Second
	for wait := 250 * time.Millisecond; ; wait *= 2 {
		now, err := s.read(ctx)
		switch {
		case err == nil && now == s.After:
			return nil
		case err == nil && now != s.Before:
			return fmt.Errorf("setting up AWS: the %s was changed by somebody else right after it was written", s.What)
		case wait > patience && err == nil:
			err = fmt.Errorf("setting up AWS: the %s: want it read back as written, got it as before", s.What)
		}
		if wait > patience {
			return err
		}
		if e := r.pause(ctx, wait); e != nil {
			return errors.Join(e, err)
		}
	}
}

func (r Revoker) pause(ctx context.Context, d time.Duration) error {
	if r.Pause != nil {
		return r.Pause(ctx, d)
	}
	return pause(ctx, d)
}

// pause waits, or ends with the context.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// look reads the role's inline policies, and AWS's clock.
func (r Revoker) look(ctx context.Context) (*inForce, error) {
	if err := r.Config.Validate(); err != nil {
		return nil, err
	}
	p := r.planner(ctx)
	if err := p.account(); err != nil {
		return nil, err
	}
	now, err := r.clock(ctx)
	if err != nil {
		return nil, err
	}
	names, err := p.inlineNames(ctx)
	if err != nil {
		return nil, err
	}
	f := &inForce{now: now, documents: map[string]*policy.Document{}, size: map[string]int{}}
	for _, name := range names {
		text, err := p.inlineText(ctx, name)
		if err != nil {
			return nil, err
		}
		f.size[name] = characters(text)
		if strings.HasPrefix(name, revocationPrefix) && text != "" {
			f.add(r.Config, name, text)
		}
	}
	return f, nil
}

// add takes a policy in. One that cannot be read may still be taken away by force.
func (f *inForce) add(c Config, name, text string) {
	have := RevocationInForce{Policy: name}
	d, err := policy.Parse([]byte(text))
	if err != nil {
		have.Problem = fmt.Errorf("inline policy %s: %w", name, err)
	} else {
		f.documents[name] = d
		have.Revocation, have.Problem = readRevocation(c, name, d)
	}
	f.list = append(f.list, have)
}

// clock sees that the data role is the configured one, and what time it is.
func (r Revoker) clock(ctx context.Context) (time.Time, error) {
	got, err := r.AWS.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &r.Config.Role})
	if err != nil {
		return time.Time{}, failed("iam GetRole", r.Config.Role, err)
	}
	if arn := aws.ToString(got.Role.Arn); arn != r.Config.RoleARN() {
		return time.Time{}, fmt.Errorf("setting up AWS: role %q: want the ARN %s, got %s", r.Config.Role, r.Config.RoleARN(), arn)
	}
	if r.Now != nil {
		return r.Now().UTC(), nil
	}
	now, ok := awsmiddleware.GetServerTime(got.ResultMetadata)
	if !ok {
		return time.Time{}, errors.New("setting up AWS: want an answer of IAM's with its date, got one without")
	}
	return now.UTC(), nil
}
