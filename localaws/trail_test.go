package localaws

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

// trailed opens the account anew with a trail.
func (a *account) trailed() string {
	a.t.Helper()
	a.trail = filepath.Join(a.t.TempDir(), "trail")
	a.stop()
	a.open()
	return a.trail
}

// delivered delivers and reads all records, decoded as they stand.
func (a *account) delivered() (records []map[string]any, text string) {
	a.t.Helper()
	if err := a.server.DeliverTrail(); err != nil {
		a.t.Fatal(err)
	}
	err := filepath.WalkDir(a.trail, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		var file struct{ Records []json.RawMessage }
		if err := json.NewDecoder(z).Decode(&file); err != nil {
			return err
		}
		for _, r := range file.Records {
			var record map[string]any
			if err := json.Unmarshal(r, &record); err != nil {
				return err
			}
			records, text = append(records, record), text+string(r)
		}
		return nil
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return records, text
}

// named are the records of one event, of which there must be n.
func named(t *testing.T, records []map[string]any, event string, n int) []map[string]any {
	t.Helper()
	found := slices.DeleteFunc(slices.Clone(records), func(r map[string]any) bool { return r["eventName"] != event })
	if len(found) != n {
		t.Fatalf("%s: want %d records, got %d", event, n, len(found))
	}
	return found
}

// at is a member within members.
func at(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func wantMembers(t *testing.T, record map[string]any, want map[string]any) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if got := at(record, path); got != want[path] {
			t.Errorf("%s: %s: want %v, got %v", record["eventName"], path, want[path], got)
		}
	}
}

func TestTrailIsOffUnlessAsked(t *testing.T) {
	a := newAccount(t)
	if _, err := a.sts().GetCallerIdentity(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := a.server.DeliverTrail(); err != nil || a.server.trail != nil {
		t.Errorf("want no trail and no error, got %v", err)
	}
}

// A session's whole life is in the trail as CloudTrail has it, and no secret is.
func TestTrailOfASession(t *testing.T) {
	a := newAccount(t)
	dir := a.trailed()
	a.federate()
	token := a.token(nil)
	out, err := a.assume(token)
	if err != nil {
		t.Fatal(err)
	}
	sdk := a.sessionSDK(out.Credentials)
	if _, err := sts.NewFromConfig(sdk).GetCallerIdentity(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	client := awss3.NewFromConfig(sdk, func(o *awss3.Options) { o.UsePathStyle = true })
	if _, err := client.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: aws.String("some-bucket"), Key: aws.String("a/b")}); err == nil {
		t.Fatal("want no object")
	}
	if _, err := client.ListBuckets(t.Context(), nil); err == nil {
		t.Fatal("want no list")
	}
	records, text := a.delivered()
	for _, secret := range []string{token, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken, a.adminCredentials().SecretAccessKey} {
		if strings.Contains(text, secret) {
			t.Error("the trail holds a secret")
		}
	}
	role, provider := roleARN, a.providerARN()
	subject, key := "agentkeys:agent:"+walletA, *out.Credentials.AccessKeyId
	wantMembers(t, named(t, records, "AssumeRoleWithWebIdentity", 1)[0], map[string]any{
		"eventVersion": "1.11", "eventSource": "sts.amazonaws.com", "awsRegion": testRegion, "eventType": "AwsApiCall", "eventCategory": "Management",
		"managementEvent": true, "readOnly": true, "recipientAccountId": testAccount, "errorCode": nil, "sourceIPAddress": "127.0.0.1",
		"userIdentity.type": "WebIdentityUser", "userIdentity.identityProvider": provider, "userIdentity.userName": subject,
		"userIdentity.principalId":  provider + ":" + testClient + ":" + subject,
		"requestParameters.roleArn": role, "requestParameters.roleSessionName": "agent",
		"requestParameters.principalTags." + "agentkeys_user_wallet": walletA,
		"responseElements.credentials.accessKeyId":                   key,
		"responseElements.credentials.sessionToken":                  hiddenInTrail,
		"responseElements.credentials.expiration":                    out.Credentials.Expiration.UTC().Format("Jan 2, 2006, 3:04:05 PM"),
		"responseElements.credentials.secretAccessKey":               nil,
		"responseElements.subjectFromWebIdentityToken":               subject, "responseElements.provider": provider, "responseElements.audience": testClient,
		"responseElements.assumedRoleUser.arn": *out.AssumedRoleUser.Arn,
	})
	session := map[string]any{
		"userIdentity.type": "AssumedRole", "userIdentity.accessKeyId": key, "userIdentity.arn": *out.AssumedRoleUser.Arn,
		"userIdentity.principalId": *out.AssumedRoleUser.AssumedRoleId, "userIdentity.sessionContext.sessionIssuer.arn": role,
		"userIdentity.sessionContext.sessionIssuer.userName":                roleName,
		"userIdentity.sessionContext.webIdFederationData.federatedProvider": provider,
		"userIdentity.sessionContext.attributes.mfaAuthenticated":           "false",
	}
	wantMembers(t, named(t, records, "GetCallerIdentity", 1)[0], session)
	get := named(t, records, "GetObject", 1)[0]
	wantMembers(t, get, session)
	wantMembers(t, get, map[string]any{"eventSource": "s3.amazonaws.com", "eventCategory": "Data", "managementEvent": false, "readOnly": true,
		"errorCode": "NoSuchBucket", "requestParameters.bucketName": "some-bucket", "requestParameters.key": "a/b"})
	wantMembers(t, named(t, records, "ListBuckets", 1)[0], map[string]any{"errorCode": "AccessDenied", "eventCategory": "Management"})

	form := regexp.MustCompile(`^AWSLogs/123456789012/CloudTrail/us-east-1/\d{4}/\d\d/\d\d/123456789012_CloudTrail_us-east-1_\d{8}T\d{4}Z_[A-Z2-7]{16}\.json\.gz$`)
	files, err := filepath.Glob(filepath.Join(dir, "AWSLogs/*/*/*/*/*/*/*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("want one file, got %q (%v)", files, err)
	}
	if name, _ := filepath.Rel(dir, files[0]); !form.MatchString(name) {
		t.Errorf("the file is called %s", name)
	}
}

// Of what is refused the trail has what was verified, and nothing where nothing was.
func TestTrailOfRefusals(t *testing.T) {
	a := newAccount(t)
	a.trailed()
	a.federate()
	foreign := a.token(map[string]any{"aud": "somebody.else"})
	if _, err := a.assume(foreign); err == nil {
		t.Fatal("want a token of another audience refused")
	}
	form := webIdentityForm(a.token(nil))
	form.Set("RoleArn", "arn:aws:iam::"+testAccount+":role/no-such-role")
	if got := a.post(form.Encode()); got.status != 403 {
		t.Fatalf("want 403, got %+v", got)
	}
	wrong := iam.NewFromConfig(a.sdk("AKIAAAAAAAAAAAAAAAAA", "wrong", ""))
	if _, err := wrong.ListRoles(t.Context(), nil); err == nil {
		t.Fatal("want an unknown key refused")
	}
	for want, sdk := range map[string]aws.Config{"InvalidAccessKeyId": a.sdk("AKIAAAAAAAAAAAAAAAAA", "wrong", ""),
		"NoSuchBucket": {Region: testRegion, BaseEndpoint: &a.url, Credentials: aws.AnonymousCredentials{}}} {
		client := awss3.NewFromConfig(sdk, func(o *awss3.Options) { o.UsePathStyle = true })
		_, err := client.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: aws.String("some-bucket"), Key: aws.String("a")})
		var refused smithy.APIError
		if !errors.As(err, &refused) || refused.ErrorCode() != want {
			t.Fatalf("want %s, got %v", want, err)
		}
	}
	_, err := a.iam().CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("u"), Tags: []iamtypes.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("b"), Value: aws.String("2")}}})
	if err != nil {
		t.Fatal(err)
	}
	records, _ := a.delivered()
	refused := named(t, records, "AssumeRoleWithWebIdentity", 1)[0]
	wantMembers(t, refused, map[string]any{"errorCode": "AccessDenied", "errorMessage": "An unknown error occurred",
		"requestParameters.roleArn": "arn:aws:iam::" + testAccount + ":role/no-such-role", "responseElements": nil})
	if n := len(refused["requestParameters"].(map[string]any)); n != 2 {
		t.Errorf("want role and session name alone, got %v", refused["requestParameters"])
	}
	named(t, records, "ListRoles", 0)
	wantMembers(t, named(t, records, "GetObject", 1)[0], map[string]any{"userIdentity.type": "AWSAccount", "userIdentity.accountId": "ANONYMOUS_PRINCIPAL",
		"userIdentity.accessKeyId": nil, "additionalEventData.AuthenticationMethod": nil})
	created := named(t, records, "CreateUser", 1)[0]
	wantMembers(t, created, map[string]any{"eventSource": "iam.amazonaws.com", "readOnly": false, "userIdentity.type": "IAMUser",
		"userIdentity.userName": "admin", "requestParameters.userName": "u"})
	tags, err := json.Marshal(at(created, "requestParameters.tags"))
	if want := `[{"key":"a","value":"1"},{"key":"b","value":"2"}]`; err != nil || string(tags) != want {
		t.Errorf("want tags %s, got %s (%v)", want, tags, err)
	}
}

// What could not be written is kept for the next time; Close delivers what is left,
// and so does a full batch.
func TestTrailIsDelivered(t *testing.T) {
	a := newAccount(t)
	dir := a.trailed()
	ask := func(n int) {
		for range n {
			if _, err := a.sts().GetCallerIdentity(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	ask(1)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.server.DeliverTrail(); err == nil {
		t.Fatal("want an error where the folder is a file")
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if records, _ := a.delivered(); len(records) != 1 {
		t.Errorf("want the record that was kept, got %d", len(records))
	}
	ask(2)
	a.stop()
	a.open()
	if records, _ := a.delivered(); len(records) != 3 {
		t.Errorf("want 3 records after Close, got %d", len(records))
	}
	e := a.server.newTrailEvent("sts.amazonaws.com", "Test", httptest.NewRequest("GET", "/", nil), time.Now(), "r")
	for range trailBatch {
		a.server.trailed(e)
	}
	if n := len(a.server.trail.events); n != 0 {
		t.Errorf("want a full batch written, got %d events kept", n)
	}
}

// Every call of S3 that there is has a name in the trail, and no name is left over.
func TestTrailNamesEveryCall(t *testing.T) {
	for _, c := range []struct {
		routes map[string]route
		names  map[string]string
	}{{bucketRoutes, bucketEvents}, {objectRoutes, objectEvents}} {
		if got, want := slices.Sorted(maps.Keys(c.names)), slices.Sorted(maps.Keys(c.routes)); !slices.Equal(got, want) {
			t.Errorf("want names for %q, got %q", want, got)
		}
	}
}
