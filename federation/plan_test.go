package federation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"pgregory.net/rapid"

	"agentkeys/policy"
)

func TestGoldenPlans(t *testing.T) {
	t.Run("first", func(t *testing.T) {
		a := newAccount(t)
		golden(t, "plan-first.txt", []byte(a.planText(t, a.makePlan(t, PlanOptions{}))))
	})
	t.Run("repair", func(t *testing.T) {
		a := newAccount(t)
		a.wornOut(t)
		golden(t, "plan-repair.txt", []byte(a.planText(t, a.makePlan(t, PlanOptions{}))))
		golden(t, "plan-repair-detach.txt", []byte(a.planText(t, a.makePlan(t, PlanOptions{Detach: true}))))
		a.apply(t, PlanOptions{Detach: true})
		golden(t, "plan-nothing.txt", []byte(a.planText(t, a.makePlan(t, PlanOptions{}))))
	})
}

// Applying twice changes nothing, from wherever one comes.
func TestApplyTwiceChangesNothing(t *testing.T) {
	for name, prepare := range map[string]func(*account){
		"from nothing":  func(*account) {},
		"from plain":    func(a *account) { a.setUp(t, render(t, a.config, Plain), nil) },
		"from worn out": func(a *account) { a.wornOut(t) },
		"from another audience": func(a *account) {
			a.setUp(t, render(t, a.config, Hardened), nil)
			a.config.Audience = "another"
		},
		"from statements in another order": func(a *account) {
			d := render(t, a.config, Hardened)
			turned := document(d.BucketPolicy.Statements...)
			slices.Reverse(turned.Statements)
			d.BucketPolicy = turned
			a.setUp(t, d, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			prepare(a)
			a.apply(t, PlanOptions{Detach: true})
			writes := a.writes(t)
			p := a.makePlan(t, PlanOptions{})
			if err := Apply(t.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
			if len(p.Steps) > 0 || len(*writes) > 0 {
				t.Errorf("the second run has the steps %v and wrote %q", p.Steps, *writes)
			}
		})
	}
}

// The order of statements means nothing, so it is no difference.
func TestPlanLeavesTheOrderOfStatements(t *testing.T) {
	a := newAccount(t)
	d := render(t, a.config, Hardened)
	a.setUp(t, d, nil)
	turned := document(d.BucketPolicy.Statements...)
	turned.Statements = slices.Clone(turned.Statements)
	slices.Reverse(turned.Statements)
	a.putBucketPolicy(t, marshal(t, turned))
	if p := a.makePlan(t, PlanOptions{}); len(p.Steps) > 0 {
		t.Errorf("steps %v, want none", p.Steps)
	}
}

// After the plan was applied to the worn-out account it is proven, and what is not
// ours is there still.
func TestApplyRepairs(t *testing.T) {
	a := newAccount(t)
	a.wornOut(t)
	if r := prove(t, a.proof(t)); r.Verdict != Broken {
		t.Fatalf("verdict %s before, want %s", r.Verdict, Broken)
	}
	a.apply(t, PlanOptions{Detach: true})
	if r := prove(t, a.proof(t)); r.Verdict != Proven {
		t.Errorf("verdict %s, want %s", r.Verdict, Proven)
	}
	got := a.snapshot(t)
	if !strings.Contains(got["bucket policy"], `"AllowSES"`) {
		t.Errorf("the mail service's statement is gone:\n%s", got["bucket policy"])
	}
	if got["names"] != "old" || strings.Contains(got["inline old"], "GetObject") ||
		!strings.Contains(got["inline old"], "ses:SendEmail") || !strings.Contains(got["inline old"], "s3:DeleteBucket") {
		t.Errorf("inline policies %q, want the mail statement and the Deny of old:\n%s", got["names"], got["inline old"])
	}
	if got["tag team"] != "mail" || got["tag AgentKeys_User_Wallet"] != "" {
		t.Errorf("want the tenant tag gone from the role and the other kept, got %v", got)
	}
	if got["attached"] != "" {
		t.Errorf("attached %q, want none", got["attached"])
	}
}

// Each statement that stops a plan, and what the two options do with it.
func TestPlanStopsAtUnknownStatements(t *testing.T) {
	role := func(c Config) *policy.Principals { return &policy.Principals{AWS: []string{c.RoleARN()}} }
	for _, c := range []struct {
		name      string
		where     string // "trust" or "bucket"
		statement func(Config) policy.Statement
		why       string // "" for one that is kept
		keepable  bool
	}{
		{"an older trust statement", "trust", func(c Config) policy.Statement {
			return policy.Statement{Effect: policy.Allow, Principal: &policy.Principals{Federated: []string{c.ProviderARN()}},
				Action: []string{"sts:AssumeRoleWithWebIdentity", "sts:TagSession"}}
		}, "statement 3 (without a Sid: Allow sts:AssumeRoleWithWebIdentity and sts:TagSession for arn:aws:iam::000011112222:oidc-provider/", false},
		{"the account's own users", "trust", func(c Config) policy.Statement {
			return policy.Statement{Sid: "Ops", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{c.Account}}, Action: []string{"sts:AssumeRole"}}
		}, `Sid "Ops"`, false},
		{"a deny in the trust policy", "trust", func(c Config) policy.Statement {
			return policy.Statement{Sid: "Night", Effect: policy.Deny, Principal: &policy.Principals{Any: true}, Action: []string{"sts:AssumeRole"}}
		}, "", false},
		{"mail", "bucket", allowSES, "", false},
		{"another account", "bucket", func(c Config) policy.Statement {
			return policy.Statement{Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{"arn:aws:iam::444455556666:root"}},
				Action: []string{"s3:GetObject"}, Resource: []string{c.BucketARN() + "/reports/*"}}
		}, "", false},
		{"an older bucket statement", "bucket", func(c Config) policy.Statement {
			return policy.Statement{Effect: policy.Allow, Principal: role(c),
				Action: []string{"s3:GetObject"}, Resource: []string{c.BucketARN() + "/bots/*"}}
		}, "grants the data role more than is planned", true},
		{"an older bucket statement by condition", "bucket", func(c Config) policy.Statement {
			return policy.Statement{Sid: "Old", Effect: policy.Allow, Principal: &policy.Principals{Any: true},
				Action: []string{"s3:GetObject"}, Resource: []string{c.BucketARN() + "/bots/*"},
				Condition: []policy.Condition{{Operator: "ArnEquals", Key: "aws:principalarn", Values: []string{c.RoleARN()}}}}
		}, `Sid "Old"`, true},
		{"a deny for the role", "bucket", func(c Config) policy.Statement {
			return policy.Statement{Effect: policy.Deny, Principal: role(c),
				Action: []string{"s3:PutBucketPolicy"}, Resource: []string{c.BucketARN()}}
		}, "", false},
	} {
		for _, form := range []Form{Plain, Hardened} { // in force; planned is the hardened one
			t.Run(c.name+"/"+string(form), func(t *testing.T) {
				a := newAccount(t)
				d := render(t, a.config, form)
				a.setUp(t, d, nil)
				s, document := c.statement(a.config), d.BucketPolicy
				if c.where == "trust" {
					document = d.Trust
				}
				with := *document
				with.Statements = append(slices.Clone(document.Statements), s)
				if c.where == "trust" {
					a.putTrust(t, &with)
				} else {
					a.putBucketPolicy(t, marshal(t, &with))
				}
				a.holdFate(t, c.where, s, c.why, c.keepable)
			})
		}
	}
}

// holdFate checks what becomes of a statement by default, when told to drop and when
// told to keep.
func (a *account) holdFate(t *testing.T, where string, s policy.Statement, why string, keepable bool) {
	t.Helper()
	before := a.snapshot(t)
	d := render(t, a.config, Hardened)
	p, err := MakePlan(t.Context(), a.aws, a.config, d, PlanOptions{})
	if why == "" {
		if err != nil || len(p.Kept) != 1 || !strings.Contains(p.Kept[0], gist(s)) {
			t.Fatalf("error %v, plan %+v, want the statement kept", err, p)
		}
	} else {
		unknown := unknownIn(t, err)
		if text := err.Error(); len(unknown) != 1 || !strings.Contains(strings.ReplaceAll(text, "statement 2 (without", "statement 3 (without"), why) ||
			unknown[0].Keepable != keepable || !saysTheSame(unknown[0].Statement, s) {
			t.Fatalf("error %q, want one with %q", text, why)
		}
	}
	_, err = MakePlan(t.Context(), a.aws, a.config, d, PlanOptions{KeepUnknown: true})
	if stops := why != "" && !keepable; stops != (err != nil) {
		t.Fatalf("told to keep: error %v, want one: %v", err, stops)
	}
	if changed := differences(before, a.snapshot(t)); len(changed) > 0 {
		t.Fatalf("making a plan changed %v", changed)
	}
	if keepable {
		a.apply(t, PlanOptions{KeepUnknown: true})
		a.holds(t, where, s, true)
		a.apply(t, PlanOptions{KeepUnknown: true})
	}
	a.apply(t, PlanOptions{DropUnknown: true})
	a.holds(t, where, s, why == "")
}

// holds checks whether a document in force has a statement.
func (a *account) holds(t *testing.T, where string, s policy.Statement, want bool) {
	t.Helper()
	in := site{a.aws, a.config}
	read := in.getBucketPolicy
	if where == "trust" {
		read = in.trust
	}
	d, err := read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := slices.ContainsFunc(d.Statements, func(have policy.Statement) bool {
		return gist(have) == gist(s) && have.Sid == s.Sid || saysTheSame(have, s)
	})
	if got != want {
		t.Errorf("the %s policy has the statement: %v, want %v", where, got, want)
	}
}

// What is kept is weighed too.
func TestPlanWarnsOfWhatItKeeps(t *testing.T) {
	for action, opens := range map[string]bool{"s3:GetObjectVersion": false, "s3:PutBucketPolicy": true} {
		a := newAccount(t)
		d := render(t, a.config, Hardened)
		a.setUp(t, d, nil)
		s := policy.Statement{Sid: "More", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{a.config.RoleARN()}},
			Action: []string{action}, Resource: []string{a.config.BucketARN()}}
		if action == "s3:GetObjectVersion" {
			s.Resource[0] += "/*"
		}
		a.putBucketPolicy(t, marshal(t, document(append(slices.Clone(d.BucketPolicy.Statements), s)...)))
		p := a.makePlan(t, PlanOptions{KeepUnknown: true})
		if warned := strings.Contains(strings.Join(p.Warnings, "\n"), "ISOLATION DOES NOT HOLD: what is kept in the policy of bucket agentkeys-test lets a tenant use "+action); warned != opens {
			t.Errorf("%s: warnings %q, want one: %v", action, p.Warnings, opens)
		}
	}
}

// A statement by another hand that says what ours says is ours: nothing is lost.
func TestPlanTakesOverWhatSaysTheSame(t *testing.T) {
	a := newAccount(t)
	d := render(t, a.config, Hardened)
	a.setUp(t, d, nil)
	bare := document(slices.Clone(d.BucketPolicy.Statements)...)
	for i := range bare.Statements {
		bare.Statements[i].Sid = ""
	}
	a.putBucketPolicy(t, marshal(t, bare))
	p := a.makePlan(t, PlanOptions{})
	if len(p.Steps) != 1 || len(p.Kept) > 0 {
		t.Fatalf("steps %v, kept %q, want one step", p.Steps, p.Kept)
	}
	if strings.Contains(p.Steps[0].Diff(), "\n-") {
		t.Errorf("the step takes something away:\n%s", p.Steps[0].Diff())
	}
}

// Two federations in one bucket: the second does not take the first one's
// statements for its own.
func TestPlanSparesAnotherFederation(t *testing.T) {
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Hardened), nil)
	a.config.Role = "another-role"
	_, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{})
	if unknown := unknownIn(t, err); len(unknown) != 6 || !strings.Contains(err.Error(), DefaultRole+", so that another federation may live here") {
		t.Errorf("error %v, want six statements of %s", err, DefaultRole)
	}
}

// What S3 would not take back, or would read otherwise, stops a plan that has to
// write the policy, and only such a plan.
func TestPlanStopsAtWhatCannotBeWrittenAgain(t *testing.T) {
	gone := func(a *account) string {
		_, err := a.aws.IAM.CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("bob")})
		if err != nil {
			t.Fatal(err)
		}
		a.putBucketPolicy(t, marshal(t, document(append(slices.Clone(render(t, a.config, Plain).BucketPolicy.Statements), policy.Statement{
			Sid: "Bob", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{"arn:aws:iam::000011112222:user/bob"}},
			Action: []string{"s3:GetObject"}, Resource: []string{a.config.BucketARN() + "/x"},
		})...)))
		if _, err := a.aws.IAM.DeleteUser(t.Context(), &iam.DeleteUserInput{UserName: aws.String("bob")}); err != nil {
			t.Fatal(err)
		}
		return "a user or role that is gone"
	}
	public := func(a *account) string {
		if _, err := a.aws.S3.DeletePublicAccessBlock(t.Context(), &s3.DeletePublicAccessBlockInput{Bucket: &a.config.Bucket}); err != nil {
			t.Fatal(err)
		}
		a.putBucketPolicy(t, marshal(t, document(append(slices.Clone(render(t, a.config, Plain).BucketPolicy.Statements), policy.Statement{
			Sid: "Web", Effect: policy.Allow, Principal: &policy.Principals{Any: true},
			Action: []string{"s3:GetObject"}, Resource: []string{a.config.BucketARN() + "/web/*"},
		})...)))
		return "is public"
	}
	literal := func(a *account) string {
		d := document(policy.Statement{
			Sid: "Odd", Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{"arn:aws:iam::444455556666:root"}},
			Action: []string{"s3:GetObject"}, Resource: []string{a.config.BucketARN() + "/${aws:userid}/*"},
		})
		d.Version = "2008-10-17"
		a.putBucketPolicy(t, marshal(t, d))
		return "says ${…}"
	}
	for name, prepare := range map[string]func(*account) string{"gone": gone, "public": public, "literal": literal} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(t)
			a.setUp(t, render(t, a.config, Plain), nil)
			why := prepare(a)
			for _, o := range []PlanOptions{{}, {KeepUnknown: true}} {
				_, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), o)
				if unknown := unknownIn(t, err); len(unknown) != 1 || unknown[0].Keepable || !strings.Contains(err.Error(), why) {
					t.Errorf("error %v, want one that says it %s", err, why)
				}
			}
			if name != "literal" { // where the policy need not be written
				p, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Plain), PlanOptions{})
				if err != nil || len(p.Kept) != 1 {
					t.Errorf("error %v, plan %+v, want the statement kept", err, p)
				}
			}
			a.apply(t, PlanOptions{DropUnknown: true})
		})
	}
}

// Credentials of another account, and a role of another path, are refused before
// anything is made.
func TestPlanRefusesTheWrongAccount(t *testing.T) {
	a := newAccount(t)
	writes := a.writes(t)
	a.config.Account = "999900001111"
	_, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{})
	if err == nil || !strings.Contains(err.Error(), "want credentials of account 999900001111, got some of account 000011112222") {
		t.Errorf("error %v, want one with both accounts", err)
	}
	if len(*writes) > 0 {
		t.Errorf("wrote %q", *writes)
	}

	a = newAccount(t)
	trust := marshal(t, render(t, a.config, Hardened).Trust)
	_, err = a.aws.IAM.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &a.config.Role, Path: aws.String("/team/"), AssumeRolePolicyDocument: &trust})
	if err != nil {
		t.Fatal(err)
	}
	_, err = MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{})
	if err == nil || !strings.Contains(err.Error(), ":role/team/"+DefaultRole) {
		t.Errorf("error %v, want one with the role's ARN", err)
	}
}

func TestPlanRefusesContraryOptions(t *testing.T) {
	if _, err := MakePlan(t.Context(), AWS{}, testConfig(), render(t, testConfig(), Plain), PlanOptions{DropUnknown: true, KeepUnknown: true}); err == nil {
		t.Error("MakePlan takes both")
	}
}

// A policy that S3 would refuse for its size is refused before anything is changed.
func TestPlanMindsTheSizeOfTheBucketPolicy(t *testing.T) {
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Plain), nil)
	s := allowSES(a.config)
	for i := range 470 {
		s.Resource = append(s.Resource, fmt.Sprintf("%s/mail-%d/*", a.config.BucketARN(), i))
	}
	a.putBucketPolicy(t, marshal(t, document(s)))
	_, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{})
	if err == nil || !strings.Contains(err.Error(), "want at most 20480 bytes") {
		t.Errorf("error %v, want one with the size", err)
	}
}

// TestPlanErrorsNameCallAndThing lets one call at a time fail.
func TestPlanErrorsNameCallAndThing(t *testing.T) {
	a := newAccount(t)
	a.wornOut(t)
	for call, thing := range map[string]string{
		"sts GetCallerIdentity":        a.config.Account,
		"iam ListRolePolicies":         DefaultRole,
		"iam GetRolePolicy":            InlinePolicyName,
		"iam ListAttachedRolePolicies": DefaultRole,
		"iam GetPolicy":                s3ReadOnly,
		"iam GetPolicyVersion":         s3ReadOnly,
	} {
		t.Run(call, func(t *testing.T) {
			_, name, _ := strings.Cut(call, " ")
			a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
				if sdkCall(t, r) != name {
					return false
				}
				recorded{403, "AccessDenied", "Access Denied"}.sts(w)
				return true
			}
			_, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{})
			if err == nil || !strings.Contains(err.Error(), call) || !strings.Contains(err.Error(), thing) {
				t.Errorf("error %v, want one that names %s and %s", err, call, thing)
			}
		})
	}
}

func TestPlanJSON(t *testing.T) {
	a := newAccount(t)
	a.wornOut(t)
	var out bytes.Buffer
	if err := a.makePlan(t, PlanOptions{Detach: true}).WriteJSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Target string
		Steps  []struct {
			Change, What, Call, Diff string
			Before, After            json.RawMessage
		}
		Kept, Warnings []string
	}
	d := json.NewDecoder(&out)
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if len(got.Steps) != 8 || len(got.Kept) != 1 || got.Warnings == nil || !strings.Contains(got.Target, a.config.Account) {
		t.Errorf("got %+v, want eight steps and what is kept", got)
	}
	for _, s := range got.Steps {
		if (s.Change == "remove") != (string(s.After) == "null") || (s.Change == "create") != (string(s.Before) == "null") || s.Diff == "" || s.Call == "" {
			t.Errorf("step %+v does not agree with itself", s)
		}
	}
}

// What others wrote into a policy cannot draw on the terminal.
func TestPlanTextIsPrintable(t *testing.T) {
	if got, want := escaped("a\x1b[2Jb\u202ec\u009bdé"), `a\u001b[2Jb\u202ec\u009bdé`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Whatever somebody else has in the bucket policy is there after a plan was applied
// that was not told to drop it, or nothing is changed at all.
func TestPlanNeverDropsStatementsOfOthers(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Plain), nil)
	rapid.Check(t, func(rt *rapid.T) {
		ours := rapid.SampledFrom([]Form{Plain, Hardened}).Draw(rt, "form in force")
		statements := slices.Clone(render(t, a.config, ours).BucketPolicy.Statements)
		statements = statements[:rapid.IntRange(0, len(statements)).Draw(rt, "ours")]
		var foreign []policy.Statement
		for i := range rapid.IntRange(1, 4).Draw(rt, "foreign") {
			s := foreignStatement(rt, a.config, i)
			foreign = append(foreign, s)
			statements = slices.Insert(statements, rapid.IntRange(0, len(statements)).Draw(rt, "place"), s)
		}
		if _, err := a.aws.S3.DeletePublicAccessBlock(t.Context(), &s3.DeletePublicAccessBlockInput{Bucket: &a.config.Bucket}); err != nil {
			rt.Fatal(err)
		}
		a.putBucketPolicy(t, marshal(t, document(statements...)))
		before := a.snapshot(t)
		o := PlanOptions{KeepUnknown: rapid.Bool().Draw(rt, "keep")}
		p, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), o)
		if err == nil {
			err = Apply(t.Context(), p, nil)
		}
		if errors.As(err, new(UnknownStatements)) {
			if changed := differences(before, a.snapshot(t)); len(changed) > 0 {
				rt.Fatalf("stopped, and changed %v", changed)
			}
			return
		}
		if err != nil {
			rt.Fatal(err)
		}
		for _, s := range foreign {
			a.holds(t, "bucket", s, true)
		}
		for _, s := range render(t, a.config, Hardened).BucketPolicy.Statements {
			a.holds(t, "bucket", s, true)
		}
		if t.Failed() {
			rt.FailNow()
		}
	})
}

// foreignStatement is a statement of somebody else's that S3 takes.
func foreignStatement(t *rapid.T, c Config, i int) policy.Statement {
	principals := []*policy.Principals{
		{Service: []string{"ses.amazonaws.com"}}, {AWS: []string{"arn:aws:iam::444455556666:root"}},
		{AWS: []string{c.RoleARN()}}, {Any: true}, {AWS: []string{"*"}}, {AWS: []string{c.RoleARN(), "arn:aws:iam::444455556666:root"}},
	}
	s := policy.Statement{
		Effect:    rapid.SampledFrom([]policy.Effect{policy.Allow, policy.Deny}).Draw(t, "effect"),
		Principal: rapid.SampledFrom(principals).Draw(t, "principal"),
		Action:    []string{rapid.SampledFrom([]string{"s3:PutObject", "s3:GetObject", "s3:*Object"}).Draw(t, "action")},
		Resource:  []string{c.BucketARN() + "/" + rapid.SampledFrom([]string{"mail/*", "*", "bots/*", "bots/${aws:PrincipalTag/x}/*"}).Draw(t, "resource")},
	}
	if rapid.Bool().Draw(t, "sid") {
		s.Sid = fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"AllowSES", "TenantListing", "tenantlist"}).Draw(t, "name"), i)
	}
	if rapid.Bool().Draw(t, "conditional") {
		s.Condition = []policy.Condition{{Operator: "StringEquals", Key: "aws:SourceAccount", Values: []string{c.Account}}}
	}
	return s
}
