package localaws

import (
	"encoding/base64"
	"encoding/xml"
	"slices"
	"sort"
	"strconv"
	"strings"
)

const maxListKeys = 1000

// listing is one page of a bucket.
type listing struct {
	objects   []*s3Object
	prefixes  []string
	truncated bool
	last      string // the last key or common prefix of the page
}

// list returns the keys after a position, in byte order, with the keys that
// share what comes before the delimiter rolled into one common prefix. Nothing
// is left out by permission: a listing that is allowed shows all it finds.
func (b *s3) list(bkt *bucket, prefix, delimiter, after string, limit int) listing {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var page listing
	if limit == 0 {
		return page
	}
	i, found := slices.BinarySearch(bkt.keys, max(prefix, after))
	if found && bkt.keys[i] == after {
		i++
	}
	if p, ok := commonPrefix(after, prefix, delimiter); ok && p == after {
		i = skip(bkt.keys, i, after)
	}
	for i < len(bkt.keys) && strings.HasPrefix(bkt.keys[i], prefix) {
		if len(page.objects)+len(page.prefixes) == limit {
			page.truncated = true
			return page
		}
		key := bkt.keys[i]
		if p, ok := commonPrefix(key, prefix, delimiter); ok {
			page.prefixes = append(page.prefixes, p)
			page.last = p
			i = skip(bkt.keys, i, p)
			continue
		}
		page.objects = append(page.objects, bkt.objects[key])
		page.last = key
		i++
	}
	return page
}

// commonPrefix is the key up to and with the first delimiter after the prefix.
func commonPrefix(key, prefix, delimiter string) (string, bool) {
	rest, ok := strings.CutPrefix(key, prefix)
	if !ok || delimiter == "" {
		return "", false
	}
	i := strings.Index(rest, delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(prefix)+i+len(delimiter)], true
}

// skip is the index of the first key from i on that does not start with prefix.
func skip(keys []string, i int, prefix string) int {
	return i + sort.Search(len(keys)-i, func(j int) bool { return !strings.HasPrefix(keys[i+j], prefix) })
}

// encodeToken makes a continuation token of a position. It is no secret and
// grants nothing: prefix and permission are checked on every page.
func encodeToken(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

func decodeToken(token string) (string, *apiError) {
	data, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", invalidArgument("The continuation token provided is incorrect")
	}
	return string(data), nil
}

type listResult struct {
	XMLName               xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name                  string
	Prefix                xmlKey
	Marker                *xmlKey
	NextMarker            *xmlKey
	StartAfter            *xmlKey
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	KeyCount              *int
	MaxKeys               int
	Delimiter             *xmlKey
	EncodingType          string `xml:",omitempty"`
	IsTruncated           bool
	Contents              []listEntry
	CommonPrefixes        []prefixEntry
}

type listEntry struct {
	Key               xmlKey
	LastModified      string
	ETag              string
	ChecksumAlgorithm string `xml:",omitempty"`
	ChecksumType      string `xml:",omitempty"`
	Size              int64
	StorageClass      string
	Owner             *owner
}

type prefixEntry struct{ Prefix xmlKey }

// mayList authorises a listing with the keys as they were sent: a parameter
// that is absent leaves its key absent, an empty one makes it empty.
func (c *s3Call) mayList(action string) (limit int, e *apiError) {
	if t, sent := c.query["encoding-type"]; sent && t != "url" {
		return 0, invalidArgument("Invalid Encoding Method specified in Request")
	}
	asked, e := c.number("max-keys", maxListKeys, 0, 1<<31-1)
	if e != nil {
		return 0, e
	}
	return min(asked, maxListKeys), c.mayBucket(action, func(k conditionKeys) {
		k.setSent("s3:prefix", c.query["prefix"], c.has("prefix"))
		k.setSent("s3:delimiter", c.query["delimiter"], c.has("delimiter"))
		k.set("s3:max-keys", strconv.Itoa(asked))
	})
}

// listObjects is ListObjects, and ListObjectsV2 with list-type=2.
func (c *s3Call) listObjects() *apiError {
	v2 := c.query["list-type"] == "2"
	if c.has("list-type") && !v2 {
		return invalidArgument("Invalid List Type specified in Request")
	}
	for _, name := range []string{"continuation-token", "start-after", "fetch-owner"} {
		if !v2 && c.has(name) {
			return invalidArgument("The parameter %s needs list-type=2", name)
		}
	}
	if v2 && c.has("marker") {
		return invalidArgument("The parameter marker is not one of list-type=2")
	}
	limit, e := c.mayList("s3:ListBucket")
	if e != nil {
		return e
	}
	after := c.query["marker"]
	if v2 {
		after = c.query["start-after"]
		if token, sent := c.query["continuation-token"]; sent {
			if after, e = decodeToken(token); e != nil || token == "" {
				return invalidArgument("The continuation token provided is incorrect")
			}
		}
	}
	page := c.b.list(c.bkt, c.query["prefix"], c.query["delimiter"], after, limit)
	return c.writeXML(c.listResult(page, limit, v2))
}

func (c *s3Call) listResult(page listing, limit int, v2 bool) listResult {
	r := listResult{Name: c.name, Prefix: c.xmlKey(c.query["prefix"]), MaxKeys: limit, Delimiter: c.sentKey("delimiter"),
		EncodingType: c.query["encoding-type"], IsTruncated: page.truncated, CommonPrefixes: c.prefixEntries(page.prefixes)}
	for _, o := range page.objects {
		entry := c.listEntry(o)
		if v2 && c.query["fetch-owner"] != "true" {
			entry.Owner = nil
		}
		r.Contents = append(r.Contents, entry)
	}
	if !v2 {
		marker := c.xmlKey(c.query["marker"])
		r.Marker = &marker
		if page.truncated && c.has("delimiter") {
			next := c.xmlKey(page.last)
			r.NextMarker = &next
		}
		return r
	}
	count := len(page.objects) + len(page.prefixes)
	r.KeyCount, r.StartAfter, r.ContinuationToken = &count, c.sentKey("start-after"), c.query["continuation-token"]
	if page.truncated {
		r.NextContinuationToken = encodeToken(page.last)
	}
	return r
}

func (c *s3Call) xmlKey(text string) xmlKey { return xmlKey{text, c.query["encoding-type"] == "url"} }

func (c *s3Call) sentKey(param string) *xmlKey {
	if !c.has(param) {
		return nil
	}
	k := c.xmlKey(c.query[param])
	return &k
}

func (c *s3Call) prefixEntries(prefixes []string) []prefixEntry {
	var entries []prefixEntry
	for _, p := range prefixes {
		entries = append(entries, prefixEntry{c.xmlKey(p)})
	}
	return entries
}

func (c *s3Call) listEntry(o *s3Object) listEntry {
	who := c.b.owner()
	return listEntry{Key: c.xmlKey(o.Key), LastModified: s3Time(o.Modified), ETag: quoted(o.ETag), ChecksumAlgorithm: strings.ToUpper(o.Checksum.Algorithm),
		ChecksumType: o.Checksum.Type, Size: o.Size, StorageClass: "STANDARD", Owner: &who}
}

type versionsResult struct {
	XMLName             xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListVersionsResult"`
	Name                string
	Prefix              xmlKey
	KeyMarker           xmlKey
	VersionIdMarker     string
	NextKeyMarker       *xmlKey
	NextVersionIdMarker string `xml:",omitempty"`
	MaxKeys             int
	Delimiter           *xmlKey
	EncodingType        string `xml:",omitempty"`
	IsTruncated         bool
	Version             []versionEntry
	CommonPrefixes      []prefixEntry
}

type versionEntry struct {
	listEntry
	VersionId string
	IsLatest  bool
}

// listVersions shows each object as its version "null", which is what a bucket
// without versioning has.
func (c *s3Call) listVersions() *apiError {
	limit, e := c.mayList("s3:ListBucketVersions")
	if e != nil {
		return e
	}
	if c.query["version-id-marker"] != "" && c.query["key-marker"] == "" {
		return invalidArgument("A version-id marker cannot be specified without a key marker.")
	}
	page := c.b.list(c.bkt, c.query["prefix"], c.query["delimiter"], c.query["key-marker"], limit)
	r := versionsResult{Name: c.name, Prefix: c.xmlKey(c.query["prefix"]), KeyMarker: c.xmlKey(c.query["key-marker"]),
		VersionIdMarker: c.query["version-id-marker"], MaxKeys: limit, Delimiter: c.sentKey("delimiter"),
		EncodingType: c.query["encoding-type"], IsTruncated: page.truncated, CommonPrefixes: c.prefixEntries(page.prefixes)}
	if page.truncated {
		next := c.xmlKey(page.last)
		r.NextKeyMarker, r.NextVersionIdMarker = &next, "null"
	}
	for _, o := range page.objects {
		r.Version = append(r.Version, versionEntry{listEntry: c.listEntry(o), VersionId: "null", IsLatest: true})
	}
	return c.writeXML(r)
}
