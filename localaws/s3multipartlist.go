package localaws

import (
	"encoding/xml"
	"slices"
	"sort"
	"strings"
)

type listPartsResult struct {
	XMLName              xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListPartsResult"`
	Bucket               string
	Key                  xmlKey
	UploadId             string
	PartNumberMarker     int
	NextPartNumberMarker int
	MaxParts             int
	IsTruncated          bool
	Part                 []partEntry
	Initiator            owner
	Owner                owner
	StorageClass         string
	ChecksumAlgorithm    string `xml:",omitempty"`
	ChecksumType         string `xml:",omitempty"`
}

type partEntry struct {
	PartNumber   int
	LastModified string `xml:",omitempty"`
	ETag         string `xml:",omitempty"`
	Size         int64
	xmlChecksum
}

func (c *s3Call) listParts() *apiError {
	if e := c.mayObject("s3:ListMultipartUploadParts", c.key, nil); e != nil {
		return e
	}
	limit, e := c.number("max-parts", 1000, 0, 1000)
	if e != nil {
		return e
	}
	marker, e := c.number("part-number-marker", 0, 0, 1<<31-1)
	if e != nil {
		return e
	}
	u, e := c.findUpload()
	if e != nil {
		return e
	}
	r := listPartsResult{Bucket: c.name, Key: c.xmlKey(c.key), UploadId: u.ID, PartNumberMarker: marker, MaxParts: limit, Initiator: c.b.owner(),
		Owner: c.b.owner(), StorageClass: "STANDARD", ChecksumAlgorithm: strings.ToUpper(u.Algorithm), ChecksumType: u.Type}
	for _, p := range c.b.partsOf(u) {
		if p.Number <= marker {
			continue
		}
		if len(r.Part) == limit {
			r.IsTruncated = true
			break
		}
		r.Part = append(r.Part, partEntry{PartNumber: p.Number, LastModified: s3Time(p.Modified), ETag: quoted(p.ETag), Size: p.Size, xmlChecksum: partChecksum(p)})
		r.NextPartNumberMarker = p.Number
	}
	return c.writeXML(r)
}

func (b *s3) partsOf(u *upload) []*part {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var parts []*part
	for _, p := range u.parts {
		parts = append(parts, p)
	}
	sort.Slice(parts, func(i, j int) bool { return parts[i].Number < parts[j].Number })
	return parts
}

type listUploadsResult struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          xmlKey
	UploadIdMarker     string
	NextKeyMarker      *xmlKey
	NextUploadIdMarker string `xml:",omitempty"`
	Prefix             xmlKey
	Delimiter          *xmlKey
	EncodingType       string `xml:",omitempty"`
	MaxUploads         int
	IsTruncated        bool
	Upload             []uploadEntry
	CommonPrefixes     []prefixEntry
}

type uploadEntry struct {
	Key               xmlKey
	UploadId          string
	Initiator         owner
	Owner             owner
	StorageClass      string
	Initiated         string
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
}

// listUploads has no s3:prefix to be authorised by: who may list uploads sees
// those of every prefix.
func (c *s3Call) listUploads() *apiError {
	if e := c.mayBucket("s3:ListBucketMultipartUploads", nil); e != nil {
		return e
	}
	limit, e := c.number("max-uploads", 1000, 0, 1000)
	if e != nil {
		return e
	}
	r := listUploadsResult{Bucket: c.name, KeyMarker: c.xmlKey(c.query["key-marker"]), UploadIdMarker: c.query["upload-id-marker"], Prefix: c.xmlKey(c.query["prefix"]),
		Delimiter: c.sentKey("delimiter"), EncodingType: c.query["encoding-type"], MaxUploads: limit}
	var prefixes []string
	for _, u := range c.b.uploadsOf(c.bkt) {
		key, prefix := u.Object.Key, c.query["prefix"]
		if !strings.HasPrefix(key, prefix) || !c.afterMarker(u) {
			continue
		}
		common, rolled := commonPrefix(key, prefix, c.query["delimiter"])
		if rolled && slices.Contains(prefixes, common) {
			continue
		}
		if len(r.Upload)+len(prefixes) == limit {
			r.IsTruncated = limit > 0
			break
		}
		next := c.xmlKey(key)
		r.NextKeyMarker, r.NextUploadIdMarker = &next, u.ID
		if rolled {
			prefixes = append(prefixes, common)
			continue
		}
		r.Upload = append(r.Upload, uploadEntry{Key: c.xmlKey(key), UploadId: u.ID, Initiator: c.b.owner(), Owner: c.b.owner(), StorageClass: "STANDARD",
			Initiated: s3Time(u.Initiated), ChecksumAlgorithm: strings.ToUpper(u.Algorithm), ChecksumType: u.Type})
	}
	r.CommonPrefixes = c.prefixEntries(prefixes)
	return c.writeXML(r)
}

// afterMarker reports whether an upload comes after key-marker and
// upload-id-marker. A marker inside a common prefix is past all of it.
func (c *s3Call) afterMarker(u *upload) bool {
	marker := c.query["key-marker"]
	if p, ok := commonPrefix(marker, c.query["prefix"], c.query["delimiter"]); ok && strings.HasPrefix(u.Object.Key, p) {
		return false
	}
	id := c.query["upload-id-marker"]
	return u.Object.Key > marker || u.Object.Key == marker && id != "" && u.ID > id
}

func (b *s3) uploadsOf(bkt *bucket) []*upload {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var uploads []*upload
	for _, u := range bkt.uploads {
		uploads = append(uploads, u)
	}
	sort.Slice(uploads, func(i, j int) bool {
		a, b := uploads[i], uploads[j]
		return a.Object.Key < b.Object.Key || a.Object.Key == b.Object.Key && a.ID < b.ID
	})
	return uploads
}
