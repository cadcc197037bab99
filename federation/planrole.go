package federation

import (
	"context"
	"fmt"
	"slices"

	"agentkeys/policy"
)

// givenPolicies puts on the role what SetUp was given.
func (p *planner) givenPolicies() error {
	given := p.options.inline
	if p.options.setUp && p.want.RolePolicy != nil {
		if err := p.givenPolicy(rolePolicyName, p.want.RolePolicy); err != nil {
			return err
		}
	}
	for _, name := range sortedNames(given) {
		if err := p.givenPolicy(name, given[name]); err != nil {
			return err
		}
	}
	return nil
}

func (p *planner) givenPolicy(name string, want *policy.Document) error {
	var current *policy.Document
	if p.inForce != nil {
		var err error
		if current, err = p.inline(p.ctx, name); err != nil {
			return err
		}
	}
	return p.addInline(name, current, want)
}

// addInline adds the step to an inline policy of the role; nil stands for none.
func (p *planner) addInline(name string, before, after *policy.Document) error {
	s := Step{What: fmt.Sprintf("inline policy %s of role %s", name, p.Role), Call: "iam PutRolePolicy",
		do: func(ctx context.Context) error { return p.putInline(ctx, name, after) }}
	if after == nil {
		s.Call = "iam DeleteRolePolicy"
		s.do = func(ctx context.Context) error { return p.deleteInline(ctx, name) }
	}
	return p.addDocument(s, before, after, func(ctx context.Context) (*policy.Document, error) { return p.inline(ctx, name) })
}

// inlinePolicies takes S3 out of every inline policy of the role. It comes after
// the bucket policy, so that the tenants never stand without either.
func (p *planner) inlinePolicies() error {
	var names []string
	if p.inForce != nil {
		var err error
		if names, err = p.inlineNames(p.ctx); err != nil {
			return err
		}
	}
	if p.want.RolePolicy != nil && !slices.Contains(names, rolePolicyName) {
		names = append(names, rolePolicyName)
	}
	for _, name := range names {
		var current *policy.Document
		if p.inForce != nil {
			var err error
			if current, err = p.inline(p.ctx, name); err != nil {
				return err
			}
		}
		next := current
		if current != nil {
			next = p.stripped(name, current)
		}
		if name == rolePolicyName && p.want.RolePolicy != nil {
			next = p.merge("inline policy "+name+" of role "+p.Role, next, p.want.RolePolicy, judgeIdentity)
		}
		if err := p.addInline(name, current, next); err != nil {
			return err
		}
		if next != nil {
			p.others = append(p.others, next)
		}
	}
	return nil
}

// stripped is an inline policy without S3; nil where nothing stays.
func (p *planner) stripped(name string, d *policy.Document) *policy.Document {
	next, whole := withoutS3(d)
	if !p.options.DropUnknown {
		for _, i := range whole {
			p.unknown = append(p.unknown, Unknown{
				Document: "inline policy " + name + " of role " + p.Role, Index: i, Statement: d.Statements[i],
				Why: "grants S3 together with everything else, and the one cannot be taken out of the other",
			})
		}
	}
	return next
}

// attachedPolicies looks at the managed policies of the role by what they say,
// not by their names. They belong to others too, so that they are not changed.
func (p *planner) attachedPolicies() error {
	if p.inForce == nil {
		return nil
	}
	arns, err := p.attached(p.ctx)
	if err != nil {
		return err
	}
	for _, arn := range arns {
		d, err := p.managed(p.ctx, arn)
		if err != nil {
			return err
		}
		switch {
		case !grantsS3(d):
		case p.options.Detach:
			if err := p.addDetach(arn, d); err != nil {
				return err
			}
		default:
			p.plan.Warnings = append(p.plan.Warnings, p.attachedWarning(arn, d))
		}
	}
	return nil
}

func (p *planner) addDetach(arn string, d *policy.Document) error {
	text, err := canonical(d)
	if err != nil {
		return failed("writing managed policy", arn, err)
	}
	p.add(Step{
		What: fmt.Sprintf("managed policy %s from role %s", arn, p.Role), Call: "iam DetachRolePolicy", Before: text,
		read: func(ctx context.Context) (string, error) {
			arns, err := p.attached(ctx)
			if !slices.Contains(arns, arn) {
				return "", err
			}
			return text, nil
		},
		do: func(ctx context.Context) error { return p.detach(ctx, arn) },
	})
	return nil
}

// attachedWarning says what a managed policy that stays does to the isolation
// that the plan would leave.
func (p *planner) attachedWarning(arn string, d *policy.Document) string {
	const way = "; detach it with --detach"
	action, err := p.wayIn(d)
	switch {
	case err != nil:
		return fmt.Sprintf("managed policy %s on role %s grants S3, and what that does to the isolation is not known: %v%s", arn, p.Role, err, way)
	case action != "":
		return fmt.Sprintf("ISOLATION DOES NOT HOLD: managed policy %s on role %s lets a tenant use %s on what is not its own%s", arn, p.Role, action, way)
	}
	return fmt.Sprintf("managed policy %s on role %s grants S3; as far as this bucket goes the planned policies contain it%s", arn, p.Role, way)
}

// outcome looks at what the plan leaves without the managed policies. Only what was
// kept can open it.
func (p *planner) outcome() error {
	if len(p.unknown) > 0 {
		return nil // there will be no plan
	}
	action, err := p.wayIn()
	if err != nil {
		return failed("reading the planned policy of bucket", p.Bucket, err)
	}
	if action != "" {
		p.plan.Warnings = append(p.plan.Warnings,
			fmt.Sprintf("ISOLATION DOES NOT HOLD: what is kept in the policy of bucket %s lets a tenant use %s on what is not its own", p.Bucket, action))
	}
	return nil
}
