package broker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/token"
)

// Limits of AssumeRoleWithWebIdentity, from the model of the STS API.
const (
	minSession       = 900 * time.Second
	maxSession       = 43200 * time.Second
	maxSessionPolicy = 2048  // characters
	maxWebToken      = 20000 // characters
)

// How STS is called.
const (
	dialTimeout = 3 * time.Second // so that a connection that cannot be made leaves time for another
	// idleTimeout is less than servers keep an idle connection: one that is closed
	// under a request leaves open whether STS saw it.
	idleTimeout     = 15 * time.Second
	idleConnections = 256
	maxAttempts     = 8 // AWS wants IDPCommunicationError tried "a limited number of times"
	firstBackoff    = 200 * time.Millisecond
	maxBackoff      = 5 * time.Second
	maxHint         = 5 * time.Second // that AWS's hint may add to a wait, as in the SDK
)

// AssumeRole is one call of AssumeRoleWithWebIdentity.
type AssumeRole struct {
	RoleARN     string
	SessionName string        // RoleSessionName: 2 to 64 of A-Z a-z 0-9 _ + = , . @ -
	Policy      string        // the inline session policy; never empty
	Token       token.Secret  // the web identity token
	Duration    time.Duration // whole seconds, 900 s to 43200 s
}

// Credentials are what STS gave.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey token.Secret
	SessionToken    token.Secret
	ExpiresAt       time.Time
	RequestID       string // AWS's; "" where it gave none
}

// STSConfig says where STS is and how long it may take. Only Region is required.
type STSConfig struct {
	Region   string
	Endpoint string // URL, https or on loopback http; "" for AWS's own of the region
	// HTTPClient makes the requests; nil for one made for this. Its redirect policy
	// and its cookies are not used.
	HTTPClient *http.Client
	Timeout    time.Duration    // of a call with all its retries; 0 for 10 s
	Now        func() time.Time // what expiries are held against; nil for time.Now
}

// STS calls AWS STS. It may be used concurrently.
//
// It keeps one promise, on which the broker's invariant stands: it asks again only
// where STS has certainly issued nothing. One AssumeRole gives at most one set of
// credentials, at AWS as well as here.
//
// It calls without a signature and looks for no credentials: not in the
// environment, not in shared files, not at an instance's metadata service. It
// trusts the host's certificate authorities, and a proxy of the environment with
// nothing but the tunnel to an https endpoint.
type STS struct {
	config STSConfig
	client *sts.Client
	http   *http.Client
}

// NewSTS checks the configuration. It makes no request.
func NewSTS(c STSConfig) (*STS, error) {
	if !regionForm.MatchString(c.Region) {
		return nil, fmt.Errorf("STS: region: want the form us-east-1, got %q", c.Region)
	}
	if err := checkEndpoint(c.Endpoint); err != nil {
		return nil, err
	}
	if c.Timeout < 0 {
		return nil, fmt.Errorf("STS: timeout: want a positive one, got %v", c.Timeout)
	}
	if c.Timeout == 0 {
		c.Timeout = stsTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &STS{config: c, http: stsHTTPClient(c.HTTPClient)}
	options := sts.Options{Region: c.Region, Credentials: aws.AnonymousCredentials{}, Retryer: aws.NopRetryer{}}
	if c.Endpoint != "" {
		options.BaseEndpoint = &c.Endpoint
	}
	s.client = sts.New(options)
	return s, nil
}

var regionForm = regexp.MustCompile(`^[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}$`)

// checkEndpoint wants the token to travel under TLS, or not to leave the machine.
func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	if err != nil { // whose text repeats a password
		return errors.New("STS: endpoint: want a URL, got what is none")
	}
	bad := func(want string) error {
		return fmt.Errorf("STS: endpoint: want %s, got %q", want, u.Redacted())
	}
	switch {
	case u.Host == "" || u.Path != "" && u.Path != "/":
		return bad("a URL with a host and no path")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(endpoint, "#"):
		return bad("a URL without user, query or fragment")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return bad("https (http only on a loopback address, for the local AWS)")
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// stsHTTPClient is given, or a client for many callers of one host, without what
// would send a token elsewhere: redirects.
func stsHTTPClient(given *http.Client) *http.Client {
	var transport http.RoundTripper
	if given != nil {
		transport = given.Transport
	}
	if transport == nil {
		var protocols http.Protocols
		protocols.SetHTTP1(true) // one call to a connection: what was sent of it is known
		transport = &http.Transport{
			Proxy:                  proxyOfTLS,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			Protocols:              &protocols,
			MaxIdleConns:           idleConnections,
			MaxIdleConnsPerHost:    idleConnections,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// proxyOfTLS takes a proxy from the environment for https alone: such a proxy
// passes a tunnel on, any other would read the token.
func proxyOfTLS(r *http.Request) (*url.URL, error) {
	if r.URL.Scheme != "https" {
		return nil, nil
	}
	return http.ProxyFromEnvironment(r)
}

// AssumeRole asks STS for credentials. It asks again, with growing random pauses,
// where STS was too busy or could not reach the issuer, or no connection to it
// could be made, as long as the context's deadline and the Timeout leave room.
//
// The error is an *STSError for whatever came of a request. Any other error is of a
// call that STS would refuse, or that has no session policy; then no request was
// made.
func (s *STS) AssumeRole(ctx context.Context, a AssumeRole) (Credentials, error) {
	if err := a.check(); err != nil {
		return Credentials{}, fmt.Errorf("assuming a role: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		c, x := s.ask(ctx, a)
		if x.failed == nil {
			return c, nil
		}
		x.failed.Attempts = attempt
		if !x.again || attempt == maxAttempts || !pause(ctx, wait(attempt, x.hint)) {
			return Credentials{}, x.failed
		}
	}
}

// ask makes one request.
func (s *STS) ask(ctx context.Context, a AssumeRole) (Credentials, *exchange) {
	x := &exchange{client: s.http}
	raw := a.Token.Reveal()
	out, err := s.client.AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: &a.RoleARN, RoleSessionName: &a.SessionName, Policy: &a.Policy, WebIdentityToken: &raw,
		DurationSeconds: aws.Int32(int32(a.Duration / time.Second)),
	}, func(o *sts.Options) { o.HTTPClient = x })
	if err != nil {
		x.fail(err, a.Token)
		return Credentials{}, x
	}
	c, missing := a.read(out, s.config.Now())
	if missing != "" {
		x.failed = &STSError{Fault: fmt.Sprintf("an answer of status %d %s", x.status, missing), Unknown: true}
		x.label()
		return Credentials{}, x
	}
	c.RequestID = awsRequestID(x.requestID)
	return c, x
}

// wait is how long to wait after an attempt: a random part of a bound that doubles
// (full jitter), and longer where AWS said so, up to what the SDK would wait.
func wait(attempt int, hint time.Duration) time.Duration {
	d := rand.N(backoff(attempt))
	return min(max(d, hint), d+maxHint)
}

// backoff is the longest wait after an attempt, which counts from 1.
func backoff(attempt int) time.Duration {
	return min(firstBackoff<<(attempt-1), maxBackoff)
}

// pause waits, or reports false where that would pass the deadline.
func pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

var (
	sessionNameForm = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{2,64}$`)
	// AWS's, and that of Ceph's RADOS gateway, which has accounts of other kinds.
	roleARNForm = regexp.MustCompile(`^arn:([a-z-]+):iam::([A-Za-z0-9_-]*):role/(?:[!-.0-~]+/)*([A-Za-z0-9_+=,.@-]{1,64})$`)
)

// check refuses what STS would refuse, and a call without a session policy, which
// STS would answer with all that the role may do.
func (a AssumeRole) check() error {
	shown := func(s string) string { return fmt.Sprintf("%q", oneLine(s, a.Token)) }
	switch n := utf8.RuneCountInString(a.Policy); {
	case strings.TrimSpace(a.Policy) == "":
		return errors.New("session policy: want one, got none")
	case n > maxSessionPolicy:
		return fmt.Errorf("session policy: want at most %d characters, got %d", maxSessionPolicy, n)
	}
	switch n := len(a.Token.Reveal()); {
	case n == 0:
		return errors.New("web identity token: want one, got none")
	case n > maxWebToken:
		return fmt.Errorf("web identity token: want at most %d characters, got %d", maxWebToken, n)
	case !roleARNForm.MatchString(a.RoleARN):
		return fmt.Errorf("role: want arn:aws:iam::<account>:role/<name>, got %s", shown(a.RoleARN))
	case !sessionNameForm.MatchString(a.SessionName):
		return fmt.Errorf("session name: want 2 to 64 of A-Z a-z 0-9 _ + = , . @ -, got %s", shown(a.SessionName))
	case a.Duration < minSession || a.Duration > maxSession || a.Duration%time.Second != 0:
		return fmt.Errorf("session duration: want whole seconds from %v to %v, got %v", minSession, maxSession, a.Duration)
	}
	return nil
}

// read takes the credentials out of an answer, or says what is wrong with it.
func (a AssumeRole) read(out *sts.AssumeRoleWithWebIdentityOutput, now time.Time) (Credentials, string) {
	if out.Credentials == nil {
		return Credentials{}, "without credentials"
	}
	c := out.Credentials
	for name, member := range map[string]*string{
		"AccessKeyId": c.AccessKeyId, "SecretAccessKey": c.SecretAccessKey, "SessionToken": c.SessionToken,
	} {
		if aws.ToString(member) == "" {
			return Credentials{}, "without " + name
		}
	}
	switch {
	case c.Expiration == nil:
		return Credentials{}, "without Expiration"
	case !c.Expiration.After(now):
		return Credentials{}, "whose credentials have expired"
	case out.AssumedRoleUser == nil || aws.ToString(out.AssumedRoleUser.Arn) != a.sessionARN():
		return Credentials{}, "for another session than " + a.sessionARN()
	}
	return Credentials{
		AccessKeyID:     *c.AccessKeyId,
		SecretAccessKey: token.NewSecret(*c.SecretAccessKey),
		SessionToken:    token.NewSecret(*c.SessionToken),
		ExpiresAt:       c.Expiration.UTC(),
	}, ""
}

// sessionARN is the ARN of the session that is asked for. It has the role's name
// without its path.
func (a AssumeRole) sessionARN() string {
	m := roleARNForm.FindStringSubmatch(a.RoleARN)
	return "arn:" + m[1] + ":sts::" + m[2] + ":assumed-role/" + m[3] + "/" + a.SessionName
}
