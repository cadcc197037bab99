package localaws

import (
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const maxMetadata = 2 << 10 // bytes of all x-amz-meta- names and values

// kept are the headers that an object keeps and gives back.
var kept = []string{"Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Content-Type", "Expires"}

// putting is what a request says about the object that it is to make.
type putting struct {
	headers, meta map[string]string
	tags          []tag
	tagged        bool // x-amz-tagging was sent
	acl           string
	copySource    string // "bucket/key", decoded, so that one object has one spelling
	creates       bool   // the request makes the object, and not a part of it
}

// readPutting takes the object's description from the headers.
func (c *s3Call) readPutting() (putting, *apiError) {
	p := putting{headers: map[string]string{}, meta: map[string]string{}, acl: c.r.Header.Get("X-Amz-Acl"), creates: true}
	for _, name := range kept {
		if v := c.r.Header.Get(name); v != "" {
			p.headers[name] = v
		}
	}
	if p.headers["Content-Type"] == "" {
		p.headers["Content-Type"] = "binary/octet-stream"
	}
	size := 0
	for name, values := range c.r.Header {
		short, ok := strings.CutPrefix(strings.ToLower(name), "x-amz-meta-")
		if !ok {
			continue
		}
		p.meta[short] = strings.Join(values, ",")
		size += len(short) + len(p.meta[short])
	}
	for _, v := range slices.Concat(slices.Collect(maps.Values(p.headers)), slices.Collect(maps.Values(p.meta))) {
		if !utf8.ValidString(v) {
			return putting{}, invalidArgument("A header of the object is not UTF-8.")
		}
	}
	if size > maxMetadata {
		return putting{}, refuse(http.StatusBadRequest, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
	}
	var e *apiError
	if text := c.r.Header.Get("X-Amz-Tagging"); text != "" {
		p.tagged = true
		p.tags, e = parseTagHeader(text)
	}
	return p, e
}

// mayPut authorises writing an object or a part of it.
func (c *s3Call) mayPut(p putting) *apiError {
	h := c.r.Header
	keys := func(k conditionKeys) {
		k.set("s3:ObjectCreationOperation", strconv.FormatBool(p.creates))
		k.setSent("s3:x-amz-copy-source", p.copySource, p.copySource != "")
		for _, name := range []string{"x-amz-acl", "x-amz-metadata-directive", "x-amz-server-side-encryption", "x-amz-storage-class", "if-match", "if-none-match"} {
			k.setSent("s3:"+name, h.Get(name), h.Get(name) != "")
		}
		if p.tagged {
			k.setList("s3:RequestObjectTagKeys", tagKeys(p.tags))
		}
		for _, t := range p.tags {
			k.setSent("s3:RequestObjectTag/"+t.Key, t.Value, p.tagged)
		}
	}
	actions := []string{"s3:PutObject"}
	if p.tagged {
		actions = append(actions, "s3:PutObjectTagging")
	}
	if p.acl != "" {
		actions = append(actions, "s3:PutObjectAcl")
	}
	if h.Get("If-Match") != "" {
		actions = append(actions, "s3:GetObject") // it tells what the object holds
	}
	for _, action := range actions {
		if e := c.mayObject(action, c.key, keys); e != nil {
			return e
		}
	}
	return c.checkACL(p.acl)
}

func (c *s3Call) putObject() *apiError {
	if c.r.Header.Get("X-Amz-Copy-Source") != "" {
		return c.copyObject()
	}
	p, e := c.readPutting()
	if e != nil {
		return e
	}
	if e := c.mayPut(p); e != nil {
		return e
	}
	got, e := c.receive()
	if e != nil {
		return e
	}
	o := &s3Object{Key: c.key, Data: got.data, Size: got.size, ETag: got.etag, Modified: c.now.UTC(),
		Headers: p.headers, Meta: p.meta, Tags: p.tags, Checksum: got.sum}
	if e := c.commit(o); e != nil {
		return e
	}
	c.w.Header().Set("ETag", quoted(o.ETag))
	c.checksumHeaders(o.Checksum)
	c.echoEncryption()
	return c.writeStatus(http.StatusOK)
}

// echoEncryption confirms AES256 as S3 does; what is at rest here is not
// encrypted beyond what its disk is.
func (c *s3Call) echoEncryption() {
	if v := c.r.Header.Get("X-Amz-Server-Side-Encryption"); v != "" {
		c.w.Header().Set("X-Amz-Server-Side-Encryption", v)
	}
}

// receive takes in the body of an upload, verified to its end.
func (c *s3Call) receive() (received, *apiError) {
	if c.r.ContentLength < 0 {
		return received{}, refuse(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
	}
	if c.r.ContentLength > maxObjectSize {
		return received{}, refuse(http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size")
	}
	if e := c.precondition(c.b.object(c.bkt, c.key)); e != nil {
		return received{}, e // before the body is sent in vain
	}
	got, err := c.bkt.receive(c.r.Body, nil)
	if err != nil {
		return received{}, c.bodyFault(err)
	}
	if p, ok := c.r.Body.(*payload); ok {
		if algorithm, sum := p.verified(); algorithm != "" {
			got.sum = checksum{Algorithm: algorithm, Value: sum, Type: "FULL_OBJECT"}
		}
	}
	return got, nil
}

// commit makes o the object of its key, or drops its data.
func (c *s3Call) commit(o *s3Object) *apiError {
	e := c.withDraft(c.bkt.objectPath(o.Key), o, func(d *draft) *apiError {
		return c.change(func() error {
			if e := c.precondition(c.bkt.objects[o.Key]); e != nil {
				return e
			}
			return c.bkt.put(o, d)
		})
	})
	if e != nil {
		c.dropUnused(o)
	}
	return e
}

// precondition judges If-Match and If-None-Match of a write.
func (c *s3Call) precondition(o *s3Object) *apiError {
	match, none := c.r.Header.Get("If-Match"), c.r.Header.Get("If-None-Match")
	switch {
	case none != "" && none != "*":
		return notImplemented("If-None-Match other than * on a write")
	case none == "*" && o != nil:
		return preconditionFailed("If-None-Match")
	case match != "" && o == nil:
		return c.missing(c.key)
	case match != "" && match != "*" && strings.Trim(match, `"`) != o.ETag:
		return preconditionFailed("If-Match")
	}
	return nil
}

func preconditionFailed(condition string) *apiError {
	return refuse(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold: %s", condition)
}

// getObject is GetObject and HeadObject.
func (c *s3Call) getObject() *apiError {
	o, f, e := c.openExisting()
	if e != nil {
		return e
	}
	defer f.Close() //nolint:errcheck // read only
	if e := c.readCondition(o); e != nil {
		return e
	}
	if e := c.objectHeaders(o); e != nil {
		return e
	}
	start, length, status, e := c.span(o)
	if e != nil {
		return e
	}
	if status == http.StatusOK && strings.EqualFold(c.r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED") {
		c.checksumHeaders(o.Checksum)
	}
	c.w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	if c.r.Method == http.MethodHead {
		return c.writeStatus(status)
	}
	c.w.WriteHeader(status)
	if _, err := io.Copy(c.w, io.NewSectionReader(f, start, length)); err != nil {
		c.b.server.config.Log.Debug("s3 answer cut short", "request_id", c.id, "error", err)
		panic(http.ErrAbortHandler) // the status is out: only a broken connection still tells the client
	}
	return nil
}

// openExisting finds the object and opens its bytes. An object that was
// replaced in between is looked up, and authorised, anew.
func (c *s3Call) openExisting() (*s3Object, *os.File, *apiError) {
	for {
		o, e := c.existing("GetObject")
		if e != nil {
			return nil, nil, e
		}
		f, current, err := c.b.open(c.bkt, o)
		if err != nil {
			return nil, nil, c.fault(err)
		}
		if current {
			return o, f, nil
		}
	}
}

// objectHeaders sets what an object answers with, and the overrides that a
// signed request may ask for.
func (c *s3Call) objectHeaders(o *s3Object) *apiError {
	h := c.w.Header()
	for name, v := range o.Headers {
		h.Set(name, v)
	}
	for name, v := range o.Meta {
		h["x-amz-meta-"+name] = []string{v} // in lower case as S3 has it: the CLI shows the name as it comes
	}
	h.Set("ETag", quoted(o.ETag))
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	if len(o.Tags) > 0 && c.mayObject(c.versioned("GetObjectTagging"), c.key, c.objectKeys(o)) == nil {
		h.Set("X-Amz-Tagging-Count", strconv.Itoa(len(o.Tags)))
	}
	for _, name := range kept {
		v, sent := c.query["response-"+strings.ToLower(name)]
		if sent && c.sig.anonymous {
			return refuse(http.StatusBadRequest, "InvalidRequest", "Request specific response headers cannot be used for anonymous GET requests.")
		}
		if sent {
			h.Set(name, v)
		}
	}
	return nil
}

func (c *s3Call) checksumHeaders(s checksum) {
	if s.Algorithm != "" {
		c.w.Header().Set("X-Amz-Checksum-"+s.Algorithm, s.Value)
		c.w.Header().Set("X-Amz-Checksum-Type", s.Type)
	}
}

// readCondition judges the conditional headers of a read in the order of
// RFC 9110, section 13.2.2.
func (c *s3Call) readCondition(o *s3Object) *apiError {
	h := c.r.Header
	modified := o.Modified.Truncate(time.Second)
	since, sinceErr := http.ParseTime(h.Get("If-Modified-Since"))
	unmodified, unmodifiedErr := http.ParseTime(h.Get("If-Unmodified-Since"))
	switch match, none := h.Get("If-Match"), h.Get("If-None-Match"); {
	case match != "" && !matches(match, o.ETag):
		return preconditionFailed("If-Match")
	case match == "" && unmodifiedErr == nil && modified.After(unmodified):
		return preconditionFailed("If-Unmodified-Since")
	case none != "" && matches(none, o.ETag), none == "" && sinceErr == nil && !modified.After(since):
		c.w.Header().Set("ETag", quoted(o.ETag))
		c.w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
		return refuse(http.StatusNotModified, "NotModified", "Not Modified")
	}
	return nil
}

func matches(list, etag string) bool {
	for item := range strings.SplitSeq(list, ",") {
		item = strings.Trim(strings.TrimPrefix(strings.TrimSpace(item), "W/"), `"`)
		if item == "*" || item == etag {
			return true
		}
	}
	return false
}

// span is the part of the object that is asked for: all of it, a Range or a
// part number.
func (c *s3Call) span(o *s3Object) (start, length int64, status int, e *apiError) {
	text := c.r.Header.Get("Range")
	if c.has("partNumber") {
		if text != "" {
			return 0, 0, 0, refuse(http.StatusBadRequest, "InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
		}
		return c.partSpan(o)
	}
	start, length, ok, satisfiable := parseRange(text, o.Size)
	if !ok {
		return 0, o.Size, http.StatusOK, nil // S3 passes over a Range that it cannot read, or of several spans
	}
	if !satisfiable {
		return 0, 0, 0, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidRange", "The requested range is not satisfiable")
	}
	c.contentRange(start, length, o.Size)
	return start, length, http.StatusPartialContent, nil
}

func (c *s3Call) contentRange(start, length, size int64) {
	c.w.Header().Set("Content-Range", "bytes "+strconv.FormatInt(start, 10)+"-"+strconv.FormatInt(start+length-1, 10)+"/"+strconv.FormatInt(size, 10))
}

func (c *s3Call) partSpan(o *s3Object) (start, length int64, status int, e *apiError) {
	n, e := partNumber(c.query["partNumber"])
	if e != nil {
		return 0, 0, 0, e
	}
	if len(o.Parts) == 0 && n == 1 {
		return 0, o.Size, http.StatusOK, nil
	}
	if n > len(o.Parts) {
		return 0, 0, 0, refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber", "The requested partnumber is not satisfiable")
	}
	for _, p := range o.Parts[:n-1] {
		start += p.Size
	}
	length = o.Parts[n-1].Size
	c.w.Header().Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(o.Parts)))
	c.contentRange(start, length, o.Size)
	return start, length, http.StatusPartialContent, nil
}

// parseRange reads a Range of one span. ok is false for anything else.
func parseRange(text string, size int64) (start, length int64, ok, satisfiable bool) {
	text, ok = strings.CutPrefix(text, "bytes=")
	from, to, dash := strings.Cut(text, "-")
	if !ok || !dash || strings.Contains(to, "-") {
		return 0, 0, false, false
	}
	end := size - 1
	last, lastErr := strconv.ParseUint(to, 10, 63)
	if to != "" && lastErr != nil {
		return 0, 0, false, false
	}
	if from == "" {
		if to == "" {
			return 0, 0, false, false
		}
		length = min(int64(last), size)
		return size - length, length, true, length > 0
	}
	first, err := strconv.ParseUint(from, 10, 63)
	if err != nil || to != "" && last < first {
		return 0, 0, false, false
	}
	if to != "" {
		end = min(int64(last), end)
	}
	return int64(first), end - int64(first) + 1, true, int64(first) < size
}

func (c *s3Call) deleteObject() *apiError {
	if e := c.mayDelete(c.key); e != nil {
		return e
	}
	if e := c.checkNullVersion(); e != nil {
		return e
	}
	e := c.change(func() error {
		if c.r.Header.Get("If-Match") != "" {
			if e := c.precondition(c.bkt.objects[c.key]); e != nil {
				return e
			}
		}
		return c.bkt.remove(c.key)
	})
	if e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}

func (c *s3Call) mayDelete(key string) *apiError {
	return c.mayObject(c.versioned("DeleteObject"), key, func(k conditionKeys) {
		k.setSent("s3:versionid", c.query["versionId"], c.has("versionId"))
		k.setSent("s3:if-match", c.r.Header.Get("If-Match"), c.r.Header.Get("If-Match") != "")
	})
}

// checkNullVersion refuses every version but the one that is there.
func (c *s3Call) checkNullVersion() *apiError {
	if v, sent := c.query["versionId"]; sent && v != "null" {
		return invalidArgument("Invalid version id specified")
	}
	return nil
}

type deleteRequest struct {
	XMLName xml.Name `xml:"Delete"`
	Quiet   bool
	Object  []struct {
		Key              string
		VersionId        *string
		ETag             *string
		LastModifiedTime *string
		Size             *string
	}
}

type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []deletedEntry
	Error   []deleteError
}

type deletedEntry struct {
	Key       xmlKey
	VersionId string `xml:",omitempty"`
}

type deleteError struct {
	Key           xmlKey
	VersionId     string `xml:",omitempty"`
	Code, Message string
}

// deleteObjects deletes up to a thousand keys. Each is authorised for itself,
// and a refusal is told in its place in the answer.
func (c *s3Call) deleteObjects() *apiError {
	p, ok := c.r.Body.(*payload)
	if c.r.Header.Get("Content-Md5") == "" && (!ok || p.algorithm == "") {
		return refuse(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
	}
	var body deleteRequest
	if e := c.readXML(maxDeleteBody, &body); e != nil {
		return e
	}
	if len(body.Object) == 0 || len(body.Object) > 1000 {
		return malformedXML()
	}
	var result deleteResult
	for _, o := range body.Object {
		version := ""
		delete(c.query, "versionId")
		if o.VersionId != nil && *o.VersionId != "" {
			version = *o.VersionId
			c.query["versionId"] = version
		}
		e := c.deleteOne(o.Key, o.ETag != nil || o.LastModifiedTime != nil || o.Size != nil)
		if e != nil {
			result.Error = append(result.Error, deleteError{Key: xmlKey{text: o.Key}, VersionId: version, Code: e.Code, Message: xmlSafe(e.Message)})
		} else if !body.Quiet {
			result.Deleted = append(result.Deleted, deletedEntry{Key: xmlKey{text: o.Key}, VersionId: version})
		}
	}
	return c.writeXML(result)
}

func (c *s3Call) deleteOne(key string, conditional bool) *apiError {
	switch {
	case key == "":
		return refuse(http.StatusBadRequest, "UserKeyMustBeSpecified", "The bucket POST must contain the specified field name.  If it is specified, please check the order of the fields.")
	case len(key) > maxKeyBytes:
		return refuse(http.StatusBadRequest, "KeyTooLongError", "Your key is too long")
	}
	if e := c.mayDelete(key); e != nil {
		return e
	}
	if conditional {
		return notImplemented("conditional delete of one of several keys")
	}
	if e := c.checkNullVersion(); e != nil {
		return e
	}
	return c.change(func() error { return c.bkt.remove(key) })
}

// parseTagHeader reads x-amz-tagging: tags as URL query parameters.
func parseTagHeader(text string) ([]tag, *apiError) {
	var tags []tag
	for part := range strings.SplitSeq(text, "&") {
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		if errors.Join(err, valueErr) != nil {
			return nil, invalidArgument("The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates.")
		}
		tags = append(tags, tag{Key: name, Value: value})
	}
	return tags, checkObjectTags(tags)
}
