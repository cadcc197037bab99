package broker

import (
	"net/http"
	"slices"
	"strings"

	"agentkeys/api"
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
}

func (b *Broker) routes() http.Handler {
	mux := http.NewServeMux()
	for _, rt := range table {
		mux.Handle(rt.method+" "+rt.path, b.adapt(rt.path, rt.serve))
	}
	mux.Handle("/", b.adapt("other", (*Broker).serveNothing))

	crossOrigin := http.NewCrossOriginProtection()
	crossOrigin.SetDenyHandler(b.adapt("cross-origin", func(*Broker, *call) error {
		return api.Errorf(api.CodeCrossOrigin, "a page of another origin sent this request")
	}))
	return http.MaxBytesHandler(crossOrigin.Handler(mux), maxBody)
}

// serveNothing answers for every path and method that the table does not hold.
func (b *Broker) serveNothing(c *call) error {
	var allowed []string
	for _, rt := range table {
		if rt.path == c.r.URL.Path {
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
