//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentkeys/api"
	"agentkeys/client"
)

// The built binary under faults that the kernel reports, by strace and on file systems
// that are too small. Whatever fails: no token leaves without its record, no record is
// half there, and the broker starts again with a log that verifies.

// A kernelFault is what strace injects into the calls that touch one file.
type kernelFault struct {
	file   string // relative to the folder of the host
	calls  string
	errno  string
	heals  bool // without a restart, once the calls succeed again
	leaves bool // tokens leave all the while: the file is no place where a record must be
}

var kernelFaults = map[string]kernelFault{
	"the database's log cannot be flushed":  {file: "data/agentkeys.db-wal", calls: "fsync,fdatasync", errno: "EIO"},
	"the database's log cannot be written":  {file: "data/agentkeys.db-wal", calls: "pwrite64", errno: "EIO"},
	"the database's disk is full":           {file: "data/agentkeys.db-wal", calls: "pwrite64", errno: "ENOSPC", heals: true},
	"the anchor's disk is full":             {file: "anchor.jsonl", calls: "write", errno: "ENOSPC", heals: true},
	"the anchor cannot be flushed":          {file: "anchor.jsonl", calls: "fsync,fdatasync", errno: "EIO"},
	"the file of heads is on a full disk":   {file: "data/heads", calls: "write", errno: "ENOSPC", heals: true, leaves: true},
	"the file of heads cannot be flushed":   {file: "data/heads", calls: "fsync,fdatasync", errno: "EIO", leaves: true},
	"the database itself cannot be written": {file: "data/agentkeys.db", calls: "pwrite64", errno: "EIO", heals: true, leaves: true}, // only when its log is moved into it
}

func TestNoTokenWithoutItsRecordWhateverTheKernelReports(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not here, nor what make test installs it with")
	}
	binary := build(t)
	for name, fault := range kernelFaults {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, binary)
			b := h.serve(t)
			before := b.mint(t, 8)
			if len(before) != 8 {
				t.Fatalf("%d of 8 tokens before any fault", len(before))
			}
			met, stop := b.inject(t, fault)
			during := b.mint(t, 40)
			for n := 0; n < 100 && !met(t); n++ { // heads and the database itself are written now and then
				during = append(during, b.mint(t, 40)...)
			}
			hit := met(t)
			stop(t)
			if fault.leaves == (len(during) == 0) {
				t.Errorf("%d of 40 tokens left under the fault, want that some do: %t", len(during), fault.leaves)
			}
			if !hit {
				t.Error("the fault was never met")
			}
			h.released = append(h.released, before...)
			h.released = append(h.released, during...)
			if fault.heals {
				b.untilReady(t)
				h.released = append(h.released, b.mint(t, 8)...)
			}
			b.kill(t)
			h.startsAgain(t)
		})
	}
}

// A file system of 64 KiB, or with that much room, fills up in the middle of a record.
func TestNoTokenWithoutItsRecordOnSmallDisks(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root mounts a tmpfs")
	}
	binary := build(t)
	for _, folder := range []string{"anchors", "data"} {
		t.Run(folder, func(t *testing.T) {
			h := newHost(t, binary)
			small := filepath.Join(h.dir, folder)
			grow := mountSmall(t, small, folder)
			if folder == "anchors" {
				h.anchor = filepath.Join(small, "anchor.jsonl")
				h.run(t, "init", "--anchor-file", h.anchor)
			}
			b := h.serve(t)
			refused := 0
			for range 40 { // some 64 KiB of records and more
				got := b.mint(t, 16)
				h.released = append(h.released, got...)
				if refused += 16 - len(got); refused > 64 {
					break
				}
			}
			if refused == 0 {
				t.Fatalf("%d tokens left, and the disk did not fill", len(h.released))
			}
			grow()
			b.untilReady(t)
			after := b.mint(t, 8)
			if len(after) == 0 {
				t.Error("no token leaves, although there is room again")
			}
			h.released = append(h.released, after...)
			b.kill(t)
			h.startsAgain(t)
		})
	}
}

// mountSmall puts a tmpfs with 64 KiB of room (1 MiB more for a database, whose log has
// ten pages of each record) in the place of a folder, with what the
// folder held, and gives the function that makes room.
func mountSmall(t *testing.T, dir, name string) (grow func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	held, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	size := 64 << 10
	content := map[string][]byte{}
	for _, f := range held {
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		content[f.Name()] = data
		size += (len(data) + 4095) &^ 4095
	}
	if name == "data" {
		size += 1 << 20 // what a start and four sign-ins put into the log of the database
	}
	options := func(size int) string { return fmt.Sprintf("size=%d,mode=0700", size) }
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options(size)); err != nil {
		t.Skipf("mounting a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for name, data := range content {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, options(64<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

// A host is a folder with keys, a database and an anchor, and the tokens that left it.
type host struct {
	dir, binary, anchor, bind string
	released                  []string // jti
}

func (h *host) issuer() string { return "http://" + h.bind }

// build makes the binary that people run, once for each test that needs it: the second
// time the compiler has nothing to do.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "agentkeys")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", binary, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	return binary
}

func newHost(t *testing.T, binary string) *host {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{dir: t.TempDir(), binary: binary, bind: l.Addr().String()} // the log is that of one address
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	h.anchor = filepath.Join(h.dir, "anchor.jsonl")
	for _, purpose := range []string{"oidc", "session", "audit"} {
		h.run(t, "keygen", "--purpose", purpose, "--out", h.key(purpose))
	}
	h.run(t, "init", "--data-dir", filepath.Join(h.dir, "data"), "--anchor-file", h.anchor)
	return h
}

func (h *host) key(purpose string) string { return filepath.Join(h.dir, purpose+".jwk") }

func (h *host) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), h.binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("agentkeys %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A served is a broker that runs in a process of its own.
type served struct {
	cmd      *exec.Cmd
	log      *bytes.Buffer
	ended    chan error
	client   *client.Client
	sessions []string
}

func (h *host) serve(t *testing.T, more ...string) *served {
	t.Helper()
	cmd := exec.Command(h.binary, "serve")
	cmd.Env = []string{"BROKER_ISSUER=" + h.issuer(), "BROKER_BIND=" + h.bind, "BROKER_DATA_DIR=" + filepath.Join(h.dir, "data"),
		"BROKER_OIDC_KEY_FILE=" + h.key("oidc"), "BROKER_SESSION_KEY_FILE=" + h.key("session"), "BROKER_AUDIT_KEY_FILE=" + h.key("audit"),
		"BROKER_AUDIT_ANCHORS=sqlite,file", "BROKER_AUDIT_ANCHOR_FILE=" + h.anchor, "BROKER_SHUTDOWN_SECONDS=1"}
	cmd.Env = append(cmd.Env, more...) // of which the last counts
	s := startServed(t, cmd, h.issuer())
	for range 4 {
		w, err := client.NewWallet()
		if err != nil {
			t.Fatal(err)
		}
		session, err := s.client.SignIn(t.Context(), w, 1)
		if err != nil {
			t.Fatal(err)
		}
		s.sessions = append(s.sessions, session.SessionJWT)
	}
	return s
}

// startServed starts a program that serves a broker, and waits until that is ready.
func startServed(t *testing.T, cmd *exec.Cmd, issuer string) *served {
	t.Helper()
	s := &served{cmd: cmd, log: &bytes.Buffer{}, ended: make(chan error, 1)}
	cmd.Stderr = s.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { s.ended <- cmd.Wait() }() // ended by kill
	t.Cleanup(func() { s.kill(t) })
	var err error
	s.client, err = client.New(issuer, &http.Client{Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	s.untilReady(t)
	return s
}

// mint asks n times, four at once, and returns the jti of each token that came.
func (s *served) mint(t *testing.T, n int) []string {
	t.Helper()
	var mu sync.Mutex
	var got []string
	var wg sync.WaitGroup
	for _, session := range s.sessions {
		wg.Go(func() {
			for range n / len(s.sessions) {
				answer, err := s.client.MintOIDC(context.WithoutCancel(t.Context()), session)
				if err != nil {
					var refused *api.Error
					if !errors.As(err, &refused) || refused.Code != api.CodeAuditUnavailable {
						t.Errorf("want a token or %s, got %v", api.CodeAuditUnavailable, err)
					}
					continue
				}
				mu.Lock()
				got = append(got, tokenID(t, answer.JWT))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return got
}

func tokenID(t *testing.T, jwt string) string {
	t.Helper()
	var claims struct {
		ID string `json:"jti"`
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(jwt, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil || claims.ID == "" {
		t.Errorf("a token without a jti: %v", err)
	}
	return claims.ID
}

// inject has strace answer calls that touch the file with an error, until stop; met
// says whether any was answered so.
func (s *served) inject(t *testing.T, f kernelFault) (met func(*testing.T) bool, stop func(*testing.T)) {
	t.Helper()
	h := filepath.Dir(envOf(s.cmd, "BROKER_AUDIT_KEY_FILE"))
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command("strace", "-f", "-o", trace, "-P", filepath.Join(h, f.file), "-e", "trace="+f.calls,
		"-e", "inject="+f.calls+":error="+f.errno, "-p", fmt.Sprint(s.cmd.Process.Pid))
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		t.Fatalf("strace did not attach: %s", lines.Text())
	}
	ended := make(chan error, 1)
	go func() { // ended by stop
		for lines.Scan() {
		}
		ended <- cmd.Wait()
	}()
	met = func(t *testing.T) bool {
		t.Helper()
		calls, err := os.ReadFile(trace)
		if err != nil {
			t.Error(err)
		}
		return bytes.Contains(calls, []byte("(INJECTED)"))
	}
	return met, func(t *testing.T) {
		t.Helper()
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		<-ended
	}
}

func envOf(cmd *exec.Cmd, name string) string {
	for _, e := range cmd.Env {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}

// untilReady asks until the broker says that it is ready.
func (s *served) untilReady(t *testing.T) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		ready, err := s.client.Ready(t.Context())
		if err == nil && ready.Status == api.StatusReady {
			return
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			t.Fatalf("the broker ended: %v\n%s", err, s.log)
		case <-deadline:
			t.Fatalf("the broker is not ready: %+v, %v\n%s", ready, err, s.log)
		case <-time.After(50 * time.Millisecond): // between two looks
		}
	}
}

func (s *served) kill(t *testing.T) {
	t.Helper()
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	s.ended <- <-s.ended
}

// startsAgain has the host serve once more, and holds every token that left against
// the log.
func (h *host) startsAgain(t *testing.T) {
	t.Helper()
	b := h.serve(t)
	h.released = append(h.released, b.mint(t, 4)...)
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-b.ended; err != nil {
		t.Errorf("the broker ended with %v\n%s", err, b.log)
	}
	b.ended <- nil
	export := filepath.Join(t.TempDir(), "export.ndjson")
	h.run(t, "audit", "export", "--data-dir", filepath.Join(h.dir, "data"), "--out", export)
	verifier := strings.TrimSpace(h.run(t, "keygen", "--purpose", "audit", "--show", h.key("audit"), "--issuer", h.issuer()))
	verdict := h.run(t, "audit", "verify", "--data-dir", filepath.Join(h.dir, "data"), "--key", verifier,
		"--heads", filepath.Join(h.dir, "data", "heads"), "--anchor", h.anchor)
	if !strings.Contains(verdict, "INTACT") || !strings.Contains(verdict, "COMPLETE") || strings.Contains(verdict, "INCOMPLETE") {
		t.Errorf("the log does not verify:\n%s", verdict)
	}
	log, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	anchored, err := os.ReadFile(h.anchor)
	if err != nil {
		t.Fatal(err)
	}
	for _, place := range []struct {
		name string
		text []byte
	}{{"the log", log}, {"the anchor", anchored}} {
		recorded := map[string]bool{}
		for _, m := range issued.FindAllSubmatch(place.text, -1) {
			recorded[string(m[1])] = true
		}
		for _, id := range h.released {
			if !recorded[id] {
				t.Errorf("token %s left, and %s has no record of it", id, place.name)
			}
		}
	}
}

// issued is the record of a token in a line: outcome comes before token_id.
var issued = regexp.MustCompile(`"outcome":"issued"[^\n]*"token_id":"([^"]+)"`)
