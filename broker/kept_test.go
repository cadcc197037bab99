package broker

import (
	"encoding/json"
	"reflect"
	"testing"

	"agentkeys/api"
)

func TestKeptAnswersAreReadAsTheyWereWritten(t *testing.T) {
	credentials := &api.MintAWSResponse{
		AccessKeyID: "ASIAEXAMPLEEXAMPLE00", SecretAccessKey: "a/+<&>\u2028\n\"", SessionToken: "t\\n", Expiration: 1772366400,
		Wallet: "0x00", AuditRecordID: "01", Anchored: []string{"sqlite"},
	}
	for name, want := range map[string]kept{
		"credentials":                 {Credentials: credentials, GrantID: "grn-1"},
		"credentials without a grant": {Credentials: credentials},
		"a refusal":                   {Code: api.CodeGrantRevoked, Detail: "first line\nsecond line"},
	} {
		text, err := want.text()
		if err != nil {
			t.Fatal(err)
		}
		got, err := readKept(text)
		if err != nil || got.GrantID != want.GrantID || got.Code != want.Code || got.Detail != want.Detail || !reflect.DeepEqual(got.Credentials, want.Credentials) {
			t.Errorf("%s: %q was read as %+v, %v", name, text, got, err)
			continue
		}
		if want.Credentials == nil {
			continue
		}
		sent, err := json.Marshal(want.Credentials)
		again, err2 := got.sent()
		if err != nil || err2 != nil || string(again) != string(sent) {
			t.Errorf("%s: sent again as %s, %v; want %s, %v", name, again, err2, sent, err)
		}
	}
}

// The release before the tree had credentials in the line, and is upgraded within the
// minutes in which an answer is asked for again.
func TestAnswersOfAnEarlierReleaseAreRead(t *testing.T) {
	const credentials = `{"access_key_id":"ASIA","secret_access_key":"s","session_token":"t","expiration":1772366400,"wallet":"0x00","audit_record_id":"01","anchored":["sqlite"]}`
	got, err := readKept([]byte(`{"credentials":` + credentials + `,"grant_id":"grn-1"}`))
	if err != nil || got.GrantID != "grn-1" || got.Code != "" {
		t.Fatalf("read as %+v, %v", got, err)
	}
	if body, err := got.sent(); err != nil || string(body) != credentials {
		t.Errorf("sent again as %s, %v; want %s", body, err, credentials)
	}
}

// What is neither must not become an answer: nil credentials would be released.
func TestKeptAnswersAreCredentialsOrARefusal(t *testing.T) {
	for _, text := range []string{
		``, `{}`, `{"grant_id":"grn-1"}`, `{"credentials":null}`, `{"credentials":{"access_key_id":"ASIA"},"code":"grant_revoked"}`,
		"{\"credentials\":{\"access_key_id\":\"ASIA\"}}\n{\"access_key_id\":\"ASIB\"}", `{"code":""}`, "{\"code\":\"grant_revoked\"}\n{}",
		"{}\n", "{}\nnull x", "\n{}", "{\n}", "null",
	} {
		if got, err := readKept([]byte(text)); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}
