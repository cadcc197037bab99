package broker_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
)

// A daemon with an owner's grant reads and writes the granted path of the owner's
// prefix, and nothing else.
func TestDelegatedCredentials(t *testing.T) {
	k, a := agentkeystest.NewWithAWS(t)
	owner, daemon := k.Party(t), k.Party(t)
	g := k.Grant(t, owner, daemon, "reports")
	answer, problem := k.Mint(t, k.NewCall(daemon, "reports").Sign(t))
	if problem != nil {
		t.Fatalf("mint: %+v", problem)
	}
	tenant := strings.ToLower(owner.Address())
	if answer.Wallet != tenant || answer.Expiration != k.Clock.Now().Add(15*time.Minute).Unix() || len(answer.Anchored) != 1 || answer.Anchored[0] != "sqlite" {
		t.Errorf("answer: wallet %s, expiration %d, anchored %v", answer.Wallet, answer.Expiration, answer.Anchored)
	}
	client := a.S3(*answer)
	folder := "bots/" + tenant + "/"
	put := func(key string) error {
		_, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(agentkeystest.Bucket), Key: &key, Body: bytes.NewReader([]byte("x"))})
		return err
	}
	for key, allowed := range map[string]bool{
		folder + "reports/a":  true,
		folder + "reports2/a": false,
		folder + "a":          false,
		"bots/" + strings.ToLower(daemon.Address()) + "/reports/a": false,
	} {
		if err := put(key); (err == nil) != allowed {
			t.Errorf("put %s: %v, want allowed %v", key, err, allowed)
		}
	}
	out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(agentkeystest.Bucket), Key: aws.String(folder + "reports/a")})
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := io.ReadAll(out.Body); string(data) != "x" {
		t.Errorf("read %q", data)
	}
	all := records(t, k)
	if all[0].Outcome != audit.Confirmed || all[0].Settles != all[1].ID || all[1].Outcome != audit.Pending || all[1].GrantID != g.GrantID || all[1].ID != answer.AuditRecordID {
		t.Errorf("records: %+v", all[:2])
	}
	if form := a.Asked()[0]; form.Get("RoleSessionName") != g.SessionName || form.Get("Policy") == "" {
		t.Errorf("asked STS: session %q, policy %q", form.Get("RoleSessionName"), form.Get("Policy"))
	}
	if _, problem := k.Mint(t, k.NewCall(owner, "reports").Sign(t)); problem == nil || problem.Code != api.CodeGrantRequired {
		t.Errorf("the owner without a grant: %+v", problem)
	}
}

// A refusal that passes is told as such: to mend nothing, and to try again. The record
// says that nothing was given, or where that is not certain, that it is not.
func TestPassingRefusalsOfSTS(t *testing.T) {
	var fault *broker.STSError
	k, _ := agentkeystest.NewWithAWS(t, func(c *broker.Config) {
		c.AWS.AssumeRole = func(context.Context, broker.AssumeRole) (broker.Credentials, error) {
			return broker.Credentials{}, fault
		}
	})
	owner := k.Party(t)
	k.Grant(t, owner, owner, "a")
	for _, tc := range []struct {
		fault   broker.STSError
		code    api.Code
		outcome string
		detail  string
	}{
		{broker.STSError{Fault: "no connection"}, api.CodeSTSUnavailable, audit.Failed, ""},
		{broker.STSError{Code: "Throttling", Status: 400}, api.CodeSTSUnavailable, audit.Failed, "Throttling"},
		{broker.STSError{Code: "TooManyRequests", Status: 429}, api.CodeSTSUnavailable, audit.Failed, "TooManyRequests"},
		{broker.STSError{Code: "IDPCommunicationError", Status: 400}, api.CodeSTSUnavailable, audit.Failed, "IDPCommunicationError"},
		{broker.STSError{Code: "AccessDenied", Status: 403}, api.CodeSTSRefused, audit.Failed, "AccessDenied"},
		{broker.STSError{Code: "InternalFailure", Status: 500, Unknown: true}, api.CodeSTSUnavailable, audit.Quarantined,
			"AWS STS failed with InternalFailure; what it may have issued all the same was released to nobody"},
		{broker.STSError{Fault: "no answer", Unknown: true}, api.CodeSTSUnavailable, audit.Quarantined, "AWS STS gave no answer that can be read"},
	} {
		fault = &tc.fault
		if _, problem := k.Mint(t, k.NewCall(owner, "a").Sign(t)); problem == nil || problem.Status != 502 || problem.Code != tc.code || problem.Detail != tc.detail {
			t.Errorf("STS says %v: %+v, want %s: %s", fault, problem, tc.code, tc.detail)
		}
		if r := records(t, k)[0]; r.Outcome != tc.outcome || r.Reason != string(tc.code) {
			t.Errorf("STS says %v: record %s %s, want %s", fault, r.Outcome, r.Reason, tc.outcome)
		}
	}
	if !strings.Contains(k.Log.String(), `"level":"WARN"`) {
		t.Error("the log has nothing for the operator to look at")
	}
}
