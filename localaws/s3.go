package localaws

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"agentkeys/policy"
)

const (
	maxKeyBytes   = 1024
	maxXMLBody    = 1 << 20 // a bucket policy too; package policy sets its own, lower limit
	maxDeleteBody = 4 << 20 // a thousand keys of 1,024 bytes with room for escapes
)

// s3 is the S3 side of the server: buckets, bucket policies and objects, in a
// folder of its own. Every call is authorised before it looks at an object,
// takes in a body or says whether something exists.
type s3 struct {
	server  *Server
	dir     string
	actions map[string]map[string]bool // condition keys of each action, all in lower case

	mu      sync.RWMutex // guards buckets and everything in them
	buckets map[string]*bucket
}

// newS3 opens the state in dir, which it makes if it is not there.
func newS3(s *Server, dir string) (*s3, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the S3 folder: %w", err)
	}
	buckets, err := loadBuckets(dir)
	if err != nil {
		return nil, err
	}
	b := &s3{server: s, dir: dir, buckets: buckets, actions: map[string]map[string]bool{}}
	for _, a := range policy.Actions("s3") {
		keys := map[string]bool{}
		for _, k := range a.ConditionKeys {
			keys[strings.ToLower(k)] = true
		}
		b.actions[strings.ToLower(a.Name)] = keys
	}
	return b, nil
}

// close releases the folder. Every change is on disk by the time it is answered.
func (b *s3) close() error { return nil }

// s3Call is one S3 request under way.
type s3Call struct {
	b     *s3
	w     http.ResponseWriter
	r     *http.Request
	now   time.Time
	id    string
	query map[string]string
	sig   signature
	who   *caller

	name string // of the bucket, "" at service level
	key  string // "" at bucket level
	bkt  *bucket
	set  *settings // of bkt, as they were when the call began
}

// ServeHTTP serves one request. It routes by itself on the path as it was
// sent: http.ServeMux would clean "..", "//" and %2F out of keys.
func (b *s3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &s3Call{b: b, w: w, r: r, now: b.server.config.Now(), id: newRequestID()}
	w.Header().Set("X-Amz-Request-Id", c.id)
	w.Header().Set("X-Amz-Id-2", hexSHA256([]byte(c.id)))
	e := c.serve()
	if b.server.trail != nil {
		b.server.trailed(c.trailEvent(e))
	}
	if e != nil {
		b.server.config.Log.Debug("s3 request refused", slog.String("request_id", c.id), slog.String("method", r.Method),
			slog.String("bucket", c.name), slog.String("code", e.Code), slog.String("message", e.Message))
		c.writeError(e)
	}
}

// serve finds out what is asked and by whom, and runs it.
func (c *s3Call) serve() *apiError {
	if e := c.locate(); e != nil {
		return e
	}
	sig, e := verifySigV4(c.r, "s3", c.now, c.b.server.lookupKey)
	if e != nil {
		return e
	}
	c.sig = sig
	if region := c.b.server.config.Region; !sig.anonymous && sig.region != region {
		return wrongRegion(sig, region)
	}
	if c.who, e = c.b.server.callerFor(sig, c.r); e != nil {
		return (&sigV4{service: "s3"}).lookupRefusal(e) // a key deleted this moment
	}
	if e := c.parseQuery(); e != nil {
		return e
	}
	if e := checkAmzHeaders(c.r.Header); e != nil {
		return e
	}
	run, e := c.route()
	if e != nil {
		return e
	}
	if e := c.findBucket(); e != nil {
		return e
	}
	return run(c)
}

func wrongRegion(sig signature, region string) *apiError {
	if sig.presigned {
		return refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter; the region '%s' is wrong; expecting '%s'", sig.region, region)
	}
	return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region '%s' is wrong; expecting '%s'", sig.region, region)
}

// locate takes bucket and key from Host and path.
func (c *s3Call) locate() *apiError {
	path := rawPath(c.r)
	name := c.b.hostBucket(c.r)
	rest := strings.TrimPrefix(path, "/")
	if name == "" {
		name, rest, _ = strings.Cut(rest, "/")
		if name == "" && rest != "" {
			return invalidURI()
		}
	}
	var errs [2]error
	c.name, errs[0] = percentDecode(name)
	c.key, errs[1] = percentDecode(rest)
	if errors.Join(errs[:]...) != nil || !utf8.ValidString(c.key) || climbs(c.key) {
		return invalidURI()
	}
	if len(c.key) > maxKeyBytes {
		return refuse(http.StatusBadRequest, "KeyTooLongError", "Your key is too long")
	}
	return nil
}

func invalidURI() *apiError {
	return refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
}

// climbs reports whether a key, read as a relative path from left to right,
// leads above where it started. S3 takes ".." in a key literally but refuses
// that. Source: "Naming Amazon S3 objects" in the S3 User Guide.
func climbs(key string) bool {
	depth := 0
	for segment := range strings.SplitSeq(key, "/") {
		switch segment {
		case "..":
			depth--
		case "", ".":
		default:
			depth++
		}
		if depth < 0 {
			return true
		}
	}
	return false
}

// hostBucket is the bucket of a virtual-hosted request, "" for path style. A
// bare .localhost is no more than a name of this machine, which may serve paths
// as aws.localhost: what stands before it is a bucket if there is one of that
// name, or if the request makes one, for which no path style has a PUT of "/".
func (b *s3) hostBucket(r *http.Request) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host, region := strings.ToLower(host), b.server.config.Region
	for _, suffix := range []string{".s3." + region + ".amazonaws.com", ".s3.dualstack." + region + ".amazonaws.com", ".s3.amazonaws.com", ".s3.localhost"} {
		if name, ok := strings.CutSuffix(host, suffix); ok && validBucketName(name) {
			return name
		}
	}
	name, ok := strings.CutSuffix(host, ".localhost")
	if !ok || !validBucketName(name) {
		return ""
	}
	if bkt, _ := b.find(name); bkt == nil && (r.Method != http.MethodPut || rawPath(r) != "/") {
		return ""
	}
	return name
}

// parseQuery takes each parameter once.
func (c *s3Call) parseQuery() *apiError {
	params, err := parseQuery(c.r.URL.RawQuery)
	if err != nil {
		return invalidURI()
	}
	c.query = map[string]string{}
	for _, p := range params {
		lower := strings.ToLower(p.name)
		if strings.HasPrefix(lower, "x-amz-") {
			if !c.sig.presigned {
				return invalidArgument("The parameter %s has a meaning in a presigned URL only.", p.name)
			}
			continue // verified, and acted upon as a header
		}
		if strings.HasPrefix(lower, "x-") {
			continue // S3 ignores these
		}
		if _, twice := c.query[p.name]; twice {
			return invalidArgument("The parameter %s came twice.", p.name)
		}
		c.query[p.name] = p.value
	}
	return nil
}

func (c *s3Call) has(param string) bool { _, ok := c.query[param]; return ok }

func invalidArgument(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "InvalidArgument", format, args...)
}

func notImplemented(what string) *apiError {
	return refuse(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented: %s", what)
}

// amzHeaders are the x-amz- headers that some call here acts upon, or that
// change nothing. Any other one asks for something that would not be done.
var amzHeaders = []string{
	"x-amz-acl", "x-amz-bucket-object-lock-enabled", "x-amz-checksum-algorithm", "x-amz-checksum-crc32", "x-amz-checksum-crc32c",
	"x-amz-checksum-crc64nvme", "x-amz-checksum-mode", "x-amz-checksum-sha1", "x-amz-checksum-sha256", "x-amz-checksum-type",
	"x-amz-confirm-remove-self-bucket-access", "x-amz-content-sha256", "x-amz-copy-source", "x-amz-copy-source-if-match",
	"x-amz-copy-source-if-modified-since", "x-amz-copy-source-if-none-match", "x-amz-copy-source-if-unmodified-since",
	"x-amz-copy-source-range", "x-amz-date", "x-amz-decoded-content-length", "x-amz-expected-bucket-owner",
	"x-amz-max-parts", "x-amz-metadata-directive", "x-amz-mp-object-size", "x-amz-object-attributes", "x-amz-object-ownership",
	"x-amz-part-number-marker", "x-amz-request-payer", "x-amz-sdk-checksum-algorithm", "x-amz-security-token",
	"x-amz-server-side-encryption", "x-amz-source-expected-bucket-owner", "x-amz-storage-class", "x-amz-tagging",
	"x-amz-tagging-directive", "x-amz-te", "x-amz-trailer", "x-amz-user-agent",
}

// checkAmzHeaders refuses headers that would be silently ignored.
func checkAmzHeaders(h http.Header) *apiError {
	for name := range h {
		lower := strings.ToLower(name)
		switch {
		case !strings.HasPrefix(lower, "x-amz-") || strings.HasPrefix(lower, "x-amz-meta-"):
		case strings.HasPrefix(lower, "x-amz-grant-"):
			return aclNotSupported()
		case !slices.Contains(amzHeaders, lower):
			return notImplemented(lower)
		}
	}
	if v := h.Get("X-Amz-Storage-Class"); v != "" && v != "STANDARD" {
		return notImplemented("x-amz-storage-class " + v)
	}
	if v := h.Get("X-Amz-Server-Side-Encryption"); v != "" && v != "AES256" {
		return notImplemented("x-amz-server-side-encryption " + v)
	}
	if v := h.Get("X-Amz-Bucket-Object-Lock-Enabled"); v != "" && !strings.EqualFold(v, "false") {
		return notImplemented("x-amz-bucket-object-lock-enabled " + v)
	}
	return nil
}

// findBucket looks the bucket up. That a bucket is missing is no secret: S3
// tells everybody.
func (c *s3Call) findBucket() *apiError {
	owner := c.r.Header.Get("X-Amz-Expected-Bucket-Owner")
	if owner != "" && owner != c.b.server.config.Account {
		return plainDenied()
	}
	if c.name == "" {
		return nil
	}
	if !validBucketName(c.name) {
		return refuse(http.StatusBadRequest, "InvalidBucketName", "The specified bucket is not valid.")
	}
	c.bkt, c.set = c.b.find(c.name)
	if c.bkt == nil && !(c.key == "" && c.r.Method == http.MethodPut && c.subresource() == "") {
		return noSuchBucket()
	}
	return nil
}

func noSuchBucket() *apiError {
	return refuse(http.StatusNotFound, "NoSuchBucket", "The specified bucket does not exist")
}

func (b *s3) find(name string) (*bucket, *settings) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	bkt := b.buckets[name]
	if bkt == nil {
		return nil, nil
	}
	return bkt, bkt.settings
}

// change runs fn under the write lock, if the bucket is still there.
func (c *s3Call) change(fn func() error) *apiError {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.b.buckets[c.name] != c.bkt {
		return noSuchBucket()
	}
	return c.fault(fn())
}

// withDraft runs use with the draft of a file of the call's bucket.
func (c *s3Call) withDraft(path string, v any, use func(*draft) *apiError) *apiError {
	d, err := writeDraft(path, v)
	if errors.Is(err, fs.ErrNotExist) { // the folder went with the bucket
		return noSuchBucket()
	}
	if err != nil {
		return c.fault(err)
	}
	defer d.discard()
	return use(d)
}

// fault turns an error into the answer: a refusal as it is, anything else into
// an internal error whose text stays in the log.
func (c *s3Call) fault(err error) *apiError {
	if err == nil {
		return nil
	}
	var refusal *apiError
	if errors.As(err, &refusal) {
		if refusal == nil {
			return nil
		}
		return refusal
	}
	c.b.server.config.Log.Error("s3 request failed", slog.String("request_id", c.id), slog.Any("error", err))
	return refuse(http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
}
