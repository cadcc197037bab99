package federation

import (
	"fmt"
	"testing"

	"agentkeys/policy"
)

func BenchmarkCheckReference(b *testing.B) {
	a := checkAccount(b, nil, nil)
	for b.Loop() {
		r, err := Check(a)
		if err != nil || len(r.Findings) > 0 {
			b.Fatal(r, err)
		}
	}
}

// The large account has a hundred roles and fifty users with the policies that
// such accounts have: other services, other buckets, and a few who read this one.
func BenchmarkCheckHundredRoles(b *testing.B) {
	a := largeAccount(b, 100, 50)
	for b.Loop() {
		r, err := Check(a)
		if err != nil || len(r.Findings) == 0 {
			b.Fatal(r, err)
		}
	}
}

func largeAccount(t interface{ Fatal(...any) }, roles, users int) *Account {
	a := checkAccount(t, nil, nil)
	c := a.Config
	for i := range roles {
		name := fmt.Sprintf("service-%03d", i)
		bucket := fmt.Sprintf("arn:aws:s3:::team-%d", i%7)
		inline := document(
			policy.Statement{Effect: policy.Allow, Action: []string{"logs:*", "sqs:SendMessage", "dynamodb:Get*"}, Resource: []string{"*"}},
			policy.Statement{Effect: policy.Allow, Action: []string{"s3:GetObject*", "s3:PutObject", "s3:ListBucket"}, Resource: []string{bucket, bucket + "/*"},
				Condition: []policy.Condition{{Operator: "StringLike", Key: "aws:PrincipalTag/team", Values: []string{"a*", "b*"}}}},
			policy.Statement{Effect: policy.Allow, Action: []string{"sts:AssumeRole"}, Resource: []string{fmt.Sprintf("arn:aws:iam::%s:role/service-%03d", c.Account, (i+1)%roles)}},
		)
		if i%25 == 7 {
			inline.Statements = append(inline.Statements, policy.Statement{Effect: policy.Allow, Action: []string{"s3:GetObject"}, Resource: []string{c.BucketARN() + "/*"}})
		}
		trust := document(policy.Statement{Effect: policy.Allow, Principal: &policy.Principals{AWS: []string{"arn:aws:iam::" + c.Account + ":root"}}, Action: []string{"sts:AssumeRole"}})
		if i%3 == 0 {
			trust.Statements[0].Principal = &policy.Principals{Service: []string{"lambda.amazonaws.com"}}
		}
		a.Roles = append(a.Roles, Role{
			Entity: Entity{Name: name, ARN: "arn:aws:iam::" + c.Account + ":role/" + name, ID: fmt.Sprintf("AROASERVICE%010d", i),
				Inline: []Document{{Name: "role " + name + ", inline policy work", Policy: inline}}, Tags: map[string]string{"team": "a"}},
			Trust: Document{Name: "role " + name + ", trust policy", Policy: trust},
		})
	}
	for i := range users {
		name := fmt.Sprintf("person-%02d", i)
		a.Users = append(a.Users, User{Entity: Entity{Name: name, ARN: "arn:aws:iam::" + c.Account + ":user/" + name, ID: fmt.Sprintf("AIDAPERSON%011d", i),
			Inline: []Document{{Name: "user " + name + ", inline policy own", Policy: document(policy.Statement{Effect: policy.Allow,
				Action: []string{"sts:AssumeRole", "iam:ChangePassword"}, Resource: []string{fmt.Sprintf("arn:aws:iam::%s:role/service-%03d", c.Account, i%roles)}})}}}})
	}
	return a
}
