package federation

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestBareErrorsOfSTS: S3's form of an error is read at STS where the server is
// neither AWS nor the local AWS, and nowhere else.
func TestBareErrorsOfSTS(t *testing.T) {
	page := func(w http.ResponseWriter) { http.Error(w, "<html>Forbidden</html>", http.StatusForbidden) }
	for _, test := range []struct {
		name  string
		write func(http.ResponseWriter)
		local bool
		want  Answer
		code  string
	}{
		{"a refusal", recorded{403, "AccessDenied", ""}.s3, false, Denied, "AccessDenied"},
		{"the same where AWS is wanted", recorded{403, "AccessDenied", ""}.s3, true, Unclear, "UnknownError"},
		{"another error", recorded{403, "SignatureDoesNotMatch", "x"}.s3, false, Unclear, "SignatureDoesNotMatch"},
		{"a refusal with another status", recorded{400, "AccessDenied", ""}.s3, false, Unclear, "AccessDenied"},
		{"AWS's form", recorded{400, "InvalidIdentityToken", "x"}.sts, false, Unclear, "InvalidIdentityToken"},
		{"no code", recorded{403, "", ""}.s3, false, Unclear, "UnknownError"},
		{"a page", page, false, Unclear, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.write(w) }))
			defer server.Close()
			v := newProver(Proof{
				Config: testConfig(), CallTimeout: time.Minute, Now: time.Now,
				Target: Target{Local: test.local, Other: !test.local, STS: server.URL, S3: server.URL, HTTPClient: server.Client()},
			})
			r, _, client := v.assume(t.Context(), "a.b.c", "alice")
			if r.answer != test.want || client != nil || test.code != "" && r.code != test.code {
				t.Errorf("got %s (%s), session %v; want %s and %s", r.answer, r.text(), client != nil, test.want, test.code)
			}
			if strings.Contains(r.message, noMessage) {
				t.Errorf("message %q: the SDK's word for none is not the server's", r.message)
			}
		})
	}
	if client := stsClient(TargetReport{Kind: "aws"}, http.DefaultClient); client != aws.HTTPClient(http.DefaultClient) {
		t.Error("AWS's answers are changed")
	}
}

// countedConn counts the writes.
type countedConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestRequestsGoOutInOnePiece: with headers longer than net/http's buffer, and a
// body that the SDK has wrapped.
func TestRequestsGoOutInOnePiece(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Amz-Request-Id", "1")
		if body := readBody(t, r); body != "content" {
			t.Errorf("the body is %q", body)
		}
	}))
	defer server.Close()
	writes := func(wrap func(aws.HTTPClient) aws.HTTPClient) int32 {
		var n atomic.Int32
		transport := &http.Transport{WriteBufferSize: maxRequest, DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return countedConn{conn, &n}, err
		}}
		defer transport.CloseIdleConnections()
		v := newProver(Proof{
			Config: testConfig(), CallTimeout: time.Minute, Now: time.Now,
			Target: Target{STS: server.URL, S3: server.URL, HTTPClient: wrap(&http.Client{Transport: transport})},
		})
		client := v.s3Client("A", "b", strings.Repeat("c", 8000))
		if r := v.put(object{key: "k", content: "content"})(t.Context(), client); r.answer != Allowed {
			t.Fatalf("got %s", r.text())
		}
		return n.Load()
	}
	if n := writes(func(c aws.HTTPClient) aws.HTTPClient { return wholeRequests{c} }); n != 1 {
		t.Errorf("%d writes, want 1", n)
	}
	if n := writes(func(c aws.HTTPClient) aws.HTTPClient { return c }); n < 2 {
		t.Errorf("without it %d writes: it is not needed any more", n)
	}
}

// TestPublicNameOfTheBucket: only who signs nothing uses it, and what is found under
// it counts.
func TestPublicNameOfTheBucket(t *testing.T) {
	a := hardenedAccount(t)
	public := a.config.Account + ":" + a.config.Bucket
	var seen atomic.Int32
	open := false
	a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
		rest, ok := strings.CutPrefix(r.URL.Path, "/"+public)
		if signed := r.Header.Get("Authorization") != "" || r.URL.Query().Has("X-Amz-Signature"); signed == ok && r.URL.Path != "/" {
			t.Errorf("%s asks for %s", actor, r.URL.Path)
		}
		if !ok {
			return false
		}
		seen.Add(1)
		if !open {
			recorded{403, "AccessDenied", ""}.s3(w)
			return true
		}
		key := strings.TrimPrefix(rest, "/")
		out, err := a.aws.S3.GetObject(r.Context(), &s3.GetObjectInput{Bucket: &a.config.Bucket, Key: &key})
		if err != nil {
			recorded{403, "AccessDenied", ""}.s3(w)
			return true
		}
		defer out.Body.Close()
		_, _ = fmt.Fprint(w, readAll(t, out))
		return true
	}
	p := a.proof(t)
	p.Target.PublicBucket = public
	if r := prove(t, p); r.Verdict != Proven || seen.Load() != 4 {
		t.Errorf("verdict %s after %d anonymous requests, want %s after 4", r.Verdict, seen.Load(), Proven)
	}
	open = true
	if r := prove(t, p); r.Verdict != Broken || find(t, r, "anonymous.get.alice", anonymous).Result != Contrary {
		t.Errorf("verdict %s of a bucket that anybody reads by its public name, want %s", r.Verdict, Broken)
	}
}

// TestLookingByListing: some servers refuse an owner the get of what is not there.
// Where a detour led is then seen in the listing.
func TestLookingByListing(t *testing.T) {
	for _, leads := range []bool{false, true} {
		a := hardenedAccount(t)
		a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
			_, detour, climbs := strings.Cut(r.URL.Path, "/../")
			switch {
			case leads && climbs && r.Method == http.MethodPut:
				_, err := a.aws.S3.PutObject(r.Context(), &s3.PutObjectInput{
					Bucket: &a.config.Bucket, Key: aws.String("bots/" + detour), Body: strings.NewReader("climbed\n"),
				})
				if err != nil {
					t.Error(err)
				}
			case !climbs && actor != "" && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/climbed"):
				recorded{403, "AccessDenied", ""}.s3(w)
				return true
			}
			return false
		}
		want, verdict := AsExpected, Proven
		if leads {
			want, verdict = Contrary, Broken
		}
		r := prove(t, a.proof(t))
		if p := find(t, r, "near.dots_put", "bob"); p.Result != want || r.Verdict != verdict {
			t.Errorf("a detour that leads there (%v): %s, verdict %s; want %s and %s", leads, p.Result, r.Verdict, want, verdict)
		}
		if left := a.objects(t); len(left) > 0 {
			t.Errorf("objects are left: %q", left)
		}
	}
}
