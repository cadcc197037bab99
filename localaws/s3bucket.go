package localaws

import (
	"encoding/xml"
	"net"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

// owner is who owns every bucket and object: the account. S3 names it by a
// canonical id, which has no relation to the account's number that anybody
// could compute; ours is a hash of it.
type owner struct {
	ID string
}

func (b *s3) owner() owner {
	return owner{ID: hexSHA256([]byte("canonical user id of account " + b.server.config.Account))}
}

// validBucketName follows "Bucket naming rules" in the S3 User Guide.
func validBucketName(name string) bool {
	if len(name) < 3 || len(name) > 63 || net.ParseIP(name) != nil || strings.Contains(name, "..") {
		return false
	}
	for _, prefix := range []string{"xn--", "sthree-", "amzn-s3-demo-bucket--"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	for _, suffix := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, suffix) {
			return false
		}
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	edge := func(c byte) bool { return c != '-' && c != '.' }
	return edge(name[0]) && edge(name[len(name)-1])
}

type listBucketsResult struct {
	XMLName           xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
	Owner             owner
	Buckets           []bucketEntry `xml:"Buckets>Bucket"`
	ContinuationToken string        `xml:",omitempty"`
	Prefix            string        `xml:",omitempty"`
}

type bucketEntry struct {
	Name         string
	CreationDate string
	BucketRegion string `xml:",omitempty"`
}

func (c *s3Call) listBuckets() *apiError {
	limit, e := c.number("max-buckets", 10000, 1, 10000)
	if e != nil {
		return e
	}
	if e := c.may("s3:ListAllMyBuckets", allBuckets, nil, nil); e != nil {
		return e
	}
	result := listBucketsResult{Owner: c.b.owner(), Prefix: c.query["prefix"]}
	if region := c.query["bucket-region"]; region != "" && region != c.b.server.config.Region {
		return c.writeXML(result)
	}
	after, e := decodeToken(c.query["continuation-token"])
	if e != nil {
		return e
	}
	for _, entry := range c.b.bucketEntries() {
		if !strings.HasPrefix(entry.Name, result.Prefix) || entry.Name <= after {
			continue
		}
		if len(result.Buckets) == limit {
			result.ContinuationToken = encodeToken(result.Buckets[limit-1].Name)
			break
		}
		if c.has("max-buckets") || c.has("bucket-region") {
			entry.BucketRegion = c.b.server.config.Region
		}
		result.Buckets = append(result.Buckets, entry)
	}
	return c.writeXML(result)
}

func (b *s3) bucketEntries() []bucketEntry {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var entries []bucketEntry
	for name, bkt := range b.buckets {
		entries = append(entries, bucketEntry{Name: name, CreationDate: s3Time(bkt.settings.Created)})
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Name < entries[j].Name })
	return entries
}

// number is a whole-number parameter with its default and its bounds.
func (c *s3Call) number(name string, otherwise, least, most int) (int, *apiError) {
	text, sent := c.query[name]
	if !sent || text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > 1<<31-1 {
		return 0, invalidArgument("Provided %s not an integer or within integer range", name)
	}
	return min(n, most), nil
}

type createBucketConfiguration struct {
	XMLName            xml.Name  `xml:"CreateBucketConfiguration"`
	LocationConstraint *string   `xml:"LocationConstraint"`
	Location           *struct{} `xml:"Location"`
	Bucket             *struct{} `xml:"Bucket"`
	Tags               *struct{} `xml:"Tags"`
}

func (c *s3Call) putBucket() *apiError {
	ownership := c.r.Header.Get("X-Amz-Object-Ownership")
	acl := c.r.Header.Get("X-Amz-Acl")
	location, e := c.locationConstraint()
	if e != nil {
		return e
	}
	e = c.mayBucket("s3:CreateBucket", func(k conditionKeys) {
		k.setSent("s3:locationconstraint", location, location != "")
		k.setSent("s3:x-amz-acl", acl, acl != "")
		k.setSent("s3:x-amz-object-ownership", ownership, ownership != "")
	})
	if e != nil {
		return e
	}
	switch {
	case ownership == "":
		ownership = ownerEnforced
	case !validOwnership(ownership):
		return invalidArgument("Invalid x-amz-object-ownership header: %s", ownership)
	}
	if acl != "" && acl != "private" {
		return refuse(http.StatusBadRequest, "InvalidBucketAclWithObjectOwnership", "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")
	}
	if region := c.b.server.config.Region; location != "" && location != region || location == "" && region != "us-east-1" {
		return refuse(http.StatusBadRequest, "IllegalLocationConstraintException", "The %s location constraint is incompatible for the region specific endpoint this request was sent to.", orUnspecified(location))
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.w.Header().Set("Location", "/"+c.name)
	if c.b.buckets[c.name] != nil {
		if c.b.server.config.Region == "us-east-1" {
			return c.writeStatus(http.StatusOK) // only there, and for the owner, S3 calls this a success
		}
		return refuse(http.StatusConflict, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.")
	}
	if err := c.b.createBucket(&settings{Name: c.name, Created: c.now.UTC().Truncate(time.Second), Block: blockEverything(), Ownership: ownership}); err != nil {
		return c.fault(err)
	}
	return c.writeStatus(http.StatusOK)
}

func orUnspecified(location string) string {
	if location == "" {
		return "unspecified"
	}
	return location
}

// locationConstraint reads the body of CreateBucket, which may be empty. It is
// read before the authorisation, since a policy may ask for it; it is small.
func (c *s3Call) locationConstraint() (string, *apiError) {
	data, e := c.readBody(maxXMLBody)
	if e != nil || len(data) == 0 {
		return "", e
	}
	var body createBucketConfiguration
	if err := xml.Unmarshal(data, &body); err != nil {
		return "", malformedXML()
	}
	if body.Location != nil || body.Bucket != nil || body.Tags != nil {
		return "", notImplemented("Location, Bucket or Tags in CreateBucketConfiguration")
	}
	if body.LocationConstraint == nil {
		return "", nil
	}
	if *body.LocationConstraint == "us-east-1" || *body.LocationConstraint == "" {
		return "", refuse(http.StatusBadRequest, "InvalidLocationConstraint", "The specified location-constraint is not valid")
	}
	return *body.LocationConstraint, nil
}

// headBucket is authorised as a listing that names neither prefix nor delimiter.
func (c *s3Call) headBucket() *apiError {
	e := c.mayBucket("s3:ListBucket", func(k conditionKeys) { k.set("s3:max-keys", "1000") })
	if e != nil {
		return e
	}
	c.w.Header().Set("X-Amz-Bucket-Region", c.b.server.config.Region)
	c.w.Header().Set("X-Amz-Access-Point-Alias", "false")
	c.w.Header().Set("Content-Type", "application/xml")
	return c.writeStatus(http.StatusOK)
}

func (c *s3Call) removeBucket() *apiError {
	if e := c.mayBucket("s3:DeleteBucket", nil); e != nil {
		return e
	}
	e := c.change(func() error {
		if len(c.bkt.objects) > 0 {
			return refuse(http.StatusConflict, "BucketNotEmpty", "The bucket you tried to delete is not empty")
		}
		return c.b.deleteBucket(c.bkt)
	})
	if e != nil {
		return e
	}
	return c.writeStatus(http.StatusNoContent)
}

func (c *s3Call) getLocation() *apiError {
	if e := c.mayBucket("s3:GetBucketLocation", nil); e != nil {
		return e
	}
	region := c.b.server.config.Region
	if region == "us-east-1" {
		region = "" // which is how S3 spells it
	}
	return c.writeXML(struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Region  string   `xml:",chardata"`
	}{Region: region})
}

func (c *s3Call) getVersioning() *apiError {
	if e := c.mayBucket("s3:GetBucketVersioning", nil); e != nil {
		return e
	}
	return c.writeXMLText(http.StatusOK, `<VersioningConfiguration xmlns="`+s3Namespace+`"/>`)
}
