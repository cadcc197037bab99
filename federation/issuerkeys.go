package federation

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Limits of what is fetched from an issuer. AWS gives up after about five seconds.
const (
	issuerTimeout = 5 * time.Second
	maxIssuerDoc  = 1 << 20 // bytes
	maxKeysOfType = 100     // more RSA keys, or more EC keys, than this break tokens of that type
)

// IssuerDocuments is what an issuer publishes, as far as it could be had. A
// problem says why a document could not; with neither a document nor a problem it
// was not looked at.
type IssuerDocuments struct {
	Issuer           string // whose they are, byte for byte
	Discovery        []byte
	DiscoveryProblem string
	KeySet           []byte
	KeySetProblem    string
}

// FetchIssuer fetches the discovery document and the key set as STS does: without
// a credential, within seconds, and without following a redirect. Whatever goes
// wrong is a problem in the result. The client may be nil.
func FetchIssuer(ctx context.Context, client *http.Client, issuer string) *IssuerDocuments {
	d := &IssuerDocuments{Issuer: issuer}
	f := issuerFetch{client: http.Client{Timeout: issuerTimeout}}
	if client != nil {
		f.client = *client
	}
	f.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	var err error
	if d.Discovery, err = f.get(ctx, discoveryURL(issuer)); err != nil {
		d.DiscoveryProblem = oneLine(err.Error())
		return d
	}
	doc, problem := readDiscovery(d.Discovery, issuer)
	if problem != "" { // which Explain tells from the document
		return d
	}
	if d.KeySet, err = f.get(ctx, doc.KeySetURL); err != nil {
		d.KeySetProblem = oneLine(err.Error())
	}
	return d
}

func discoveryURL(issuer string) string {
	return strings.TrimSuffix(issuer, "/") + "/.well-known/openid-configuration"
}

type issuerFetch struct{ client http.Client }

func (f issuerFetch) get(ctx context.Context, from string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, issuerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, fmt.Errorf("fetching %q: %w", from, err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetching %q: %s", from, cause(err))
	}
	defer resp.Body.Close()
	if to := resp.Header.Get("Location"); resp.StatusCode/100 == 3 && to != "" {
		return nil, fmt.Errorf("fetching %q: want status 200, got %d to %q", from, resp.StatusCode, to)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching %q: want status 200, got %d", from, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxIssuerDoc+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("fetching %q: %s", from, cause(err))
	case len(body) > maxIssuerDoc:
		return nil, fmt.Errorf("fetching %q: want at most %d bytes, got more", from, maxIssuerDoc)
	}
	return body, nil
}

// issuerDiscovery is the part of a discovery document that AWS insists on.
type issuerDiscovery struct {
	Issuer        string   `json:"issuer"`
	KeySetURL     string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

// readDiscovery reads a discovery document and says what AWS would miss in it.
func readDiscovery(body []byte, issuer string) (d issuerDiscovery, problem string) {
	if err := json.Unmarshal(body, &d); err != nil {
		return d, "it is not the JSON object of a discovery document: " + oneLine(err.Error())
	}
	if d.Issuer != issuer {
		return d, fmt.Sprintf("its issuer is %q, not %q: %s", d.Issuer, issuer, urlDifference(issuer, d.Issuer))
	}
	for _, member := range []struct {
		name    string
		missing bool
	}{
		{"response_types_supported", d.ResponseTypes == nil},
		{"subject_types_supported", d.SubjectTypes == nil},
		{"id_token_signing_alg_values_supported", d.Algorithms == nil},
	} {
		if member.missing {
			return d, "it lacks " + member.name
		}
	}
	u, err := url.Parse(d.KeySetURL)
	if err != nil || u.Host == "" || u.User != nil {
		return d, fmt.Sprintf("its jwks_uri is no URL: %q", d.KeySetURL)
	}
	from, err := url.Parse(issuer)
	onLoopback := u.Scheme == "http" && Loopback(u.Hostname()) && err == nil && from.Scheme == "http" && Loopback(from.Hostname())
	if u.Scheme != "https" && !onLoopback {
		return d, fmt.Sprintf("its jwks_uri is not https: %q", d.KeySetURL)
	}
	return d, ""
}

// unreachableHost says why AWS cannot reach an issuer that this machine can, or "".
func unreachableHost(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	ip := net.ParseIP(u.Hostname())
	switch {
	case Loopback(u.Hostname()):
		return "a loopback address is for the local AWS alone; AWS cannot reach it"
	case ip != nil && (ip.IsPrivate() || ip.IsLinkLocalUnicast()):
		return "AWS cannot reach a private address"
	}
	return ""
}

// issuerKeySet is a JWK Set as AWS reads it.
type issuerKeySet struct {
	keys  []issuerKey
	count map[string]int // of keys by "kty", usable or not
}

// issuerKey is one key with what keeps AWS from verifying with it.
type issuerKey struct {
	kid     string
	named   bool // whether it has an id
	key     any  // nil where it cannot be used
	problem string
}

func readKeySet(body []byte) (*issuerKeySet, error) {
	set, ok := jsonObject(body)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	var members []json.RawMessage
	if err := json.Unmarshal(set["keys"], &members); err != nil {
		return nil, errors.New(`it has no array "keys"`)
	}
	ks := &issuerKeySet{count: map[string]int{}}
	for _, raw := range members {
		m, ok := jsonObject(raw)
		if !ok {
			continue
		}
		ks.count[text(m["kty"])]++
		k := issuerKey{}
		k.kid, k.named = jsonText(m["kid"])
		k.key, k.problem = usableKey(raw, m)
		ks.keys = append(ks.keys, k)
	}
	return ks, nil
}

// usableKey decodes one JWK, or says why AWS would not verify with it. The key's
// own "alg" is not looked at.
func usableKey(raw json.RawMessage, members map[string]json.RawMessage) (key any, problem string) {
	if _, ok := members["key_ops"]; ok {
		return nil, `it has "key_ops", which AWS takes for unusable, even ["verify"]`
	}
	if use, present := members["use"]; present && text(use) != "sig" {
		return nil, fmt.Sprintf(`its "use" is %s, not "sig"`, use)
	}
	if _, private := members["d"]; private {
		return nil, `it is a private key (it has "d"): take it down and rotate`
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(raw); err != nil {
		return nil, describeKeyError(members, err)
	}
	if !k.Valid() || !k.IsPublic() {
		return nil, "it is no public key"
	}
	switch k.Key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return k.Key, ""
	}
	return nil, fmt.Sprintf("its type %q is neither RSA nor EC", text(members["kty"]))
}

func describeKeyError(members map[string]json.RawMessage, err error) string {
	if _, ok := members["x5c"]; ok {
		return `its "x5c" does not agree with its own numbers, or cannot be read: ` + oneLine(err.Error())
	}
	return "it cannot be read: " + oneLine(err.Error())
}

// kids names the keys of the set, for a message.
func (ks *issuerKeySet) kids() string {
	var names []string
	for _, k := range ks.keys {
		name := fmt.Sprintf("%q", k.kid)
		if !k.named {
			name = "one without an id"
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return "no key"
	}
	return strings.Join(names, ", ")
}

// keyChoice is what AWS makes of a token's key id.
type keyChoice struct {
	key     any
	problem string
	unknown bool // the set lacks the id
	note    string
}

// choose finds the key for a token: the one it names, of two with one id the
// later, or, where it names none, the only one there is.
func (ks *issuerKeySet) choose(t *WebToken) keyChoice {
	kty := keyTypeOf(t.Alg())
	if n := ks.count[kty]; n > maxKeysOfType {
		return keyChoice{problem: fmt.Sprintf("the set has %d keys of type %s; want at most %d", n, kty, maxKeysOfType)}
	}
	kid, named := t.KID()
	if !named {
		return ks.only(t)
	}
	var c keyChoice
	matches := 0
	for _, k := range ks.keys {
		if !k.named || k.kid != kid {
			continue
		}
		matches++
		c = keyChoice{key: k.key, problem: k.problem}
	}
	switch {
	case matches == 0:
		return keyChoice{unknown: true, problem: fmt.Sprintf("the set has no key %q, only %s", kid, ks.kids())}
	case matches > 1:
		c.note = fmt.Sprintf("the set has %d keys of id %q; AWS takes the last", matches, kid)
	}
	if c.problem != "" {
		c.problem = fmt.Sprintf("key %q cannot be used: %s", kid, c.problem)
	}
	return c.fit(t)
}

func (ks *issuerKeySet) only(t *WebToken) keyChoice {
	usable := slices.DeleteFunc(slices.Clone(ks.keys), func(k issuerKey) bool { return k.key == nil })
	if len(usable) != 1 {
		return keyChoice{problem: fmt.Sprintf("the token's header names no key, and the set has %d usable ones; want exactly one", len(usable))}
	}
	return keyChoice{key: usable[0].key}.fit(t)
}

// fit holds the key against the token's algorithm.
func (c keyChoice) fit(t *WebToken) keyChoice {
	if c.problem == "" && !keyFits(c.key, t.Alg()) {
		c.problem = fmt.Sprintf("the key is %s, which does not go with %s", keyKind(c.key), t.Alg())
	}
	return c
}

func keyTypeOf(alg string) string {
	if strings.HasPrefix(alg, "RS") {
		return "RSA"
	}
	return "EC"
}

func keyFits(key any, alg string) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS")
	case *ecdsa.PublicKey:
		bits := map[string]int{"ES256": 256, "ES384": 384, "ES512": 521}[alg]
		return k.Curve.Params().BitSize == bits
	}
	return false
}

func keyKind(key any) string {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return "an RSA key"
	case *ecdsa.PublicKey:
		return "an EC key on " + k.Curve.Params().Name
	}
	return "no key"
}

// signsFor finds another key of the set that the signature verifies with.
func (ks *issuerKeySet) signsFor(t *WebToken) (kid string, found bool) {
	for _, k := range ks.keys {
		if k.key != nil && keyFits(k.key, t.Alg()) && t.verifies(k.key) {
			return k.kid, true
		}
	}
	return "", false
}

type algorithm = jose.SignatureAlgorithm

// tokenAlgorithms are the signatures that AWS takes; nothing symmetric, and never
// "none".
var tokenAlgorithms = []algorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

// verifies checks the signature with one public key.
func (t *WebToken) verifies(key any) bool {
	jws, err := jose.ParseSignedCompact(t.compact, tokenAlgorithms)
	if err != nil {
		return false
	}
	_, err = jws.Verify(key)
	return err == nil
}
