package federation

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// recorded is an answer as AWS writes it.
type recorded struct {
	status        int
	code, message string
}

func (r recorded) s3(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(r.status)
	fmt.Fprintf(w, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>1</RequestId><HostId>h</HostId></Error>", r.code, r.message)
}

func (r recorded) sts(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(r.status)
	fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>1</RequestId></ErrorResponse>`, r.code, r.message)
}

// answering is a prover whose target answers every request by h.
func answering(t *testing.T, h http.HandlerFunc) *prover {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return newProver(Proof{
		Config: testConfig(), CallTimeout: time.Minute, Now: time.Now,
		Target: Target{
			STS: server.URL, S3: server.URL,
			HTTPClient: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		},
	})
}

func s3Message(action, tail string) string {
	return "User: arn:aws:sts::111122223333:assumed-role/agentkeys-data-role/bob is not authorized to perform: " + action +
		" on resource: &quot;arn:aws:s3:::agentkeys-data/bots/x&quot; " + tail
}

func TestS3AnswersAreRead(t *testing.T) {
	const get = "s3:GetObject"
	for _, test := range []struct {
		name string
		recorded
		want    Answer
		refusal Refusal
	}{
		{"implicit", recorded{403, "AccessDenied", s3Message(get, "because no identity-based policy allows the s3:GetObject action")},
			Denied, Refusal{"identity-based policy", false}},
		{"implicit, resource", recorded{403, "AccessDenied", s3Message(get, "because no resource-based policy allows the s3:GetObject action")},
			Denied, Refusal{"resource-based policy", false}},
		{"explicit", recorded{403, "AccessDenied", s3Message(get, "with an explicit deny in a resource-based policy")},
			Denied, Refusal{"resource-based policy", true}},
		{"explicit, identity", recorded{403, "AccessDenied", s3Message(get, "with an explicit deny in an identity-based policy")},
			Denied, Refusal{"identity-based policy", true}},
		{"boundary", recorded{403, "AccessDenied", s3Message(get, "because no permissions boundary allows the s3:GetObject action")},
			Denied, Refusal{"permissions boundary", false}},
		{"boundary, explicit", recorded{403, "AccessDenied", s3Message(get, "with an explicit deny in a permissions boundary")},
			Denied, Refusal{"permissions boundary", true}},
		{"scp", recorded{403, "AccessDenied", s3Message(get, "with an explicit deny in a service control policy")},
			Denied, Refusal{"service control policy", true}},
		{"bare", recorded{403, "AccessDenied", "Access Denied"}, Denied, Refusal{"not said", false}},
		{"empty message", recorded{403, "AccessDenied", ""}, Denied, Refusal{"not said", false}},

		{"VPC endpoint", recorded{403, "AccessDenied", s3Message(get, "with an explicit deny in a VPC endpoint policy")}, Unclear, Refusal{}},
		{"VPC endpoint, implicit", recorded{403, "AccessDenied", s3Message(get, "because no VPC endpoint policy allows the s3:GetObject action")}, Unclear, Refusal{}},
		{"session policy", recorded{403, "AccessDenied", s3Message(get, "because no session policy allows the s3:GetObject action")}, Unclear, Refusal{}},
		{"KMS", recorded{403, "AccessDenied", s3Message("kms:Decrypt", "because no resource-based policy allows the kms:Decrypt action")}, Unclear, Refusal{}},
		{"presigned request expired", recorded{403, "AccessDenied", "Request has expired"}, Unclear, Refusal{}},
		{"denial without 403", recorded{400, "AccessDenied", "Access Denied"}, Unclear, Refusal{}},
		{"no such key", recorded{404, "NoSuchKey", "The specified key does not exist."}, Unclear, Refusal{}},
		{"no such bucket", recorded{404, "NoSuchBucket", "The specified bucket does not exist"}, Unclear, Refusal{}},
		{"expired", recorded{400, "ExpiredToken", "The provided token has expired."}, Unclear, Refusal{}},
		{"invalid token", recorded{400, "InvalidToken", "The provided token is malformed or otherwise invalid."}, Unclear, Refusal{}},
		{"signature", recorded{403, "SignatureDoesNotMatch", "The request signature we calculated does not match"}, Unclear, Refusal{}},
		{"unknown key", recorded{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."}, Unclear, Refusal{}},
		{"clock", recorded{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."}, Unclear, Refusal{}},
		{"region", recorded{400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"}, Unclear, Refusal{}},
		{"redirect", recorded{301, "PermanentRedirect", "The bucket you are attempting to access must be addressed using the specified endpoint."}, Unclear, Refusal{}},
		{"temporary redirect", recorded{307, "TemporaryRedirect", "Please re-send this request to the specified temporary endpoint."}, Unclear, Refusal{}},
		{"all access disabled", recorded{403, "AllAccessDisabled", "All access to this object has been disabled"}, Unclear, Refusal{}},
		{"server", recorded{500, "InternalError", "We encountered an internal error. Please try again."}, Unclear, Refusal{}},
		{"throttle", recorded{503, "SlowDown", "Please reduce your request rate."}, Unclear, Refusal{}},
		{"not offered", recorded{501, "NotImplemented", "A header you provided implies functionality that is not implemented."}, Unclear, Refusal{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := answering(t, func(w http.ResponseWriter, r *http.Request) { test.recorded.s3(w) })
			r := v.ask(t.Context(), func(ctx context.Context) reply {
				return v.get(object{key: "bots/x", content: "x"})(ctx, v.s3Client("A", "b", "c"))
			})
			if r.answer != test.want || r.code != test.code || r.status != test.status {
				t.Fatalf("got %s %s %d, want %s %s %d", r.answer, r.code, r.status, test.want, test.code, test.status)
			}
			if test.want == Denied && (r.refusal == nil || *r.refusal != test.refusal) {
				t.Errorf("refused by %+v, want %+v", r.refusal, test.refusal)
			}
			if test.want == Unclear && (r.advice == "" || r.refusal != nil) {
				t.Errorf("advice %q, refusal %v: want advice and no refusal", r.advice, r.refusal)
			}
		})
	}
}

func TestSTSAnswersAreRead(t *testing.T) {
	for _, test := range []struct {
		recorded
		want  Answer
		layer string
	}{
		{recorded{403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"}, Denied, "trust policy"},
		{recorded{403, "AccessDenied", "Not authorized to perform sts:TagSession"}, Denied, "trust policy"},
		{recorded{400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://x"}, Unclear, ""},
		{recorded{400, "ExpiredTokenException", "Token expired"}, Unclear, ""},
		{recorded{400, "IDPCommunicationError", "x"}, Unclear, ""},
		{recorded{400, "ValidationError", "x"}, Unclear, ""},
		{recorded{403, "RegionDisabledException", "x"}, Unclear, ""},
		{recorded{400, "Throttling", "Rate exceeded"}, Unclear, ""},
		{recorded{500, "InternalFailure", "x"}, Unclear, ""},
	} {
		v := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("AssumeRoleWithWebIdentity was signed")
			}
			test.recorded.sts(w)
		})
		r, _, client := v.assume(t.Context(), "a.b.c", "alice")
		if r.answer != test.want || client != nil || r.code != test.code {
			t.Errorf("%s: got %s %s, session %v, want %s", test.message, r.answer, r.code, client != nil, test.want)
		}
		if test.want == Denied && r.refusal.Layer != test.layer {
			t.Errorf("%s: refused by %q, want %q", test.message, r.refusal.Layer, test.layer)
		}
	}
}

// TestSilenceIsNotARefusal: no answer, an unreadable one, and a page of something
// in between.
func TestSilenceIsNotARefusal(t *testing.T) {
	for _, test := range []struct {
		name, code string
		h          http.HandlerFunc
	}{
		{"time-out", "timeout", func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		{"hang up", "no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }},
		{"a proxy's 403", "", func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "<html>Forbidden by the proxy</html>", http.StatusForbidden)
		}},
		{"a captive portal", codeOther, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>Please log in</html>") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := answering(t, test.h)
			if test.code == "timeout" {
				v.CallTimeout = 20 * time.Millisecond // which the handler outlasts however slow the machine is
			}
			client := v.s3Client("A", "b", "c")
			get := v.ask(t.Context(), func(ctx context.Context) reply { return v.get(object{key: "k", content: "x"})(ctx, client) })
			list := v.ask(t.Context(), func(ctx context.Context) reply { return v.list(listing{})(ctx, client) })
			put := v.ask(t.Context(), func(ctx context.Context) reply { return v.put(object{key: "k"})(ctx, client) })
			for _, r := range []reply{get, list, put} {
				if r.answer != Unclear || r.advice == "" {
					t.Errorf("got %s (%s, %q), want %s with advice", r.answer, r.text(), r.advice, Unclear)
				}
			}
			if test.code != "" && get.code != test.code {
				t.Errorf("code %q, want %q", get.code, test.code)
			}
		})
	}
}

// TestProverGivesUpOnASilentTarget: after three time-outs nothing more is sent.
func TestProverGivesUpOnASilentTarget(t *testing.T) {
	v := answering(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	v.CallTimeout = 20 * time.Millisecond
	client := v.s3Client("A", "b", "c")
	for i, want := range []Answer{Unclear, Unclear, Unclear, NotTried, NotTried} {
		r := v.ask(t.Context(), func(ctx context.Context) reply { return v.get(object{key: "k"})(ctx, client) })
		if r.answer != want {
			t.Errorf("request %d: %s (%s), want %s", i, r.answer, r.text(), want)
		}
	}
}

// TestProbesAreNotRetried: a throttled probe is reported, not repeated.
func TestProbesAreNotRetried(t *testing.T) {
	requests := 0
	v := answering(t, func(w http.ResponseWriter, r *http.Request) {
		requests++
		recorded{503, "SlowDown", "Please reduce your request rate."}.s3(w)
	})
	v.ask(t.Context(), func(ctx context.Context) reply {
		return v.get(object{key: "k"})(ctx, v.s3Client("A", "b", "c"))
	})
	if requests != 1 {
		t.Errorf("%d requests, want 1", requests)
	}
	v.assume(t.Context(), "a.b.c", "alice")
	if requests != 2 {
		t.Errorf("%d requests after STS, want 2", requests)
	}
}

// TestDotsReachTheServer: the path goes out as it is.
func TestDotsReachTheServer(t *testing.T) {
	var path string
	v := answering(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.RequestURI
		recorded{404, "NoSuchKey", "The specified key does not exist."}.s3(w)
	})
	v.get(object{key: "bots/a/../b/k"})(t.Context(), v.s3Client("A", "b", "c"))
	if want := "/agentkeys-data/bots/a/../b/k"; !strings.HasPrefix(path, want) {
		t.Errorf("path %q, want %q", path, want)
	}
}

func TestHeadRefusalHasNoReason(t *testing.T) {
	v := answering(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
	_, err := v.s3Client("A", "b", "c").HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &v.Config.Bucket, Key: &v.name})
	if r := readHead(err); r.answer != Denied || r.refusal.Layer != layerNotSaid {
		t.Errorf("got %s by %v, want %s without a layer", r.answer, r.refusal, Denied)
	}
	if r := read(err); r.answer == Denied {
		t.Error("a 403 without AccessDenied counts as a denial")
	}
}

func TestBatchDeleteIsReadPerKey(t *testing.T) {
	for code, want := range map[string]Answer{"AccessDenied": Denied, "InternalError": Unclear, "": Allowed} {
		v := answering(t, func(w http.ResponseWriter, r *http.Request) {
			body := "<Deleted><Key>k</Key></Deleted>"
			if code != "" {
				body = "<Error><Key>k</Key><Code>" + code + "</Code><Message>Access Denied</Message></Error>"
			}
			w.Header().Set("X-Amz-Request-Id", "1")
			fmt.Fprint(w, `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`+body+"</DeleteResult>")
		})
		if r := v.removeMany("k")(t.Context(), v.s3Client("A", "b", "c")); r.answer != want {
			t.Errorf("%q: %s (%s), want %s", code, r.answer, r.text(), want)
		}
	}
}

func TestTerminalIsNotObeyed(t *testing.T) {
	if got := oneLine("got eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln, eyJhbGciOiJF"); got != "got [token], [token]" {
		t.Errorf("a token is left: %q", got)
	}
	if got := oneLine("a\x1b[2Jb\r\nc\u202e"); got != "a [2Jb c" {
		t.Errorf("got %q", got)
	}
}
