package token

import (
	"crypto/rand"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testDaemon = "0xde709f2102306220921060314715629080e2fb77"

func TestMintedForAnother(t *testing.T) {
	key := newTestKey(t, PurposeOIDC)
	webs := newWebIdentities(t, key)
	for _, tenant := range []string{testWallet, testOmni, testDaemon} {
		jti := rand.Text()
		minted, id, err := webs.MintFor(testDaemon, tenant, jti, testNow)
		if err != nil {
			t.Fatal(err)
		}
		want := WebIdentity{ID: jti, KeyID: key.ID(), Subject: "agentkeys:agent:" + testDaemon, Tag: tenant,
			IssuedAt: testNow.Truncate(time.Second), ExpiresAt: testNow.Truncate(time.Second).Add(5 * time.Minute)}
		if diff := cmp.Diff(want, id); diff != "" {
			t.Errorf("what was minted (-want +got):\n%s", diff)
		}
		head, claims := segments(t, minted.Reveal())
		own, _, err := webs.Mint(tenant, testNow)
		if err != nil {
			t.Fatal(err)
		}
		ownHead, ownClaims := segments(t, own.Reveal())
		wantClaims := maps.Clone(ownClaims)
		wantClaims["sub"], wantClaims["jti"] = "agentkeys:agent:"+testDaemon, jti
		if diff := cmp.Diff(wantClaims, claims); diff != "" {
			t.Errorf("claims beside the tenant's own (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ownHead, head); diff != "" {
			t.Errorf("header beside the tenant's own (-want +got):\n%s", diff)
		}
		if ownClaims["sub"] != "agentkeys:agent:"+tenant || ownClaims["jti"] == jti {
			t.Errorf("the tenant's own token has changed: %v", ownClaims)
		}
	}
}

func TestMintForRefuses(t *testing.T) {
	webs := newWebIdentities(t, newTestKey(t, PurposeOIDC))
	jti := rand.Text()
	for name, tt := range map[string]struct{ caller, tag, jti, want string }{
		"no caller":             {"", testWallet, jti, "caller: want 0x"},
		"caller in capitals":    {strings.ToUpper(testDaemon), testWallet, jti, "caller: want 0x"},
		"caller is an account":  {testOmni, testWallet, jti, "caller: want 0x"},
		"caller and a line end": {testDaemon + "\n", testWallet, jti, "caller: want 0x"},
		"caller is two":         {testDaemon + ":" + testWallet, testWallet, jti, "caller: want 0x"},
		"caller is a star":      {"*", testWallet, jti, "caller: want 0x"},
		"no tag":                {testDaemon, "", jti, "tag: want 0x"},
		"tag in capitals":       {testDaemon, strings.ToUpper(testOmni), jti, "tag: want 0x"},
		"tag of another folder": {testDaemon, testWallet + "/x", jti, "tag: want 0x"},
		"tag is a star":         {testDaemon, "*", jti, "tag: want 0x"},
		"no jti":                {testDaemon, testWallet, "", "jti: want 26"},
		"short jti":             {testDaemon, testWallet, jti[1:], "jti: want 26"},
		"long jti":              {testDaemon, testWallet, jti + "A", "jti: want 26"},
		"jti in lower case":     {testDaemon, testWallet, strings.Repeat("a", 26), "jti: want 26"},
		"jti of other digits":   {testDaemon, testWallet, strings.Repeat("1", 26), "jti: want 26"},
		"jti and a line end":    {testDaemon, testWallet, jti + "\n", "jti: want 26"},
		"very long":             {strings.Repeat("a", 100_000), testWallet, jti, "caller: want 0x"},
	} {
		raw, id, err := webs.MintFor(tt.caller, tt.tag, tt.jti, testNow)
		wantText(t, err, "minting a web identity token: ", tt.want)
		if raw.Reveal() != "" || id != (WebIdentity{}) {
			t.Errorf("%s: a token came with the refusal", name)
		}
		if err != nil && (len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x00")) {
			t.Errorf("%s: want a short line, got %q", name, err)
		}
	}
	if raw, _, err := webs.MintFor(testDaemon, testWallet, jti, time.Time{}); err == nil || raw.Reveal() != "" {
		t.Errorf("at no time: %v", err)
	}
}
