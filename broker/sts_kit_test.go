package broker_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"agentkeys/broker"
	"agentkeys/token"
)

// What the fake STS's answers hold, and what no error may show.
const (
	stsRole    = "arn:aws:iam::111122223333:role/agentkeys-data-role"
	stsSession = "agentkeys-0123456789"
	stsSecret  = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
	stsToken   = "IQoJb3JpZ2luX2VjEJTzyxwvutsrqponmlk"
)

// stsJWT looks like a web identity token and is signed by nobody.
var stsJWT = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256","kid":"ak-oidc-test"}`)) + "." +
	base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"https://issuer.example","sub":"agentkeys:agent:0x00000000000000000000000000000000000000aa"}`)) + "." +
	base64.RawURLEncoding.EncodeToString([]byte("a signature of sixty-four bytes, which nobody has ever computed."))

func goodCall() broker.AssumeRole {
	return broker.AssumeRole{
		RoleARN: stsRole, SessionName: stsSession, Token: token.NewSecret(stsJWT), Duration: 15 * time.Minute,
		Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`,
	}
}

// members are those of an answer by their names; an edit takes one out or changes
// it.
type members map[string]string

func (m members) without(name string) members { delete(m, name); return m }

func (m members) with(name, value string) members { m[name] = value; return m }

func goodMembers() members {
	return members{
		"AccessKeyId": "ASIAEXAMPLEEXAMPLE00", "SecretAccessKey": stsSecret, "SessionToken": stsToken,
		"Expiration": time.Now().Add(15 * time.Minute).UTC().Format(time.RFC3339),
		"Arn":        "arn:aws:sts::111122223333:assumed-role/agentkeys-data-role/" + stsSession,
	}
}

// xml is the answer as STS writes it.
func (m members) xml() string {
	element := func(name string) string {
		if _, ok := m[name]; !ok {
			return ""
		}
		return "<" + name + ">" + m[name] + "</" + name + ">"
	}
	var credentials, user string
	for _, name := range []string{"SessionToken", "SecretAccessKey", "Expiration", "AccessKeyId"} {
		credentials += element(name)
	}
	if arn := element("Arn"); arn != "" {
		user = "<AssumedRoleUser>" + arn + "<AssumedRoleId>AROAEXAMPLE:x</AssumedRoleId></AssumedRoleUser>"
	}
	return `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult>` +
		`<SubjectFromWebIdentityToken>agentkeys:agent:0x</SubjectFromWebIdentityToken><Audience>sts.amazonaws.com</Audience>` + user +
		`<Credentials>` + credentials + `</Credentials><Provider>arn:aws:iam::111122223333:oidc-provider/issuer.example</Provider>` +
		`<PackedPolicySize>26</PackedPolicySize></AssumeRoleWithWebIdentityResult>` +
		`<ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata></AssumeRoleWithWebIdentityResponse>` + "\n"
}

const stsRequestID = "c6104cbe-af31-11e0-8154-cbc7ccf896c7"

// says answers with a status and a body, as STS does.
func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/xml")
		w.Header().Set("X-Amzn-Requestid", stsRequestID)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func gives(m members) http.HandlerFunc { return says(http.StatusOK, m.xml()) }

func errorXML(code, message string) string {
	return `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>` + code + `</Code><Message>` + message +
		`</Message></Error><RequestId>` + stsRequestID + `</RequestId></ErrorResponse>`
}

func refuses(status int, code, message string) http.HandlerFunc {
	return says(status, errorXML(code, message))
}

// raw writes bytes in place of an answer and hangs up.
func raw(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		_, _ = io.WriteString(conn, text)
		_ = conn.Close()
	}
}

// fakeSTS is an STS that answers as it is told and counts. It lives on a network
// in memory, so that synctest's clock runs while a caller waits for it.
type fakeSTS struct {
	*broker.STS
	requests atomic.Int32
	dials    atomic.Int32
	// refuseDials is how many connections fail to be made first.
	refuseDials int32
	server      *httptest.Server
	transport   *http.Transport
}

// newFakeSTS answers its nth request with the nth handler, and all further ones
// with the last. It is for the inside of a synctest bubble; close ends it.
func newFakeSTS(t *testing.T, timeout time.Duration, answers ...http.HandlerFunc) *fakeSTS {
	t.Helper()
	f := &fakeSTS{}
	network := newPipes()
	f.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := f.requests.Add(1)
		checkRequest(t, r)
		answers[min(int(n), len(answers))-1](w, r)
	}))
	if err := f.server.Listener.Close(); err != nil {
		t.Fatal(err)
	}
	f.server.Listener = network
	f.server.Start()
	f.transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if n := f.dials.Add(1); n <= f.refuseDials {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}
		}
		return network.dial(ctx)
	}}
	s, err := broker.NewSTS(broker.STSConfig{Region: "us-east-1", Endpoint: f.server.URL, Timeout: timeout, HTTPClient: &http.Client{Transport: f.transport}})
	if err != nil {
		t.Fatal(err)
	}
	f.STS = s
	return f
}

func (f *fakeSTS) close() {
	f.transport.CloseIdleConnections()
	f.server.CloseClientConnections()
	f.server.Close()
}

// checkRequest holds every request to what the call must be: a form with all
// parameters, unsigned, with no header that came from the environment.
func checkRequest(t *testing.T, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Error(err)
	}
	a := goodCall()
	for name, want := range map[string]string{
		"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": a.RoleARN, "RoleSessionName": a.SessionName,
		"Policy": a.Policy, "WebIdentityToken": stsJWT, "DurationSeconds": "900",
	} {
		if got := form[name]; len(got) != 1 || got[0] != want {
			t.Errorf("parameter %s: want %q, got %q", name, want, got)
		}
	}
	if len(form) != 7 || r.Method != http.MethodPost || r.URL.RequestURI() != "/" {
		t.Errorf("want a POST of 7 parameters to /, got %s of %d to %s", r.Method, len(form), r.URL.RequestURI())
	}
	for name := range r.Header {
		if !slices.Contains([]string{"Content-Type", "Content-Length", "User-Agent", "Accept-Encoding"}, name) {
			t.Errorf("the request has a header %s: %s", name, r.Header.Get(name))
		}
	}
	if got := r.Header.Get("User-Agent"); got != "agentkeys" {
		t.Errorf("want the user agent agentkeys, got %q", got)
	}
}

// noSecrets holds that a text shows neither the token that was sent nor what the
// answers hold.
func noSecrets(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		for _, secret := range []string{stsJWT, stsSecret, stsToken} {
			for i := 0; i+8 <= len(secret); i++ {
				if strings.Contains(text, secret[i:i+8]) {
					t.Errorf("%q shows %q", text, secret[i:i+8])
					break
				}
			}
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
			t.Errorf("want a printable line, got %q", text)
		}
	}
}

// pipes is a network with one server, in memory.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
	once    *sync.Once // guards closed from being closed again
}

func newPipes() pipes { return pipes{make(chan net.Conn), make(chan struct{}), new(sync.Once)} }

func (p pipes) dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case p.dialled <- server:
		return client, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.dialled:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error { p.once.Do(func() { close(p.closed) }); return nil }

func (p pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }
