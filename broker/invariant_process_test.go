package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/client"
	"agentkeys/store"
	"agentkeys/token"
)

// A process is a broker in another process, which can be killed and started again
// over its database. It is this test binary, in TestBrokerProcess. STS and the
// anchors live in the process of the tests, and outlive it.
type process struct {
	*world
	dir      string
	socket   *os.File // listens; kept, so that every process has one address
	setup    processSetup
	as       func(*exec.Cmd) // nil for the user of this process
	cmd      *exec.Cmd
	stdin    io.WriteCloser
	lines    *bufio.Reader
	stderr   *lockedBuffer
	recorder *httptest.Server
}

// processSetup is what a process is told.
type processSetup struct {
	Dir      string
	AWS      string            // URL
	Anchors  map[string]string // URL by name
	FileSize uint64            // the largest file that it may write; 0 for any
}

const processVariable = "AGENTKEYS_BROKER_TEST_PROCESS"

// lockedBuffer takes what a process writes.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newProcess makes the files of a broker, in a folder of its own or the one given,
// and starts it.
func newProcess(t *testing.T, dir string) *process {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	p := &process{dir: dir, stderr: &lockedBuffer{}}
	database := filepath.Join(dir, "agentkeys.db")
	must(t, store.Create(t.Context(), database))
	for name, purpose := range map[string]token.Purpose{"oidc.json": token.PurposeOIDC, "session.json": token.PurposeSession} {
		key, err := token.GenerateKey(purpose)
		must(t, err)
		must(t, token.WriteKeyFile(filepath.Join(dir, name), key))
	}
	key, err := token.GenerateAuditKey()
	must(t, err)
	must(t, token.WriteAuditKeyFile(filepath.Join(dir, "audit.json"), key))
	must(t, anchor.CreateCheckpoints(filepath.Join(dir, "heads")))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	issuer := "http://" + listener.Addr().String()
	p.socket, err = listener.(*net.TCPListener).File()
	must(t, err)
	must(t, listener.Close()) // p.socket goes on listening
	t.Cleanup(func() { p.socket.Close() })

	p.world = &world{places: []*place{newPlace("east"), newPlace("west")}, faults: &faults{}, database: database, issuer: issuer, now: time.Now, log: p.stderr.String}
	p.aws = agentkeystest.NewAWS(t, issuer, time.Now)
	p.aws.Intercept(p.watchSTS)
	p.view = viewOf(t, database)
	// A connection for each call: one that was used before would have the client
	// send a call anew by itself when a process dies under it.
	p.http = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	c, err := client.New(issuer, p.http)
	must(t, err)
	p.k = &agentkeystest.Broker{Issuer: issuer, Client: c, Clock: &agentkeystest.Clock{}, HTTP: p.http}
	p.setup = processSetup{Dir: dir, AWS: p.aws.URL, Anchors: map[string]string{}}
	p.recorder = httptest.NewServer(http.HandlerFunc(p.serveAnchor))
	t.Cleanup(p.recorder.Close)
	for _, at := range p.places {
		p.setup.Anchors[at.name] = p.recorder.URL + "/" + at.name
	}
	t.Cleanup(p.kill)
	p.start(t)
	return p
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// viewOf reads the database beside the broker that has it.
func viewOf(t *testing.T, database string) func(context.Context, func(*sql.Tx) error) error {
	t.Helper()
	s, err := store.Open(t.Context(), database, store.ReadOnly())
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s.View
}

func (p *process) serveAnchor(w http.ResponseWriter, r *http.Request) {
	var entries []audit.Entry
	for e, err := range anchor.ReadFile(r.Body) {
		if err != nil { // of a process that was killed, among others
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		entries = append(entries, e)
	}
	for _, at := range p.places {
		if r.URL.Path == "/"+at.name && at.Put(context.WithoutCancel(r.Context()), entries...) == nil {
			return
		}
	}
	w.WriteHeader(http.StatusServiceUnavailable)
}

// start starts the process, which settles what another left and then serves.
func (p *process) start(t *testing.T) {
	t.Helper()
	if line := p.launch(t, "broker"); line != "ready" {
		t.Fatalf("starting the broker: %s\n%s", line, p.stderr)
	}
}

// launch starts a process in a role and returns its first line: "ready", or why it
// is not.
func (p *process) launch(t *testing.T, role string) string {
	t.Helper()
	setup, err := json.Marshal(p.setup)
	must(t, err)
	p.cmd = exec.Command("/proc/self/exe", "-test.run=^TestBrokerProcess$")
	p.cmd.Env = append(os.Environ(), processVariable+"="+role, "AGENTKEYS_BROKER_TEST_SETUP="+string(setup))
	p.cmd.ExtraFiles = []*os.File{p.socket}
	p.cmd.Stderr = p.stderr
	if p.as != nil {
		p.as(p.cmd)
	}
	p.stdin, err = p.cmd.StdinPipe()
	must(t, err)
	stdout, err := p.cmd.StdoutPipe()
	must(t, err)
	must(t, p.cmd.Start())
	p.lines = bufio.NewReader(stdout)
	return p.line()
}

// line is the next line that the process prints, "" once it has ended.
func (p *process) line() string {
	line, _ := p.lines.ReadString('\n')
	return strings.TrimSpace(line)
}

// tell gives the process an order.
func (p *process) tell(t *testing.T, order string) {
	t.Helper()
	_, err := io.WriteString(p.stdin, order+"\n")
	must(t, err)
}

// kill kills the process, as kill -9 does, and returns when it is gone.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	p.reap()
}

// reap returns when the process is gone.
func (p *process) reap() {
	_, _ = io.Copy(io.Discard, p.lines)
	_ = p.cmd.Wait()
	p.cmd = nil
}

// TestBrokerProcess is the other process; alone it does nothing.
func TestBrokerProcess(t *testing.T) {
	role := os.Getenv(processVariable)
	if role == "" {
		return
	}
	var setup processSetup
	must(t, json.Unmarshal([]byte(os.Getenv("AGENTKEYS_BROKER_TEST_SETUP")), &setup))
	if err := map[string]func(*testing.T, processSetup) error{"broker": roleBroker, "lock": roleLock}[role](t, setup); err != nil {
		fmt.Println("error:", err)
	}
}

// roleLock holds the database's lock, as a shell of SQLite does that an operator
// left in a transaction.
func roleLock(t *testing.T, setup processSetup) error {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(setup.Dir, "agentkeys.db")+"?_pragma=busy_timeout(10000)") // the broker may just be writing
	must(t, err)
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// roleBroker is a whole broker until its standard input ends.
func roleBroker(t *testing.T, setup processSetup) error {
	if err := limitFiles(setup.FileSize); err != nil {
		return err
	}
	s, err := store.Open(t.Context(), filepath.Join(setup.Dir, "agentkeys.db"))
	if err != nil {
		return err
	}
	defer s.Close()
	oidc, err := token.LoadKeyFile(filepath.Join(setup.Dir, "oidc.json"), token.PurposeOIDC)
	must(t, err)
	session, err := token.LoadKeyFile(filepath.Join(setup.Dir, "session.json"), token.PurposeSession)
	must(t, err)
	key, err := token.LoadAuditKeyFile(filepath.Join(setup.Dir, "audit.json"))
	must(t, err)
	socket := os.NewFile(3, "socket")
	listener, err := net.FileListener(socket)
	must(t, err)
	must(t, socket.Close())
	gate := &gate{listener, make(chan struct{})}
	d := &death{}
	k := agentkeystest.Over(t, agentkeystest.Parts{Store: s, OIDCKey: oidc, SessionKey: session, AuditKey: key, HeadsFile: filepath.Join(setup.Dir, "heads"), Listener: gate},
		agentkeystest.ConnectAWS(t, setup.AWS), func(c *broker.Config) {
			c.Now = time.Now
			c.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
			for _, name := range []string{"east", "west"} {
				c.Anchors = append(c.Anchors, broker.Anchor{Name: name, Put: d.atAnchor(name, setup.Anchors[name])})
			}
			d.atAWS(c.AWS)
		})
	k.Broker.WrapTransactions(d.atTransactions)
	if err := k.Broker.SettleAll(t.Context()); err != nil {
		fmt.Println("error: settling:", err)
	}
	close(gate.open)
	fmt.Println("ready")
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		n, err := strconv.Atoi(strings.TrimPrefix(orders.Text(), "die at "))
		must(t, err)
		d.arm(n)
		fmt.Println("armed")
	}
	return nil
}

func limitFiles(size uint64) error {
	if size == 0 {
		return nil
	}
	signal.Ignore(syscall.SIGXFSZ) // writing beyond the limit is an error then
	return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: size})
}

// gate lets nobody in before it is open.
type gate struct {
	net.Listener
	open chan struct{}
}

func (g *gate) Accept() (net.Conn, error) {
	<-g.open
	return g.Listener.Accept()
}

// death kills the process at a step of a mint. The steps are all that a mint does
// outside its own memory, before it and after it: between two that follow each other
// there is nothing that another process could find.
type death struct {
	mu   sync.Mutex // guards left
	left int        // steps until then; 0 for never
}

func (d *death) arm(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = n
}

func (d *death) reached(step string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.left == 0 {
		return
	}
	if d.left--; d.left == 0 {
		fmt.Println("died", step)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

func (d *death) atTransactions(update broker.Transact) broker.Transact {
	return func(ctx context.Context, fn func(*sql.Tx) error) error {
		d.reached("before a transaction")
		err := update(ctx, func(tx *sql.Tx) error {
			err := fn(tx)
			d.reached("in a transaction before its commit")
			return err
		})
		d.reached("after a transaction")
		return err
	}
}

func (d *death) atAWS(a *broker.AWS) {
	sign, assume := a.Token, a.AssumeRole
	a.Token = func(caller, tenant, id string, now time.Time) (token.Secret, token.WebIdentity, error) {
		defer d.reached("after the token was signed")
		return sign(caller, tenant, id, now)
	}
	a.AssumeRole = func(ctx context.Context, ask broker.AssumeRole) (broker.Credentials, error) {
		defer d.reached("after STS")
		return assume(ctx, ask)
	}
}

// atAnchor puts records at an anchor over HTTP.
func (d *death) atAnchor(name, url string) func(context.Context, ...audit.Entry) error {
	return func(ctx context.Context, entries ...audit.Entry) error {
		var data []byte
		var outcomes []string
		for _, e := range entries {
			data, outcomes = append(data, e.Line()...), append(outcomes, e.Outcome)
		}
		d.reached("before anchor " + name + " has the " + strings.Join(outcomes, " and the "))
		req, err := http.NewRequestWithContext(ctx, "POST", url, bytes.NewReader(data))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		d.reached("after anchor " + name + " has the " + strings.Join(outcomes, " and the "))
		if resp.StatusCode != http.StatusOK {
			err = errors.Join(err, fmt.Errorf("the anchor answered %s", resp.Status))
		}
		return err
	}
}
