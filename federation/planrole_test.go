package federation

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"agentkeys/policy"
)

// A managed policy is judged by what it says, and what it does to the isolation by
// evaluating it.
func TestPlanWarnsOfManagedPolicies(t *testing.T) {
	for _, c := range []struct {
		name, document, want string
		form                 Form
	}{
		{"reading, plain", `{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}`, "ISOLATION DOES NOT HOLD: managed policy arn:aws:iam::000011112222:policy/mine on role agentkeys-data-role lets a tenant use s3:GetObject", Plain},
		{"listing, plain", `{"Effect":"Allow","Action":"s3:ListBucket","Resource":"*"}`, "s3:ListBucket on what", Plain},
		{"reading, hardened", `{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}`, "contain it", Hardened},
		{"changing the bucket, hardened", `{"Effect":"Allow","Action":"S3:*","Resource":"*"}`, "s3:PutBucketPolicy on what", Hardened},
		{"by NotAction", `{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`, "s3:PutBucketPolicy on what", Hardened},
		{"another bucket", `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::elsewhere/*"}`, "contain it", Plain},
		{"mail", `{"Effect":"Allow","Action":"ses:*","Resource":"*"}`, "", Plain},
		{"everything but S3", `{"Effect":"Allow","NotAction":["s3:*"],"Resource":"*"}`, "", Plain},
		{"a queue", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:sqs:us-east-1:000011112222:q"}`, "", Plain},
		{"a deny", `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`, "", Plain},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAccount(t)
			d := render(t, a.config, c.form)
			a.setUp(t, d, nil)
			text := `{"Version":"2012-10-17","Statement":` + c.document + `}`
			made, err := a.aws.IAM.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String("mine"), PolicyDocument: &text})
			if err != nil {
				t.Fatal(err)
			}
			a.attach(t, *made.Policy.Arn)
			for _, detach := range []bool{false, true} {
				p, err := MakePlan(t.Context(), a.aws, a.config, d, PlanOptions{Detach: detach})
				if err != nil {
					t.Fatal(err)
				}
				warned, steps := strings.Join(p.Warnings, "\n"), 0
				if detach && c.want != "" {
					steps = 1
				}
				if !strings.Contains(warned, c.want) != (detach && c.want != "") || c.want == "" && warned != "" {
					t.Errorf("detach %v: warnings %q, want %q", detach, warned, c.want)
				}
				if len(p.Steps) != steps {
					t.Errorf("detach %v: steps %v, want %d", detach, p.Steps, steps)
				}
			}
		})
	}
}

// The role's own policy is brought up to date, and what others put into it stays,
// without S3.
func TestPlanOfTheRolePolicy(t *testing.T) {
	mail := policy.Statement{Sid: "SendMail", Effect: policy.Allow, Action: []string{"ses:SendEmail"}, Resource: []string{"*"}}
	for name, before := range map[string]string{
		"none": "",
		"old":  `{"Version":"2012-10-17","Statement":[{"Sid":"SendMail","Effect":"Allow","Action":"ses:*","Resource":"*"},{"Effect":"Allow","Action":"s3:*","Resource":"*"},{"Sid":"Queue","Effect":"Allow","Action":"sqs:SendMessage","Resource":"*"}]}`,
	} {
		a := newAccount(t)
		d := render(t, a.config, Hardened)
		a.setUp(t, d, nil)
		want := document(mail)
		if before != "" {
			a.putInline(t, rolePolicyName, before)
			want.Statements = append(want.Statements, policy.Statement{Sid: "Queue", Effect: policy.Allow, Action: []string{"sqs:SendMessage"}, Resource: []string{"*"}})
		}
		d.RolePolicy = document(mail)
		for range 2 {
			p, err := MakePlan(t.Context(), a.aws, a.config, d, PlanOptions{})
			if err == nil {
				err = Apply(t.Context(), p, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			got, err := site{a.aws, a.config}.inline(t.Context(), rolePolicyName)
			if err != nil || !same(got, want) {
				t.Errorf("%s: got %s (%v), want %s", name, marshal(t, got), err, marshal(t, want))
			}
		}
		if p, err := MakePlan(t.Context(), a.aws, a.config, d, PlanOptions{}); err != nil || len(p.Steps) > 0 {
			t.Errorf("%s: error %v, plan %+v, want nothing to change", name, err, p)
		}
	}
}

func TestPlanStopsAtS3TogetherWithEverything(t *testing.T) {
	for _, text := range []string{
		`{"Effect":"Allow","Action":"*","Resource":"*"}`,
		`{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`,
		`{"Effect":"Allow","Action":["ses:SendEmail","*"],"Resource":"arn:aws:s3:::agentkeys-test/*"}`,
	} {
		a := newAccount(t)
		a.setUp(t, render(t, a.config, Hardened), nil)
		a.putInline(t, "wide", `{"Version":"2012-10-17","Statement":[`+text+`,{"Effect":"Allow","Action":"ses:SendEmail","Resource":"*"}]}`)
		_, err := MakePlan(t.Context(), a.aws, a.config, render(t, a.config, Hardened), PlanOptions{KeepUnknown: true})
		if unknown := unknownIn(t, err); len(unknown) != 1 || !strings.Contains(err.Error(), "inline policy wide of role agentkeys-data-role: statement 1 (") {
			t.Errorf("%s: error %v, want one that names the statement", text, err)
		}
		a.apply(t, PlanOptions{DropUnknown: true})
		if got := a.snapshot(t)["inline wide"]; strings.Count(got, "Effect") != 1 || !strings.Contains(got, "ses:SendEmail") {
			t.Errorf("%s: left\n%s\nwant the mail statement alone", text, got)
		}
	}
}

func TestWithoutS3(t *testing.T) {
	for _, c := range []struct{ name, statements, want string }{
		{"S3 alone", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`, ""},
		{"case", `{"Effect":"Allow","Action":"S3:getobject","Resource":"*"}`, ""},
		{"mixed", `{"Effect":"Allow","Action":["s3:*","ses:SendEmail"],"Resource":"*"}`, `{"Effect":"Allow","Action":"ses:SendEmail","Resource":"*"}`},
		{"others", `{"Effect":"Allow","Action":["ses:*","s3-object-lambda:*","sts:AssumeRole"],"Resource":"*"}`,
			`{"Effect":"Allow","Action":["ses:*","s3-object-lambda:*","sts:AssumeRole"],"Resource":"*"}`},
		{"a deny", `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`, `{"Effect":"Deny","Action":"s3:*","Resource":"*"}`},
		{"all but S3", `{"Effect":"Allow","NotAction":["iam:*","S3:**"],"Resource":"*"}`, `{"Effect":"Allow","NotAction":["iam:*","S3:**"],"Resource":"*"}`},
		{"all but reading", `{"Effect":"Allow","NotAction":["s3:Get*"],"Resource":"*"}`, ""},
		{"everything", `{"Effect":"Allow","Action":"*","Resource":"*"}`, ""},
		{"everything in a queue", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:sqs:us-east-1:1:q"}`, `{"Effect":"Allow","Action":"*","Resource":"arn:aws:sqs:us-east-1:1:q"}`},
		{"everything but a queue", `{"Effect":"Allow","Action":"*","NotResource":"arn:aws:sqs:us-east-1:1:q"}`, ""},
		{"an access point", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:us-east-1:1:accesspoint/p/object/*"}`, ""},
		{"a condition", `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + c.statements + `]}`))
			if err != nil {
				t.Fatal(err)
			}
			before := marshal(t, d)
			got, _ := withoutS3(d)
			text := ""
			if got != nil {
				text = strings.TrimSuffix(strings.TrimPrefix(marshal(t, got), `{"Version":"2012-10-17","Statement":[`), "]}")
			}
			if text != c.want {
				t.Errorf("left %s, want %s", text, c.want)
			}
			if marshal(t, d) != before {
				t.Error("the document passed in was changed")
			}
		})
	}
}
