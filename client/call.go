package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gowebpki/jcs"

	"agentkeys/api"
)

// MintAWSOptions changes how AWS credentials are asked for.
type MintAWSOptions struct {
	IdempotencyKey string // "" means a fresh one
}

// How often and after what pause a mint is sent again, where the broker does not say.
const (
	maxSends     = 5
	resendPause  = 200 * time.Millisecond
	longestPause = 10 * time.Second
)

// MintAWS asks for AWS credentials for what intent says. The session must be of
// wallet w, which signs the call with the client's time as issued_at.
//
// Anybody may grant to w. An intent that names no grant may be given one of a
// stranger's, and then the credentials are of the stranger's tenant: name the grant,
// and see that the answer's Wallet is the tenant that is meant before using it.
//
// Where the connection is lost, or the broker is still at work on the same
// request, the very same bytes are sent again under the same Idempotency-Key, so
// that a lost answer costs neither a second use of the grant nor a second
// credential; at most five times in all, and within ctx. Every other refusal is
// returned as it came, an *api.Error.
func (c *Client) MintAWS(ctx context.Context, sessionJWT string, w *Wallet, intent api.Intent, o MintAWSOptions) (api.MintAWSResponse, error) {
	r, err := SignCall(w, http.MethodPost, c.base+api.PathMintAWS, api.MintAWSRequest{
		RequestID: "call-" + rand.Text(),
		IssuedAt:  api.Timestamp{Time: c.now()},
		Intent:    intent,
	})
	if err != nil {
		return api.MintAWSResponse{}, err
	}
	key := o.IdempotencyKey
	if key == "" {
		key = rand.Text()
	}
	return c.SendMintAWS(ctx, sessionJWT, r, key)
}

// SendMintAWS is MintAWS for a request that is signed already: one that was kept,
// to be sent again with its key after a restart.
func (c *Client) SendMintAWS(ctx context.Context, sessionJWT string, r api.MintAWSRequest, idempotencyKey string) (api.MintAWSResponse, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return api.MintAWSResponse{}, fmt.Errorf("encoding the request: %w", err)
	}
	headers := http.Header{"Idempotency-Key": {idempotencyKey}}
	for sent := 1; ; sent++ {
		var answer api.MintAWSResponse
		err := c.send(ctx, http.MethodPost, api.PathMintAWS, sessionJWT, body, headers, &answer)
		if err == nil {
			if err := checkCredentials(answer); err != nil {
				return api.MintAWSResponse{}, err
			}
			return answer, nil
		}
		pause, again := resendAfter(err, sent)
		if !again || sent == maxSends || wait(ctx, pause) != nil {
			return api.MintAWSResponse{}, err
		}
	}
}

// checkCredentials refuses an answer with credentials missing or malformed. With an
// empty one in the environment an SDK would go on with whatever other credentials it
// finds, and nobody would see that they are not those that were asked for.
func checkCredentials(a api.MintAWSResponse) error {
	for _, m := range []struct{ name, value string }{
		{"access_key_id", a.AccessKeyID}, {"secret_access_key", a.SecretAccessKey}, {"session_token", a.SessionToken}, {"wallet", a.Wallet},
	} {
		if m.value == "" || strings.ContainsFunc(m.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("reading the answer of %s: %s: want printable ASCII without spaces, got none or something else", api.PathMintAWS, m.name)
		}
	}
	if a.Expiration <= 0 {
		return fmt.Errorf("reading the answer of %s: expiration: want Unix seconds, got %d", api.PathMintAWS, a.Expiration)
	}
	return nil
}

// resendAfter says whether a request that failed for the n-th time may be sent
// again as it is, and after what pause.
func resendAfter(err error, n int) (time.Duration, bool) {
	pause := resendPause << (n - 1)
	var lost lostError
	if errors.As(err, &lost) {
		return pause, true
	}
	var refused *api.Error
	if !errors.As(err, &refused) || refused.Code != api.CodeIdempotencyInProgress {
		return 0, false
	}
	return min(max(pause, refused.RetryAfter), longestPause), true
}

// wait waits for d, or until ctx ends, which is its error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// SignCall returns r with the address of w and its signature over r for a method
// and a URL, which is the broker's issuer with the endpoint's path. What is signed
// is the RFC 8785 canonical JSON of {method, url, body} as an EIP-191 message; body
// is r without auth.signature.
func SignCall(w *Wallet, method, url string, r api.MintAWSRequest) (api.MintAWSRequest, error) {
	r.Auth = api.CallAuth{Address: w.Address()}
	text, err := callText(method, url, r)
	if err != nil {
		return api.MintAWSRequest{}, fmt.Errorf("signing a call: %w", err)
	}
	r.Auth.Signature = w.SignMessage(text)
	return r, nil
}

// unsignedCall is a request without its signature. Auth takes the place of the
// embedded one's member of the same name; every other member is the embedded one's.
type unsignedCall struct {
	api.MintAWSRequest
	Auth struct {
		Address string `json:"address"`
	} `json:"auth"`
}

func callText(method, url string, r api.MintAWSRequest) (string, error) {
	for _, text := range []string{method, url, r.RequestID, r.Intent.AgentID, r.Intent.Service, r.Intent.ScopePath, r.Intent.GrantID} {
		if !utf8.ValidString(text) { // encoding/json would write another text
			return "", fmt.Errorf("want UTF-8, got %q", text)
		}
	}
	body := unsignedCall{MintAWSRequest: r}
	body.Auth.Address = r.Auth.Address
	data, err := json.Marshal(struct {
		Method string       `json:"method"`
		URL    string       `json:"url"`
		Body   unsignedCall `json:"body"`
	}{method, url, body})
	if err != nil {
		return "", err
	}
	canonical, err := jcs.Transform(data)
	return string(canonical), err
}
