package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentkeys/api"
	"agentkeys/auth"
	"agentkeys/client"
)

// wire is a connection to a handler, without a network, so that it works inside
// synctest. It keeps what was sent.
type wire struct {
	answer func(n int) (*http.Response, error) // to the n-th request, from 1
	sent   []sentRequest
}

type sentRequest struct {
	method, url, body string
	header            http.Header
	at                time.Time
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	w.sent = append(w.sent, sentRequest{r.Method, r.URL.String(), string(body), r.Header, time.Now()})
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.answer(len(w.sent))
}

var errReset = errors.New("connection reset by peer")

func lost() (*http.Response, error) { return nil, errReset }

// cutOff is an answer whose connection is lost half way through its body.
func cutOff() (*http.Response, error) {
	r := httptest.NewRecorder().Result()
	r.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"access_key_id":"ASIA`), failing{}))
	return r, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func refusal(code api.Code, retryAfter string) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/problem+json")
	if retryAfter != "" {
		w.Header().Set("Retry-After", retryAfter)
	}
	w.WriteHeader(api.KindOf(code).Status)
	_ = json.NewEncoder(w).Encode(api.Problem{Code: code, Detail: "refused"})
	return w.Result(), nil
}

func granted(body any) (*http.Response, error) {
	w := httptest.NewRecorder()
	_ = json.NewEncoder(w).Encode(body)
	return w.Result(), nil
}

const broker = "https://broker.example"

func newClient(t *testing.T, w *wire, options ...client.Option) (*client.Client, *client.Wallet) {
	t.Helper()
	c, err := client.New(broker, &http.Client{Transport: w}, options...)
	if err != nil {
		t.Fatal(err)
	}
	wallet, err := client.NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	return c, wallet
}

// credentials are a good answer.
var credentials = api.MintAWSResponse{AccessKeyID: "ASIA1", SecretAccessKey: "abc/+", SessionToken: "IQo=", Expiration: 1780000000,
	Wallet: "0xde709f2102306220921060314715629080e2fb77", AuditRecordID: "r", Anchored: []string{"sqlite"}}

var intent = api.Intent{AgentID: "agent-7", Service: "s3", ScopePath: "reports", GrantID: "grn-1"}

func TestMintAWSSendsASignedCall(t *testing.T) {
	w := &wire{answer: func(int) (*http.Response, error) { return granted(credentials) }}
	at := time.Date(2026, 3, 1, 12, 0, 0, 999, time.UTC)
	c, wallet := newClient(t, w, client.WithClock(func() time.Time { return at }))
	got, err := c.MintAWS(t.Context(), "session", wallet, intent, client.MintAWSOptions{})
	if err != nil || got.AccessKeyID != "ASIA1" || len(w.sent) != 1 {
		t.Fatalf("%+v, %v, sent %d times", got, err, len(w.sent))
	}
	sent := w.sent[0]
	if sent.method != "POST" || sent.url != broker+api.PathMintAWS || sent.header.Get("Content-Type") != "application/json" ||
		sent.header.Get("Authorization") != "Bearer session" {
		t.Errorf("sent %+v", sent)
	}
	var r api.MintAWSRequest
	if err := json.Unmarshal([]byte(sent.body), &r); err != nil {
		t.Fatal(err)
	}
	if r.Intent != intent || r.Auth.Address != wallet.Address() || !strings.HasPrefix(r.RequestID, "call-") || len(r.RequestID) != len("call-")+26 {
		t.Errorf("sent %+v", r)
	}
	// The text is written out here: names in order, nothing between them.
	text := `{"body":{"auth":{"address":"` + wallet.Address() + `"},"intent":{"agent_id":"agent-7","grant_id":"grn-1","scope_path":"reports","service":"s3"},` +
		`"issued_at":"2026-03-01T12:00:00Z","request_id":"` + r.RequestID + `"},"method":"POST","url":"https://broker.example/v1/mint-aws-creds"}`
	if signer, err := auth.RecoverAddress(text, r.Auth.Signature); err != nil || signer != strings.ToLower(wallet.Address()) {
		t.Errorf("signed by %s, %v; want %s", signer, err, wallet.Address())
	}

	if _, err := c.MintAWS(t.Context(), "session", wallet, intent, client.MintAWSOptions{IdempotencyKey: "mine"}); err != nil {
		t.Fatal(err)
	}
	again := w.sent[1]
	first := sent.header.Get("Idempotency-Key")
	if len(first) != 26 || again.header.Get("Idempotency-Key") != "mine" || again.body == sent.body {
		t.Errorf("first key %q, second %q; same body: %v", first, again.header.Get("Idempotency-Key"), again.body == sent.body)
	}
}

func TestSignCallRefusesWhatCannotBeSent(t *testing.T) {
	_, wallet := newClient(t, &wire{})
	for _, bad := range []api.MintAWSRequest{
		{RequestID: "\xff"},
		{Intent: api.Intent{AgentID: "\xff"}},
		{Intent: api.Intent{Service: "\xff"}},
		{Intent: api.Intent{ScopePath: "a\xed\xa0\xbd"}},
		{Intent: api.Intent{GrantID: "\xff"}},
	} {
		if _, err := client.SignCall(wallet, "POST", broker, bad); err == nil || !strings.Contains(err.Error(), "want UTF-8") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := client.SignCall(wallet, "POST", broker+"/\xff", api.MintAWSRequest{}); err == nil {
		t.Error("a URL that is not UTF-8 was signed")
	}
}

// A lost answer may have been a credential: only the very same request finds it.
func TestMintAWSSendsTheSameBytesAgain(t *testing.T) {
	inProgress := func() (*http.Response, error) { return refusal(api.CodeIdempotencyInProgress, "3") }
	good := func() (*http.Response, error) { return granted(credentials) }
	for _, tc := range []struct {
		name    string
		answers []func() (*http.Response, error)
		took    time.Duration
		code    api.Code // "" where the mint works
		lost    error
	}{
		{"at once", []func() (*http.Response, error){good}, 0, "", nil},
		{"lost once", []func() (*http.Response, error){lost, good}, 200 * time.Millisecond, "", nil},
		{"cut off", []func() (*http.Response, error){cutOff, good}, 200 * time.Millisecond, "", nil},
		{"still at work", []func() (*http.Response, error){inProgress, good}, 3 * time.Second, "", nil},
		{"lost, then still at work", []func() (*http.Response, error){lost, inProgress, inProgress, good}, 6200 * time.Millisecond, "", nil},
		{"at work, no time said", []func() (*http.Response, error){func() (*http.Response, error) { return refusal(api.CodeIdempotencyInProgress, "") }, good},
			200 * time.Millisecond, "", nil},
		{"at work, far too long", []func() (*http.Response, error){func() (*http.Response, error) { return refusal(api.CodeIdempotencyInProgress, "3600") }, good},
			10 * time.Second, "", nil},
		{"lost for ever", []func() (*http.Response, error){lost, lost, lost, lost, lost}, 3 * time.Second, "", errReset},
		{"cut off for ever", []func() (*http.Response, error){cutOff, cutOff, cutOff, cutOff, cutOff}, 3 * time.Second, "", io.ErrUnexpectedEOF},
		{"at work for ever", []func() (*http.Response, error){inProgress, inProgress, inProgress, inProgress, inProgress}, 12 * time.Second, api.CodeIdempotencyInProgress, nil},
		{"lost, then refused", []func() (*http.Response, error){lost, func() (*http.Response, error) { return refusal(api.CodeGrantExhausted, "") }},
			200 * time.Millisecond, api.CodeGrantExhausted, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &wire{answer: func(n int) (*http.Response, error) { return tc.answers[n-1]() }}
				c, wallet := newClient(t, w)
				start := time.Now()
				got, err := c.MintAWS(t.Context(), "session", wallet, intent, client.MintAWSOptions{})
				var e *api.Error
				switch {
				case tc.lost != nil && !errors.Is(err, tc.lost):
					t.Errorf("got %v, want %v", err, tc.lost)
				case tc.code != "" && (!errors.As(err, &e) || e.Code != tc.code):
					t.Errorf("got %v, want %s", err, tc.code)
				case tc.lost == nil && tc.code == "" && (err != nil || got.AccessKeyID != "ASIA1"):
					t.Errorf("got %+v, %v", got, err)
				case err != nil && got.AccessKeyID != "":
					t.Error("a failed mint returns a credential")
				}
				if took := time.Since(start); took != tc.took || len(w.sent) != len(tc.answers) {
					t.Errorf("sent %d times in %v, want %d in %v", len(w.sent), took, len(tc.answers), tc.took)
				}
				for _, again := range w.sent[1:] {
					if again.body != w.sent[0].body || again.header.Get("Idempotency-Key") != w.sent[0].header.Get("Idempotency-Key") || again.url != w.sent[0].url {
						t.Errorf("sent %+v, then %+v", w.sent[0], again)
					}
				}
			})
		})
	}
}

// What the broker decided stands: asking again would use up what is not there, or
// call STS again for nothing.
func TestMintAWSTakesARefusalAsItCame(t *testing.T) {
	for _, code := range api.Codes() {
		if code == api.CodeIdempotencyInProgress {
			continue
		}
		synctest.Test(t, func(t *testing.T) {
			w := &wire{answer: func(int) (*http.Response, error) { return refusal(code, "7") }}
			c, wallet := newClient(t, w)
			_, err := c.MintAWS(t.Context(), "session", wallet, intent, client.MintAWSOptions{})
			var e *api.Error
			if !errors.As(err, &e) || e.Code != code || e.Status != api.KindOf(code).Status || e.RetryAfter != 7*time.Second || len(w.sent) != 1 {
				t.Errorf("%s: got %#v after %d requests", code, err, len(w.sent))
			}
		})
	}
}

func TestMintAWSEndsWithItsContext(t *testing.T) {
	for name, answer := range map[string]func() (*http.Response, error){
		"lost":          lost,
		"still at work": func() (*http.Response, error) { return refusal(api.CodeIdempotencyInProgress, "5") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				defer cancel()
				w := &wire{answer: func(int) (*http.Response, error) { return answer() }}
				c, wallet := newClient(t, w)
				start := time.Now()
				_, err := c.MintAWS(ctx, "session", wallet, intent, client.MintAWSOptions{})
				if err == nil || len(w.sent) != 1 || time.Since(start) != 100*time.Millisecond {
					t.Errorf("%v, sent %d times in %v", err, len(w.sent), time.Since(start))
				}
			})
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": 0, "0": 0, "1": time.Second, "3600": time.Hour,
		"-1": 0, "1.5": 0, "soon": 0, "99999999999999999999": 0, "Sun, 01 Mar 2026 12:00:00 GMT": 0,
	} {
		w := &wire{answer: func(int) (*http.Response, error) { return refusal(api.CodeBudgetSpent, header) }}
		c, _ := newClient(t, w)
		_, err := c.MintOIDC(t.Context(), "session")
		var e *api.Error
		if !errors.As(err, &e) || e.RetryAfter != want {
			t.Errorf("Retry-After %q: got %#v, want %v", header, err, want)
		}
	}
}

func TestGrantCalls(t *testing.T) {
	var answer any
	w := &wire{answer: func(int) (*http.Response, error) { return granted(answer) }}
	c, _ := newClient(t, w)

	answer = api.Grant{GrantID: "grn-1", Actions: []string{"get"}}
	request := api.GrantCreateRequest{DaemonAddress: "0x1", Service: "s3", ScopePath: "p", ExpiresAt: 5, MaxUses: 0}
	if g, err := c.GrantCreate(t.Context(), "session", request); err != nil || g.GrantID != "grn-1" {
		t.Errorf("created %+v, %v", g, err)
	}
	answer = api.GrantListResponse{Grants: []api.Grant{{GrantID: "grn-1"}}, Cursor: "next"}
	for _, page := range []struct {
		cursor string
		limit  int
	}{{"", 0}, {"a&limit=9", 0}, {"", 20}, {"b", 5}} {
		if l, err := c.GrantList(t.Context(), "session", page.cursor, page.limit); err != nil || len(l.Grants) != 1 || l.Cursor != "next" {
			t.Errorf("listed %+v, %v", l, err)
		}
	}
	answer = api.GrantRevokeResponse{Revoked: true, GrantID: "grn-1", RevokedAt: 7}
	if r, err := c.GrantRevoke(t.Context(), "session", "grn-1"); err != nil || !r.Revoked || r.RevokedAt != 7 {
		t.Errorf("revoked %+v, %v", r, err)
	}

	want := []sentRequest{
		{method: "POST", url: broker + "/v1/grant/create", body: `{"daemon_address":"0x1","service":"s3","scope_path":"p","expires_at":5,"max_uses":0}`},
		{method: "GET", url: broker + "/v1/grant/list"},
		{method: "GET", url: broker + "/v1/grant/list?cursor=a%26limit%3D9"},
		{method: "GET", url: broker + "/v1/grant/list?limit=20"},
		{method: "GET", url: broker + "/v1/grant/list?cursor=b&limit=5"},
		{method: "POST", url: broker + "/v1/grant/revoke", body: `{"grant_id":"grn-1"}`},
	}
	if len(w.sent) != len(want) {
		t.Fatalf("sent %d requests, want %d", len(w.sent), len(want))
	}
	for i, sent := range w.sent {
		if sent.method != want[i].method || sent.url != want[i].url || sent.body != want[i].body || sent.header.Get("Authorization") != "Bearer session" {
			t.Errorf("sent %+v, want %+v", sent, want[i])
		}
	}
}

// Whatever answers in the broker's place, what is no credential is not handed on: with
// an empty variable an SDK would look for other credentials.
func TestMintAWSRefusesWhatAreNoCredentials(t *testing.T) {
	for name, spoil := range map[string]func(*api.MintAWSResponse){
		"nothing":             func(a *api.MintAWSResponse) { *a = api.MintAWSResponse{} },
		"no id":               func(a *api.MintAWSResponse) { a.AccessKeyID = "" },
		"no secret":           func(a *api.MintAWSResponse) { a.SecretAccessKey = "" },
		"no token":            func(a *api.MintAWSResponse) { a.SessionToken = "" },
		"no tenant":           func(a *api.MintAWSResponse) { a.Wallet = "" },
		"no end":              func(a *api.MintAWSResponse) { a.Expiration = 0 },
		"a line break":        func(a *api.MintAWSResponse) { a.SessionToken = "IQo=\nAWS_PROFILE=other" },
		"a NUL":               func(a *api.MintAWSResponse) { a.SecretAccessKey = "abc\x00" },
		"a terminal's escape": func(a *api.MintAWSResponse) { a.AccessKeyID = "ASIA\x1b[2J" },
		"beyond ASCII":        func(a *api.MintAWSResponse) { a.Wallet = "0x\u009b" },
		"a space":             func(a *api.MintAWSResponse) { a.AccessKeyID = "ASIA 1" },
	} {
		bad := credentials
		spoil(&bad)
		w := &wire{answer: func(int) (*http.Response, error) { return granted(bad) }}
		c, wallet := newClient(t, w)
		got, err := c.MintAWS(t.Context(), "session", wallet, intent, client.MintAWSOptions{})
		if err == nil || got.AccessKeyID != "" || len(w.sent) != 1 || strings.Contains(err.Error(), credentials.SecretAccessKey) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%s: %+v, %v, sent %d times", name, got, err, len(w.sent))
		}
	}
}
