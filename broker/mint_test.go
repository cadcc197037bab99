package broker_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/token"
)

// records returns what the broker recorded, newest first.
func records(t *testing.T, k *agentkeystest.Broker) []audit.Record {
	t.Helper()
	var all []audit.Record
	err := k.Store.View(context.Background(), func(tx *sql.Tx) error {
		found, err := audit.Find(context.Background(), tx, audit.Query{Limit: audit.MaxLimit})
		for _, e := range found {
			all = append(all, e.Record)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A broker of another tag key mints that one, advertises that one, and knows
// nothing of the standard one.
func TestMintAndDiscoveryWithAnotherTagKey(t *testing.T) {
	const key = "acme:tenant"
	k := agentkeystest.New(t, func(c *broker.Config) {
		identities, err := token.NewWebIdentities(token.WebIdentityConfig{
			Issuer: c.Issuer, Audience: "sts.amazonaws.com", Keys: c.OIDCKeys, TTL: time.Minute, TagKey: key})
		if err != nil {
			t.Fatal(err)
		}
		c.Mint, c.TagKey = identities.Mint, key
	})
	w, session := k.SignIn(t)
	minted, err := k.Client.MintOIDC(t.Context(), session.SessionJWT)
	if err != nil {
		t.Fatal(err)
	}
	c, wallet := claims(t, minted.JWT), strings.ToLower(w.Address())
	want := map[string]any{
		"principal_tags":      map[string]any{key: []any{wallet}},
		"transitive_tag_keys": []any{key},
	}
	if diff := cmp.Diff(want, c[token.TagsClaim]); diff != "" || c[key] != wallet || c[token.TagKey] != nil {
		t.Errorf("claims %v; want the tag %s alone: %s", c, key, diff)
	}
	advertised := send(t, k, "GET", api.PathDiscovery, "").json(t)["claims_supported"].([]any)
	if !slices.Contains(advertised, any(key)) || slices.Contains(advertised, any(token.TagKey)) {
		t.Errorf("claims_supported %v, want %s and not %s", advertised, key, token.TagKey)
	}
	for _, claim := range slices.Sorted(maps.Keys(c)) {
		if !slices.Contains(advertised, any(claim)) {
			t.Errorf("the token has the claim %s, which claims_supported %v does not name", claim, advertised)
		}
	}
}

func TestBrokerWantsATagKey(t *testing.T) {
	k := agentkeystest.New(t)
	c := k.Broker.Config
	c.TagKey = ""
	if _, err := broker.New(c); err == nil || !strings.Contains(err.Error(), "key of the session tag") {
		t.Errorf("New = %v, want a refusal that names the tag key", err)
	}
}

func TestMintTagsTheTokenWithTheSessionsWallet(t *testing.T) {
	k := agentkeystest.New(t)
	w, session := k.SignIn(t)
	wallet := strings.ToLower(w.Address())
	if session.WalletAddress != wallet || session.IdentityType != "evm" || session.IdentityValue != wallet {
		t.Errorf("session of %s %s %s, want evm %s", session.WalletAddress, session.IdentityType, session.IdentityValue, wallet)
	}

	minted, err := k.Client.MintOIDC(t.Context(), session.SessionJWT)
	if err != nil {
		t.Fatal(err)
	}
	c := claims(t, minted.JWT)
	tags := c["https://aws.amazon.com/tags"].(map[string]any)["principal_tags"].(map[string]any)["agentkeys_user_wallet"]
	if got := tags.([]any); len(got) != 1 || got[0] != wallet || minted.Wallet != wallet || c["agentkeys_user_wallet"] != wallet {
		t.Errorf("tag %v, wallet %s, claim %v; want %s in all", got, minted.Wallet, c["agentkeys_user_wallet"], wallet)
	}
	now := k.Clock.Now().Unix()
	if minted.Expiration != now+300 || c["exp"] != float64(now+300) || c["iss"] != k.Issuer {
		t.Errorf("expiration %d, exp %v, iss %v at %d", minted.Expiration, c["exp"], c["iss"], now)
	}

	r := records(t, k)[0]
	want := audit.Record{Seq: r.Seq, ID: r.ID, Time: r.Time, Action: "mint.oidc_jwt", Outcome: audit.Issued,
		IdentityType: "evm", IdentityValue: wallet, OmniAccount: session.OmniAccount, Wallet: wallet,
		KeyID: k.OIDCKey.ID(), TokenID: c["jti"].(string), Source: "127.0.0.1", RequestID: r.RequestID}
	if r != want || !r.Time.Equal(k.Clock.Now()) || r.RequestID == "" {
		t.Errorf("recorded %+v\nwant %+v", r, want)
	}
}

// Every refused mint leaves a record with the reason, and no answer leaks more
// than the code.
func TestRefusedMintsAreRecorded(t *testing.T) {
	k := agentkeystest.New(t)
	w, session := k.SignIn(t)
	wallet := strings.ToLower(w.Address())
	webIdentity, _, err := k.Identities.Mint(wallet, k.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	foreign := agentkeystest.New(t)
	_, other := foreign.SignIn(t)
	forged := session.SessionJWT[:len(session.SessionJWT)-8] + "AAAAAAAA"
	bearer := "Bearer " + session.SessionJWT

	for _, tc := range []struct {
		name    string
		body    string
		headers []string
		status  int
		code    string
		wallet  string
	}{
		{"no session", "", nil, 401, "session_required", ""},
		{"another scheme", "", []string{"Authorization", "Basic abc"}, 401, "session_required", ""},
		{"two sessions", "", []string{"Authorization", bearer, "Authorization", bearer}, 401, "session_required", ""},
		{"rubbish", "", []string{"Authorization", "Bearer x.y.z"}, 401, "malformed_token", ""},
		{"forged", "", []string{"Authorization", "Bearer " + forged}, 401, "bad_signature", ""},
		{"web identity token", "", []string{"Authorization", "Bearer " + webIdentity.Reveal()}, 401, "wrong_token_type", ""},
		{"session of another broker", "", []string{"Authorization", "Bearer " + other.SessionJWT}, 401, "unknown_key", ""},
		{"asks for a tenant", `{"wallet":"0x1"}`, []string{"Authorization", bearer, "Content-Type", jsonType}, 400, "unknown_field", wallet},
		{"body is no object", `[]`, []string{"Authorization", bearer, "Content-Type", jsonType}, 400, "bad_request", wallet},
		{"from a page of another origin", "", []string{"Authorization", bearer, "Sec-Fetch-Site", "cross-site"}, 403, "cross_origin", ""},
		{"body too large", `{` + strings.Repeat(" ", 17<<10) + `}`, []string{"Authorization", bearer, "Content-Type", jsonType}, 413, "body_too_large", wallet},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := len(records(t, k))
			send(t, k, "POST", api.PathMintOIDC, tc.body, tc.headers...).refused(t, tc.status, tc.code)
			all := records(t, k)
			if len(all) != before+1 {
				t.Fatalf("%d new records, want 1", len(all)-before)
			}
			if r := all[0]; r.Outcome != audit.Refused || r.Reason != tc.code || r.TokenID != "" || r.Wallet != tc.wallet {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

// A caller who hangs up at once is recorded like one who waits.
func TestHangingUpLeavesARecord(t *testing.T) {
	k := agentkeystest.New(t)
	const tries = 20
	for range tries {
		conn, err := net.Dial("tcp", strings.TrimPrefix(k.Issuer, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST "+api.PathMintOIDC+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x.y.z\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); len(records(t, k)) < tries && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond) // between two looks for what the server does on its own
	}
	if n := len(records(t, k)); n != tries {
		t.Errorf("%d records of %d refused mints", n, tries)
	}
	if strings.Contains(k.Log.String(), "audit_unavailable") {
		t.Error("a caller's hanging up counted as a fault of the database")
	}
}

// A body that never ends is the caller's fault, and is recorded as such.
func TestStalledBodyIsRefusedAndRecorded(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	conn, err := net.Dial("tcp", strings.TrimPrefix(k.Issuer, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = io.WriteString(conn, "POST "+api.PathMintOIDC+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
		"Transfer-Encoding: chunked\r\nAuthorization: Bearer "+session.SessionJWT+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil { // a broker that waits for ever fails the test
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d, want 408", resp.StatusCode)
	}
	if r := records(t, k)[0]; r.Outcome != audit.Refused || r.Reason != string(api.CodeTimeout) {
		t.Errorf("recorded %+v", r)
	}
}

func TestExpiredSessionMintsNothing(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	k.Clock.Move(5*time.Hour + time.Minute)
	_, err := k.Client.MintOIDC(t.Context(), session.SessionJWT)
	wantCode(t, err, api.CodeTokenExpired)
}

// The heart of it: where the record cannot be written there is no token in the
// answer, and once it can be written again the broker says so and mints.
func TestNoTokenWithoutItsRecord(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	if err := k.Store.Close(); err != nil {
		t.Fatal(err)
	}
	a := send(t, k, "POST", api.PathMintOIDC, "", "Authorization", "Bearer "+session.SessionJWT)
	a.refused(t, 503, "audit_unavailable")
	if strings.Contains(string(a.body), "eyJ") {
		t.Errorf("the answer holds a token: %s", a.body)
	}
	a = send(t, k, "POST", api.PathMintOIDC, "", "Authorization", "Bearer rubbish")
	a.refused(t, 503, "audit_unavailable")
	if a.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}

	ready, err := k.Client.Ready(t.Context())
	if err != nil || ready.Status != api.StatusUnready || ready.Checks[0].Name != "database" || ready.Checks[0].Status != api.StatusUnready {
		t.Errorf("readiness %+v, %v; want unready for the database", ready, err)
	}
}

// The database refuses every record, as a full disk would, and later takes them
// again: readiness says so both times, and the recovery is itself recorded.
func TestRecordingFailsAndRecovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	k := agentkeystest.NewAt(t, path)
	_, session := k.SignIn(t)
	direct := execDirectly(t, path)

	direct("CREATE TRIGGER full BEFORE INSERT ON audit_records BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END")
	_, err := k.Client.MintOIDC(t.Context(), session.SessionJWT)
	if e := wantCode(t, err, api.CodeAuditUnavailable); e != nil && strings.Contains(e.Detail, "disk is full") {
		t.Errorf("the client is told of the inside: %q", e.Detail)
	}
	if !strings.Contains(k.Log.String(), "disk is full") {
		t.Error("the log does not say why")
	}
	_, err = k.Client.SignIn(t.Context(), newWallet(t), 1)
	wantCode(t, err, api.CodeAuditUnavailable)
	if ready, err := k.Client.Ready(t.Context()); err != nil || ready.Status != api.StatusUnready {
		t.Errorf("readiness %+v, %v; want unready", ready, err)
	}

	direct("DROP TRIGGER full")
	if ready, err := k.Client.Ready(t.Context()); err != nil || ready.Status != api.StatusUnready {
		t.Errorf("readiness %+v, %v; want unready still, since it tried a moment ago", ready, err)
	}
	k.Clock.Move(2 * time.Second) // readiness tries a write once a second
	if ready, err := k.Client.Ready(t.Context()); err != nil || ready.Status != api.StatusReady {
		t.Errorf("readiness %+v, %v; want ready", ready, err)
	}
	if r := records(t, k)[0]; r.Action != "store.recovered" {
		t.Errorf("the newest record is %+v", r)
	}
	if _, err := k.Client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
		t.Error(err)
	}
}

// execDirectly runs SQL on the database past the store, as a fault would come.
func execDirectly(t *testing.T, path string) func(statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

// While another update holds the writer, a client that loses its patience has
// no token, and the next one is served.
func TestWriterIsHeld(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	release, held := make(chan struct{}), make(chan struct{})
	go func() {
		_ = k.Store.Update(context.Background(), func(*sql.Tx) error { close(held); <-release; return nil })
	}()
	<-held
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := k.Client.MintOIDC(ctx, session.SessionJWT); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("minting while nothing could be recorded: %v", err)
	}
	close(release)
	if _, err := k.Client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
		t.Errorf("after the writer was free again: %v", err)
	}
}

func TestMintRefusesWhenTheClockRunsBackwards(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	k.Clock.Move(time.Hour)
	if _, err := k.Client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
		t.Fatal(err)
	}
	k.Clock.Move(-10 * time.Minute)
	_, err := k.Client.StartWallet(t.Context(), newWallet(t).Address(), 1)
	wantCode(t, err, api.CodeClockBackwards)
	_, err = k.Client.MintOIDC(t.Context(), session.SessionJWT)
	e := wantCode(t, err, api.CodeClockBackwards)
	if e != nil && (e.Status != http.StatusServiceUnavailable || !strings.Contains(e.Detail, "but it was")) {
		t.Errorf("got %d %q", e.Status, e.Detail)
	}
	if r := records(t, k)[0]; r.Reason != string(api.CodeClockBackwards) {
		t.Errorf("recorded reason %q", r.Reason)
	}
	ready, err := k.Client.Ready(t.Context())
	if err != nil || ready.Status != api.StatusUnready || ready.Checks[1].Reason == "" {
		t.Errorf("readiness %+v, %v; want unready for the clock", ready, err)
	}
	k.Clock.Move(10 * time.Minute)
	if _, err := k.Client.MintOIDC(t.Context(), session.SessionJWT); err != nil {
		t.Errorf("after the clock caught up: %v", err)
	}
}

func TestLogNamesTokensByTheirIDOnly(t *testing.T) {
	k := agentkeystest.New(t)
	_, session := k.SignIn(t)
	minted, err := k.Client.MintOIDC(t.Context(), session.SessionJWT)
	if err != nil {
		t.Fatal(err)
	}
	log := k.Log.String()
	for _, secret := range []string{session.SessionJWT, minted.JWT, signatureOf(session.SessionJWT), signatureOf(minted.JWT)} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds a token or its signature")
		}
	}
	if jti := claims(t, minted.JWT)["jti"].(string); !strings.Contains(log, jti) {
		t.Errorf("the log does not name the token %s:\n%s", jti, log)
	}
}

func signatureOf(jwt string) string { return jwt[strings.LastIndexByte(jwt, '.')+1:] }

func wantCode(t *testing.T, err error, code api.Code) *api.Error {
	t.Helper()
	var e *api.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got %v, want %s", err, code)
		return nil
	}
	return e
}
