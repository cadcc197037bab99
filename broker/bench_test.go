package broker_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"agentkeys/agentkeystest"
	"agentkeys/api"
)

// BenchmarkMint is the handler with its record, without the HTTP server. Run it
// with -cpu 1,16,64 to see the group commit share the flushes.
func BenchmarkMint(b *testing.B) {
	k := agentkeystest.New(b)
	_, session := k.SignIn(b)
	before := k.Store.Stats()
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := httptest.NewRequest(http.MethodPost, api.PathMintOIDC, nil)
			r.Header.Set("Authorization", "Bearer "+session.SessionJWT)
			w := httptest.NewRecorder()
			k.Broker.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				b.Errorf("%d %s", w.Code, w.Body)
				return
			}
		}
	})
	after := k.Store.Stats()
	b.ReportMetric(float64(after.Commits-before.Commits)/float64(after.Updates-before.Updates), "commits/op")
}
