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

// follow adds how far the audit log and its anchors are.
func (m *metrics) follow(b *Broker) {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("agentkeys_audit_log_records", "Records that have their place in the audit log.", nil,
		func() float64 { return float64(b.log.newest().Size) })
	gauge("agentkeys_audit_unplaced_records", "Records that are durable and have no place in the audit log yet.", nil,
		func() float64 { s := b.log.standing(); return float64(s.committed - s.head.Size) })
	gauge("agentkeys_audit_head_age_seconds", "Time since the newest head of the audit log was signed, or found at the start.", nil,
		func() float64 { return b.Now().Sub(b.log.standing().signed).Seconds() })
	for _, f := range b.followers {
		labels := prometheus.Labels{"anchor": f.name}
		gauge("agentkeys_anchor_lag_records", "Records that the anchor lacks.", labels,
			func() float64 { return float64(max(b.log.end()-f.at(), 0)) })
		gauge("agentkeys_anchor_open", "1 while the anchor fails and nobody waits for it, else 0.", labels, func() float64 {
			if f.standing().open {
				return 1
			}
			return 0
		})
	}
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
