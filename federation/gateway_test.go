//go:build linux

package federation_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// gateway is Ceph's RADOS gateway on the least that it needs: one monitor, and one
// storage daemon that keeps objects in memory. All of it listens on loopback, its
// files are in a folder of the test's, and it ends with the test.
type gateway struct {
	dir, conf string
	url       string
	iam       *iam.Client // of the administrator
	s3        *s3.Client
	ended     chan string // names a daemon that ended by itself
}

const (
	gatewayTenant = "000011112222" // stands where AWS has the account
	gatewayKey    = "AKIAGATEWAYADMIN0000"
	gatewaySecret = "secret-of-the-gateways-administrator"
	gatewayFSID   = "5d9f1c3e-7d7c-4a6e-9a54-1f0d2c9b8e11"
	gatewayOSD    = "9a3c1b52-0d9e-4c1f-8a57-52c3f7f1b0a4"
)

// gatewayConf is the configuration, for the folder, the monitor's address and the
// gateway's. There are no keys inside the cluster. The storage daemon does not ask for
// its place at start, since it gives up where we ask again (see tell). The monitor does
// not wait for further changes before it agrees with itself on one, which makes the
// start ten times as fast.
const gatewayConf = `[global]
fsid = ` + gatewayFSID + `
mon host = v1:%[2]s
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
keyring = /dev/null
log file = %[1]s/$name.log
log to stderr = false
err to stderr = false
run dir = %[1]s
admin socket =
mon data = %[1]s/mon
osd data = %[1]s/osd
rgw data = %[1]s/rgw
paxos propose interval = 0.05
paxos min wait = 0.01
mon allow pool size one = true
mon max pg per osd = 1000
osd objectstore = memstore
memstore device bytes = 268435456
osd class load list = *
osd class default list = *
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
rgw frontends = beast endpoint=%[3]s tcp_nodelay=1
rgw s3 auth use sts = true
rgw sts key = sixteen-letters!
`

func startGateway(t *testing.T) *gateway {
	t.Helper()
	g := &gateway{dir: t.TempDir(), ended: make(chan string, 3)}
	g.conf = filepath.Join(g.dir, "ceph.conf")
	addrs := freeAddrs(t, 2)
	g.url = "http://" + addrs[1]
	must(t, os.WriteFile(g.conf, fmt.Appendf(nil, gatewayConf, g.dir, addrs[0], addrs[1]), 0o600))
	for _, sub := range []string{"mon", "osd", "rgw"} {
		must(t, os.Mkdir(filepath.Join(g.dir, sub), 0o700))
	}
	monmap := filepath.Join(g.dir, "monmap")
	g.run(t, "monmaptool", "--create", "--fsid", gatewayFSID, "--addv", "a", "[v1:"+addrs[0]+"]", monmap)
	g.run(t, "ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
	g.start(t, "ceph-mon", "-i", "a")
	g.tell(t, "osd", "new", gatewayOSD)
	g.tell(t, "osd", "crush", "add", "osd.0", "1", "root=default", "host=here")
	g.run(t, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", gatewayOSD)
	g.start(t, "ceph-osd", "-i", "0")
	g.start(t, "radosgw", "-n", "client.rgw")
	g.await(t)
	g.run(t, "radosgw-admin", "user", "create", "--tenant", gatewayTenant, "--uid", "admin", "--display-name", "admin",
		"--access-key", gatewayKey, "--secret", gatewaySecret, "--caps", "roles=*;oidc-provider=*")
	key := credentials.NewStaticCredentialsProvider(gatewayKey, gatewaySecret, "")
	g.iam = iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &g.url, Credentials: key})
	g.s3 = s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &g.url, Credentials: key, UsePathStyle: true})
	return g
}

// freeAddrs are addresses on loopback that nothing listened on a moment ago.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs
}

// run waits for one of Ceph's tools.
func (g *gateway) run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := g.try(t, name, args...); err != nil {
		t.Fatalf("%s: %v\n%s\n%s", name, err, out, g.logs())
	}
}

// tell gives the monitor a command, again where it is refused: a command that is sent
// before the monitor has told of the cluster's id goes out without it, and comes back
// as EPERM. The commands are those that can be given twice.
func (g *gateway) tell(t *testing.T, args ...string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		out, err := g.try(t, "ceph", args...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ceph %s: %v\n%s\n%s", strings.Join(args, " "), err, out, g.logs())
		}
	}
}

func (g *gateway) try(t *testing.T, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return exec.CommandContext(ctx, name, append([]string{"-c", g.conf}, args...)...).CombinedOutput()
}

// start has a daemon run until the test ends, or the test's process.
func (g *gateway) start(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, append([]string{"-c", g.conf, "-f"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	done := make(chan struct{})
	go func() { // ends with the daemon
		_ = cmd.Wait()
		g.ended <- name
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // by its id, and only while it is ours
		<-done
	})
}

// await waits until the gateway answers.
func (g *gateway) await(t *testing.T) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		resp, err := http.Get(g.url)
		if err == nil {
			resp.Body.Close()
			return
		}
		select {
		case name := <-g.ended:
			t.Fatalf("%s ended by itself\n%s", name, g.logs())
		case <-timeout:
			t.Fatalf("the gateway does not answer: %v\n%s", err, g.logs())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// logs is the end of each daemon's log.
func (g *gateway) logs() string {
	var all strings.Builder
	files, _ := filepath.Glob(filepath.Join(g.dir, "*.log"))
	for _, f := range files {
		text, _ := os.ReadFile(f)
		fmt.Fprintf(&all, "%s:\n…%s\n", filepath.Base(f), text[max(0, len(text)-2000):])
	}
	return all.String()
}

// gatewayPackages are Debian's, each with a program of it.
var gatewayPackages = [][2]string{{"radosgw", "radosgw"}, {"ceph-mon", "ceph-mon"}, {"ceph-osd", "ceph-osd"}, {"ceph-common", "ceph"}}

// needGateway installs what is absent. Where that cannot be done, or AGENTKEYS_SKIP
// names radosgw, the test is skipped and says why.
func needGateway(t *testing.T) {
	t.Helper()
	skip := func(why string) {
		fmt.Fprintln(os.Stderr, "TestProveRadosgw: NOT RUN: "+why)
		t.Skip(why)
	}
	if strings.Contains(","+os.Getenv("AGENTKEYS_SKIP")+",", ",radosgw,") {
		skip("AGENTKEYS_SKIP names radosgw")
	}
	var missing []string
	for _, p := range gatewayPackages {
		if _, err := exec.LookPath(p[1]); err != nil {
			missing = append(missing, p[0])
		}
	}
	if len(missing) == 0 {
		return
	}
	if out, err := install(t.Context(), missing); err != nil {
		skip(strings.TrimSpace(fmt.Sprintf("installing %s: %v\n%s", strings.Join(missing, ", "), err, out)))
	}
}

// install has Debian's packages installed, by sudo where it asks for no password.
func install(ctx context.Context, packages []string) (string, error) {
	apt := []string{"apt-get", "-qq", "-o", "DPkg::Lock::Timeout=60"}
	if os.Getuid() != 0 {
		apt = append([]string{"sudo", "-n"}, apt...)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for _, args := range [][]string{{"update"}, append([]string{"install", "-y", "--no-install-recommends"}, packages...)} {
		cmd := exec.CommandContext(ctx, apt[0], append(apt[1:len(apt):len(apt)], args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return string(out), err
		}
	}
	return "", nil
}
