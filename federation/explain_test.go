package federation

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func tokenB64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func signES256(t testing.TB, text string) []byte {
	t.Helper()
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, explainEC(), sum[:])
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out
}

// explainTokens are the tokens of the table, each with what is changed of a good one.
func explainTokens(o *stsOracle) map[string]map[string]any {
	now := explainNow.Unix()
	tags := func(v any) map[string]any { return map[string]any{tagsClaim: v} }
	principal := func(v any) map[string]any { return tags(map[string]any{"principal_tags": v}) }
	many := map[string]any{}
	for i := range 51 {
		many[fmt.Sprint("k", i)] = []string{"v"}
	}
	flat := func(change map[string]any) map[string]any {
		change[tagsClaim] = nil
		return change
	}
	return map[string]map[string]any{
		"good": nil, "no iss": {"iss": nil}, "iss a number": {"iss": 7}, "iss with a slash": {"iss": o.issuerURL + "/"},
		"iss over https": {"iss": "https://" + providerKey(o.issuerURL)}, "iss without scheme": {"iss": providerKey(o.issuerURL)},
		"iss elsewhere": {"iss": "https://issuer.example.com"}, "iss empty": {"iss": ""},
		"no sub": {"sub": nil}, "sub null": {"sub": nullClaim}, "sub a number": {"sub": 12345}, "sub empty": {"sub": ""},
		"sub an object": {"sub": map[string]any{}}, "sub of a service": {"sub": "agentkeys:service:x"}, "sub long": {"sub": "agentkeys:agent:" + strings.Repeat("s", 300)},
		"sub far too long": {"sub": "agentkeys:agent:" + strings.Repeat("s", 4000)},
		"no aud":           {"aud": nil}, "aud empty list": {"aud": []string{}}, "aud empty": {"aud": ""}, "aud a number": {"aud": 5},
		"aud other": {"aud": "other"}, "aud in capitals": {"aud": "STS.amazonaws.com"}, "aud in an array": {"aud": []string{DefaultAudience}},
		"two aud": {"aud": []string{DefaultAudience, "other"}}, "azp": {"aud": []string{"x", "y"}, "azp": DefaultAudience},
		"azp other": {"azp": "other"}, "azp null": {"azp": nullClaim}, "two aud, one empty": {"aud": []string{DefaultAudience, ""}, "azp": DefaultAudience},
		"no iat": {"iat": nil}, "no exp": {"exp": nil}, "no nbf": {"nbf": nil}, "expired": {"exp": now - 301}, "expired at the edge": {"exp": now - 300},
		"expired within tolerance": {"exp": now - 299}, "issued ahead": {"iat": now + 301}, "issued ahead within tolerance": {"iat": now + 300, "nbf": now + 300},
		"not yet valid": {"nbf": now + 3600}, "exp a fraction": {"exp": float64(now) + 60.5}, "exp null": {"exp": nullClaim},
		"iat with an exponent": {"iat": json.RawMessage("1e3")}, "nbf text": {"nbf": "soon"}, "times as text": {"iat": fmt.Sprint(now), "exp": fmt.Sprint(now + 60)},
		"exp beyond all time": {"exp": json.RawMessage("9223372036854775807")}, "exp with a plus": {"exp": fmt.Sprint("+", now)},
		"expired, other aud": {"exp": now - 400, "aud": "other"}, "no tags": {tagsClaim: nil}, "tags text": tags("x"), "tags null": tags(nullClaim),
		"tags in an array":        tags([]any{map[string]any{"principal_tags": map[string]any{DefaultTagKey: []string{walletA}}}}),
		"tags misspelt":           tags(map[string]any{"principal_tag": map[string]any{}}),
		"tags empty object":       tags(map[string]any{}),
		"tag a string":            principal(map[string]any{DefaultTagKey: walletA}),
		"tag of two":              principal(map[string]any{DefaultTagKey: []string{walletA, walletB}}),
		"tag of none":             principal(map[string]any{DefaultTagKey: []string{}}),
		"tag a number":            principal(map[string]any{DefaultTagKey: []any{1}}),
		"tag null":                principal(map[string]any{DefaultTagKey: []any{nil}}),
		"tag empty":               principal(map[string]any{DefaultTagKey: []string{""}}),
		"tag in capitals":         principal(map[string]any{DefaultTagKey: []string{strings.ToUpper(walletA)}}),
		"tag with a slash":        principal(map[string]any{DefaultTagKey: []string{walletB + "/inbox/aaaaaaaaaaaaaaa"}}),
		"tag short":               principal(map[string]any{DefaultTagKey: []string{"0x12"}}),
		"tag key in another case": principal(map[string]any{"AgentKeys_User_Wallet": []string{walletA}}),
		"another tag":             principal(map[string]any{"wallet": []string{walletA}}),
		"two tags":                principal(map[string]any{DefaultTagKey: []string{walletA}, "team": []string{"blue"}}),
		"principal_tags an array": principal([]any{}), "tag with a star": principal(map[string]any{DefaultTagKey: []string{"a*"}}),
		"tag too long": principal(map[string]any{DefaultTagKey: []string{strings.Repeat("a", 257)}}), "tag key empty": principal(map[string]any{"": []string{"a"}}),
		"tag key too long": principal(map[string]any{strings.Repeat("k", 129): []string{"a"}}), "tag key reserved": principal(map[string]any{"AWS:x": []string{"a"}}),
		"tag value reserved": principal(map[string]any{"k": []string{"aws:x"}}), "tag audienceTwice by case": principal(map[string]any{"k": []string{"a"}, "K": []string{"b"}}),
		"51 tags": principal(many), "transitive text": tags(map[string]any{"transitive_tag_keys": "k"}),
		"transitive without tag": tags(map[string]any{"transitive_tag_keys": []string{"k"}}),
		"nested and flattened":   {flatTagPrefix + "k": "v"}, "namespace over http": flat(map[string]any{"http://aws.amazon.com/tags": map[string]any{"principal_tags": map[string]any{}}}),
		"namespace with a slash": flat(map[string]any{tagsClaim + "/": map[string]any{}}), "flattened": flat(map[string]any{flatTagPrefix + DefaultTagKey: walletA}),
		"flattened array": flat(map[string]any{flatTagPrefix + DefaultTagKey: []string{walletA}}), "flattened transitive alone": flat(map[string]any{flatTransitiveClaim: []string{}}),
		"flattened transitive text": flat(map[string]any{flatTagPrefix + DefaultTagKey: walletA, flatTransitiveClaim: DefaultTagKey}),
		"source identity":           {sourceIdentityClaim: "alice"}, "source identity short": {sourceIdentityClaim: "a"}, "source identity list": {sourceIdentityClaim: []string{"alice"}},
		"source identity, untagged": {sourceIdentityClaim: "alice", tagsClaim: nil},
		"roles":                     {rolesClaim: []string{o.config.RoleARN()}}, "roles as text": {rolesClaim: "arn:aws:iam::1:role/x;" + o.config.RoleARN()},
		"roles of others": {rolesClaim: []string{o.config.RoleARN() + "2"}}, "roles a pattern": {rolesClaim: "arn:aws:iam::*:role/*"}, "roles a number": {rolesClaim: 1},
		"amr": {"amr": []string{"pwd", "hwk"}}, "amr text": {"amr": "pwd"}, "amr a number": {"amr": 1}, "email": {"email": "a@example.com"},
	}
}

// explainTrusts are the trust policies of the table.
var explainTrusts = map[string]string{
	"open":                  explainTrust(explainBoth, ""),
	"assume alone":          explainTrust(`"sts:AssumeRoleWithWebIdentity"`, ""),
	"tag alone":             explainTrust(`"sts:TagSession"`, ""),
	"every sts action":      explainTrust(`"sts:*"`, ""),
	"NotAction":             `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"%A"},"NotAction":["sts:TagSession"]}]}`,
	"source identity":       explainTrust(explainBoth+`,"sts:SetSourceIdentity"`, `{"Null":{"aws:RequestTag/agentkeys_user_wallet":"false"}}`),
	"source identity apart": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"%A"},"Action":[` + explainBoth + `]},{"Effect":"Allow","Principal":{"Federated":"%A"},"Action":"sts:SetSourceIdentity"}]}`,
	"plain":                 explainTrust(explainBoth, `{"StringEquals":{"%P:aud":"sts.amazonaws.com"},"StringLike":{"%P:sub":"agentkeys:agent:*"},"Null":{"aws:RequestTag/agentkeys_user_wallet":"false"}}`),
	"hardened":              "", // rendered
	"negated tag":           explainTrust(explainBoth, `{"StringNotEquals":{"aws:RequestTag/agentkeys_user_wallet":""}}`),
	"inverted tag":          explainTrust(explainBoth, `{"Null":{"aws:RequestTag/agentkeys_user_wallet":"true"}}`),
	"another audience":      explainTrust(explainBoth, `{"StringEquals":{"%P:aud":"other"}}`),
	"audience with scheme":  explainTrust(explainBoth, `{"StringEquals":{"http://%P:aud":"sts.amazonaws.com"}}`),
	"another provider":      strings.ReplaceAll(explainTrust(explainBoth, ""), "%A", "arn:aws:iam::111122223333:oidc-provider/other.example.com"),
	"AWS star":              `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":[` + explainBoth + `]}]}`,
	"star":                  `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":[` + explainBoth + `]}]}`,
	"PrincipalTag":          explainTrust(explainBoth, `{"StringLike":{"aws:PrincipalTag/agentkeys_user_wallet":"0x*"}}`),
	"session name":          explainTrust(explainBoth, `{"StringEquals":{"sts:RoleSessionName":"agent"}}`),
	"other session name":    explainTrust(explainBoth, `{"StringEquals":{"sts:RoleSessionName":"other"}}`),
	"tag keys":              explainTrust(explainBoth, `{"ForAllValues:StringEquals":{"aws:TagKeys":["agentkeys_user_wallet"]}}`),
	"transitive":            explainTrust(explainBoth, `{"ForAnyValue:StringEquals":{"sts:TransitiveTagKeys":"agentkeys_user_wallet"}}`),
	"two conditions fail":   explainTrust(`"sts:AssumeRoleWithWebIdentity"`, `{"StringEquals":{"%P:aud":"other","%P:sub":"x"}}`),
	"deny of a subject":     `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"%A"},"Action":[` + explainBoth + `]},{"Sid":"No","Effect":"Deny","Principal":{"Federated":"%A"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringNotLike":{"%P:sub":"agentkeys:agent:*"}}}]}`,
	"deny of tags":          `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"%A"},"Action":[` + explainBoth + `]},{"Effect":"Deny","Principal":"*","Action":"sts:TagSession"}]}`,
	"authorised by issuer":  explainTrust(explainBoth, `{"Bool":{"sts:RoleAuthorizedByIdp":"true"}}`),
	"methods":               explainTrust(explainBoth, `{"ForAnyValue:StringEquals":{"%P:amr":"hwk"}}`),
	"original audience":     explainTrust(explainBoth, `{"StringEquals":{"%P:oaud":"sts.amazonaws.com"}}`),
	"email":                 explainTrust(explainBoth, `{"StringLike":{"%P:email":"*@example.com"}}`),
	"principal":             explainTrust(explainBoth, `{"Null":{"aws:PrincipalArn":"true"},"StringEquals":{"aws:PrincipalType":"User","aws:userid":"%A","aws:PrincipalAccount":"111122223333"}}`),
	"version of 2008":       `{"Statement":[{"Effect":"Allow","Principal":{"Federated":"%A"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession"]}]}`,
	"after a date":          explainTrust(explainBoth, `{"DateGreaterThan":{"aws:CurrentTime":"2027-01-01T00:00:00Z"}}`),
}

func (o *stsOracle) hardened() string {
	return marshal(o.t, render(o.t, o.config, Hardened).Trust)
}

// TestExplainAgreesWithSTS holds Explain against the local STS, over HTTP, for
// every token under every trust policy.
func TestExplainAgreesWithSTS(t *testing.T) {
	t.Parallel()
	o := newSTSOracle(t)
	tokens := map[string]string{}
	for name, change := range explainTokens(o) {
		tokens[name] = o.token(change, nil)
	}
	calls := 0
	for name, trust := range explainTrusts {
		if trust == "" {
			trust = o.hardened()
		}
		a := o.install(trust, "", nil)
		for change, token := range tokens {
			t.Run(name+"/"+change, func(t *testing.T) {
				o.hold(t, a, token, nil)
			})
			calls++
		}
	}
	if calls < 2000 {
		t.Errorf("want a table of at least 2000 calls, got %d", calls)
	}
}

// The same with the provider, its clients, the call and the text of the token
// changed.
func TestExplainAgreesOnCalls(t *testing.T) {
	t.Parallel()
	o := newSTSOracle(t)
	calls := map[string]url.Values{
		"plain": nil, "short role": {"RoleArn": {"short"}}, "no role": {"RoleArn": {"arn:aws:iam::111122223333:user/x"}},
		"role of China": {"RoleArn": {"arn:aws-cn:iam::111122223333:role/x"}}, "role elsewhere": {"RoleArn": {"arn:aws:iam::999999999999:role/x"}},
		"role absent": {"RoleArn": {o.config.RoleARN() + "x"}}, "role in capitals": {"RoleArn": {strings.Replace(o.config.RoleARN(), "agentkeys", "AgentKeys", 1)}},
		"role under a path":    {"RoleArn": {strings.Replace(o.config.RoleARN(), "role/", "role/path/", 1)}},
		"session with a space": {"RoleSessionName": {"a b"}}, "session short": {"RoleSessionName": {"a"}}, "session long": {"RoleSessionName": {strings.Repeat("a", 65)}},
		"two constraints": {"RoleSessionName": {"a b"}, "DurationSeconds": {"1"}},
		"duration short":  {"DurationSeconds": {"899"}}, "duration long": {"DurationSeconds": {"43201"}}, "duration over the role's": {"DurationSeconds": {"3601"}},
		"duration least": {"DurationSeconds": {"900"}}, "policy no JSON": {"Policy": {"{"}}, "policy with a principal": {"Policy": {`{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}}`}},
		"policy too long": {"Policy": {`{"Statement":[]}` + strings.Repeat(" ", 2048)}}, "policy good": {"Policy": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`}},
		"policy with odd characters": {"Policy": {"{\u0100}"}}, "duration and policy": {"DurationSeconds": {"40000"}, "Policy": {"{"}},
		"no such managed policy": {"PolicyArns.member.1.arn": {"arn:aws:iam::111122223333:policy/none"}}, "managed policy short": {"PolicyArns.member.1.arn": {"x"}},
	}
	tokens := map[string]string{
		"good": o.token(nil, nil), "no token": "not.a.token", "opaque": "abcdef", "untagged": o.token(map[string]any{tagsClaim: nil}, nil),
		"short": "abc", "too long": strings.Repeat("a", 20001), "two parts": "eyJhbGciOiJFUzI1NiJ9.e30", "five parts": "e30.e30.e30.e30.e30",
		"large": o.token(map[string]any{"sub": "agentkeys:agent:" + strings.Repeat("s", 4000)}, nil),
		"crit":  o.token(nil, map[string]any{"crit": []string{"exp"}}), "none": o.token(nil, map[string]any{"alg": "none"}), "HS256": o.token(nil, map[string]any{"alg": "HS256"}),
		"no alg": o.token(nil, map[string]any{"alg": nil}), "PS256": o.token(nil, map[string]any{"alg": "PS256"}), "kid a number": o.token(nil, map[string]any{"kid": 1}),
		"kid unknown": o.token(nil, map[string]any{"kid": "gone"}), "kid of another": o.token(nil, map[string]any{"kid": "rsa"}), "no kid": o.token(nil, map[string]any{"kid": nil}),
		"ES384 with P-256": o.token(nil, map[string]any{"alg": "ES384"}), "changed": flipToken(o.token(nil, nil)), "padded": strings.Replace(o.token(nil, nil), ".", "=.", 1),
		"wrapped": o.token(nil, nil)[:40] + "\n" + o.token(nil, nil)[40:], "payload an array": signToken(t, []byte("[]"), nil), "payload not UTF-8": signToken(t, []byte("{\"a\":\"\xff\"}"), nil),
		"members twice": signToken(t, audienceTwice(t, o), nil),
	}
	for name, setting := range map[string]struct {
		provider string
		clients  []string
	}{
		"registered": {}, "no provider": {provider: "-"}, "provider with a slash": {provider: o.issuerURL + "/"}, "another provider": {provider: "https://other.example.com"},
		"other client": {clients: []string{"other"}}, "two clients": {clients: []string{"other", DefaultAudience}},
	} {
		a := o.install(explainTrust(explainBoth, ""), setting.provider, setting.clients)
		for call, values := range calls {
			if name != "registered" && values != nil && call != "duration over the role's" {
				continue
			}
			for text, token := range tokens {
				t.Run(name+"/"+call+"/"+text, func(t *testing.T) {
					o.hold(t, a, token, values)
				})
			}
		}
	}
}

// flipToken changes one letter in the middle of the payload's subject.
func flipToken(token string) string {
	parts := strings.Split(token, ".")
	text, _ := base64.RawURLEncoding.DecodeString(parts[1])
	parts[1] = tokenB64([]byte(strings.Replace(string(text), "0x1111", "0x1112", 1)))
	return strings.Join(parts, ".")
}

func audienceTwice(t testing.TB, o *stsOracle) []byte {
	t.Helper()
	text, err := json.Marshal(o.claims(map[string]any{"aud": "other"}))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(string(text[:len(text)-1]) + `,"aud":"sts.amazonaws.com"}`)
}
