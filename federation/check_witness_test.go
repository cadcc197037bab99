package federation

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// TestWitnesses puts set-ups of the corpus in force in a local AWS, gets the
// session that each witness of Check speaks of, and sends its request: it must get
// through. Of set-ups without a finding, what an intruder would try must fail: in
// every third of them, since each takes its time. What the local AWS does not have
// is left out and counted.
func TestWitnesses(t *testing.T) {
	t.Parallel()
	issuer := newIssuer(t)
	real := issuer.url
	replayed, left, refused, silent := 0, 0, 0, 0
	for _, c := range corpus(t) {
		account, err := ReadAccount(c.dir)
		if err != nil {
			t.Fatal(err)
		}
		report, err := Check(account)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(c.name, func(t *testing.T) {
			s, err := newStage(t, account, issuer, real, objectsOf(account.Config, report))
			if err != nil {
				t.Log(err)
				left++
				return
			}
			for _, f := range report.Findings {
				switch err := s.replay(f); {
				case errors.As(err, new(inexpressible)):
					t.Logf("%s: %v", f.Code, err)
					left++
				case err != nil:
					t.Errorf("%s, %s %s on %s %v: %v", f.Title, f.Witness.Principal, f.Witness.Action, f.Witness.Resource, f.Witness.Context, err)
				default:
					replayed++
				}
			}
			if c.truth.silent() {
				if silent%3 == 0 {
					refused += s.intrude(report)
				}
				silent++
			}
		})
	}
	t.Logf("%d witnesses got through, %d were left out, %d intrusions failed", replayed, left, refused)
	if replayed < 150 || refused < 500 {
		t.Errorf("want at least 150 witnesses and 500 intrusions, got %d and %d", replayed, refused)
	}
}

// objectsOf are the objects to lay: those that witnesses speak of, and two of each
// generic tenant.
func objectsOf(c Config, r *CheckReport) []string {
	var keys []string
	for _, tenant := range genericTenants {
		keys = append(keys, c.TenantPrefix(tenant)+"notes.txt", c.TenantPrefix(tenant)+"inbox/1")
	}
	for _, f := range r.Findings {
		key, ok := strings.CutPrefix(f.Witness.Resource, c.BucketARN()+"/")
		if ok && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
		if v := f.Witness.Context["s3:prefix"]; len(v) == 1 && v[0] != "" && len(v[0]) < 1000 {
			if key := strings.TrimSuffix(v[0], "/") + "/listed"; !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// sendable are the condition keys that a request in the local AWS can be made to
// have, or has of itself.
var sendable = regexp.MustCompile(`(?i)^(aws:(principaltag|requesttag)/.*|aws:(tagkeys|principalarn|userid|username|principalaccount|principaltype|securetransport|currenttime|referer|useragent|principalisawsservice|viaawsservice|requestedregion|resourcetag/.*)|s3:(prefix|delimiter|max-keys)|sts:.*|.*:(aud|sub|oaud))$`)

// replay gets a finding's session and sends its request.
func (s *stage) replay(f Finding) error {
	if f.Ambiguous {
		return inexpressible{"a point that AWS leaves open"}
	}
	for key, v := range f.Witness.Context {
		if !sendable.MatchString(key) || strings.EqualFold(key, "aws:CurrentTime") && !slices.ContainsFunc(v, recent) {
			return inexpressible{"the condition key " + key}
		}
	}
	switch f.Code {
	case OwnerLockedOut, WrongIssuer:
		return inexpressible{string(f.Code)}
	case UntaggedSession, IllShapedTag, WrongAudience, WrongSubject, TagChosenByCaller, ReachesOtherRole:
		return s.enter(f)
	}
	who, err := s.sessionOf(f, false)
	if err != nil {
		return err
	}
	return s.send(who, f)
}

func recent(text string) bool {
	at, _, ok := readTime(text)
	return ok && strings.HasPrefix(text, at.UTC().Format("2006-")) && at.Year() < 2030
}

// The words of a witness's principal.
var (
	tenantWords = regexp.MustCompile(`^the session of tenant (\S+) in role ([^\s,]+)(?:, named (\S+))?$`)
	roleWords   = regexp.MustCompile(`^a session of role ([^\s,]+)( without a tenant tag| with an ill-shaped tag)?( whose caller chose the tag)?(?:, named (\S+))?$`)
	userWords   = regexp.MustCompile(`^user (\S+)$`)
)

// sessionOf gets the credentials that a witness speaks of. The tag of a token that
// is passing does not outlive a change of role.
func (s *stage) sessionOf(f Finding, passing bool) (aws.CredentialsProvider, error) {
	words, c := f.Witness.Principal, s.account.Config
	if words == "anonymous" {
		return aws.AnonymousCredentials{}, nil
	}
	if m := userWords.FindStringSubmatch(words); m != nil {
		return s.user(m[1])
	}
	if m := tenantWords.FindStringSubmatch(words); m != nil {
		claims := s.token(m[1])
		claims.passing = passing
		return s.byToken(m[2], m[3], claims)
	}
	m := roleWords.FindStringSubmatch(words)
	if m == nil {
		return nil, inexpressible{words}
	}
	tags, request := map[string]string{}, map[string][]string{"sts:RoleSessionName": {cmpOr(m[4], defaultSessionName)}}
	for key, v := range f.Witness.Context {
		if name, ok := strings.CutPrefix(key, "aws:PrincipalTag/"); ok {
			tags[name] = v[0]
			request["aws:RequestTag/"+name] = v
		}
	}
	if m[1] == c.Role && m[2] != "" {
		claims := s.token(genericTenants[0])
		claims.tags = tags
		if m[2] == " without a tenant tag" {
			claims.tags = nil
		}
		return s.byToken(c.Role, m[4], claims)
	}
	for _, u := range s.account.Users {
		if key, err := s.user(u.Name); err == nil {
			if session, err := s.byCaller(key, m[1], request); err == nil {
				return session, nil
			}
		}
	}
	return nil, inexpressible{words + ", whom no user can become"}
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// enter replays a finding whose request is the one for a session.
func (s *stage) enter(f Finding) error {
	w := f.Witness
	if w.Action == "sts:AssumeRole" {
		var errs []error
		for _, passing := range []bool{false, true} {
			who, err := s.sessionOf(f, passing)
			if err == nil {
				_, err = s.byCaller(who, w.Resource, w.Context)
			}
			if err == nil {
				return nil
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	}
	id := s.account.Config.ProviderID()
	claims := tokenClaims{tags: map[string]string{}}
	for key, v := range w.Context {
		switch name, isTag := strings.CutPrefix(key, "aws:RequestTag/"); {
		case isTag:
			claims.tags[name] = v[0]
		case key == id+":aud":
			claims.audience = v[0]
		case key == id+":sub":
			claims.subject = v[0]
		}
	}
	name := ""
	if v := w.Context["sts:RoleSessionName"]; len(v) == 1 {
		name = v[0]
	}
	if keys := w.Context["aws:TagKeys"]; len(claims.tags) < len(keys) {
		for _, key := range keys {
			claims.tags[key] = cmpOr(claims.tags[key], "other")
		}
	}
	_, err := s.byToken(w.Resource, name, claims)
	return err
}

// send sends the request of a witness.
func (s *stage) send(who aws.CredentialsProvider, f Finding) error {
	w, headers := f.Witness, map[string]string{}
	for _, name := range []string{"aws:Referer", "aws:UserAgent"} {
		for key, v := range w.Context {
			if strings.EqualFold(key, name) {
				headers[map[string]string{"aws:Referer": "Referer", "aws:UserAgent": "User-Agent"}[name]] = v[0]
			}
		}
	}
	c, ctx := s.s3(who, headers), s.t.Context()
	bucket := &s.account.Config.Bucket
	key := aws.String(strings.TrimPrefix(w.Resource, s.account.Config.BucketARN()+"/"))
	done := func(_ any, err error) error { return err }
	switch w.Action {
	case "s3:GetObject":
		return done(c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key}))
	case "s3:GetObjectVersion":
		return done(c.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, VersionId: aws.String("null")}))
	case "s3:GetObjectTagging":
		return done(c.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: key}))
	case "s3:GetObjectAcl":
		return done(c.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: key}))
	case "s3:PutObject":
		return done(c.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("y")}))
	case "s3:PutObjectTagging":
		return done(c.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: bucket, Key: key, Tagging: &s3types.Tagging{TagSet: []s3types.Tag{}}}))
	case "s3:DeleteObject":
		return done(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key}))
	case "s3:DeleteObjectVersion":
		return done(c.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key, VersionId: aws.String("null")}))
	case "s3:ListBucketMultipartUploads":
		return done(c.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket}))
	case "s3:ListBucketVersions":
		return done(c.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket, Prefix: given(w, "s3:prefix"), Delimiter: given(w, "s3:delimiter")}))
	case "s3:ListBucket":
		return s.list(ctx, c, w)
	case "s3:PutBucketPolicy":
		return done(c.PutBucketPolicy(ctx, &s3.PutBucketPolicyInput{Bucket: bucket, Policy: s.document(s.account.Bucket)}))
	case "iam:PutRolePolicy":
		i := iam.New(iam.Options{Region: s.account.Config.Region, BaseEndpoint: &s.url, Credentials: who, HTTPClient: s.client, RetryMaxAttempts: 1})
		return done(i.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &s.account.Config.Role, PolicyName: aws.String("new"), PolicyDocument: aws.String(harmless)}))
	}
	return inexpressible{w.Action}
}

// harmless is a policy for whoever may put one.
const harmless = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ec2:*","Resource":"*"}]}`

// list must show something, not just be let in.
func (s *stage) list(ctx context.Context, c *s3.Client, w Witness) error {
	var most *int32
	if text := given(w, "s3:max-keys"); text != nil {
		n, err := strconv.ParseInt(*text, 10, 32)
		if err != nil {
			return err
		}
		most = aws.Int32(int32(n))
	}
	out, err := c.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &s.account.Config.Bucket, Prefix: given(w, "s3:prefix"), Delimiter: given(w, "s3:delimiter"), MaxKeys: most,
	})
	if err == nil && len(out.Contents)+len(out.CommonPrefixes) == 0 && len(aws.ToString(given(w, "s3:prefix"))) < 100 {
		err = errors.New("the listing shows nothing")
	}
	return err
}

func given(w Witness, key string) *string {
	if v := w.Context[key]; len(v) == 1 {
		return &v[0]
	}
	return nil
}

// intrude tries what must fail where a set-up is sound, and counts it: a tenant's
// session and every user who is not trusted at another tenant's folder, and tokens
// that must not enter.
func (s *stage) intrude(r *CheckReport) int {
	c, count := s.account.Config, 0
	refused := func(what string, err error) {
		if count++; err == nil {
			s.t.Errorf("%s got through", what)
		} else if code := status(err); code != 403 && code != 400 {
			s.t.Errorf("%s: want a refusal, got %v", what, err)
		}
	}
	for what, edit := range map[string]func(*tokenClaims){
		"a token without tags":     func(t *tokenClaims) { t.tags = nil },
		"a token of an empty tag":  func(t *tokenClaims) { t.tags[c.TagKey] = "" },
		"a token of a short tag":   func(t *tokenClaims) { t.tags[c.TagKey] = "0x" },
		"a token of another tag":   func(t *tokenClaims) { t.tags = map[string]string{"team": "x"} },
		"a token with a slash":     func(t *tokenClaims) { t.tags[c.TagKey] = "0x/" + strings.Repeat("a", 39) },
		"a token of a service":     func(t *tokenClaims) { t.subject = "agentkeys:service:indexer" },
		"a token for someone else": func(t *tokenClaims) { t.audience = "someone-else" },
	} {
		claims := s.token(genericTenants[0])
		edit(&claims)
		_, err := s.byToken(c.Role, "", claims)
		refused(what, err)
	}
	for i := 0; i < len(genericTenants); i += 2 { // one of each kind at another of its kind
		if session, err := s.byToken(c.Role, "", s.token(genericTenants[i])); err == nil {
			s.intrudeAs(genericTenants[i], session, genericTenants[i+1], refused)
		}
	}
	for _, u := range s.account.Users {
		trusted := slices.Contains(c.Administrators, u.ARN) || slices.ContainsFunc(r.Advice, func(line string) bool { return strings.Contains(line, "user "+u.Name+" ") })
		if trusted {
			continue
		}
		key, err := s.user(u.Name)
		if err != nil {
			s.t.Error(err)
			continue
		}
		s.intrudeAs("user "+u.Name, key, genericTenants[0], refused)
	}
	s.intrudeAs("nobody", aws.AnonymousCredentials{}, genericTenants[0], refused)
	return count
}

// intrudeAs tries everything plain at a victim's folder.
func (s *stage) intrudeAs(name string, who aws.CredentialsProvider, victim string, refused func(string, error)) {
	c := s.account.Config
	home := c.TenantPrefix(victim)
	try := func(action, resource string, context map[string][]string) {
		err := s.send(who, Finding{Witness: Witness{Action: action, Resource: resource, Context: context}})
		refused(name+": "+action+" on "+resource, err)
	}
	for _, action := range []string{
		"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectTagging", "s3:GetObjectAcl", "s3:PutObject", "s3:PutObjectTagging", "s3:DeleteObject", "s3:DeleteObjectVersion",
	} {
		try(action, c.BucketARN()+"/"+home+"notes.txt", nil)
	}
	for _, action := range []string{"s3:ListBucket", "s3:ListBucketVersions"} {
		try(action, c.BucketARN(), nil)
		for _, prefix := range []string{"", c.Prefix, c.Prefix + "/", home[:len(home)-1], home, home + "inbox/"} {
			try(action, c.BucketARN(), map[string][]string{"s3:prefix": {prefix}})
		}
		try(action, c.BucketARN(), map[string][]string{"s3:prefix": {c.Prefix + "/"}, "s3:delimiter": {"/"}})
	}
	try("s3:ListBucketMultipartUploads", c.BucketARN(), nil)
	if s.account.Bucket.Policy != nil {
		try("s3:PutBucketPolicy", c.BucketARN(), nil)
	}
}
