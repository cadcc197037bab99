package localaws

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// chunkExample is the example of the S3 API Reference: 65 KiB and 1 KiB of "a".
func chunkExample(t *testing.T, trailer bool) (r *http.Request, body string) {
	t.Helper()
	a, b := strings.Repeat("a", 65536), strings.Repeat("a", 1024)
	sums := []string{"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648", "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497", "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"}
	headers, mac, kind, tail := "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class", "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "\r\n"
	length := "66824"
	if trailer {
		sums = []string{"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2", "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7", "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992"}
		headers, mac, kind = "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer", "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
		tail = "x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
		length = ""
	}
	body = "10000;chunk-signature=" + sums[0] + "\r\n" + a + "\r\n400;chunk-signature=" + sums[1] + "\r\n" + b + "\r\n0;chunk-signature=" + sums[2] + "\r\n" + tail
	r = httptest.NewRequest("PUT", "http://s3.amazonaws.com/examplebucket/chunkObject.txt", strings.NewReader(body))
	r.RequestURI = "/examplebucket/chunkObject.txt"
	for name, value := range map[string]string{"X-Amz-Date": "20130524T000000Z", "X-Amz-Storage-Class": "REDUCED_REDUNDANCY", "Content-Encoding": "aws-chunked",
		"X-Amz-Decoded-Content-Length": "66560", "X-Amz-Content-Sha256": kind,
		"Authorization": "AWS4-HMAC-SHA256 Credential=" + exampleKey + "/20130524/us-east-1/s3/aws4_request,SignedHeaders=" + headers + ",Signature=" + mac} {
		r.Header.Set(name, value)
	}
	if trailer {
		r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32c")
	} else {
		r.Header.Set("Content-Length", length)
	}
	return r, body
}

// TestSignedChunks runs the reference's own examples, and then every change
// that could pass other bytes off as the signed ones.
func TestSignedChunks(t *testing.T) {
	for _, trailer := range []bool{false, true} {
		r, _ := chunkExample(t, trailer)
		code, got := verdict(r, "s3", exampleTime)
		if code != "" || got != strings.Repeat("a", 66560) || r.ContentLength != 66560 || r.Header.Get("Content-Encoding") != "" {
			t.Fatalf("trailer %v: got %s, %d bytes, length %d", trailer, code, len(got), r.ContentLength)
		}
		attacks := map[string]func(body string) string{
			"byte":             func(b string) string { return strings.Replace(b, "aaaa", "aaab", 1) },
			"byte of the last": func(b string) string { i := strings.LastIndex(b, "aaaa"); return b[:i] + "b" + b[i+1:] },
			"truncated chunk":  func(b string) string { return b[:40000] },
			"last chunk gone":  func(b string) string { return b[:strings.LastIndex(b, "0;chunk")] },
			"end gone":         func(b string) string { return b[:len(b)-2] },
			"data chunk gone": func(b string) string {
				i, j := strings.Index(b, "400;"), strings.LastIndex(b, "0;chunk")
				return b[:i] + b[j:]
			},
			"first chunk twice": func(b string) string { i := strings.Index(b, "400;"); return b[:i] + b },
			"extra chunk":       func(b string) string { return b + "1\r\nx\r\n0\r\n\r\n" },
			"extra byte":        func(b string) string { return b + "x" },
			"signature":         func(b string) string { return strings.Replace(b, "signature=", "signature=0", 1) },
			"unsigned chunk":    func(b string) string { i := strings.Index(b, "\r\n"); return "10000" + b[i:] },
			"length longer":     func(b string) string { return strings.Replace(b, "10000;", "10001;", 1) },
			"length shorter":    func(b string) string { return strings.Replace(b, "10000;", "ffff;", 1) },
			"length negative":   func(b string) string { return strings.Replace(b, "10000;", "-1;", 1) },
			"length huge":       func(b string) string { return strings.Replace(b, "10000;", "ffffffffffffffff;", 1) },
			"LF alone":          func(b string) string { return strings.Replace(b, "\r\n", "\n", 1) },
			"nothing":           func(string) string { return "" },
		}
		if trailer {
			attacks["trailer value"] = func(b string) string { return strings.Replace(b, "sOO8/Q==", "AAAAAA==", 1) }
			attacks["trailer gone"] = func(b string) string { return b[:strings.Index(b, "x-amz-checksum")] + "\r\n" }
			attacks["trailer signature gone"] = func(b string) string { return b[:strings.Index(b, "x-amz-trailer-sig")] + "\r\n" }
			attacks["another trailer"] = func(b string) string { return strings.Replace(b, "crc32c:", "crc32:", 1) }
		}
		for name, attack := range attacks {
			r, body := chunkExample(t, trailer)
			r.Body = io.NopCloser(strings.NewReader(attack(body)))
			if code, got := verdict(r, "s3", exampleTime); code == "" {
				t.Errorf("trailer %v, %s: accepted %d bytes", trailer, name, len(got))
			}
		}
		for name, value := range map[string]string{"X-Amz-Decoded-Content-Length": "66559", "X-Amz-Content-Sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"} {
			r, _ := chunkExample(t, trailer)
			r.Header.Set(name, value)
			if code, _ := verdict(r, "s3", exampleTime); code != "SignatureDoesNotMatch" {
				t.Errorf("trailer %v, %s: got %q", trailer, name, code)
			}
		}
	}
}

// TestUnsignedChunks runs the form that current SDKs send over TLS.
func TestUnsignedChunks(t *testing.T) {
	large, next := strings.Repeat("x", 8192), strings.Repeat("y", 100)
	tests := []struct {
		name, body, trailer, length, want string
	}{
		{"one chunk", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\n", "x-amz-checksum-crc32", "12", ""},
		{"sha256", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-sha256:" + base64SHA256("hello-stream") + "\r\n\r\n", "x-amz-checksum-sha256", "12", ""},
		{"nothing", "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "x-amz-checksum-crc32", "0", ""},
		{"two chunks", "2000\r\n" + large + "\r\n64\r\n" + next + "\r\n0\r\nx-amz-checksum-sha256:" + base64SHA256(large+next) + "\r\n\r\n", "x-amz-checksum-sha256", "8292", ""},
		{"small chunk first", "64\r\n" + next + "\r\n2000\r\n" + large + "\r\n0\r\nx-amz-checksum-sha256:" + base64SHA256(next+large) + "\r\n\r\n", "x-amz-checksum-sha256", "8292", "InvalidChunkSizeError"},
		{"wrong checksum", "c\r\nhello-strean\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\n", "x-amz-checksum-crc32", "12", "BadDigest"},
		{"checksum no base64", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32:!!!\r\n\r\n", "x-amz-checksum-crc32", "12", "BadDigest"},
		{"other trailer", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32c:4w6FWQ==\r\n\r\n", "x-amz-checksum-crc32", "12", "MalformedTrailerError"},
		{"no trailer", "c\r\nhello-stream\r\n0\r\n\r\n", "x-amz-checksum-crc32", "12", "MalformedTrailerError"},
		{"second trailer", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\nx-amz-meta-a:b\r\n\r\n", "x-amz-checksum-crc32", "12", "MalformedTrailerError"},
		{"trailer not announced", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\n", "", "12", "MalformedTrailerError"},
		{"trailer is no checksum", "0\r\nx-amz-meta-a:b\r\n\r\n", "x-amz-meta-a", "0", "InvalidRequest"},
		{"too long", "d\r\nhello-stream!\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\n", "x-amz-checksum-crc32", "12", "IncompleteBody"},
		{"too short", "b\r\nhello-strea\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\n", "x-amz-checksum-crc32", "12", "IncompleteBody"},
		{"cut off", "c\r\nhello", "x-amz-checksum-crc32", "12", "IncompleteBody"},
		{"extension", "c;a=b\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\n", "x-amz-checksum-crc32", "12", "InvalidRequest"},
		{"more after the end", "c\r\nhello-stream\r\n0\r\nx-amz-checksum-crc32:4w6FWQ==\r\n\r\nPUT", "x-amz-checksum-crc32", "12", "InvalidRequest"},
		{"no length", "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "x-amz-checksum-crc32", "", "MissingContentLength"},
		{"negative length", "0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n", "x-amz-checksum-crc32", "-1", "MissingContentLength"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, _ := http.NewRequest("PUT", "http://h/b/k", strings.NewReader(tt.body))
			r.Header.Set("Content-Encoding", "gzip, aws-chunked")
			if tt.length != "" {
				r.Header.Set("X-Amz-Decoded-Content-Length", tt.length)
			}
			if tt.trailer != "" {
				r.Header.Set("X-Amz-Trailer", tt.trailer)
			}
			signS3(t, r, aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, testRegion, exampleTime, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
			r = asReceived(t, r)
			code, body := verdict(r, "s3", exampleTime)
			if code != tt.want || code == "" && strconv.Itoa(len(body)) != tt.length {
				t.Errorf("got %q, %d bytes; want %q", code, len(body), tt.want)
			}
			if code == "" && r.Header.Get("Content-Encoding") != "gzip" {
				t.Errorf("got Content-Encoding %q, want the object's own", r.Header.Get("Content-Encoding"))
			}
		})
	}
}

// TestChecksumHeaders holds each x-amz-checksum- to the body, with known values.
func TestChecksumHeaders(t *testing.T) {
	known := map[string]string{"crc32": "y/Q5Jg==", "crc32c": "4waSgw==", "crc64nvme": "rosUhgp5mIg=", "sha1": "98O8HYCOBHMq32eZZczDTKeuNEE=", "sha256": base64SHA256("123456789")}
	for algorithm, value := range known {
		for _, body := range []string{"123456789", "123456780"} {
			r, _ := http.NewRequest("PUT", "http://h/b/k", strings.NewReader(body))
			r.Header.Set("X-Amz-Checksum-"+algorithm, value)
			signS3(t, r, aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, testRegion, exampleTime, unsignedPayload)
			code, _ := verdict(asReceived(t, r), "s3", exampleTime)
			if good := body == "123456789"; good != (code == "") || !good && code != "BadDigest" {
				t.Errorf("%s of %s: got %q", algorithm, body, code)
			}
		}
	}
	for name, headers := range map[string]map[string]string{
		"two":                {"X-Amz-Checksum-Crc32": "y/Q5Jg==", "X-Amz-Checksum-Sha1": "98O8HYCOBHMq32eZZczDTKeuNEE="},
		"malformed":          {"X-Amz-Checksum-Crc32": "y/Q5"},
		"announced, absent":  {"X-Amz-Sdk-Checksum-Algorithm": "CRC32"},
		"announced, another": {"X-Amz-Sdk-Checksum-Algorithm": "CRC32", "X-Amz-Checksum-Sha1": "98O8HYCOBHMq32eZZczDTKeuNEE="},
		"trailer, no form":   {"X-Amz-Trailer": "x-amz-checksum-crc32"},
	} {
		r, _ := http.NewRequest("PUT", "http://h/b/k", strings.NewReader("123456789"))
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		signS3(t, r, aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}, testRegion, exampleTime, unsignedPayload)
		if code, _ := verdict(asReceived(t, r), "s3", exampleTime); code != "InvalidRequest" {
			t.Errorf("%s: got %q, want InvalidRequest", name, code)
		}
	}
}

// FuzzAWSChunked holds that whatever is decoded has the declared length and
// checksum, and that decoding in small reads gives the same.
func FuzzAWSChunked(f *testing.F) {
	f.Fuzz(func(t *testing.T, body []byte, length uint16) {
		decode := func(buffer int) ([]byte, error) {
			c := newChunkReader(bytes.NewReader(body), int64(length), "x-amz-checksum-crc32", nil)
			var out []byte
			b := make([]byte, buffer)
			for {
				n, err := c.Read(b)
				out = append(out, b[:n]...)
				if err != nil {
					return out, err
				}
			}
		}
		whole, err := decode(64 << 10)
		small, smallErr := decode(3)
		if (err == io.EOF) != (smallErr == io.EOF) || err == io.EOF && !bytes.Equal(whole, small) {
			t.Fatalf("got %d bytes, %v, and in small reads %d bytes, %v", len(whole), err, len(small), smallErr)
		}
		if err == io.EOF && len(whole) != int(length) {
			t.Fatalf("accepted %d bytes, want %d", len(whole), length)
		}
	})
}
