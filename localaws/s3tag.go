package localaws

import (
	"encoding/xml"
	"net/http"
	"strings"
	"unicode/utf8"
)

// checkObjectTags holds object tags to S3's limits: ten, of 128 and 256
// characters, each key once, in the characters that tags may have.
func checkObjectTags(tags []tag) *apiError {
	if len(tags) > 10 {
		return refuse(http.StatusBadRequest, "BadRequest", "Object tags cannot be greater than 10")
	}
	seen := map[string]bool{}
	for _, t := range tags {
		switch n := utf8.RuneCountInString(t.Key); {
		case n < 1 || n > 128 || !tagKeyPattern.re.MatchString(t.Key) || strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return refuse(http.StatusBadRequest, "InvalidTag", "The TagKey you have provided is invalid")
		case utf8.RuneCountInString(t.Value) > 256 || !tagValuePattern.re.MatchString(t.Value):
			return refuse(http.StatusBadRequest, "InvalidTag", "The TagValue you have provided is invalid")
		case seen[t.Key]:
			return refuse(http.StatusBadRequest, "InvalidTag", "Cannot provide multiple Tags with the same key")
		}
		seen[t.Key] = true
	}
	return nil
}

func tagKeys(tags []tag) []string {
	keys := []string{}
	for _, t := range tags {
		keys = append(keys, t.Key)
	}
	return keys
}

type tagging struct {
	XMLName   xml.Name `xml:"Tagging"`
	Namespace string   `xml:"xmlns,attr,omitempty"`
	TagSet    struct{ Tag []tagEntry }
}

type tagEntry struct{ Key, Value string }

func (c *s3Call) getObjectTagging() *apiError {
	o, e := c.existing("GetObjectTagging")
	if e != nil {
		return e
	}
	shown := tagging{Namespace: s3Namespace}
	for _, t := range o.Tags {
		shown.TagSet.Tag = append(shown.TagSet.Tag, tagEntry(t))
	}
	return c.writeXML(shown)
}

// putObjectTagging reads its small body before the authorisation, which may
// ask for the tags in it.
func (c *s3Call) putObjectTagging() *apiError {
	var body tagging
	if e := c.readXML(maxXMLBody, &body); e != nil {
		return e
	}
	var tags []tag
	for _, t := range body.TagSet.Tag {
		tags = append(tags, tag(t))
	}
	if e := checkObjectTags(tags); e != nil {
		return e
	}
	return c.retag("PutObjectTagging", tags, func(k conditionKeys) {
		k.setList("s3:RequestObjectTagKeys", tagKeys(tags))
		for _, t := range tags {
			k.set("s3:RequestObjectTag/"+t.Key, t.Value)
		}
	}, http.StatusOK)
}

func (c *s3Call) deleteObjectTagging() *apiError {
	return c.retag("DeleteObjectTagging", nil, func(conditionKeys) {}, http.StatusNoContent)
}

// retag replaces the tags of an object. The authorisation looked at the tags
// that the object had, so an object changed meanwhile is judged again.
func (c *s3Call) retag(action string, tags []tag, keys func(conditionKeys), status int) *apiError {
	for {
		o, e := c.existingWith(keys, action)
		if e != nil {
			return e
		}
		done := false
		next := *o
		next.Tags = tags
		e = c.withDraft(c.bkt.objectPath(c.key), &next, func(d *draft) *apiError {
			return c.change(func() error {
				if done = c.bkt.objects[c.key] == o; !done {
					return nil
				}
				return c.bkt.put(&next, d)
			})
		})
		if e != nil || done {
			if e == nil {
				e = c.writeStatus(status)
			}
			return e
		}
	}
}
