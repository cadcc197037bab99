package localaws

import (
	"bufio"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
)

const (
	minChunkSize  = 8192    // of every chunk but the last one with data
	maxObjectSize = 5 << 30 // bytes of one PUT
	maxChunkLine  = 1024    // bytes of a chunk header or trailer line
)

// chunkReader decodes an aws-chunked body: each chunk is a hexadecimal length,
// a signature where chunks are signed, and that many bytes; a chunk of length
// zero and perhaps a trailer end it. Nothing may follow. Source: "Transferring
// payload in multiple chunks" in the S3 API Reference.
type chunkReader struct {
	r            *bufio.Reader
	left         int64  // of the chunk being read
	missing      int64  // of the decoded length still to come
	trailer      string // name of the trailer header to come, or ""
	trailerValue string // known after io.EOF
	small        bool   // the last chunk was under the minimum, so no other may follow
	err          error

	signer *chunkSigner // nil: chunks are not signed
	mac    string       // that the chunk being read came with
	hash   hash.Hash    // of the chunk being read
}

func newChunkReader(r io.Reader, length int64, trailer string, signer *chunkSigner) *chunkReader {
	return &chunkReader{r: bufio.NewReaderSize(r, 64<<10), missing: length, trailer: trailer, signer: signer, hash: sha256.New()}
}

func (c *chunkReader) Read(b []byte) (int, error) {
	if c.err == nil && c.left == 0 {
		c.err = c.nextChunk()
	}
	if c.err != nil || len(b) == 0 {
		return 0, c.err
	}
	n, err := c.r.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	c.missing -= int64(n)
	if c.signer != nil {
		c.hash.Write(b[:n])
	}
	switch {
	case errors.Is(err, io.EOF):
		c.err = io.ErrUnexpectedEOF
	case err != nil:
		c.err = err
	case c.left == 0:
		c.err = c.endChunk()
	}
	return n, c.err
}

// nextChunk reads a chunk header, and after the last one the end of the body.
func (c *chunkReader) nextChunk() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	size, extension, _ := strings.Cut(line, ";")
	if len(size) == 0 || len(size) > 16 || strings.HasPrefix(size, "+") {
		return badChunk("a chunk starts with %q, want a hexadecimal length", line)
	}
	n, err := strconv.ParseInt(size, 16, 64)
	if err != nil || n < 0 {
		return badChunk("a chunk starts with %q, want a hexadecimal length", line)
	}
	if c.mac, err = c.chunkMAC(extension, strings.Contains(line, ";")); err != nil {
		return err
	}
	if n > c.missing || n == 0 && c.missing > 0 {
		return incompleteBody()
	}
	if n == 0 {
		return c.end()
	}
	if c.small {
		return refuse(http.StatusForbidden, "InvalidChunkSizeError", "Only the last chunk is allowed to have a size less than %d bytes", minChunkSize)
	}
	c.small = n < minChunkSize
	c.left = n
	return nil
}

// chunkMAC takes the signature out of a chunk header's extension.
func (c *chunkReader) chunkMAC(extension string, present bool) (string, error) {
	if c.signer == nil {
		if present {
			return "", badChunk("an unsigned chunk carries the extension %q", extension)
		}
		return "", nil
	}
	mac, ok := strings.CutPrefix(extension, "chunk-signature=")
	if !ok || len(mac) != hex.EncodedLen(sha256.Size) || !isLowerHex(mac) {
		return "", badChunk("a chunk carries %q, want its signature", extension)
	}
	return mac, nil
}

// endChunk checks what was read under the chunk's header.
func (c *chunkReader) endChunk() error {
	if line, err := c.line(); err != nil {
		return err
	} else if line != "" {
		return badChunk("a chunk is longer than its header says")
	}
	return c.checkChunk()
}

// checkChunk compares the chunk's signature, which covers the one before.
func (c *chunkReader) checkChunk() error {
	if c.signer == nil {
		return nil
	}
	sum := hex.EncodeToString(c.hash.Sum(nil))
	c.hash.Reset()
	return c.checkMAC("AWS4-HMAC-SHA256-PAYLOAD", hexSHA256(nil)+"\n"+sum, c.mac)
}

func (c *chunkReader) checkMAC(kind, text, got string) error {
	want := c.signer.sign(kind + "\n" + c.signer.stamp + "\n" + c.signer.scope + "\n" + c.signer.previous + "\n" + text)
	if subtle.ConstantTimeCompare([]byte(want), []byte(got)) != 1 {
		return signatureDoesNotMatch()
	}
	c.signer.previous = want
	return nil
}

// end reads what follows the last chunk: the trailer, its signature, an empty
// line, and nothing else.
func (c *chunkReader) end() error {
	if err := c.checkChunk(); err != nil {
		return err
	}
	if c.trailer != "" {
		if err := c.readTrailer(); err != nil {
			return err
		}
	}
	if line, err := c.line(); err != nil {
		return err
	} else if line != "" {
		return badTrailer()
	}
	if _, err := c.r.ReadByte(); err == nil {
		return badChunk("there is more after the last chunk")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return io.EOF
}

func (c *chunkReader) readTrailer() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	name, value, ok := strings.Cut(line, ":")
	if value = strings.TrimSpace(value); !ok || !strings.EqualFold(name, c.trailer) || value == "" {
		return badTrailer()
	}
	c.trailerValue = value
	if c.signer == nil {
		return nil
	}
	line, err = c.line()
	if err != nil {
		return err
	}
	mac, ok := strings.CutPrefix(line, "x-amz-trailer-signature:")
	if !ok {
		return badTrailer()
	}
	return c.checkMAC("AWS4-HMAC-SHA256-TRAILER", hexSHA256([]byte(c.trailer+":"+value+"\n")), strings.TrimSpace(mac))
}

// line reads one line that ends in CRLF.
func (c *chunkReader) line() (string, error) {
	var b []byte
	for len(b) <= maxChunkLine {
		next, err := c.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return "", io.ErrUnexpectedEOF
		}
		if err != nil {
			return "", err
		}
		if next == '\n' {
			if len(b) == 0 || b[len(b)-1] != '\r' {
				return "", badChunk("a line does not end in CRLF")
			}
			return string(b[:len(b)-1]), nil
		}
		b = append(b, next)
	}
	return "", badChunk("a line is longer than %d bytes", maxChunkLine)
}

func badChunk(format string, args ...any) error {
	e := refuse(http.StatusBadRequest, "InvalidRequest", format, args...)
	e.Message = "The aws-chunked body is malformed: " + e.Message + "."
	return e
}

func badTrailer() error {
	return refuse(http.StatusBadRequest, "MalformedTrailerError", "The request contained trailing data that was not well-formed or did not conform to our published schema.")
}
