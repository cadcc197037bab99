package grant

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"agentkeys/policy"
)

// A session leaves its path by no request of another kind than reading, writing and
// deleting one object, where the role and the bucket would let it do everything: not
// by a part that is copied, a batch, a version, an ACL, a URL signed beforehand or
// another spelling of a key.
func TestSubresourcesAtAWS(t *testing.T) {
	t.Parallel()
	full, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	c := newCloud(t, map[string]*policy.Document{"full": full})
	c.openBucket(t)
	ctx, b := t.Context(), &c.config.Bucket
	s := scope{c.config, walletA, "reports", AllActions()}
	in, own := s.folder(), c.config.TenantPrefix(walletA)
	outside := own + "private/k"
	if err := c.put(ctx, c.admin, outside); err != nil {
		t.Fatal(err)
	}
	d := c.session(t, s, c.start.Add(time.Hour)).S3
	if err := c.put(ctx, c.session(t, s, c.start.Add(time.Hour)), in+"k"); err != nil {
		t.Fatal(err)
	}
	begun, err := d.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: aws.String(in + "parts")})
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() error{
		"a part copied from outside": func() error {
			_, err := d.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: b, Key: aws.String(in + "parts"), UploadId: begun.UploadId, PartNumber: aws.Int32(1), CopySource: aws.String(*b + "/" + outside)})
			return err
		},
		"a copy of an encoded source": func() error {
			_, err := d.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String(in + "stolen"), CopySource: aws.String(*b + "/" + strings.ReplaceAll(in, "/", "%2F") + "..%2Fprivate%2Fk")})
			return err
		},
		"a copy of a version": func() error {
			_, err := d.CopyObject(ctx, &s3.CopyObjectInput{Bucket: b, Key: aws.String(in + "stolen"), CopySource: aws.String(*b + "/" + outside + "?versionId=null")})
			return err
		},
		"an upload in parts outside": func() error {
			_, err := d.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: &outside})
			return err
		},
		"uploads": func() error {
			_, err := d.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: b})
			return err
		},
		"versions": func() error {
			_, err := d.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: b, Prefix: &in})
			return err
		},
		"a range outside": func() error {
			_, err := d.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: &outside, Range: aws.String("bytes=0-0")})
			return err
		},
		"an ACL with a put": func() error {
			_, err := d.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: aws.String(in + "k"), Body: strings.NewReader(""), ACL: types.ObjectCannedACLPublicRead})
			return err
		},
		"an ACL": func() error {
			_, err := d.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: b, Key: aws.String(in + "k")})
			return err
		},
		"the listing of v1":    func() error { _, err := d.ListObjects(ctx, &s3.ListObjectsInput{Bucket: b, Prefix: &own}); return err },
		"a tenant in capitals": func() error { return c.put(ctx, c.session(t, s, c.start.Add(time.Hour)), strings.ToUpper(in)+"k") },
		"a climbing key":       func() error { return c.get(ctx, c.session(t, s, c.start.Add(time.Hour)), in+"../private/k") },
	} {
		want := "AccessDenied"
		if what == "a climbing key" || what == "a copy of an encoded source" {
			want = "NoSuchKey" // they are keys of their own within the path
		}
		if err := try(); code(err) != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	out, err := d.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: []types.ObjectIdentifier{{Key: aws.String(in + "k")}, {Key: &outside}}}})
	if err != nil || len(out.Deleted) != 1 || *out.Deleted[0].Key != in+"k" || len(out.Errors) != 1 || *out.Errors[0].Code != "AccessDenied" {
		t.Errorf("a batch: %+v, %v", out, err)
	}
	presigned(ctx, t, d, *b, outside)
	if err := c.get(ctx, c.admin, outside); err != nil {
		t.Errorf("what lay outside: %v", err)
	}
}

// presigned holds a URL that is signed beforehand to the session's policy.
func presigned(ctx context.Context, t *testing.T, d *s3.Client, bucket, key string) {
	t.Helper()
	signed, err := s3.NewPresignClient(d).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, signed.Method, signed.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a presigned URL outside: %d %s", resp.StatusCode, text)
	}
}
