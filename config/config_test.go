package config

import (
	"os"
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
	} {
		_, err := Load(environ(tc.variable))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.variable, err, tc.want)
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
