package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"agentkeys/broker"
)

// failure is the STSError of a call that gave nothing, after what holds of every
// one of them.
func failure(t *testing.T, c broker.Credentials, err error) *broker.STSError {
	t.Helper()
	var e *broker.STSError
	if !errors.As(err, &e) {
		t.Fatalf("want an STSError, got %v", err)
	}
	if c != (broker.Credentials{}) {
		t.Error("there are credentials beside the error")
	}
	if (e.Code == "") == (e.Fault == "") {
		t.Errorf("want either a code or a fault, got %q and %q", e.Code, e.Fault)
	}
	for name, text := range map[string]string{"error": e.Error(), "message": e.Message, "fault": e.Fault} {
		if n := len([]rune(text)); n > 450 {
			t.Errorf("want a short %s, got %d characters", name, n)
		}
	}
	noSecrets(t, e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", *e))
	return e
}

// Where it is not certain that STS issued nothing, the call is made once and the
// error says Unknown.
func TestSTSUnknown(t *testing.T) {
	whole := goodMembers().xml()
	elsewhere := "arn:aws:sts::111122223333:assumed-role/"
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		status int
		fault  string
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 0, "no answer: context deadline exceeded"},
		{"hangs up before the answer", raw(""), 0, "no answer: EOF"},
		{"hangs up within the status line", raw("HTTP/1.1 2"), 0, "no answer: "},
		{"hangs up within the header", raw("HTTP/1.1 200 OK\r\nContent-Type: text"), 0, "no answer: "},
		{"hangs up within the answer", raw("HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + whole[:700]), 200, "half an answer of status 200: unexpected EOF"},
		{"hangs up within a chunk", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7d0\r\n" + whole[:700]), 200, "half an answer of status 200: unexpected EOF"},
		{"hangs up within an error", raw("HTTP/1.1 503 no\r\nContent-Length: 2000\r\n\r\n" + errorXML("Throttling", "Rate exceeded")), 503, "half an answer of status 503"},
		{"half the XML, without a length", raw("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + whole[:700]), 200, "to its end"},
		{"all but the last tag", says(200, strings.TrimSuffix(whole, "AssumeRoleWithWebIdentityResponse>\n")), 200, "to its end"},
		{"a piece is missing in the middle", says(200, whole[:600]+whole[750:]), 200, "none of STS"},
		{"empty", says(200, ""), 200, "to its end"},
		{"HTML", says(200, "<html><body>Sign in to the hotel's network</body></html>"), 200, "to its end"},
		{"an error with status 200", refuses(200, "Throttling", "Rate exceeded"), 200, "to its end"},
		{"no credentials", says(200, "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"), 200, "without credentials"},
		{"no AccessKeyId", gives(goodMembers().without("AccessKeyId")), 200, "without AccessKeyId"},
		{"no SecretAccessKey", gives(goodMembers().without("SecretAccessKey")), 200, "without SecretAccessKey"},
		{"no SessionToken", gives(goodMembers().without("SessionToken")), 200, "without SessionToken"},
		{"no Expiration", gives(goodMembers().without("Expiration")), 200, "without Expiration"},
		{"empty SessionToken", gives(goodMembers().with("SessionToken", "")), 200, "without SessionToken"},
		{"Expiration that is no time", gives(goodMembers().with("Expiration", "soon")), 200, "none of STS"},
		{"expired", gives(goodMembers().with("Expiration", "1999-12-31T23:59:59Z")), 200, "have expired"},
		{"of nobody", gives(goodMembers().without("Arn")), 200, "for another session"},
		{"of another role", gives(goodMembers().with("Arn", elsewhere+"admin/"+stsSession)), 200, "for another session"},
		{"of another session", gives(goodMembers().with("Arn", elsewhere+"agentkeys-data-role/agentkeys-1")), 200, "for another session"},
		{"of another account", gives(goodMembers().with("Arn", "arn:aws:sts::999999999999:assumed-role/agentkeys-data-role/"+stsSession)), 200, "for another session"},
		{"500 without a body", says(500, ""), 500, "none of STS"},
		{"503 without a body", says(503, ""), 503, "none of STS"},
		{"429 without a body", says(429, ""), 429, "none of STS"},
		{"503 of a proxy", says(503, "<html><h1>503</h1><p>SlowDown</p></html>"), 503, "none of STS"},
		{"an error document of S3", says(503, "<Error><Code>SlowDown</Code></Error>"), 503, "none of STS"},
		{"half an error document", says(503, errorXML("Throttling", "Rate exceeded")[:130]), 503, "none of STS"},
		{"an error without a code", refuses(503, "", "Rate exceeded"), 503, "none of STS"},
		{"an error whose code is none", refuses(503, "Throttling please", "Rate exceeded"), 503, "none of STS"},
		{"an error whose code is the SDK's for none", refuses(503, "UnknownError", "Rate exceeded"), 503, "none of STS"},
		{"an error whose code is the token's", refuses(503, "A"+strings.ReplaceAll(stsJWT, ".", "")[:60], ""), 503, "none of STS"},
		{"10 MB", says(200, whole+strings.Repeat(" ", 10<<20)), 200, "want at most 65536 bytes"},
		{"10 MB of error", says(503, errorXML("Throttling", strings.Repeat("x", 10<<20))), 503, "want at most 65536 bytes"},
		{"the token as status", raw("HTTP/1.1 " + stsJWT + "\r\n\r\n"), 0, "no answer: "},
		{"the token as header", raw("HTTP/1.1 200 OK\r\n" + stsJWT + "\r\n\r\n"), 0, "no answer: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeSTS(t, time.Minute, test.answer)
				defer f.close()
				c, err := f.AssumeRole(t.Context(), goodCall())
				e := failure(t, c, err)
				if n := f.requests.Load(); n != 1 || e.Attempts != 1 {
					t.Errorf("want 1 request, got %d of %d attempts", n, e.Attempts)
				}
				if !e.Unknown || e.Status != test.status || !strings.Contains(e.Fault, test.fault) {
					t.Errorf("want unknown, %d and %q; got %+v", test.status, test.fault, e)
				}
			})
		})
	}
}

// Whoever stops waiting for the answer does not know what STS did.
func TestSTSCallerGoesAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFakeSTS(t, time.Minute, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
		defer f.close()
		c, err := f.AssumeRole(ctx, goodCall())
		if e := failure(t, c, err); !e.Unknown || e.Attempts != 1 || f.requests.Load() != 1 {
			t.Errorf("want unknown after one request, got %+v and %d", e, f.requests.Load())
		}
		// Asked again with the same context, nothing is sent, and that is known.
		c, err = f.AssumeRole(ctx, goodCall())
		if e := failure(t, c, err); e.Unknown || f.requests.Load() != 1 {
			t.Errorf("want no second request, got %+v and %d", e, f.requests.Load())
		}
	})
}

// net/http repeats by itself what it takes to be safe when a kept connection breaks.
// This call is not.
func TestSTSKeptConnectionBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSTS(t, time.Minute, gives(goodMembers()), raw(""), gives(goodMembers()))
		defer f.close()
		if _, err := f.AssumeRole(t.Context(), goodCall()); err != nil {
			t.Fatal(err)
		}
		c, err := f.AssumeRole(t.Context(), goodCall())
		if e := failure(t, c, err); !e.Unknown || e.Attempts != 1 || f.requests.Load() != 2 || f.dials.Load() != 1 {
			t.Errorf("want unknown after one request on the kept connection, got %+v, %d requests on %d", e, f.requests.Load(), f.dials.Load())
		}
	})
}

// An answer without end is not read to its end.
func TestSTSEndlessAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 64 << 20
		var written atomic.Int64
		f := newFakeSTS(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
			for chunk := make([]byte, 4<<10); written.Load() < most; {
				n, err := w.Write(chunk)
				if written.Add(int64(n)); err != nil {
					return
				}
			}
		})
		c, err := f.AssumeRole(t.Context(), goodCall())
		if e := failure(t, c, err); !e.Unknown || e.Status != 200 {
			t.Errorf("want unknown with status 200, got %+v", e)
		}
		f.close() // and waits for the handler
		if n := written.Load(); n > 1<<20 {
			t.Errorf("want little more than 64 kB taken, got %d bytes", n)
		}
	})
}

// What STS refuses is refused at once, but where asking again may help.
func TestSTSRefusals(t *testing.T) {
	for _, test := range []struct {
		status        int
		code, message string
		retried       bool
	}{
		{403, "AccessDenied", "Not authorized to perform sts:TagSession", false},
		{400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://issuer.example", false},
		{400, "ExpiredTokenException", "Token expired: current date/time 1 must be before the expiration date/time 0", false},
		{400, "IDPRejectedClaim", "no", false},
		{400, "MalformedPolicyDocument", "Syntax errors in policy.", false},
		{400, "PackedPolicyTooLarge", "Packed policy consumes 112% of allotted space, please use smaller policy.", false},
		{403, "RegionDisabledException", "STS is not activated in this region", false},
		{400, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.", false},
		{400, "RequestExpired", "Request has expired.", false},
		{400, "Throttling", "Rate exceeded", true},
		{400, "ThrottlingException", "Rate exceeded", true},
		{503, "RequestLimitExceeded", "Request limit exceeded.", true},
		{503, "SlowDown", "Please reduce your request rate.", true},
		{503, "ServiceUnavailable", "", true},
		{429, "TooManyRequests", "Too many", true},
		{400, "IDPCommunicationError", "Error communicating with the identity provider", true},
	} {
		t.Run(test.code, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				no := refuses(test.status, test.code, test.message)
				f := newFakeSTS(t, time.Hour, no, no, gives(goodMembers()), no)
				defer f.close()
				c, err := f.AssumeRole(t.Context(), goodCall())
				if test.retried {
					if err != nil || c.SecretAccessKey.Reveal() != stsSecret || f.requests.Load() != 3 {
						t.Fatalf("want credentials with the third request, got %v after %d", err, f.requests.Load())
					}
					c, err = f.AssumeRole(t.Context(), goodCall())
				}
				e := failure(t, c, err)
				if e.Code != test.code || e.Message != test.message || e.Status != test.status || e.RequestID != stsRequestID || e.Unknown {
					t.Errorf("want %d %s: %s, known; got %+v", test.status, test.code, test.message, e)
				}
				if !strings.Contains(e.Error(), test.code) || !strings.Contains(e.Error(), stsRequestID) {
					t.Errorf("want the code and the request's id in %q", e)
				}
				if e.Passes() != test.retried {
					t.Errorf("passes: %v, want %v", e.Passes(), test.retried)
				}
				if want := map[bool]int{false: 1, true: 8}[test.retried]; e.Attempts != want {
					t.Errorf("want %d attempts, got %d", want, e.Attempts)
				}
			})
		})
	}
}

// Where STS says that it failed itself, or ran out of time, it may have issued a credential
// before: the call is made once, its outcome is unknown, and it passes.
func TestSTSFailsWithin(t *testing.T) {
	for _, test := range []struct {
		status int
		code   string
	}{
		{500, "InternalFailure"}, {500, "InternalError"}, {500, "AccessDenied"}, {501, "NotImplemented"}, {502, "BadGateway"}, {503, "NotInTheList"}, {504, "GatewayTimeout"},
		{400, "RequestTimeout"}, {400, "RequestTimeoutException"}, {408, "RequestTimeout"},
	} {
		t.Run(fmt.Sprint(test.status, " ", test.code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeSTS(t, time.Hour, refuses(test.status, test.code, "It failed."), gives(goodMembers()))
				defer f.close()
				c, err := f.AssumeRole(t.Context(), goodCall())
				e := failure(t, c, err)
				if !e.Unknown || !e.Passes() || e.Attempts != 1 || f.requests.Load() != 1 {
					t.Errorf("want unknown, passing, after one request; got %+v after %d", e, f.requests.Load())
				}
				if e.Code != test.code || e.Status != test.status || !strings.Contains(e.Error(), "may have issued a credential") {
					t.Errorf("want %d %s, got %v", test.status, test.code, e)
				}
			})
		})
	}
}

// What AWS's own SDK has a client try again passes here as well. What it throttles by has
// issued nothing, and is asked again; of the rest that is not certain.
func TestSTSPassesWhatTheSDKTriesAgain(t *testing.T) {
	for name, test := range map[string]struct {
		codes   map[string]struct{}
		unknown bool
	}{"throttling": {retry.DefaultThrottleErrorCodes, false}, "transient": {retry.DefaultRetryableErrorCodes, true}} {
		if len(test.codes) == 0 {
			t.Fatalf("the SDK has no %s errors", name)
		}
		for code := range test.codes {
			checkPasses(t, 400, code, test.unknown)
		}
	}
	for status := range retry.DefaultRetryableHTTPStatusCodes {
		checkPasses(t, status, "SomethingFailed", true)
		checkPasses(t, status, "Throttling", false)
	}
	checkPasses(t, 400, "IDPCommunicationError", false)
	checkPasses(t, 429, "SomethingElse", false)
}

// checkPasses has STS refuse once, and then give.
func checkPasses(t *testing.T, status int, code string, unknown bool) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSTS(t, time.Hour, refuses(status, code, ""), gives(goodMembers()))
		defer f.close()
		c, err := f.AssumeRole(t.Context(), goodCall())
		if !unknown {
			if err != nil || f.requests.Load() != 2 {
				t.Errorf("%d %s: want credentials with the second request, got %v after %d", status, code, err, f.requests.Load())
			}
			return
		}
		if e := failure(t, c, err); !e.Unknown || !e.Passes() || f.requests.Load() != 1 {
			t.Errorf("%d %s: want unknown and passing after one request, got %+v after %d", status, code, e, f.requests.Load())
		}
	})
}

// Waiting ends where it would pass the deadline, be it the caller's or the call's.
func TestSTSThrottledUntilTheDeadline(t *testing.T) {
	for name, limit := range map[string]struct{ timeout, caller time.Duration }{
		"of the caller": {time.Hour, 2 * time.Second}, "of the call": {2 * time.Second, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answer := refuses(400, "Throttling", "Rate exceeded")
				f := newFakeSTS(t, limit.timeout, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("X-Amz-Retry-After", "900")
					answer(w, r)
				})
				defer f.close()
				ctx, cancel := context.WithTimeout(t.Context(), limit.caller)
				defer cancel()
				start := time.Now()
				c, err := f.AssumeRole(ctx, goodCall())
				e := failure(t, c, err)
				// Waits of 900 ms at the least: the first and the second fit, the third does not.
				if n := int(f.requests.Load()); n != e.Attempts || n < 2 || n > 3 {
					t.Errorf("want 2 or 3 requests, got %d of %d attempts", n, e.Attempts)
				}
				if e.Code != "Throttling" || e.Unknown {
					t.Errorf("want Throttling, known; got %+v", e)
				}
				if took := time.Since(start); took >= 2*time.Second {
					t.Errorf("want it to give up before the deadline, took %v", took)
				}
			})
		})
	}
}

// A lost answer after a throttled one is as unknown as any.
func TestSTSLostAfterThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSTS(t, time.Hour, refuses(400, "Throttling", "Rate exceeded"), raw(""), gives(goodMembers()))
		defer f.close()
		c, err := f.AssumeRole(t.Context(), goodCall())
		if e := failure(t, c, err); !e.Unknown || e.Attempts != 2 || f.requests.Load() != 2 {
			t.Errorf("want unknown after 2 requests, got %+v and %d", e, f.requests.Load())
		}
	})
}

// Pauses are random below a bound that doubles, and keep to AWS's hint.
func TestSTSPauses(t *testing.T) {
	for attempt, want := range map[int]time.Duration{1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 4: 1600 * time.Millisecond, 6: 5 * time.Second, 8: 5 * time.Second} {
		if got := broker.Backoff(attempt); got != want {
			t.Errorf("attempt %d: want %v at most, got %v", attempt, want, got)
		}
	}
	different := map[time.Duration]bool{}
	for range 100 {
		d := broker.Wait(3, 0)
		different[d] = true
		if d < 0 || d >= broker.Backoff(3) {
			t.Errorf("want a wait below %v, got %v", broker.Backoff(3), d)
		}
		if d := broker.Wait(1, 3*time.Second); d != 3*time.Second {
			t.Errorf("want the hint of 3 s, got %v", d)
		}
		if d := broker.Wait(1, time.Hour); d < 5*time.Second || d >= 5*time.Second+broker.Backoff(1) {
			t.Errorf("want no more than 5 s beside a hint of an hour, got %v", d)
		}
	}
	if len(different) < 50 {
		t.Errorf("want random waits, got %d different ones of 100", len(different))
	}
}

// A connection that could not be made carried nothing, so the call is made again.
func TestSTSNoConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSTS(t, time.Hour, gives(goodMembers()))
		defer f.close()
		f.refuseDials = 2
		if _, err := f.AssumeRole(t.Context(), goodCall()); err != nil || f.dials.Load() != 3 || f.requests.Load() != 1 {
			t.Errorf("want credentials with the third connection, got %v with %d", err, f.dials.Load())
		}
		f.transport.CloseIdleConnections()
		f.refuseDials = 1 << 20
		c, err := f.AssumeRole(t.Context(), goodCall())
		e := failure(t, c, err)
		if e.Unknown || e.Attempts != 8 || e.Status != 0 || !strings.Contains(e.Fault, "no connection: dial tcp: connection refused") || f.requests.Load() != 1 {
			t.Errorf("want no connection, known, after 8 attempts; got %+v", e)
		}
	})
}

// A server that cannot prove who it is gets no token, and another try mends nothing.
func TestSTSUntrustedCertificate(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	c, err := newSTS(t, server.URL).AssumeRole(t.Context(), goodCall())
	if e := failure(t, c, err); e.Unknown || e.Attempts != 1 || !strings.Contains(e.Fault, "no connection: tls: ") || requests.Load() != 0 {
		t.Errorf("want one attempt without a request, got %+v and %d", e, requests.Load())
	}
}

// A redirect is not followed, wherever it points.
func TestSTSRedirect(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		var elsewhere, requests atomic.Int32
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			elsewhere.Add(1)
			gives(goodMembers())(w, r)
		}))
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			http.Redirect(w, r, other.URL, status)
		}))
		c, err := newSTS(t, server.URL).AssumeRole(t.Context(), goodCall())
		if e := failure(t, c, err); !e.Unknown || e.Status != status || e.Attempts != 1 || requests.Load() != 1 || elsewhere.Load() != 0 {
			t.Errorf("%d: want it not followed, got %+v, %d requests and %d elsewhere", status, e, requests.Load(), elsewhere.Load())
		}
		server.Close()
		other.Close()
	}
}

// A header without end is cut off as a body is.
func TestSTSEndlessHeader(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("X-Amz-Meta", strings.Repeat("x", 1<<20))
		gives(goodMembers())(w, r)
	}))
	defer server.Close()
	c, err := newSTS(t, server.URL).AssumeRole(t.Context(), goodCall())
	if e := failure(t, c, err); !e.Unknown || requests.Load() != 1 {
		t.Errorf("want unknown after one request, got %+v and %d", e, requests.Load())
	}
}

// A hostile endpoint that sends the token back gets it into no error.
func TestSTSEchoes(t *testing.T) {
	parts := strings.Split(stsJWT, ".")
	wrapped := strings.Join(strings.SplitAfter(stsJWT, "Q"), "\n")
	for name, message := range map[string]string{
		"whole": "bad token " + stsJWT + " sorry", "header": parts[0], "claims": "x" + parts[1] + "x", "signature": "<![CDATA[" + parts[2] + "]]>",
		"wrapped": wrapped, "spaced": strings.Join(strings.Split(stsJWT, ""), " "), "dotted": strings.Join(strings.Split(stsJWT, ""), "."),
		"behind much else": strings.Repeat("word ", 58) + stsJWT, "often": strings.Repeat(stsJWT+" ", 50), "another token": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl",
		"with control characters": "\u009b31m \u202e \u2028" + stsJWT + "\t\r\n", "very long": strings.Repeat("long ", 10000),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeSTS(t, time.Minute, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("X-Amzn-Requestid", parts[2][:60])
					w.WriteHeader(http.StatusBadRequest)
					_, _ = io.WriteString(w, errorXML("InvalidIdentityToken", message))
				})
				defer f.close()
				c, err := f.AssumeRole(t.Context(), goodCall())
				e := failure(t, c, err)
				if e.Code != "InvalidIdentityToken" || e.Unknown || e.Message == "" || len([]rune(e.Message)) > 300 || e.RequestID != "" {
					t.Errorf("want InvalidIdentityToken, a short message and no request id, got %+v", e)
				}
				if strings.Contains(e.Error(), "eyJ") {
					t.Errorf("a token is left in %q", e)
				}
			})
		})
	}
}

// roundTrip answers in place of a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An answer that breaks off anywhere, with no length to tell it by, is none.
func TestSTSEveryTruncation(t *testing.T) {
	whole := strings.TrimSpace(goodMembers().xml())
	for n := range len(whole) + 1 {
		s, err := broker.NewSTS(broker.STSConfig{Region: "us-east-1", HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(whole[:n])), ContentLength: -1, Request: r}, nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.AssumeRole(t.Context(), goodCall())
		if n == len(whole) {
			if err != nil {
				t.Errorf("the whole answer: %v", err)
			}
			continue
		}
		if e := failure(t, c, err); !e.Unknown {
			t.Errorf("%d of %d bytes: want unknown, got %v", n, len(whole), err)
		}
	}
}

// certainlyNothing says whether an error of STS is of a call that issued nothing: it refused,
// or was throttling, too busy, or without the issuer's keys.
func certainlyNothing(status int, code string) bool {
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	_, late := retry.DefaultRetryableErrorCodes[code]
	passing := throttled || status == 429 || code == "ServiceUnavailable" || code == "IDPCommunicationError"
	return code != "" && (passing || status < 500 && !late)
}

// FuzzSTSAnswer holds that any answer at all is whole credentials, a refusal with a
// code, or unknown, and that no text shows the token.
func FuzzSTSAnswer(f *testing.F) {
	whole := goodMembers().with("Expiration", "2999-01-01T00:00:00Z").xml()
	for _, body := range []string{whole, whole[:500], errorXML("AccessDenied", "no"), errorXML("Throttling", stsJWT), errorXML(stsJWT, ""), "<Error/>", "", stsJWT,
		strings.Replace(whole, "</Credentials>", "</Credentials><Credentials></Credentials>", 1), strings.Replace(whole, stsSecret, "<x>"+stsSecret+"</x>", 1)} {
		f.Add(200, body, stsRequestID, "7")
		f.Add(503, body, stsJWT[:40], "-1")
	}
	f.Fuzz(func(t *testing.T, status int, body, requestID, hint string) {
		if status < 200 || status > 599 {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		s, err := broker.NewSTS(broker.STSConfig{Region: "us-east-1", HTTPClient: &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			cancel() // so that it is not asked again
			h := http.Header{"X-Amzn-Requestid": {requestID}, "X-Amz-Retry-After": {hint}}
			return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1, Request: r}, nil
		})}})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.AssumeRole(ctx, goodCall())
		if err == nil {
			if status >= 300 || c.AccessKeyID == "" || c.SecretAccessKey.Reveal() == "" || c.SessionToken.Reveal() == "" || !c.ExpiresAt.After(time.Now()) {
				t.Errorf("%d: want whole credentials, got %+v", status, c)
			}
			return
		}
		var e *broker.STSError
		if !errors.As(err, &e) || e.Unknown == certainlyNothing(status, e.Code) || c != (broker.Credentials{}) {
			t.Errorf("%d: want unknown unless STS says what came before it issued anything, got %+v", status, err)
		}
		for _, part := range strings.Split(stsJWT, ".") {
			for i := 0; i+8 <= len(part); i++ {
				if strings.Contains(err.Error(), part[i:i+8]) {
					t.Fatalf("%q of the token is in %q", part[i:i+8], err)
				}
			}
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("want a printable line, got %q", err)
		}
	})
}
