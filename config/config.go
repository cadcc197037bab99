// Package config reads the broker's BROKER_* variables. One table says of each
// its name, default, meaning and check; the help of the program and
// docs/configuration.md are printed from it, so they cannot drift.
//
// A variable that is not in the table is refused: a misspelt name must not
// leave a default in force. Values are checked here as far as they can be
// without touching a file or the network. No variable holds a secret; keys are
// files.
package config

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Config is the configuration of a broker, checked.
type Config struct {
	Issuer           string
	Bind             string
	AdminBind        string
	DataDir          string
	OIDCKeyFile      string
	OIDCExtraKeys    []string
	OIDCCertificates []string
	SessionKeyFile   string
	SessionExtraKeys []string
	OIDCTokenTTL     time.Duration
	SessionTTL       time.Duration
	OIDCAudience     string
	OIDCTagKey       string
	JWKSMaxAge       time.Duration
	WalletChainIDs   []int64
	TrustedProxies   []netip.Prefix
	LogFormat        string
	LogLevel         string
	ShutdownGrace    time.Duration

	AWS           AWS
	STSEndpoint   string // empty: AWS's own for the region
	AWSSessionTTL time.Duration
	RequireGrant  bool
	GrantMax      time.Duration // longest life of a grant
	CallSkew      time.Duration
	Mints         Mints

	AuditKeyFile    string
	AuditOldKeys    []string      // verifier keys as note.NewVerifier takes them
	AuditPolicy     string        // DualStrict or SQLitePrimary
	Anchors         []string      // "sqlite" is always among them
	AnchorFile      string        // empty exactly when "file" is not in Anchors
	CheckpointsFile string        // empty exactly when "checkpoints" is not in Anchors
	HeadsFile       string        // empty: "heads" in DataDir
	Auditors        []string      // identities, "type:value"
	AuditRetention  time.Duration // 0: for ever
}

// AWS is the account's side of the federation.
type AWS struct{ Account, Region, Role, Bucket, Prefix string }

// Configured reports whether the broker can give AWS credentials. Then every
// member is set; otherwise Account, Region and Bucket are all empty.
func (a AWS) Configured() bool { return a.Account != "" }

// Mints say how many AWS credentials may be minted a minute, and, each counted apart,
// how many web identity tokens and whatever else leaves a record at a caller's wish.
type Mints struct{ PerAccount, PerGrant, PerNetwork int }

// variable is one row of the table.
type variable struct {
	name, group, standard, meaning string
	required                       bool
	set                            func(c *Config, value string) error
}

const prefix = "BROKER_"

var table = []variable{
	{"BROKER_ISSUER", "issuer", "", "URL of this broker as AWS and wallets see it; the iss of its tokens. https, a host and nothing behind it; http and a port only on a loopback host", true,
		func(c *Config, v string) error { c.Issuer = v; return checkIssuer(v) }},
	{"BROKER_OIDC_AUDIENCE", "issuer", "sts.amazonaws.com", "aud of web identity tokens", false,
		func(c *Config, v string) error { c.OIDCAudience = v; return checkText(v) }},
	{"BROKER_OIDC_TAG_KEY", "issuer", "agentkeys_user_wallet", "session tag that isolates; the policies at AWS test the same", false,
		func(c *Config, v string) error { c.OIDCTagKey = v; return checkTagKey(v) }},
	{"BROKER_OIDC_TOKEN_TTL_SECONDS", "issuer", "300", "lifetime of a web identity token, 60 to 3600", false,
		seconds(60, 3600, func(c *Config) *time.Duration { return &c.OIDCTokenTTL })},
	{"BROKER_JWKS_MAX_AGE_SECONDS", "issuer", "300", "how long a client may keep the JWKS, 0 to 86400; publish a new key that long before it signs", false,
		seconds(0, 86400, func(c *Config) *time.Duration { return &c.JWKSMaxAge })},

	{"BROKER_OIDC_KEY_FILE", "keys", "", "file of the key that signs web identity tokens (agentkeys keygen --purpose oidc)", true,
		func(c *Config, v string) error { c.OIDCKeyFile = v; return nil }},
	{"BROKER_OIDC_EXTRA_KEY_FILES", "keys", "", "files of OIDC keys that are published but do not sign: the next one, and those retired; by comma", false,
		func(c *Config, v string) (err error) { c.OIDCExtraKeys, err = list(v); return err }},
	{"BROKER_OIDC_CERTIFICATE_FILES", "keys", "", "files of certificates for OIDC keys, put into the JWKS as x5c; AWS needs none, Ceph's RADOS gateway does (agentkeys certificate); by comma", false,
		func(c *Config, v string) (err error) { c.OIDCCertificates, err = list(v); return err }},
	{"BROKER_SESSION_KEY_FILE", "keys", "", "file of the key that signs session tokens (agentkeys keygen --purpose session)", true,
		func(c *Config, v string) error { c.SessionKeyFile = v; return nil }},
	{"BROKER_SESSION_EXTRA_KEY_FILES", "keys", "", "files of session keys that still verify but do not sign; by comma", false,
		func(c *Config, v string) (err error) { c.SessionExtraKeys, err = list(v); return err }},

	{"BROKER_SESSION_TTL_SECONDS", "sign-in", "18000", "lifetime of a session token, 60 to 86400", false,
		seconds(60, 86400, func(c *Config) *time.Duration { return &c.SessionTTL })},
	{"BROKER_WALLET_CHAIN_IDS", "sign-in", "1", "EIP-155 chain ids that a wallet may sign in for; by comma", false,
		func(c *Config, v string) (err error) { c.WalletChainIDs, err = chainIDs(v); return err }},

	{"BROKER_BIND", "server", "127.0.0.1:8091", "address and port to serve on; put TLS in front of it", false,
		func(c *Config, v string) error { c.Bind = v; return checkBind(v) }},
	{"BROKER_ADMIN_BIND", "server", "", "address and port of the admin listener (metrics); empty for none", false,
		func(c *Config, v string) error { c.AdminBind = v; return checkOptional(v, checkBind) }},
	{"BROKER_TRUSTED_PROXIES", "server", "", "networks whose X-Forwarded-For is believed; by comma", false,
		func(c *Config, v string) (err error) { c.TrustedProxies, err = networks(v); return err }},
	{"BROKER_SHUTDOWN_SECONDS", "server", "10", "how long running requests may take to end, 1 to 300", false,
		seconds(1, 300, func(c *Config) *time.Duration { return &c.ShutdownGrace })},

	{"BROKER_DATA_DIR", "data", "", "folder of the database (agentkeys init makes it)", true,
		func(c *Config, v string) error { c.DataDir = v; return nil }},

	{"BROKER_AWS_ACCOUNT", "aws", "", "AWS account, twelve digits; this variable and the four below serve both the AWS credentials that the broker gives and agentkeys federation. The broker gives credentials when account, region and bucket are set, and none when none of them is", false,
		func(c *Config, v string) error { c.AWS.Account = v; return checkOptional(v, checkAccount) }},
	{"BROKER_AWS_REGION", "aws", "", "region of the bucket and of STS", false,
		func(c *Config, v string) error { c.AWS.Region = v; return checkOptional(v, checkRegion) }},
	{"BROKER_AWS_ROLE", "aws", "agentkeys-data-role", "name of the data role", false,
		func(c *Config, v string) error { c.AWS.Role = v; return checkRole(v) }},
	{"BROKER_AWS_BUCKET", "aws", "", "name of the bucket", false,
		func(c *Config, v string) error { c.AWS.Bucket = v; return checkOptional(v, checkBucket) }},
	{"BROKER_AWS_PREFIX", "aws", "bots", "folder of the tenants in the bucket", false,
		func(c *Config, v string) error { c.AWS.Prefix = v; return checkFolder(v) }},

	{"BROKER_REQUIRE_EXPLICIT_GRANT", "credentials", "true", "true or false; false lets a wallet mint for its own prefix without a grant, for a migration", false,
		func(c *Config, v string) error { c.RequireGrant = v == "true"; return oneOf(v, "true", "false") }},
	{"BROKER_GRANT_MAX_DAYS", "credentials", "90", "longest life of a grant, 1 to 3660", false,
		days(1, 3660, func(c *Config) *time.Duration { return &c.GrantMax })},
	{"BROKER_CALL_SKEW_SECONDS", "credentials", "120", "how far the time of a signed call may be from the broker's, 30 to 120; a call is remembered for longer than its signature is fresh", false,
		seconds(30, 120, func(c *Config) *time.Duration { return &c.CallSkew })},
	{"BROKER_AWS_SESSION_SECONDS", "credentials", "3600", "lifetime of AWS credentials, 900 to 43200; the role's own limit at AWS, 3600 unless it was raised, applies as well. AWS's SDKs renew credentials in their last 15 minutes with each request, and each renewal is a use of the grant", false,
		seconds(900, 43200, func(c *Config) *time.Duration { return &c.AWSSessionTTL })},
	{"BROKER_AWS_STS_ENDPOINT", "credentials", "", "URL of another STS than AWS's own for the region; https, or http on a loopback host", false,
		func(c *Config, v string) error { c.STSEndpoint = v; return checkOptional(v, checkEndpoint) }},
	{"BROKER_MINTS_PER_MINUTE_ACCOUNT", "credentials", "600", "what one account may do a minute, 1 to 1000000, each counted apart: get web identity tokens, mint AWS credentials, get them again in a retry, make grants, read the audit log. It refills evenly, and a minute's worth may be used at once", false,
		mints(func(c *Config) *int { return &c.Mints.PerAccount })},
	{"BROKER_MINTS_PER_MINUTE_GRANT", "credentials", "600", "AWS credentials that may be minted a minute under one grant, in the same way", false,
		mints(func(c *Config) *int { return &c.Mints.PerGrant })},
	{"BROKER_MINTS_PER_MINUTE_NETWORK", "credentials", "6000", "what one network may do a minute of the same, all its accounts together, beside proofs of the audit log; and sign-ins that it may start, never fewer than 60. A network is an IPv4 address, or the /64 of an IPv6 address; behind a proxy that BROKER_TRUSTED_PROXIES does not name, all callers are of one network", false,
		mints(func(c *Config) *int { return &c.Mints.PerNetwork })},

	{"BROKER_AUDIT_KEY_FILE", "audit", "", "file of the key that signs the heads of the audit log (agentkeys keygen --purpose audit)", true,
		func(c *Config, v string) error { c.AuditKeyFile = v; return nil }},
	{"BROKER_AUDIT_OLD_KEYS", "audit", "", "verifier keys, name+hash+base64, of audit keys that signed earlier heads of this log (agentkeys keygen --show); by comma", false,
		func(c *Config, v string) (err error) { c.AuditOldKeys, err = verifierKeys(v); return err }},
	{"BROKER_AUDIT_ANCHORS", "audit", "sqlite", "where a record is made durable: sqlite, the database, and optionally file, a second file of records, and checkpoints, a file of signed heads, each best on another disk; by comma", false,
		func(c *Config, v string) (err error) { c.Anchors, err = anchors(v); return err }},
	{"BROKER_AUDIT_ANCHOR_FILE", "audit", "", "path of the anchor file (agentkeys init --anchor-file makes it); set exactly when file is an anchor", false,
		func(c *Config, v string) error { c.AnchorFile = v; return nil }},
	{"BROKER_AUDIT_CHECKPOINTS_FILE", "audit", "", "path of the file of signed heads (agentkeys init --checkpoints-file makes it); set exactly when checkpoints is an anchor", false,
		func(c *Config, v string) error { c.CheckpointsFile = v; return nil }},
	{"BROKER_AUDIT_POLICY", "audit", "dual_strict", "dual_strict: an answer leaves when every anchor has its record; sqlite_primary: when the database has it, and the others follow", false,
		func(c *Config, v string) error { c.AuditPolicy = v; return oneOf(v, DualStrict, SQLitePrimary) }},
	{"BROKER_AUDIT_HEADS_FILE", "audit", "", "path of the file of witnessed heads, which an older database or another log's is held against at the start; none: heads in the data folder. Best on another disk", false,
		func(c *Config, v string) error { c.HeadsFile = v; return nil }},
	{"BROKER_AUDITORS", "audit", "", "who may read all of the audit log over HTTP: wallets, evm:0x and 40 digits in lower case; by comma. email:ADDRESS and oauth2_google:SUB are taken too, but nobody can sign in as such yet", false,
		func(c *Config, v string) (err error) { c.Auditors, err = auditors(v); return err }},
	{"BROKER_AUDIT_RETENTION_DAYS", "audit", "", "after how many days a record is old, 1 to 36600; the broker then tells its log and deletes nothing: agentkeys audit prune does, of what was exported. None: never", false,
		retention},

	{"BROKER_LOG_FORMAT", "log", "json", "json or text", false,
		func(c *Config, v string) error { c.LogFormat = v; return oneOf(v, "json", "text") }},
	{"BROKER_LOG_LEVEL", "log", "info", "debug, info, warn or error", false,
		func(c *Config, v string) error { c.LogLevel = v; return oneOf(v, "debug", "info", "warn", "error") }},
}

// Load reads the configuration from an environment in the form of os.Environ.
// The error names every variable that is missing, unknown, wrong, or at odds with
// another, a line each.
func Load(environ []string) (Config, error) {
	given, errs := collect(environ)
	var c Config
	for _, v := range table {
		value, ok := given[v.name]
		switch {
		case ok && value == "" && v.required, !ok && v.required:
			errs = append(errs, fmt.Errorf("%s is not set: it is the %s", v.name, v.meaning))
			continue
		case !ok:
			value = v.standard
		}
		if err := v.set(&c, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", v.name, value, err))
		}
	}
	errs = append(errs, c.checkTogether(given)...)
	if len(errs) > 0 {
		return Config{}, errors.Join(errs...)
	}
	return c, nil
}

// CheckNames refuses variables that begin as the broker's do and are none of
// them, in an environment in the form of os.Environ.
func CheckNames(environ []string) error {
	_, errs := collect(environ)
	return errors.Join(errs...)
}

// Set names the BROKER_* variables that an environment holds.
func Set(environ []string) []string {
	var names []string
	for _, entry := range environ {
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func collect(environ []string) (map[string]string, []error) {
	given := make(map[string]string)
	var errs []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		if !known(name) {
			errs = append(errs, fmt.Errorf("%s is not a variable of the broker%s", name, nearest(name)))
			continue
		}
		given[name] = value
	}
	return given, errs
}

func known(name string) bool {
	return slices.ContainsFunc(table, func(v variable) bool { return v.name == name })
}

// textWidth is the longest line of PrintText, in characters.
const textWidth = 100

// PrintText prints the table for a terminal: below each variable and its default what
// it means.
func PrintText(w io.Writer) error {
	var b strings.Builder
	for i, v := range table {
		if i == 0 || table[i-1].group != v.group {
			fmt.Fprintf(&b, "%s:\n", v.group)
		}
		fmt.Fprintf(&b, "  %-33s %s\n", v.name, v.defaultText())
		for _, line := range wrapped(v.meaning, textWidth-6) {
			fmt.Fprintf(&b, "      %s\n", line)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrapped breaks a text between words into lines of at most so many bytes. A longer
// word has a line of its own.
func wrapped(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// PrintMarkdown prints the table as docs/configuration.md holds it.
func PrintMarkdown(w io.Writer) error {
	var b strings.Builder
	for i, v := range table {
		if i == 0 || table[i-1].group != v.group {
			fmt.Fprintf(&b, "\n## %s\n\n| variable | default | meaning |\n| --- | --- | --- |\n", v.group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.name, v.defaultText(), v.meaning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (v variable) defaultText() string {
	switch {
	case v.required:
		return "(required)"
	case v.standard == "":
		return "(none)"
	}
	return v.standard
}
