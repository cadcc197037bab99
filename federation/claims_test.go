package federation

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func payload(json string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(json)) + ".c2ln"
}

func TestReadClaims(t *testing.T) {
	const (
		head  = `{"iss":"https://i","sub":"agentkeys:agent:w","aud":"sts.amazonaws.com","agentkeys_user_wallet":"w"`
		claim = `"https://aws.amazon.com/tags`
	)
	for _, test := range []struct {
		name, json, tag, problem string
		has                      bool
	}{
		{"nested", head + "," + claim + `":{"principal_tags":{"agentkeys_user_wallet":["w"]}}}`, "w", "", true},
		{"flattened", head + "," + claim + `/principal_tags/agentkeys_user_wallet":"w"}`, "w", "", true},
		{"none", head + "}", "", "does not count", false},
		{"misspelt", head + `,"http://aws.amazon.com/tags":{"principal_tags":{"agentkeys_user_wallet":["w"]}}}`, "", "no claim", false},
		{"string for array", head + "," + claim + `":{"principal_tags":{"agentkeys_user_wallet":"w"}}}`, "", "array of one string", true},
		{"two values", head + "," + claim + `":{"principal_tags":{"agentkeys_user_wallet":["w","x"]}}}`, "", "array of one string", true},
		{"empty value", head + "," + claim + `":{"principal_tags":{"agentkeys_user_wallet":[""]}}}`, "", "array of one string", true},
		{"another key", head + "," + claim + `":{"principal_tags":{"wallet":["w"]}}}`, "", "has no tag", true},
		{"wrapped in an array", head + "," + claim + `":[{"principal_tags":{"agentkeys_user_wallet":["w"]}}]}`, "", "not an object", true},
		{"flattened array", head + "," + claim + `/principal_tags/agentkeys_user_wallet":["w"]}`, "", "not a string", true},
	} {
		c, err := readClaims(payload(test.json), DefaultTagKey)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if c.Tag != test.tag || !strings.Contains(c.TagProblem, test.problem) || (test.problem == "") != (c.TagProblem == "") || c.HasTags != test.has {
			t.Errorf("%s: tag %q, problem %q, has tags %v", test.name, c.Tag, c.TagProblem, c.HasTags)
		}
		if c.Issuer != "https://i" || c.Subject != "agentkeys:agent:w" || c.Audience != "sts.amazonaws.com" {
			t.Errorf("%s: %+v", test.name, c)
		}
	}
	for _, bad := range []string{"", "a.b", "a.!.c", payload("[]"), payload("null?"), "a.b.c.d"} {
		if _, err := readClaims(bad, DefaultTagKey); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestControlMustBeAControl(t *testing.T) {
	c := testConfig()
	good := claims{Issuer: c.Issuer, Audience: c.Audience, Subject: "agentkeys:agent:x"}
	if p := controlProblem(good, c); p != "" {
		t.Errorf("a fit control is refused: %s", p)
	}
	for want, change := range map[string]func(*claims){
		"carries":  func(c *claims) { c.HasTags = true },
		"issuer":   func(c *claims) { c.Issuer += "/" },
		"audience": func(c *claims) { c.Audience = "" },
		"subject":  func(c *claims) { c.Subject = "agentkeys:service:x" },
	} {
		bad := good
		change(&bad)
		if p := controlProblem(bad, c); !strings.Contains(p, want) {
			t.Errorf("%s: problem %q", want, p)
		}
	}
}

func FuzzReadClaims(f *testing.F) {
	seeds, err := filepath.Glob("testdata/claims/*.json")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds in testdata/claims (%v)", err)
	}
	for _, name := range seeds {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(payload(string(text)))
	}
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := readClaims(token, DefaultTagKey)
		if err == nil && (c.Tag == "") == (c.TagProblem == "") {
			t.Errorf("tag %q and problem %q: want one of the two", c.Tag, c.TagProblem)
		}
		if err == nil && c.Tag != "" && !c.HasTags {
			t.Error("a tag is read from a token without tags")
		}
	})
}

// The tenant is who the token was minted for, whether or not AWS reads the tag.
func TestTenantOf(t *testing.T) {
	i, c := newIssuer(t), testConfig()
	for _, test := range []struct {
		name string
		edit func(map[string]any)
		want string // "" for an error
	}{
		{"as minted", func(map[string]any) {}, walletA},
		{"without the tags claim", withoutTags, walletA},
		{"with another's tag", func(claims map[string]any) { claims[tagsClaim] = tagged(walletB) }, walletA},
		{"of another issuer's subject", func(claims map[string]any) { claims["sub"] = "project:x"; claims[tagsClaim] = tagged(walletB) }, walletB},
		{"of a subject that is a tag by itself", func(claims map[string]any) { claims["sub"] = walletB }, walletA},
		{"with the ordinary claim alone", func(claims map[string]any) { claims["sub"] = "project:x"; withoutTags(claims) }, walletA},
		{"with nothing", func(claims map[string]any) {
			claims["sub"] = "project:x"
			withoutTags(claims)
			delete(claims, DefaultTagKey)
		}, ""},
		{"with a tag that is no tag", func(claims map[string]any) {
			claims["sub"], claims[tagsClaim], claims[DefaultTagKey] = "agentkeys:agent:../x", tagged("a/b"), "*"
		}, ""},
	} {
		raw, err := i.minter(t, walletA, test.edit)(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := TenantOf(raw, c); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("a token %s: %q, %v, want %q", test.name, got, err, test.want)
		}
	}
	for _, raw := range []string{"", "a.b", "a.b.c", "..", "a.e30.c.d"} {
		if got, err := TenantOf(raw, c); err == nil {
			t.Errorf("%q: tenant %q, want an error", raw, got)
		}
	}
}

func tagged(tag string) map[string]any {
	return map[string]any{"principal_tags": map[string][]string{DefaultTagKey: {tag}}}
}
