package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"agentkeys/api"
	"agentkeys/client"
)

// process is a broker in a process of its own.
type process struct {
	dir           string
	issuer, admin string
	cmd           *exec.Cmd
	log           bytes.Buffer
	coldStart     time.Duration
	session       string
}

// startBroker builds the program, makes keys and a database, and starts it.
func startBroker(ctx context.Context) (_ *process, err error) {
	dir, err := os.MkdirTemp("", "agentkeys-bench-")
	if err != nil {
		return nil, err
	}
	p := &process{dir: dir}
	defer func() {
		if err != nil {
			p.stop()
		}
	}()
	binary := filepath.Join(dir, "agentkeys")
	in := func(name string) string { return filepath.Join(dir, name) }
	for _, args := range [][]string{
		{"go", "build", "-o", binary, "agentkeys/cmd/agentkeys"},
		{binary, "keygen", "--purpose", "oidc", "--out", in("oidc.jwk")},
		{binary, "keygen", "--purpose", "session", "--out", in("session.jwk")},
		{binary, "init", "--data-dir", in("data")},
	} {
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	bind, admin, err := freePorts()
	if err != nil {
		return nil, err
	}
	p.issuer, p.admin = "http://"+bind, "http://"+admin
	p.cmd = exec.CommandContext(ctx, binary, "serve")
	p.cmd.Stderr = &p.log
	p.cmd.Env = append(os.Environ(), "BROKER_ISSUER="+p.issuer, "BROKER_BIND="+bind, "BROKER_ADMIN_BIND="+admin,
		"BROKER_DATA_DIR="+in("data"), "BROKER_OIDC_KEY_FILE="+in("oidc.jwk"), "BROKER_SESSION_KEY_FILE="+in("session.jwk"),
		"BROKER_LOG_LEVEL=warn")
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, p.ready(ctx, start)
}

// ready waits until the broker answers, and signs in.
func (p *process) ready(ctx context.Context, start time.Time) error {
	for {
		resp, err := http.Get(p.issuer + api.PathReady)
		if err == nil {
			resp.Body.Close()
			p.coldStart = time.Since(start)
			break
		}
		if time.Since(start) > 20*time.Second {
			return fmt.Errorf("the broker did not start: %w", err)
		}
		time.Sleep(time.Millisecond) // between two tries to reach a process that is starting
	}
	c, err := client.New(p.issuer, nil)
	if err != nil {
		return err
	}
	w, err := client.NewWallet()
	if err != nil {
		return err
	}
	session, err := c.SignIn(ctx, w, 1)
	p.session = session.SessionJWT
	return err
}

func freePorts() (a, b string, err error) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer first.Close()
	second, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", "", err
	}
	defer second.Close()
	return first.Addr().String(), second.Addr().String(), nil
}

// stop ends the broker that startBroker started and removes its files.
func (p *process) stop() {
	if p.cmd != nil && p.cmd.Process != nil {
		_ = p.cmd.Process.Signal(os.Interrupt)
		_ = p.cmd.Wait()
	}
	_ = os.RemoveAll(p.dir)
}

type result struct {
	rate, commits, memory float64
	p50, p99, cpu         time.Duration
}

// load asks for tokens over a number of connections.
func (p *process) load(ctx context.Context, connections int, span time.Duration) (result, error) {
	if _, err := p.ask(ctx, connections, min(span, time.Second)); err != nil { // warm up
		return result{}, err
	}
	cpu, commits := p.cpu(), p.metric("agentkeys_store_commits_total")
	start := time.Now()
	times, err := p.ask(ctx, connections, span)
	if err != nil {
		return result{}, err
	}
	took, n := time.Since(start), float64(len(times))
	slices.Sort(times)
	return result{
		rate:    n / took.Seconds(),
		p50:     times[len(times)/2],
		p99:     times[len(times)*99/100],
		cpu:     time.Duration(float64(p.cpu()-cpu) / n),
		commits: (p.metric("agentkeys_store_commits_total") - commits) / n,
		memory:  p.memory(),
	}, nil
}

func (p *process) ask(ctx context.Context, connections int, span time.Duration) ([]time.Duration, error) {
	transport := &http.Transport{MaxIdleConnsPerHost: connections, DisableCompression: true}
	defer transport.CloseIdleConnections()
	var mu sync.Mutex // guards all and failed
	var all []time.Duration
	var failed error
	var stop atomic.Bool
	timer := time.AfterFunc(span, func() { stop.Store(true) })
	defer timer.Stop()
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			var times []time.Duration
			var err error
			for err == nil && !stop.Load() && ctx.Err() == nil {
				start := time.Now()
				err = p.mint(ctx, transport)
				times = append(times, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, times...)
			if err != nil {
				failed = err
				stop.Store(true)
			}
		})
	}
	wg.Wait()
	return all, failed
}

func (p *process) mint(ctx context.Context, transport *http.Transport) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.issuer+api.PathMintOIDC, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+p.session)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("minting: %s: %s", resp.Status, body)
	}
	return nil
}

// metric reads a counter from the broker's admin listener; 0 when it is not there.
func (p *process) metric(name string) float64 {
	resp, err := http.Get(p.admin + api.PathMetrics)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			f, _ := strconv.ParseFloat(value, 64) // Prometheus text holds numbers
			return f
		}
	}
	return 0
}

// cpu is the CPU time of the broker so far, as the kernel counts it.
func (p *process) cpu() time.Duration {
	return time.Duration(p.metric("process_cpu_seconds_total") * 1e9)
}

// memory is the broker's resident memory in MiB.
func (p *process) memory() float64 { return p.metric("process_resident_memory_bytes") / (1 << 20) }
