package broker_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"agentkeys/agentkeystest"
)

// answer is a response read to its end.
type answer struct {
	*http.Response
	body []byte
}

// send makes a raw request, for what the client would never send.
func send(t *testing.T, k *agentkeystest.Broker, method, path, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, k.Issuer+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, data}
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	d := json.NewDecoder(bytes.NewReader(a.body))
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decoding %q: %v", a.body, err)
	}
	return v
}

// refused checks that an answer is a whole problem document of a status and a code.
func (a answer) refused(t *testing.T, status int, code string) {
	t.Helper()
	if a.StatusCode != status || a.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("got %d %s %s; want %d and a problem document", a.StatusCode, a.Header.Get("Content-Type"), a.body, status)
		return
	}
	p := a.json(t)
	if p["code"] != code || p["status"] != float64(status) {
		t.Errorf("got code %v and status %v, want %s and %d; detail: %v", p["code"], p["status"], code, status, p["detail"])
	}
	for _, member := range []string{"type", "title", "detail", "instance", "request_id", "remediation"} {
		if s, _ := p[member].(string); s == "" {
			t.Errorf("%s: member %s is missing or empty", code, member)
		}
	}
	if p["request_id"] != a.Header.Get("X-Request-Id") {
		t.Errorf("request_id %v differs from the header %q", p["request_id"], a.Header.Get("X-Request-Id"))
	}
	if status == http.StatusUnauthorized && !strings.Contains(a.Header.Get("WWW-Authenticate"), `Bearer realm="agentkeys", error="`) {
		t.Errorf("401 with WWW-Authenticate %q", a.Header.Get("WWW-Authenticate"))
	}
	if a.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("a refusal may be cached: %q", a.Header.Get("Cache-Control"))
	}
}

const jsonType = "application/json"

// claims reads a token without checking it; the tests of package token check.
func claims(t *testing.T, jwt string) map[string]any {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %d parts", len(parts))
	}
	data, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
