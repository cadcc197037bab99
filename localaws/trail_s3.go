package localaws

import (
	"net/http"
	"strings"
)

// bucketEvents and objectEvents name the calls as CloudTrail does; the calls on
// objects, and those on buckets that list or touch objects, are data events.
// Source: "Amazon S3 CloudTrail events", Amazon S3 User Guide.
var (
	bucketEvents = map[string]string{
		"HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket", "GET": "ListObjects", "POST delete": "DeleteObjects",
		"GET location": "GetBucketLocation", "GET policy": "GetBucketPolicy", "PUT policy": "PutBucketPolicy",
		"DELETE policy": "DeleteBucketPolicy", "GET policyStatus": "GetBucketPolicyStatus",
		"GET publicAccessBlock": "GetBucketPublicAccessBlock", "PUT publicAccessBlock": "PutBucketPublicAccessBlock",
		"DELETE publicAccessBlock": "DeleteBucketPublicAccessBlock", "GET ownershipControls": "GetBucketOwnershipControls",
		"PUT ownershipControls": "PutBucketOwnershipControls", "DELETE ownershipControls": "DeleteBucketOwnershipControls",
		"GET acl": "GetBucketAcl", "PUT acl": "PutBucketAcl", "GET versioning": "GetBucketVersioning",
		"GET versions": "ListObjectVersions", "GET uploads": "ListMultipartUploads", "GET requestPayment": "GetBucketRequestPayment",
		"GET logging": "GetBucketLogging", "GET notification": "GetBucketNotification", "GET encryption": "GetBucketEncryption",
		"GET accelerate": "GetAccelerateConfiguration", "GET cors": "GetBucketCors", "GET lifecycle": "GetBucketLifecycle",
		"GET website": "GetBucketWebsite", "GET tagging": "GetBucketTagging", "GET replication": "GetBucketReplication",
		"GET object-lock": "GetObjectLockConfiguration",
	}
	objectEvents = map[string]string{
		"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject", "GET acl": "GetObjectAcl",
		"PUT acl": "PutObjectAcl", "GET tagging": "GetObjectTagging", "PUT tagging": "PutObjectTagging",
		"DELETE tagging": "DeleteObjectTagging", "GET attributes": "GetObjectAttributes", "POST uploads": "CreateMultipartUpload",
		"PUT uploadId": "UploadPart", "POST uploadId": "CompleteMultipartUpload", "DELETE uploadId": "AbortMultipartUpload",
		"GET uploadId": "ListParts",
	}
	bucketDataEvents = map[string]bool{"ListObjects": true, "ListObjectVersions": true, "ListMultipartUploads": true, "HeadBucket": true, "DeleteObjects": true}
)

// trailName is the event's name, and whether it is a data event; "" for what is no
// call of S3.
func (c *s3Call) trailName() (name string, data bool) {
	call := strings.TrimSpace(c.r.Method + " " + c.subresource())
	if c.name == "" {
		if call == "GET" {
			return "ListBuckets", false
		}
		return "", false
	}
	if c.key == "" {
		name = bucketEvents[call]
		return name, bucketDataEvents[name]
	}
	name = objectEvents[call]
	if c.r.Header.Get("X-Amz-Copy-Source") != "" {
		name = map[string]string{"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}[name]
	}
	return name, true
}

// trailEvent is what CloudTrail keeps of a request, or nil: of one that failed
// authentication it has nothing, of one that was refused, or is anonymous, it has.
// Source: "Amazon S3 CloudTrail events", Amazon S3 User Guide.
func (c *s3Call) trailEvent(refused *apiError) *trailEvent {
	name, data := c.trailName()
	if c.who == nil || name == "" {
		return nil
	}
	s := c.b.server
	e := s.newTrailEvent("s3.amazonaws.com", name, c.r, c.now, c.id)
	e.UserAgent = "[" + e.UserAgent + "]"
	e.UserIdentity = s.trailCaller(c.who, c.sig.accessKeyID)
	e.ReadOnly = c.r.Method == http.MethodGet || c.r.Method == http.MethodHead
	if data {
		e.ManagementEvent, e.EventCategory = false, "Data"
	}
	if refused != nil {
		e.ErrorCode, e.ErrorMessage = refused.Code, refused.Message
	}
	e.RequestParameters = map[string]any{"Host": clip(strings.ToValidUTF8(c.r.Host, "\ufffd"))}
	for name, value := range c.query { // without X-Amz-*, which a presigned URL's signature is among
		e.RequestParameters[name] = value
	}
	e.AdditionalEventData = map[string]any{"bytesTransferredIn": max(c.r.ContentLength, 0), "x-amz-id-2": hexSHA256([]byte(c.id))}
	if !c.sig.anonymous {
		e.AdditionalEventData["SignatureVersion"], e.AdditionalEventData["AuthenticationMethod"] = "SigV4", "AuthHeader"
		if c.sig.presigned {
			e.AdditionalEventData["AuthenticationMethod"] = "QueryString"
		}
	}
	c.resourcesInTrail(e, data)
	return e
}

func (c *s3Call) resourcesInTrail(e *trailEvent, data bool) {
	if c.name == "" {
		return
	}
	e.RequestParameters["bucketName"] = c.name
	bucket := "arn:aws:s3:::" + c.name
	if c.key != "" {
		e.RequestParameters["key"] = c.key
		e.Resources = append(e.Resources, trailResource{Type: "AWS::S3::Object", ARN: bucket + "/" + c.key})
	} else if data {
		e.Resources = append(e.Resources, trailResource{Type: "AWS::S3::Object", ARNPrefix: bucket + "/"})
	}
	e.Resources = append(e.Resources, trailResource{AccountID: c.b.server.config.Account, Type: "AWS::S3::Bucket", ARN: bucket})
}
