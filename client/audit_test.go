package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"agentkeys/api"
)

// answering is a client of a broker that answers so, without a network.
func answering(t *testing.T, serve http.HandlerFunc) *Client {
	t.Helper()
	c, err := New("http://127.0.0.1:1", &http.Client{Transport: inProcess{serve}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

func pending(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(api.Problem{Code: api.CodeAuditPending, Status: http.StatusConflict})
}

// A record has its place within a second: the client comes again when it is told to,
// and not for ever.
func TestAuditProofWaitsForTheRecordsPlace(t *testing.T) {
	for _, tc := range []struct{ pending, asked int }{{0, 1}, {2, 3}, {4, 5}, {100, 5}} {
		synctest.Test(t, func(t *testing.T) {
			asked := 0
			c := answering(t, func(w http.ResponseWriter, r *http.Request) {
				if asked++; asked <= tc.pending {
					pending(w)
					return
				}
				_ = json.NewEncoder(w).Encode(api.AuditProof{Index: 7})
			})
			began := time.Now()
			p, err := c.AuditProof(t.Context(), "01ARZ3NDEKTSV4RRFFQ69G5FAV")
			var e *api.Error
			if tc.pending < 5 && (err != nil || p.Index != 7) || tc.pending >= 5 && (!errors.As(err, &e) || e.Code != api.CodeAuditPending) {
				t.Errorf("pending %d times: %+v, %v", tc.pending, p, err)
			}
			if waited := time.Since(began); asked != tc.asked || waited != time.Duration(tc.asked-1)*time.Second { // by the bubble's clock
				t.Errorf("pending %d times: asked %d times in %v, want %d", tc.pending, asked, waited, tc.asked)
			}
		})
	}
}

func TestAuditProofEscapesTheID(t *testing.T) {
	var asked string
	c := answering(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.EscapedPath() + "?" + r.URL.RawQuery
		_, _ = w.Write([]byte("{}"))
	})
	if _, err := c.AuditProof(t.Context(), "../entries?limit=1#x"); err != nil || asked != api.PathAuditProof+"..%2Fentries%3Flimit=1%23x?" {
		t.Errorf("asked for %s, %v", asked, err)
	}
}

// A broker whose cursors do not lead on would have its reader go round for ever.
func TestAuditAllEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		pages []api.AuditEntries
		want  string
	}{
		"the same cursor again": {[]api.AuditEntries{{More: true, Cursor: "a"}, {More: true, Cursor: "a"}}, "want a cursor that leads on"},
		"no cursor":             {[]api.AuditEntries{{More: true}}, "want a cursor that leads on"},
		"an empty page between": {[]api.AuditEntries{{Entries: make([]api.AuditEntry, 2), More: true, Cursor: "a"}, {More: true, Cursor: "b"}, {Entries: make([]api.AuditEntry, 1)}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			n, asked, cursors := 0, 0, ""
			c := answering(t, func(w http.ResponseWriter, r *http.Request) {
				cursors += r.URL.Query().Get("cursor") + ","
				_ = json.NewEncoder(w).Encode(tc.pages[asked])
				asked++
			})
			for _, err := range c.AuditAll(t.Context(), "jwt", AuditQuery{}) {
				if err != nil {
					if tc.want == "" || !strings.Contains(err.Error(), tc.want) {
						t.Errorf("got %v, want %q", err, tc.want)
					}
					return
				}
				n++
			}
			if tc.want != "" || n != 3 || cursors != ",a,b," {
				t.Errorf("%d entries by the cursors %s", n, cursors)
			}
		})
	}
	for _, err := range answering(t, nil).AuditAll(t.Context(), "jwt", AuditQuery{Ascending: true, Limit: 1}) {
		if err == nil || !strings.Contains(err.Error(), "2 or more") {
			t.Errorf("one at a time, with a record for each: %v", err)
		}
	}
}
