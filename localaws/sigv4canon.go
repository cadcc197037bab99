package localaws

import (
	"errors"
	"net/http"
	"path"
	"sort"
	"strconv"
	"strings"
)

// param is one query parameter, decoded. The order of the query is kept, since
// a map would hide a parameter that comes twice.
type param struct{ name, value string }

// parseQuery decodes a raw query once, for the signature and for the handlers
// alike, so that both see the same parameters. "+" is a space.
func parseQuery(raw string) ([]param, error) {
	var params []param
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := percentDecode(strings.ReplaceAll(name, "+", " "))
		if err != nil {
			return nil, err
		}
		value, err = percentDecode(strings.ReplaceAll(value, "+", " "))
		if err != nil {
			return nil, err
		}
		params = append(params, param{name, value})
	}
	return params, nil
}

var errPercent = errors.New("a percent sign is not followed by two hexadecimal digits")

// percentDecode undoes percent-encoding and nothing else.
func percentDecode(text string) (string, error) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", errPercent
		}
		n, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil {
			return "", errPercent
		}
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), nil
}

// uriEncode percent-encodes all but RFC 3986's unreserved characters, and "/"
// where it is to be kept.
func uriEncode(text string, keepSlash bool) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
			c == '-' || c == '_' || c == '.' || c == '~' || c == '/' && keepSlash {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// rawPath is the path as the client wrote it, which is what S3 signs and what
// holds the key. net/url's own forms decode or re-encode it.
func rawPath(r *http.Request) string {
	raw := r.RequestURI
	if !strings.HasPrefix(raw, "/") {
		raw = r.URL.EscapedPath() // absolute form, or a request that no server has read
	}
	raw, _, _ = strings.Cut(raw, "?")
	if raw == "" {
		return "/"
	}
	return raw
}

// normalisePath removes empty and dot segments, as every service but S3 does.
func normalisePath(raw string) string {
	clean := path.Clean("/" + raw)
	if strings.HasSuffix(raw, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// canonicalQuery encodes and sorts the parameters. A presigned URL's own
// signature is left out.
func canonicalQuery(query []param, presigned bool) string {
	encoded := make([][2]string, 0, len(query))
	for _, p := range query {
		if presigned && p.name == "X-Amz-Signature" {
			continue
		}
		encoded = append(encoded, [2]string{uriEncode(p.name, false), uriEncode(p.value, false)})
	}
	sort.Slice(encoded, func(i, j int) bool {
		if encoded[i][0] != encoded[j][0] {
			return encoded[i][0] < encoded[j][0]
		}
		return encoded[i][1] < encoded[j][1]
	})
	parts := make([]string, len(encoded))
	for i, p := range encoded {
		parts[i] = p[0] + "=" + p[1]
	}
	return strings.Join(parts, "&")
}

// canonicalHeader is the value of a signed header: values joined by commas,
// trimmed, runs of spaces made one. net/http keeps some headers elsewhere.
func canonicalHeader(r *http.Request, name string) string {
	values := r.Header.Values(name)
	switch {
	case name == "host":
		values = []string{r.Host}
	case name == "content-length" && len(values) == 0 && r.ContentLength >= 0:
		values = []string{strconv.FormatInt(r.ContentLength, 10)}
	case name == "transfer-encoding":
		values = r.TransferEncoding
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = collapseSpaces(v)
	}
	return strings.Join(trimmed, ",")
}

func collapseSpaces(v string) string {
	v = strings.Trim(v, " \t")
	for strings.Contains(v, "  ") {
		v = strings.ReplaceAll(v, "  ", " ")
	}
	return v
}

// The refusals, as S3 and as the query protocol of STS and IAM word them.

func (s *sigV4) malformed(problem string) *apiError {
	switch {
	case s.service != "s3":
		return refuse(http.StatusBadRequest, "IncompleteSignature", "%s", problem)
	case s.presigned:
		return refuse(http.StatusBadRequest, "AuthorizationQueryParametersError", "%s", problem)
	}
	return refuse(http.StatusBadRequest, "AuthorizationHeaderMalformed", "The authorization header is malformed; %s.", problem)
}

func (s *sigV4) mismatch() *apiError {
	if s.service != "s3" {
		return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return signatureDoesNotMatch()
}

func signatureDoesNotMatch() *apiError {
	return refuse(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your key and signing method.")
}

func (s *sigV4) unknownKey() *apiError {
	if s.service != "s3" {
		return refuse(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	return refuse(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
}

func (s *sigV4) badToken() *apiError {
	if s.service != "s3" {
		return s.unknownKey()
	}
	return refuse(http.StatusBadRequest, "InvalidToken", "The provided token is malformed or otherwise invalid.")
}

func (s *sigV4) expiredToken() *apiError {
	if s.service != "s3" {
		return refuse(http.StatusForbidden, "ExpiredToken", "The security token included in the request is expired")
	}
	return refuse(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
}

// lookupRefusal words a key that could not be found for this service.
func (s *sigV4) lookupRefusal(e *apiError) *apiError {
	switch e.Code {
	case "InvalidClientTokenId", "InvalidAccessKeyId":
		if s.token != "" && strings.HasPrefix(s.accessKeyID, "ASIA") {
			return s.badToken()
		}
		return s.unknownKey()
	case "InvalidToken":
		return s.badToken()
	case "ExpiredToken", "ExpiredTokenException":
		return s.expiredToken()
	}
	return e
}
