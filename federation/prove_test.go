package federation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"agentkeys/policy"
)

// hardenedAccount is an account in which everything is as it should be.
func hardenedAccount(t testing.TB) *account {
	t.Helper()
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Hardened), nil)
	return a
}

func find(t *testing.T, r *Report, id, actor string) *Probe {
	t.Helper()
	for _, p := range r.Probes {
		if p.ID == id && p.Actor == actor {
			return p
		}
	}
	t.Fatalf("the report has no probe %s of %s", id, actor)
	return nil
}

// TestVerdictRestsOnEveryProbe takes a sound report and spoils one probe at a time.
func TestVerdictRestsOnEveryProbe(t *testing.T) {
	a := hardenedAccount(t)
	r := prove(t, a.proof(t))
	if r.Verdict != Proven || verdict(r.Probes, r.Tenants) != Proven {
		t.Fatalf("verdict %s, want %s", r.Verdict, Proven)
	}
	if len(r.Probes) < 110 {
		t.Errorf("%d probes, want at least 110", len(r.Probes))
	}
	for _, p := range r.Probes {
		for result, want := range map[Result]Verdict{NotShown: Inconclusive, Contrary: Broken} {
			p.Result = result
			if got := verdict(r.Probes, r.Tenants); got != want {
				t.Errorf("%s of %s is %s: verdict %s, want %s", p.ID, p.Actor, result, got, want)
			}
		}
		p.Result = AsExpected
	}
	for i, p := range r.Probes {
		if !slices.Contains(append(indispensable, "control.untagged_token"), p.ID) {
			continue
		}
		if got := verdict(slices.Delete(slices.Clone(r.Probes), i, i+1), r.Tenants); got != Inconclusive {
			t.Errorf("without %s of %s: verdict %s, want %s", p.ID, p.Actor, got, Inconclusive)
		}
	}
	if got := verdict(nil, nil); got != Inconclusive {
		t.Errorf("verdict of nothing: %s, want %s", got, Inconclusive)
	}
}

func TestBrokenOutweighsUnobserved(t *testing.T) {
	probes := []*Probe{{Result: NotShown}, {Result: Contrary}, {Result: NotShown}}
	if got := verdict(probes, nil); got != Broken {
		t.Errorf("verdict %s, want %s", got, Broken)
	}
}

// TestRefusalsThatProveNothing puts something else in the place of S3's refusal.
func TestRefusalsThatProveNothing(t *testing.T) {
	answers := map[string]recorded{
		"no such key":  {404, "NoSuchKey", "The specified key does not exist."},
		"expired":      {400, "ExpiredToken", "The provided token has expired."},
		"signature":    {403, "SignatureDoesNotMatch", "The request signature we calculated does not match"},
		"clock":        {403, "RequestTimeTooSkewed", "The difference is too large."},
		"region":       {400, "AuthorizationHeaderMalformed", "the region is wrong"},
		"redirect":     {301, "PermanentRedirect", "Use the specified endpoint."},
		"failure":      {500, "InternalError", "We encountered an internal error."},
		"throttle":     {503, "SlowDown", "Please reduce your request rate."},
		"no bucket":    {404, "NoSuchBucket", "The specified bucket does not exist"},
		"VPC endpoint": {403, "AccessDenied", s3Message("s3:GetObject", "with an explicit deny in a VPC endpoint policy")},
		"other object": {200, "", ""},
		"time-out":     {},
	}
	a := hardenedAccount(t)
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			hit := false
			a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
				if actor != "bob" || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/bots/"+walletA+"/") {
					return false
				}
				hit = true
				if w == nil {
					return true
				}
				if answer.status == http.StatusOK {
					fmt.Fprint(w, "something else")
				} else {
					answer.s3(w)
				}
				return true
			}
			p := a.proof(t)
			if answer.status == 0 {
				p.Target.HTTPClient = timingOut{a, a.intercept}
				a.intercept = nil
			}
			r := prove(t, p)
			if !hit {
				t.Fatal("bob never asked for alice's object")
			}
			if r.Verdict != Inconclusive {
				t.Errorf("verdict %s, want %s", r.Verdict, Inconclusive)
			}
			if p := find(t, r, "foreign.get", "bob"); p.Result != NotShown || p.Do == "" {
				t.Errorf("foreign.get is %s, to do %q: want %s and something to do", p.Result, p.Do, NotShown)
			}
			if len(r.Unobserved) == 0 {
				t.Error("the report names no gap")
			}
		})
	}
}

// timingOut is a client whose requests time out where match says so.
type timingOut struct {
	*account
	match func(actor string, w http.ResponseWriter, r *http.Request) bool
}

func (c timingOut) Do(r *http.Request) (*http.Response, error) {
	if c.match(c.actorOf(r), nil, r) {
		return nil, &url.Error{Op: "Get", URL: r.URL.String(), Err: context.DeadlineExceeded}
	}
	return http.DefaultClient.Do(r)
}

// TestControlsThatFail: each refusal is right, and one control is missing.
func TestControlsThatFail(t *testing.T) {
	path := func(tag string) string { return "/bots/" + tag + "/" }
	own := func(r *http.Request, tag, method string) bool {
		return r.Method == method && strings.Contains(r.URL.Path, path(tag))
	}
	sts := func(r *http.Request) bool { return r.URL.Path == "/" && r.Method == http.MethodPost }
	denied := recorded{403, "AccessDenied", "Access Denied"}
	for _, test := range []struct {
		name   string
		match  func(actor string, r *http.Request) bool
		answer recorded
		want   Verdict
		id     string // a probe that must not count, or that is contrary
		actor  string
		result Result
	}{
		{"the owner cannot read its object",
			func(actor string, r *http.Request) bool { return actor == "alice" && own(r, walletA, http.MethodGet) },
			recorded{404, "NoSuchKey", "x"}, Inconclusive, "foreign.get", "bob", NotShown},
		{"the owner's read fails",
			func(actor string, r *http.Request) bool { return actor == "alice" && own(r, walletA, http.MethodGet) },
			recorded{500, "InternalError", "x"}, Inconclusive, "foreign.put", "bob", NotShown},
		{"the owner is refused",
			func(actor string, r *http.Request) bool { return actor == "alice" && own(r, walletA, http.MethodGet) },
			denied, Broken, "own.get", "alice", Contrary},
		{"the stranger's own put fails",
			func(actor string, r *http.Request) bool { return actor == "bob" && own(r, walletB, http.MethodPut) },
			recorded{503, "SlowDown", "x"}, Inconclusive, "foreign.put", "bob", NotShown},
		{"the stranger's own delete fails",
			func(actor string, r *http.Request) bool { return actor == "bob" && own(r, walletB, http.MethodDelete) },
			recorded{503, "SlowDown", "x"}, Inconclusive, "foreign.delete", "bob", NotShown},
		{"STS fails for an owner",
			func(actor string, r *http.Request) bool { return actor == "alice" && sts(r) },
			recorded{500, "InternalFailure", "x"}, Inconclusive, "session", "alice", NotShown},
		{"STS cannot validate an owner's token",
			func(actor string, r *http.Request) bool { return actor == "alice" && sts(r) },
			recorded{400, "InvalidIdentityToken", "x"}, Inconclusive, "session", "alice", NotShown},
		{"STS refuses an owner's token",
			func(actor string, r *http.Request) bool { return actor == "alice" && sts(r) },
			recorded{403, "AccessDenied", "Not authorized to perform sts:TagSession"}, Broken, "session", "alice", Contrary},
		{"STS cannot validate the control",
			func(actor string, r *http.Request) bool { return actor == "untagged" && sts(r) },
			recorded{400, "InvalidIdentityToken", "x"}, Inconclusive, "control.untagged_token", "untagged", NotShown},
		{"STS is throttled at the control",
			func(actor string, r *http.Request) bool { return actor == "untagged" && sts(r) },
			recorded{400, "Throttling", "x"}, Inconclusive, "control.untagged_token", "untagged", NotShown},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := hardenedAccount(t)
			a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
				if !test.match(actor, r) {
					return false
				}
				if sts(r) {
					test.answer.sts(w)
				} else {
					test.answer.s3(w)
				}
				return true
			}
			r := prove(t, a.proof(t))
			if r.Verdict != test.want {
				t.Errorf("verdict %s, want %s", r.Verdict, test.want)
			}
			if p := find(t, r, test.id, test.actor); p.Result != test.result {
				t.Errorf("%s of %s is %s (%s), want %s", p.ID, p.Actor, p.Result, p.Sentence, test.result)
			}
		})
	}
}

// TestRefusedButDone: S3 says AccessDenied and does it all the same.
func TestRefusedButDone(t *testing.T) {
	for _, test := range []struct{ id, method, part, after string }{
		{"foreign.put", http.MethodPut, "-overwrite", "changed"},
		{"foreign.delete", http.MethodDelete, "-delete", "gone"},
		{"near.copy_onto", http.MethodPut, "-copy-onto", "changed"},
		{"foreign.delete_version", http.MethodDelete, "-delete-version", "gone"},
	} {
		t.Run(test.id, func(t *testing.T) {
			a := hardenedAccount(t)
			admin := a.aws.S3
			a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
				if actor != "bob" || r.Method != test.method || !strings.HasSuffix(r.URL.Path, test.part) ||
					!strings.Contains(r.URL.Path, walletA) {
					return false
				}
				key := strings.TrimPrefix(r.URL.Path, "/"+a.config.Bucket+"/")
				var err error
				if test.after == "gone" {
					_, err = admin.DeleteObject(r.Context(), &s3.DeleteObjectInput{Bucket: &a.config.Bucket, Key: &key})
				} else {
					_, err = admin.PutObject(r.Context(), &s3.PutObjectInput{
						Bucket: &a.config.Bucket, Key: &key, Body: strings.NewReader("spoilt"),
					})
				}
				if err != nil {
					t.Error(err)
				}
				recorded{403, "AccessDenied", "Access Denied"}.s3(w)
				return true
			}
			r := prove(t, a.proof(t))
			if p := find(t, r, test.id, "bob"); p.After != test.after || p.Result != Contrary {
				t.Errorf("after %q, result %s (%s): want %q and %s", p.After, p.Result, p.Sentence, test.after, Contrary)
			}
			if r.Verdict != Broken {
				t.Errorf("verdict %s, want %s", r.Verdict, Broken)
			}
		})
	}
}

// TestNormalisingServer: a server that resolves ".." hands over the other's object.
func TestNormalisingServer(t *testing.T) {
	a := hardenedAccount(t)
	a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
		if actor != "bob" || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/../") {
			return false
		}
		_, key, _ := strings.Cut(r.URL.Path, "/../")
		key = "bots/" + key
		out, err := a.aws.S3.GetObject(r.Context(), &s3.GetObjectInput{Bucket: &a.config.Bucket, Key: &key})
		if err != nil {
			t.Error(err)
			return false
		}
		defer out.Body.Close()
		_, _ = fmt.Fprint(w, readAll(t, out))
		return true
	}
	r := prove(t, a.proof(t))
	if p := find(t, r, "near.dots_get", "bob"); p.Result != Contrary || r.Verdict != Broken {
		t.Errorf("near.dots_get is %s, verdict %s: want %s and %s", p.Result, r.Verdict, Contrary, Broken)
	}
}

// TestTellingMissingFromExisting: 404 for what is missing and 403 for what exists
// lets a stranger find out names.
func TestTellingMissingFromExisting(t *testing.T) {
	for id, method := range map[string]string{"near.get_missing": http.MethodGet, "near.head_missing": http.MethodHead} {
		a := hardenedAccount(t)
		a.intercept = func(actor string, w http.ResponseWriter, r *http.Request) bool {
			if actor != "bob" || r.Method != method || !strings.HasSuffix(r.URL.Path, "/never-written") {
				return false
			}
			recorded{404, "NoSuchKey", "The specified key does not exist."}.s3(w)
			return true
		}
		if r := prove(t, a.proof(t)); r.Verdict != Broken || find(t, r, id, "bob").Result != Contrary {
			t.Errorf("%s: verdict %s, want %s", id, r.Verdict, Broken)
		}
	}
}

// TestHardenedHoldsAgainstARoleThatMayDoEverything is what the backstops are for.
// They keep the tenants' objects apart. They do not keep such a role from the
// bucket's settings, and the proof says so.
func TestHardenedHoldsAgainstARoleThatMayDoEverything(t *testing.T) {
	a := newAccount(t)
	a.setUp(t, render(t, a.config, Hardened), map[string]*policy.Document{"all": wide()})
	r := prove(t, a.proof(t))
	settings := []string{"near.bucket_policy", "near.bucket_acl", "near.list_buckets"}
	for _, p := range r.Probes {
		want := AsExpected
		if slices.Contains(settings, p.ID) {
			want = Contrary
		}
		if p.Result != want {
			t.Errorf("%s of %s is %s, want %s", p.ID, p.Actor, p.Result, want)
		}
	}
	if r.Verdict != Broken {
		t.Errorf("verdict %s, want %s", r.Verdict, Broken)
	}
	if p := find(t, r, "foreign.get", "bob"); p.RefusedBy == nil || !p.RefusedBy.Explicit || p.RefusedBy.Layer != "resource-based policy" {
		t.Errorf("foreign.get was refused by %v, want an explicit deny of the bucket policy", p.RefusedBy)
	}
}

// TestOwnerLockedOut: a policy that AWS takes and that gives nobody anything.
func TestOwnerLockedOut(t *testing.T) {
	a := newAccount(t)
	d := render(t, a.config, Plain)
	d.BucketPolicy.Version = "2008-10-17"
	a.setUp(t, d, nil)
	r := prove(t, a.proof(t))
	if r.Verdict != Broken || r.AtAGlance.Own != Denied || !strings.Contains(r.Truth, "proves nothing") {
		t.Errorf("%s %+v %q, want %s", r.Verdict, r.AtAGlance, r.Truth, Broken)
	}
	if p := find(t, r, "foreign.get", "bob"); p.Result != NotShown {
		t.Errorf("foreign.get is %s, want %s: the session reaches nothing at all", p.Result, NotShown)
	}
}

func TestTenantsSeedForThemselves(t *testing.T) {
	a := hardenedAccount(t)
	p := a.proof(t)
	p.Seeder = nil
	if r := prove(t, p); r.Verdict != Proven || len(r.Leftovers) > 0 {
		t.Errorf("verdict %s, left behind %q: want %s and nothing", r.Verdict, r.Leftovers, Proven)
	}
	if left := a.objects(t); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestControlIsNeeded(t *testing.T) {
	a := hardenedAccount(t)
	for name, control := range map[string]func(context.Context) (string, error){
		"none":              nil,
		"fails":             func(context.Context) (string, error) { return "", errors.New("no key") },
		"a tenant's token":  a.issuer.minter(t, walletA),
		"another audience":  a.issuer.minter(t, walletA, withoutTags, func(c map[string]any) { c["aud"] = "x" }),
		"another subject":   a.issuer.minter(t, walletA, withoutTags, func(c map[string]any) { c["sub"] = "x" }),
		"no token at all":   func(context.Context) (string, error) { return "hello", nil },
		"another signature": newIssuer(t).minter(t, walletA, withoutTags, func(c map[string]any) { c["iss"] = a.issuer.url }),
	} {
		p := a.proof(t)
		p.Control = control
		r := prove(t, p)
		if r.Verdict != Inconclusive || len(r.Unobserved) != 1 || r.Unobserved[0].Do == "" {
			t.Errorf("%s: verdict %s, gaps %+v: want %s and one gap", name, r.Verdict, r.Unobserved, Inconclusive)
		}
	}
}

// TestNothingElseIsTouched: objects that were there before are there afterwards,
// whether the isolation holds or not.
func TestNothingElseIsTouched(t *testing.T) {
	for _, open := range []bool{false, true} {
		a := newAccount(t)
		inline := map[string]*policy.Document{}
		if open {
			inline["all"] = wide()
		}
		a.setUp(t, render(t, a.config, Plain), inline)
		before := []string{"bots/" + walletA + "/mine", "bots/" + walletB + "/mine", "bots/top", "other/thing"}
		for _, key := range before {
			_, err := a.aws.S3.PutObject(t.Context(), &s3.PutObjectInput{
				Bucket: &a.config.Bucket, Key: &key, Body: strings.NewReader(key),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		prove(t, a.proof(t))
		if after := a.objects(t); !slices.Equal(after, before) {
			t.Errorf("open %v: objects %q, want %q", open, after, before)
		}
	}
}

// TestInterruptedProofCleansUp: the context ends in the middle.
func TestInterruptedProofCleansUp(t *testing.T) {
	a := hardenedAccount(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a.intercept = func(actor string, _ http.ResponseWriter, r *http.Request) bool {
		if actor == "bob" && r.Method == http.MethodGet {
			cancel()
		}
		return false
	}
	r, err := Prove(ctx, a.proof(t))
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != Inconclusive {
		t.Errorf("verdict %s, want %s", r.Verdict, Inconclusive)
	}
	a.intercept = nil
	if left := a.objects(t); len(left) > 0 || len(r.Leftovers) > 0 {
		t.Errorf("left behind: %q, reported %q", left, r.Leftovers)
	}
}

// TestUnreachableTarget: nobody there at all.
func TestUnreachableTarget(t *testing.T) {
	a := hardenedAccount(t)
	p := a.proof(t)
	p.Target.STS, p.Target.S3, p.Seeder = "http://127.0.0.1:1", "http://127.0.0.1:1", nil
	r := prove(t, p)
	if r.Verdict != Inconclusive || r.AtAGlance.Session == Denied {
		t.Errorf("verdict %s, %+v: want %s", r.Verdict, r.AtAGlance, Inconclusive)
	}
}

// TestWrongTag: the issuer tags one tenant as the other.
func TestWrongTag(t *testing.T) {
	a := hardenedAccount(t)
	p := a.proof(t)
	p.Tenants[0].Token = a.issuer.minter(t, walletB)
	r := prove(t, p)
	if r.Verdict != Broken || causeNames(r) != "tags-claim" {
		t.Errorf("verdict %s, causes %q: want %s and the token", r.Verdict, causeNames(r), Broken)
	}
}

func TestProofIsChecked(t *testing.T) {
	token := func(context.Context) (string, error) { return "", nil }
	good := Proof{Config: testConfig(), Tenants: [2]Tenant{{"a", walletA, token}, {"b", walletB, token}}}
	for name, change := range map[string]func(*Proof){
		"config":        func(p *Proof) { p.Config.Bucket = "" },
		"same tag":      func(p *Proof) { p.Tenants[1].Tag = walletA },
		"same name":     func(p *Proof) { p.Tenants[1].Name = "a" },
		"no token":      func(p *Proof) { p.Tenants[0].Token = nil },
		"no name":       func(p *Proof) { p.Tenants[0].Name = "" },
		"taken name":    func(p *Proof) { p.Tenants[0].Name = "untagged" },
		"nobody's name": func(p *Proof) { p.Tenants[0].Name = "anonymous" },
		"escape":        func(p *Proof) { p.Tenants[0].Name = "a\x1b[2J" },
		"capitals":      func(p *Proof) { p.Tenants[0].Tag = strings.ToUpper(walletA) },
		"slash in tag":  func(p *Proof) { p.Tenants[0].Tag = "a/b" },
		"empty tag":     func(p *Proof) { p.Tenants[0].Tag = "" },
		"star":          func(p *Proof) { p.Tenants[0].Tag = "*" },
		"bad endpoint":  func(p *Proof) { p.Target.S3 = "127.0.0.1:9000" },
		"public name":   func(p *Proof) { p.Target.PublicBucket = "tenant:another" },
		"file endpoint": func(p *Proof) { p.Target.STS = "file:///x" },
	} {
		p := good
		change(&p)
		if _, err := Prove(t.Context(), p); err == nil {
			t.Errorf("%s: the proof is taken", name)
		}
	}
}
