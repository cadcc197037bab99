package broker

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"agentkeys/api"
	"agentkeys/store"
)

// metrics counts. Labels take few values, none of them from a request's
// content, so that a caller cannot make the number of series grow.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	mints    *prometheus.CounterVec
	aws      *prometheus.CounterVec
}

func newMetrics(s *store.Store) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "agentkeys_http_request_duration_seconds",
			Help:    "Time from the end of a request's header to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5},
		}, []string{"route", "status"}),
		mints: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentkeys_mints_total",
			Help: "Web identity tokens asked for, by outcome and the code of a refusal.",
		}, []string{"outcome", "reason"}),
		aws: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentkeys_aws_mints_total",
			Help: "AWS credentials asked for, by outcome and the code of a refusal.",
		}, []string{"outcome", "reason"}),
	}
	m.registry.MustRegister(m.requests, m.mints, m.aws,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "agentkeys_store_updates_total", Help: "Transactions that the store was asked for.",
		}, func() float64 { return float64(s.Stats().Updates) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "agentkeys_store_commits_total", Help: "Commits, each with one flush, that carried them.",
		}, func() float64 { return float64(s.Stats().Commits) }),
	)
	return m
}

func (m *metrics) observe(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *metrics) mint(outcome, reason string) { m.mints.WithLabelValues(outcome, reason).Inc() }

func (m *metrics) mintAWS(outcome, reason string) { m.aws.WithLabelValues(outcome, reason).Inc() }

// Admin serves what only the operator may see: the metrics, and liveness.
func (b *Broker) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+api.PathMetrics, promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{}))
	mux.Handle("GET "+api.PathHealth, b.adapt("admin"+api.PathHealth, (*Broker).serveHealth))
	mux.Handle("/", b.adapt("admin", func(*Broker, *call) error { return api.Errorf(api.CodeNotFound, "no such path") }))
	return mux
}
