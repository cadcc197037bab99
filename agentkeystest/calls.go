package agentkeystest

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/gowebpki/jcs"

	"agentkeys/api"
	"agentkeys/client"
)

// Party is a wallet with its session.
type Party struct {
	*client.Wallet
	Session api.Session
}

// Party signs a new wallet in.
func (k *Broker) Party(t testing.TB) Party {
	t.Helper()
	w, session := k.SignIn(t)
	return Party{w, session}
}

// Grant has an owner grant a daemon all actions under a path, for an hour and a
// hundred uses; change sees the request before it is sent.
func (k *Broker) Grant(t testing.TB, owner, daemon Party, path string, changes ...func(*api.GrantCreateRequest)) api.Grant {
	t.Helper()
	req := api.GrantCreateRequest{DaemonAddress: daemon.Address(), Service: "s3", ScopePath: path,
		ExpiresAt: k.Clock.Now().Add(time.Hour).Unix(), MaxUses: 100}
	for _, change := range changes {
		change(&req)
	}
	var g api.Grant
	if status, problem := k.Send(t, "POST", api.PathGrantCreate, owner.Session.SessionJWT, req, &g); problem != nil {
		t.Fatalf("granting: %d %+v", status, problem)
	}
	return g
}

// Call is a call for AWS credentials in the making. Sign it last.
type Call struct {
	api.MintAWSRequest
	URL, Method    string // what is signed; set by NewCall
	Signer         *client.Wallet
	Session        string
	IdempotencyKey string
}

// NewCall begins a call of a daemon for a path.
func (k *Broker) NewCall(daemon Party, path string) *Call {
	return &Call{Method: "POST", URL: k.Issuer + api.PathMintAWS, Signer: daemon.Wallet, Session: daemon.Session.SessionJWT,
		MintAWSRequest: api.MintAWSRequest{RequestID: rand.Text(), IssuedAt: api.Timestamp{Time: k.Clock.Now()},
			Intent: api.Intent{AgentID: "test-agent", Service: "s3", ScopePath: path},
			Auth:   api.CallAuth{Address: daemon.Address()}}}
}

// Sign signs the call as it stands, in its signer's name.
func (c *Call) Sign(t testing.TB) *Call {
	t.Helper()
	c.Auth.Signature = ""
	data, err := json.Marshal(c.MintAWSRequest)
	check(t, err)
	var body map[string]any
	check(t, json.Unmarshal(data, &body))
	delete(body["auth"].(map[string]any), "signature")
	data, err = json.Marshal(map[string]any{"method": c.Method, "url": c.URL, "body": body})
	check(t, err)
	text, err := jcs.Transform(data)
	check(t, err)
	c.Auth.Signature = c.Signer.SignMessage(string(text))
	return c
}

// Mint sends a signed call. One of the results is nil.
func (k *Broker) Mint(t testing.TB, c *Call) (*api.MintAWSResponse, *api.Problem) {
	t.Helper()
	answer, problem, _ := k.MintHeader(t, c)
	return answer, problem
}

// MintHeader is Mint with the header of the answer.
func (k *Broker) MintHeader(t testing.TB, c *Call) (*api.MintAWSResponse, *api.Problem, http.Header) {
	t.Helper()
	req := k.request(t, "POST", api.PathMintAWS, c.Session, c.MintAWSRequest)
	if c.IdempotencyKey != "" {
		req.Header.Set("Idempotency-Key", c.IdempotencyKey)
	}
	var answer api.MintAWSResponse
	_, problem, header := k.do(t, req, &answer)
	if problem != nil {
		return nil, problem, header
	}
	return &answer, nil, header
}

// Send sends a body to a path and reads the answer, or the problem that it is.
func (k *Broker) Send(t testing.TB, method, path, session string, body, answer any) (int, *api.Problem) {
	t.Helper()
	status, problem, _ := k.do(t, k.request(t, method, path, session, body), answer)
	return status, problem
}

// SendHeader is Send with the header of the answer in the place of its status.
func (k *Broker) SendHeader(t testing.TB, method, path, session string, body, answer any) (*api.Problem, http.Header) {
	t.Helper()
	_, problem, header := k.do(t, k.request(t, method, path, session, body), answer)
	return problem, header
}

func (k *Broker) request(t testing.TB, method, path, session string, body any) *http.Request {
	t.Helper()
	var data []byte
	if body != nil {
		var err error
		data, err = json.Marshal(body)
		check(t, err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, k.Issuer+path, bytes.NewReader(data))
	check(t, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if session != "" {
		req.Header.Set("Authorization", "Bearer "+session)
	}
	return req
}

func (k *Broker) do(t testing.TB, req *http.Request, answer any) (int, *api.Problem, http.Header) {
	t.Helper()
	resp, err := k.HTTP.Do(req)
	check(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	check(t, err)
	if resp.StatusCode == http.StatusOK {
		check(t, json.Unmarshal(data, answer))
		return resp.StatusCode, nil, resp.Header
	}
	var problem api.Problem
	check(t, json.Unmarshal(data, &problem))
	return resp.StatusCode, &problem, resp.Header
}
