package localaws

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
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
)

// Limits of what is fetched from an issuer.
const (
	fetchTimeout  = 5 * time.Second
	maxFetched    = 1 << 20 // bytes of a discovery document or a key set
	keySetTTL     = 5 * time.Minute
	maxKeysOfType = 100 // more RSA keys, or more EC keys, than this break tokens of that type
	fetchEvery    = time.Second
	fetchBurst    = 10
)

// issuers fetches and keeps the public keys of the registered issuers.
type issuers struct {
	client http.Client
	own    *http.Transport       // nil where the client was given to us
	mu     sync.Mutex            // guards byURL
	byURL  map[string]*keySource // only of registered issuers, so it stays small
}

// keySource is one issuer's key set. A key id that is not in it makes it be
// fetched again, as often as limit has it: whoever sends tokens with made-up
// key ids cannot use us to flood the issuer.
type keySource struct {
	fetching chan struct{} // holds one value during a fetch, so that one request fetches for all
	limit    *rate.Limiter

	mu      sync.Mutex // guards the rest; never held while waiting for the issuer
	keys    *keySet    // nil until the first fetch succeeded
	fetched time.Time
}

func newIssuers(client *http.Client) *issuers {
	i := &issuers{byURL: map[string]*keySource{}}
	if client != nil {
		i.client = *client
	} else {
		i.own = http.DefaultTransport.(*http.Transport).Clone()
		i.client.Transport = i.own
	}
	// A redirect could lead from a trusted issuer to anywhere.
	i.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return i
}

func (i *issuers) close() {
	if i.own != nil {
		i.own.CloseIdleConnections()
	}
}

// key returns the issuer's public key for a token. A token of a key that is
// known waits for nobody: a slow issuer holds up those only who need it.
func (i *issuers) key(ctx context.Context, issuer string, t *webToken, now time.Time) (any, error) {
	src := i.source(issuer)
	if key, err := src.find(t, now); !errors.Is(err, errUnknownKey) {
		return key, err
	}
	select {
	case src.fetching <- struct{}{}:
		defer func() { <-src.fetching }()
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for the keys of %q: %w", issuer, ctx.Err())
	}
	// The fetch that this one waited for may have brought the key.
	if key, err := src.find(t, now); !errors.Is(err, errUnknownKey) {
		return key, err
	}
	if !src.limit.AllowN(now, 1) {
		return nil, fmt.Errorf("the keys of %q were fetched too often: want at most %d at once and one per %v", issuer, fetchBurst, fetchEvery)
	}
	keys, err := i.fetch(ctx, issuer)
	if err != nil {
		return nil, err
	}
	src.set(keys, now)
	return keys.find(t)
}

func (i *issuers) source(issuer string) *keySource {
	i.mu.Lock()
	defer i.mu.Unlock()
	src := i.byURL[issuer]
	if src == nil {
		src = &keySource{fetching: make(chan struct{}, 1), limit: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst)}
		i.byURL[issuer] = src
	}
	return src
}

// find looks the token's key up in the key set that there is; where there is
// none, or an old one, no key is known. A request that began before the fetch
// did takes its keys as well; a clock that went further back than keys live
// makes them old.
func (s *keySource) find(t *webToken, now time.Time) (any, error) {
	s.mu.Lock()
	keys, age := s.keys, now.Sub(s.fetched)
	s.mu.Unlock()
	if keys == nil || age.Abs() >= keySetTTL {
		return nil, errUnknownKey
	}
	return keys.find(t)
}

func (s *keySource) set(keys *keySet, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys, s.fetched = keys, now
}

// discovery is the part of a discovery document that AWS insists on.
type discovery struct {
	Issuer        string   `json:"issuer"`
	JWKSURI       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
}

func (i *issuers) fetch(ctx context.Context, issuer string) (*keySet, error) {
	body, err := i.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return nil, err
	}
	var d discovery
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, fmt.Errorf("discovery document of %q: %w", issuer, err)
	}
	if d.Issuer != issuer {
		return nil, fmt.Errorf("discovery document of %q: want that issuer, got %q", issuer, clip(d.Issuer))
	}
	if d.ResponseTypes == nil || d.SubjectTypes == nil || d.Algorithms == nil {
		return nil, fmt.Errorf("discovery document of %q: want response_types_supported, subject_types_supported and id_token_signing_alg_values_supported", issuer)
	}
	if err := checkKeySetURL(issuer, d.JWKSURI); err != nil {
		return nil, err
	}
	if body, err = i.get(ctx, d.JWKSURI); err != nil {
		return nil, err
	}
	keys, err := parseKeySet(body)
	if err != nil {
		return nil, fmt.Errorf("key set %q: %w", d.JWKSURI, err)
	}
	return keys, nil
}

// checkKeySetURL wants https, or loopback where the issuer is on loopback too.
func checkKeySetURL(issuer, keySetURL string) error {
	u, err := url.Parse(keySetURL)
	if err != nil || u.Host == "" || u.User != nil {
		return fmt.Errorf("jwks_uri of %q: want a URL, got %q", issuer, clip(keySetURL))
	}
	if u.Scheme == "https" || isLoopbackURL(u) && isLoopbackIssuer(issuer) {
		return nil
	}
	return fmt.Errorf("jwks_uri of %q: want https, got %q", issuer, clip(keySetURL))
}

func isLoopbackURL(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (u.Hostname() == "localhost" || ip != nil && ip.IsLoopback())
}

func isLoopbackIssuer(issuer string) bool {
	u, err := url.Parse(issuer)
	return err == nil && isLoopbackURL(u)
}

func (i *issuers) get(ctx context.Context, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := i.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetching %q: want status 200, got %d", url, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFetched+1))
	if err != nil {
		return nil, fmt.Errorf("fetching %q: %w", url, err)
	}
	if len(body) > maxFetched {
		return nil, fmt.Errorf("fetching %q: want at most %d bytes, got more", url, maxFetched)
	}
	return body, nil
}

// keySet is a JWK Set as AWS reads it.
type keySet struct {
	byID  map[string]any // public keys; nil for one that cannot be used
	all   []any          // those that can be used
	count map[string]int // of keys by "kty", usable or not
}

var errUnknownKey = errors.New("no key of that id")

func parseKeySet(body []byte) (*keySet, error) {
	set, ok := object(body)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	var members []json.RawMessage
	if err := json.Unmarshal(set["keys"], &members); err != nil {
		return nil, fmt.Errorf("its keys: %w", err)
	}
	ks := &keySet{byID: map[string]any{}, count: map[string]int{}}
	for _, raw := range members {
		members, ok := object(raw)
		if !ok {
			continue
		}
		kty, _ := text(members["kty"])
		ks.count[kty]++
		key := usableKey(raw, members)
		if kid, ok := text(members["kid"]); ok {
			ks.byID[kid] = key // of two keys with one id the later counts
		}
		if key != nil {
			ks.all = append(ks.all, key)
		}
	}
	return ks, nil
}

// usableKey decodes one JWK, or returns nil for one that AWS would not verify
// with: not for signatures, with key_ops, private, or certificates that
// contradict it. The key's own alg is not looked at.
func usableKey(raw json.RawMessage, members map[string]json.RawMessage) any {
	if _, ok := members["key_ops"]; ok {
		return nil
	}
	if use, present := members["use"]; present {
		if s, ok := text(use); !ok || s != "sig" {
			return nil
		}
	}
	var k jose.JSONWebKey
	if err := k.UnmarshalJSON(raw); err != nil || !k.Valid() || !k.IsPublic() {
		return nil
	}
	switch k.Key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return k.Key
	}
	return nil
}

// find returns the key for a token: the one it names, or, where it names none,
// the only one there is. The key has to be of the kind that the algorithm uses.
func (ks *keySet) find(t *webToken) (any, error) {
	kty := "EC"
	if strings.HasPrefix(string(t.alg), "RS") {
		kty = "RSA"
	}
	if n := ks.count[kty]; n > maxKeysOfType {
		return nil, fmt.Errorf("want at most %d keys of type %s, got %d", maxKeysOfType, kty, n)
	}
	var key any
	if t.hasKID {
		var ok bool
		if key, ok = ks.byID[t.kid]; !ok {
			return nil, fmt.Errorf("%w: %q", errUnknownKey, clip(t.kid))
		}
	} else if len(ks.all) == 1 {
		key = ks.all[0]
	} else {
		return nil, fmt.Errorf("the token names no key: want one usable key, got %d", len(ks.all))
	}
	if !fits(key, t.alg) {
		return nil, fmt.Errorf("key %q cannot be used with %s", clip(t.kid), t.alg)
	}
	return key, nil
}

func fits(key any, alg jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(string(alg), "RS")
	case *ecdsa.PublicKey:
		bits := map[jose.SignatureAlgorithm]int{jose.ES256: 256, jose.ES384: 384, jose.ES512: 521}[alg]
		return k.Curve.Params().BitSize == bits
	}
	return false
}
