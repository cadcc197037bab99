package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/broker"
)

// The description is held to the handlers: every operation is called, for its
// success and for a refusal, and each request and answer must be as described.
func TestOpenAPIDescribesTheHandlers(t *testing.T) {
	k, _ := agentkeystest.NewWithAWS(t)
	openapi3filter.RegisterBodyDecoder("text/html", openapi3filter.PlainBodyDecoder)
	defer openapi3filter.UnregisterBodyDecoder("text/html")
	doc := load(t, send(t, k, "GET", api.PathOpenAPI, "").body)
	doc.Servers = openapi3.Servers{{URL: k.Issuer}}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	w, session := k.SignIn(t)
	s := start(t, k, w)
	bearer := "Bearer " + session.SessionJWT
	self := agentkeystest.Party{Wallet: w, Session: session}
	g := k.Grant(t, self, self, "a")
	terms := api.GrantCreateRequest{DaemonAddress: w.Address(), Service: "s3", ScopePath: "a", ExpiresAt: k.Clock.Now().Add(time.Hour).Unix(), MaxUses: 1,
		Actions: []string{"get"}}
	endless := terms
	endless.ExpiresAt = k.Clock.Now().AddDate(10, 0, 0).Unix()
	k.Head(t)
	placed := records(t, k)[0]
	called := make(map[string]bool)
	for _, tc := range []struct {
		method, path, body, authorization string
		status                            int
	}{
		{"GET", api.PathHealth, "", "", 200},
		{"GET", api.PathReady, "", "", 200},
		{"GET", api.PathOpenAPI, "", "", 200},
		{"GET", api.PathRunbook, "", "", 200},
		{"GET", api.PathDiscovery, "", "", 200},
		{"GET", api.PathJWKS, "", "", 200},
		{"POST", api.PathWalletStart, `{"address":"` + w.Address() + `","chain_id":1}`, "", 200},
		{"POST", api.PathWalletStart, `{"address":"` + w.Address() + `","chain_id":2}`, "", 400},
		{"POST", api.PathWalletVerify, `{"request_id":"` + s.RequestID + `","signature":"` + w.SignMessage(s.SIWEMessage) + `"}`, "", 200},
		{"POST", api.PathWalletVerify, `{"request_id":"` + s.RequestID + `","signature":"` + w.SignMessage(s.SIWEMessage) + `"}`, "", 401},
		{"POST", api.PathMintOIDC, "", bearer, 200},
		{"POST", api.PathMintOIDC, "", "", 401},
		{"POST", api.PathGrantCreate, asJSON(t, terms), bearer, 200},
		{"POST", api.PathGrantCreate, asJSON(t, endless), bearer, 400},
		{"GET", api.PathGrantList, "", bearer, 200},
		{"GET", api.PathGrantList + "?limit=1&cursor=" + g.GrantID, "", bearer, 200},
		{"GET", api.PathGrantList + "?cursor=none", "", bearer, 400},
		{"POST", api.PathMintAWS, asJSON(t, k.NewCall(self, "a").Sign(t).MintAWSRequest), bearer, 200},
		{"POST", api.PathMintAWS, asJSON(t, k.NewCall(self, "a").Sign(t).MintAWSRequest), bearer, 200},
		{"POST", api.PathMintAWS, asJSON(t, k.NewCall(self, "b").Sign(t).MintAWSRequest), bearer, 403},
		{"POST", api.PathMintAWS, asJSON(t, k.NewCall(self, "a").MintAWSRequest), bearer, 401},
		{"POST", api.PathGrantRevoke, asJSON(t, api.GrantRevokeRequest{GrantID: g.GrantID}), bearer, 200},
		{"POST", api.PathGrantRevoke, `{"grant_id":"grn-none"}`, bearer, 404},
		{"GET", api.PathGrantList, "", bearer, 200},
		{"GET", api.PathAuditEntries, "", bearer, 200},
		{"GET", api.PathAuditEntries + "?limit=1&order=asc&action=grant.create&outcome=confirmed&since=1&until=9999999999&grant_id=" + g.GrantID +
			"&account=" + session.OmniAccount + "&tenant=" + g.Wallet, "", bearer, 200},
		{"GET", api.PathAuditEntries + "?account=aa", "", bearer, 403},
		{"GET", api.PathAuditEntries + "?cursor=AAAA", "", bearer, 400},
		{"GET", api.PathAuditEntries, "", "", 401},
		{"GET", api.PathAuditCheckpoint, "", "", 200},
		{"GET", api.PathAuditProof + placed.ID, "", "", 200},
		{"GET", api.PathAuditProof + "none", "", "", 404},
		{"GET", api.PathAuditConsistency + "?from=1&to=2", "", "", 200},
		{"GET", api.PathAuditConsistency + "?from=2&to=1", "", "", 400},
	} {
		validate(t, router, k.Issuer, tc.method, tc.path, tc.body, tc.authorization, tc.status)
		path, _, _ := strings.Cut(tc.path, "?")
		if strings.HasPrefix(path, api.PathAuditProof) {
			path = api.PathAuditProof + "{entry}"
		}
		called[tc.method+" "+path] = true
	}
	checkDescribed(t, doc, called)
}

// checkDescribed wants what is served to be described, and what is described to have been
// called.
func checkDescribed(t *testing.T, doc *openapi3.T, called map[string]bool) {
	t.Helper()
	for _, route := range broker.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if item := doc.Paths.Value(path); item == nil || item.GetOperation(method) == nil {
			t.Errorf("%s is served and not described", route)
		}
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if !called[method+" "+path] {
				t.Errorf("%s %s is described and was not called", method, path)
			}
		}
	}
}

func asJSON(t *testing.T, body any) string {
	t.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func load(t *testing.T, data []byte) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return doc
}

func validate(t *testing.T, find routers.Router, issuer, method, path, body, authorization string, status int) {
	t.Helper()
	newRequest := func() *http.Request {
		req, err := http.NewRequestWithContext(context.Background(), method, issuer+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if body != "" {
			req.Header.Set("Content-Type", jsonType)
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		return req
	}
	req := newRequest()
	route, params, err := find.FindRoute(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route,
		Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, IncludeResponseStatus: true}}
	if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
		t.Errorf("%s %s: the request is not as described: %v", method, path, err)
	}
	resp, err := http.DefaultTransport.RoundTrip(newRequest())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Errorf("%s %s: %d %s, want %d", method, path, resp.StatusCode, data, status)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: resp.StatusCode, Header: resp.Header,
		Body: io.NopCloser(bytes.NewReader(data)), Options: in.Options}
	if err := openapi3filter.ValidateResponse(context.Background(), out); err != nil {
		t.Errorf("%s %s: the answer is not as described: %v", method, path, err)
	}
}
