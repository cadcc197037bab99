package grant

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"agentkeys/federation"
	"agentkeys/policy"
)

var update = flag.Bool("update", false, "rewrite the golden file")

const (
	walletA = "0x52908400098527886e0f7030069857d2e4169ee7"
	walletB = "0x8617e340b3d01fa5f11f306f4090fd50e238070d"
	omniC   = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
	daemonD = "0xde709f2102306220921060314715629080e2fb77"
	daemonE = "0x27b1fdb04752bbc536007a920d24acb045561c26"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// end is when the grants of these tests end.
var end = noon.Add(time.Hour)

func testConfig() federation.Config {
	return federation.Config{
		Issuer: "https://broker.example.com", Account: "000011112222", Region: "us-east-1", Role: federation.DefaultRole,
		Bucket: "agentkeys-test", Prefix: federation.DefaultPrefix, TagKey: federation.DefaultTagKey, Audience: federation.DefaultAudience,
	}
}

// scope is a grant and where it is to hold.
type scope struct {
	config  federation.Config
	tenant  string
	path    Path
	actions Actions
}

func (s scope) folder() string { return s.path.under(s.config.Prefix, s.tenant) }

func (s scope) sessionARN() string {
	return "arn:aws:sts::" + s.config.Account + ":assumed-role/" + s.config.Role + "/" + SessionName(daemonD, "grn-ABCDEFGHIJKLMNOP")
}

type fataler interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

func (s scope) document(t fataler) *policy.Document {
	t.Helper()
	text, err := SessionPolicy(Target{"aws", s.config.Bucket, s.config.Prefix}, s.tenant, s.path, s.actions, end)
	if err != nil {
		t.Fatal(err)
	}
	d, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Validate(policy.SessionPolicy); err != nil {
		t.Fatal(err)
	}
	return d
}

func compiled(t fataler, name string, d *policy.Document) *policy.Policy {
	t.Helper()
	p, err := policy.Compile(name, d)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func written(t fataler, name, text string) *policy.Policy {
	t.Helper()
	d, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return compiled(t, name, d)
}

// setUps are the policies at AWS beside the session's: the two that federation
// renders, and hostile ones, whose resource policies are those of every resource
// that is asked for: bucket, key or role.
func (s scope) setUps(t fataler) map[string]policy.Set {
	t.Helper()
	rendered := func(f federation.Form) []*policy.Policy {
		d, err := federation.Render(s.config, f)
		if err != nil {
			t.Fatal(err)
		}
		return []*policy.Policy{compiled(t, string(f), d.BucketPolicy)}
	}
	plain := rendered(federation.Plain)
	allow := func(name, rest string) []*policy.Policy {
		return []*policy.Policy{written(t, name, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+rest+`}]}`)}
	}
	role := s.config.RoleARN()
	everything := `"Action":"*","Resource":"*"`
	return map[string]policy.Set{
		"plain":                       {Resource: plain},
		"hardened":                    {Resource: rendered(federation.Hardened)},
		"role has s3:*":               {Resource: plain, Identity: allow("full", `"Action":"s3:*","Resource":"*"`)},
		"role is administrator":       {Resource: plain, Identity: allow("admin", everything)},
		"resource names the role":     {Resource: allow("role", `"Principal":{"AWS":"`+role+`"},`+everything)},
		"resource names all":          {Resource: allow("all", `"Principal":"*",`+everything)},
		"resource names PrincipalArn": {Resource: allow("arn", `"Principal":{"AWS":"*"},"Condition":{"ArnEquals":{"aws:PrincipalArn":"`+role+`"}},`+everything)},
		"resource names the session":  {Resource: allow("session", `"Principal":{"AWS":"`+s.sessionARN()+`"},`+everything)},
		"resource and role":           {Resource: allow("session", `"Principal":{"AWS":"`+s.sessionARN()+`"},`+everything), Identity: allow("admin", everything)},
	}
}

// ask is a request of the daemon's session.
type ask struct {
	action, resource string
	prefix           *string // s3:prefix
	at               time.Time
}

func (s scope) request(a ask) *policy.Request {
	keys := policy.NewContext()
	keys.Set("aws:PrincipalArn", s.config.RoleARN())
	keys.Set("aws:PrincipalAccount", s.config.Account)
	keys.Set("aws:PrincipalType", "AssumedRole")
	keys.Set("aws:PrincipalTag/"+s.config.TagKey, s.tenant)
	keys.SetTime("aws:CurrentTime", a.at)
	if a.prefix != nil {
		keys.Set("s3:prefix", *a.prefix)
	}
	return &policy.Request{
		Principal: policy.Principal{Kind: policy.RoleSession, Account: s.config.Account, Issuer: s.config.RoleARN(), ARN: s.sessionARN()},
		Action:    a.action, Resource: a.resource, ResourceAccount: s.config.Account, Context: keys,
	}
}

func (s scope) allowed(a ask, set policy.Set, session *policy.Policy) bool {
	set.Session = []*policy.Policy{session}
	return policy.Evaluate(s.request(a), &set).Allowed
}

// granted says in other words than the policy's what the daemon may do.
func (s scope) granted(a ask) bool {
	if !a.at.Before(end) {
		return false
	}
	key, isObject := strings.CutPrefix(a.resource, s.config.BucketARN()+"/")
	in := isObject && strings.HasPrefix(key, s.folder())
	switch a.action {
	case "s3:GetObject":
		return in && slices.Contains(s.actions, ActionGet)
	case "s3:PutObject":
		return in && slices.Contains(s.actions, ActionPut)
	case "s3:DeleteObject":
		return in && slices.Contains(s.actions, ActionDelete)
	case "s3:ListBucket":
		return a.resource == s.config.BucketARN() && a.prefix != nil && strings.HasPrefix(*a.prefix, s.folder()) && slices.Contains(s.actions, ActionList)
	}
	return false
}

// keys are in the folder, around it, and where somebody would aim who wants out.
func (s scope) keys() []string {
	c, folder := s.config, s.folder()
	bare := strings.TrimSuffix(folder, "/")
	parent := bare[:strings.LastIndex(bare, "/")+1]
	own := c.TenantPrefix(s.tenant)
	keys := []string{
		folder, folder + "k", folder + "a/b/c", folder + "../x", folder + "*", folder + "${aws:username}", folder + "é\n", folder + "/",
		bare, bare + "2", bare + "2/k", bare + "-/k", bare + "%2Fk", bare + "//k", bare[:len(bare)-1], parent, parent + "k", "/" + folder + "k",
		own, own + "k", own + "other/k", strings.ToUpper(folder) + "k", c.Prefix + "/", c.Prefix, "", "k", folder[1:] + "k",
		"x" + folder + "k", "x/" + folder + "k", c.Prefix + "x/" + folder + "k",
	}
	for _, tenant := range []string{walletA, walletB, omniC} {
		keys = append(keys, c.TenantPrefix(tenant)+"k", (&scope{c, tenant, s.path, nil}).folder()+"k")
	}
	return slices.Compact(slices.Sorted(slices.Values(keys)))
}

// asks are all that the daemon may try: every action of S3 on the resources that it
// has, here and elsewhere, and a few of other services.
func (s scope) asks() []ask {
	c := s.config
	var all []ask
	bucket, other := c.BucketARN(), "arn:aws:s3:::other-bucket"
	point := "arn:aws:s3:us-east-1:" + c.Account + ":accesspoint/p"
	in := s.folder() + "k"
	for _, a := range policy.Actions("s3") {
		action := "s3:" + a.Name
		keys := []string{in, strings.TrimSuffix(s.folder(), "/") + "2/k", c.TenantPrefix(walletB) + "k"}
		if slices.Contains([]string{"GetObject", "PutObject", "DeleteObject", "ListBucket", "ListBucketVersions"}, a.Name) {
			keys = s.keys()
		}
		places := []string{"*", point, point + "/object/" + in, other + "/" + in, bucket + "2/" + in}
		if slices.Contains(a.Resources, "bucket") {
			places = append(places, bucket, bucket+"2", other)
		}
		for _, resource := range places {
			all = append(all, ask{action: action, resource: resource})
		}
		for _, key := range keys {
			if slices.Contains(a.Resources, "object") {
				all = append(all, ask{action: action, resource: bucket + "/" + key})
			}
			if slices.Contains(a.ConditionKeys, "s3:prefix") {
				all = append(all, ask{action: action, resource: bucket, prefix: &key}, ask{action: action, resource: other, prefix: &key})
			}
		}
	}
	for _, action := range []string{"iam:CreateUser", "iam:PutRolePolicy", "iam:PassRole", "sts:AssumeRole", "sts:TagSession", "sts:AssumeRoleWithWebIdentity",
		"kms:Decrypt", "kms:GenerateDataKey", "s3express:CreateSession", "s3-object-lambda:GetObject", "dynamodb:GetItem", "ses:SendEmail", "lambda:InvokeFunction"} {
		for _, resource := range []string{"*", c.RoleARN(), "arn:aws:kms:us-east-1:" + c.Account + ":key/k", bucket, bucket + "/" + s.folder() + "k"} {
			all = append(all, ask{action: action, resource: resource})
		}
	}
	return all
}

// Under every set-up, sound or hostile, the daemon may do what is granted and
// nothing else, and nothing from the end on.
func TestSessionIsHeldToTheGrant(t *testing.T) {
	t.Parallel()
	for _, s := range []scope{
		{testConfig(), walletA, "reports/2026", AllActions()},
		{testConfig(), omniC, Root, AllActions()},
		{testConfig(), walletA, "reports", Actions{ActionList}},
		{testConfig(), walletA, "reports", Actions{ActionGet}},
		{testConfig(), walletB, "a", Actions{ActionPut}},
		{testConfig(), walletB, "a", Actions{ActionDelete}},
		{testConfig(), walletB, "a", Actions{ActionList, ActionPut}},
	} {
		session, asks := compiled(t, "session", s.document(t)), s.asks()
		for name, set := range s.setUps(t) {
			got := 0
			for _, a := range asks {
				for _, a.at = range []time.Time{noon, end.Add(-time.Millisecond), end} {
					allowed := s.allowed(a, set, session)
					if allowed {
						got++
					}
					if want := s.granted(a); allowed != want {
						t.Fatalf("%s under %q, set-up %q: %s: allowed %v, want %v", s.actions, s.path, name, a, allowed, want)
					}
				}
			}
			if got < 2*len(s.actions) {
				t.Errorf("%s under %q, set-up %q: %d requests allowed, want at least one of each action and time", s.actions, s.path, name, got)
			}
		}
	}
}

func (a ask) String() string {
	prefix := "no prefix"
	if a.prefix != nil {
		prefix = "prefix " + *a.prefix
	}
	return a.action + " on " + a.resource + " with " + prefix + " at " + a.at.Format(time.RFC3339Nano)
}

func drawnScope(t *rapid.T) scope {
	s := scope{testConfig(), rapid.SampledFrom([]string{walletA, walletB, omniC}).Draw(t, "tenant"), drawnPath(t, "path"), nil}
	s.config.Bucket = rapid.SampledFrom([]string{"agentkeys-test", "b.c", strings.Repeat("b", 63)}).Draw(t, "bucket")
	s.config.Prefix = rapid.SampledFrom([]string{"bots", "a/b", "x!_.'()-"}).Draw(t, "prefix")
	for _, a := range AllActions() {
		if rapid.Bool().Draw(t, string(a)) {
			s.actions = append(s.actions, a)
		}
	}
	if len(s.actions) == 0 {
		s.actions = AllActions()
	}
	return s
}

func TestSessionIsHeldToAnyGrant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := drawnScope(t)
		session := compiled(t, "session", s.document(t))
		for name, set := range s.setUps(t) {
			for range 20 {
				a := s.drawnAsk(t)
				if got, want := s.allowed(a, set, session), s.granted(a); got != want {
					t.Errorf("%+v, set-up %q: %s: allowed %v, want %v", s, name, a, got, want)
				}
			}
		}
	})
}

func (s scope) drawnAsk(t *rapid.T) ask {
	other := scope{s.config, rapid.SampledFrom([]string{walletA, walletB, omniC}).Draw(t, "whose"), drawnPath(t, "where"), nil}
	text := rapid.SampledFrom([]string{s.folder(), other.folder(), s.config.TenantPrefix(s.tenant)}).Draw(t, "folder") +
		rapid.StringMatching(`[a-z./*?$%]{0,5}`).Draw(t, "rest")
	text = text[rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "cut front"):]
	text = text[:len(text)-rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "cut end")]
	a := ask{at: end.Add(rapid.SampledFrom([]time.Duration{-time.Hour, -1, 0, 1, time.Hour}).Draw(t, "at") * time.Millisecond)}
	a.action = rapid.SampledFrom([]string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "s3:GetObjectVersion",
		"s3:PutObjectAcl", "s3:ListBucketVersions", "s3:GetObjectTagging", "s3:DeleteObjectVersion", "s3:PutBucketPolicy"}).Draw(t, "action")
	a.resource = s.config.BucketARN()
	if strings.HasPrefix(a.action, "s3:ListBucket") {
		if rapid.IntRange(0, 9).Draw(t, "prefix") > 0 {
			a.prefix = &text
		}
	} else {
		a.resource += "/" + text
	}
	return a
}

// Without any one of its statements the policy no longer says what is granted: a
// deny less, and some hostile set-up lets something through; an allow less, and
// something granted is refused.
func TestEveryStatementIsNeeded(t *testing.T) {
	t.Parallel()
	for _, actions := range []Actions{AllActions(), {ActionList}, {ActionGet}, {ActionPut, ActionDelete}} {
		s := scope{testConfig(), walletA, "reports", actions}
		whole := s.document(t)
		setUps := s.setUps(t)
		for i, removed := range whole.Statements {
			rest := *whole
			rest.Statements = slices.Delete(slices.Clone(whole.Statements), i, i+1)
			session := compiled(t, "rest", &rest)
			if !s.differs(session, setUps, removed.Effect == policy.Deny) {
				t.Errorf("%s: statement %d is not needed: %+v", actions, i, removed)
			}
		}
	}
}

// differs looks for a request that is not granted and goes through, or the reverse.
func (s scope) differs(session *policy.Policy, setUps map[string]policy.Set, through bool) bool {
	asks := s.asks()
	for _, set := range setUps {
		for _, a := range asks {
			for _, a.at = range []time.Time{noon, end} {
				if s.allowed(a, set, session) == through && s.granted(a) != through {
					return true
				}
			}
		}
	}
	return false
}

func TestSessionPolicyGolden(t *testing.T) {
	text, err := SessionPolicy(Target{"aws", "agentkeys-test", "bots"}, walletA, "reports/2026", AllActions(), end.Add(999*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/session-policy.json"
	if *update {
		if err := os.WriteFile(golden, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(text+"\n")) {
		t.Errorf("the policy is\n%s\nwant\n%s", text, want)
	}
}

// args are those of SessionPolicy.
type args struct {
	target  Target
	tenant  string
	path    Path
	actions Actions
	until   time.Time
}

// longestPrefix is that of a policy for the longest bucket, tenant and path.
const longestPrefix = 10

func longest(a args) args {
	a.target.Bucket, a.tenant, a.path = strings.Repeat("b", 63), omniC, Path(strings.Repeat("p", maxPath))
	return a
}

// What is longest in all members but the prefix fits, and Target.Check says so
// before anybody asks for it.
func TestSizeOfSessionPolicy(t *testing.T) {
	for prefix, fits := range map[int]bool{1: true, len("bots"): true, longestPrefix: true, longestPrefix + 1: false, 512: false} {
		a := longest(args{target: Target{"aws", "", strings.Repeat("p", prefix)}, actions: AllActions(), until: end})
		text, err := SessionPolicy(a.target, a.tenant, a.path, a.actions, a.until)
		if (err == nil) != fits || len(text) > maxSessionPolicy {
			t.Errorf("prefix of %d: %d characters, %v; want it to fit: %v", prefix, len(text), err, fits)
		}
		if err := a.target.Check(); (err == nil) != fits {
			t.Errorf("prefix of %d: the check of the target says %v", prefix, err)
		}
	}
	for _, bad := range []Target{{}, {"aws", "agentkeys-test", "*"}, {"aws", "*", "bots"}, {"aws", "agentkeys-test", "a/./b"}} {
		if err := bad.Check(); err == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestSessionPolicyRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*args)
		want   string
	}{
		"no partition":            {func(a *args) { a.target.Partition = "" }, "partition: want one like aws"},
		"partition with a star":   {func(a *args) { a.target.Partition = "*" }, "partition: want one like aws"},
		"no bucket":               {func(a *args) { a.target.Bucket = "" }, "bucket: want 3 to 63"},
		"bucket with a star":      {func(a *args) { a.target.Bucket = "agentkeys*" }, "bucket: want 3 to 63"},
		"long bucket":             {func(a *args) { a.target.Bucket = strings.Repeat("b", 64) }, "bucket: want 3 to 63"},
		"no prefix":               {func(a *args) { a.target.Prefix = "" }, "prefix: want segments"},
		"prefix with a star":      {func(a *args) { a.target.Prefix = "bots*" }, "prefix: want segments"},
		"prefix with a variable":  {func(a *args) { a.target.Prefix = "${aws:username}" }, "prefix: want segments"},
		"prefix ends in a slash":  {func(a *args) { a.target.Prefix = "bots/" }, "prefix: want segments"},
		"prefix climbs":           {func(a *args) { a.target.Prefix = "bots/.." }, "prefix: want segments"},
		"no tenant":               {func(a *args) { a.tenant = "" }, "tenant: want 0x"},
		"tenant is a star":        {func(a *args) { a.tenant = "*" }, "tenant: want 0x"},
		"tenant in capitals":      {func(a *args) { a.tenant = strings.ToUpper(omniC) }, "tenant: want 0x"},
		"tenant and more":         {func(a *args) { a.tenant += "/x" }, "tenant: want 0x"},
		"tenant and a line end":   {func(a *args) { a.tenant += "\n" }, "tenant: want 0x"},
		"no path":                 {func(a *args) { a.path = "" }, "path: want a path"},
		"path climbs":             {func(a *args) { a.path = "a/../.." }, "path: want segments"},
		"path with a star":        {func(a *args) { a.path = "*" }, "path: want segments"},
		"path in other spelling":  {func(a *args) { a.path = "a/" }, `path: want it as "a", got "a/"`},
		"no actions":              {func(a *args) { a.actions = nil }, "actions: want some of list,get,put,delete"},
		"unknown action":          {func(a *args) { a.actions = Actions{"*"} }, "actions: want some of"},
		"unknown beside known":    {func(a *args) { a.actions = Actions{ActionGet, "GetObjectVersion"} }, "actions: want some of"},
		"an action twice":         {func(a *args) { a.actions = Actions{ActionGet, ActionGet} }, "actions: want some of"},
		"actions in other order":  {func(a *args) { a.actions = Actions{ActionGet, ActionList} }, "actions: want some of"},
		"no end":                  {func(a *args) { a.until = time.Time{} }, "end: want a time"},
		"an end of five digits":   {func(a *args) { a.until = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "end: want a time"},
		"one character too many":  {func(a *args) { a.target.Prefix = strings.Repeat("p", longestPrefix+1); *a = longest(*a) }, "want at most 2048 characters, got 2050"},
		"longest of federation's": {func(a *args) { a.target.Prefix = strings.Repeat("p", 512); *a = longest(*a) }, "are too long together"},
	} {
		a := args{Target{"aws", "agentkeys-test", "bots"}, walletA, "reports", AllActions(), end}
		tt.change(&a)
		text, err := SessionPolicy(a.target, a.tenant, a.path, a.actions, a.until)
		if err == nil || text != "" || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "compiling a session policy: ") {
			t.Errorf("%s: %q, %v; want an error with %q", name, text, err, tt.want)
		}
	}
}
