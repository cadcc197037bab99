package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"agentkeys/client"
	"agentkeys/federation"
)

// proveLab is a broker with a local AWS behind it, and a folder with what federation
// prove is given.
type proveLab struct {
	*demoServers
	dir string
}

func newProveLab(t *testing.T, faults ...federation.Fault) *proveLab {
	t.Helper()
	dir := t.TempDir()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(createLocal(t.Context(), dir))
	d, err := startDemo(t.Context(), dir, slices.Contains(faults, federation.FaultTagsClaim))
	check(err)
	t.Cleanup(func() {
		if err := d.stop(); err != nil {
			t.Error(err)
		}
	})
	c := localFederation(d.issuer, "agentkeys-lab")
	_, err = d.setUp(t.Context(), c, faults, false)
	check(err)
	for _, name := range []string{"alice", "bob"} {
		w, err := client.NewWallet()
		check(err)
		check(client.WriteWalletFile(filepath.Join(dir, name+".key"), w))
	}
	text, err := json.Marshal(c)
	check(err)
	check(os.WriteFile(filepath.Join(dir, "federation.json"), text, 0o600))
	id, secret := d.aws.AdminCredentials()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	return &proveLab{d, dir}
}

func (l *proveLab) path(name string) string { return filepath.Join(l.dir, name) }

// wallets are the flags of a proof with the two wallets at the lab's AWS.
func (l *proveLab) wallets(more ...string) []string {
	return append([]string{"--endpoint-url", l.aws.url, "--wallet", l.path("alice.key"), "--wallet", l.path("bob.key")}, more...)
}

// tokens mints a token for each wallet and returns the flags that name them.
func (l *proveLab) tokens(t *testing.T, more ...string) []string {
	t.Helper()
	for _, name := range []string{"alice", "bob"} {
		var stderr bytes.Buffer
		args := []string{"mint", "--broker", l.issuer, "--wallet", l.path(name + ".key"), "--out", l.path(name + ".jwt")}
		if code := run(t.Context(), args, nil, &stderr, &stderr); code != exitOK {
			t.Fatalf("minting for %s: %s", name, stderr.String())
		}
	}
	return append([]string{"--endpoint-url", l.aws.url, "--token", "alice=" + l.path("alice.jwt"), "--token", "bob=" + l.path("bob.jwt")}, more...)
}

// prove runs the command. Whatever it prints, a token is not among it.
func (l *proveLab) prove(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errors bytes.Buffer
	args = append([]string{"federation", "prove", "--config", l.path("federation.json")}, args...)
	code = run(t.Context(), args, nil, &out, &errors)
	if s := out.String() + errors.String(); strings.Contains(s, "eyJ") {
		t.Errorf("%q prints a token:\n%s", args, s)
	}
	return code, out.String(), errors.String()
}

func (l *proveLab) report(t *testing.T, args ...string) (int, federation.Report) {
	t.Helper()
	code, stdout, stderr := l.prove(t, append(args, "--format", "json")...)
	var r federation.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("reading the report: %v\n%s", err, stderr)
	}
	return code, r
}

func TestProveWithWallets(t *testing.T) {
	l := newProveLab(t)
	code, r := l.report(t, l.wallets("--oidc-key", l.path(oidcKeyFile), "--seed", "--target-name", "AWS")...)
	if code != exitOK || r.Verdict != federation.Proven {
		t.Fatalf("exit status %d, %s: %s", code, r.Verdict, r.Truth)
	}
	if r.Target.Name != "AWS" || r.Target.Kind != "local" || r.Target.Note == "" || r.Tenants[0].Name != "alice" {
		t.Errorf("target %+v, first tenant %q", r.Target, r.Tenants[0].Name)
	}
	if slices.ContainsFunc(r.NotTried, func(s string) bool { return strings.Contains(s, "no seeder") }) {
		t.Error("the seeder laid nothing")
	}

	// Without the issuer's key one control is missing, and the report says which.
	code, r = l.report(t, l.wallets()...)
	if code != exitInconclusive || r.Verdict != federation.Inconclusive || len(r.Unobserved) != 1 ||
		!strings.HasPrefix(r.Unobserved[0].Why, "control not taken") {
		t.Errorf("exit status %d, %s, not observed: %+v", code, r.Verdict, r.Unobserved)
	}
	if !strings.Contains(r.Truth, "whether the role refuses a token without the tag was not tried") {
		t.Errorf("the truth is %q", r.Truth)
	}
}

func TestProveFindsTheFaults(t *testing.T) {
	l := newProveLab(t, federation.Faults()...)
	code, r := l.report(t, l.wallets("--oidc-key", l.path(oidcKeyFile), "--seed")...)
	if code != exitBroken || r.Verdict != federation.Broken || r.AtAGlance.Foreign != federation.Allowed {
		t.Errorf("exit status %d, %s, %+v", code, r.Verdict, r.AtAGlance)
	}
	// The tokens have no tag, and yet it is known whose they are.
	code, r = l.report(t, l.tokens(t)...)
	if code != exitBroken || r.Tenants[0].TokenTag != "" || !strings.HasPrefix(r.Tenants[0].Tag, "0x") {
		t.Errorf("exit status %d, tenants %+v", code, r.Tenants)
	}
}

// A proof in two parts: the tokens are minted where the broker is, and tried
// elsewhere.
func TestProveWithTokens(t *testing.T) {
	l := newProveLab(t)
	args := l.tokens(t, "--oidc-key", l.path(oidcKeyFile))
	if code, r := l.report(t, args...); code != exitOK || r.Verdict != federation.Proven {
		t.Fatalf("exit status %d, %s: %s", code, r.Verdict, r.Truth)
	}
	// A control with the tag is none.
	code, r := l.report(t, l.tokens(t, "--control-token", l.path("bob.jwt"))...)
	if code != exitInconclusive || r.Verdict != federation.Inconclusive {
		t.Errorf("with a control that has a tag: exit status %d, %s", code, r.Verdict)
	}
	// A key that is not the issuer's signs nothing that STS would look into.
	key := l.path("other.jwk")
	if code := run(t.Context(), []string{"keygen", "--purpose", "oidc", "--out", key}, nil, &bytes.Buffer{}, &bytes.Buffer{}); code != exitOK {
		t.Fatal(code)
	}
	code, r = l.report(t, l.tokens(t, "--oidc-key", key)...)
	if code != exitInconclusive || r.AtAGlance.Untagged != federation.Unclear {
		t.Errorf("with another key: exit status %d, the untagged token: %s", code, r.AtAGlance.Untagged)
	}
}

// A broker that cannot be reached leaves a report that says so.
func TestProveWithoutTheBroker(t *testing.T) {
	l := newProveLab(t)
	code, r := l.report(t, l.wallets("--broker", "http://127.0.0.1:1")...)
	if code != exitInconclusive || r.Verdict != federation.Inconclusive || !strings.Contains(r.Unobserved[0].Why, "no token") {
		t.Errorf("exit status %d, %s, %+v", code, r.Verdict, r.Unobserved)
	}
}

// The endpoints of the AWS configuration count as they do for the AWS CLI, and the
// flags go before them.
func TestProveFindsItsEndpoints(t *testing.T) {
	l := newProveLab(t)
	t.Setenv("AWS_ENDPOINT_URL", l.aws.url)
	args := l.tokens(t, "--oidc-key", l.path(oidcKeyFile), "--seed")
	if code, r := l.report(t, args[2:]...); code != exitOK || r.Target.Kind != "local" || r.Target.STS != l.aws.url {
		t.Errorf("by AWS_ENDPOINT_URL: exit status %d, target %+v", code, r.Target)
	}
	t.Setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
	if code, r := l.report(t, args...); code != exitOK || r.Target.STS != l.aws.url || r.Target.S3 != l.aws.url {
		t.Errorf("--endpoint-url before the environment: exit status %d, target %+v", code, r.Target)
	}
	args = append(args[2:], "--sts-endpoint-url", l.aws.url, "--s3-endpoint-url", l.aws.url)
	if code, r := l.report(t, args...); code != exitOK {
		t.Errorf("each its own: exit status %d, target %+v", code, r.Target)
	}
}

func TestProveWritesReports(t *testing.T) {
	l := newProveLab(t)
	jsonFile, htmlFile, textFile := l.path("r.json"), l.path("r.html"), l.path("r.txt")
	code, stdout, stderr := l.prove(t, l.tokens(t, "--out", textFile, "--json", jsonFile, "--html", htmlFile)...)
	if code != exitInconclusive || stdout != "" || stderr != "" {
		t.Fatalf("exit status %d, printed %q and %q", code, stdout, stderr)
	}
	for file, want := range map[string]string{jsonFile: `"verdict": "INCONCLUSIVE"`, htmlFile: "<svg", textFile: "verdict   INCONCLUSIVE"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode() != 0o644 {
			t.Errorf("%s has mode %v, want 0644", file, info.Mode())
		}
		if text := string(data); !strings.Contains(text, want) || strings.Contains(text, "eyJ") || strings.Contains(text, "\x1b") {
			t.Errorf("%s does not have %q, or it has a token or colours", file, want)
		}
	}
	// The same again: nothing is written over, and nothing is tried.
	for _, flag := range []string{"--out", "--json", "--html"} {
		if code, _, stderr := l.prove(t, l.tokens(t, flag, jsonFile)...); code != exitUsage || !strings.Contains(stderr, "is there already") {
			t.Errorf("%s over a file: exit status %d, %s", flag, code, stderr)
		}
	}
	if left, _ := filepath.Glob(l.path(".report-*")); len(left) > 0 {
		t.Errorf("%v were left behind", left)
	}
}

// A file that appears while the proof is made stays as it is, and a report that
// cannot be written leaves nothing.
func TestReportFileIsNeverWrittenOver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "r.json")
	r := &federation.Report{Verdict: federation.Proven}
	if err := (reportFile{path, r.WriteJSON}).save(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r.Verdict = federation.Broken
	if err := (reportFile{path, r.WriteJSON}).save(); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a second report: %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the first report has changed")
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("the folder has %v, want the report alone", entries)
	}
}

func TestProveWrongUse(t *testing.T) {
	l := newProveLab(t)
	wallets, tokens := l.wallets(), l.tokens(t)
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitUsage, "the tenants are missing"},
		{wallets[:4], exitUsage, "want two tenants, got 1"},
		{append(l.wallets(), "--wallet", l.path("alice.key")), exitUsage, "want two tenants, got 3"},
		{append(l.wallets(), tokens...), exitUsage, "got both"},
		{[]string{"--wallet", l.path("alice.key"), "--wallet", l.path("alice.key")}, exitUsage, "two different tenants"},
		{[]string{"--wallet", "a=" + l.path("alice.key"), "--wallet", "a=" + l.path("bob.key")}, exitUsage, "two different tenants"},
		{[]string{"--wallet", "untagged=" + l.path("alice.key"), "--wallet", l.path("bob.key")}, exitUsage, "want a name of"},
		{[]string{"--wallet", l.path("alice.key"), "--wallet", l.path("none.key")}, exitUsage, "none.key"},
		{[]string{"--token", l.path("alice.jwt"), "--token", "bob=" + l.path("bob.jwt")}, exitUsage, "want NAME=FILE"},
		{[]string{"--token", "alice=" + l.path("bob.jwt"), "--token", "bob=" + l.path("bob.jwt")}, exitUsage, "two different tenants"},
		{[]string{"--token", "alice=" + l.path("federation.json"), "--token", "bob=" + l.path("bob.jwt")}, exitUsage, "want 3 parts"},
		{append(tokens, "--broker", l.issuer), exitUsage, "for --wallet"},
		{l.wallets("--broker", "http://broker.example.com"), exitUsage, "want https"},
		{l.wallets("--oidc-key", l.path(sessionKeyFile)), exitUsage, `purpose: want "oidc", got "session"`},
		{l.wallets("--oidc-key", l.path(oidcKeyFile), "--control-token", l.path("bob.jwt")), exitUsage, "got both"},
		{l.wallets("--control-token", l.path("none.jwt")), exitUsage, "none.jwt"},
		{l.wallets("--sts-endpoint-url", "127.0.0.1:1"), exitUsage, "--sts-endpoint-url: want a URL"},
		{l.wallets("--target-name", "a\nb"), exitUsage, "printable characters"},
		{l.wallets("--format", "xml"), exitUsage, `want text, json or html, got "xml"`},
		{l.wallets("--out", "/nowhere/r"), exitUsage, "/nowhere"},
		{l.wallets("--json", l.path("new"), "--html", l.path("./new")), exitUsage, "want two files"},
		{l.wallets("--metrics-bind", "127.0.0.1:0"), exitUsage, "is for --repeat"},
		{l.wallets("--repeat", "1h", "--html", l.path("new")), exitUsage, "is for one run"},
		{l.wallets("--repeat", "1ms"), exitUsage, "at least 1s"},
		{l.wallets("--repeat", "0s"), exitUsage, "at least 1s"},
		{l.wallets("--repeat", "1h", "--out-dir", l.dir, "--keep", "0"), exitUsage, "at least 1"},
		{l.wallets("--repeat", "1h", "--keep", "5"), exitUsage, "for --out-dir"},
		{l.wallets("--repeat", "1h", "--out-dir", l.path("nowhere")), exitUsage, "want a folder"},
		{l.wallets("--repeat", "1h", "--metrics-bind", strings.TrimPrefix(l.issuer, "http://")), exitInconclusive, "address already in use"},
		{append(wallets, "now"), exitUsage, `want flags alone, got "now"`},
	} {
		code, stdout, stderr := l.prove(t, test.args...)
		if code != test.code || !strings.Contains(stderr, test.want) || stdout != "" {
			t.Errorf("%q: exit status %d, %s\nwant %d and %q", test.args, code, stderr, test.code, test.want)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	if code, _, stderr := l.prove(t, l.wallets("--seed")...); code != exitInconclusive || !strings.Contains(stderr, "--seed") {
		t.Errorf("--seed without credentials: exit status %d, %s", code, stderr)
	}
}
