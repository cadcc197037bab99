package federation

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"agentkeys/policy"
)

// noon is some whole second.
var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func revocation(t interface{ Fatal(...any) }, tenant string, since time.Time) Revocation {
	r, err := NewRevocation(tenant, since)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestGoldenRevocation(t *testing.T) {
	r := revocation(t, walletA, noon.Add(time.Millisecond))
	text, err := r.JSON(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	command, err := r.CLI(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "revocation.txt", []byte(text+command+"\n"))
	block, err := NewBlock(walletA)
	if err != nil {
		t.Fatal(err)
	}
	if text, err = block.JSON(testConfig()); err != nil {
		t.Fatal(err)
	}
	golden(t, "block.txt", []byte(text))
}

// A revocation denies exactly the requests of the tenant's sessions that were issued
// before its time, and a block all of the tenant's: none of another tenant's, however like its tag is, none without a
// tag, and none of a principal whose keys were never issued.
func TestRevocationDeniesExactlyTheTenantsOldSessions(t *testing.T) {
	c := testConfig()
	everything, err := policy.Compile("everything", document(policy.Statement{Effect: policy.Allow, Action: []string{"*"}, Resource: []string{"*"}}))
	if err != nil {
		t.Fatal(err)
	}
	tags := []string{walletA, walletB, strings.ToUpper(walletA), walletA + "0", walletA[:41], walletA[2:], "*", "0x*", "",
		walletA + "/", " " + walletA, strings.Repeat("a", 64)}
	rapid.Check(t, func(t *rapid.T) {
		r := revocation(t, walletA, noon.Add(time.Duration(rapid.Int64Range(-2e9, 2e9).Draw(t, "since"))))
		if rapid.Bool().Draw(t, "blocked") {
			r = Revocation{Tenant: walletA, Blocked: true}
		}
		deny, err := policy.Compile("revocation", r.Document(c))
		if err != nil {
			t.Fatal(err)
		}
		action := rapid.SampledFrom([]string{"s3:GetObject", "s3:ListBucket", "sts:AssumeRole", "iam:PutRolePolicy", "ses:SendEmail"}).Draw(t, "action")
		resource := rapid.SampledFrom([]string{c.BucketARN(), c.BucketARN() + "/bots/" + walletA + "/x", "*"}).Draw(t, "resource")
		request := sessionRequest(c, "", action, resource)
		tag, tagged := rapid.SampledFrom(tags).Draw(t, "tag"), rapid.Bool().Draw(t, "tagged")
		if tagged {
			key := rapid.SampledFrom([]string{c.TagKey, strings.ToUpper(c.TagKey)}).Draw(t, "key")
			request.Context.Set("aws:PrincipalTag/"+key, tag)
		}
		if rapid.Bool().Draw(t, "another tag") {
			request.Context.Set("aws:PrincipalTag/team", walletA)
		}
		issued, temporary := noon.Add(time.Duration(rapid.Int64Range(-4, 4).Draw(t, "issued"))*time.Second), rapid.Bool().Draw(t, "temporary")
		if temporary {
			request.Context.SetTime("aws:TokenIssueTime", issued)
		}
		got := policy.Evaluate(request, &policy.Set{Identity: []*policy.Policy{everything, deny}})
		want := tagged && tag == walletA && (r.Blocked || temporary && issued.Before(r.Since))
		if got.Allowed == want || got.Explicit != want {
			t.Fatalf("since %v: allowed %v, explicit %v, want it denied: %v", r.Since, got.Allowed, got.Explicit, want)
		}
	})
}

// Sessions have the beginning of their second as the time of issue. Whatever the
// moment, every session from up to then is out, and every one from the revocation's
// time on is in.
func TestRevocationAtTheBoundaryOfASecond(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := noon.Add(time.Duration(rapid.Int64Range(0, 3e9).Draw(t, "now")))
		tagOf := func(moment time.Time) time.Time { return moment.Truncate(time.Second) }
		r := revocation(t, walletA, NextSecond(now))
		earlier := now.Add(-time.Duration(rapid.Int64Range(0, 3e9).Draw(t, "earlier")))
		if !tagOf(earlier).Before(r.Since) {
			t.Fatalf("revoked at %v for %v: a session issued at %v gets in", now, r.Since, earlier)
		}
		later := r.Since.Add(time.Duration(rapid.Int64Range(0, 3e9).Draw(t, "later")))
		if tagOf(later).Before(r.Since) {
			t.Fatalf("revoked for %v: a session issued at %v is shut out", r.Since, later)
		}
		if r.Since.Sub(now) > time.Second {
			t.Fatalf("revoked at %v for %v, more than a second on", now, r.Since)
		}
		given := revocation(t, walletA, now)
		if before := now.Add(-time.Duration(rapid.Int64Range(1, 3e9).Draw(t, "before"))); !tagOf(before).Before(given.Since) {
			t.Fatalf("sessions from before %v: one issued at %v gets in", now, before)
		}
	})
}

func TestCheckTenant(t *testing.T) {
	omni := strings.Repeat("0123456789abcdef", 4)
	for _, good := range []string{walletA, walletB, omni} {
		if err := CheckTenant(good); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct{ tag, want string }{
		{"0x52908400098527886E0F7030069857D2E4169EE7", "as the broker stores it, 0x52908400098527886e0f7030069857d2e4169ee7, got"},
		{"bob", "an omni account, the tenant of who has no wallet"},
		{strings.ToUpper(omni), "as the broker stores it, " + omni},
		{"0X52908400098527886e0f7030069857d2e4169ee7", "as the broker stores it, 0x5290"},
		{"", "want 0x and 40"}, {"*", "want 0x and 40"}, {walletA + "\n", "want 0x and 40"}, {walletA[:41], "want 0x and 40"},
		{walletA + "0", "want 0x and 40"}, {walletA[2:], "want 0x and 40"}, {"0x" + omni, "want 0x and 40"},
		{"0x5290840009852788\u212a" + walletA[17:], "want 0x and 40"}, {"${aws:PrincipalTag/x}", "want 0x and 40"},
	} {
		err := CheckTenant(c.tag)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: error %v, want one line with %q", c.tag, err, c.want)
		}
		if _, err := NewRevocation(c.tag, noon); err == nil {
			t.Errorf("%q can be revoked", c.tag)
		}
	}
}

// What is read back says what was written, and nothing that says more or less is taken
// for a revocation.
func TestReadRevocation(t *testing.T) {
	c := testConfig()
	r := revocation(t, walletA, noon)
	edits := map[string]func(*policy.Statement){
		"allows":         func(s *policy.Statement) { s.Effect = policy.Allow },
		"one action":     func(s *policy.Statement) { s.Action = []string{"s3:GetObject"} },
		"one resource":   func(s *policy.Statement) { s.Resource = []string{c.BucketARN()} },
		"another tenant": func(s *policy.Statement) { s.Condition[0].Values = []string{walletB} },
		"two tenants":    func(s *policy.Statement) { s.Condition[0].Values = append(s.Condition[0].Values, walletB) },
		"another tag":    func(s *policy.Statement) { s.Condition[0].Key = "aws:PrincipalTag/team" },
		"no tag":         func(s *policy.Statement) { s.Condition = s.Condition[1:] },
		"no time":        func(s *policy.Statement) { s.Condition = s.Condition[:1] },
		"two times": func(s *policy.Statement) {
			s.Condition[1].Values = append(s.Condition[1].Values, "2026-06-01T00:00:00Z")
		},
		"another clock": func(s *policy.Statement) { s.Condition[1].Key = "aws:CurrentTime" },
		"later":         func(s *policy.Statement) { s.Condition[1].Operator = "DateGreaterThan" },
		"half a second": func(s *policy.Statement) { s.Condition[1].Values = []string{"2026-05-01T12:00:00.5Z"} },
		"another zone":  func(s *policy.Statement) { s.Condition[1].Values = []string{"2026-05-01T12:00:00+02:00"} },
		"a day alone":   func(s *policy.Statement) { s.Condition[1].Values = []string{"2026-05-01"} },
	}
	block := Revocation{Tenant: walletA, Blocked: true}
	if got, err := readRevocation(c, block.Policy(), block.Document(c)); err != nil || got != block {
		t.Errorf("got %+v (%v), want %+v", got, err, block)
	}
	for name, edit := range edits {
		d := block.Document(c)
		if d.Statements[0].Condition = append(d.Statements[0].Condition, r.Document(c).Statements[0].Condition[1]); name != "no time" {
			edit(&d.Statements[0])
		}
		if got, err := readRevocation(c, block.Policy(), d); err == nil {
			t.Errorf("%s and blocked: taken for %+v", name, got)
		}
	}
	if got, err := readRevocation(c, r.Policy(), r.Document(c)); err != nil || got != r {
		t.Errorf("got %+v (%v), want %+v", got, err, r)
	}
	for name, edit := range edits {
		d := r.Document(c)
		edit(&d.Statements[0])
		if got, err := readRevocation(c, r.Policy(), d); err == nil {
			t.Errorf("%s: taken for %+v", name, got)
		}
	}
	d := r.Document(c)
	d.Statements = append(d.Statements, d.Statements[0])
	if got, err := readRevocation(c, r.Policy(), d); err == nil {
		t.Errorf("two statements: taken for %+v", got)
	}
	for _, name := range []string{"agentkeys-revoked-", "agentkeys-revoked-" + walletB, walletA, "old"} {
		if got, err := readRevocation(c, name, r.Document(c)); err == nil {
			t.Errorf("policy %q: taken for %+v", name, got)
		}
	}
}

// Whatever is read as a revocation says the very same when it is written anew.
func FuzzReadRevocation(f *testing.F) {
	c := testConfig()
	r := revocation(f, walletA, noon)
	text, err := r.JSON(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Policy(), text)
	block, err := (Revocation{Tenant: walletA, Blocked: true}).JSON(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(r.Policy(), block)
	f.Add(r.Policy(), strings.Replace(text, "12:00:00Z", "12:00:00.000Z", 1))
	f.Add(r.Policy(), strings.Replace(text, `"Deny"`, `"Allow"`, 1))
	f.Add("old", oldInline)
	f.Fuzz(func(t *testing.T, name, text string) {
		d, err := policy.Parse([]byte(text))
		if err != nil {
			return
		}
		got, err := readRevocation(c, name, d)
		if err != nil {
			return
		}
		if got.Policy() != name || !same(got.Document(c), d) || CheckTenant(got.Tenant) != nil || got.Since.Nanosecond() != 0 {
			t.Errorf("%q and %q are read as %+v", name, text, got)
		}
	})
}

// check finds the same with revocations in force as without, whoever is revoked: it
// locks no owner out, and it hides nothing. It says that they are there.
func TestCheckWithRevocations(t *testing.T) {
	tenants := append(slices.Clone(genericTenants), walletA)
	revoked := func(tenant string) (Revocation, error) { return NewRevocation(tenant, noon) }
	const revokedAdvice = "sessions of tenant " + walletA + " from before 2026-05-01T12:00:00Z are revoked; that can go at 2026-05-02T00:00:00Z"
	const blockedAdvice = "all sessions of tenant " + walletA + ", old and new, are blocked; agentkeys revoke --unblock lets new ones in"
	for _, c := range []struct {
		faults []Fault
		make   func(tenant string) (Revocation, error)
		want   string
	}{
		{nil, revoked, revokedAdvice}, {[]Fault{FaultTrustPolicy}, revoked, revokedAdvice}, {[]Fault{FaultInlinePolicy}, revoked, revokedAdvice},
		{nil, NewBlock, blockedAdvice}, {[]Fault{FaultTrustPolicy}, NewBlock, blockedAdvice}, {[]Fault{FaultInlinePolicy}, NewBlock, blockedAdvice},
	} {
		faults := c.faults
		form := Plain
		if faults == nil {
			form = Hardened
		}
		a := brokenAccount(t, form, faults...)
		now := noon.Add(time.Minute)
		before, err := checkAt(a, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, tenant := range tenants {
			r, err := c.make(tenant)
			if err != nil {
				t.Fatal(err)
			}
			a.Roles[0].Inline = append(a.Roles[0].Inline, Document{
				Name: "role " + a.Config.Role + ", inline policy " + r.Policy(), Policy: r.Document(a.Config),
			})
		}
		after, err := checkAt(a, now)
		if err != nil {
			t.Fatal(err)
		}
		if len(before.Findings) != len(after.Findings) || len(before.Findings) < len(faults) || faults == nil && len(before.Findings) > 0 {
			t.Fatalf("%v: findings %+v with revocations, want %+v as without", faults, after.Findings, before.Findings)
		}
		for i := range before.Findings {
			if b, a := before.Findings[i], after.Findings[i]; b.Code != a.Code || b.Ambiguous != a.Ambiguous {
				t.Errorf("%v: finding %s (ambiguous %v) with revocations, want %s (%v)", faults, a.Code, a.Ambiguous, b.Code, b.Ambiguous)
			}
		}
		if len(after.Unread) != len(before.Unread) || len(after.Advice) != len(before.Advice)+len(tenants) {
			t.Errorf("%v: unread %q, advice %q", faults, after.Unread, after.Advice)
		}
		if !slices.Contains(after.Advice, c.want) {
			t.Errorf("advice %q, want %q", after.Advice, c.want)
		}
	}
}
