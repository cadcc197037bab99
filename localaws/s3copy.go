package localaws

import (
	"encoding/xml"
	"hash"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// copySource is an object that a request wants to copy from, found and
// authorised.
type copySource struct {
	name, key string
	object    *s3Object
	file      *os.File
	settings  *settings
}

// parseCopySource reads x-amz-copy-source: bucket and key, percent-encoded,
// perhaps after a slash and before a versionId.
func parseCopySource(text string) (name, key, version string, versioned bool, e *apiError) {
	bad := invalidArgument("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	path, query, asked := strings.Cut(text, "?")
	if asked {
		version, versioned = strings.CutPrefix(query, "versionId=")
		if !versioned || version == "" {
			return "", "", "", false, bad
		}
	}
	path, err := percentDecode(path)
	if err != nil || strings.HasPrefix(path, "arn:") {
		return "", "", "", false, bad
	}
	name, key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !validBucketName(name) || key == "" || len(key) > maxKeyBytes || !utf8.ValidString(key) || climbs(key) {
		return "", "", "", false, bad
	}
	return name, key, version, versioned, nil
}

// openSource authorises reading the source under its own bucket's policy, and
// opens it.
func (c *s3Call) openSource(copyTags bool) (*copySource, *apiError) {
	name, key, version, versioned, e := parseCopySource(c.r.Header.Get("X-Amz-Copy-Source"))
	if e != nil {
		return nil, e
	}
	if owner := c.r.Header.Get("X-Amz-Source-Expected-Bucket-Owner"); owner != "" && owner != c.b.server.config.Account {
		return nil, plainDenied()
	}
	bkt, set := c.b.find(name)
	if bkt == nil {
		return nil, noSuchBucket()
	}
	for {
		o := c.b.object(bkt, key)
		keys := func(k conditionKeys) {
			c.objectKeys(o)(k)
			k.setSent("s3:versionid", version, versioned)
		}
		actions := []string{"s3:GetObject"}
		if copyTags && o != nil && len(o.Tags) > 0 {
			actions = append(actions, "s3:GetObjectTagging")
		}
		for _, action := range actions {
			if versioned {
				action = strings.Replace(action, "Object", "ObjectVersion", 1)
			}
			if e := c.may(action, "arn:aws:s3:::"+name+"/"+key, set, keys); e != nil {
				return nil, e
			}
		}
		if o == nil {
			return nil, c.missingIn(name, set, key)
		}
		if versioned && version != "null" {
			return nil, refuse(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.")
		}
		f, current, err := c.b.open(bkt, o)
		if err != nil {
			return nil, c.fault(err)
		}
		if current {
			return &copySource{name: name, key: key, object: o, file: f, settings: set}, nil
		}
	}
}

// condition judges the x-amz-copy-source-if- headers.
func (s *copySource) condition(h http.Header) *apiError {
	modified := s.object.Modified.Truncate(time.Second)
	since, sinceErr := http.ParseTime(h.Get("X-Amz-Copy-Source-If-Modified-Since"))
	unmodified, unmodifiedErr := http.ParseTime(h.Get("X-Amz-Copy-Source-If-Unmodified-Since"))
	match, none := h.Get("X-Amz-Copy-Source-If-Match"), h.Get("X-Amz-Copy-Source-If-None-Match")
	switch {
	case match != "" && !matches(match, s.object.ETag):
		return preconditionFailed("x-amz-copy-source-If-Match")
	case none != "" && matches(none, s.object.ETag):
		return preconditionFailed("x-amz-copy-source-If-None-Match")
	case match == "" && unmodifiedErr == nil && modified.After(unmodified):
		return preconditionFailed("x-amz-copy-source-If-Unmodified-Since")
	case none == "" && sinceErr == nil && !modified.After(since):
		return preconditionFailed("x-amz-copy-source-If-Modified-Since")
	}
	return nil
}

type copyResult struct {
	XMLName      xml.Name // CopyObjectResult or CopyPartResult
	LastModified string
	ETag         string
	xmlChecksum
}

// xmlChecksum is a checksum as S3 puts it among other elements.
type xmlChecksum struct {
	ChecksumCRC32     string `xml:",omitempty"`
	ChecksumCRC32C    string `xml:",omitempty"`
	ChecksumCRC64NVME string `xml:",omitempty"`
	ChecksumSHA1      string `xml:",omitempty"`
	ChecksumSHA256    string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

// byName is where the value of each algorithm goes.
func (x *xmlChecksum) byName() map[string]*string {
	return map[string]*string{"crc32": &x.ChecksumCRC32, "crc32c": &x.ChecksumCRC32C, "crc64nvme": &x.ChecksumCRC64NVME,
		"sha1": &x.ChecksumSHA1, "sha256": &x.ChecksumSHA256}
}

func (s checksum) xml() (x xmlChecksum) {
	if field := x.byName()[s.Algorithm]; field != nil {
		*field, x.ChecksumType = s.Value, s.Type
	}
	return x
}

// directive is COPY, the default, or REPLACE.
func (c *s3Call) directive(header string) (replace bool, e *apiError) {
	switch v := c.r.Header.Get(header); v {
	case "", "COPY":
		return false, nil
	case "REPLACE":
		return true, nil
	default:
		return false, invalidArgument("Unknown %s: %q", strings.ToLower(header), v)
	}
}

func (c *s3Call) copyObject() *apiError {
	p, e := c.readPutting()
	if e != nil {
		return e
	}
	replaceMeta, e := c.directive("X-Amz-Metadata-Directive")
	if e != nil {
		return e
	}
	replaceTags, e := c.directive("X-Amz-Tagging-Directive")
	if e != nil {
		return e
	}
	src, e := c.openSource(!replaceTags)
	if e != nil {
		return e
	}
	defer src.file.Close() //nolint:errcheck // read only
	p.copySource = src.name + "/" + src.key
	if !replaceTags {
		p.tags, p.tagged = nil, false
	}
	if e := c.mayPut(p); e != nil {
		return e
	}
	if !replaceTags && len(src.object.Tags) > 0 {
		if e := c.mayObject("s3:PutObjectTagging", c.key, nil); e != nil {
			return e
		}
		p.tags = src.object.Tags
	}
	if e := src.condition(c.r.Header); e != nil {
		return e
	}
	if !replaceMeta {
		if src.name == c.name && src.key == c.key && !replaceTags {
			return refuse(http.StatusBadRequest, "InvalidRequest", "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
		}
		p.headers, p.meta = src.object.Headers, src.object.Meta
	}
	return c.finishCopy(p, src)
}

func (c *s3Call) finishCopy(p putting, src *copySource) *apiError {
	if src.object.Size > maxObjectSize {
		return refuse(http.StatusBadRequest, "InvalidRequest", "The specified copy source is larger than the maximum allowable size for a copy source: %d", maxObjectSize)
	}
	algorithm := strings.ToLower(c.r.Header.Get("X-Amz-Checksum-Algorithm"))
	if algorithm == "" {
		algorithm = src.object.Checksum.Algorithm
	}
	got, e := c.receiveFrom(src.file, algorithm)
	if e != nil {
		return e
	}
	o := &s3Object{Key: c.key, Data: got.data, Size: got.size, ETag: got.etag, Modified: c.now.UTC(),
		Headers: p.headers, Meta: p.meta, Tags: p.tags, Checksum: got.sum}
	if e := c.commit(o); e != nil {
		return e
	}
	c.echoEncryption()
	return c.writeXML(copyResult{XMLName: xml.Name{Space: s3Namespace, Local: "CopyObjectResult"}, LastModified: s3Time(o.Modified), ETag: quoted(o.ETag), xmlChecksum: o.Checksum.xml()})
}

// receiveFrom takes in bytes that we already have, with a checksum of the
// algorithm that is asked for.
func (c *s3Call) receiveFrom(src io.Reader, algorithm string) (received, *apiError) {
	var sum hash.Hash
	if algorithm != "" {
		newHash := checksumAlgorithms[algorithm]
		if newHash == nil {
			return received{}, notImplemented("x-amz-checksum-algorithm " + algorithm)
		}
		sum = newHash()
	}
	got, err := c.bkt.receive(src, sum)
	if err != nil {
		return received{}, c.fault(err)
	}
	if sum != nil {
		got.sum = checksum{Algorithm: algorithm, Value: base64Sum(sum), Type: "FULL_OBJECT"}
	}
	return got, nil
}
