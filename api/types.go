package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Discovery is the provider metadata of OpenID Connect Discovery 1.0, section
// 3, as far as AWS STS reads it.
type Discovery struct {
	Issuer                 string   `json:"issuer"`
	JWKSURI                string   `json:"jwks_uri"`
	ResponseTypes          []string `json:"response_types_supported"`
	SubjectTypes           []string `json:"subject_types_supported"`
	SigningAlgorithms      []string `json:"id_token_signing_alg_values_supported"`
	Scopes                 []string `json:"scopes_supported"`
	TokenEndpointAuthTypes []string `json:"token_endpoint_auth_methods_supported"`
	Claims                 []string `json:"claims_supported"`
}

// WalletStartRequest asks for a sign-in challenge for an Ethereum address.
type WalletStartRequest struct {
	Address string `json:"address"`
	ChainID int64  `json:"chain_id"`
}

// WalletStartResponse carries the EIP-4361 message that the wallet signs as it
// stands.
type WalletStartResponse struct {
	RequestID        string `json:"request_id"`
	SIWEMessage      string `json:"siwe_message"`
	Nonce            string `json:"nonce"`
	ExpiresInSeconds int64  `json:"expires_in_seconds"`
	ExpiresAtISO     string `json:"expires_at_iso"` // RFC 3339
}

// WalletVerifyRequest answers a challenge with an EIP-191 signature, 0x and
// 130 hexadecimal digits.
type WalletVerifyRequest struct {
	RequestID string `json:"request_id"`
	Signature string `json:"signature"`
}

// Session is what every way of signing in ends in.
type Session struct {
	SessionJWT    string `json:"session_jwt"`
	SessionJWTKid string `json:"session_jwt_kid"`
	ExpiresAt     int64  `json:"expires_at"`
	OmniAccount   string `json:"omni_account"`
	WalletAddress string `json:"wallet_address,omitempty"`
	IdentityType  string `json:"identity_type"`
	IdentityValue string `json:"identity_value"`
}

// MintOIDCResponse carries a web identity token for AWS STS. Wallet is the
// tenant that the token is tagged with.
type MintOIDCResponse struct {
	JWT        string `json:"jwt"`
	Wallet     string `json:"wallet"`
	Expiration int64  `json:"expiration"`
}

// MintAWSRequest asks for AWS credentials. Auth.Signature is an EIP-191 signature
// by Auth.Address over the RFC 8785 canonical JSON of {method, url, body}, where
// body is this one without auth.signature and url is the issuer with the path.
type MintAWSRequest struct {
	RequestID string    `json:"request_id"` // used once by each caller
	IssuedAt  Timestamp `json:"issued_at"`
	Intent    Intent    `json:"intent"`
	Auth      CallAuth  `json:"auth"`
}

// Intent is what the credentials are for.
type Intent struct {
	AgentID   string `json:"agent_id"` // what the agent calls itself; for the record alone
	Service   string `json:"service"`  // "s3"
	ScopePath string `json:"scope_path"`
	GrantID   string `json:"grant_id,omitempty"` // where more than one grant may fit
}

// CallAuth says who signed a call, and proves it.
type CallAuth struct {
	Address   string `json:"address"`
	Signature string `json:"signature"`
}

// MintAWSResponse carries credentials. Wallet is the tenant: the owner of the grant.
type MintAWSResponse struct {
	AccessKeyID     string   `json:"access_key_id"`
	SecretAccessKey string   `json:"secret_access_key"`
	SessionToken    string   `json:"session_token"`
	Expiration      int64    `json:"expiration"`
	Wallet          string   `json:"wallet"`
	AuditRecordID   string   `json:"audit_record_id"`
	Anchored        []string `json:"anchored"`
}

// Timestamp is a point in time inside signed text: RFC 3339 there, and read from
// Unix seconds as well.
type Timestamp struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC, to the second.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(time.RFC3339))
}

// UnmarshalJSON reads RFC 3339, or whole Unix seconds, within the years 0 to 9999,
// which are all that RFC 3339 can write.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	var at time.Time
	var err error
	if bytes.HasPrefix(data, []byte{'"'}) {
		var text string
		if err = json.Unmarshal(data, &text); err == nil {
			at, err = ParseTime(text)
		}
	} else {
		var seconds int64
		seconds, err = strconv.ParseInt(string(data), 10, 64)
		at = time.Unix(seconds, 0).UTC()
	}
	if year := at.UTC().Year(); err != nil || year < 0 || year > 9999 {
		return errors.New("want RFC 3339, or whole Unix seconds")
	}
	t.Time = at
	return nil
}

// ParseTime reads RFC 3339 as package time writes it, with upper-case letters and
// without leap seconds, and nothing else. A text can so be read in one way only,
// whoever reads it.
func ParseTime(text string) (time.Time, error) {
	if !isRFC3339(text) {
		return time.Time{}, fmt.Errorf("want RFC 3339, got %.40q", text)
	}
	return time.Parse(time.RFC3339, text)
}

// isRFC3339 reports whether a text has the form of RFC 3339, section 5.6, of which
// package time takes more: a comma before the fraction, an hour of one digit, an offset
// of a day.
func isRFC3339(text string) bool {
	rest, ok := cutForm(text, "0000-00-00T00:00:00")
	if fraction, has := strings.CutPrefix(rest, "."); has {
		rest = strings.TrimLeft(fraction, "0123456789")
		ok = ok && rest != fraction
	}
	if rest == "Z" {
		return ok
	}
	offset, signed := strings.CutPrefix(rest, "+")
	if !signed {
		offset, signed = strings.CutPrefix(rest, "-")
	}
	end, isOffset := cutForm(offset, "00:00")
	return ok && signed && isOffset && end == "" && offset < "24" && offset[3:] < "60"
}

// cutForm cuts off what has a form, in which 0 stands for any digit.
func cutForm(text, form string) (rest string, ok bool) {
	if len(text) < len(form) {
		return text, false
	}
	for i := range len(form) {
		digit := '0' <= text[i] && text[i] <= '9'
		if form[i] == '0' && !digit || form[i] != '0' && text[i] != form[i] {
			return text, false
		}
	}
	return text[len(form):], true
}

// GrantCreateRequest is an owner's leave for a daemon address to mint credentials
// for a service under a path of the owner's own prefix. Every member is required
// but Actions, which means all of them.
type GrantCreateRequest struct {
	DaemonAddress string   `json:"daemon_address"`
	Service       string   `json:"service"`
	ScopePath     string   `json:"scope_path"` // relative to the owner's prefix; "/" is all of it
	ExpiresAt     int64    `json:"expires_at"`
	MaxUses       int64    `json:"max_uses"`
	Actions       []string `json:"actions,omitempty"` // of list, get, put, delete
}

// Grant is what the broker knows of a grant, in the eyes of the caller.
type Grant struct {
	GrantID       string   `json:"grant_id"`
	Role          string   `json:"role"`   // the caller's: GrantRoleOwner or GrantRoleDaemon
	Status        string   `json:"status"` // active, revoked, expired or exhausted
	Owner         string   `json:"owner"`  // omni account
	Wallet        string   `json:"wallet"` // the owner's tenant: whose prefix it is
	DaemonAddress string   `json:"daemon_address"`
	Service       string   `json:"service"`
	ScopePath     string   `json:"scope_path"`
	Actions       []string `json:"actions"`
	CreatedAt     int64    `json:"created_at"`
	ExpiresAt     int64    `json:"expires_at"`
	MaxUses       int64    `json:"max_uses"`
	UsedCount     int64    `json:"used_count"`
	RevokedAt     *int64   `json:"revoked_at"`
	SessionName   string   `json:"session_name"`          // of the sessions at AWS
	LastUsedAt    *int64   `json:"last_used_at"`          // when the daemon last minted
	LastRecordID  string   `json:"last_record_id"`        // the audit record of that; "" before
	AuditProof    string   `json:"audit_proof,omitempty"` // compact JWS over the grant's content
}

// The roles of a caller in a grant. An owner who grants to their own wallet is
// its owner.
const (
	GrantRoleOwner  = "owner"
	GrantRoleDaemon = "daemon"
)

// GrantListResponse is a page of grants, the newest first. Cursor is "" on the
// last page.
type GrantListResponse struct {
	Grants []Grant `json:"grants"`
	Cursor string  `json:"cursor"`
}

// GrantRevokeRequest names the grant to revoke.
type GrantRevokeRequest struct {
	GrantID string `json:"grant_id"`
}

// GrantRevokeResponse says since when the grant is revoked.
type GrantRevokeResponse struct {
	Revoked   bool   `json:"revoked"`
	GrantID   string `json:"grant_id"`
	RevokedAt int64  `json:"revoked_at"`
}

// Readiness states of the broker and of its checks.
const (
	StatusReady    = "ready"
	StatusDegraded = "degraded"
	StatusUnready  = "unready"
)

// Readiness says whether the broker can do its work, and what holds it up.
type Readiness struct {
	Status string  `json:"status"`
	Checks []Check `json:"checks"`
}

// Check is the state of one thing the broker depends on. Docs points at the
// paragraph of the run-book that says what to do.
type Check struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	Since  int64  `json:"since"`
	Docs   string `json:"docs"`
}
