package main

import (
	"slices"
	"testing"

	"agentkeys/config"
	"agentkeys/identity"
)

// Whatever the configuration takes as an auditor is an identity that can sign in.
func TestAuditorsAreIdentities(t *testing.T) {
	environ := []string{"BROKER_ISSUER=https://broker.example.com", "BROKER_DATA_DIR=data", "BROKER_OIDC_KEY_FILE=oidc.jwk", "BROKER_SESSION_KEY_FILE=session.jwk",
		"BROKER_AUDIT_KEY_FILE=audit.jwk", "BROKER_AUDITORS=evm:0x52908400098527886e0f7030069857d2e4169ee7,email:o'neil+audit@example.com,oauth2_google:10Ab:c"}
	c, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	want := []identity.Identity{{Type: identity.EVM, Value: "0x52908400098527886e0f7030069857d2e4169ee7"}, {Type: identity.Email, Value: "o'neil+audit@example.com"},
		{Type: identity.OAuth2Google, Value: "10Ab:c"}}
	if got := auditors(c.Auditors); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for _, id := range auditors(c.Auditors) {
		if err := id.Check(); err != nil {
			t.Error(err)
		}
	}
}
