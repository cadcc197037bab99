package broker

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/grant"
	"agentkeys/identity"
	"agentkeys/token"
)

// mint is one call for AWS credentials on its way.
type mint struct {
	idempotencyKey string // "" without one
	request        api.MintAWSRequest
	bodyHash       [sha256.Size]byte // of what the caller signed, in which account
	path           grant.Path
	session        token.Session
	intent         *audit.Record // who asks for what; durable and pending once it was decided
	callDigest     []byte        // what the call is found by
	keyDigest      []byte        // and by its Idempotency-Key; nil without one
	settleBy       time.Time     // when the intent is settled, if it has no outcome by then
	decision
}

// decision is what was decided on a call, beside what its intent says.
type decision struct {
	first  bool        // nothing was remembered of the call, so its answer is a new one
	seq    int64       // of the row that remembers it
	grant  grant.Grant // whose ID is "" where none is required and none was found
	policy string      // the session policy, of the grant and the path that is asked for
	until  time.Time   // when the grant ends
}

// serveMintAWS mints AWS credentials for the bearer of a session who signed the
// call and holds a grant for what it asks.
func (b *Broker) serveMintAWS(c *call) error {
	m := &mint{intent: c.record(audit.ActionMintAWS), settleBy: c.now.Add(pendingTime)}
	defer func() {
		if p := recover(); p != nil { // the record of intent, if any, is settled by its deadline
			b.metrics.mintAWS(audit.Refused, string(api.CodeInternal))
			panic(p)
		}
	}()
	answer, err := b.credentials(c, m)
	m.note(c, answer)
	if err != nil {
		return err
	}
	body, err := answer.sent()
	if err != nil {
		return err
	}
	c.writeBody(body)
	return nil
}

// note has the log say who got what under which grant, or was refused it.
func (m *mint) note(c *call, answer *kept) {
	tenant, credential := m.intent.Tenant, ""
	if answer != nil {
		tenant, credential = answer.Credentials.Wallet, answer.Credentials.AccessKeyID
	}
	for _, n := range [][2]string{{"wallet", m.intent.Wallet}, {"grant", m.grantID()}, {"tenant", tenant}, {"credential", credential}} {
		if n[1] != "" {
			c.note(n[0], n[1])
		}
	}
}

// grantID is that of the grant which was found, or else of the one that was named.
func (m *mint) grantID() string {
	if named := m.request.Intent.GrantID; m.grant.ID == "" && isPrintable(named, 64) {
		return named
	}
	return m.grant.ID
}

// credentials keeps the invariant: identity proven, call signed by the wallet that
// is bound to it, grant valid and used up by one, intent durable at every anchor;
// then AWS is asked; and what came of it is durable at every anchor before anything
// is released.
func (b *Broker) credentials(c *call, m *mint) (*kept, error) {
	if err := b.proveCaller(c, m); err != nil {
		return nil, b.refuseCredentials(c, m, err)
	}
	if err := b.verifyCall(c, m); err != nil {
		return nil, b.refuseCredentials(c, m, err)
	}
	earlier, err := b.decide(c, m)
	if m.first && m.idempotencyKey != "" {
		c.w.Header().Set("X-Idempotency", "miss")
	}
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		c.w.Header().Set("X-Idempotency", "hit")
		return b.release(c, earlier)
	}
	given, err := b.askSTS(c, m)
	if err != nil {
		return nil, b.concludeFailure(c, m, err)
	}
	answer, err := b.concludeSuccess(c, m, given)
	if err != nil {
		return nil, err
	}
	return b.release(c, answer)
}

// proveCaller verifies the session and names who asks.
func (b *Broker) proveCaller(c *call, m *mint) error {
	session, err := b.session(c)
	if err != nil {
		return err
	}
	m.session = session
	b.describe(m.intent, identity.Identity{Type: identity.Type(session.IdentityType), Value: session.IdentityValue})
	m.intent.Wallet = session.Wallet
	return b.clock.check(c.now)
}

// verifyCall reads the call and holds its signature against the session's wallet.
// Whether it is fresh, and new, is decided in the transaction, after it is known
// that it is no retry.
func (b *Broker) verifyCall(c *call, m *mint) (err error) {
	if m.idempotencyKey, err = idempotencyKey(c.r); err != nil {
		return err
	}
	var body []byte
	if m.request, body, err = decodeRaw[api.MintAWSRequest](c); err != nil {
		return err
	}
	if err := m.checkForm(); err != nil {
		return err
	}
	text, err := callText(c.r.Method, b.Issuer+api.PathMintAWS, body)
	if err != nil {
		return err
	}
	address, err := checkCall(text, m.request.Auth)
	if err != nil {
		return err
	}
	if address != m.session.Wallet {
		return api.Errorf(api.CodeWalletMismatch, "the call was signed by %s, the session is of %s", address, orNone(m.session.Wallet))
	}
	m.name()
	m.bodyHash = sha256.Sum256([]byte(m.session.OmniAccount + "\n" + text))
	return nil
}

func orNone(wallet string) string {
	if wallet == "" {
		return "an account without a wallet"
	}
	return wallet
}

// checkForm holds the members to their forms and notes them in the record.
func (m *mint) checkForm() (err error) {
	intent := m.request.Intent
	if !isPrintable(m.request.RequestID, 128) {
		return api.Errorf(api.CodeBadRequest, "request_id: want 1 to 128 printable characters of ASCII")
	}
	if intent.AgentID == "" || len(intent.AgentID) > 128 || strings.ContainsFunc(intent.AgentID, func(r rune) bool { return !unicode.IsGraphic(r) }) {
		return api.Errorf(api.CodeBadRequest, "intent.agent_id: want 1 to 128 bytes of printable text")
	}
	if !isPrintable(intent.Service, 32) {
		return api.Errorf(api.CodeBadRequest, "intent.service: want a name such as %q", grant.S3)
	}
	if intent.GrantID != "" && !isPrintable(intent.GrantID, 64) {
		return api.Errorf(api.CodeBadRequest, "intent.grant_id: want at most 64 printable characters of ASCII")
	}
	if m.path, err = grant.ParsePath(intent.ScopePath); err != nil {
		return api.Errorf(api.CodeBadRequest, "intent.scope_path: %v", err)
	}
	m.intent.Agent, m.intent.Service, m.intent.ScopePath = intent.AgentID, intent.Service, string(m.path)
	return nil
}

func isPrintable(s string, longest int) bool {
	return s != "" && len(s) <= longest && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// idempotencyKey reads the header of that name, "" where there is none.
func idempotencyKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return "", nil
	}
	if len(keys) > 1 || !isPrintable(keys[0], 255) {
		return "", api.Errorf(api.CodeBadRequest, "want one Idempotency-Key of 1 to 255 printable characters of ASCII")
	}
	return keys[0], nil
}

// refuseCredentials records a refusal and returns what the client gets.
func (b *Broker) refuseCredentials(c *call, m *mint, refusal error) error {
	err := b.refuse(c, m.refused(asAPI(refusal).Code), refusal)
	b.metrics.mintAWS(audit.Refused, string(asAPI(err).Code))
	return err
}

// refused is the record of a refusal.
func (m *mint) refused(code api.Code) *audit.Record {
	r := *m.intent
	r.ID, r.Outcome, r.Reason, r.TokenID, r.GrantID = "", audit.Refused, string(code), "", m.grantID()
	return &r
}

// askSTS asks AWS for credentials, with a token that is minted for this call. It
// goes on when the client leaves, for an answer that is on its way would otherwise
// be lost.
func (b *Broker) askSTS(c *call, m *mint) (Credentials, error) {
	if m.policy == "" || m.intent.Outcome != audit.Pending {
		return Credentials{}, errors.New("asking STS: want a session policy and a record of intent, got none")
	}
	jwt, minted, err := b.AWS.Token(m.session.Wallet, m.intent.Tenant, m.intent.TokenID, c.now)
	if err != nil {
		return Credentials{}, err
	}
	if minted.ID != m.intent.TokenID || minted.Tag != m.intent.Tenant {
		return Credentials{}, fmt.Errorf("asking STS: want a token %s of %s, got %s of %s", m.intent.TokenID, m.intent.Tenant, minted.ID, minted.Tag)
	}
	c.note("jti", minted.ID)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), stsTimeout)
	defer cancel()
	ask := AssumeRole{
		RoleARN: b.AWS.RoleARN, SessionName: grant.SessionName(m.session.Wallet, m.grant.ID),
		Policy: m.policy, Token: jwt, Duration: b.AWS.Session,
	}
	given, err := b.AWS.AssumeRole(ctx, ask)
	var refused *STSError
	if errors.As(err, &refused) && !refused.Unknown {
		code := api.CodeSTSRefused
		if refused.Passes() {
			code = api.CodeSTSUnavailable
		}
		return Credentials{}, fmt.Errorf("%w: %w", api.Errorf(code, "%s", b.AWS.Explain(ask, refused, c.now)), err)
	}
	return given, err
}

// answer is what the credentials look like to the client. Their end is that of the
// grant, where that comes first: from then on AWS refuses them.
func (b *Broker) answer(m *mint, given Credentials) *api.MintAWSResponse {
	end := given.ExpiresAt
	if m.until.Before(end) {
		end = m.until
	}
	return &api.MintAWSResponse{
		AccessKeyID: given.AccessKeyID, SecretAccessKey: given.SecretAccessKey.Reveal(), SessionToken: given.SessionToken.Reveal(),
		Expiration: end.Unix(), Wallet: m.intent.Tenant, AuditRecordID: m.intent.ID,
		Anchored: b.anchoredOnRelease(),
	}
}

// release gives an answer of credentials that was decided, now or by an earlier call,
// with the names of the places that have its records by now, and a refusal as the
// error that it was.
func (b *Broker) release(c *call, a *kept) (*kept, error) {
	if a.Credentials == nil {
		return nil, &api.Error{Code: a.Code, Status: api.KindOf(a.Code).Status, Detail: a.Detail}
	}
	c.note("audit_record", a.Credentials.AuditRecordID)
	at := b.anchoredAt(a.place)
	if slices.Equal(at, a.Credentials.Anchored) {
		return a, nil // and its body is written already
	}
	released := *a.Credentials
	released.Anchored = at
	return &kept{Credentials: &released, GrantID: a.GrantID, place: a.place}, nil
}

// newTokenID makes the jti of the token of a mint, before the record that names it.
func newTokenID() string { return rand.Text() }
