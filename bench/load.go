package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
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
	ended         chan error // holds how the process ended; nil before it was started
	log           bytes.Buffer
	size          int64 // of the program, in bytes
	coldStart     time.Duration
	session       string
	wallet        *client.Wallet
	sts           net.Listener
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
		{"go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "agentkeys/cmd/agentkeys"},
		{binary, "keygen", "--purpose", "oidc", "--out", in("oidc.jwk")},
		{binary, "keygen", "--purpose", "session", "--out", in("session.jwk")},
		{binary, "keygen", "--purpose", "audit", "--out", in("audit.jwk")},
		{binary, "init", "--data-dir", in("data")},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as "make build" builds it
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	built, err := os.Stat(binary)
	if err != nil {
		return nil, err
	}
	p.size = built.Size()
	if p.sts, err = standIn(); err != nil {
		return nil, err
	}
	bind, admin, err := freePorts()
	if err != nil {
		return nil, err
	}
	p.issuer, p.admin = "http://"+bind, "http://"+admin
	p.cmd = exec.CommandContext(ctx, binary, "serve")
	p.cmd.Stderr = &p.log
	own := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "BROKER_") })
	p.cmd.Env = append(own, "BROKER_ISSUER="+p.issuer, "BROKER_BIND="+bind, "BROKER_ADMIN_BIND="+admin,
		"BROKER_DATA_DIR="+in("data"), "BROKER_OIDC_KEY_FILE="+in("oidc.jwk"), "BROKER_SESSION_KEY_FILE="+in("session.jwk"),
		"BROKER_AUDIT_KEY_FILE="+in("audit.jwk"),
		"BROKER_LOG_LEVEL=warn", "BROKER_AWS_ACCOUNT="+account, "BROKER_AWS_REGION=us-east-1", "BROKER_AWS_BUCKET=agentkeys-data",
		"BROKER_AWS_STS_ENDPOINT=http://"+p.sts.Addr().String(), "BROKER_MINTS_PER_MINUTE_ACCOUNT=1000000",
		"BROKER_MINTS_PER_MINUTE_GRANT=1000000", "BROKER_MINTS_PER_MINUTE_NETWORK=1000000")
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.ended = make(chan error, 1)
	go func() { p.ended <- p.cmd.Wait() }() // ends with the process
	return p, p.ready(ctx, start)
}

// ready waits until the broker answers, and signs in.
func (p *process) ready(ctx context.Context, start time.Time) error {
	for p.coldStart == 0 {
		resp, err := http.Get(p.issuer + api.PathReady)
		if err == nil {
			resp.Body.Close()
			p.coldStart = time.Since(start)
			break
		}
		select {
		case err := <-p.ended:
			p.ended <- err
			return fmt.Errorf("the broker did not start: %v: %s", err, p.log.Bytes())
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond): // between two tries to reach a process that is starting
		}
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
	p.session, p.wallet = session.SessionJWT, w
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
	if p.ended != nil {
		_ = p.cmd.Process.Signal(os.Interrupt)
		<-p.ended
	}
	if p.sts != nil {
		_ = p.sts.Close()
	}
	_ = os.RemoveAll(p.dir)
}

type result struct {
	rate, commits, memory float64
	p50, p99, cpu         time.Duration
}

// minting is one mint over a transport.
type minting func(context.Context, *http.Transport) error

// errSpent ends a load that has used up what was prepared for it.
var errSpent = errors.New("nothing is left to send")

// load mints over a number of connections for a span of time, or until nothing is
// left to send.
func (p *process) load(ctx context.Context, connections int, span time.Duration, mint minting) (result, error) {
	if _, err := p.ask(ctx, connections, min(span, time.Second), p.mint); err != nil { // warm up
		return result{}, err
	}
	before := p.usage()
	start := time.Now()
	times, err := p.ask(ctx, connections, span, mint)
	if err != nil {
		return result{}, err
	}
	took, n := time.Since(start), float64(len(times))
	if n == 0 {
		return result{}, errors.New("no token was minted")
	}
	usage := p.usage()
	if usage.err != nil {
		return result{}, usage.err
	}
	slices.Sort(times)
	return result{
		rate:    n / took.Seconds(),
		p50:     times[len(times)/2],
		p99:     times[len(times)*99/100],
		cpu:     time.Duration((usage.cpu - before.cpu) * 1e9 / n),
		commits: (usage.commits - before.commits) / n,
		memory:  usage.memory,
	}, nil
}

func (p *process) ask(ctx context.Context, connections int, span time.Duration, mint minting) ([]time.Duration, error) {
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
				if err = mint(ctx, transport); err == nil {
					times = append(times, time.Since(start))
				}
			}
			if errors.Is(err, errSpent) {
				err = nil
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
	return p.send(req, transport)
}

func (p *process) send(req *http.Request, transport *http.Transport) error {
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

// usage is what the broker has used so far, as its admin listener tells.
type usage struct {
	cpu     float64 // seconds, as the kernel counts them
	commits float64
	memory  float64 // resident, in MiB
	err     error
}

func (p *process) usage() usage {
	var u usage
	resp, err := http.Get(p.admin + api.PathMetrics)
	if err != nil {
		return usage{err: err}
	}
	defer resp.Body.Close()
	found := 0
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue // a comment
		}
		switch name {
		case "process_cpu_seconds_total":
			u.cpu = f
		case "agentkeys_store_commits_total":
			u.commits = f
		case "process_resident_memory_bytes":
			u.memory = f / (1 << 20)
		default:
			continue
		}
		found++
	}
	if found != 3 {
		u.err = fmt.Errorf("reading the broker's metrics: want 3 of them, got %d", found)
	}
	return u
}
