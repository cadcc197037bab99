package localaws

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	s3sdk "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"pgregory.net/rapid"
)

// naiveList is what a listing must show in all: keys and common prefixes.
func naiveList(keys []string, prefix, delimiter, after string) (shown []string) {
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok || key <= after {
			continue
		}
		if i := strings.Index(rest, delimiter); delimiter != "" && i >= 0 {
			key = prefix + rest[:i+len(delimiter)] + "*"
		}
		if !slices.Contains(shown, key) {
			shown = append(shown, key)
		}
	}
	sort.Strings(shown)
	return shown
}

// TestListAgainstModel pages through random buckets and compares with the
// naive listing.
func TestListAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[ab/]{0,4}`)
		keys := rapid.SliceOfNDistinct(rapid.StringMatching(`[abü/]{1,6}`), 0, 40, rapid.ID[string]).Draw(t, "keys")
		sort.Strings(keys)
		bkt := &bucket{keys: keys, objects: map[string]*s3Object{}}
		for _, k := range keys {
			bkt.objects[k] = &s3Object{Key: k}
		}
		prefix, start := text.Draw(t, "prefix"), text.Draw(t, "start")
		delimiter := rapid.SampledFrom([]string{"", "/", "a", "b/"}).Draw(t, "delimiter")
		if p, ok := commonPrefix(start, prefix, delimiter); ok && p == start {
			start = "" // a position that is a common prefix is past all of it; paging below goes there
		}
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		b := &s3{}
		var shown []string
		after := start
		for page := 0; ; page++ {
			got := b.list(bkt, prefix, delimiter, after, limit)
			if n := len(got.objects) + len(got.prefixes); n > limit || n == 0 && got.truncated || page > len(keys) {
				t.Fatalf("page of %d, truncated %v, limit %d", n, got.truncated, limit)
			}
			for _, o := range got.objects {
				shown = append(shown, o.Key)
			}
			for _, p := range got.prefixes {
				shown = append(shown, p+"*")
			}
			if !got.truncated {
				break
			}
			after = got.last
		}
		sort.Strings(shown)
		if want := naiveList(keys, prefix, delimiter, start); !slices.Equal(shown, want) {
			t.Fatalf("keys %q, prefix %q, delimiter %q, after %q:\ngot  %q\nwant %q", keys, prefix, delimiter, start, shown, want)
		}
	})
}

func TestListOverTheWire(t *testing.T) {
	_, admin := newBucket(t)
	for i := range 25 {
		put(t, admin, fmt.Sprintf("dir%d/f & <%02d>", i%5, i), "x")
	}
	put(t, admin, "root.txt", "x")
	ctx, bucket := t.Context(), aws.String(testBucket)
	var keys, prefixes []string
	pages := s3sdk.NewListObjectsV2Paginator(admin, &s3sdk.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(4)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	if len(keys) != 26 || keys[0] != "dir0/f & <00>" || !slices.IsSorted(keys) {
		t.Errorf("got %d keys %q", len(keys), keys)
	}
	marker := ""
	for {
		out, err := admin.ListObjects(ctx, &s3sdk.ListObjectsInput{Bucket: bucket, Delimiter: aws.String("/"), MaxKeys: aws.Int32(2), Marker: &marker})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range out.CommonPrefixes {
			prefixes = append(prefixes, *p.Prefix)
		}
		if !*out.IsTruncated {
			if len(out.Contents) != 1 || *out.Contents[0].Key != "root.txt" || out.Contents[0].Owner == nil {
				t.Errorf("got %+v", out.Contents)
			}
			break
		}
		marker = *out.NextMarker
	}
	if strings.Join(prefixes, "") != "dir0/dir1/dir2/dir3/dir4/" {
		t.Errorf("got %q", prefixes)
	}
	out, err := admin.ListObjectsV2(ctx, &s3sdk.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String("dir1/"), StartAfter: aws.String("dir1/f & <06>"), EncodingType: types.EncodingTypeUrl, FetchOwner: aws.Bool(true)})
	if err != nil || *out.KeyCount != 3 || *out.Contents[0].Key != "dir1/f%20%26%20%3C11%3E" || out.Contents[0].Owner == nil {
		t.Errorf("got %+v, %v", out, err)
	}
	_, err = admin.ListObjectsV2(ctx, &s3sdk.ListObjectsV2Input{Bucket: bucket, ContinuationToken: aws.String("!")})
	wantCode(t, err, "InvalidArgument")
	versions, err := admin.ListObjectVersions(ctx, &s3sdk.ListObjectVersionsInput{Bucket: bucket, Prefix: aws.String("root")})
	if err != nil || len(versions.Versions) != 1 || *versions.Versions[0].VersionId != "null" {
		t.Errorf("got %+v, %v", versions, err)
	}
	none, err := admin.ListObjectsV2(ctx, &s3sdk.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(0)})
	if err != nil || *none.KeyCount != 0 || *none.IsTruncated {
		t.Errorf("got %+v, %v", none, err)
	}
	_, err = admin.DeleteBucket(ctx, &s3sdk.DeleteBucketInput{Bucket: bucket})
	wantCode(t, err, "BucketNotEmpty")
}

// FuzzS3Path holds that a path is taken apart without loss: bucket and key,
// encoded again, lead to the same bucket and key, no file name comes of them,
// and what a server takes for the path is what was sent.
func FuzzS3Path(f *testing.F) {
	f.Fuzz(func(t *testing.T, host, path string) {
		locate := func(path string) (*s3Call, *apiError) {
			r := &http.Request{Method: "GET", Host: host, RequestURI: path}
			c := &s3Call{b: &s3{server: &Server{config: Config{Region: testRegion}}}, r: r}
			return c, c.locate()
		}
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "?") {
			return
		}
		c, e := locate(path)
		if e != nil {
			return
		}
		if len(c.key) > maxKeyBytes || climbs(c.key) {
			t.Fatalf("%q: accepted key %q", path, c.key)
		}
		if len(c.name) > 0 && validBucketName(c.name) && strings.ContainsAny(c.name, "/\\\x00") {
			t.Fatalf("%q: accepted bucket %q", path, c.name)
		}
		if strings.Trim(objectFile(c.key), "0123456789abcdef") != ".json" {
			t.Fatalf("key %q makes file %q", c.key, objectFile(c.key))
		}
		again := "/" + uriEncode(c.key, true)
		if d := (&s3{server: &Server{config: Config{Region: testRegion}}}); d.hostBucket(&http.Request{Method: "GET", Host: host, RequestURI: path}) == "" {
			again = "/" + uriEncode(c.name, false) + "/" + uriEncode(c.key, true)
			if c.name == "" {
				return
			}
		}
		d, e := locate(again)
		if e != nil || d.name != c.name || d.key != c.key {
			t.Fatalf("%q: got bucket %q key %q, and by %q bucket %q key %q, %v", path, c.name, c.key, again, d.name, d.key, e)
		}
	})
}

// TestAWSChunkedFromSDK puts through the SDK over TLS, where it sends
// aws-chunked bodies with a trailer, and over plain HTTP.
func TestAWSChunkedFromSDK(t *testing.T) {
	a, admin := newBucket(t)
	seen := map[string]bool{}
	site := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			seen[r.Header.Get("X-Amz-Content-Sha256")] = true
		}
		a.server.ServeHTTP(w, r)
	}))
	defer site.Close()
	config := a.adminSDK()
	config.BaseEndpoint, config.HTTPClient = &site.URL, site.Client()
	body := strings.Repeat("0123456789abcdef", 20000)
	for _, algorithm := range []types.ChecksumAlgorithm{"", "CRC32C", "CRC64NVME", "SHA1", "SHA256"} {
		for name, c := range map[string]*s3sdk.Client{"tls": s3Client(config), "plain": admin} {
			key := name + string(algorithm)
			_, err := c.PutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: &key, Body: strings.NewReader(body), ChecksumAlgorithm: algorithm})
			if err != nil {
				t.Fatalf("%s %s: %v", name, algorithm, err)
			}
			if got, err := get(admin, key); err != nil || got != body {
				t.Errorf("%s: got %d bytes, %v", key, len(got), err)
			}
		}
	}
	unseekable := "unseekable"
	_, err := s3Client(config).PutObject(t.Context(), &s3sdk.PutObjectInput{Bucket: aws.String(testBucket), Key: &unseekable, Body: io.LimitReader(strings.NewReader(body), 100000), ContentLength: aws.Int64(100000)})
	if err != nil {
		t.Fatal(err)
	}
	if !seen["STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
		t.Errorf("the SDK sent %v, so this test shows nothing", seen)
	}
	head, err := admin.HeadObject(t.Context(), &s3sdk.HeadObjectInput{Bucket: aws.String(testBucket), Key: aws.String("tls")})
	if err != nil || aws.ToString(head.ContentEncoding) != "" {
		t.Errorf("got Content-Encoding %q, %v", aws.ToString(head.ContentEncoding), err)
	}
}

// TestPresignedPut holds that headers which an SDK moved into the query count:
// for the object, and for the authorisation.
func TestPresignedPut(t *testing.T) {
	a, admin := newBucket(t)
	user := a.newUser("u", allow("s3:PutObject", bucketARN+"/*", ""))
	try := func(name, value string) (int, string) {
		t.Helper()
		credentials, err := user.Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		query := url.Values{"X-Amz-Expires": {"60"}, name: {value}}
		r, err := http.NewRequest("PUT", a.url+"/"+testBucket+"/k?"+query.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, _, err := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true }).PresignHTTP(t.Context(), credentials, r, unsignedPayload, "s3", testRegion, a.now())
		if err != nil {
			t.Fatal(err)
		}
		r, err = http.NewRequest("PUT", signed, strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		return send(t, r)
	}
	for _, tt := range []struct {
		name, value, want string
	}{
		{"x-amz-meta-a", "b", ""}, {"x-amz-tagging", "x=y", "AccessDenied"}, {"x-amz-acl", "private", "AccessDenied"},
		{"x-amz-copy-source", testBucket + "/k", "AccessDenied"}, {"x-amz-website-redirect-location", "/", "NotImplemented"}, {"x-amz-checksum-crc32", "AAAAAA==", "BadDigest"},
	} {
		status, body := try(tt.name, tt.value)
		if good := tt.want == ""; good != (status == 200) || !good && !strings.Contains(body, "<Code>"+tt.want+"</Code>") {
			t.Errorf("%s: got %d %s, want %q", tt.name, status, body, tt.want)
		}
	}
	head, err := admin.HeadObject(t.Context(), &s3sdk.HeadObjectInput{Bucket: aws.String(testBucket), Key: aws.String("k")})
	if err != nil || head.Metadata["a"] != "b" {
		t.Errorf("got %+v, %v", head, err)
	}
}
