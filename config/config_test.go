package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

// environ is the smallest that loads.
func environ(extra ...string) []string {
	return append([]string{
		"HOME=/home/somebody",
		"BROKER_ISSUER=https://broker.example.com",
		"BROKER_DATA_DIR=data",
		"BROKER_OIDC_KEY_FILE=oidc.jwk",
		"BROKER_SESSION_KEY_FILE=session.jwk",
		"BROKER_AUDIT_KEY_FILE=audit.jwk",
	}, extra...)
}

func TestLoadTakesDefaults(t *testing.T) {
	c, err := Load(environ())
	if err != nil {
		t.Fatal(err)
	}
	if c.OIDCTokenTTL != 5*time.Minute || c.SessionTTL != 5*time.Hour {
		t.Errorf("lifetimes: web identity token %v, session %v; want 5m and 5h", c.OIDCTokenTTL, c.SessionTTL)
	}
	if c.Bind != "127.0.0.1:8091" || c.AdminBind != "" {
		t.Errorf("listeners: %q and %q; want loopback and none", c.Bind, c.AdminBind)
	}
	if c.OIDCAudience != "sts.amazonaws.com" {
		t.Errorf("audience %q", c.OIDCAudience)
	}
}

func TestLoadNamesEveryMistake(t *testing.T) {
	_, err := Load([]string{"BROKER_SESION_TTL_SECONDS=60", "BROKER_BIND=nowhere"})
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{
		"BROKER_SESION_TTL_SECONDS is not a variable of the broker; did you mean BROKER_SESSION_TTL_SECONDS?",
		`BROKER_BIND="nowhere": want HOST:PORT`,
		"BROKER_ISSUER is not set",
		"BROKER_DATA_DIR is not set",
		"BROKER_OIDC_KEY_FILE is not set",
		"BROKER_SESSION_KEY_FILE is not set",
		"BROKER_AUDIT_KEY_FILE is not set: it is the file of the key that signs the heads of the audit log (agentkeys keygen --purpose audit)",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing from the error: %s\ngot:\n%v", want, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct{ variable, want string }{
		{"BROKER_ISSUER=http://broker.example.com", `want https (http only on a loopback host), got "http"`},
		{"BROKER_ISSUER=https://broker.example.com/", "want no trailing slash"},
		{"BROKER_ISSUER=https://broker.example.com:8443", `want no port: AWS takes none, got "8443"`},
		{"BROKER_ISSUER=https://broker.example.com?x=1", "no user, path, query or fragment"},
		{"BROKER_ISSUER=https://broker.example.com/oidc", "no user, path, query or fragment"},
		{"BROKER_ISSUER=https://broker.example.com/a//b", "no user, path, query or fragment"},
		{"BROKER_ISSUER=https://Broker.example.com", "a host name of a-z"},
		{"BROKER_ISSUER=HTTPS://broker.example.com", "in lower case"},
		{"BROKER_ISSUER=https://broker.example.com:", "want no port"},
		{"BROKER_ISSUER=https://-", "a host name of a-z"},
		{"BROKER_ISSUER=https://bröker.example", "a host name of a-z"},
		{"BROKER_ISSUER=http://127.0.0.1:99999", `want a port from 1 to 65535, got "99999"`},
		{"BROKER_ISSUER=http://127.0.0.1:", "want a port behind the colon"},
		{"BROKER_ISSUER=https://127.0.0.1.example.com:1", "want no port"},
		{"BROKER_ISSUER=", "BROKER_ISSUER is not set"},
		{"BROKER_OIDC_TOKEN_TTL_SECONDS=59", "want 60 to 3600 seconds, got 59"},
		{"BROKER_OIDC_TOKEN_TTL_SECONDS=3601", "want 60 to 3600 seconds, got 3601"},
		{"BROKER_OIDC_TOKEN_TTL_SECONDS=5m", "want a whole number of seconds"},
		{"BROKER_SESSION_TTL_SECONDS=86401", "want 60 to 86400 seconds, got 86401"},
		{"BROKER_WALLET_CHAIN_IDS=0", `want positive chain ids, got "0"`},
		{"BROKER_WALLET_CHAIN_IDS=1,+5", `want positive chain ids, got "+5"`},
		{"BROKER_WALLET_CHAIN_IDS=1,5,1", `got "1" twice`},
		{"BROKER_SESSION_TTL_SECONDS=+300", "want a whole number"},
		{"BROKER_BIND=127.0.0.1:+8091", "want a port"},
		{"BROKER_WALLET_CHAIN_IDS=", "want at least one chain id"},
		{"BROKER_BIND=127.0.0.1:65536", "want a port from 0 to 65535"},
		{"BROKER_TRUSTED_PROXIES=10.0.0.1/8", "host bits set"},
		{"BROKER_TRUSTED_PROXIES=10.0.0.0/8,,", "got an empty one"},
		{"BROKER_LOG_LEVEL=verbose", "want one of debug, info, warn, error"},
		{"BROKER_OIDC_AUDIENCE=", "want 1 to 255 characters"},
		{"BROKER_MINTS_PER_MINUTE_ACCOUNT=0", "want 1 to 1000000 mints a minute, got 0"},
		{"BROKER_MINTS_PER_MINUTE_GRANT=1000001", "want 1 to 1000000 mints a minute, got 1000001"},
		{"BROKER_MINTS_PER_MINUTE_NETWORK=", "want a whole number of mints a minute"},
		{"BROKER_REQUIRE_EXPLICIT_GRANT=no", "want one of true, false"},
		{"BROKER_REQUIRE_EXPLICIT_GRANT=", "want one of true, false"},
		{"BROKER_GRANT_MAX_DAYS=0", "want 1 to 3660 days, got 0"},
		{"BROKER_GRANT_MAX_DAYS=3661", "want 1 to 3660 days, got 3661"},
		{"BROKER_CALL_SKEW_SECONDS=29", "want 30 to 120 seconds, got 29"},
		{"BROKER_CALL_SKEW_SECONDS=121", "want 30 to 120 seconds, got 121"},
		{"BROKER_AWS_SESSION_SECONDS=899", "want 900 to 43200 seconds, got 899"},
		{"BROKER_AWS_SESSION_SECONDS=43201", "want 900 to 43200 seconds, got 43201"},
		{"BROKER_AWS_STS_ENDPOINT=http://sts.example.com", `want https (http only on a loopback host), got "http"`},
		{"BROKER_AWS_STS_ENDPOINT=http://127.0.0.1.example.com", "want https"},
		{"BROKER_AWS_STS_ENDPOINT=http://localhost@sts.example.com", "no user, path, query or fragment"},
		{"BROKER_AWS_STS_ENDPOINT=https://sts.example.com/", "no user, path, query or fragment"},
		{"BROKER_AWS_STS_ENDPOINT=https://sts.example.com:0", "want a port from 1 to 65535"},
		{"BROKER_AWS_STS_ENDPOINT=https://:443", "want a host name"},
		{"BROKER_AWS_STS_ENDPOINT=sts.example.com", "want scheme://host"},
		{"BROKER_AWS_ACCOUNT=12345678901", "want twelve digits"},
		{"BROKER_AWS_ACCOUNT=1234567890123", "want twelve digits"},
		{"BROKER_AWS_REGION=us-east", "want the form us-east-1"},
		{"BROKER_AWS_ROLE=arn:aws:iam::111122223333:role/x", "want a role name, not an ARN"},
		{"BROKER_AWS_ROLE=", "want a role name"},
		{"BROKER_AWS_ROLE=" + strings.Repeat("r", 65), "want a role name"},
		{"BROKER_AWS_BUCKET=" + strings.Repeat("b", 64), "want 3 to 63"},
		{"BROKER_AWS_BUCKET=Acme", "want 3 to 63 of a-z"},
		{"BROKER_AWS_BUCKET=192.0.2.1", "want no IP address"},
		{"BROKER_AWS_BUCKET=acme..mail", "no two dots"},
		{"BROKER_AWS_PREFIX=", "want 1 to 512"},
		{"BROKER_AWS_PREFIX=bots/", "want no slash at either end"},
		{"BROKER_AWS_PREFIX=bots/../x", "neither . nor .. as a segment"},
		{"BROKER_AWS_PREFIX=bots/*", "no wildcard"},
	} {
		_, err := Load(environ(tc.variable))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.variable, err, tc.want)
		}
	}
}

// want compares what one configuration loads as with what is wanted.
func want(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestCredentials(t *testing.T) {
	c, err := Load(environ())
	if err != nil {
		t.Fatal(err)
	}
	want(t, c.AWS, AWS{Role: "agentkeys-data-role", Prefix: "bots"})
	want(t, c.AWS.Configured(), false)
	want(t, c.Mints, Mints{PerAccount: 600, PerGrant: 600, PerNetwork: 6000})
	want(t, c.Anchors, []string{"sqlite"})
	want(t, []any{c.RequireGrant, c.GrantMax, c.CallSkew, c.AWSSessionTTL, c.STSEndpoint, c.AnchorFile},
		[]any{true, 90 * 24 * time.Hour, 2 * time.Minute, time.Hour, "", ""})

	c, err = Load(environ("BROKER_AWS_ACCOUNT=111122223333", "BROKER_AWS_REGION=us-gov-east-1", "BROKER_AWS_BUCKET=acme-agent-mail",
		"BROKER_AWS_ROLE=r", "BROKER_AWS_PREFIX=a/b", "BROKER_MINTS_PER_MINUTE_ACCOUNT=1", "BROKER_MINTS_PER_MINUTE_GRANT=2",
		"BROKER_MINTS_PER_MINUTE_NETWORK=1000000", "BROKER_REQUIRE_EXPLICIT_GRANT=false", "BROKER_GRANT_MAX_DAYS=3660",
		"BROKER_CALL_SKEW_SECONDS=30", "BROKER_AWS_SESSION_SECONDS=43200", "BROKER_AWS_STS_ENDPOINT=http://[::1]:4566",
		"BROKER_AUDIT_ANCHORS=file, sqlite", "BROKER_AUDIT_ANCHOR_FILE=/mnt/anchor.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, c.AWS, AWS{"111122223333", "us-gov-east-1", "r", "acme-agent-mail", "a/b"})
	want(t, c.AWS.Configured(), true)
	want(t, c.Mints, Mints{PerAccount: 1, PerGrant: 2, PerNetwork: 1_000_000})
	want(t, c.Anchors, []string{"file", "sqlite"})
	want(t, []any{c.RequireGrant, c.GrantMax, c.CallSkew, c.AWSSessionTTL, c.STSEndpoint, c.AnchorFile},
		[]any{false, 3660 * 24 * time.Hour, 30 * time.Second, 12 * time.Hour, "http://[::1]:4566", "/mnt/anchor.jsonl"})
}

// Half an account is a mistake; it must not leave a broker that gives nothing.
func TestAWSIsSetTogether(t *testing.T) {
	values := map[string]string{"ACCOUNT": "111122223333", "REGION": "us-east-1", "BUCKET": "acme-agent-mail"}
	names := []string{"ACCOUNT", "REGION", "BUCKET"}
	for mask := range 8 {
		var given, missing []string
		for i, name := range names {
			if mask>>i&1 == 1 {
				given = append(given, "BROKER_AWS_"+name+"="+values[name])
			} else {
				missing = append(missing, "BROKER_AWS_"+name)
				given = append(given, []string{"OTHER=", "BROKER_AWS_" + name + "="}[i%2]) // absent and empty are the same
			}
		}
		_, err := Load(environ(given...))
		if whole := len(missing) == 0 || len(missing) == 3; whole != (err == nil) {
			t.Errorf("%q: %v", given, err)
		}
		if err != nil && !strings.HasSuffix(err.Error(), " set, "+strings.Join(missing, " and ")+" not") {
			t.Errorf("%q: the error %q does not name %q alone as missing", given, err, missing)
		}
	}
	if _, err := Load(environ("BROKER_AWS_ROLE=r", "BROKER_AWS_PREFIX=p")); err != nil {
		t.Errorf("a role and a prefix alone, which have defaults: %v", err)
	}
}

// The commands of agentkeys federation take the rest from flags and files.
func TestCheckNamesAdmitsAPart(t *testing.T) {
	if err := CheckNames([]string{"BROKER_AWS_ACCOUNT=111122223333", "BROKER_AUDIT_ANCHOR_FILE=x"}); err != nil {
		t.Error(err)
	}
}

// What is for credentials alone does nothing in a broker that gives none: somebody
// believes that it does.
func TestCredentialsWantAnAccount(t *testing.T) {
	account := []string{"BROKER_AWS_ACCOUNT=111122223333", "BROKER_AWS_REGION=us-east-1", "BROKER_AWS_BUCKET=acme-agent-mail"}
	for _, given := range []string{"BROKER_AWS_STS_ENDPOINT=http://127.0.0.1:4566", "BROKER_AWS_SESSION_SECONDS=900"} {
		name, _, _ := strings.Cut(given, "=")
		if _, err := Load(environ(given)); err == nil || !strings.HasPrefix(err.Error(), name+" is set, and BROKER_AWS_ACCOUNT, ") {
			t.Errorf("%s without an account: %v", given, err)
		}
		if _, err := Load(environ(append(account, given)...)); err != nil {
			t.Errorf("%s with one: %v", given, err)
		}
	}
	if _, err := Load(environ("BROKER_AWS_STS_ENDPOINT=")); err != nil {
		t.Errorf("an empty one, which is none: %v", err)
	}
}

// The help fits a terminal and loses no word.
func TestTextFitsATerminal(t *testing.T) {
	var b strings.Builder
	if err := PrintText(&b); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := len(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
	words := strings.Join(strings.Fields(b.String()), " ")
	for _, v := range table {
		if !strings.Contains(words, v.name+" "+v.defaultText()+" "+v.meaning) {
			t.Errorf("%s is not told whole", v.name)
		}
	}
}

func TestSTSEndpoint(t *testing.T) {
	for _, endpoint := range []string{"https://sts.us-east-1.amazonaws.com", "https://vpce-1.sts.us-east-1.vpce.amazonaws.com:8443",
		"http://localhost:4566", "http://127.0.0.1", "https://[2001:db8::1]", "https://192.0.2.1"} {
		if _, err := Load(environ("BROKER_AWS_STS_ENDPOINT="+endpoint, "BROKER_AWS_ACCOUNT=111122223333", "BROKER_AWS_REGION=us-east-1", "BROKER_AWS_BUCKET=acme-agent-mail")); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

func TestIssuerOnLoopbackMayUseHTTPAndAPort(t *testing.T) {
	for _, issuer := range []string{"http://127.0.0.1:8091", "http://localhost:8091", "http://[::1]:8091", "http://127.0.0.1"} {
		if _, err := Load(environ("BROKER_ISSUER=" + issuer)); err != nil {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

func TestDocumentationIsPrintedFromTheTable(t *testing.T) {
	var b strings.Builder
	if err := PrintMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), b.String()) {
		t.Errorf("docs/configuration.md does not hold the table as it is now; it should contain:\n%s", b.String())
	}
}

func TestSetNamesOnlyBrokerVariables(t *testing.T) {
	got := strings.Join(Set([]string{"BROKER_Z=1", "PATH=x", "BROKER_A="}), " ")
	if got != "BROKER_A BROKER_Z" {
		t.Errorf("got %q", got)
	}
}
