package localaws

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
)

const testBucket = "tenant-data"

// s3Client makes a client with path-style addresses and the checksums that
// config.LoadDefaultConfig turns on.
func s3Client(c aws.Config, options ...func(*s3sdk.Options)) *s3sdk.Client {
	c.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenSupported
	c.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenSupported
	return s3sdk.NewFromConfig(c, append(options, func(o *s3sdk.Options) { o.UsePathStyle = true })...)
}

// newBucket is an account with a bucket, and the admin's client.
func newBucket(t *testing.T) (*account, *s3sdk.Client) {
	t.Helper()
	a := newAccount(t)
	admin := s3Client(a.adminSDK())
	if _, err := admin.CreateBucket(t.Context(), &s3sdk.CreateBucketInput{Bucket: aws.String(testBucket)}); err != nil {
		t.Fatal(err)
	}
	return a, admin
}

// setPolicy replaces the inline policy that newUser gave.
func (a *account) setPolicy(user, policyText string) {
	a.t.Helper()
	_, err := a.iam().PutUserPolicy(context.Background(), &iam.PutUserPolicyInput{UserName: &user, PolicyName: aws.String("p"), PolicyDocument: &policyText})
	if err != nil {
		a.t.Fatal(err)
	}
}

// allow is an identity policy of one statement.
func allow(actions, resources, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":` + jsonList(actions) + `,"Resource":` + jsonList(resources) + condition + `}]}`
}

func jsonList(words string) string { return `["` + strings.Join(strings.Fields(words), `","`) + `"]` }

func put(t *testing.T, c *s3sdk.Client, key, body string) {
	t.Helper()
	_, err := c.PutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: &key, Body: strings.NewReader(body)})
	if err != nil {
		t.Fatalf("put %q: %v", key, err)
	}
}

func get(c *s3sdk.Client, key string) (string, error) {
	out, err := c.GetObject(context.Background(), &s3sdk.GetObjectInput{Bucket: aws.String(testBucket), Key: &key})
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	return string(data), err
}

// wantCode fails unless err is the API error of that code, and returns its message.
func wantCode(t *testing.T, err error, code string) string {
	t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) {
		t.Fatalf("got %v, want the error %s", err, code)
	}
	if api.ErrorCode() != code {
		t.Fatalf("got %s: %s, want %s", api.ErrorCode(), api.ErrorMessage(), code)
	}
	return api.ErrorMessage()
}

func TestObjectRoundTrip(t *testing.T) {
	a, admin := newBucket(t)
	ctx := t.Context()
	key := "bots/0xabc/k 1+ü.txt"
	_, err := admin.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: &key, Body: strings.NewReader("hello world"),
		ContentType: aws.String("text/plain"), CacheControl: aws.String("no-store"), Metadata: map[string]string{"color": "blue"}, Tagging: aws.String("team=a%20b&env=dev")})
	if err != nil {
		t.Fatal(err)
	}
	check := func(admin *s3sdk.Client) {
		t.Helper()
		out, err := admin.GetObject(ctx, &s3sdk.GetObjectInput{Bucket: aws.String(testBucket), Key: &key, ChecksumMode: types.ChecksumModeEnabled})
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(out.Body)
		if err != nil || string(body) != "hello world" {
			t.Fatalf("got %q, %v", body, err)
		}
		if *out.ContentType != "text/plain" || *out.CacheControl != "no-store" || out.Metadata["color"] != "blue" ||
			*out.ETag != `"5eb63bbbe01eeed093cb22bb8f5acdc3"` || *out.TagCount != 2 || *out.ChecksumCRC32 != "DUoRhQ==" {
			t.Errorf("got %+v", out)
		}
	}
	check(admin)
	head, err := admin.HeadObject(ctx, &s3sdk.HeadObjectInput{Bucket: aws.String(testBucket), Key: &key})
	if err != nil || *head.ContentLength != 11 {
		t.Fatalf("got %+v, %v", head, err)
	}
	tags, err := admin.GetObjectTagging(ctx, &s3sdk.GetObjectTaggingInput{Bucket: aws.String(testBucket), Key: &key})
	if err != nil || len(tags.TagSet) != 2 || *tags.TagSet[0].Value != "a b" {
		t.Fatalf("got %+v, %v", tags, err)
	}
	attributes, err := admin.GetObjectAttributes(ctx, &s3sdk.GetObjectAttributesInput{Bucket: aws.String(testBucket), Key: &key,
		ObjectAttributes: []types.ObjectAttributes{types.ObjectAttributesEtag, types.ObjectAttributesObjectSize, types.ObjectAttributesChecksum}})
	if err != nil || *attributes.ObjectSize != 11 || *attributes.ETag != "5eb63bbbe01eeed093cb22bb8f5acdc3" || *attributes.Checksum.ChecksumCRC32 != "DUoRhQ==" {
		t.Fatalf("got %+v, %v", attributes, err)
	}
	a.restart()
	admin = s3Client(a.adminSDK())
	check(admin)
	if _, err := admin.DeleteObject(ctx, &s3sdk.DeleteObjectInput{Bucket: aws.String(testBucket), Key: &key}); err != nil {
		t.Fatal(err)
	}
	_, err = get(admin, key)
	wantCode(t, err, "NoSuchKey")
}

// restart closes the server and opens it again on the same state.
func (a *account) restart() {
	a.t.Helper()
	if err := a.server.Close(); err != nil {
		a.t.Fatal(err)
	}
	s, err := Open(a.config())
	if err != nil {
		a.t.Fatal(err)
	}
	*a.server = *s
}

func TestRangesAndConditions(t *testing.T) {
	_, admin := newBucket(t)
	put(t, admin, "k", "0123456789")
	tests := []struct {
		name  string
		in    s3sdk.GetObjectInput
		want  string
		code  string
		crang string
	}{
		{name: "first bytes", in: s3sdk.GetObjectInput{Range: aws.String("bytes=0-3")}, want: "0123", crang: "bytes 0-3/10"},
		{name: "to the end", in: s3sdk.GetObjectInput{Range: aws.String("bytes=7-")}, want: "789", crang: "bytes 7-9/10"},
		{name: "past the end", in: s3sdk.GetObjectInput{Range: aws.String("bytes=7-99")}, want: "789", crang: "bytes 7-9/10"},
		{name: "suffix", in: s3sdk.GetObjectInput{Range: aws.String("bytes=-2")}, want: "89", crang: "bytes 8-9/10"},
		{name: "long suffix", in: s3sdk.GetObjectInput{Range: aws.String("bytes=-20")}, want: "0123456789", crang: "bytes 0-9/10"},
		{name: "outside", in: s3sdk.GetObjectInput{Range: aws.String("bytes=10-")}, code: "InvalidRange"},
		{name: "empty suffix", in: s3sdk.GetObjectInput{Range: aws.String("bytes=-0")}, code: "InvalidRange"},
		{name: "backwards is passed over", in: s3sdk.GetObjectInput{Range: aws.String("bytes=3-1")}, want: "0123456789"},
		{name: "several are passed over", in: s3sdk.GetObjectInput{Range: aws.String("bytes=0-1,3-4")}, want: "0123456789"},
		{name: "garbage is passed over", in: s3sdk.GetObjectInput{Range: aws.String("bytes=+1-2")}, want: "0123456789"},
		{name: "if-match", in: s3sdk.GetObjectInput{IfMatch: aws.String(`"781e5e245d69b566979b86e28d23f2c7"`)}, want: "0123456789"},
		{name: "if-match other", in: s3sdk.GetObjectInput{IfMatch: aws.String(`"00"`)}, code: "PreconditionFailed"},
		{name: "if-none-match", in: s3sdk.GetObjectInput{IfNoneMatch: aws.String(`"781e5e245d69b566979b86e28d23f2c7"`)}, code: "NotModified"},
		{name: "part 1 of a whole object", in: s3sdk.GetObjectInput{PartNumber: aws.Int32(1)}, want: "0123456789"},
		{name: "part 2 of a whole object", in: s3sdk.GetObjectInput{PartNumber: aws.Int32(2)}, code: "InvalidPartNumber"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := tt.in
			in.Bucket, in.Key = aws.String(testBucket), aws.String("k")
			out, err := admin.GetObject(t.Context(), &in)
			if tt.code != "" {
				wantCode(t, err, tt.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(out.Body)
			if string(body) != tt.want || aws.ToString(out.ContentRange) != tt.crang {
				t.Errorf("got %q, %q; want %q, %q", body, aws.ToString(out.ContentRange), tt.want, tt.crang)
			}
		})
	}
}

func TestConditionalWrites(t *testing.T) {
	a, admin := newBucket(t)
	write := func(c *s3sdk.Client, match, none string) error {
		in := &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k"), Body: strings.NewReader("x")}
		if match != "" {
			in.IfMatch = &match
		}
		if none != "" {
			in.IfNoneMatch = &none
		}
		_, err := c.PutObject(t.Context(), in)
		return err
	}
	wantCode(t, write(admin, `"00"`, ""), "NoSuchKey")
	if err := write(admin, "", "*"); err != nil {
		t.Fatal(err)
	}
	wantCode(t, write(admin, "", "*"), "PreconditionFailed")
	wantCode(t, write(admin, `"00"`, ""), "PreconditionFailed")
	if err := write(admin, `"9dd4e461268c8034f5c8564e155c67a6"`, ""); err != nil {
		t.Fatal(err)
	}
	// If-Match tells what an object holds, so who may only write gets no answer from it.
	writer := s3Client(a.newUser("writer", allow("s3:PutObject", "arn:aws:s3:::"+testBucket+"/*", "")))
	wantCode(t, write(writer, `"9dd4e461268c8034f5c8564e155c67a6"`, ""), "AccessDenied")
	if err := write(writer, "", ""); err != nil {
		t.Fatal(err)
	}
}

// TestRawKeys holds that a key is what the client wrote, byte for byte.
func TestRawKeys(t *testing.T) {
	_, admin := newBucket(t)
	keys := []string{"a/../b", "a//b", "a/b", "a%2Fb", "/lead", "trail/", "a/./b", "sp ace", "pl+us", "q?x=1&y", "h#ash", "ünï/cöde", "日本", "per%cent", "a;b:c@d=e,f$g", "~t!*'()", "dot.", ".", "quote\"<>&'", "tab\tnew\nline", strings.Repeat("k", 1024)}
	for _, key := range keys {
		put(t, admin, key, "body of "+key)
	}
	for _, key := range keys {
		body, err := get(admin, key)
		if err != nil || body != "body of "+key {
			t.Errorf("%q: got %q, %v", key, body, err)
		}
	}
	out, err := admin.ListObjectsV2(t.Context(), &s3sdk.ListObjectsV2Input{Bucket: aws.String(testBucket), EncodingType: types.EncodingTypeUrl})
	if err != nil || len(out.Contents) != len(keys) {
		t.Fatalf("got %d keys, %v; want %d", len(out.Contents), err, len(keys))
	}
	for _, bad := range []string{"../x", "a/../../x", "..", strings.Repeat("k", 1025)} {
		_, err := admin.PutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: &bad, Body: strings.NewReader("x")})
		code := "InvalidURI"
		if len(bad) > 1024 {
			code = "KeyTooLongError"
		}
		wantCode(t, err, code)
	}
}

func TestMultiDelete(t *testing.T) {
	a, admin := newBucket(t)
	for _, key := range []string{"own/1", "own/2", "foreign/1"} {
		put(t, admin, key, "x")
	}
	user := s3Client(a.newUser("tenant", allow("s3:DeleteObject", "arn:aws:s3:::"+testBucket+"/own/*", "")))
	objects := []types.ObjectIdentifier{{Key: aws.String("own/1")}, {Key: aws.String("foreign/1")}, {Key: aws.String("own/missing")}, {Key: aws.String("foreign/missing")},
		{Key: aws.String("own/2"), VersionId: aws.String("null")}}
	out, err := user.DeleteObjects(t.Context(), &s3sdk.DeleteObjectsInput{Bucket: aws.String(testBucket), Delete: &types.Delete{Objects: objects}})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, d := range out.Deleted {
		got[*d.Key] = "deleted"
	}
	for _, e := range out.Errors {
		got[*e.Key] = *e.Code
		if *e.Message == "" {
			t.Errorf("%s: empty message", *e.Key)
		}
	}
	want := map[string]string{"own/1": "deleted", "foreign/1": "AccessDenied", "own/missing": "deleted", "foreign/missing": "AccessDenied",
		"own/2": "AccessDenied"} // a version is named, and DeleteObjectVersion is another action
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if _, err := get(admin, "foreign/1"); err != nil {
		t.Errorf("the foreign object is gone: %v", err)
	}
	_, err = get(admin, "own/1")
	wantCode(t, err, "NoSuchKey")
}

func TestUnknownCallsAreRefused(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	bucket := aws.String(testBucket)
	ctx := t.Context()
	_, err := admin.PutBucketVersioning(ctx, &s3sdk.PutBucketVersioningInput{Bucket: bucket, VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}})
	wantCode(t, err, "NotImplemented")
	_, err = admin.PutBucketLifecycleConfiguration(ctx, &s3sdk.PutBucketLifecycleConfigurationInput{Bucket: bucket, LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{}}})
	wantCode(t, err, "NotImplemented")
	_, err = admin.GetBucketLifecycleConfiguration(ctx, &s3sdk.GetBucketLifecycleConfigurationInput{Bucket: bucket})
	wantCode(t, err, "NoSuchLifecycleConfiguration")
	_, err = admin.RestoreObject(ctx, &s3sdk.RestoreObjectInput{Bucket: bucket, Key: aws.String("k")})
	wantCode(t, err, "NotImplemented")
	_, err = admin.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: bucket, Key: aws.String("k"), ServerSideEncryption: types.ServerSideEncryptionAwsKms})
	wantCode(t, err, "NotImplemented")
	_, err = admin.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: bucket, Key: aws.String("k"), WebsiteRedirectLocation: aws.String("/x")})
	wantCode(t, err, "NotImplemented")
	_, err = admin.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: bucket, Key: aws.String("k"), StorageClass: types.StorageClassGlacier})
	wantCode(t, err, "NotImplemented")
	_, err = admin.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: bucket, Key: aws.String("k"), ACL: types.ObjectCannedACLPublicRead})
	wantCode(t, err, "AccessControlListNotSupported")
	_, err = admin.PutBucketAcl(ctx, &s3sdk.PutBucketAclInput{Bucket: bucket, ACL: types.BucketCannedACLPublicRead})
	wantCode(t, err, "AccessControlListNotSupported")
	for _, tt := range []struct{ method, path, want string }{
		{"PATCH", "/" + testBucket, "MethodNotAllowed"}, {"PATCH", "/" + testBucket + "/k", "MethodNotAllowed"}, {"DELETE", "/", "MethodNotAllowed"},
		{"OPTIONS", "/" + testBucket + "/k", "AccessForbidden"}, {"GET", "/" + testBucket + "?acl&policy", "InvalidArgument"},
		{"GET", "/" + testBucket + "?nonsense=1", "NotImplemented"}, {"GET", "/" + testBucket + "?prefix=a&prefix=b", "InvalidArgument"},
		{"POST", "/" + testBucket + "/k?select&select-type=2", "NotImplemented"}, {"GET", "/" + testBucket + "/k?torrent", "NotImplemented"},
		{"PUT", "/" + testBucket + "?encryption", "NotImplemented"}, {"GET", "/" + testBucket + "?max-keys=x", "InvalidArgument"},
		{"GET", "/AB", "InvalidBucketName"}, {"GET", "//k", "InvalidURI"}, {"GET", "/" + testBucket + "/k?x-amz-acl=private", "InvalidArgument"},
	} {
		status, body := a.raw(tt.method, tt.path, nil, "")
		if !strings.Contains(body, "<Code>"+tt.want+"</Code>") {
			t.Errorf("%s %s: got %d %s, want %s", tt.method, tt.path, status, body, tt.want)
		}
	}
	if _, err := get(admin, "k"); err != nil {
		t.Error(err)
	}
}

// raw sends a request signed by the admin exactly as it is written.
func (a *account) raw(method, path string, headers map[string]string, body string) (int, string) {
	a.t.Helper()
	r, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	id, secret := a.server.AdminCredentials()
	signS3(a.t, r, aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, testRegion, a.now(), hexSHA256([]byte(body)))
	return send(a.t, r)
}

func send(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestVirtualHost(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "dir/k", "x")
	id, secret := a.server.AdminCredentials()
	for _, host := range []string{testBucket + ".localhost:4566", testBucket + ".s3.us-east-1.amazonaws.com", testBucket + ".s3.amazonaws.com"} {
		r, _ := http.NewRequest("GET", a.url+"/dir/k", nil)
		r.Host = host
		signS3(t, r, aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, testRegion, a.now(), unsignedPayload)
		if status, body := send(t, r); status != 200 || body != "x" {
			t.Errorf("%s: got %d %s", host, status, body)
		}
	}
	for _, host := range []string{"localhost", "s3.us-east-1.amazonaws.com", "127.0.0.1:80", "s3.localhost", "other.example"} {
		r, _ := http.NewRequest("GET", a.url+"/"+testBucket+"/dir/k", nil)
		r.Host = host
		signS3(t, r, aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, testRegion, a.now(), unsignedPayload)
		if status, body := send(t, r); status != 200 || body != "x" {
			t.Errorf("%s: got %d %s", host, status, body)
		}
	}
}

// session assumes a role of the given policy with session tags.
func (a *account) session(role, policyText string, tags map[string]string) aws.Config {
	a.t.Helper()
	ctx, client := context.Background(), a.iam()
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + testAccount + `"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`
	made, err := client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &role, AssumeRolePolicyDocument: &trust})
	var exists smithy.APIError
	arn := "arn:aws:iam::" + testAccount + ":role/" + role
	switch {
	case errors.As(err, &exists) && exists.ErrorCode() == "EntityAlreadyExists":
	case err != nil:
		a.t.Fatal(err)
	default:
		arn = *made.Role.Arn
	}
	if policyText != "" {
		if _, err := client.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &role, PolicyName: aws.String("inline"), PolicyDocument: &policyText}); err != nil {
			a.t.Fatal(err)
		}
	}
	in := &sts.AssumeRoleInput{RoleArn: &arn, RoleSessionName: aws.String("session")}
	for k, v := range tags {
		in.Tags = append(in.Tags, ststypes.Tag{Key: aws.String(k), Value: aws.String(v)})
	}
	out, err := a.sts().AssumeRole(ctx, in)
	if err != nil {
		a.t.Fatal(err)
	}
	return a.sessionSDK(out.Credentials)
}

func TestMultipart(t *testing.T) {
	_, admin := newBucket(t)
	ctx, bucket, key := t.Context(), aws.String(testBucket), aws.String("big")
	for _, algorithm := range []types.ChecksumAlgorithm{types.ChecksumAlgorithmCrc32, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc64nvme} {
		t.Run(string(algorithm), func(t *testing.T) {
			up, err := admin.CreateMultipartUpload(ctx, &s3sdk.CreateMultipartUploadInput{Bucket: bucket, Key: key, ChecksumAlgorithm: algorithm, ContentType: aws.String("text/x"), Tagging: aws.String("a=b")})
			if err != nil {
				t.Fatal(err)
			}
			bodies := [][]byte{bytes.Repeat([]byte("a"), minPartSize), []byte("tail")}
			var parts []types.CompletedPart
			for _, i := range []int{1, 0} { // out of order, as clients do that send in parallel
				out, err := admin.UploadPart(ctx, &s3sdk.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: aws.Int32(int32(i + 1)), Body: bytes.NewReader(bodies[i]), ChecksumAlgorithm: algorithm})
				if err != nil {
					t.Fatal(err)
				}
				parts = append([]types.CompletedPart{{PartNumber: aws.Int32(int32(i + 1)), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumSHA256: out.ChecksumSHA256, ChecksumCRC64NVME: out.ChecksumCRC64NVME}}, parts...)
			}
			listed, err := admin.ListParts(ctx, &s3sdk.ListPartsInput{Bucket: bucket, Key: key, UploadId: up.UploadId})
			if err != nil || len(listed.Parts) != 2 || *listed.Parts[0].Size != minPartSize {
				t.Fatalf("got %+v, %v", listed, err)
			}
			uploads, err := admin.ListMultipartUploads(ctx, &s3sdk.ListMultipartUploadsInput{Bucket: bucket})
			if err != nil || len(uploads.Uploads) != 1 || *uploads.Uploads[0].UploadId != *up.UploadId {
				t.Fatalf("got %+v, %v", uploads, err)
			}
			complete := func(parts []types.CompletedPart) error {
				_, err := admin.CompleteMultipartUpload(ctx, &s3sdk.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
				return err
			}
			wantCode(t, complete([]types.CompletedPart{parts[1], parts[0]}), "InvalidPartOrder")
			wrong := parts[0]
			wrong.ETag = aws.String("00")
			wantCode(t, complete([]types.CompletedPart{wrong}), "InvalidPart")
			if err := complete(parts); err != nil {
				t.Fatal(err)
			}
			wantCode(t, complete(parts), "NoSuchUpload")
			got, err := get(admin, "big")
			if err != nil || got != string(bodies[0])+"tail" {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			head, err := admin.HeadObject(ctx, &s3sdk.HeadObjectInput{Bucket: bucket, Key: key, PartNumber: aws.Int32(2)})
			if err != nil || *head.PartsCount != 2 || *head.ContentLength != 4 || *head.ContentType != "text/x" || !strings.HasSuffix(*head.ETag, `-2"`) {
				t.Fatalf("got %+v, %v", head, err)
			}
		})
	}
	small, err := admin.CreateMultipartUpload(ctx, &s3sdk.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := admin.UploadPartCopy(ctx, &s3sdk.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: small.UploadId, PartNumber: aws.Int32(1), CopySource: aws.String(testBucket + "/big"), CopySourceRange: aws.String("bytes=0-9")}); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.AbortMultipartUpload(ctx, &s3sdk.AbortMultipartUploadInput{Bucket: bucket, Key: key, UploadId: small.UploadId}); err != nil {
		t.Fatal(err)
	}
	_, err = admin.ListParts(ctx, &s3sdk.ListPartsInput{Bucket: bucket, Key: key, UploadId: small.UploadId})
	wantCode(t, err, "NoSuchUpload")
}
