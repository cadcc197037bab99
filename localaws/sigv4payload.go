package localaws

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// checksumAlgorithms are those of x-amz-checksum-NAME that S3 and we know.
var checksumAlgorithms = map[string]func() hash.Hash{
	"crc32":     func() hash.Hash { return crc32.NewIEEE() },
	"crc32c":    func() hash.Hash { return crc32.New(castagnoli) },
	"crc64nvme": func() hash.Hash { return crc64.New(nvme) },
	"sha1":      sha1.New,
	"sha256":    sha256.New,
}

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	nvme       = crc64.MakeTable(0x9a6c9329ac4bc9b5) // NVM Express's polynomial, bits reversed as package crc64 wants it
)

// payload is the body of an S3 request. It checks every digest that the client
// declared while the body is read, and gives its verdict in place of io.EOF:
// what was read before is not to be trusted until then.
type payload struct {
	src     io.Reader
	closer  io.Closer
	chunked *chunkReader // the decoder, if the body is aws-chunked
	checks  []bodyCheck
	err     error

	algorithm string    // of the x-amz-checksum-, "" if there is none
	checksum  hash.Hash // running
}

// bodyCheck is one digest and what it must come to.
type bodyCheck struct {
	hash   hash.Hash
	want   func() []byte
	refuse *apiError
}

func (p *payload) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.src.Read(b)
	for _, c := range p.checks {
		c.hash.Write(b[:n])
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		p.err = p.verdict()
	case errors.Is(err, io.ErrUnexpectedEOF):
		p.err = incompleteBody()
	default:
		p.err = err
	}
	return n, p.err
}

func (p *payload) Close() error { return p.closer.Close() }

func (p *payload) verdict() error {
	for _, c := range p.checks {
		if want := c.want(); !bytes.Equal(c.hash.Sum(nil), want) {
			return c.refuse
		}
	}
	return io.EOF
}

func incompleteBody() *apiError {
	return refuse(http.StatusBadRequest, "IncompleteBody", "You did not provide the number of bytes specified by the Content-Length HTTP header")
}

// verifyPayload puts a payload in place of r.Body. The signer is nil for an
// anonymous request.
func verifyPayload(r *http.Request, signer *chunkSigner) *apiError {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	p := &payload{src: r.Body, closer: r.Body}
	declared := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case strings.HasPrefix(declared, "STREAMING-"):
		if e := p.decodeChunks(r, declared, signer); e != nil {
			return e
		}
	case declared == "" || declared == unsignedPayload:
	case len(declared) == hex.EncodedLen(sha256.Size) && isLowerHex(declared):
		want, _ := hex.DecodeString(declared)
		p.check(sha256.New(), want, refuse(http.StatusBadRequest, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed."))
	default:
		return refuse(http.StatusBadRequest, "InvalidArgument", "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.")
	}
	if p.chunked == nil && r.Header.Get("X-Amz-Trailer") != "" {
		return refuse(http.StatusBadRequest, "InvalidRequest", "x-amz-trailer needs an x-amz-content-sha256 of a form that ends in -TRAILER.")
	}
	if e := p.checkMD5(r.Header.Get("Content-Md5"), r.Header); e != nil {
		return e
	}
	if !completesUpload(r) {
		if e := p.checkChecksum(r.Header); e != nil {
			return e
		}
	}
	r.Body = p
	return nil
}

// completesUpload reports whether this is CompleteMultipartUpload, where an
// x-amz-checksum- speaks of the object that comes about and not of the body.
func completesUpload(r *http.Request) bool {
	query, err := parseQuery(r.URL.RawQuery)
	return err == nil && r.Method == http.MethodPost && slices.ContainsFunc(query, func(p param) bool { return p.name == "uploadId" })
}

func (p *payload) check(h hash.Hash, want []byte, e *apiError) {
	p.checks = append(p.checks, bodyCheck{hash: h, want: func() []byte { return want }, refuse: e})
}

// decodeChunks takes the aws-chunked form off the body, so that what is read,
// its length and its Content-Encoding are the object's.
func (p *payload) decodeChunks(r *http.Request, declared string, signer *chunkSigner) *apiError {
	signed := strings.HasPrefix(declared, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
	switch declared {
	case "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER":
	default:
		return refuse(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented: x-amz-content-sha256 %s", declared)
	}
	if signed && (signer == nil || signer.presigned) {
		return refuse(http.StatusBadRequest, "InvalidRequest", "Signed chunks continue the signature of an Authorization header, and there is none.")
	}
	text := r.Header.Get("X-Amz-Decoded-Content-Length")
	length, err := strconv.ParseInt(text, 10, 64)
	if err != nil || length < 0 || strings.HasPrefix(text, "+") {
		return refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header: x-amz-decoded-content-length is %q.", text)
	}
	trailer := strings.ToLower(strings.TrimSpace(r.Header.Get("X-Amz-Trailer")))
	if strings.HasSuffix(declared, "-TRAILER") != (trailer != "") {
		return refuse(http.StatusBadRequest, "MalformedTrailerError", "x-amz-trailer is %q under an x-amz-content-sha256 of %s.", trailer, declared)
	}
	if name, ok := strings.CutPrefix(trailer, "x-amz-checksum-"); trailer != "" && (!ok || checksumAlgorithms[name] == nil) {
		return refuse(http.StatusBadRequest, "InvalidRequest", "The value specified in the x-amz-trailer header is not supported: %q.", trailer)
	}
	if !signed {
		signer = nil
	}
	p.chunked = newChunkReader(r.Body, length, trailer, signer)
	p.src = p.chunked
	r.ContentLength = length
	dropEncoding(r.Header)
	return nil
}

// dropEncoding removes aws-chunked, which is a form of transport, from the
// encodings that are the object's own.
func dropEncoding(h http.Header) {
	var rest []string
	for _, v := range h.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(v, ",") {
			if coding = strings.TrimSpace(coding); coding != "" && !strings.EqualFold(coding, "aws-chunked") {
				rest = append(rest, coding)
			}
		}
	}
	h.Del("Content-Encoding")
	if len(rest) > 0 {
		h.Set("Content-Encoding", strings.Join(rest, ","))
	}
}

func (p *payload) checkMD5(text string, h http.Header) *apiError {
	if _, sent := h["Content-Md5"]; !sent {
		return nil
	}
	want, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(want) != md5.Size {
		return refuse(http.StatusBadRequest, "InvalidDigest", "The Content-MD5 you specified was invalid.")
	}
	p.check(md5.New(), want, refuse(http.StatusBadRequest, "BadDigest", "The Content-MD5 you specified did not match what we received."))
	return nil
}

// checkChecksum finds the one x-amz-checksum- of the request, in a header or
// to come in the trailer.
func (p *payload) checkChecksum(h http.Header) *apiError {
	var found []string
	for name := range h {
		algorithm, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-checksum-")
		if ok && algorithm != "mode" && algorithm != "algorithm" && algorithm != "type" {
			found = append(found, algorithm)
		}
	}
	inTrailer := p.chunked != nil && p.chunked.trailer != ""
	if inTrailer {
		found = append(found, strings.TrimPrefix(p.chunked.trailer, "x-amz-checksum-"))
	}
	if len(found) > 1 {
		return refuse(http.StatusBadRequest, "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	if announced := strings.ToLower(h.Get("X-Amz-Sdk-Checksum-Algorithm")); announced != "" {
		if len(found) == 0 {
			return refuse(http.StatusBadRequest, "InvalidRequest", "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		}
		if announced != found[0] {
			return refuse(http.StatusBadRequest, "InvalidRequest", "Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
	}
	if len(found) == 0 {
		return nil
	}
	return p.setChecksum(found[0], h.Get("X-Amz-Checksum-"+found[0]), inTrailer)
}

func (p *payload) setChecksum(algorithm, text string, inTrailer bool) *apiError {
	newHash := checksumAlgorithms[algorithm]
	if newHash == nil {
		return refuse(http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented: x-amz-checksum-%s", algorithm)
	}
	p.algorithm, p.checksum = algorithm, newHash()
	want, err := base64.StdEncoding.DecodeString(text)
	if !inTrailer && (err != nil || len(want) != p.checksum.Size()) {
		return refuse(http.StatusBadRequest, "InvalidRequest", "Value for x-amz-checksum-%s header is invalid.", algorithm)
	}
	check := bodyCheck{hash: p.checksum, want: func() []byte { return want }, refuse: badChecksum(algorithm)}
	if inTrailer {
		check.want = func() []byte {
			sum, _ := base64.StdEncoding.DecodeString(p.chunked.trailerValue)
			return sum
		}
	}
	p.checks = append(p.checks, check)
	return nil
}

func badChecksum(algorithm string) *apiError {
	return refuse(http.StatusBadRequest, "BadDigest", "The %s you specified did not match the calculated checksum.", strings.ToUpper(algorithm))
}

// verified is the checksum that the client declared and the body was found to
// have. It is only to be asked for after io.EOF.
func (p *payload) verified() (algorithm, sum string) {
	if p.checksum == nil {
		return "", ""
	}
	return p.algorithm, base64.StdEncoding.EncodeToString(p.checksum.Sum(nil))
}
