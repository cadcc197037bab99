package main

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"agentkeys/api"
	"agentkeys/federation"
)

// proofMetrics say how the runs of federation prove --repeat came out. An alert
// watches the age of the last proof, which a prover that hangs, or is gone, lets
// grow as well.
type proofMetrics struct {
	registry   *prometheus.Registry
	lastProven *prometheus.GaugeVec
	verdict    *prometheus.GaugeVec
	runs       *prometheus.CounterVec
	duration   prometheus.Histogram
	lastRun    prometheus.Gauge
	unsaved    prometheus.Counter
}

var verdicts = []federation.Verdict{federation.Proven, federation.Broken, federation.Inconclusive}

func newProofMetrics() *proofMetrics {
	m := &proofMetrics{
		registry: prometheus.NewRegistry(),
		lastProven: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agentkeys_isolation_last_proven_timestamp_seconds",
			Help: "When the last run with the verdict PROVEN ended; absent before the first one. Kind is aws, local or other.",
		}, []string{"target", "kind"}),
		verdict: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "agentkeys_isolation_verdict",
			Help: "1 for the verdict of the last run, 0 for the others; 0 for all before the first run ended.",
		}, []string{"verdict"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentkeys_isolation_runs_total", Help: "Runs that ended, by verdict.",
		}, []string{"verdict"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agentkeys_isolation_run_duration_seconds", Help: "How long a run took.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300},
		}),
		lastRun: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "agentkeys_isolation_last_run_timestamp_seconds", Help: "When the last run ended, whatever its verdict; 0 before the first.",
		}),
		unsaved: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "agentkeys_isolation_unsaved_reports_total", Help: "Runs whose report could not be written.",
		}),
	}
	for _, v := range verdicts {
		m.verdict.WithLabelValues(string(v)).Set(0)
		m.runs.WithLabelValues(string(v)).Add(0)
	}
	m.registry.MustRegister(m.lastProven, m.verdict, m.runs, m.duration, m.lastRun, m.unsaved,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ran counts a run that ended. Its report is nil where it came to none.
func (m *proofMetrics) ran(v federation.Verdict, r *federation.Report, took time.Duration, ended time.Time) {
	for _, each := range verdicts {
		m.verdict.WithLabelValues(string(each)).Set(map[bool]float64{true: 1}[each == v])
	}
	m.runs.WithLabelValues(string(v)).Inc()
	m.duration.Observe(took.Seconds())
	m.lastRun.Set(seconds(ended))
	if v == federation.Proven {
		m.lastProven.WithLabelValues(r.Target.Name, r.Target.Kind).Set(seconds(ended))
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func (m *proofMetrics) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET "+api.PathMetrics, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	return mux
}
