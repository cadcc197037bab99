package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"agentkeys/federation"
	"agentkeys/policy"
)

// measureChecks checks the reference set-up and a large account, and says what
// that costs in decisions of the policy engine.
func measureChecks(w io.Writer, decision time.Duration) error {
	reference, err := accountWith(0, 0)
	if err != nil {
		return err
	}
	large, err := accountWith(100, 50)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, "\nfederation check")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, m := range []struct {
		name     string
		account  *federation.Account
		findings int
	}{{"reference set-up", reference, 0}, {"100 roles, 50 users, 4 that read the bucket", large, 4}} {
		begin := time.Now()
		report, err := federation.Check(m.account)
		if err != nil {
			return err
		}
		took := time.Since(begin)
		if len(report.Findings) != m.findings || len(report.Unread) > 0 {
			return fmt.Errorf("checking the %s: want %d findings, got %d and %d things unread", m.name, m.findings, len(report.Findings), len(report.Unread))
		}
		fmt.Fprintf(tw, "%s\t%v\t%.0f decisions' time\t\n", m.name, took.Round(time.Millisecond), float64(took)/float64(decision))
	}
	return tw.Flush()
}

// accountWith is the reference set-up in an account with other roles and users: of
// services and people with other buckets, and one role in 25 that reads this one.
func accountWith(roles, users int) (*federation.Account, error) {
	c := federation.Config{
		Issuer: "https://broker.example.com", Account: "111122223333", Region: "us-east-1", Role: federation.DefaultRole,
		Bucket: "agentkeys-data", Prefix: federation.DefaultPrefix, TagKey: federation.DefaultTagKey, Audience: federation.DefaultAudience,
	}
	d, err := federation.Render(c, federation.Hardened)
	if err != nil {
		return nil, err
	}
	a := &federation.Account{
		Config: c, Source: "bench", Managed: map[string]federation.Document{},
		Bucket: federation.Document{Name: "bucket policy", Policy: d.BucketPolicy},
	}
	a.Roles = append(a.Roles, federation.Role{
		Entity: federation.Entity{Name: c.Role, ARN: c.RoleARN(), ID: "AROADATAROLEDATAROLE1"},
		Trust:  federation.Document{Name: "role " + c.Role + ", trust policy", Policy: d.Trust},
	})
	arn := func(kind, name string) string { return "arn:aws:iam::" + c.Account + ":" + kind + "/" + name }
	for i := range roles {
		name := fmt.Sprintf("service-%03d", i)
		next := arn("role", fmt.Sprintf("service-%03d", (i+1)%roles))
		a.Roles = append(a.Roles, federation.Role{
			Entity: federation.Entity{Name: name, ARN: arn("role", name), ID: fmt.Sprintf("AROASERVICE%010d", i), Tags: map[string]string{"team": "a"},
				Inline: []federation.Document{{Name: "role " + name + ", inline policy work", Policy: serviceWork(c, i, next)}}},
			Trust: federation.Document{Name: "role " + name + ", trust policy", Policy: serviceTrust(c, i)},
		})
	}
	for i := range users {
		name := fmt.Sprintf("person-%02d", i)
		own := documentOf(policy.Statement{Effect: policy.Allow, Action: []string{"sts:AssumeRole", "iam:ChangePassword"},
			Resource: []string{arn("role", fmt.Sprintf("service-%03d", i%roles))}})
		a.Users = append(a.Users, federation.User{Entity: federation.Entity{Name: name, ARN: arn("user", name), ID: fmt.Sprintf("AIDAPERSON%011d", i),
			Inline: []federation.Document{{Name: "user " + name + ", inline policy own", Policy: own}}}})
	}
	return a, nil
}

func serviceWork(c federation.Config, i int, next string) *policy.Document {
	bucket := fmt.Sprintf("arn:aws:s3:::team-%d", i%7)
	d := documentOf(
		policy.Statement{Effect: policy.Allow, Action: []string{"logs:*", "sqs:SendMessage", "dynamodb:Get*"}, Resource: []string{"*"}},
		policy.Statement{Effect: policy.Allow, Action: []string{"s3:GetObject*", "s3:PutObject", "s3:ListBucket"}, Resource: []string{bucket, bucket + "/*"},
			Condition: []policy.Condition{{Operator: "StringLike", Key: "aws:PrincipalTag/team", Values: []string{"a*", "b*"}}}},
		policy.Statement{Effect: policy.Allow, Action: []string{"sts:AssumeRole"}, Resource: []string{next}},
	)
	if i%25 == 7 {
		d.Statements = append(d.Statements, policy.Statement{Effect: policy.Allow, Action: []string{"s3:GetObject"}, Resource: []string{c.BucketARN() + "/*"}})
	}
	return d
}

func serviceTrust(c federation.Config, i int) *policy.Document {
	who := &policy.Principals{AWS: []string{"arn:aws:iam::" + c.Account + ":root"}}
	if i%3 == 0 {
		who = &policy.Principals{Service: []string{"lambda.amazonaws.com"}}
	}
	return documentOf(policy.Statement{Effect: policy.Allow, Principal: who, Action: []string{"sts:AssumeRole"}})
}

func documentOf(statements ...policy.Statement) *policy.Document {
	return &policy.Document{Version: "2012-10-17", Statements: statements}
}
