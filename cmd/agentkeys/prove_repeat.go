package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"agentkeys/broker"
	"agentkeys/federation"
)

// proveAgain proves at every interval until ctx ends. What is wrong with the files
// it is given ends it before the first run; nothing does after that.
func (p *program) proveAgain(ctx context.Context, o *proveOptions, prepared *preparedProof) error {
	if _, err := prepared.proof(); err != nil {
		return usage(err)
	}
	log := newLog(p.stderr, "text", "info")
	w := &watch{
		every: o.repeat, metrics: newProofMetrics(), log: log,
		prove: func(ctx context.Context) (*federation.Report, error) {
			proof, err := prepared.proof()
			if err != nil {
				return nil, err
			}
			return federation.Prove(ctx, proof)
		},
	}
	if o.outDir != "" {
		if info, err := os.Stat(o.outDir); err != nil || !info.IsDir() {
			return usage(fmt.Errorf("--out-dir: want a folder that is there, got %s", o.outDir))
		}
		w.save = proofFolder{o.outDir, o.keep}.save
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	served := make(chan error, 1)
	if o.metricsBind == "" {
		served <- nil
	} else {
		l, err := listen(o.metricsBind, "--metrics-bind")
		if err != nil {
			return err
		}
		log.Info("serving metrics", "bind", l.Addr().String())
		go func() { // ended by end
			served <- serveAll(ctx, []server{{l, broker.Server(w.metrics.handler(), log)}}, 5*time.Second)
			end()
		}()
	}
	last := w.run(ctx)
	end()
	if err := <-served; err != nil {
		return fmt.Errorf("serving metrics: %w", err)
	}
	log.Info("stopped", "last_verdict", string(last))
	return status{code: last.ExitStatus()}.orNil()
}

// watch proves again and again.
type watch struct {
	every   time.Duration
	prove   func(context.Context) (*federation.Report, error)
	save    func(*federation.Report) error // nil where no report is kept
	metrics *proofMetrics
	log     *slog.Logger
}

// run proves at once and then at every interval until ctx ends, and returns the
// last verdict; "" if no run ended.
func (w *watch) run(ctx context.Context) federation.Verdict {
	var last federation.Verdict
	for {
		started := time.Now()
		report, err := w.prove(ctx)
		if ctx.Err() != nil && (report == nil || report.Verdict == federation.Inconclusive) {
			return last // it was interrupted, which says nothing of the isolation
		}
		last = w.ended(report, err, started)
		next := time.NewTimer(w.untilNext(time.Since(started)))
		select {
		case <-ctx.Done():
			next.Stop()
			return last
		case <-next.C:
		}
	}
}

// untilNext is how long to wait after a run that took its time. Up to a twentieth
// of the interval is added, lest several provers keep meeting at AWS. A run that took
// longer than the interval is followed by the next one after that twentieth.
func (w *watch) untilNext(took time.Duration) time.Duration {
	return max(0, w.every-took) + rand.N(w.every/20+1)
}

// ended counts, logs and keeps a run that ended. One that came to no report is
// INCONCLUSIVE.
func (w *watch) ended(report *federation.Report, err error, started time.Time) federation.Verdict {
	now := time.Now()
	took := now.Sub(started)
	if err != nil {
		w.metrics.ran(federation.Inconclusive, nil, took, now)
		w.log.Error("proof", "verdict", string(federation.Inconclusive), "error", err)
		return federation.Inconclusive
	}
	v := report.Verdict
	w.metrics.ran(v, report, took, now)
	w.logReport(report, took)
	if w.save != nil {
		if err := w.save(report); err != nil {
			w.metrics.unsaved.Inc()
			w.log.Error("the report could not be kept", "error", err)
		}
	}
	return v
}

func (w *watch) logReport(r *federation.Report, took time.Duration) {
	level, args := slog.LevelInfo, []any{"verdict", string(r.Verdict), "target", r.Target.Name, "kind", r.Target.Kind, "took", took.Round(time.Millisecond)}
	switch {
	case r.Verdict == federation.Broken:
		level = slog.LevelError
		args = append(args, "broken", len(r.Broken), "first", r.Broken[0])
	case r.Verdict == federation.Inconclusive && len(r.Unobserved) > 0:
		level = slog.LevelWarn
		args = append(args, "why", r.Unobserved[0].Why, "do", r.Unobserved[0].Do)
	}
	w.log.Log(context.Background(), level, "proof", args...)
}

// proofFolder keeps the reports of the last runs, each as JSON and HTML.
type proofFolder struct {
	dir  string
	keep int // runs
}

// proofFile is the name of a kept report: time, then verdict. Nothing else in the
// folder is ever deleted.
var proofFile = regexp.MustCompile(`^(agentkeys-proof-[0-9]{8}T[0-9]{6}\.[0-9]{3}Z-(?:proven|broken|inconclusive))\.(?:json|html)$`)

func (f proofFolder) save(r *federation.Report) error {
	stem := filepath.Join(f.dir, "agentkeys-proof-"+r.StartedAt.UTC().Format("20060102T150405.000Z")+"-"+strings.ToLower(string(r.Verdict)))
	return errors.Join(
		reportFile{stem + ".json", r.WriteJSON}.save(),
		reportFile{stem + ".html", r.WriteHTML}.save(),
		f.prune(),
	)
}

// prune deletes the oldest runs' reports beyond those to keep. The names sort by
// time.
func (f proofFolder) prune() error {
	entries, err := os.ReadDir(f.dir) // sorted
	if err != nil {
		return fmt.Errorf("deleting the oldest reports: %w", err)
	}
	files := map[string][]string{}
	var stems []string
	for _, e := range entries {
		m := proofFile.FindStringSubmatch(e.Name())
		if m == nil || !e.Type().IsRegular() {
			continue
		}
		if files[m[1]] == nil {
			stems = append(stems, m[1])
		}
		files[m[1]] = append(files[m[1]], e.Name())
	}
	var errs []error
	for _, stem := range stems[:max(0, len(stems)-f.keep)] {
		for _, name := range files[stem] {
			errs = append(errs, os.Remove(filepath.Join(f.dir, name)))
		}
	}
	return errors.Join(errs...)
}
