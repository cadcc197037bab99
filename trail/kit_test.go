package trail_test

import (
	"bytes"
	"compress/gzip"
	"database/sql"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/grant"
	"agentkeys/token"
	"agentkeys/trail"
)

// kit is a broker and an AWS with a trail, and two parties with a grant.
type kit struct {
	*testing.T
	*agentkeystest.Broker
	aws           *agentkeystest.AWS
	dir           string
	owner, daemon agentkeystest.Party
	grant         api.Grant
	scope         trail.Scope
	tamper        func([]audit.Record) []audit.Record // what became of the records
}

func newKit(t *testing.T, changes ...func(*broker.Config)) *kit {
	t.Helper()
	x := &kit{T: t, dir: t.TempDir()}
	x.Broker, x.aws = agentkeystest.NewWithTrail(t, x.dir, changes...)
	x.owner, x.daemon = x.Party(t), x.Party(t)
	x.grant = x.Grant(t, x.owner, x.daemon, "reports")
	x.scope = trail.Scope{Role: agentkeystest.RoleARN, Provider: x.aws.Config.ProviderARN(), TagKey: token.TagKey,
		SubjectPrefix: token.SubjectPrefix, SessionName: grant.SessionName, TokenLife: 5 * time.Minute}
	return x
}

func (x *kit) ok(err error) {
	x.Helper()
	if err != nil {
		x.Fatal(err)
	}
}

func (x *kit) sdk(id, secret, session string) aws.Config {
	return aws.Config{Region: agentkeystest.Region, BaseEndpoint: aws.String(x.aws.URL), Retryer: func() aws.Retryer { return aws.NopRetryer{} },
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, session)}
}

func (x *kit) admin() aws.Config {
	id, secret := x.aws.Local.AdminCredentials()
	return x.sdk(id, secret, "")
}

// minted are credentials that the broker gave.
func (x *kit) minted() *api.MintAWSResponse {
	x.Helper()
	answer, problem := x.Mint(x.T, x.NewCall(x.daemon, "reports").Sign(x.T))
	if problem != nil {
		x.Fatalf("minting: %+v", problem)
	}
	return answer
}

// refusedMint is a mint that gives the caller nothing.
func (x *kit) refusedMint() {
	x.Helper()
	if answer, _ := x.Mint(x.T, x.NewCall(x.daemon, "reports").Sign(x.T)); answer != nil {
		x.Fatal("want no credentials")
	}
}

// use puts an object in the granted path and takes a look around, with credentials.
// What AWS says of it is of no matter here: a refused request is a use as well.
func (x *kit) use(id, secret, session string) {
	x.Helper()
	c := x.sdk(id, secret, session)
	client := s3.NewFromConfig(c, func(o *s3.Options) { o.UsePathStyle = true })
	key := x.aws.Config.TenantPrefix(strings.ToLower(x.owner.Address())) + "reports/a.txt"
	_, _ = client.PutObject(x.Context(), &s3.PutObjectInput{Bucket: aws.String(agentkeystest.Bucket), Key: aws.String(key), Body: strings.NewReader("a")})
	_, _ = client.GetObject(x.Context(), &s3.GetObjectInput{Bucket: aws.String(agentkeystest.Bucket), Key: aws.String(key)})
	_, err := sts.NewFromConfig(c).GetCallerIdentity(x.Context(), nil)
	x.ok(err)
}

func (x *kit) useMinted(c *api.MintAWSResponse) {
	x.use(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
}

func (x *kit) useGiven(c *ststypes.Credentials) {
	x.use(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
}

// exchange is the broker's token exchanged by somebody, under a name of their choice.
func (x *kit) exchange(jwt, name string) (*ststypes.Credentials, error) {
	out, err := sts.NewFromConfig(aws.Config{Region: agentkeystest.Region, BaseEndpoint: aws.String(x.aws.URL),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} }, Credentials: aws.AnonymousCredentials{}}).
		AssumeRoleWithWebIdentity(x.Context(), &sts.AssumeRoleWithWebIdentityInput{
			RoleArn: aws.String(agentkeystest.RoleARN), RoleSessionName: aws.String(name), WebIdentityToken: aws.String(jwt)})
	if err != nil {
		return nil, err
	}
	return out.Credentials, nil
}

func (x *kit) exchanged(jwt, name string) *ststypes.Credentials {
	x.Helper()
	c, err := x.exchange(jwt, name)
	x.ok(err)
	return c
}

// ownToken is a token that the broker gives a party for itself.
func (x *kit) ownToken(p agentkeystest.Party) string {
	x.Helper()
	minted, err := x.Client.MintOIDC(x.Context(), p.Session.SessionJWT)
	x.ok(err)
	return minted.JWT
}

// behind is a token that is signed with the issuer's key behind the broker's back.
func (x *kit) behind(caller, tenant agentkeystest.Party) string {
	x.Helper()
	jwt, _, err := x.Identities.MintFor(strings.ToLower(caller.Address()), strings.ToLower(tenant.Address()), "ABCDEFGHIJKLMNOPQRSTUVWXYZ", x.Clock.Now())
	x.ok(err)
	return jwt.Reveal()
}

// trust replaces the role's trust policy: the issuer's tokens may do what is named,
// and so may others.
func (x *kit) trust(actions string, others ...string) {
	x.Helper()
	statements := append(others, `{"Effect":"Allow","Principal":{"Federated":"`+x.scope.Provider+`"},"Action":[`+actions+`]}`)
	_, err := iam.NewFromConfig(x.admin()).UpdateAssumeRolePolicy(x.Context(), &iam.UpdateAssumeRolePolicyInput{
		RoleName:       aws.String(x.aws.Config.Role),
		PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)})
	x.ok(err)
}

// records are what the database has now, or what became of it.
func (x *kit) records() []audit.Record {
	x.Helper()
	var all []audit.Record
	x.ok(x.Store.View(x.Context(), func(tx *sql.Tx) error {
		found, err := audit.Find(x.Context(), tx, audit.Query{Limit: audit.MaxLimit})
		for _, e := range found {
			all = append(all, e.Record)
		}
		return err
	}))
	if x.tamper != nil {
		all = x.tamper(all)
	}
	return all
}

// without takes the records of an outcome away.
func without(outcome string) func([]audit.Record) []audit.Record {
	return func(all []audit.Record) []audit.Record {
		return slices.DeleteFunc(all, func(r audit.Record) bool { return r.Outcome == outcome && r.Action == audit.ActionMintAWS })
	}
}

// reconcile delivers, reads and compares.
func (x *kit) reconcile(changes ...func(*trail.Scope)) *trail.Report {
	x.Helper()
	x.ok(x.aws.Local.DeliverTrail())
	s := x.scope
	for _, change := range changes {
		change(&s)
	}
	t, err := trail.Read(s.Keep, x.dir)
	x.ok(err)
	return trail.Reconcile(s, t, x.records())
}

// wantFindings holds a report to the codes of its findings, each with its severity
// and the event in a file, or the record, that it is about.
func (x *kit) wantFindings(r *trail.Report, codes ...trail.Code) {
	x.Helper()
	var got []trail.Code
	for _, f := range r.Findings {
		got = append(got, f.Code)
		if f.Severity == "" || f.Expected == "" || f.Found == "" || f.Event == nil && f.Record == "" && f.Proof == "" {
			x.Errorf("a finding that does not tell: %+v", f)
		}
		if f.Event != nil && (f.Event.ID == "" || f.Event.Time.IsZero() || !strings.HasPrefix(f.Event.File, x.dir)) {
			x.Errorf("a finding whose event is not told: %+v", *f.Event)
		}
	}
	want := trail.Clean
	if len(codes) > 0 {
		want = trail.Findings
	}
	if !slices.Equal(got, codes) || r.Verdict != want {
		var text strings.Builder
		x.ok(r.WriteText(&text))
		x.Fatalf("want %s with findings %q, got\n%s", want, codes, text.String())
	}
}

// rewrite changes the records in CloudTrail's files; nil takes one away.
func (x *kit) rewrite(change func(map[string]any) map[string]any) {
	x.Helper()
	x.ok(x.aws.Local.DeliverTrail())
	x.ok(filepath.WalkDir(x.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var file struct{ Records []map[string]any }
		if err := json.Unmarshal(unpack(x.T, path), &file); err != nil {
			return err
		}
		var kept []map[string]any
		for _, r := range file.Records {
			if r = change(r); r != nil {
				kept = append(kept, r)
			}
		}
		data, err := json.Marshal(map[string]any{"Records": append([]map[string]any{}, kept...)})
		if err != nil {
			return err
		}
		return os.WriteFile(path, pack(x.T, data), 0o600)
	}))
}

// drop takes the events of a name out of the files.
func (x *kit) drop(name string) {
	x.Helper()
	dropped := 0
	x.rewrite(func(r map[string]any) map[string]any {
		if r["eventName"] != name {
			return r
		}
		dropped++
		return nil
	})
	if dropped == 0 {
		x.Fatalf("no event is called %s", name)
	}
}

func unpack(t testing.TB, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func pack(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}
