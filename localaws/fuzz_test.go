package localaws

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzSTSQuery sends any form, unsigned, and any payload in a token to STS. It
// must answer each with an XML document, and never with credentials: no token
// in it is signed by a key of a registered issuer.
func FuzzSTSQuery(f *testing.F) {
	seeds, err := filepath.Glob("testdata/fuzz/FuzzSTSQuery/*")
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds in testdata/fuzz/FuzzSTSQuery: %v", err)
	}
	dir, err := os.MkdirTemp("", "localaws-fuzz-")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { os.RemoveAll(dir) })
	c := Config{Dir: dir, Account: testAccount, Region: testRegion}
	if err := Create(c); err != nil {
		f.Fatal(err)
	}
	s, err := Open(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	if refused, err := s.state.update(func(st *snapshot) *apiError {
		st.Providers["127.0.0.1:1"] = &provider{URL: "http://127.0.0.1:1", ClientIDs: []string{testClient}}
		return nil
	}); refused != nil || err != nil {
		f.Fatal(refused, err)
	}
	f.Fuzz(func(t *testing.T, form, payload string) {
		for _, body := range []string{form, webIdentityForm(b64(`{"alg":"ES256","kid":"k"}`) + "." + b64(payload) + "." + b64(strings.Repeat("s", 64))).Encode()} {
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code < 400 || !strings.HasPrefix(w.Body.String(), "<ErrorResponse ") {
				t.Errorf("got %d %q", w.Code, w.Body)
			}
		}
		claims, ok := object([]byte(payload))
		if !ok {
			return
		}
		checkFuzzedClaims(t, claims)
	})
}

// checkFuzzedClaims holds what every accepted set of claims has in common.
func checkFuzzedClaims(t *testing.T, c claims) {
	if id, e := c.identity(time.Unix(1_800_000_000, 0)); e == nil && (id.audience == "" || len(id.audiences) == 0) {
		t.Errorf("a token without an audience was taken: %+v", id)
	}
	tags, transitive, e := c.sessionTags()
	if e != nil {
		return
	}
	for i, tg := range tags {
		if !validTag(tg) || hasTag(tags[:i], tg.Key) || strings.ContainsAny(tg.Value, "*?${}") {
			t.Errorf("tag %+v was taken", tg)
		}
	}
	for _, key := range transitive {
		if !hasTag(tags, key) {
			t.Errorf("transitive key %q has no tag", key)
		}
	}
}
