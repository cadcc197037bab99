package federation

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3control"
	"github.com/google/go-cmp/cmp"
)

// fetchable is a local AWS with a set-up in force, and a client for s3control too.
func fetchable(t *testing.T) *account {
	t.Helper()
	a := newAccount(t)
	d := render(t, a.config, Hardened)
	a.setUp(t, d, nil)
	id, secret := a.local.AdminCredentials()
	a.aws.Control = NewControl(aws.Config{
		Region: a.config.Region, BaseEndpoint: &a.url, Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""),
	})
	return a
}

func fetched(t *testing.T, a *account) *Account {
	t.Helper()
	got, err := Fetch(t.Context(), a.aws, a.config)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// saved is the account after a round through Save and ReadAccount.
func saved(t *testing.T, a *account) (fetched, read *Account, dir string) {
	t.Helper()
	f, err := FetchFiles(t.Context(), a.aws, a.config)
	if err != nil {
		t.Fatal(err)
	}
	if fetched, err = f.Account(); err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(t.TempDir(), "export")
	if err := f.Save(dir); err != nil {
		t.Fatal(err)
	}
	if read, err = ReadAccount(dir); err != nil {
		t.Fatal(err)
	}
	return fetched, read, dir
}

var errorsByText = cmp.Comparer(func(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
})

// sameAccount compares what decides. Source and the reasons for not looking are
// those of each reading.
func sameAccount(t *testing.T, want, got *Account) {
	t.Helper()
	a, b := *want, *got
	a.Source, b.Source = "", ""
	a.NotLookedAt, b.NotLookedAt = subjects(a.NotLookedAt), subjects(b.NotLookedAt)
	if diff := cmp.Diff(a, b, errorsByText); diff != "" {
		t.Errorf("the account differs (-want +got):\n%s", diff)
	}
}

func subjects(notLookedAt []string) []string {
	var list []string
	for _, s := range notLookedAt {
		subject, _, _ := strings.Cut(s, " (")
		list = append(list, subject)
	}
	return list
}

func TestFetchReadsWhatIsInForce(t *testing.T) {
	a := fetchable(t)
	tags := []iamtypes.Tag{{Key: aws.String("team"), Value: aws.String("a/b c+ü")}}
	group, user, boundary := aws.String("readers"), aws.String("ann"), aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")
	for _, err := range []error{
		second(a.aws.IAM.CreateGroup(t.Context(), &iam.CreateGroupInput{GroupName: group})),
		second(a.aws.IAM.CreateUser(t.Context(), &iam.CreateUserInput{UserName: user, Tags: tags, PermissionsBoundary: boundary})),
		second(a.aws.IAM.AddUserToGroup(t.Context(), &iam.AddUserToGroupInput{GroupName: group, UserName: user})),
		second(a.aws.IAM.PutGroupPolicy(t.Context(), &iam.PutGroupPolicyInput{GroupName: group, PolicyName: aws.String("read"),
			PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}}`)})),
		second(a.aws.IAM.AttachUserPolicy(t.Context(), &iam.AttachUserPolicyInput{UserName: user, PolicyArn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, read, dir := saved(t, a)
	sameAccount(t, got, read)
	if want := a.url + ", account 000011112222, us-east-1"; got.Source != want {
		t.Errorf("source %q, want %q", got.Source, want)
	}
	if want := "files: " + dir; read.Source != want {
		t.Errorf("source %q, want %q", read.Source, want)
	}

	ann := got.Users[slices.IndexFunc(got.Users, func(u User) bool { return u.Name == "ann" })]
	if !slices.Equal(ann.Groups, []string{"readers"}) || ann.Tags["team"] != "a/b c+ü" || ann.Boundary != *boundary ||
		!slices.Equal(ann.Attached, []string{*boundary}) {
		t.Errorf("user ann: %+v", ann)
	}
	if g := got.Groups[0]; g.Name != "readers" || len(g.Inline) != 1 || g.Inline[0].Policy.Statements[0].Action[0] != "s3:Get*" {
		t.Errorf("groups: %+v", got.Groups)
	}
	if m := got.Managed["arn:aws:iam::aws:policy/AdministratorAccess"]; m.Policy == nil {
		t.Errorf("managed policies: %+v", got.Managed)
	}
	role := got.Roles[0]
	if role.Name != a.config.Role || role.ARN != a.config.RoleARN() || !strings.HasPrefix(role.ID, "AROA") ||
		role.Trust.Policy.Statements[0].Sid != sidTenantSession {
		t.Errorf("role: %+v", role)
	}
	if got.Bucket.Policy == nil || got.Bucket.Policy.Statements[0].Sid != sidTenantList {
		t.Errorf("bucket policy: %+v", got.Bucket)
	}
	if p := got.Providers; len(p) != 1 || p[0].ARN != a.config.ProviderARN() || p[0].URL != a.config.ProviderID() || !slices.Equal(p[0].ClientIDs, []string{a.config.Audience}) {
		t.Errorf("providers: %+v", p)
	}
	if got.PublicAccess == nil || *got.PublicAccess != (PublicAccessBlock{true, true, true, true}) {
		t.Errorf("public access block: %+v", got.PublicAccess)
	}
	if got.Ownership == nil || len(got.Ownership.Rules) != 1 || got.Ownership.Rules[0].ObjectOwnership != "BucketOwnerEnforced" {
		t.Errorf("ownership: %+v", got.Ownership)
	}
	if got.ACL == nil || got.ACL.Owner == "" || len(got.ACL.Grants) != 1 || got.ACL.Grants[0].Permission != "FULL_CONTROL" {
		t.Errorf("ACL: %+v", got.ACL)
	}
	want := []string{"access points (the endpoint does not offer s3control ListAccessPoints: HTTP 501)",
		"service control policies", "resource control policies"}
	if !slices.Equal(got.NotLookedAt, want) || got.AccessPoints != nil {
		t.Errorf("not looked at: %q", got.NotLookedAt)
	}
	info, err := os.Stat(filepath.Join(dir, fileIAM))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of %s: %v, %v", fileIAM, info, err)
	}
}

// second is the error of a call whose answer is of no interest.
func second[T any](_ T, err error) error { return err }

// What is not there at all is nothing, and not a gap.
func TestFetchOfABareBucket(t *testing.T) {
	a := fetchable(t)
	bucket := &a.config.Bucket
	for _, err := range []error{
		second(a.aws.S3.DeleteBucketPolicy(t.Context(), &s3.DeleteBucketPolicyInput{Bucket: bucket})),
		second(a.aws.S3.DeletePublicAccessBlock(t.Context(), &s3.DeletePublicAccessBlockInput{Bucket: bucket})),
		second(a.aws.S3.DeleteBucketOwnershipControls(t.Context(), &s3.DeleteBucketOwnershipControlsInput{Bucket: bucket})),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got, read, _ := saved(t, a)
	sameAccount(t, got, read)
	if got.Bucket.Policy != nil || got.Bucket.Err != nil {
		t.Errorf("bucket policy: %+v", got.Bucket)
	}
	if got.PublicAccess == nil || *got.PublicAccess != (PublicAccessBlock{}) {
		t.Errorf("public access block: %+v", got.PublicAccess)
	}
	if got.Ownership == nil || len(got.Ownership.Rules) != 0 {
		t.Errorf("ownership: %+v", got.Ownership)
	}
	if len(got.NotLookedAt) != 3 {
		t.Errorf("not looked at: %q", got.NotLookedAt)
	}
}

// Documents that nobody can read come through as they are, so that the auditor
// reads the same error.
func TestUnreadableDocumentsSurviveSaving(t *testing.T) {
	a := fetchable(t)
	for name, document := range map[string]string{
		"no policy":     `{"Version":"2012-10-17","Statement":{"Effect":"Maybe"}}`,
		"member twice":  `{"Version":"2012-10-17","Version":"2008-10-17","Statement":[]}`,
		"cut off":       `{"Version":"2012-10-17","Statement":[`,
		"no JSON":       `hello, <world> & "all" 100%`,
		"another value": `"{}"`,
		"a number":      `1e400`,
		"empty":         ``,
	} {
		t.Run(name, func(t *testing.T) {
			encoded := strings.ReplaceAll(url.QueryEscape(document), "+", "%20")
			a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
				return strings.Contains(readBody(t, r), "Action=GetAccountAuthorizationDetails") &&
					rewritten(a, w, r, func(answer string) string {
						return between(answer, "<AssumeRolePolicyDocument>", "</AssumeRolePolicyDocument>", encoded)
					})
			}
			got, read, _ := saved(t, a)
			sameAccount(t, got, read)
			text, err := json.Marshal(encoded)
			if err != nil {
				t.Fatal(err)
			}
			want, trust := readDocument(read.Roles[0].Trust.Name, text), read.Roles[0].Trust
			if want.Err == nil || !cmp.Equal(want, trust, errorsByText) {
				t.Errorf("the trust policy reads as %+v, want %+v", trust, want)
			}
		})
	}
}

// rewritten passes a request on and answers it with the changed answer.
func rewritten(a *account, w http.ResponseWriter, r *http.Request, change func(string) string) bool {
	answer := httptest.NewRecorder()
	a.local.ServeHTTP(answer, r)
	w.WriteHeader(answer.Code)
	_, _ = io.WriteString(w, change(answer.Body.String()))
	return true
}

// between puts text in the place of the first thing between two marks.
func between(s, from, to, text string) string {
	head, rest, _ := strings.Cut(s, from)
	_, tail, _ := strings.Cut(rest, to)
	return head + from + text + to + tail
}

// The pages of the answer are all read.
func TestFetchReadsAllPages(t *testing.T) {
	a := fetchable(t)
	asked := 0
	a.intercept = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
		if body := readBody(t, r); strings.Contains(body, "Action=GetAccountAuthorizationDetails") {
			asked++
			if asked == 1 && strings.Count(body, "Filter.member.") != 5 {
				t.Errorf("want all five filters, got %s", body)
			}
		}
		return false
	}
	const roles = 120 // more than one page of 100
	for i := range roles {
		name := "role-" + string(rune('a'+i/26)) + string(rune('a'+i%26))
		_, err := a.aws.IAM.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"ec2.amazonaws.com"}}}`)})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := fetched(t, a); len(got.Roles) != roles+1 || asked < 2 {
		t.Errorf("%d roles in %d pages, want %d", len(got.Roles), asked, roles+1)
	}
}

// controlPlane answers for the access points of the bucket as S3's control plane
// does, in two pages.
func controlPlane(t *testing.T, bucket string) func(string, http.ResponseWriter, *http.Request) bool {
	const (
		head = `<?xml version="1.0" encoding="UTF-8"?>`
		ns   = ` xmlns="http://awss3control.amazonaws.com/doc/2018-08-20/"`
	)
	item := func(name string) string {
		return `<AccessPointList><AccessPoint><Name>` + name + `</Name><NetworkOrigin>Internet</NetworkOrigin><Bucket>` + bucket +
			`</Bucket><AccessPointArn>arn:aws:s3:us-east-1:000011112222:accesspoint/` + name + `</AccessPointArn></AccessPoint></AccessPointList>`
	}
	return func(_ string, w http.ResponseWriter, r *http.Request) bool {
		path, ok := strings.CutPrefix(r.URL.Path, "/v20180820/accesspoint")
		if !ok {
			return false
		}
		if got := r.Header.Get("X-Amz-Account-Id"); got != "000011112222" {
			t.Errorf("%s %s is about account %q", r.Method, r.URL, got)
		}
		switch path {
		case "":
			if got := r.URL.Query().Get("bucket"); got != bucket {
				t.Errorf("the access points of bucket %q are listed, want %q", got, bucket)
			}
			if r.URL.Query().Get("nextToken") == "" {
				_, _ = io.WriteString(w, head+`<ListAccessPointsResult`+ns+`>`+item("open")+`<NextToken>2</NextToken></ListAccessPointsResult>`)
			} else {
				_, _ = io.WriteString(w, head+`<ListAccessPointsResult`+ns+`>`+item("inside")+`</ListAccessPointsResult>`)
			}
		case "/open":
			_, _ = io.WriteString(w, head+`<GetAccessPointResult`+ns+`><Name>open</Name><Bucket>`+bucket+`</Bucket><NetworkOrigin>Internet</NetworkOrigin>`+
				`<PublicAccessBlockConfiguration><BlockPublicAcls>true</BlockPublicAcls><RestrictPublicBuckets>false</RestrictPublicBuckets></PublicAccessBlockConfiguration>`+
				`<Alias>open-x-s3alias</Alias><AccessPointArn>arn:aws:s3:us-east-1:000011112222:accesspoint/open</AccessPointArn></GetAccessPointResult>`)
		case "/inside":
			_, _ = io.WriteString(w, head+`<GetAccessPointResult`+ns+`><Name>inside</Name><Bucket>`+bucket+`</Bucket><NetworkOrigin>VPC</NetworkOrigin>`+
				`<VpcConfiguration><VpcId>vpc-1</VpcId></VpcConfiguration></GetAccessPointResult>`)
		case "/open/policy":
			document, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
				"Sid": "Open", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:us-east-1:000011112222:accesspoint/open/object/*"}}})
			if err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, head+`<GetAccessPointPolicyResult`+ns+`><Policy>`+string(document)+`</Policy></GetAccessPointPolicyResult>`)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, head+`<ErrorResponse`+ns+`><Error><Code>NoSuchAccessPointPolicy</Code><Message>none</Message></Error></ErrorResponse>`)
		}
		return true
	}
}

func TestFetchReadsAccessPoints(t *testing.T) {
	a := fetchable(t)
	a.intercept = controlPlane(t, a.config.Bucket)
	got, read, _ := saved(t, a)
	sameAccount(t, got, read)
	if len(got.AccessPoints) != 2 {
		t.Fatalf("access points: %+v, not looked at: %q", got.AccessPoints, got.NotLookedAt)
	}
	open, inside := got.AccessPoints[0], got.AccessPoints[1]
	if open.Name != "open" || open.VPC != "" || open.Policy.Policy == nil || open.Policy.Policy.Statements[0].Sid != "Open" ||
		open.PublicAccess == nil || *open.PublicAccess != (PublicAccessBlock{BlockPublicAcls: true}) {
		t.Errorf("open: %+v", open)
	}
	if inside.VPC != "vpc-1" || inside.Policy.Policy != nil || inside.Policy.Err != nil || inside.ARN != a.config.accessPointARN("inside") {
		t.Errorf("inside: %+v", inside)
	}
}

// What the caller may not read is a gap where it is not needed, and the end where
// it is. A server that fails is no gap: it may not fail the next time.
func TestFetchWithoutRights(t *testing.T) {
	denied := `<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`
	for _, test := range []struct {
		part, in    string // of the request's body or query
		status      int
		body        string
		gap, failed string
	}{
		{"details", "Action=GetAccountAuthorizationDetails", 403, `<ErrorResponse>` + denied + `</ErrorResponse>`, "", `iam GetAccountAuthorizationDetails "000011112222": .*AccessDenied`},
		{"bucket policy", "policy", 403, denied, "", `s3 GetBucketPolicy "agentkeys-test": .*AccessDenied`},
		{"no bucket", "policy", 404, `<Error><Code>NoSuchBucket</Code><Message>none</Message></Error>`, "", `there is no bucket "agentkeys-test"`},
		{"providers", "Action=ListOpenIDConnectProviders", 403, `<ErrorResponse>` + denied + `</ErrorResponse>`,
			"OIDC providers and their client ids (iam ListOpenIDConnectProviders: AccessDenied)", ""},
		{"one provider", "Action=GetOpenIDConnectProvider", 403, `<ErrorResponse>` + denied + `</ErrorResponse>`,
			"OIDC providers and their client ids (iam GetOpenIDConnectProvider: AccessDenied)", ""},
		{"block", "publicAccessBlock", 403, denied, "the bucket's public access block (s3 GetPublicAccessBlock: AccessDenied)", ""},
		{"ownership", "ownershipControls", 403, denied, "the bucket's ownership controls (s3 GetBucketOwnershipControls: AccessDenied)", ""},
		{"acl", "acl", 403, denied, "the bucket's ACL (s3 GetBucketAcl: AccessDenied)", ""},
		{"access points", "/v20180820/", 403, `<ErrorResponse>` + denied + `</ErrorResponse>`, "access points (s3control ListAccessPoints: AccessDenied)", ""},
		{"a server that takes it for a bucket", "/v20180820/", 404, `<Error><Code>NoSuchBucket</Code></Error>`,
			"access points (the endpoint does not offer s3control ListAccessPoints: HTTP 404)", ""},
		{"an odd server", "/v20180820/", 405, `no XML`, "access points (the endpoint does not offer s3control ListAccessPoints", ""},
		{"a server that fails", "/v20180820/", 400, `<ErrorResponse><Error><Code>InvalidRequest</Code></Error></ErrorResponse>`, "", `s3control ListAccessPoints .*InvalidRequest`},
		{"bad signature", "acl", 403, `<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>`, "", `s3 GetBucketAcl "agentkeys-test": .*SignatureDoesNotMatch`},
	} {
		t.Run(test.part, func(t *testing.T) {
			a := fetchable(t)
			a.intercept = func(_ string, w http.ResponseWriter, r *http.Request) bool {
				what := r.URL.Path + "?" + r.URL.RawQuery + "&" + readBody(t, r) + "&"
				if !strings.Contains(what, test.in+"&") && !strings.Contains(what, test.in+"=") && !strings.HasPrefix(what, test.in) {
					return false
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, test.body)
				return true
			}
			got, err := Fetch(t.Context(), a.aws, a.config)
			if test.failed != "" {
				wantFetchError(t, err, test.failed)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(got.NotLookedAt, func(s string) bool { return strings.HasPrefix(s, test.gap) }) {
				t.Errorf("not looked at: %q, want %q", got.NotLookedAt, test.gap)
			}
		})
	}
}

func TestFetchNamesWhatIsNotThere(t *testing.T) {
	a := fetchable(t)
	c := a.config
	c.Role = "another-role"
	_, err := Fetch(t.Context(), a.aws, c)
	wantFetchError(t, err, `account 000011112222 has no role "another-role", which is to be the data role`)
	c = a.config
	c.Bucket = "another-bucket"
	_, err = Fetch(t.Context(), a.aws, c)
	wantFetchError(t, err, `there is no bucket "another-bucket"`)
	c = a.config
	c.Account = "999988887777"
	_, err = Fetch(t.Context(), a.aws, c)
	wantFetchError(t, err, `want account 999988887777, the credentials are of account 000011112222`)
	c.Account = "1"
	_, err = Fetch(t.Context(), a.aws, c)
	wantFetchError(t, err, `account: want twelve digits`)
}

// Every call to S3 says whose bucket it means.
func TestFetchNamesTheBucketsOwner(t *testing.T) {
	a := fetchable(t)
	calls := 0
	a.intercept = func(_ string, _ http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/"+a.config.Bucket) {
			calls++
			if got := r.Header.Get("X-Amz-Expected-Bucket-Owner"); got != a.config.Account {
				t.Errorf("%s %s expects owner %q", r.Method, r.URL, got)
			}
		}
		return false
	}
	fetched(t, a)
	if calls != 4 {
		t.Errorf("%d calls to S3, want 4", calls)
	}
}

func TestSaveKeepsAFolderClean(t *testing.T) {
	a := fetchable(t)
	f, err := FetchFiles(t.Context(), a.aws, a.config)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir() // there, and empty
	if err := f.Save(dir); err != nil {
		t.Fatal(err)
	}
	wantFetchError(t, f.Save(dir), "want an empty folder, .* holds ")
	wantFetchError(t, f.Save(filepath.Join(dir, "no", "where")), "saving the account: .*no such file")
	wantFetchError(t, f.Save(filepath.Join(dir, fileIAM)), "saving the account: ")
}

// An error about the folder is one line, whatever is missing from it.
func TestReadAccountWithoutAFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	_, err := ReadAccount(dir)
	wantFetchError(t, err, `^reading the account's files in ".*none": no such file or directory$`)
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = ReadAccount(dir)
	wantFetchError(t, err, `^reading the account's files in ".*none": not a folder$`)
}

// wantFetchError wants an error whose text matches.
func wantFetchError(t *testing.T, err error, pattern string) {
	t.Helper()
	if err == nil || !regexp.MustCompile(pattern).MatchString(err.Error()) {
		t.Errorf("error %v, want one that matches %s", err, pattern)
	}
}

// asked is a transport that only notes where it was sent.
type asked struct{ host string }

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.host = r.URL.Host
	return nil, errors.New("not sent")
}

// AWS's control plane has a name for each account, another endpoint has one.
func TestControlClientsNames(t *testing.T) {
	for endpoint, want := range map[string]string{"": "000011112222.s3-control.eu-central-1.amazonaws.com", "http://127.0.0.1:1": "127.0.0.1:1"} {
		transport := &asked{}
		c := aws.Config{Region: "eu-central-1", HTTPClient: &http.Client{Transport: transport}, RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("id", "secret", "")}
		if endpoint != "" {
			c.BaseEndpoint = &endpoint
		}
		_, err := NewControl(c).ListAccessPoints(t.Context(), &s3control.ListAccessPointsInput{AccountId: aws.String("000011112222")})
		if err == nil || transport.host != want {
			t.Errorf("endpoint %q: asked %q, want %q (%v)", endpoint, transport.host, want, err)
		}
	}
}
