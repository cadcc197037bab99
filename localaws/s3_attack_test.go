package localaws

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestRegionMustMatch holds that a signature for another region buys nothing
// here, in both forms.
func TestRegionMustMatch(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	config := a.adminSDK()
	config.Region = "eu-west-1"
	elsewhere := s3Client(config)
	_, err := get(elsewhere, "k")
	if got := wantCode(t, err, "AuthorizationHeaderMalformed"); !strings.Contains(got, "the region 'eu-west-1' is wrong; expecting 'us-east-1'") {
		t.Errorf("got %q", got)
	}
	presigned, err := s3sdk.NewPresignClient(elsewhere).PresignGetObject(t.Context(), &s3sdk.GetObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := anonymous(t, "GET", presigned.URL); status != 400 || !strings.Contains(body, "AuthorizationQueryParametersError") || !strings.Contains(body, "<Region>us-east-1</Region>") {
		t.Errorf("got %d %s", status, body)
	}
}

// unread is a body that must not be asked for.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read before the request was authorised")
	return 0, io.EOF
}

// TestDenialReadsNoBody holds that an upload is decided before it is taken in.
func TestDenialReadsNoBody(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	user := a.newUser("u", allow("s3:GetObject", bucketARN+"/*", ""))
	credentials, err := user.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/k", "/new", "/k?partNumber=1&uploadId=x", "?policy", "?publicAccessBlock"} {
		r := httptest.NewRequest("PUT", a.url+"/"+testBucket+path, unread{t})
		r.RequestURI = "/" + testBucket + path
		r.ContentLength = 10
		signS3(t, r, credentials, testRegion, a.now(), unsignedPayload)
		w := httptest.NewRecorder()
		a.server.ServeHTTP(w, r)
		if w.Code != 403 {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
	}
}

// TestBrokenUploadsLeaveNothing holds that a body which fails its check
// neither replaces an object nor leaves data behind.
func TestBrokenUploadsLeaveNothing(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "before")
	for name, headers := range map[string]map[string]string{
		"XAmzContentSHA256Mismatch": {},
		"BadDigest":                 {"X-Amz-Checksum-Crc32": "AAAAAA=="},
	} {
		r, _ := http.NewRequest("PUT", a.url+"/"+testBucket+"/k", strings.NewReader("after"))
		hash := hexSHA256([]byte("after"))
		if len(headers) == 0 {
			hash = hexSHA256([]byte("something else"))
		}
		for k, v := range headers {
			r.Header.Set(k, v)
		}
		id, secret := a.server.AdminCredentials()
		signS3(t, r, aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}, testRegion, a.now(), hash)
		if status, body := send(t, r); status != 400 || !strings.Contains(body, "<Code>"+name+"</Code>") {
			t.Errorf("got %d %s, want %s", status, body, name)
		}
	}
	if body, err := get(admin, "k"); err != nil || body != "before" {
		t.Errorf("got %q, %v", body, err)
	}
	if files := a.dataFiles(); files != 1 {
		t.Errorf("got %d data files, want 1", files)
	}
}

// dataFiles counts the data files of the one bucket.
func (a *account) dataFiles() int {
	a.t.Helper()
	files, err := filepath.Glob(filepath.Join(a.dir, "s3", "*", "data", "*"))
	if err != nil {
		a.t.Fatal(err)
	}
	return len(files)
}

func TestCopyIsAuthorisedTwice(t *testing.T) {
	a, admin := newBucket(t)
	ctx := t.Context()
	if _, err := admin.CreateBucket(ctx, &s3sdk.CreateBucketInput{Bucket: aws.String("other-bucket")}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"plain", "tagged"} {
		in := &s3sdk.PutObjectInput{Bucket: aws.String("other-bucket"), Key: aws.String(key), Body: strings.NewReader("body of " + key), Metadata: map[string]string{"m": "1"}}
		if key == "tagged" {
			in.Tagging = aws.String("a=b")
		}
		if _, err := admin.PutObject(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	user := s3Client(a.newUser("u", allow("s3:ListBucket", bucketARN, "")))
	try := func(source, policyText string, change ...func(*s3sdk.CopyObjectInput)) error {
		t.Helper()
		a.setPolicy("u", policyText)
		in := &s3sdk.CopyObjectInput{Bucket: aws.String(testBucket), Key: aws.String("copy"), CopySource: &source}
		for _, f := range change {
			f(in)
		}
		_, err := user.CopyObject(ctx, in)
		return err
	}
	read, write := "arn:aws:s3:::other-bucket/*", bucketARN+"/*"
	wantCode(t, try("other-bucket/plain", allow("s3:PutObject", write, "")), "AccessDenied")
	wantCode(t, try("other-bucket/plain", allow("s3:GetObject", read, "")), "AccessDenied")
	both := allow("s3:GetObject s3:PutObject", read+" "+write, "")
	if err := try("other-bucket/plain", both); err != nil {
		t.Fatal(err)
	}
	wantCode(t, try("other-bucket/tagged", both), "AccessDenied") // tags are copied as well
	if err := try("other-bucket/tagged", both, func(in *s3sdk.CopyObjectInput) { in.TaggingDirective = types.TaggingDirectiveReplace }); err != nil {
		t.Fatal(err)
	}
	withTags := allow("s3:GetObject s3:PutObject s3:GetObjectTagging s3:PutObjectTagging", read+" "+write, "")
	for _, half := range []string{"s3:GetObjectTagging", "s3:PutObjectTagging"} {
		wantCode(t, try("other-bucket/tagged", allow("s3:GetObject s3:PutObject "+half, read+" "+write, "")), "AccessDenied")
	}
	wantCode(t, try("other-bucket/none", withTags), "AccessDenied")
	wantCode(t, try("other-bucket/plain?versionId=null", both), "AccessDenied") // GetObjectVersion
	wantCode(t, try("other-bucket/plain?versionId=", withTags), "InvalidArgument")
	wantCode(t, try("no-such-bucket/plain", withTags), "NoSuchBucket")
	wantCode(t, try("other-bucket", withTags), "InvalidArgument")
	wantCode(t, try("other-bucket/plain", withTags, func(in *s3sdk.CopyObjectInput) { in.ExpectedSourceBucketOwner = aws.String("999988887777") }), "AccessDenied")
	wantCode(t, try("other-bucket/plain", withTags, func(in *s3sdk.CopyObjectInput) { in.CopySourceIfMatch = aws.String("00") }), "PreconditionFailed")
	if err := try("other-bucket/tagged", withTags); err != nil {
		t.Fatal(err)
	}
	// The source's own bucket policy counts, not the destination's.
	_, err := admin.PutBucketPolicy(ctx, &s3sdk.PutBucketPolicyInput{Bucket: aws.String("other-bucket"), Policy: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::other-bucket/*","Condition":{"StringEquals":{"aws:username":"u"}}}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, try("other-bucket/plain", withTags), "AccessDenied")
	head, err := admin.HeadObject(ctx, &s3sdk.HeadObjectInput{Bucket: aws.String(testBucket), Key: aws.String("copy")})
	if err != nil || head.Metadata["m"] != "1" || aws.ToInt32(head.TagCount) != 1 {
		t.Errorf("got %+v, %v", head, err)
	}
	_, err = admin.CopyObject(ctx, &s3sdk.CopyObjectInput{Bucket: aws.String(testBucket), Key: aws.String("copy"), CopySource: aws.String(testBucket + "/copy")})
	wantCode(t, err, "InvalidRequest")
}

func TestExpectedOwner(t *testing.T) {
	_, admin := newBucket(t)
	put(t, admin, "k", "x")
	for owner, want := range map[string]string{testAccount: "", "999988887777": "AccessDenied"} {
		_, err := admin.GetObject(t.Context(), &s3sdk.GetObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k"), ExpectedBucketOwner: &owner})
		if want == "" && err == nil {
			continue
		}
		wantCode(t, err, want)
	}
}

// TestUploadBelongsToItsKey holds that the right to write one key gives no
// hold on an upload of another.
func TestUploadBelongsToItsKey(t *testing.T) {
	a, admin := newBucket(t)
	ctx, bucket := t.Context(), aws.String(testBucket)
	up, err := admin.CreateMultipartUpload(ctx, &s3sdk.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("foreign/k")})
	if err != nil {
		t.Fatal(err)
	}
	user := s3Client(a.newUser("u", allow("s3:PutObject s3:AbortMultipartUpload s3:ListMultipartUploadParts", bucketARN+"/own/*", "")))
	for _, key := range []string{"own/k", "foreign/k"} {
		want := map[string]string{"own/k": "NoSuchUpload", "foreign/k": "AccessDenied"}[key]
		_, err := user.UploadPart(ctx, &s3sdk.UploadPartInput{Bucket: bucket, Key: &key, UploadId: up.UploadId, PartNumber: aws.Int32(1), Body: strings.NewReader("x")})
		wantCode(t, err, want)
		_, err = user.CompleteMultipartUpload(ctx, &s3sdk.CompleteMultipartUploadInput{Bucket: bucket, Key: &key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{{PartNumber: aws.Int32(1), ETag: aws.String("x")}}}})
		wantCode(t, err, want)
		_, err = user.AbortMultipartUpload(ctx, &s3sdk.AbortMultipartUploadInput{Bucket: bucket, Key: &key, UploadId: up.UploadId})
		wantCode(t, err, want)
		_, err = user.ListParts(ctx, &s3sdk.ListPartsInput{Bucket: bucket, Key: &key, UploadId: up.UploadId})
		wantCode(t, err, want)
	}
	if _, err := admin.ListParts(ctx, &s3sdk.ListPartsInput{Bucket: bucket, Key: aws.String("foreign/k"), UploadId: up.UploadId}); err != nil {
		t.Error(err)
	}
}

// TestConcurrentWriters holds that readers always find a whole object while
// writers replace it, and that what was replaced is gone.
func TestConcurrentWriters(t *testing.T) {
	a, admin := newBucket(t)
	done := make(chan error)
	for range 8 {
		go func() {
			var err error
			for range 10 {
				_, err = admin.PutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k"), Body: strings.NewReader(strings.Repeat("x", 1000))})
				if err != nil {
					break
				}
				if _, err = get(admin, "k"); err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if files := a.dataFiles(); files != 1 {
		t.Errorf("got %d data files, want 1", files)
	}
}

// TestPutThatStallsHoldsNothingUp holds that a put whose body is still under way lets
// other writers in, and that what became of its key meanwhile still counts.
func TestPutThatStallsHoldsNothingUp(t *testing.T) {
	a, admin := newBucket(t)
	const half = 1 << 16 // more than what the client keeps back
	presigned, err := s3sdk.NewPresignClient(admin).PresignPutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k"), ContentLength: aws.Int64(2 * half), IfNoneMatch: aws.String("*")})
	if err != nil {
		t.Fatal(err)
	}
	body, rest := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), presigned.Method, presigned.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header, r.ContentLength = presigned.SignedHeader.Clone(), 2*half
	status := make(chan string, 1)
	go func() {
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			status <- err.Error()
			return
		}
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		status <- fmt.Sprintf("%d %s", answer.StatusCode, text)
	}()
	_, _ = rest.Write(make([]byte, half))
	for deadline := time.Now().Add(20 * time.Second); a.dataFiles() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			rest.Close()
			t.Fatalf("the put that stalls has written nothing: %s", <-status)
		}
	}
	put(t, admin, "k", "first")
	_, _ = rest.Write(make([]byte, half))
	if got := <-status; !strings.HasPrefix(got, "412 ") {
		t.Errorf("the put that stalled: got %s, want 412", got)
	}
	if got, err := get(admin, "k"); err != nil || got != "first" {
		t.Errorf("got an object of %d bytes, %v; want the first", len(got), err)
	}
	if files := a.dataFiles(); files != 1 {
		t.Errorf("got %d data files, want that of the first object", files)
	}
}
