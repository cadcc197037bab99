package localaws

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"agentkeys/policy"
)

const bucketARN = "arn:aws:s3:::" + testBucket

func putPolicy(c *s3sdk.Client, text string) error {
	_, err := c.PutBucketPolicy(context.Background(), &s3sdk.PutBucketPolicyInput{Bucket: aws.String(testBucket), Policy: &text})
	return err
}

func mustPutPolicy(t *testing.T, c *s3sdk.Client, text string) {
	t.Helper()
	if err := putPolicy(c, text); err != nil {
		t.Fatal(err)
	}
}

func listKeys(c *s3sdk.Client, prefix *string) ([]string, error) {
	out, err := c.ListObjectsV2(context.Background(), &s3sdk.ListObjectsV2Input{Bucket: aws.String(testBucket), Prefix: prefix})
	if err != nil {
		return nil, err
	}
	keys := []string{}
	for _, o := range out.Contents {
		keys = append(keys, *o.Key)
	}
	return keys, nil
}

// hardenedPolicy is the bucket policy of the reference set-up, with its
// backstop denies.
const hardenedPolicy = `{"Version":"2012-10-17","Statement":[
 {"Sid":"list","Effect":"Allow","Principal":{"AWS":"ROLE"},"Action":"s3:ListBucket","Resource":"arn:aws:s3:::tenant-data","Condition":{"StringLike":{"s3:prefix":"bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"}}},
 {"Sid":"objects","Effect":"Allow","Principal":{"AWS":"ROLE"},"Action":["s3:GetObject","s3:PutObject","s3:DeleteObject"],"Resource":"arn:aws:s3:::tenant-data/bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"},
 {"Sid":"d1","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["arn:aws:s3:::tenant-data","arn:aws:s3:::tenant-data/*"],"Condition":{"ArnEquals":{"aws:PrincipalArn":"ROLE"},"Null":{"aws:PrincipalTag/agentkeys_user_wallet":"true"}}},
 {"Sid":"d2","Effect":"Deny","Principal":"*","Action":["s3:*Object*","s3:AbortMultipartUpload","s3:ListMultipartUploadParts"],"NotResource":"arn:aws:s3:::tenant-data/bots/${aws:PrincipalTag/agentkeys_user_wallet}/*","Condition":{"ArnEquals":{"aws:PrincipalArn":"ROLE"}}},
 {"Sid":"d3","Effect":"Deny","Principal":"*","Action":["s3:ListBucket","s3:ListBucketVersions"],"Resource":"arn:aws:s3:::tenant-data","Condition":{"ArnEquals":{"aws:PrincipalArn":"ROLE"},"StringNotLike":{"s3:prefix":"bots/${aws:PrincipalTag/agentkeys_user_wallet}/*"}}},
 {"Sid":"d4","Effect":"Deny","Principal":"*","Action":"s3:ListBucketMultipartUploads","Resource":"arn:aws:s3:::tenant-data","Condition":{"ArnEquals":{"aws:PrincipalArn":"ROLE"}}}]}`

// TestTenants holds that each tenant of the reference set-up reaches its own
// prefix, that nobody reaches another's, and that every refusal is S3's.
func TestTenants(t *testing.T) {
	a, admin := newBucket(t)
	walletA, walletB := "0x"+strings.Repeat("a", 40), "0x"+strings.Repeat("b", 40)
	tagA := s3Client(a.session("data", "", map[string]string{"agentkeys_user_wallet": walletA}))
	untagged := s3Client(a.session("data", "", nil))
	mustPutPolicy(t, admin, strings.ReplaceAll(hardenedPolicy, "ROLE", "arn:aws:iam::"+testAccount+":role/data"))
	own, foreign := "bots/"+walletA+"/", "bots/"+walletB+"/"
	put(t, admin, own+"k", "mine")
	put(t, admin, foreign+"k", "theirs")
	ctx, bucket := t.Context(), aws.String(testBucket)

	if body, err := get(tagA, own+"k"); err != nil || body != "mine" {
		t.Fatalf("own object: got %q, %v", body, err)
	}
	put(t, tagA, own+"new", "x")
	if keys, err := listKeys(tagA, &own); err != nil || len(keys) != 2 {
		t.Fatalf("own listing: got %v, %v", keys, err)
	}
	refused := map[string]func(c *s3sdk.Client) error{
		"get foreign":         func(c *s3sdk.Client) error { _, err := get(c, foreign+"k"); return err },
		"get missing foreign": func(c *s3sdk.Client) error { _, err := get(c, foreign+"nothing"); return err },
		"get one past":        func(c *s3sdk.Client) error { _, err := get(c, "bots/"+walletA+"0/k"); return err },
		"get in capitals":     func(c *s3sdk.Client) error { _, err := get(c, "bots/"+strings.ToUpper(walletA)+"/k"); return err },
		"get parent":          func(c *s3sdk.Client) error { _, err := get(c, "bots/k"); return err },
		"list foreign":        func(c *s3sdk.Client) error { _, err := listKeys(c, &foreign); return err },
		"list without prefix": func(c *s3sdk.Client) error { _, err := listKeys(c, nil); return err },
		"list empty prefix":   func(c *s3sdk.Client) error { _, err := listKeys(c, aws.String("")); return err },
		"list parent":         func(c *s3sdk.Client) error { _, err := listKeys(c, aws.String("bots/")); return err },
		"list own, no slash":  func(c *s3sdk.Client) error { _, err := listKeys(c, aws.String("bots/"+walletA)); return err },
		"put foreign": func(c *s3sdk.Client) error {
			_, err := c.PutObject(ctx, &s3sdk.PutObjectInput{Bucket: bucket, Key: aws.String(foreign + "k"), Body: strings.NewReader("overwritten")})
			return err
		},
		"delete foreign": func(c *s3sdk.Client) error {
			_, err := c.DeleteObject(ctx, &s3sdk.DeleteObjectInput{Bucket: bucket, Key: aws.String(foreign + "k")})
			return err
		},
		"copy from foreign": func(c *s3sdk.Client) error {
			_, err := c.CopyObject(ctx, &s3sdk.CopyObjectInput{Bucket: bucket, Key: aws.String(own + "stolen"), CopySource: aws.String(testBucket + "/" + foreign + "k")})
			return err
		},
		"copy to foreign": func(c *s3sdk.Client) error {
			_, err := c.CopyObject(ctx, &s3sdk.CopyObjectInput{Bucket: bucket, Key: aws.String(foreign + "planted"), CopySource: aws.String(testBucket + "/" + own + "k")})
			return err
		},
		"upload to foreign": func(c *s3sdk.Client) error {
			_, err := c.CreateMultipartUpload(ctx, &s3sdk.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String(foreign + "k")})
			return err
		},
		"list uploads": func(c *s3sdk.Client) error {
			_, err := c.ListMultipartUploads(ctx, &s3sdk.ListMultipartUploadsInput{Bucket: bucket, Prefix: &own})
			return err
		},
		"list versions": func(c *s3sdk.Client) error {
			_, err := c.ListObjectVersions(ctx, &s3sdk.ListObjectVersionsInput{Bucket: bucket, Prefix: &foreign})
			return err
		},
		"get foreign version": func(c *s3sdk.Client) error {
			_, err := c.GetObject(ctx, &s3sdk.GetObjectInput{Bucket: bucket, Key: aws.String(foreign + "k"), VersionId: aws.String("null")})
			return err
		},
		"tags of foreign": func(c *s3sdk.Client) error {
			_, err := c.GetObjectTagging(ctx, &s3sdk.GetObjectTaggingInput{Bucket: bucket, Key: aws.String(foreign + "k")})
			return err
		},
		"attributes of foreign": func(c *s3sdk.Client) error {
			_, err := c.GetObjectAttributes(ctx, &s3sdk.GetObjectAttributesInput{Bucket: bucket, Key: aws.String(foreign + "k"), ObjectAttributes: []types.ObjectAttributes{"ETag"}})
			return err
		},
		"policy": func(c *s3sdk.Client) error {
			_, err := c.GetBucketPolicy(ctx, &s3sdk.GetBucketPolicyInput{Bucket: bucket})
			return err
		},
		"delete policy": func(c *s3sdk.Client) error {
			_, err := c.DeleteBucketPolicy(ctx, &s3sdk.DeleteBucketPolicyInput{Bucket: bucket})
			return err
		},
		"buckets": func(c *s3sdk.Client) error { _, err := c.ListBuckets(ctx, &s3sdk.ListBucketsInput{}); return err },
	}
	for name, call := range refused {
		for who, c := range map[string]*s3sdk.Client{"tenant A": tagA, "untagged": untagged} {
			t.Run(name+" by "+who, func(t *testing.T) { wantCode(t, call(c), "AccessDenied") })
		}
	}
	if _, err := get(untagged, "bots//k"); err == nil {
		t.Error("an untagged session read with an empty tag")
	}
	// A ".." in a key is two dots: the key lies under the own prefix and is not there.
	_, err := get(tagA, own+"../"+walletB+"/k")
	wantCode(t, err, "NoSuchKey")
	if body, err := get(admin, foreign+"k"); err != nil || body != "theirs" {
		t.Errorf("the foreign object is now %q, %v", body, err)
	}
}

func TestMissingKeys(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "own/k", "x")
	put(t, admin, "foreign/k", "x")
	getAll := allow("s3:GetObject s3:DeleteObject s3:GetObjectTagging", bucketARN+"/*", "")
	both := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"` + bucketARN + `/*"},
	 {"Effect":"Allow","Action":"s3:ListBucket","Resource":"` + bucketARN + `","Condition":{"StringLike":{"s3:prefix":"own/*"}}}]}`
	tests := []struct {
		name, policy, key, want string
	}{
		{"get but not list, missing", getAll, "own/nothing", "AccessDenied"},
		{"get but not list, there", getAll, "own/k", ""},
		{"list of the own prefix, missing", both, "own/nothing", "NoSuchKey"},
		{"list of the own prefix, missing elsewhere", both, "foreign/nothing", "AccessDenied"},
		{"list of the own prefix, there elsewhere", both, "foreign/k", ""},
		{"list but not get, there", allow("s3:ListBucket", bucketARN, ""), "own/k", "AccessDenied"},
		{"list but not get, missing", allow("s3:ListBucket", bucketARN, ""), "own/nothing", "AccessDenied"},
		{"nothing, there", allow("s3:GetObject", bucketARN+"/other/*", ""), "own/k", "AccessDenied"},
		{"nothing, missing", allow("s3:GetObject", bucketARN+"/other/*", ""), "own/nothing", "AccessDenied"},
		{"all, missing", allow("s3:*", "*", ""), "own/nothing", "NoSuchKey"},
	}
	client := s3Client(a.newUser("u", getAll))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.setPolicy("u", tt.policy)
			_, err := get(client, tt.key)
			_, headErr := client.HeadObject(t.Context(), &s3sdk.HeadObjectInput{Bucket: aws.String(testBucket), Key: &tt.key})
			switch tt.want {
			case "":
				if err != nil || headErr != nil {
					t.Fatal(err, headErr)
				}
			case "NoSuchKey":
				wantCode(t, err, tt.want)
				wantCode(t, headErr, "NotFound")
			default:
				wantCode(t, err, tt.want)
				wantCode(t, headErr, "Forbidden")
			}
		})
	}
	a.setPolicy("u", getAll)
	_, err := client.GetObject(t.Context(), &s3sdk.GetObjectInput{Bucket: aws.String("no-such-bucket"), Key: aws.String("k")})
	wantCode(t, err, "NoSuchBucket")
	_, err = client.HeadBucket(t.Context(), &s3sdk.HeadBucketInput{Bucket: aws.String(testBucket)})
	wantCode(t, err, "Forbidden")
	a.setPolicy("u", both) // HeadBucket names no prefix
	_, err = client.HeadBucket(t.Context(), &s3sdk.HeadBucketInput{Bucket: aws.String(testBucket)})
	wantCode(t, err, "Forbidden")
	a.setPolicy("u", allow("s3:ListBucket", bucketARN, ""))
	if _, err = client.HeadBucket(t.Context(), &s3sdk.HeadBucketInput{Bucket: aws.String(testBucket)}); err != nil {
		t.Error(err)
	}
}

// TestDenialNamesTheLayer holds the wording that people and the prover read.
func TestDenialNamesTheLayer(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	user := s3Client(a.newUser("u", allow("s3:ListBucket", bucketARN, "")))
	who := "User: arn:aws:iam::" + testAccount + ":user/u is not authorized to perform: s3:GetObject on resource: \"" + bucketARN + "/k\" "
	message := func() string {
		t.Helper()
		_, err := get(user, "k")
		return wantCode(t, err, "AccessDenied")
	}
	want := func(text string) {
		t.Helper()
		if got := message(); got != who+text {
			t.Errorf("got  %s\nwant %s", got, who+text)
		}
	}
	want("because no identity-based policy allows the s3:GetObject action")
	a.setPolicy("u", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"},{"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}]}`)
	want("with an explicit deny in an identity-based policy")
	a.setPolicy("u", allow("s3:*", "*", ""))
	mustPutPolicy(t, admin, `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"`+bucketARN+`/*","Condition":{"StringNotEquals":{"aws:username":"admin"}}}]}`)
	want("with an explicit deny in a resource-based policy")
	if _, err := admin.DeleteBucketPolicy(t.Context(), &s3sdk.DeleteBucketPolicyInput{Bucket: aws.String(testBucket)}); err != nil {
		t.Fatal(err)
	}
	_, err := user.ListBuckets(t.Context(), &s3sdk.ListBucketsInput{})
	if err != nil {
		t.Fatal(err)
	}
	boundary, err := a.iam().CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String("boundary"), PolicyDocument: aws.String(allow("s3:PutObject", "*", ""))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = a.iam().PutUserPermissionsBoundary(t.Context(), &iam.PutUserPermissionsBoundaryInput{UserName: aws.String("u"), PermissionsBoundary: boundary.Policy.Arn}); err != nil {
		t.Fatal(err)
	}
	want("because no permissions boundary allows the s3:GetObject action")
	_, err = user.ListBuckets(t.Context(), &s3sdk.ListBucketsInput{})
	if got := wantCode(t, err, "AccessDenied"); strings.Contains(got, "on resource") {
		t.Errorf("got %q, want no resource for an action that has none", got)
	}
	a.session("data", allow("s3:*", "*", ""), nil)
	narrowed, err := assumeRole(t, a.adminSDK(), "data", func(in *sts.AssumeRoleInput) { in.Policy = aws.String(allow("s3:PutObject", "*", "")) })
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(s3Client(a.sessionSDK(narrowed.Credentials)), "k")
	if got := wantCode(t, err, "AccessDenied"); !strings.HasSuffix(got, "because no session policy allows the s3:GetObject action") || !strings.Contains(got, ":assumed-role/data/chain is not") {
		t.Errorf("got %q", got)
	}
	status, body := anonymous(t, "GET", a.url+"/"+testBucket+"/k")
	if status != 403 || !strings.Contains(body, "<Message>Access Denied</Message>") {
		t.Errorf("anonymous: got %d %s", status, body)
	}
}

func anonymous(t *testing.T, method, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, r)
}

// TestConditionKeys tries, for each key, a value that the statement wants and
// one that it does not, and the absent key.
func TestConditionKeys(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	_, err := admin.PutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: aws.String("tagged"), Body: strings.NewReader("x"), Tagging: aws.String("class=open")})
	if err != nil {
		t.Fatal(err)
	}
	user := s3Client(a.newUser("u", allow("s3:ListBucket", bucketARN, "")))
	ctx, bucket := t.Context(), aws.String(testBucket)
	listing := func(in s3sdk.ListObjectsV2Input) func() error {
		return func() error { in.Bucket = bucket; _, err := user.ListObjectsV2(ctx, &in); return err }
	}
	reading := func(in s3sdk.GetObjectInput) func() error {
		return func() error { in.Bucket = bucket; _, err := user.GetObject(ctx, &in); return err }
	}
	writing := func(in s3sdk.PutObjectInput) func() error {
		return func() error {
			in.Bucket, in.Key, in.Body = bucket, aws.String("w"), strings.NewReader("x")
			_, err := user.PutObject(ctx, &in)
			return err
		}
	}
	copying := func(source string) func() error {
		return func() error {
			_, err := user.CopyObject(ctx, &s3sdk.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: &source})
			return err
		}
	}
	s := aws.String
	tests := []struct {
		name, action, condition string
		call                    func() error
		allowed                 bool
	}{
		{"prefix sent", "s3:ListBucket", `{"StringEquals":{"s3:prefix":"a/"}}`, listing(s3sdk.ListObjectsV2Input{Prefix: s("a/")}), true},
		{"prefix other", "s3:ListBucket", `{"StringEquals":{"s3:prefix":"a/"}}`, listing(s3sdk.ListObjectsV2Input{Prefix: s("b/")}), false},
		{"prefix absent", "s3:ListBucket", `{"StringEquals":{"s3:prefix":""}}`, listing(s3sdk.ListObjectsV2Input{}), false},
		{"prefix empty", "s3:ListBucket", `{"StringEquals":{"s3:prefix":""}}`, listing(s3sdk.ListObjectsV2Input{Prefix: s("")}), true},
		{"prefix absent is null", "s3:ListBucket", `{"Null":{"s3:prefix":"true"}}`, listing(s3sdk.ListObjectsV2Input{}), true},
		{"prefix empty is not null", "s3:ListBucket", `{"Null":{"s3:prefix":"true"}}`, listing(s3sdk.ListObjectsV2Input{Prefix: s("")}), false},
		{"delimiter absent is null", "s3:ListBucket", `{"Null":{"s3:delimiter":"true"}}`, listing(s3sdk.ListObjectsV2Input{}), true},
		{"delimiter sent", "s3:ListBucket", `{"StringEquals":{"s3:delimiter":"/"}}`, listing(s3sdk.ListObjectsV2Input{Delimiter: s("/")}), true},
		{"max-keys default", "s3:ListBucket", `{"NumericEquals":{"s3:max-keys":"1000"}}`, listing(s3sdk.ListObjectsV2Input{}), true},
		{"max-keys within", "s3:ListBucket", `{"NumericLessThanEquals":{"s3:max-keys":"10"}}`, listing(s3sdk.ListObjectsV2Input{MaxKeys: aws.Int32(5)}), true},
		{"max-keys beyond", "s3:ListBucket", `{"NumericLessThanEquals":{"s3:max-keys":"10"}}`, listing(s3sdk.ListObjectsV2Input{MaxKeys: aws.Int32(11)}), false},
		{"prefix is no key of GetObject", "s3:GetObject", `{"Null":{"s3:prefix":"true"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), true},
		{"existing tag", "s3:GetObject", `{"StringEquals":{"s3:ExistingObjectTag/class":"open"}}`, reading(s3sdk.GetObjectInput{Key: s("tagged")}), true},
		{"existing tag missing", "s3:GetObject", `{"StringEquals":{"s3:ExistingObjectTag/class":"open"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), false},
		{"version asked", "s3:GetObject", `{"StringEquals":{"s3:ResourceAccount":"` + testAccount + `"}}`, reading(s3sdk.GetObjectInput{Key: s("k"), VersionId: s("null")}), false},
		{"version granted", "s3:GetObjectVersion", `{"StringEquals":{"s3:versionid":"null"}}`, reading(s3sdk.GetObjectInput{Key: s("k"), VersionId: s("null")}), true},
		{"header form", "s3:GetObject", `{"StringEquals":{"s3:authType":"REST-HEADER","s3:signatureversion":"AWS4-HMAC-SHA256"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), true},
		{"no age in header form", "s3:GetObject", `{"NumericLessThan":{"s3:signatureAge":"600000"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), false},
		{"plain http", "s3:GetObject", `{"Bool":{"aws:SecureTransport":"true"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), false},
		{"no TLS version", "s3:GetObject", `{"NumericGreaterThan":{"s3:TlsVersion":"1.1"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), false},
		{"payload hash", "s3:GetObject", `{"StringEquals":{"s3:x-amz-content-sha256":"` + hexSHA256(nil) + `"}}`, reading(s3sdk.GetObjectInput{Key: s("k")}), true},
		{"request tag", "s3:PutObject*", `{"StringEquals":{"s3:RequestObjectTag/a":"b"}}`, writing(s3sdk.PutObjectInput{Tagging: s("a=b")}), true},
		{"request tag other", "s3:PutObject*", `{"StringEquals":{"s3:RequestObjectTag/a":"b"}}`, writing(s3sdk.PutObjectInput{Tagging: s("a=c")}), false},
		{"request tag keys", "s3:PutObject*", `{"ForAnyValue:StringEquals":{"s3:RequestObjectTagKeys":"z"}}`, writing(s3sdk.PutObjectInput{Tagging: s("a=b&z=1")}), true},
		{"tags are no key of PutObjectAcl", "s3:PutObject*", `{"StringEquals":{"s3:RequestObjectTag/a":"b"}}`, writing(s3sdk.PutObjectInput{Tagging: s("a=b"), ACL: "bucket-owner-full-control"}), false},
		{"tagging is an action of its own", "s3:PutObject", `{"Null":{"s3:x-amz-acl":"true"}}`, writing(s3sdk.PutObjectInput{Tagging: s("a=b")}), false},
		{"acl sent", "s3:PutObject*", `{"StringEquals":{"s3:x-amz-acl":"bucket-owner-full-control"}}`, writing(s3sdk.PutObjectInput{ACL: "bucket-owner-full-control"}), true},
		{"acl is an action of its own", "s3:PutObject", `{"Null":{"s3:RequestObjectTagKeys":"true"}}`, writing(s3sdk.PutObjectInput{ACL: "bucket-owner-full-control"}), false},
		{"acl absent", "s3:PutObject*", `{"StringEquals":{"s3:x-amz-acl":"bucket-owner-full-control"}}`, writing(s3sdk.PutObjectInput{}), false},
		{"encryption sent", "s3:PutObject", `{"StringEquals":{"s3:x-amz-server-side-encryption":"AES256"}}`, writing(s3sdk.PutObjectInput{ServerSideEncryption: "AES256"}), true},
		{"if-none-match", "s3:PutObject", `{"Null":{"s3:if-none-match":"false"}}`, writing(s3sdk.PutObjectInput{}), false},
		{"creates an object", "s3:PutObject", `{"Bool":{"s3:ObjectCreationOperation":"true"}}`, writing(s3sdk.PutObjectInput{}), true},
		{"copy source", "s3:PutObject s3:GetObject", `{"StringLikeIfExists":{"s3:x-amz-copy-source":"` + testBucket + `/k"}}`, copying(testBucket + "/k"), true},
		{"copy source with a slash", "s3:PutObject s3:GetObject", `{"StringLikeIfExists":{"s3:x-amz-copy-source":"` + testBucket + `/k"}}`, copying("/" + testBucket + "/%6b"), true},
		{"copy source other", "s3:PutObject s3:GetObject", `{"StringNotLikeIfExists":{"s3:x-amz-copy-source":"` + testBucket + `/k"}}`, copying(testBucket + "/%6B"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a.setPolicy("u", allow(tt.action, bucketARN+" "+bucketARN+"/*", tt.condition))
			err := tt.call()
			if tt.allowed {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantCode(t, err, "AccessDenied")
		})
	}
}

func TestPresignedConditions(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	config := a.newUser("u", allow("s3:GetObject", bucketARN+"/*", `{"StringEquals":{"s3:authType":"REST-QUERY-STRING"},"NumericLessThan":{"s3:signatureAge":"600000"}}`))
	client := s3Client(config)
	_, err := get(client, "k")
	wantCode(t, err, "AccessDenied")
	presigned, err := s3sdk.NewPresignClient(client).PresignGetObject(t.Context(), &s3sdk.GetObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k")}, s3sdk.WithPresignExpires(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	try := func(want int, text string) {
		t.Helper()
		if status, body := anonymous(t, "GET", presigned.URL); status != want || !strings.Contains(body, text) {
			t.Errorf("got %d %s, want %d %s", status, body, want, text)
		}
	}
	try(200, "x")
	a.offset.Store(int64(11 * time.Minute))
	try(403, "no identity-based policy allows")
	a.offset.Store(int64(61 * time.Minute))
	try(403, "Request has expired")
	a.offset.Store(0)
	a.setPolicy("u", allow("s3:ListBucket", bucketARN, "")) // permissions are those of now, not those of signing
	try(403, "no identity-based policy allows")
}

// TestForeignAccount tries what a caller of another account may do; no key of
// one can be had here, so the caller is made up.
func TestForeignAccount(t *testing.T) {
	a, admin := newBucket(t)
	foreigner := &caller{principal: policy.Principal{Kind: policy.User, Account: "999988887777", ARN: "arn:aws:iam::999988887777:user/x", ID: "AIDAXXXXXXXXXXXXXXXXX"}}
	full, err := policy.Parse([]byte(allow("*", "*", "")))
	if err != nil {
		t.Fatal(err)
	}
	compiled, err := policy.Compile("full", full)
	if err != nil {
		t.Fatal(err)
	}
	foreigner.policies.Identity = []*policy.Policy{compiled}
	try := func() *apiError {
		c := &s3Call{b: a.server.s3, r: &http.Request{}, who: foreigner, name: testBucket}
		c.bkt, c.set = a.server.s3.find(testBucket)
		return c.mayObject("s3:GetObject", "k", nil)
	}
	if e := try(); e == nil || e.Message != "Access Denied" {
		t.Errorf("got %v, want a plain refusal", e)
	}
	mustPutPolicy(t, admin, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"999988887777"},"Action":"s3:GetObject","Resource":"`+bucketARN+`/*"}]}`)
	if e := try(); e != nil {
		t.Errorf("granted by name: got %v", e)
	}
}

// TestEveryActionIsKnown reads the actions out of the routes by calling what
// a caller without any permission may not: none may be missing in the table.
func TestEveryActionIsKnown(t *testing.T) {
	a, admin := newBucket(t)
	put(t, admin, "k", "x")
	config := a.newUser("u", allow("sts:GetCallerIdentity", "*", ""))
	credentials, err := config.Credentials.Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bodies := map[string]string{
		"POST delete": `<Delete><Object><Key>k</Key></Object></Delete>`,
		"PUT tagging": `<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>`,
	}
	for path, table := range map[string]map[string]route{"/": serviceRoutes, "/" + testBucket: bucketRoutes, "/" + testBucket + "/k": objectRoutes} {
		for name := range table {
			method, sub, _ := strings.Cut(name, " ")
			body := bodies[name]
			url := a.url + path + "?" + sub
			if sub == "uploadId" {
				url += "=x&partNumber=1"
				if method != "PUT" {
					url = a.url + path + "?uploadId=x"
				}
			}
			r, err := http.NewRequest(method, url, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if name == "POST delete" {
				r.Header.Set("X-Amz-Checksum-Sha256", base64SHA256(body))
			}
			signS3(t, r, credentials, testRegion, a.now(), hexSHA256([]byte(body)))
			status, answer := send(t, r)
			if name == "POST delete" && status == 200 && strings.Contains(answer, "<Code>AccessDenied</Code>") {
				continue
			}
			if status != 403 || method != "HEAD" && !strings.Contains(answer, "is not authorized to perform: s3:") {
				t.Errorf("%s %s: got %d %s, want AccessDenied", name, path, status, answer)
			}
		}
	}
	if body, err := get(admin, "k"); err != nil || body != "x" {
		t.Errorf("the object is now %q, %v", body, err)
	}
}

// TestSettingsSurviveRestart holds that policy, public access block and
// ownership are state.
func TestSettingsSurviveRestart(t *testing.T) {
	a, admin := newBucket(t)
	text := `{"Version":"2012-10-17","Id":"p","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + testAccount + `:root"},"Action":"s3:GetObject","Resource":"` + bucketARN + `/*"}]}`
	mustPutPolicy(t, admin, text)
	show := func() string {
		t.Helper()
		c := s3Client(a.adminSDK())
		p, err := c.GetBucketPolicy(t.Context(), &s3sdk.GetBucketPolicyInput{Bucket: aws.String(testBucket)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := c.ListBuckets(t.Context(), &s3sdk.ListBucketsInput{})
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(*p.Policy, len(b.Buckets), *b.Buckets[0].Name, b.Buckets[0].CreationDate)
	}
	before := show()
	var doc map[string]any
	if err := json.Unmarshal([]byte(before[:strings.LastIndex(before, "}")+1]), &doc); err != nil || doc["Id"] != "p" {
		t.Fatalf("got %s, %v", before, err)
	}
	a.restart()
	if after := show(); after != before {
		t.Errorf("got %s, want %s", after, before)
	}
}
