package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentkeys/federation"
)

func reportOf(v federation.Verdict) *federation.Report {
	return &federation.Report{
		Verdict: v, Target: federation.TargetReport{Name: "lab", Kind: "local"}, Broken: []string{"a way in"}, StartedAt: time.Now(),
	}
}

// scrape returns the metrics' text.
func (m *proofMetrics) scrape(t *testing.T) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return w.Body.String()
}

func wantMetrics(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the metrics lack %q", line)
		}
	}
}

// It proves at once and then at every interval, whatever a run comes to, and ends
// with the verdict of the last run that ended.
func TestWatchGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const every, takes = time.Hour, 3 * time.Minute
		outcomes := []struct {
			verdict federation.Verdict // "" for a run without a report
			after   string             // a line of the metrics after it
		}{
			{"", `agentkeys_isolation_runs_total{verdict="INCONCLUSIVE"} 1`},
			{federation.Proven, `agentkeys_isolation_verdict{verdict="PROVEN"} 1`},
			{federation.Broken, `agentkeys_isolation_verdict{verdict="BROKEN"} 1`},
			{federation.Inconclusive, `agentkeys_isolation_verdict{verdict="BROKEN"} 0`},
			{federation.Broken, `agentkeys_isolation_runs_total{verdict="BROKEN"} 2`},
		}
		var starts []time.Time
		var proven time.Time
		began := time.Now()
		metrics := newProofMetrics()
		ctx, end := context.WithCancel(t.Context())
		w := &watch{every: every, metrics: metrics, log: slog.New(slog.DiscardHandler)}
		w.prove = func(ctx context.Context) (*federation.Report, error) {
			n := len(starts)
			starts = append(starts, time.Now())
			if n > 0 {
				wantMetrics(t, metrics.scrape(t), outcomes[n-1].after)
			}
			if n == len(outcomes) { // told to end in the middle of a run
				end()
				return reportOf(federation.Inconclusive), nil
			}
			time.Sleep(takes)
			if outcomes[n].verdict == federation.Proven {
				proven = time.Now()
			}
			if outcomes[n].verdict == "" {
				return nil, errors.New("the token file is gone")
			}
			return reportOf(outcomes[n].verdict), nil
		}
		if text := metrics.scrape(t); strings.Contains(text, "agentkeys_isolation_last_proven_timestamp_seconds") {
			t.Error("there is a last proof before the first one")
		}
		if last := w.run(ctx); last != federation.Broken {
			t.Errorf("the last verdict is %q, want BROKEN", last)
		}
		if !starts[0].Equal(began) || len(starts) != len(outcomes)+1 {
			t.Fatalf("%d runs, the first at %v, want %d and %v", len(starts), starts[0], len(outcomes)+1, began)
		}
		for i, at := range starts[1:] {
			if gap := at.Sub(starts[i]); gap < every || gap > every+every/20 {
				t.Errorf("run %d came after %v, want %v and at most a twentieth more", i+1, gap, every)
			}
		}
		wantMetrics(t, metrics.scrape(t),
			// A proof stays the last one, however many runs fail after it.
			fmt.Sprintf(`agentkeys_isolation_last_proven_timestamp_seconds{kind="local",target="lab"} %s`, float(proven)),
			`agentkeys_isolation_runs_total{verdict="PROVEN"} 1`, `agentkeys_isolation_runs_total{verdict="INCONCLUSIVE"} 2`,
			`agentkeys_isolation_verdict{verdict="PROVEN"} 0`, `agentkeys_isolation_verdict{verdict="INCONCLUSIVE"} 0`,
			`agentkeys_isolation_run_duration_seconds_sum 900`)
	})
}

// float is a time as Prometheus writes it.
func float(t time.Time) string { return strconv.FormatFloat(seconds(t), 'g', -1, 64) }

// A way in that was seen counts, although the run was told to end.
func TestWatchKeepsAWayInAtTheEnd(t *testing.T) {
	for _, test := range []struct {
		run, want federation.Verdict
	}{{federation.Broken, federation.Broken}, {federation.Proven, federation.Proven}, {federation.Inconclusive, ""}} {
		ctx, end := context.WithCancel(t.Context())
		w := &watch{every: time.Hour, metrics: newProofMetrics(), log: slog.New(slog.DiscardHandler),
			prove: func(context.Context) (*federation.Report, error) { end(); return reportOf(test.run), nil }}
		if last := w.run(ctx); last != test.want {
			t.Errorf("%s: the last verdict is %q, want %q", test.run, last, test.want)
		}
	}
}

// A run that takes longer than the interval is followed by the next one, and not by
// those that were missed.
func TestWatchDoesNotCatchUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, end := context.WithTimeout(t.Context(), 10*time.Minute)
		defer end()
		runs := 0
		w := &watch{every: time.Minute, metrics: newProofMetrics(), log: slog.New(slog.DiscardHandler),
			prove: func(context.Context) (*federation.Report, error) {
				runs++
				time.Sleep(150 * time.Second)
				return reportOf(federation.Proven), nil
			}}
		w.run(ctx)
		if runs != 4 {
			t.Errorf("%d runs of 150 s in 600 s, want 4", runs)
		}
	})
}

func TestProofFolderKeepsTheNewest(t *testing.T) {
	dir := t.TempDir()
	others := []string{"notes.txt", "agentkeys-proof-of-mine.json", "agentkeys-proof-20200101T000000.000Z-proven.json.bak"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := proofFolder{dir, 2}
	verdicts := []federation.Verdict{federation.Proven, federation.Broken, federation.Inconclusive, federation.Proven}
	for i, v := range verdicts {
		r := reportOf(v)
		r.StartedAt = time.Date(2026, 1, 2, 3, 4, i, 0, time.UTC)
		if err := f.save(r); err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(others)
		for j := max(0, i-1); j <= i; j++ {
			stem := fmt.Sprintf("agentkeys-proof-20260102T03040%d.000Z-%s", j, strings.ToLower(string(verdicts[j])))
			want = append(want, stem+".html", stem+".json")
		}
		slices.Sort(want)
		if got := names(t, dir); !slices.Equal(got, want) {
			t.Fatalf("after run %d: %q, want %q", i, got, want)
		}
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// A report that cannot be kept is counted, and its verdict stands.
func TestWatchCountsReportsThatAreLost(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	w := &watch{every: time.Hour, metrics: newProofMetrics(), log: slog.New(slog.DiscardHandler),
		prove: func(context.Context) (*federation.Report, error) { return reportOf(federation.Proven), nil },
		save:  func(*federation.Report) error { end(); return errors.New("disk full") }}
	if last := w.run(ctx); last != federation.Proven {
		t.Errorf("the last verdict is %q", last)
	}
	wantMetrics(t, w.metrics.scrape(t), "agentkeys_isolation_unsaved_reports_total 1")
}

// syncBuffer is a log that is read while it is written.
type syncBuffer struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", what)
		}
	}
}

// The whole of it: proofs at a real broker and a local AWS, until the tokens are
// gone and after that, with metrics and reports, and an end in order.
func TestProveAgain(t *testing.T) {
	l := newProveLab(t)
	reports := t.TempDir()
	args := append([]string{"federation", "prove", "--config", l.path("federation.json")},
		l.tokens(t, "--oidc-key", l.path(oidcKeyFile), "--repeat", "1s", "--metrics-bind", "127.0.0.1:0", "--out-dir", reports, "--keep", "1")...)
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var log syncBuffer
	code := make(chan int, 1)
	go func() { code <- run(ctx, args, nil, io.Discard, &log) }() // ended by end
	bind := regexp.MustCompile(`msg="serving metrics" bind=(\S+)`)
	eventually(t, "the metrics' address", func() bool { return bind.MatchString(log.String()) })
	url := "http://" + bind.FindStringSubmatch(log.String())[1] + "/metrics"
	eventually(t, "two proofs", func() bool {
		return strings.Contains(get(t, url), `agentkeys_isolation_runs_total{verdict="PROVEN"} 2`)
	})
	wantMetrics(t, get(t, url), `agentkeys_isolation_verdict{verdict="PROVEN"} 1`)
	if !strings.Contains(get(t, url), `agentkeys_isolation_last_proven_timestamp_seconds{kind="local",target="local AWS"}`) {
		t.Error("the metrics do not say when it was last proven, or not of what")
	}
	eventually(t, "one run's reports", func() bool { return len(names(t, reports)) == 2 })

	if err := os.Remove(l.path("alice.jwt")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a run that fails", func() bool {
		return strings.Contains(get(t, url), `agentkeys_isolation_verdict{verdict="INCONCLUSIVE"} 1`)
	})
	l.tokens(t)
	eventually(t, "a proof after it", func() bool { return strings.Contains(get(t, url), `agentkeys_isolation_verdict{verdict="PROVEN"} 1`) })

	end()
	if got := <-code; got != exitOK {
		t.Errorf("exit status %d, want that of the last verdict", got)
	}
	for _, want := range []string{"level=ERROR msg=proof verdict=INCONCLUSIVE", "alice.jwt", "msg=stopped last_verdict=PROVEN"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "eyJ") {
		t.Error("the log has a token")
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
