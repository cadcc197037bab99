package token

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMintedMembers(t *testing.T) {
	key := newTestKey(t, PurposeOIDC)
	webs := newWebIdentities(t, key)
	for _, tenant := range []string{testWallet, testOmni} {
		minted, id, err := webs.Mint(tenant, testNow)
		if err != nil {
			t.Fatal(err)
		}
		wantID := WebIdentity{
			ID: id.ID, KeyID: key.ID(), Subject: "agentkeys:agent:" + tenant, Tag: tenant,
			IssuedAt:  time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
			ExpiresAt: time.Date(2026, 11, 23, 12, 5, 0, 0, time.UTC),
		}
		if diff := cmp.Diff(wantID, id); diff != "" {
			t.Errorf("what was minted (-want +got):\n%s", diff)
		}
		wantHead := map[string]any{"alg": "ES256", "kid": key.ID(), "typ": "JWT"}
		wantClaims := map[string]any{
			"iss": testIssuer, "sub": "agentkeys:agent:" + tenant, "aud": "sts.amazonaws.com",
			"iat": 1795435200.0, "nbf": 1795435200.0, "exp": 1795435500.0, "jti": id.ID,
			"agentkeys_user_wallet": tenant,
		}
		untaggedClaims := maps.Clone(wantClaims)
		wantClaims["https://aws.amazon.com/tags"] = map[string]any{
			"principal_tags":      map[string]any{"agentkeys_user_wallet": []any{tenant}},
			"transitive_tag_keys": []any{"agentkeys_user_wallet"},
		}
		head, claims := segments(t, minted.Reveal())
		if diff := cmp.Diff(wantHead, head); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(wantClaims, claims); diff != "" {
			t.Errorf("claims (-want +got):\n%s", diff)
		}

		untagged, untaggedID, err := webs.MintUntagged(tenant, testNow)
		if err != nil {
			t.Fatal(err)
		}
		untaggedClaims["jti"] = untaggedID.ID
		head, claims = segments(t, untagged.Reveal())
		if diff := cmp.Diff(wantHead, head); diff != "" {
			t.Errorf("header without tags (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(untaggedClaims, claims); diff != "" {
			t.Errorf("claims without tags (-want +got):\n%s", diff)
		}
	}
}

// A tenant is refused and never cleaned: each of these, mended, would be a
// tenant, and perhaps another one than was meant.
func TestMintRefusesTenants(t *testing.T) {
	webs := newWebIdentities(t, newTestKey(t, PurposeOIDC))
	for name, tenant := range map[string]string{
		"empty":               "",
		"checksum address":    "0x52908400098527886E0F7030069857D2E4169EE7",
		"capitals":            strings.ToUpper(testWallet),
		"0X":                  "0X" + testWallet[2:],
		"wallet without 0x":   testWallet[2:],
		"one digit more":      testWallet + "0",
		"one digit less":      testWallet[:41],
		"a blank behind":      testWallet + " ",
		"a blank in front":    " " + testWallet,
		"a line end":          testWallet + "\n",
		"a slash":             testWallet + "/",
		"a path":              testWallet[:20] + "/../" + testWallet[24:],
		"a star":              testWallet[:41] + "*",
		"only a star":         "*",
		"a question mark":     testWallet[:41] + "?",
		"a policy variable":   "${aws:username}",
		"aws:":                "aws:tenant",
		"a quote":             testWallet[:41] + `"`,
		"NUL":                 testWallet[:41] + "\x00",
		"a letter past f":     testWallet[:41] + "g",
		"a Cyrillic a":        testWallet[:40] + "а",
		"a full-width digit":  testWallet[:39] + "０",
		"not UTF-8":           testWallet[:41] + "\xff",
		"omni account of 63":  testOmni[1:],
		"omni account of 65":  testOmni + "0",
		"omni account by 0x":  "0x" + testOmni,
		"omni account, upper": strings.ToUpper(testOmni),
		"lower-case word":     "alice",
		"two tenants":         testWallet + "," + testWallet,
		"very long":           strings.Repeat("a", 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			for _, mint := range []func(string, time.Time) (Secret, WebIdentity, error){webs.Mint, webs.MintUntagged} {
				raw, id, err := mint(tenant, testNow)
				wantText(t, err, "minting a web identity token: tag: want")
				if raw.Reveal() != "" || id != (WebIdentity{}) {
					t.Error("a token came with the refusal")
				}
				if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x00") {
					t.Errorf("want a short line, got %q", err)
				}
			}
		})
	}
}

func TestNewWebIdentitiesRefuses(t *testing.T) {
	good := WebIdentityConfig{testIssuer, testAudience, newRing(t, newTestKey(t, PurposeOIDC)), 5 * time.Minute, TagKey}
	for name, c := range map[string]struct {
		change func(*WebIdentityConfig)
		want   string
	}{
		"no issuer":            {func(c *WebIdentityConfig) { c.Issuer = "" }, "issuer"},
		"no audience":          {func(c *WebIdentityConfig) { c.Audience = "" }, "audience: want 1 to 255 characters, got 0"},
		"long audience":        {func(c *WebIdentityConfig) { c.Audience = strings.Repeat("a", 256) }, "got 256"},
		"audience with blank":  {func(c *WebIdentityConfig) { c.Audience = "a b" }, "audience"},
		"audience with NUL":    {func(c *WebIdentityConfig) { c.Audience = "a\x00" }, "audience"},
		"audience not UTF-8":   {func(c *WebIdentityConfig) { c.Audience = "a\xff" }, "audience"},
		"no keys":              {func(c *WebIdentityConfig) { c.Keys = nil }, "want keys for oidc, got none"},
		"ttl too short":        {func(c *WebIdentityConfig) { c.TTL = 59 * time.Second }, "from 1m0s to 1h0m0s, got 59s"},
		"ttl too long":         {func(c *WebIdentityConfig) { c.TTL = time.Hour + time.Second }, "got 1h0m1s"},
		"no ttl":               {func(c *WebIdentityConfig) { c.TTL = 0 }, "got 0s"},
		"ttl with a fraction":  {func(c *WebIdentityConfig) { c.TTL = time.Minute + time.Millisecond }, "got 1m0.001s"},
		"no tag key":           {func(c *WebIdentityConfig) { c.TagKey = "" }, "want 1 to 128 characters, got 0"},
		"tag key of aws":       {func(c *WebIdentityConfig) { c.TagKey = "AWS:wallet" }, "want no aws: in front"},
		"tag key with a star":  {func(c *WebIdentityConfig) { c.TagKey = "wallet*" }, "want letters"},
		"tag key sub":          {func(c *WebIdentityConfig) { c.TagKey = "sub" }, "no claim of its own"},
		"tag key azp":          {func(c *WebIdentityConfig) { c.TagKey = "azp" }, "no claim of its own"},
		"tag key a tags claim": {func(c *WebIdentityConfig) { c.TagKey = TagsClaim }, "no claim of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			config := good
			c.change(&config)
			_, err := NewWebIdentities(config)
			wantText(t, err, "web identity tokens: ", c.want)
		})
	}
	for _, ttl := range []time.Duration{MinWebIdentityTTL, MaxWebIdentityTTL} {
		config := good
		config.TTL = ttl
		webs, err := NewWebIdentities(config)
		if err != nil {
			t.Fatal(err)
		}
		_, id, err := webs.Mint(testWallet, testNow)
		if err != nil || id.ExpiresAt.Sub(id.IssuedAt) != ttl {
			t.Errorf("want a token of %s, got %v, %v", ttl, id, err)
		}
	}
}

func TestConfiguredTagKey(t *testing.T) {
	webs, err := NewWebIdentities(WebIdentityConfig{testIssuer, testAudience, newRing(t, newTestKey(t, PurposeOIDC)), time.Minute, "tenant"})
	if err != nil {
		t.Fatal(err)
	}
	minted, _, err := webs.Mint(testWallet, testNow)
	if err != nil {
		t.Fatal(err)
	}
	_, claims := segments(t, minted.Reveal())
	want := map[string]any{"principal_tags": map[string]any{"tenant": []any{testWallet}}, "transitive_tag_keys": []any{"tenant"}}
	if diff := cmp.Diff(want, claims[TagsClaim]); diff != "" || claims["tenant"] != testWallet || claims[TagKey] != nil {
		t.Errorf("claims %v, tags (-want +got):\n%s", claims, diff)
	}
}

func manyTags(n int, value string) []tag {
	var tags []tag
	for i := range n {
		tags = append(tags, tag{fmt.Sprintf("%0120d", i), value})
	}
	return tags
}

func TestTags(t *testing.T) {
	one := func(key, value string) []tag { return []tag{{key, value}} }
	for name, c := range map[string]struct {
		tags []tag
		want string // "" for allowed
	}{
		"plain":                     {one("k", "v"), ""},
		"empty value":               {one("k", ""), ""},
		"all the signs":             {one("a_.:/=+-@ é1", "_.:/=+-@ é 漢٣\u2028"), ""},
		"longest":                   {one(strings.Repeat("k", 128), strings.Repeat("v", 256)), ""},
		"longest in two-byte runes": {one(strings.Repeat("é", 128), strings.Repeat("é", 256)), ""},
		"50":                        {manyTags(50, "v"), ""},
		"aws in the midst":          {one("my-aws:k", "xaws:v"), ""},
		"aws without colon":         {one("awsome", "aws"), ""},
		"none":                      {nil, "want 1 to 50, got 0"},
		"51":                        {manyTags(51, "v"), "want 1 to 50, got 51"},
		"no key":                    {one("", "v"), "session tag key: want 1 to 128 characters, got 0"},
		"long key":                  {one(strings.Repeat("k", 129), "v"), "got 129"},
		"long value":                {one("k", strings.Repeat("v", 257)), `value of session tag "k": want 0 to 256 characters, got 257`},
		"long in UTF-16":            {one("k", strings.Repeat("𝐀", 129)), "got 258"},
		"star":                      {one("k", "*"), "want letters"},
		"question mark":             {one("k", "?"), "want letters"},
		"dollar":                    {one("k", "${aws:username}"), "want letters"},
		"comma":                     {one("k", "a,b"), "want letters"},
		"quote":                     {one("k", `"`), "want letters"},
		"backslash":                 {one("k", `\`), "want letters"},
		"tab":                       {one("k", "\t"), "want letters"},
		"line end":                  {one("k", "v\n"), "want letters"},
		"NUL":                       {one("k\x00", "v"), "want letters"},
		"combining mark":            {one("k", "e\u0301"), "want letters"},
		"not UTF-8":                 {one("k", "\xff"), "want UTF-8"},
		"key not UTF-8":             {one("\xff", "v"), "want UTF-8"},
		"aws: key":                  {one("aws:k", "v"), "want no aws: in front"},
		"AWS: key":                  {one("AWS:k", "v"), "want no aws: in front"},
		"aWs: value":                {one("k", "aWs:v"), "want no aws: in front"},
		"twice":                     {[]tag{{"k", "1"}, {"k", "2"}}, "differ by more than case"},
		"twice but for case":        {[]tag{{"Key", "1"}, {"x", ""}, {"kEY", "1"}}, `got "Key" and "kEY"`},
		"twice but for folding":     {[]tag{{"ſ", "1"}, {"S", "1"}}, "differ by more than case"},
	} {
		t.Run(name, func(t *testing.T) {
			claim, err := newTagsClaim(c.tags)
			if c.want != "" {
				wantText(t, err, c.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, tag := range c.tags {
				if diff := cmp.Diff([]string{tag.value}, claim.PrincipalTags[tag.key]); diff != "" || claim.TransitiveTagKeys[i] != tag.key {
					t.Errorf("tag %q (-want +got):\n%s", tag.key, diff)
				}
			}
		})
	}
}

// Tags within AWS's own limits can still be too many for one token.
func TestTokenSize(t *testing.T) {
	webs := newWebIdentities(t, newTestKey(t, PurposeOIDC))
	_, _, err := webs.mint(testWallet, testNow, manyTags(50, strings.Repeat("v", 256)))
	wantText(t, err, "want a token under 20000 characters, got 3")
	longest := 0
	for value := range 257 {
		raw, _, err := webs.mint(testWallet, testNow, manyTags(50, strings.Repeat("v", value)))
		if err == nil {
			longest = max(longest, len(raw.Reveal()))
		}
	}
	if longest < 19_900 || longest >= 20_000 { // steps of 50 bytes, 67 characters
		t.Errorf("want the longest token just under 20000 characters, got %d", longest)
	}
	raw, _, err := webs.mint(testWallet, testNow, manyTags(51, ""))
	wantText(t, err, "want 1 to 50, got 51")
	if raw.Reveal() != "" {
		t.Error("a token came with the refusal")
	}
}
