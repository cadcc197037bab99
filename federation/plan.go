package federation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"agentkeys/policy"
)

// PlanOptions says how far a plan may go with what it does not know. The zero
// value drops nothing of others.
type PlanOptions struct {
	// DropUnknown drops the statements that would otherwise stop the plan.
	DropUnknown bool
	// KeepUnknown keeps those of them in the bucket policy that grant something to
	// the data role. Nothing else that stops a plan can be kept: a statement of the
	// trust policy would admit sessions without a tag that the issuer vouched for,
	// and what S3 does not take back cannot be put back.
	KeepUnknown bool
	// Detach takes the managed policies off the role that grant S3.
	Detach bool

	// setUp and inline are SetUp's: every statement that is not ours stops the
	// plan, what else the role has is not looked at, and the inline policies named
	// are put on it.
	setUp  bool
	inline map[string]*policy.Document
}

// Plan is what has to change so that the documents are in force. MakePlan makes
// it and changes nothing; Apply carries it out.
type Plan struct {
	Target   string   // "account 111122223333 at AWS: role …, bucket …"
	Steps    []Step   // in the order of Apply; none: nothing to change
	Kept     []string // what is not ours and stays, a line per document
	Warnings []string // what the plan leaves and isolation suffers from
}

// Change says what a step does to its thing.
type Change string

// The kinds of change.
const (
	Create Change = "create"
	Alter  Change = "change"
	Remove Change = "remove"
)

// Step is one change of a plan: one call.
type Step struct {
	Change Change
	What   string // "trust policy of role agentkeys-data-role"
	Call   string // "iam UpdateAssumeRolePolicy"
	// Before and After are the thing as JSON, indented and in an order that says
	// nothing; "" where there is none.
	Before, After string

	read func(context.Context) (string, error) // the thing as it is now, in the form of Before
	do   func(context.Context) error
	// exact: the thing may hold what is not ours, so it is written only while it is
	// still as it was when the plan was made.
	exact bool
}

// String is the step in words.
func (s Step) String() string { return string(s.Change) + " " + s.What }

// Diff shows the step as a unified diff.
func (s Step) Diff() string { return unifiedDiff("in force", "planned", s.Before, s.After) }

// MakePlan compares the documents with what is in force and lists what has to
// change. It changes nothing.
//
// A statement is ours by its Sid, or by saying what a planned one says. In the
// bucket policy the statements of others stay beside ours, unless one grants the
// data role something, has a Sid of ours for another role, or is one that S3
// would not take back. In the trust policy a Deny of others stays, since it can
// only narrow. Of the role's inline policies what grants S3 goes and the rest
// stays. Whatever else would have to go stops the plan: the error is
// UnknownStatements.
func MakePlan(ctx context.Context, a AWS, c Config, d Documents, o PlanOptions) (*Plan, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Trust == nil || d.BucketPolicy == nil {
		return nil, errors.New("setting up AWS: want a trust policy and a bucket policy, got none")
	}
	if o.DropUnknown && o.KeepUnknown {
		return nil, errors.New("setting up AWS: want unknown statements either dropped or kept, got both")
	}
	p := &planner{site: site{a, c}, ctx: ctx, want: d, options: o, plan: &Plan{Target: targetOf(a, c)}}
	looks := []func() error{p.account, p.provider, p.role, p.bucket, p.bucketPolicy, p.givenPolicies}
	if !o.setUp {
		looks = append(looks, p.inlinePolicies, p.attachedPolicies, p.outcome)
	}
	for _, look := range looks {
		if err := look(); err != nil {
			return nil, err
		}
	}
	if len(p.unknown) > 0 {
		return nil, p.unknown
	}
	return p.plan, nil
}

// targetOf names what a plan is for.
func targetOf(a AWS, c Config) string {
	at := "AWS"
	if a.IAM != nil && a.IAM.Options().BaseEndpoint != nil {
		at = *a.IAM.Options().BaseEndpoint
	}
	return fmt.Sprintf("account %s at %s: role %s, bucket %s", c.Account, at, c.Role, c.Bucket)
}

// planner makes one plan.
type planner struct {
	site
	ctx     context.Context
	want    Documents
	options PlanOptions
	plan    *Plan
	unknown UnknownStatements

	inForce *iamtypes.Role     // the role; nil: there is none yet
	others  []*policy.Document // the role's inline policies as they will be
	policy  *policy.Document   // the bucket policy as it will be
	there   bool               // the bucket is
}

// add adds a step, unless there is nothing to change.
func (p *planner) add(s Step) {
	switch {
	case s.Before == s.After:
		return
	case s.Before == "":
		s.Change = Create
	case s.After == "":
		s.Change = Remove
	default:
		s.Change = Alter
	}
	p.plan.Steps = append(p.plan.Steps, s)
}

// addDocument adds the step from one document to another; nil stands for none.
func (p *planner) addDocument(s Step, before, after *policy.Document, read func(context.Context) (*policy.Document, error)) error {
	if before != nil && after != nil && same(before, after) {
		return nil
	}
	var err error
	if s.Before, err = canonical(before); err != nil {
		return failed("writing", s.What, err)
	}
	if s.After, err = canonical(after); err != nil {
		return failed("writing", s.What, err)
	}
	s.exact = true
	s.read = func(ctx context.Context) (string, error) {
		now, err := read(ctx)
		if err != nil {
			return "", err
		}
		return canonical(now)
	}
	p.add(s)
	return nil
}

// account makes sure that the credentials are the account's: IAM's calls name
// no account, and would make the role wherever the credentials belong.
func (p *planner) account() error {
	if p.STS == nil {
		return nil
	}
	got, err := p.caller(p.ctx)
	if err != nil {
		return err
	}
	if got != p.Account {
		return fmt.Errorf("setting up AWS: want credentials of account %s, got some of account %s", p.Account, got)
	}
	return nil
}

func (p *planner) provider() error {
	ids, err := p.clientIDs(p.ctx)
	if err != nil {
		return err
	}
	s := Step{
		What: "OIDC provider " + p.ProviderARN(), Before: ids.text(p.Config),
		read: func(ctx context.Context) (string, error) {
			ids, err := p.clientIDs(ctx)
			return ids.text(p.Config), err
		},
	}
	switch {
	case ids == nil:
		s.Call, s.do = "iam CreateOpenIDConnectProvider", p.createProvider
		ids = clientIDs{}
	case slices.Contains(ids, p.Audience):
		return nil
	default:
		s.Call, s.do = "iam AddClientIDToOpenIDConnectProvider", p.addClientID
	}
	s.After = append(slices.Clone(ids), p.Audience).text(p.Config)
	p.add(s)
	return nil
}

func (p *planner) role() error {
	var err error
	if p.inForce, err = p.getRole(p.ctx); err != nil {
		return err
	}
	if p.inForce == nil {
		return p.addDocument(Step{What: "role " + p.Role, Call: "iam CreateRole", do: func(ctx context.Context) error {
			return p.createRole(ctx, p.want.Trust)
		}}, nil, p.want.Trust, p.trust)
	}
	if arn := aws.ToString(p.inForce.Arn); arn != p.RoleARN() {
		return fmt.Errorf("setting up AWS: role %q: want the ARN %s, got %s", p.Role, p.RoleARN(), arn)
	}
	current, err := p.trustOf(p.inForce)
	if err != nil {
		return err
	}
	next := p.merge("trust policy of role "+p.Role, current, p.want.Trust, p.judgeTrust)
	err = p.addDocument(Step{
		What: "trust policy of role " + p.Role, Call: "iam UpdateAssumeRolePolicy",
		do: func(ctx context.Context) error { return p.updateTrust(ctx, next) },
	}, current, next, p.trust)
	if err != nil || p.options.setUp {
		return err
	}
	return p.roleTags()
}

// roleTags takes the tenant tag off the role itself: an untagged session would
// inherit it (User Guide, id_session-tags) and be a tenant.
func (p *planner) roleTags() error {
	for _, t := range p.inForce.Tags {
		key := aws.ToString(t.Key)
		if !strings.EqualFold(key, p.TagKey) {
			continue
		}
		p.add(Step{
			What: fmt.Sprintf("tag %s of role %s", key, p.Role), Call: "iam UntagRole",
			Before: tagJSON(t),
			read: func(ctx context.Context) (string, error) {
				role, err := p.getRole(ctx)
				if err != nil || role == nil {
					return "", err
				}
				for _, t := range role.Tags {
					if aws.ToString(t.Key) == key {
						return tagJSON(t), nil
					}
				}
				return "", nil
			},
			do: func(ctx context.Context) error { return p.untagRole(ctx, key) },
		})
	}
	return nil
}

func tagJSON(t iamtypes.Tag) string {
	return jsonIndented(struct{ Key, Value string }{aws.ToString(t.Key), aws.ToString(t.Value)})
}

// bucket makes the bucket and closes it to the public.
func (p *planner) bucket() error {
	text := jsonIndented(struct{ Bucket, Region string }{p.Bucket, p.Region})
	read := func(ctx context.Context) (string, error) {
		there, err := p.bucketThere(ctx)
		if !there {
			return "", err
		}
		return text, nil
	}
	before, err := read(p.ctx)
	if err != nil {
		return err
	}
	p.there = before != ""
	p.add(Step{What: "bucket " + p.Bucket, Call: "s3 CreateBucket", Before: before, After: text, read: read, do: p.createBucket})
	return errors.Join(
		p.setting("ownership controls", "s3 PutBucketOwnershipControls", jsonIndented(p.want.Ownership), p.ownership,
			func(ctx context.Context) error { return p.putOwnership(ctx, p.want.Ownership) }),
		p.setting("public access block", "s3 PutPublicAccessBlock", jsonIndented(p.want.PublicAccess), p.publicAccess,
			func(ctx context.Context) error { return p.putPublicAccess(ctx, p.want.PublicAccess) }),
	)
}

// setting adds the step to one setting of the bucket. What a new bucket has is
// seen when it is made.
func (p *planner) setting(name, call, after string, read func(context.Context) (string, error), do func(context.Context) error) error {
	s := Step{What: name + " of bucket " + p.Bucket, Call: call, After: after, read: read, do: do}
	if p.there {
		var err error
		if s.Before, err = read(p.ctx); err != nil {
			return err
		}
	}
	p.add(s)
	return nil
}

func (p *planner) bucketPolicy() error {
	var current *policy.Document
	if p.there {
		var err error
		if current, err = p.getBucketPolicy(p.ctx); err != nil {
			return err
		}
	}
	// A role made anew leaves its old id in the stored policy, which then differs in
	// its principal and is written again.
	what := "policy of bucket " + p.Bucket
	p.policy = p.merge(what, current, p.want.BucketPolicy, p.judgeBucket)
	if text, err := p.policy.MarshalJSON(); err == nil && len(text) > policy.MaxBucketPolicy {
		return fmt.Errorf("setting up AWS: the %s: want at most %d bytes, got %d with what is not ours", what, policy.MaxBucketPolicy, len(text))
	}
	next, fresh := p.policy, p.freshRole()
	return p.addDocument(Step{What: what, Call: "s3 PutBucketPolicy", do: func(ctx context.Context) error {
		return p.putBucketPolicy(ctx, next, fresh)
	}}, current, next, p.getBucketPolicy)
}

// freshRole reports whether S3 may not know the role yet.
func (p *planner) freshRole() bool {
	return p.inForce == nil || time.Since(aws.ToTime(p.inForce.CreateDate)) < 2*time.Minute
}
