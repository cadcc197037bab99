package localaws

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Limits of Signature Version 4 as AWS sets them.
const (
	maxClockSkew      = 15 * time.Minute
	maxPresignSeconds = 604800  // a week
	maxQueryBody      = 1 << 20 // bytes of an STS or IAM request
	amzTimeFormat     = "20060102T150405Z"
	sigV4Algorithm    = "AWS4-HMAC-SHA256"
	sigV4Terminator   = "aws4_request"
	unsignedPayload   = "UNSIGNED-PAYLOAD"
)

// signingKey is what a signature is checked against.
type signingKey struct {
	secret  string
	token   string    // session token that must come along; "" for a long-term key
	expires time.Time // zero: never
}

// signature says how a request proved who sent it.
type signature struct {
	accessKeyID string
	anonymous   bool          // no credentials at all: nothing was verified
	presigned   bool          // query form
	age         time.Duration // since it was signed
	payloadHash string        // as signed: a hex SHA-256, UNSIGNED-PAYLOAD or a STREAMING- form
	region      string        // of the credential scope; the caller compares it with its own
}

// sigV4 is a parsed header or query signature that nothing has checked yet.
type sigV4 struct {
	service     string // that the request came to, which words the refusals
	accessKeyID string
	scope       string // date/region/service/aws4_request
	date        string
	region      string
	scopeFor    string // service named by the scope
	signed      []string
	mac         string
	token       string
	stamp       string
	at          time.Time
	presigned   bool
	expires     time.Duration // presigned only
}

// verifySigV4 checks the AWS Signature Version 4 of a request to service, in
// header or query form, at the time now. With S3 it replaces r.Body by one
// that checks the payload while it is read: the body counts as authentic only
// once a Read has returned io.EOF. With other services the body is read and
// hashed here. A request without any credentials comes back as anonymous.
//
// The credential scope's region is returned, not judged. Source: "Signature
// Version 4 for API requests" in the IAM User Guide and "Authenticating
// Requests" in the S3 API Reference.
func verifySigV4(r *http.Request, service string, now time.Time, lookup func(accessKeyID, sessionToken string) (signingKey, *apiError)) (signature, *apiError) {
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return signature{}, refuse(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	if e := singleAmzHeaders(r.Header); e != nil {
		return signature{}, e
	}
	sig, e := parseSigV4(r, query, service)
	if e != nil {
		return signature{}, e
	}
	if sig == nil {
		if service == "s3" {
			e = verifyPayload(r, nil)
		}
		return signature{anonymous: true, payloadHash: r.Header.Get("X-Amz-Content-Sha256")}, e
	}
	if e := sig.check(r, now); e != nil {
		return signature{}, e
	}
	key, e := lookup(sig.accessKeyID, sig.token)
	if e != nil {
		return signature{}, sig.lookupRefusal(e)
	}
	if e := sig.checkToken(key); e != nil {
		return signature{}, e
	}
	hash, e := sig.payloadHash(r, query)
	if e != nil {
		return signature{}, e
	}
	signer := newChunkSigner(key.secret, sig)
	want := signer.sign(sig.stringToSign(r, query, hash))
	if subtle.ConstantTimeCompare([]byte(want), []byte(sig.mac)) != 1 {
		return signature{}, sig.mismatch()
	}
	if !key.expires.IsZero() && !now.Before(key.expires) {
		return signature{}, sig.expiredToken()
	}
	if service == "s3" {
		if e := hoistQuery(r, sig, query); e != nil {
			return signature{}, e
		}
		if e := verifyPayload(r, signer); e != nil {
			return signature{}, e
		}
	}
	return signature{accessKeyID: sig.accessKeyID, presigned: sig.presigned, age: now.Sub(sig.at), payloadHash: hash, region: sig.region}, nil
}

// singleAmzHeaders refuses a second value of a header that means something:
// the signature covers both values, but only one would be acted upon. Metadata
// and the list of attributes may come in several headers.
func singleAmzHeaders(h http.Header) *apiError {
	for name, values := range h {
		lower := strings.ToLower(name)
		if len(values) > 1 && (lower == "authorization" || lower == "content-md5" || lower == "date" ||
			strings.HasPrefix(lower, "x-amz-") && !strings.HasPrefix(lower, "x-amz-meta-") && lower != "x-amz-object-attributes") {
			return refuse(http.StatusBadRequest, "InvalidArgument", "The header %s was sent %d times; it may be sent once.", lower, len(values))
		}
	}
	return nil
}

// parseSigV4 finds the signature of a request. It returns nil when there are
// no credentials of any kind.
func parseSigV4(r *http.Request, query []param, service string) (*sigV4, *apiError) {
	header := r.Header.Get("Authorization")
	_, hasHeader := r.Header["Authorization"]
	inQuery := slices.ContainsFunc(query, func(p param) bool {
		switch strings.ToLower(p.name) {
		case "x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-signedheaders", "x-amz-expires", "x-amz-date", "x-amz-security-token":
			return true
		}
		return false
	})
	v2 := slices.ContainsFunc(query, func(p param) bool { return p.name == "AWSAccessKeyId" || p.name == "Signature" })
	switch {
	case hasHeader && (inQuery || v2):
		return nil, refuse(http.StatusBadRequest, "InvalidArgument", "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
	case v2 || strings.HasPrefix(header, "AWS "):
		return nil, refuse(http.StatusBadRequest, "InvalidRequest", "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
	case hasHeader:
		return parseSigV4Header(r, header, service)
	case inQuery:
		return parseSigV4Query(r, query, service)
	}
	return nil, nil
}

// parseSigV4Header reads the Authorization header and the date and token
// headers that belong to it.
func parseSigV4Header(r *http.Request, header, service string) (*sigV4, *apiError) {
	s := &sigV4{service: service}
	rest, ok := strings.CutPrefix(header, sigV4Algorithm+" ")
	if !ok {
		if service != "s3" {
			return nil, s.malformed("the authorization header must start with " + sigV4Algorithm)
		}
		return nil, refuse(http.StatusBadRequest, "InvalidArgument", "Unsupported Authorization Type")
	}
	fields, problem := splitAuthorization(rest)
	if problem != "" {
		return nil, s.malformed(problem)
	}
	if problem := s.setCredential(fields["Credential"]); problem != "" {
		return nil, s.malformed(problem)
	}
	if problem := s.setSigned(fields["SignedHeaders"]); problem != "" {
		return nil, s.malformed(problem)
	}
	if problem := s.setMAC(fields["Signature"]); problem != "" {
		return nil, s.malformed(problem)
	}
	s.token = r.Header.Get("X-Amz-Security-Token")
	return s, s.setTime(r.Header)
}

// splitAuthorization takes apart "Credential=…, SignedHeaders=…, Signature=…":
// each of the three once, in any order, and nothing else.
func splitAuthorization(rest string) (fields map[string]string, problem string) {
	fields = map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || value == "" {
			return nil, "a field is not of the form name=value"
		}
		if name != "Credential" && name != "SignedHeaders" && name != "Signature" {
			return nil, "unknown field"
		}
		if _, twice := fields[name]; twice {
			return nil, "the field " + name + " comes twice"
		}
		fields[name] = value
	}
	for _, name := range []string{"Credential", "SignedHeaders", "Signature"} {
		if fields[name] == "" {
			return nil, "missing " + name
		}
	}
	return fields, ""
}

// setTime takes the signing time from X-Amz-Date or else Date.
func (s *sigV4) setTime(h http.Header) *apiError {
	stamp := h.Get("X-Amz-Date")
	at, err := parseAmzTime(stamp)
	if stamp == "" {
		at, err = http.ParseTime(h.Get("Date"))
		stamp = at.UTC().Format(amzTimeFormat)
	}
	if err != nil {
		if s.service != "s3" {
			return s.malformed("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header")
		}
		return refuse(http.StatusForbidden, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
	}
	s.stamp, s.at = stamp, at.UTC()
	return nil
}

// parseAmzTime takes the basic ISO 8601 form alone; time.Parse would let
// fractions of a second through.
func parseAmzTime(stamp string) (time.Time, error) {
	at, err := time.Parse(amzTimeFormat, stamp)
	if err == nil && at.Format(amzTimeFormat) != stamp {
		err = errors.New("not of the form " + amzTimeFormat)
	}
	return at, err
}

// parseSigV4Query reads the X-Amz- query parameters of a presigned URL.
func parseSigV4Query(r *http.Request, query []param, service string) (*sigV4, *apiError) {
	s := &sigV4{service: service, presigned: true}
	values := map[string]string{}
	for _, p := range query {
		if !strings.HasPrefix(strings.ToLower(p.name), "x-amz-") {
			continue
		}
		if _, twice := values[p.name]; twice {
			return nil, s.malformed("Query-string authentication requires each X-Amz- parameter once; got " + p.name + " twice")
		}
		values[p.name] = p.value
	}
	if _, sent := values["X-Amz-Expires"]; !sent && service != "s3" {
		values["X-Amz-Expires"] = "900" // SDKs leave it out there
	}
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"} {
		if values[name] == "" {
			return nil, s.malformed("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	if values["X-Amz-Algorithm"] != sigV4Algorithm {
		return nil, s.malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"")
	}
	if problem := s.setCredential(values["X-Amz-Credential"]); problem != "" {
		return nil, s.malformed("Error parsing the X-Amz-Credential parameter; " + problem + ".")
	}
	if problem := s.setSigned(values["X-Amz-SignedHeaders"]); problem != "" {
		return nil, s.malformed("X-Amz-SignedHeaders: " + problem + ".")
	}
	if problem := s.setMAC(values["X-Amz-Signature"]); problem != "" {
		return nil, s.malformed("X-Amz-Signature: " + problem + ".")
	}
	if problem := s.setExpires(values["X-Amz-Expires"]); problem != "" {
		return nil, s.malformed(problem)
	}
	at, err := parseAmzTime(values["X-Amz-Date"])
	if err != nil {
		return nil, s.malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
	}
	s.stamp, s.at = values["X-Amz-Date"], at
	s.token = values["X-Amz-Security-Token"]
	if r.Header.Get("X-Amz-Security-Token") != "" || r.Header.Get("X-Amz-Date") != "" {
		return nil, s.malformed("X-Amz-Security-Token and X-Amz-Date may come in the query or in a header, not in both.")
	}
	return s, nil
}

// setExpires takes X-Amz-Expires: 1 to 604800 in plain digits.
func (s *sigV4) setExpires(text string) (problem string) {
	seconds := 0
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return "X-Amz-Expires should be a number"
		}
		if seconds = seconds*10 + int(c-'0'); seconds > maxPresignSeconds {
			return "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds"
		}
	}
	if seconds == 0 {
		return "X-Amz-Expires must be at least 1 second"
	}
	s.expires = time.Duration(seconds) * time.Second
	return ""
}

// setCredential takes AKID/yyyymmdd/region/service/aws4_request.
func (s *sigV4) setCredential(text string) (problem string) {
	parts := strings.Split(text, "/")
	if len(parts) != 5 {
		return "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\""
	}
	for _, part := range parts {
		if part == "" || strings.ContainsFunc(part, func(c rune) bool { return c <= ' ' || c > '~' }) {
			return "the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\""
		}
	}
	if _, err := time.Parse("20060102", parts[1]); err != nil {
		return "incorrect date format \"" + parts[1] + "\". This date in the credential must be in the format \"yyyyMMdd\""
	}
	if parts[4] != sigV4Terminator {
		return "incorrect terminal \"" + parts[4] + "\". This endpoint uses \"aws4_request\""
	}
	s.accessKeyID, s.date, s.region, s.scopeFor = parts[0], parts[1], parts[2], parts[3]
	s.scope = strings.Join(parts[1:], "/")
	return ""
}

// setSigned takes the list of signed headers: lower case, sorted, each once,
// host among them.
func (s *sigV4) setSigned(text string) (problem string) {
	names := strings.Split(text, ";")
	for i, name := range names {
		if name == "" || name != strings.ToLower(name) || strings.ContainsAny(name, " \t\r\n:,") {
			return "SignedHeaders must be header names in lower case, separated by semicolons"
		}
		if i > 0 && names[i-1] >= name {
			return "SignedHeaders must be sorted and without duplicates"
		}
	}
	if !slices.Contains(names, "host") {
		return "'Host' must be a 'SignedHeader' in the AWS Authorization"
	}
	s.signed = names
	return ""
}

func (s *sigV4) setMAC(text string) (problem string) {
	if len(text) != hex.EncodedLen(sha256.Size) || !isLowerHex(text) {
		return "the Signature is not 64 lower case hexadecimal digits"
	}
	s.mac = text
	return ""
}

func isLowerHex(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return (c < '0' || c > '9') && (c < 'a' || c > 'f') })
}

// check judges everything that needs no key: scope, time, and that no header
// with a meaning was left out of the signature.
func (s *sigV4) check(r *http.Request, now time.Time) *apiError {
	if s.scopeFor != s.service {
		if s.service != "s3" {
			return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Credential should be scoped to correct service: '%s'. ", s.service)
		}
		problem := "incorrect service \"" + s.scopeFor + "\". This endpoint belongs to \"s3\""
		if s.presigned {
			problem = "Error parsing the X-Amz-Credential parameter; " + problem + "."
		}
		return s.malformed(problem)
	}
	if s.date != s.stamp[:8] {
		if s.service != "s3" {
			return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", s.date, s.stamp[:8], s.stamp)
		}
		return s.malformed("invalid credential date \"" + s.date + "\". This date is not the same as X-Amz-Date: \"" + s.stamp[:8] + "\"")
	}
	if e := s.checkTime(now); e != nil {
		return e
	}
	for name := range r.Header {
		lower := strings.ToLower(name)
		if strings.HasPrefix(lower, "x-amz-") && !slices.Contains(s.signed, lower) {
			if s.service != "s3" {
				return s.malformed("'" + lower + "' must be a 'SignedHeader' in the AWS Authorization")
			}
			return refuse(http.StatusForbidden, "AccessDenied", "There were headers present in the request which were not signed: %s", lower)
		}
	}
	return nil
}

// checkTime holds a header signature to 15 minutes around now and a presigned
// one to its own expiry, which no service but S3 lets go beyond those minutes.
func (s *sigV4) checkTime(now time.Time) *apiError {
	late, early := now.Sub(s.at) > maxClockSkew, s.at.Sub(now) > maxClockSkew
	if s.presigned {
		late = !now.Before(s.at.Add(s.expires)) || late && s.service != "s3"
	}
	switch {
	case !late && !early:
		return nil
	case s.service != "s3" && late:
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Signature expired: %s is now earlier than %s (%s - 15 min.)", s.stamp, now.UTC().Add(-maxClockSkew).Format(amzTimeFormat), now.UTC().Format(amzTimeFormat))
	case s.service != "s3":
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "Signature not yet current: %s is still later than %s (%s + 15 min.)", s.stamp, now.UTC().Add(maxClockSkew).Format(amzTimeFormat), now.UTC().Format(amzTimeFormat))
	case s.presigned && late:
		return refuse(http.StatusForbidden, "AccessDenied", "Request has expired")
	case s.presigned:
		return refuse(http.StatusForbidden, "AccessDenied", "Request is not yet valid")
	}
	return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
}

// checkToken compares the session token with the one of the key. A long-term
// key comes without any.
func (s *sigV4) checkToken(key signingKey) *apiError {
	switch {
	case key.secret == "" || key.token != "" && s.token == "":
		return s.unknownKey()
	case subtle.ConstantTimeCompare([]byte(key.token), []byte(s.token)) != 1:
		return s.badToken()
	}
	return nil
}

// payloadHash is the last line of the canonical request: what the client
// declared for S3, the hash of the body as it came for all others.
func (s *sigV4) payloadHash(r *http.Request, query []param) (string, *apiError) {
	if s.service == "s3" {
		return s.declaredHash(r, query)
	}
	var body []byte
	if r.Body != nil {
		var err error
		body, err = io.ReadAll(io.LimitReader(r.Body, maxQueryBody+1))
		var tooLarge *http.MaxBytesError
		if len(body) > maxQueryBody || errors.As(err, &tooLarge) {
			return "", refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request body is longer than %d bytes.", maxQueryBody)
		}
		if err != nil {
			return "", refuse(http.StatusBadRequest, "IncompleteSignature", "The request body could not be read to its end.")
		}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return hexSHA256(body), nil
}

// declaredHash is X-Amz-Content-Sha256, which a presigned URL may carry in its
// query or leave out.
func (s *sigV4) declaredHash(r *http.Request, query []param) (string, *apiError) {
	if hash := r.Header.Get("X-Amz-Content-Sha256"); hash != "" {
		return hash, nil
	}
	if !s.presigned {
		return "", refuse(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	}
	for _, p := range query {
		if strings.EqualFold(p.name, "X-Amz-Content-Sha256") {
			return p.value, nil
		}
	}
	return unsignedPayload, nil
}

// hoistQuery turns the x-amz- parameters of a verified presigned URL into the
// headers they stand for: SDKs move headers into the query when they presign,
// and S3 acts on them there.
func hoistQuery(r *http.Request, s *sigV4, query []param) *apiError {
	if !s.presigned {
		return nil
	}
	for _, p := range query {
		lower := strings.ToLower(p.name)
		switch lower {
		case "x-amz-algorithm", "x-amz-credential", "x-amz-signature", "x-amz-signedheaders", "x-amz-expires", "x-amz-date", "x-amz-security-token":
			continue
		}
		if !strings.HasPrefix(lower, "x-amz-") {
			continue
		}
		if _, twice := r.Header[http.CanonicalHeaderKey(lower)]; twice {
			return refuse(http.StatusBadRequest, "InvalidArgument", "%s came in the query and as a header; it may come once.", lower)
		}
		r.Header.Set(lower, p.value)
	}
	return nil
}

// stringToSign is the canonical request, hashed, under its time and scope.
func (s *sigV4) stringToSign(r *http.Request, query []param, payloadHash string) string {
	path := rawPath(r)
	if s.service != "s3" {
		path = uriEncode(normalisePath(path), true)
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(query, s.presigned) + "\n")
	for _, name := range s.signed {
		b.WriteString(name + ":" + canonicalHeader(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(s.signed, ";") + "\n" + payloadHash)
	return sigV4Algorithm + "\n" + s.stamp + "\n" + s.scope + "\n" + hexSHA256([]byte(b.String()))
}

func hexSHA256(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func hmacSHA256(key []byte, data string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(data))
	return mac.Sum(nil)
}

// chunkSigner holds the derived key of one request: for its own signature and
// for the chunks that follow it.
type chunkSigner struct {
	key          []byte
	stamp, scope string
	previous     string // signature that the next chunk continues
	presigned    bool
}

func newChunkSigner(secret string, s *sigV4) *chunkSigner {
	key := []byte("AWS4" + secret)
	for part := range strings.SplitSeq(s.scope, "/") {
		key = hmacSHA256(key, part)
	}
	return &chunkSigner{key: key, stamp: s.stamp, scope: s.scope, previous: s.mac, presigned: s.presigned}
}

func (c *chunkSigner) sign(text string) string {
	return hex.EncodeToString(hmacSHA256(c.key, text))
}
