package broker

import (
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"agentkeys/api"
	"agentkeys/audit"
)

type route struct {
	method, path string
	serve        func(*Broker, *call) error
}

// table holds every route of the public listener.
var table = []route{
	{"GET", api.PathHealth, (*Broker).serveHealth},
	{"GET", api.PathReady, (*Broker).serveReady},
	{"GET", api.PathOpenAPI, (*Broker).serveOpenAPI},
	{"GET", api.PathRunbook, (*Broker).serveRunbook},

	{"GET", api.PathDiscovery, (*Broker).serveDiscovery},
	{"GET", api.PathJWKS, (*Broker).serveJWKS},

	{"POST", api.PathWalletStart, (*Broker).serveWalletStart},
	{"POST", api.PathWalletVerify, (*Broker).serveWalletVerify},
	{"POST", api.PathMintOIDC, (*Broker).serveMintOIDC},
	{"POST", api.PathMintAWS, (*Broker).serveMintAWS},

	{"POST", api.PathGrantCreate, (*Broker).serveGrantCreate},
	{"GET", api.PathGrantList, (*Broker).serveGrantList},
	{"POST", api.PathGrantRevoke, (*Broker).serveGrantRevoke},

	{"GET", api.PathAuditEntries, (*Broker).serveAuditEntries},
	{"GET", api.PathAuditCheckpoint, (*Broker).serveAuditCheckpoint},
	{"GET", api.PathAuditProof + "{entry}", (*Broker).serveAuditProof},
	{"GET", api.PathAuditConsistency, (*Broker).serveAuditConsistency},
}

// matches reports whether a path is the route's, whose last segment may stand for any.
func (rt route) matches(u *url.URL) bool {
	prefix, _, wild := strings.Cut(rt.path, "{")
	if !wild {
		return rt.path == u.Path
	}
	rest, ok := strings.CutPrefix(path.Clean(u.Path), prefix)
	return ok && path.Clean(u.Path) == u.Path && !strings.Contains(rest, "/")
}

func (b *Broker) routes() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range table {
		mux.Handle(rt.method+" "+rt.path, b.adapt(rt.path, rt.serve))
	}
	nothing := b.adapt("other", (*Broker).serveNothing)
	mux.Handle("/", nothing)

	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(b.adapt("cross-origin", (*Broker).serveCrossOrigin))
	exact := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.RequestURI == "*" || r.URL.Path != path.Clean(r.URL.Path) { // the mux would answer on its own, with a 400 or a redirect
			nothing.ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
	return http.MaxBytesHandler(crossOrigin.Handler(exact), maxBody)
}

// recordedActions are those of the paths whose refusals leave a record whoever asks.
var recordedActions = map[string]string{
	api.PathWalletStart: audit.ActionSignInStart, api.PathWalletVerify: audit.ActionSignInVerify,
	api.PathGrantCreate: audit.ActionGrantCreate, api.PathGrantList: audit.ActionGrantList, api.PathGrantRevoke: audit.ActionGrantRevoke,
}

// serveCrossOrigin refuses what a page of another origin sent. It is recorded like
// every other refusal of what was asked.
func (b *Broker) serveCrossOrigin(c *call) error {
	refusal := api.Errorf(api.CodeCrossOrigin, "a page of another origin sent this request")
	switch c.r.URL.Path {
	case api.PathMintOIDC:
		return b.refuseMint(c, c.record(audit.ActionMintOIDC), refusal)
	case api.PathMintAWS:
		return b.refuseCredentials(c, &mint{intent: c.record(audit.ActionMintAWS)}, refusal)
	}
	if action, ok := recordedActions[c.r.URL.Path]; ok {
		return b.refuse(c, c.record(action), refusal)
	}
	return refusal
}

// serveNothing answers for every path and method that the table does not hold.
func (b *Broker) serveNothing(c *call) error {
	var allowed []string
	for _, rt := range table {
		if rt.matches(c.r.URL) {
			allowed = append(allowed, rt.method)
		}
	}
	if len(allowed) == 0 {
		return api.Errorf(api.CodeNotFound, "no such path")
	}
	if slices.Contains(allowed, "GET") {
		allowed = append(allowed, "HEAD")
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return api.Errorf(api.CodeMethodNotAllowed, "want %s, got %s", strings.Join(allowed, " or "), c.r.Method)
}
