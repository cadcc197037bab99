package localaws

import (
	"net/http"
	"slices"
	"strings"
)

// route is one S3 call and the query parameters that it takes.
type route struct {
	run    func(*s3Call) *apiError
	params string
}

// The calls by method and subresource, at the level of service, bucket and object.
var serviceRoutes = map[string]route{
	"GET": {(*s3Call).listBuckets, "prefix max-buckets continuation-token bucket-region"},
}

var bucketRoutes = map[string]route{
	"GET":                      {(*s3Call).listObjects, "list-type prefix delimiter marker max-keys encoding-type continuation-token start-after fetch-owner"},
	"HEAD":                     {(*s3Call).headBucket, ""},
	"PUT":                      {(*s3Call).putBucket, ""},
	"DELETE":                   {(*s3Call).removeBucket, ""},
	"POST delete":              {(*s3Call).deleteObjects, ""},
	"GET location":             {(*s3Call).getLocation, ""},
	"GET policy":               {(*s3Call).getPolicy, ""},
	"PUT policy":               {(*s3Call).putPolicy, ""},
	"DELETE policy":            {(*s3Call).deletePolicy, ""},
	"GET policyStatus":         {(*s3Call).getPolicyStatus, ""},
	"GET publicAccessBlock":    {(*s3Call).getPublicAccessBlock, ""},
	"PUT publicAccessBlock":    {(*s3Call).putPublicAccessBlock, ""},
	"DELETE publicAccessBlock": {(*s3Call).deletePublicAccessBlock, ""},
	"GET ownershipControls":    {(*s3Call).getOwnership, ""},
	"PUT ownershipControls":    {(*s3Call).putOwnership, ""},
	"DELETE ownershipControls": {(*s3Call).deleteOwnership, ""},
	"GET acl":                  {(*s3Call).getBucketACL, ""},
	"PUT acl":                  {(*s3Call).putBucketACL, ""},
	"GET versioning":           {(*s3Call).getVersioning, ""},
	"GET versions":             {(*s3Call).listVersions, "prefix delimiter key-marker version-id-marker max-keys encoding-type"},
	"GET uploads":              {(*s3Call).listUploads, "prefix delimiter key-marker upload-id-marker max-uploads encoding-type"},
	"GET requestPayment":       {constant("s3:GetBucketRequestPayment", `<RequestPaymentConfiguration xmlns="`+s3Namespace+`"><Payer>BucketOwner</Payer></RequestPaymentConfiguration>`), ""},
	"GET logging":              {constant("s3:GetBucketLogging", `<BucketLoggingStatus xmlns="`+s3Namespace+`"/>`), ""},
	"GET notification":         {constant("s3:GetBucketNotification", `<NotificationConfiguration xmlns="`+s3Namespace+`"/>`), ""},
	"GET encryption":           {constant("s3:GetEncryptionConfiguration", defaultEncryption), ""},
	"GET accelerate":           {constant("s3:GetAccelerateConfiguration", `<AccelerateConfiguration xmlns="`+s3Namespace+`"/>`), ""},
	// What cannot be set here is never set, and S3 has an answer for that.
	"GET cors":        {unset("s3:GetBucketCORS", "NoSuchCORSConfiguration", "The CORS configuration does not exist"), ""},
	"GET lifecycle":   {unset("s3:GetLifecycleConfiguration", "NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"), ""},
	"GET website":     {unset("s3:GetBucketWebsite", "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"), ""},
	"GET tagging":     {unset("s3:GetBucketTagging", "NoSuchTagSet", "The TagSet does not exist"), ""},
	"GET replication": {unset("s3:GetReplicationConfiguration", "ReplicationConfigurationNotFoundError", "The replication configuration was not found"), ""},
	"GET object-lock": {unset("s3:GetBucketObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "Object Lock configuration does not exist for this bucket"), ""},
}

// defaultEncryption is SSE-S3, which S3 has on for every bucket since 2023 and
// nobody can turn off.
const defaultEncryption = `<ServerSideEncryptionConfiguration xmlns="` + s3Namespace + `"><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>AES256</SSEAlgorithm>` +
	`</ApplyServerSideEncryptionByDefault><BucketKeyEnabled>false</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>`

const responseParams = "versionId partNumber response-cache-control response-content-disposition response-content-encoding response-content-language response-content-type response-expires"

var objectRoutes = map[string]route{
	"GET":             {(*s3Call).getObject, responseParams},
	"HEAD":            {(*s3Call).getObject, responseParams},
	"PUT":             {(*s3Call).putObject, ""},
	"DELETE":          {(*s3Call).deleteObject, "versionId"},
	"GET acl":         {(*s3Call).getObjectACL, "versionId"},
	"PUT acl":         {(*s3Call).putObjectACL, "versionId"},
	"GET tagging":     {(*s3Call).getObjectTagging, "versionId"},
	"PUT tagging":     {(*s3Call).putObjectTagging, "versionId"},
	"DELETE tagging":  {(*s3Call).deleteObjectTagging, "versionId"},
	"GET attributes":  {(*s3Call).getAttributes, "versionId"},
	"POST uploads":    {(*s3Call).createUpload, ""},
	"PUT uploadId":    {(*s3Call).putPart, "partNumber"},
	"POST uploadId":   {(*s3Call).completeUpload, ""},
	"DELETE uploadId": {(*s3Call).abortUpload, ""},
	"GET uploadId":    {(*s3Call).listParts, "max-parts part-number-marker encoding-type"},
}

// subresources are the parameters that pick a call.
var subresources = []string{
	"abac", "accelerate", "acl", "analytics", "annotation", "annotations", "attributes", "cors", "delete", "encryption", "intelligent-tiering", "inventory",
	"legal-hold", "lifecycle", "location", "logging", "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable",
	"metadataTable", "metrics", "notification", "object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock",
	"renameObject", "replication", "requestPayment", "restore", "retention", "select", "session", "tagging", "torrent",
	"uploadId", "uploads", "versioning", "versions", "website",
}

func (c *s3Call) subresource() string {
	for _, name := range subresources {
		if c.has(name) {
			return name
		}
	}
	return ""
}

// route finds the call, and refuses a parameter that it would not act upon.
func (c *s3Call) route() (func(*s3Call) *apiError, *apiError) {
	table := objectRoutes
	switch {
	case c.name == "":
		table = serviceRoutes
	case c.key == "":
		table = bucketRoutes
	}
	if c.r.Method == http.MethodOptions {
		return nil, refuse(http.StatusForbidden, "AccessForbidden", "CORSResponse: CORS is not enabled for this bucket.")
	}
	if strings.HasPrefix(c.r.URL.Path, "/v20180820/") {
		return nil, notImplemented("S3 Control")
	}
	sub := c.subresource()
	r, ok := table[strings.TrimSpace(c.r.Method+" "+sub)]
	if !ok {
		return nil, c.noRoute(table, sub)
	}
	for name := range c.query {
		if name == sub || slices.Contains(strings.Fields(r.params), name) {
			continue
		}
		if sub != "" && slices.Contains(subresources, name) {
			return nil, invalidArgument("Conflicting query string parameters: %s, %s", sub, name)
		}
		return nil, notImplemented("the parameter " + name)
	}
	return r.run, nil
}

// noRoute tells a wrong method from a call that is not built.
func (c *s3Call) noRoute(table map[string]route, sub string) *apiError {
	known := sub == "" && c.r.Method != http.MethodPost
	for name := range table {
		_, has, _ := strings.Cut(name, " ")
		known = known || sub != "" && has == sub && !slices.Contains([]string{http.MethodPut, http.MethodPost, http.MethodDelete}, c.r.Method)
	}
	if known {
		return refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource.")
	}
	return notImplemented(strings.TrimSpace(c.r.Method + " " + sub))
}

// constant answers a call whose answer here is always the same.
func constant(action, body string) func(*s3Call) *apiError {
	return func(c *s3Call) *apiError {
		if e := c.mayBucket(action, nil); e != nil {
			return e
		}
		return c.writeXMLText(http.StatusOK, body)
	}
}

// unset answers a call for a setting that no bucket here has.
func unset(action, code, message string) func(*s3Call) *apiError {
	return func(c *s3Call) *apiError {
		if e := c.mayBucket(action, nil); e != nil {
			return e
		}
		return refuse(http.StatusNotFound, code, "%s", message)
	}
}
