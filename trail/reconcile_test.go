package trail_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/go-jose/go-jose/v4"

	"agentkeys/agentkeystest"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/token"
	"agentkeys/trail"
)

const exchangeAndTag = `"sts:AssumeRoleWithWebIdentity","sts:TagSession"`

// What goes its proper way leaves nothing to find: credentials by the broker, a token
// that its bearer exchanges, a mint that STS refuses.
func TestCleanTrail(t *testing.T) {
	x := newKit(t)
	x.useMinted(x.minted())
	x.useMinted(x.minted())
	own := x.ownToken(x.owner)
	x.useGiven(x.exchanged(own, "mine"))
	x.useGiven(x.exchanged(own, "mine-again"))
	x.trust(`"sts:AssumeRoleWithWebIdentity"`) // not TagSession
	x.refusedMint()
	if _, err := x.exchange(own, "mine"); err == nil {
		t.Fatal("want STS to refuse")
	}
	r := x.reconcile()
	x.wantFindings(r)
	c := r.Counts
	if c.Sessions != 4 || c.ByKey != 2 || c.ByToken != 2 || c.Refused != 2 || c.Uses != 12 || c.UsedKeys != 4 || c.Records != 3 || c.Tokens != 1 || c.Pending != 0 || c.DataEvents < 8 {
		t.Errorf("counts: %+v", c)
	}
	// Without the provider's name every provider is taken for the broker's.
	x.wantFindings(x.reconcile(func(s *trail.Scope) { s.Provider = "" }))
}

// Whoever has the issuer's key makes sessions that no record accounts for.
func TestTokensBehindTheBrokersBack(t *testing.T) {
	x := newKit(t)
	x.useMinted(x.minted())
	x.exchanged(x.behind(x.owner, x.owner), "proof-a")
	r := x.reconcile()
	x.wantFindings(r, trail.Unrecorded)
	if f := r.Findings[0]; f.SessionName != "proof-a" || f.Severity != trail.High || !strings.HasPrefix(f.AccessKeyID, "ASIA") {
		t.Errorf("got %+v", f)
	}
	x.useGiven(x.exchanged(x.behind(x.daemon, x.owner), "proof-b"))
	r = x.reconcile()
	x.wantFindings(r, trail.ForeignUse, trail.Unrecorded, trail.Unrecorded)
	if f := r.Findings[0]; f.Uses != 3 || f.Severity != trail.Critical || f.SessionName != "proof-b" {
		t.Errorf("got %+v", f)
	}
}

// A token for a subject that was given one, with another tenant's tag, is not what
// was given out.
func TestTokenWithAnotherTag(t *testing.T) {
	x := newKit(t)
	x.ownToken(x.daemon)
	x.exchanged(x.behind(x.daemon, x.owner), "mine")
	r := x.reconcile()
	x.wantFindings(r, trail.Mismatch)
	if f := r.Findings[0]; !strings.Contains(f.Found, strings.ToLower(x.owner.Address())) || !strings.Contains(f.Expected, strings.ToLower(x.daemon.Address())) {
		t.Errorf("got %+v", f)
	}
}

// A token that was given out long ago accounts for nothing.
func TestTokenThatHasEnded(t *testing.T) {
	x := newKit(t)
	x.ownToken(x.owner)
	x.Clock.Move(10*time.Minute + time.Second)
	x.exchanged(x.behind(x.owner, x.owner), "mine")
	x.wantFindings(x.reconcile(), trail.Unrecorded)
	x.wantFindings(x.reconcile(func(s *trail.Scope) { s.TokenLife += time.Minute }))
}

// A record that a token was refused accounts for no session.
func TestTokenThatWasNotGiven(t *testing.T) {
	x := newKit(t)
	x.exchanged(x.ownToken(x.owner), "mine")
	x.wantFindings(x.reconcile())
	x.tamper = func(all []audit.Record) []audit.Record {
		for i := range all {
			if all[i].Action == audit.ActionMintOIDC {
				all[i].Outcome = audit.Refused
			}
		}
		return all
	}
	x.wantFindings(x.reconcile(), trail.Unrecorded)
}

// The token of a mint that got out makes a second session, under the same name.
func TestTokenOfAMintExchangedTwice(t *testing.T) {
	x := newKit(t)
	x.useMinted(x.minted())
	stolen := x.aws.Issued()[0].WebIdentity
	name := x.aws.Asked()[0].Get("RoleSessionName")
	x.useGiven(x.exchanged(stolen, name))
	r := x.reconcile()
	x.wantFindings(r, trail.ForeignUse, trail.Duplicate)
	if r.Findings[1].Record == "" || r.Findings[1].SessionName != name {
		t.Errorf("got %+v", r.Findings[1])
	}
}

// A record that was taken away leaves its session without one.
func TestDeletedRecords(t *testing.T) {
	x := newKit(t)
	x.useMinted(x.minted())
	x.tamper = func(all []audit.Record) []audit.Record { return without(audit.Pending)(without(audit.Confirmed)(all)) }
	x.wantFindings(x.reconcile(), trail.ForeignUse, trail.Unrecorded)
	// The outcome alone: what is pending was released to nobody.
	x.tamper = without(audit.Confirmed)
	r := x.reconcile()
	x.wantFindings(r, trail.UnreleasedUsed)
	if f := r.Findings[0]; f.Severity != trail.Critical || f.Uses != 3 || !strings.Contains(f.Expected, audit.Pending) || f.Record == "" {
		t.Errorf("got %+v", f)
	}
	// The intent alone makes no difference.
	x.tamper = without(audit.Pending)
	x.wantFindings(x.reconcile())
}

// STS gave credentials, and its answer was lost: the broker has never seen their id.
func TestUseOfCredentialsWhoseAnswerWasLost(t *testing.T) {
	x := newKit(t)
	x.aws.Intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusOK)
	})
	x.refusedMint()
	r := x.reconcile()
	x.wantFindings(r) // a session that nobody has is none to worry about
	if r.Counts.ByName != 1 {
		t.Errorf("counts: %+v", r.Counts)
	}
	given := x.aws.Issued()[0]
	x.use(given.AccessKeyID, given.SecretAccessKey, given.SessionToken)
	r = x.reconcile()
	x.wantFindings(r, trail.UnreleasedUsed)
	if f := r.Findings[0]; f.AccessKeyID != given.AccessKeyID || !strings.Contains(f.Expected, audit.Quarantined) {
		t.Errorf("got %+v", f)
	}
	// It accounts for no session of that name that is made later, nor without the event
	// for the use of credentials that anybody may have made.
	x.Clock.Move(3 * time.Minute)
	x.aws.Intercept(nil)
	x.drop("AssumeRoleWithWebIdentity")
	x.exchanged(x.behind(x.daemon, x.owner), x.aws.Asked()[0].Get("RoleSessionName"))
	x.wantFindings(x.reconcile(), trail.ForeignUse, trail.Unrecorded)
}

// A record that says nothing happened is contradicted by the session itself.
func TestSessionOfAFailedMint(t *testing.T) {
	x := newKit(t)
	x.aws.Intercept(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(httptest.NewRecorder(), r)
		w.WriteHeader(http.StatusOK)
	})
	x.refusedMint()
	given := x.aws.Issued()[0]
	x.use(given.AccessKeyID, given.SecretAccessKey, given.SessionToken)
	x.tamper = func(all []audit.Record) []audit.Record {
		for i := range all {
			if all[i].Outcome == audit.Quarantined {
				all[i].Outcome = audit.Failed
			}
		}
		return all
	}
	x.wantFindings(x.reconcile(), trail.UnreleasedUsed, trail.Unrecorded)
}

// Credentials that an anchor did not take were released to nobody.
func TestUseOfQuarantinedCredentials(t *testing.T) {
	x := newKit(t, func(c *broker.Config) {
		c.Anchors = append(c.Anchors, broker.Anchor{Name: "broken", Put: func(_ context.Context, entries ...audit.Entry) error {
			for _, e := range entries {
				if e.Outcome == audit.Confirmed && e.CredentialID != "" {
					return errors.New("no")
				}
			}
			return nil
		}})
	})
	x.refusedMint()
	x.wantFindings(x.reconcile())
	given := x.aws.Issued()[0]
	x.use(given.AccessKeyID, given.SecretAccessKey, given.SessionToken)
	r := x.reconcile()
	x.wantFindings(r, trail.UnreleasedUsed)
	if r.Counts.ByKey != 1 || r.Findings[0].AccessKeyID != given.AccessKeyID {
		t.Errorf("got %+v, %+v", r.Counts, r.Findings[0])
	}
	// CloudTrail may leave the access key id out of a use.
	x.rewrite(func(r map[string]any) map[string]any {
		if id := r["userIdentity"].(map[string]any); id["type"] == "AssumedRole" {
			delete(id, "accessKeyId")
		}
		return r
	})
	x.wantFindings(x.reconcile(), trail.UnreleasedUsed)
}

// The data role is assumed by a user whom its trust policy lets in.
func TestRoleAssumedOutside(t *testing.T) {
	x := newKit(t)
	x.minted()
	admin := iam.NewFromConfig(x.admin())
	_, err := admin.CreateUser(t.Context(), &iam.CreateUserInput{UserName: aws.String("mallory")})
	x.ok(err)
	key, err := admin.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: aws.String("mallory")})
	x.ok(err)
	user := "arn:aws:iam::" + agentkeystest.Account + ":user/mallory"
	mallory := sts.NewFromConfig(x.sdk(*key.AccessKey.AccessKeyId, *key.AccessKey.SecretAccessKey, ""))
	assume := &sts.AssumeRoleInput{RoleArn: aws.String(agentkeystest.RoleARN), RoleSessionName: aws.String("mallory")}
	if _, err := mallory.AssumeRole(t.Context(), assume); err == nil {
		t.Fatal("want the role closed to users")
	}
	r := x.reconcile()
	x.wantFindings(r)
	if r.Counts.Refused != 1 {
		t.Errorf("counts: %+v", r.Counts)
	}
	x.trust(exchangeAndTag, `{"Effect":"Allow","Principal":{"AWS":"`+user+`"},"Action":"sts:AssumeRole"}`)
	out, err := mallory.AssumeRole(t.Context(), assume)
	x.ok(err)
	r = x.reconcile()
	x.wantFindings(r, trail.Outside)
	if f := r.Findings[0]; !strings.Contains(f.Found, "AssumeRole by "+user) {
		t.Errorf("got %+v", f)
	}
	x.useGiven(out.Credentials)
	x.wantFindings(x.reconcile(), trail.ForeignUse, trail.Outside)
	// Another provider than the broker's is outside as well.
	x.drop("AssumeRole")
	x.wantFindings(x.reconcile(func(s *trail.Scope) { s.Provider += "/other" }), trail.ForeignUse, trail.Outside, trail.Missing)
}

// A session that is gone from the trail is told, if it is due.
func TestEventTakenAway(t *testing.T) {
	x := newKit(t)
	x.minted()
	_, err := sts.NewFromConfig(x.admin()).GetCallerIdentity(t.Context(), nil)
	x.ok(err)
	x.drop("AssumeRoleWithWebIdentity")
	r := x.reconcile()
	x.wantFindings(r, trail.Missing)
	if f := r.Findings[0]; f.AccessKeyID != x.aws.Given()[0] || f.Record == "" || f.Event != nil {
		t.Errorf("got %+v", f)
	}
	r = x.reconcile(func(s *trail.Scope) { s.Late = time.Minute })
	x.wantFindings(r)
	if r.Counts.Pending != 1 {
		t.Errorf("want one record not due yet, got %+v", r.Counts)
	}
	x.wantFindings(x.reconcile(func(s *trail.Scope) { s.Late, s.Until = time.Minute, x.Clock.Now().Add(time.Hour) }))
}

// Events and records outside the window are matched, and not told.
func TestWindow(t *testing.T) {
	x := newKit(t)
	x.exchanged(x.behind(x.owner, x.owner), "before")
	x.Clock.Move(5 * time.Minute)
	middle := x.Clock.Now()
	own := x.minted()
	x.useMinted(own)
	x.Clock.Move(5 * time.Minute)
	x.useMinted(own)
	x.exchanged(x.behind(x.owner, x.owner), "after")
	x.wantFindings(x.reconcile(), trail.Unrecorded, trail.Unrecorded)
	r := x.reconcile(func(s *trail.Scope) { s.Since, s.Until = middle.Add(-time.Minute), middle.Add(time.Minute) })
	x.wantFindings(r)
	if r.Counts.Sessions != 1 || r.Counts.Uses != 3 || r.Counts.Records != 1 {
		t.Errorf("counts: %+v", r.Counts)
	}
	r = x.reconcile(func(s *trail.Scope) { s.Since = middle.Add(time.Minute) })
	x.wantFindings(r, trail.Unrecorded)
	if r.Counts.Uses != 3 || r.Counts.UsedKeys != 1 {
		t.Errorf("counts: %+v", r.Counts)
	}
	for name, change := range map[string]func(*trail.Scope){
		"after the files":  func(s *trail.Scope) { s.Since = middle.Add(time.Hour) },
		"before the files": func(s *trail.Scope) { s.Until = middle.Add(-time.Hour) },
	} {
		if r := x.reconcile(change); r.Verdict != trail.Inconclusive || len(r.Why) != 1 {
			t.Errorf("%s: got %s, %q", name, r.Verdict, r.Why)
		}
	}
}

// The record of a mint is a moment older than the event of its session, and the files
// may begin between the two.
func TestRecordBeforeTheFirstEvent(t *testing.T) {
	x := newKit(t)
	x.minted()
	x.ownToken(x.owner)
	x.tamper = func(all []audit.Record) []audit.Record {
		for i := range all {
			all[i].Time = all[i].Time.Add(-1500 * time.Millisecond)
		}
		return all
	}
	r := x.reconcile()
	x.wantFindings(r)
	if r.Counts.Sessions != 1 || r.Counts.Records != 1 || r.Counts.Tokens != 0 {
		t.Errorf("counts: %+v", r.Counts)
	}
}

// Whose session began before the files do cannot be told, unless a record has its
// access key id.
func TestSessionsFromBeforeTheFiles(t *testing.T) {
	x := newKit(t)
	minted := x.minted()
	own := x.exchanged(x.ownToken(x.owner), "mine")
	x.Clock.Move(5 * time.Minute)
	later := x.Clock.Now().Truncate(time.Second)
	x.useMinted(minted)
	x.useGiven(own)
	x.wantFindings(x.reconcile())
	x.rewrite(func(r map[string]any) map[string]any {
		if at, err := time.Parse(time.RFC3339, r["eventTime"].(string)); err != nil || at.Before(later) {
			return nil
		}
		return r
	})
	r := x.reconcile()
	if r.Verdict != trail.Inconclusive || r.Counts.UnplacedKeys != 1 || len(r.Findings) != 0 || r.Counts.UsedKeys != 2 {
		t.Errorf("got %s, %+v, %+v", r.Verdict, r.Counts, r.Findings)
	}
	// Somebody vouches for the files being whole from before: then the session's own
	// event was taken out, and so was the record's.
	r = x.reconcile(func(s *trail.Scope) { s.Since = later.Add(-time.Hour) })
	x.wantFindings(r, trail.ForeignUse, trail.Missing)
}

// A token that STS refuses, and that nobody was given.
func TestAttemptWithoutARecord(t *testing.T) {
	x := newKit(t)
	x.minted()
	jwt, _, err := x.Identities.MintUntagged(strings.ToLower(x.owner.Address()), x.Clock.Now())
	x.ok(err)
	if _, err := x.exchange(jwt.Reveal(), "mine"); err == nil {
		t.Fatal("want a token without the tag refused")
	}
	r := x.reconcile()
	x.wantFindings(r, trail.Attempt)
	if r.Findings[0].Severity != trail.Medium {
		t.Errorf("got %+v", r.Findings[0])
	}
}

// A call that is refused beside one of that name which succeeds is the same call,
// repeated: the broker asks STS again where that is of use.
func TestRefusedBesideASuccess(t *testing.T) {
	x := newKit(t)
	x.minted()
	x.trust(`"sts:AssumeRoleWithWebIdentity"`)
	name := x.aws.Asked()[0].Get("RoleSessionName")
	if _, err := x.exchange(x.behind(x.daemon, x.owner), name); err == nil {
		t.Fatal("want STS to refuse")
	}
	x.wantFindings(x.reconcile())
	x.Clock.Move(3 * time.Minute)
	if _, err := x.exchange(x.behind(x.daemon, x.owner), name); err == nil {
		t.Fatal("want STS to refuse")
	}
	x.wantFindings(x.reconcile(), trail.Attempt)
}

// Records that claim credentials for what STS refused.
func TestRecordOfWhatWasRefused(t *testing.T) {
	x := newKit(t)
	x.trust(`"sts:AssumeRoleWithWebIdentity"`)
	x.refusedMint()
	x.wantFindings(x.reconcile())
	x.tamper = func(all []audit.Record) []audit.Record {
		for i := range all {
			if all[i].Outcome == audit.Failed {
				all[i].Outcome, all[i].CredentialID = audit.Confirmed, "ASIAFORGEDFORGEDFORG"
			}
		}
		return all
	}
	r := x.reconcile()
	x.wantFindings(r, trail.RefusedAtSTS)
	if f := r.Findings[0]; f.Record == "" || f.AccessKeyID != "ASIAFORGEDFORGEDFORG" {
		t.Errorf("got %+v", f)
	}
}

// The session is another than the record says: its tenant, its grant.
func TestRecordOfAnotherTenant(t *testing.T) {
	x := newKit(t)
	x.minted()
	for _, change := range []func(*audit.Record){
		func(r *audit.Record) { r.Tenant = strings.ToLower(x.daemon.Address()) },
		func(r *audit.Record) { r.GrantID = "grn-ABCDEFGHIJKLMNOP" },
		func(r *audit.Record) { r.Wallet = strings.ToLower(x.owner.Address()) },
	} {
		x.tamper = func(all []audit.Record) []audit.Record {
			for i := range all {
				if all[i].Action == audit.ActionMintAWS {
					change(&all[i])
				}
			}
			return all
		}
		x.wantFindings(x.reconcile(), trail.Mismatch)
	}
	x.tamper = nil
	x.wantFindings(x.reconcile(func(s *trail.Scope) { s.TagKey = "another_key" }), trail.Mismatch)
}

// Two contents under one ID, and one content twice.
func TestEventsThatComeAgain(t *testing.T) {
	x := newKit(t)
	x.minted()
	x.ok(x.aws.Local.DeliverTrail())
	files, err := filepath.Glob(filepath.Join(x.dir, "AWSLogs/*/*/*/*/*/*/*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %q (%v)", files, err)
	}
	twice, err := trail.Read(x.scope.Keep, files[0], x.dir)
	x.ok(err)
	r := trail.Reconcile(x.scope, twice, x.records())
	x.wantFindings(r)
	if r.Counts.Repeated != 1 || r.Counts.Sessions != 1 {
		t.Errorf("counts: %+v", r.Counts)
	}
	copied := t.TempDir()
	x.ok(copyFile(files[0], filepath.Join(copied, filepath.Base(files[0]))))
	x.rewrite(func(r map[string]any) map[string]any {
		if r["eventName"] == "AssumeRoleWithWebIdentity" {
			r["requestParameters"].(map[string]any)["roleSessionName"] = "another"
		}
		return r
	})
	other, err := trail.Read(x.scope.Keep, copied, x.dir)
	x.ok(err)
	if r := trail.Reconcile(x.scope, other, x.records()); len(r.Findings) != 1 || r.Findings[0].Code != trail.Duplicate {
		t.Errorf("got %+v", r.Findings)
	}
}

// Where tokens carry their jti as the source identity, a session has it in the trail,
// and the token is known by it.
func TestSourceIdentityIsTheJTI(t *testing.T) {
	x := newKit(t)
	x.trust(exchangeAndTag + `,"sts:SetSourceIdentity"`)
	x.minted()
	x.ownToken(x.owner)
	byJTI := map[string]string{}
	for _, r := range x.records() {
		byJTI[r.Action] = r.TokenID
	}
	x.exchanged(x.signed(x.owner, byJTI[audit.ActionMintOIDC]), "mine")
	r := x.reconcile()
	x.wantFindings(r)
	if r.Counts.BySource != 1 || r.Counts.ByKey != 1 {
		t.Errorf("counts: %+v", r.Counts)
	}
	// The token of the broker's own mint has one session; this is another.
	x.exchanged(x.signed(x.owner, byJTI[audit.ActionMintAWS]), "any-name")
	x.wantFindings(x.reconcile(), trail.Duplicate)
}

// signed is a token for a party with a source identity, by the issuer's key.
func (x *kit) signed(p agentkeystest.Party, jti string) string {
	x.Helper()
	path := filepath.Join(x.TempDir(), "oidc.jwk")
	x.ok(token.WriteKeyFile(path, x.OIDCKey))
	var key jose.JSONWebKey
	x.ok(json.Unmarshal(readFile(x.T, path), &key))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key.Key}, (&jose.SignerOptions{}).WithHeader("kid", x.OIDCKey.ID()))
	x.ok(err)
	tag, now := strings.ToLower(p.Address()), x.Clock.Now().Unix()
	payload, err := json.Marshal(map[string]any{"iss": x.Issuer, "aud": "sts.amazonaws.com", "sub": token.SubjectPrefix + tag, "jti": jti,
		"iat": now, "nbf": now, "exp": now + 300, "https://aws.amazon.com/source_identity": jti,
		token.TagsClaim: map[string]any{"principal_tags": map[string][]string{token.TagKey: {tag}}}})
	x.ok(err)
	jws, err := signer.Sign(payload)
	x.ok(err)
	raw, err := jws.CompactSerialize()
	x.ok(err)
	return raw
}

// Every code can be told, and has its severity.
func TestCodes(t *testing.T) {
	codes := trail.Codes()
	slices.Sort(codes)
	if len(codes) != 9 || len(slices.Compact(codes)) != 9 {
		t.Errorf("got %q", codes)
	}
}
