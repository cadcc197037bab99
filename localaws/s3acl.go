package localaws

import (
	"encoding/xml"
	"net/http"
	"slices"
)

var cannedACLs = []string{"private", "public-read", "public-read-write", "authenticated-read", "aws-exec-read",
	"bucket-owner-read", "bucket-owner-full-control", "log-delivery-write"}

func aclNotSupported() *apiError {
	return refuse(http.StatusBadRequest, "AccessControlListNotSupported", "The bucket does not allow ACLs")
}

// checkACL lets through what gives nobody but the owner anything. Every object
// here belongs to the bucket's owner, so these ACLs are all one.
func (c *s3Call) checkACL(acl string) *apiError {
	switch {
	case acl == "" || acl == "private" || acl == "bucket-owner-full-control" || acl == "bucket-owner-read":
		return nil
	case !slices.Contains(cannedACLs, acl):
		return invalidArgument("x-amz-acl is %q, which is no canned ACL", acl)
	case c.set.Ownership == ownerEnforced:
		return aclNotSupported()
	case c.set.Block != nil && c.set.Block.BlockPublicAcls && acl != "aws-exec-read" && acl != "log-delivery-write":
		return plainDenied()
	}
	return notImplemented("x-amz-acl " + acl)
}

type accessControlPolicy struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ AccessControlPolicy"`
	Owner   owner
	Grants  []aclGrant `xml:"AccessControlList>Grant"`
}

type aclGrant struct {
	Grantee    grantee
	Permission string
}

type grantee struct {
	XSI  string `xml:"xmlns:xsi,attr"`
	Type string `xml:"xsi:type,attr"`
	ID   string
}

// ownerACL is the ACL of everything here.
func (c *s3Call) ownerACL() accessControlPolicy {
	who := c.b.owner()
	return accessControlPolicy{Owner: who, Grants: []aclGrant{{
		Grantee:    grantee{XSI: "http://www.w3.org/2001/XMLSchema-instance", Type: "CanonicalUser", ID: who.ID},
		Permission: "FULL_CONTROL",
	}}}
}

func (c *s3Call) getBucketACL() *apiError {
	if e := c.mayBucket("s3:GetBucketAcl", nil); e != nil {
		return e
	}
	return c.writeXML(c.ownerACL())
}

func (c *s3Call) getObjectACL() *apiError {
	if _, e := c.existing("GetObjectAcl"); e != nil {
		return e
	}
	return c.writeXML(c.ownerACL())
}

func (c *s3Call) putBucketACL() *apiError {
	if e := c.mayBucket("s3:PutBucketAcl", c.aclKeys); e != nil {
		return e
	}
	return c.putACL()
}

func (c *s3Call) putObjectACL() *apiError {
	if _, e := c.existingWith(c.aclKeys, "PutObjectAcl"); e != nil {
		return e
	}
	return c.putACL()
}

func (c *s3Call) aclKeys(k conditionKeys) {
	acl := c.r.Header.Get("X-Amz-Acl")
	k.setSent("s3:x-amz-acl", acl, acl != "")
}

// putACL can only confirm what is so already.
func (c *s3Call) putACL() *apiError {
	acl := c.r.Header.Get("X-Amz-Acl")
	switch {
	case c.set.Ownership == ownerEnforced && acl != "bucket-owner-full-control":
		return aclNotSupported()
	case acl == "":
		return notImplemented("an ACL in the body")
	}
	if e := c.checkACL(acl); e != nil {
		return e
	}
	return c.writeStatus(http.StatusOK)
}
