package localaws

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	maxParts    = 10000
	minPartSize = 5 << 20 // of every part but the last
)

func base64Sum(h hash.Hash) string { return base64.StdEncoding.EncodeToString(h.Sum(nil)) }

func partNumber(text string) (int, *apiError) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxParts {
		return 0, invalidArgument("Part number must be an integer between 1 and 10000, inclusive")
	}
	return n, nil
}

type initiateResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ InitiateMultipartUploadResult"`
	Bucket   string
	Key      xmlKey
	UploadId string
}

func (c *s3Call) createUpload() *apiError {
	p, e := c.readPutting()
	if e != nil {
		return e
	}
	p.creates = false
	if e := c.mayPut(p); e != nil {
		return e
	}
	algorithm := strings.ToLower(c.r.Header.Get("X-Amz-Checksum-Algorithm"))
	kind, e := checksumKind(algorithm, c.r.Header.Get("X-Amz-Checksum-Type"))
	if e != nil {
		return e
	}
	u := &upload{ID: rand.Text(), Initiated: c.now.UTC(), Algorithm: algorithm, Type: kind, parts: map[int]*part{},
		Object: s3Object{Key: c.key, Headers: p.headers, Meta: p.meta, Tags: p.tags}}
	if e := c.change(func() error { return c.bkt.putUpload(u) }); e != nil {
		return e
	}
	if algorithm != "" {
		c.w.Header().Set("X-Amz-Checksum-Algorithm", strings.ToUpper(algorithm))
		c.w.Header().Set("X-Amz-Checksum-Type", kind)
	}
	c.echoEncryption()
	return c.writeXML(initiateResult{Bucket: c.name, Key: xmlKey{text: c.key}, UploadId: u.ID})
}

// checksumKind settles whether the checksum of an upload is over the object or
// over the checksums of its parts. Source: "Checking object integrity" in the
// S3 User Guide.
func checksumKind(algorithm, asked string) (string, *apiError) {
	if algorithm == "" {
		if asked != "" {
			return "", refuse(http.StatusBadRequest, "InvalidRequest", "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return "", nil
	}
	if checksumAlgorithms[algorithm] == nil {
		return "", notImplemented("x-amz-checksum-algorithm " + algorithm)
	}
	kind := asked
	if kind == "" {
		kind = "COMPOSITE"
		if algorithm == "crc64nvme" {
			kind = "FULL_OBJECT"
		}
	}
	sha := strings.HasPrefix(algorithm, "sha")
	if kind != "COMPOSITE" && kind != "FULL_OBJECT" || kind == "FULL_OBJECT" && sha || kind == "COMPOSITE" && algorithm == "crc64nvme" {
		return "", refuse(http.StatusBadRequest, "InvalidRequest", "The %s checksum type cannot be used with the %s checksum algorithm.", kind, algorithm)
	}
	return kind, nil
}

// findUpload finds the call's upload. It must be one of the call's key, on
// which the call is authorised.
func (c *s3Call) findUpload() (*upload, *apiError) {
	c.b.mu.RLock()
	defer c.b.mu.RUnlock()
	u := c.bkt.uploads[c.query["uploadId"]]
	if u == nil || u.Object.Key != c.key {
		return nil, noSuchUpload()
	}
	return u, nil
}

func noSuchUpload() *apiError {
	return refuse(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
}

// changeUpload runs fn under the write lock if the upload is still under way.
func (c *s3Call) changeUpload(u *upload, fn func() error) *apiError {
	return c.change(func() error {
		if c.bkt.uploads[u.ID] != u {
			return noSuchUpload()
		}
		return fn()
	})
}

// putPart is UploadPart and UploadPartCopy.
func (c *s3Call) putPart() *apiError {
	n, e := partNumber(c.query["partNumber"])
	if e != nil {
		return e
	}
	copied := c.r.Header.Get("X-Amz-Copy-Source") != ""
	var src *copySource
	var p putting
	if copied {
		if src, e = c.openSource(false); e != nil {
			return e
		}
		defer src.file.Close() //nolint:errcheck // read only
		p.copySource = src.name + "/" + src.key
	}
	if e := c.mayPut(p); e != nil {
		return e
	}
	u, e := c.findUpload()
	if e != nil {
		return e
	}
	var got received
	if copied {
		got, e = c.receiveCopy(u, src)
	} else {
		got, e = c.receivePart(u)
	}
	if e != nil {
		return e
	}
	done := &part{Number: n, Data: got.data, Size: got.size, ETag: got.etag, Modified: c.now.UTC(), Checksum: got.sum}
	e = c.withDraft(filepath.Join(c.bkt.dir, "uploads", uploadFile(u.ID, n)), done, func(d *draft) *apiError {
		return c.changeUpload(u, func() error { return c.bkt.putPart(u, done, d) })
	})
	if e != nil {
		_ = c.bkt.drop(got.data) // else it is left for the next start
		return e
	}
	c.echoEncryption()
	if copied {
		return c.writeXML(copyResult{XMLName: xml.Name{Space: s3Namespace, Local: "CopyPartResult"}, LastModified: s3Time(done.Modified), ETag: quoted(done.ETag), xmlChecksum: partChecksum(done)})
	}
	c.w.Header().Set("ETag", quoted(done.ETag))
	if done.Checksum.Algorithm != "" {
		c.w.Header().Set("X-Amz-Checksum-"+done.Checksum.Algorithm, done.Checksum.Value)
	}
	return c.writeStatus(http.StatusOK)
}

func (c *s3Call) receivePart(u *upload) (received, *apiError) {
	algorithm := ""
	if p, ok := c.r.Body.(*payload); ok {
		algorithm = p.algorithm
	}
	if u.Algorithm != "" && algorithm != u.Algorithm {
		if algorithm == "" {
			algorithm = "null"
		}
		return received{}, refuse(http.StatusBadRequest, "InvalidRequest", "Checksum Type mismatch occurred, expected checksum Type: %s, actual checksum Type: %s", u.Algorithm, algorithm)
	}
	return c.receive()
}

func (c *s3Call) receiveCopy(u *upload, src *copySource) (received, *apiError) {
	if e := src.condition(c.r.Header); e != nil {
		return received{}, e
	}
	start, length := int64(0), src.object.Size
	if text := c.r.Header.Get("X-Amz-Copy-Source-Range"); text != "" {
		var ok, satisfiable bool
		if start, length, ok, satisfiable = parseRange(text, src.object.Size); !ok || strings.HasPrefix(text, "bytes=-") || strings.HasSuffix(text, "-") {
			return received{}, invalidArgument("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
		}
		if _, last, _ := strings.Cut(text, "-"); !satisfiable || last != strconv.FormatInt(start+length-1, 10) {
			return received{}, invalidArgument("Range specified is not valid for source object of size: %d", src.object.Size)
		}
	}
	if length > maxObjectSize {
		return received{}, refuse(http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
	}
	return c.receiveFrom(io.NewSectionReader(src.file, start, length), u.Algorithm)
}

func partChecksum(p *part) xmlChecksum {
	x := p.Checksum.xml()
	x.ChecksumType = ""
	return x
}

type completeRequest struct {
	XMLName xml.Name `xml:"CompleteMultipartUpload"`
	Part    []struct {
		PartNumber int
		ETag       string
		xmlChecksum
	}
}

type completeResult struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ CompleteMultipartUploadResult"`
	Location string
	Bucket   string
	Key      xmlKey
	ETag     string
	xmlChecksum
}

func (c *s3Call) completeUpload() *apiError {
	if e := c.mayPut(putting{creates: true}); e != nil {
		return e
	}
	u, e := c.findUpload()
	if e != nil {
		return e
	}
	var body completeRequest
	if e := c.readXML(maxDeleteBody, &body); e != nil {
		return e
	}
	parts, e := c.chooseParts(u, body)
	if e != nil {
		return e
	}
	o, e := c.assemble(u, parts)
	if e != nil {
		return e
	}
	e = c.withDraft(c.bkt.objectPath(o.Key), o, func(d *draft) *apiError {
		return c.changeUpload(u, func() error {
			if e := c.precondition(c.bkt.objects[o.Key]); e != nil {
				return e
			}
			if err := c.bkt.put(o, d); err != nil {
				return err
			}
			return c.bkt.removeUpload(u)
		})
	})
	if e != nil {
		c.dropUnused(o)
		return e
	}
	c.echoEncryption()
	return c.writeXML(completeResult{Location: "http://" + c.r.Host + "/" + uriEncode(c.name+"/"+c.key, true), Bucket: c.name, Key: xmlKey{text: c.key}, ETag: quoted(o.ETag), xmlChecksum: o.Checksum.xml()})
}

// dropUnused removes the data of an object that did not come about.
func (c *s3Call) dropUnused(o *s3Object) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.bkt.objects[o.Key] != o {
		_ = c.bkt.drop(o.Data) // else it is left for the next start
	}
}

// chooseParts holds the client's list against what was uploaded.
func (c *s3Call) chooseParts(u *upload, body completeRequest) ([]*part, *apiError) {
	if len(body.Part) == 0 {
		return nil, malformedXML()
	}
	for i := range body.Part[1:] {
		if body.Part[i+1].PartNumber <= body.Part[i].PartNumber {
			return nil, refuse(http.StatusBadRequest, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.")
		}
	}
	c.b.mu.RLock()
	defer c.b.mu.RUnlock()
	var parts []*part
	for i, asked := range body.Part {
		p := u.parts[asked.PartNumber]
		if p == nil || strings.Trim(asked.ETag, `"`) != p.ETag {
			return nil, invalidPart()
		}
		for algorithm, value := range asked.byName() {
			if *value != "" && (algorithm != p.Checksum.Algorithm || *value != p.Checksum.Value) {
				return nil, invalidPart()
			}
		}
		if i < len(body.Part)-1 && p.Size < minPartSize {
			return nil, refuse(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		parts = append(parts, p)
	}
	return parts, nil
}

func invalidPart() *apiError {
	return refuse(http.StatusBadRequest, "InvalidPart", "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.")
}

// assemble writes the parts into one data file and works out what S3 calls the
// object's ETag and checksum.
func (c *s3Call) assemble(u *upload, parts []*part) (*s3Object, *apiError) {
	files, err := c.openParts(u, parts)
	defer func() {
		for _, f := range files {
			_ = f.Close() // read only
		}
	}()
	if err != nil {
		return nil, c.fault(err)
	}
	var readers []io.Reader
	tagSum, composite := md5.New(), io.Writer(io.Discard) //nolint:gosec // S3's ETag is defined by it
	var compositeSum hash.Hash
	if u.Type == "COMPOSITE" {
		compositeSum = checksumAlgorithms[u.Algorithm]()
		composite = compositeSum
	}
	o := u.Object
	for i, p := range parts {
		readers = append(readers, files[i])
		etag, _ := hex.DecodeString(p.ETag)
		tagSum.Write(etag)
		sum, _ := base64.StdEncoding.DecodeString(p.Checksum.Value)
		_, _ = composite.Write(sum) // a hash never fails
		o.Parts = append(o.Parts, part{Number: p.Number, Size: p.Size, ETag: p.ETag, Modified: p.Modified, Checksum: p.Checksum})
	}
	full := ""
	if u.Type == "FULL_OBJECT" {
		full = u.Algorithm
	}
	got, e := c.receiveFrom(io.MultiReader(readers...), full)
	if e != nil {
		return nil, e
	}
	o.Data, o.Size, o.Modified, o.Checksum = got.data, got.size, c.now.UTC(), got.sum
	o.ETag = fmt.Sprintf("%x-%d", tagSum.Sum(nil), len(parts))
	if compositeSum != nil {
		o.Checksum = checksum{Algorithm: u.Algorithm, Value: fmt.Sprintf("%s-%d", base64Sum(compositeSum), len(parts)), Type: "COMPOSITE"}
	}
	if e := c.checkAssembled(&o); e != nil {
		_ = c.bkt.drop(o.Data) // else it is left for the next start
		return nil, e
	}
	return &o, nil
}

// checkAssembled holds the object to the size and the checksum that the client
// expects of it.
func (c *s3Call) checkAssembled(o *s3Object) *apiError {
	if size := c.r.Header.Get("X-Amz-Mp-Object-Size"); size != "" && size != strconv.FormatInt(o.Size, 10) {
		return refuse(http.StatusBadRequest, "InvalidRequest", "The provided 'x-amz-mp-object-size' header value %s does not match what was computed: %d", size, o.Size)
	}
	for algorithm := range checksumAlgorithms {
		want := c.r.Header.Get("X-Amz-Checksum-" + algorithm)
		if want != "" && (algorithm != o.Checksum.Algorithm || want != o.Checksum.Value) {
			return badChecksum(algorithm)
		}
	}
	return nil
}

func (c *s3Call) openParts(u *upload, parts []*part) (files []*os.File, err error) {
	c.b.mu.RLock()
	defer c.b.mu.RUnlock()
	if c.bkt.uploads[u.ID] != u {
		return nil, noSuchUpload()
	}
	for _, p := range parts {
		if u.parts[p.Number] != p {
			return files, invalidPart() // uploaded again meanwhile
		}
		f, err := os.Open(filepath.Join(c.bkt.dir, "data", p.Data))
		if err != nil {
			return files, fmt.Errorf("opening part %d of an upload: %w", p.Number, err)
		}
		files = append(files, f)
	}
	return files, nil
}

func (c *s3Call) abortUpload() *apiError {
	if e := c.mayObject("s3:AbortMultipartUpload", c.key, nil); e != nil {
		return e
	}
	u, e := c.findUpload()
	if e != nil {
		return e
	}
	if e := c.changeUpload(u, func() error { return c.bkt.removeUpload(u) }); e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}
