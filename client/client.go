// Package client is the Go client of the broker's API. The program uses it, and
// so does every test that speaks to a broker.
//
// A Client keeps no session token: each call is handed one. It follows no redirect,
// since a bearer token must not travel to a host that the caller did not name. The
// key of a Wallet is in memory, and in the file that its owner wrote it to.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"agentkeys/api"
)

// maxAnswer bounds what the client reads of an answer.
const maxAnswer = 16 << 20

// Client speaks to one broker. It is safe for concurrent use.
type Client struct {
	base string
	host string // what a sign-in message must name
	http *http.Client
	now  func() time.Time
}

// Option changes a client that New makes.
type Option func(*Client)

// WithClock has a client take the time of its signed calls from now.
func WithClock(now func() time.Time) Option { return func(c *Client) { c.now = now } }

// New makes a client of the broker whose issuer URL is base, such as
// https://broker.example.com. Plain http is for a broker on this machine alone:
// anywhere else whoever is on the path would have the session. A nil httpClient
// means one with a time limit of 30 seconds.
func New(base string, httpClient *http.Client, options ...Option) (*Client, error) {
	base = strings.TrimSuffix(base, "/")
	u, err := url.Parse(base)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return nil, fmt.Errorf("making a client: want the broker's URL, got %q", base)
	case u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, fmt.Errorf("making a client: want the broker's issuer URL, a host and nothing behind it, got %q", u.Redacted())
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return nil, fmt.Errorf("making a client: want https (http only on a loopback host), got %q", base)
	}
	transport := http.Client{Timeout: 30 * time.Second}
	if httpClient != nil {
		transport = *httpClient
	}
	transport.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c := &Client{base: base, host: u.Host, http: &transport, now: time.Now}
	for _, option := range options {
		option(c)
	}
	return c, nil
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// SignIn proves control of a wallet and returns the session: it asks for a
// challenge, checks that it signs in at this broker, and signs it.
func (c *Client) SignIn(ctx context.Context, w *Wallet, chainID int64) (api.Session, error) {
	start, err := c.StartWallet(ctx, w.Address(), chainID)
	if err != nil {
		return api.Session{}, err
	}
	if err := c.checkMessage(start.SIWEMessage, w.Address()); err != nil {
		return api.Session{}, err
	}
	return c.VerifyWallet(ctx, start.RequestID, w.SignMessage(start.SIWEMessage))
}

// checkMessage refuses to sign anything but a sign-in at the broker that we
// speak to (EIP-4361, "Wallet Implementer Steps"): a false broker could
// otherwise pass on the challenge of another site.
func (c *Client) checkMessage(message, address string) error {
	lines := strings.Split(message, "\n")
	if want := c.host + " wants you to sign in with your Ethereum account:"; lines[0] != want {
		return fmt.Errorf("signing in: want a message that begins %q, got %q; use the broker's issuer URL", want, lines[0])
	}
	if len(lines) < 2 || lines[1] != address {
		return fmt.Errorf("signing in: want a message for %s, got one for another address", address)
	}
	if uri := "URI: " + c.base; !slices.Contains(lines, uri) {
		return fmt.Errorf("signing in: want a message with the line %q, got none; use the broker's issuer URL", uri)
	}
	return nil
}

// StartWallet asks for a sign-in challenge.
func (c *Client) StartWallet(ctx context.Context, address string, chainID int64) (api.WalletStartResponse, error) {
	var answer api.WalletStartResponse
	err := c.post(ctx, api.PathWalletStart, "", api.WalletStartRequest{Address: address, ChainID: chainID}, &answer)
	return answer, err
}

// VerifyWallet answers a challenge.
func (c *Client) VerifyWallet(ctx context.Context, requestID, signature string) (api.Session, error) {
	var answer api.Session
	err := c.post(ctx, api.PathWalletVerify, "", api.WalletVerifyRequest{RequestID: requestID, Signature: signature}, &answer)
	return answer, err
}

// MintOIDC mints a web identity token for the bearer of a session token.
func (c *Client) MintOIDC(ctx context.Context, sessionJWT string) (api.MintOIDCResponse, error) {
	var answer api.MintOIDCResponse
	err := c.post(ctx, api.PathMintOIDC, sessionJWT, nil, &answer)
	return answer, err
}

// Ready returns the broker's readiness, whether it is ready or not.
func (c *Client) Ready(ctx context.Context) (api.Readiness, error) {
	var answer api.Readiness
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+api.PathReady, nil)
	if err != nil {
		return answer, err
	}
	err = c.do(req, &answer)
	var e *api.Error
	if errors.As(err, &e) && e.Status == http.StatusServiceUnavailable && answer.Status != "" {
		return answer, nil
	}
	return answer, err
}

// post sends a body as JSON; nil means none.
func (c *Client) post(ctx context.Context, path, bearer string, body, answer any) error {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encoding the request: %w", err)
		}
	}
	return c.send(ctx, http.MethodPost, path, bearer, data, nil, answer)
}

// send sends a request of JSON text with further headers; body and headers may be nil.
func (c *Client) send(ctx context.Context, method, path, bearer string, body []byte, headers http.Header, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	maps.Copy(req.Header, headers)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	return c.do(req, answer)
}

// lostError is an error of the connection: whether the broker saw the request, and
// what it answered, is not known.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// do sends a request and reads its answer: JSON, or where answer is a *string the text
// that it is. An answer other than 200 becomes the *api.Error that the
// broker raised.
func (c *Client) do(req *http.Request, answer any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return lostError{err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return lostError{fmt.Errorf("reading the answer of %s: %w", req.URL.Path, err)}
	}
	if text, ok := answer.(*string); ok && resp.StatusCode == http.StatusOK {
		*text = string(data)
		return nil
	}
	if resp.StatusCode == http.StatusOK {
		if err := json.Unmarshal(data, answer); err != nil {
			return fmt.Errorf("reading the answer of %s: %w", req.URL.Path, err)
		}
		return nil
	}
	if resp.Header.Get("Content-Type") != "application/problem+json" {
		_ = json.Unmarshal(data, answer) // an unready broker answers 503 with its checks
		return &api.Error{Code: api.CodeInternal, Status: resp.StatusCode, Detail: "answered " + resp.Status}
	}
	var p api.Problem
	if err := json.Unmarshal(data, &p); err != nil {
		return fmt.Errorf("reading the refusal of %s: %w", req.URL.Path, err)
	}
	return &api.Error{Code: p.Code, Status: resp.StatusCode, Detail: p.Detail, RequestID: p.RequestID, Remediation: p.Remediation,
		RetryAfter: retryAfter(resp.Header)}
}

// retryAfter reads the header of RFC 9110, section 10.2.3, in its form of seconds,
// the only one that a broker sends.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.ParseUint(h.Get("Retry-After"), 10, 31)
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
