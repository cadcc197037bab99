package localaws

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func TestAssumeRoleWithWebIdentity(t *testing.T) {
	a := newAccount(t)
	a.federate()
	out, err := a.assume(a.token(nil))
	if err != nil {
		t.Fatal(err)
	}
	if *out.Provider != a.providerARN() || *out.Audience != testClient || *out.SubjectFromWebIdentityToken != "agentkeys:agent:"+walletA {
		t.Errorf("got provider %s, audience %s, subject %s", *out.Provider, *out.Audience, *out.SubjectFromWebIdentityToken)
	}
	who, err := sts.NewFromConfig(a.sessionSDK(out.Credentials)).GetCallerIdentity(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:sts::" + testAccount + ":assumed-role/" + roleName + "/agent"; *who.Arn != want || *out.AssumedRoleUser.Arn != want {
		t.Errorf("want %s, got %s and %s", want, *who.Arn, *out.AssumedRoleUser.Arn)
	}
	if *who.UserId != *out.AssumedRoleUser.AssumedRoleId {
		t.Errorf("want user id %s, got %s", *out.AssumedRoleUser.AssumedRoleId, *who.UserId)
	}
	if p := *out.PackedPolicySize; p < 20 || p > 35 {
		t.Errorf("packed size: want about 26, got %d", p)
	}
}
