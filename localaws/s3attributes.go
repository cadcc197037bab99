package localaws

import (
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"
)

type attributesResult struct {
	XMLName      xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
	ETag         string   `xml:",omitempty"`
	Checksum     *xmlChecksum
	ObjectParts  *objectParts
	StorageClass string `xml:",omitempty"`
	ObjectSize   *int64
}

type objectParts struct {
	PartsCount           int
	PartNumberMarker     int
	NextPartNumberMarker int
	MaxParts             int
	IsTruncated          bool
	Part                 []partEntry
}

func (c *s3Call) getAttributes() *apiError {
	o, e := c.existing("GetObject", "GetObjectAttributes")
	if e != nil {
		return e
	}
	var r attributesResult
	for name := range strings.SplitSeq(strings.Join(c.r.Header.Values("X-Amz-Object-Attributes"), ","), ",") {
		switch strings.TrimSpace(name) {
		case "ETag":
			r.ETag = o.ETag // without quotes, in this answer alone
		case "Checksum":
			if o.Checksum.Algorithm != "" {
				x := o.Checksum.xml()
				r.Checksum = &x
			}
		case "ObjectParts":
			if r.ObjectParts, e = c.partsPage(o); e != nil {
				return e
			}
		case "StorageClass":
			r.StorageClass = "STANDARD"
		case "ObjectSize":
			r.ObjectSize = &o.Size
		default:
			return invalidArgument("Invalid attribute name specified.")
		}
	}
	c.w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	return c.writeXML(r)
}

// partsPage is a page of the parts that an object was made of, nil for one
// that was put whole.
func (c *s3Call) partsPage(o *s3Object) (*objectParts, *apiError) {
	limit, e := headerNumber(c.r.Header, "X-Amz-Max-Parts", 1000)
	if e != nil {
		return nil, e
	}
	marker, e := headerNumber(c.r.Header, "X-Amz-Part-Number-Marker", 0)
	if e != nil || len(o.Parts) == 0 {
		return nil, e
	}
	page := &objectParts{PartsCount: len(o.Parts), PartNumberMarker: marker, MaxParts: min(limit, 1000)}
	for _, p := range o.Parts {
		if p.Number <= marker {
			continue
		}
		if len(page.Part) == page.MaxParts {
			page.IsTruncated = true
			break
		}
		page.NextPartNumberMarker = p.Number
		page.Part = append(page.Part, partEntry{PartNumber: p.Number, Size: p.Size, xmlChecksum: partChecksum(&p)})
	}
	return page, nil
}

func headerNumber(h http.Header, name string, otherwise int) (int, *apiError) {
	text := h.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, invalidArgument("%s is %q, want a whole number", strings.ToLower(name), text)
	}
	return n, nil
}
