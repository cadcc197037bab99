package api

import (
	"fmt"
	"net/http"
	"time"
)

// Code names a kind of error. Codes are stable: clients may switch on them.
type Code string

// The codes of the broker's errors. Those of one refused sign-in share a
// status, so that the status alone tells an attacker nothing.
const (
	CodeBadRequest           Code = "bad_request"
	CodeUnknownField         Code = "unknown_field"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeNotFound             Code = "not_found"
	CodeMethodNotAllowed     Code = "method_not_allowed"
	CodeBodyTooLarge         Code = "body_too_large"
	CodeInternal             Code = "internal"
	CodeTimeout              Code = "timeout"
	CodeCrossOrigin          Code = "cross_origin"
	CodeAuditUnavailable     Code = "audit_unavailable"
	CodeStoreUnavailable     Code = "store_unavailable"

	CodeAddressMalformed Code = "address_malformed"
	CodeAddressChecksum  Code = "address_checksum"
	CodeChainNotAllowed  Code = "chain_not_allowed"

	CodeRequestUnknown Code = "request_unknown"
	CodeRequestUsed    Code = "request_used"
	CodeRequestExpired Code = "request_expired"
	CodeClockBackwards Code = "clock_backwards"
	CodeBadSignature   Code = "bad_signature"
	CodeHighSSignature Code = "high_s_signature"
	CodeWrongSigner    Code = "wrong_signer"

	CodeSignatureMalformed Code = "signature_malformed"
	CodeSignatureRecovery  Code = "signature_recovery"
	CodeDomainMismatch     Code = "domain_mismatch"
	CodeMessageMismatch    Code = "message_mismatch"

	CodeSessionRequired Code = "session_required"

	CodeCallSignature         Code = "call_signature"
	CodeCallExpired           Code = "call_expired"
	CodeCallReplayed          Code = "call_replayed"
	CodeWalletMismatch        Code = "wallet_mismatch"
	CodeGrantRequired         Code = "grant_required"
	CodeGrantAmbiguous        Code = "grant_ambiguous"
	CodeGrantRevoked          Code = "grant_revoked"
	CodeGrantExpired          Code = "grant_expired"
	CodeGrantExhausted        Code = "grant_exhausted"
	CodeScopeExceedsGrant     Code = "scope_exceeds_grant"
	CodeGrantInvalid          Code = "grant_invalid"
	CodeGrantUnknown          Code = "grant_unknown"
	CodeIdempotencyKeyReused  Code = "idempotency_key_reused"
	CodeIdempotencyInProgress Code = "idempotency_in_progress"
	CodeMintInterrupted       Code = "mint_interrupted"
	CodeBudgetSpent           Code = "budget_spent"
	CodeSTSRefused            Code = "sts_refused"
	CodeSTSUnavailable        Code = "sts_unavailable"
	CodeAWSNotConfigured      Code = "aws_not_configured"

	CodeAuditorRequired Code = "auditor_required"
	CodeCursorInvalid   Code = "cursor_invalid"
	CodeRecordUnknown   Code = "record_unknown"
	CodeAuditPending    Code = "audit_pending"

	CodeMalformedToken   Code = "malformed_token"
	CodeWrongTokenType   Code = "wrong_token_type"
	CodeUnknownKey       Code = "unknown_key"
	CodeWrongIssuer      Code = "wrong_issuer"
	CodeWrongAudience    Code = "wrong_audience"
	CodeTokenExpired     Code = "token_expired"
	CodeTokenNotYetValid Code = "token_not_yet_valid"
)

// Kind is what all errors of one code have in common.
type Kind struct {
	Status      int
	Title       string
	Remediation string // one sentence: what to do next
}

// Error is an error of the broker's API on either side of the wire. Detail is
// for people; it never holds a token, a signature or a secret.
type Error struct {
	Code        Code
	Status      int
	Detail      string
	RequestID   string
	Remediation string
	RetryAfter  time.Duration // the Retry-After header, in whole seconds there; 0 says nothing
}

// Errorf makes an error of the given code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Status: KindOf(code).Status, Detail: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string {
	if e.Detail == "" {
		return string(e.Code)
	}
	return string(e.Code) + ": " + e.Detail
}

// Problem is the body of an error: application/problem+json of RFC 9457 with
// the broker's three extension members.
type Problem struct {
	Type        string `json:"type"`
	Title       string `json:"title"`
	Status      int    `json:"status"`
	Detail      string `json:"detail"`
	Instance    string `json:"instance"`
	Code        Code   `json:"code"`
	RequestID   string `json:"request_id"`
	Remediation string `json:"remediation"`
}

// KindOf returns what is known of a code. An unknown code is an internal
// error: a server never turns it into a success by accident.
func KindOf(code Code) Kind {
	if k, ok := kinds[code]; ok {
		return k
	}
	return kinds[CodeInternal]
}

// Codes returns every code that the broker may answer with.
func Codes() []Code {
	codes := make([]Code, 0, len(kinds))
	for code := range kinds {
		codes = append(codes, code)
	}
	return codes
}

const signInAgain = "Sign in again and use the new session token."
const startAgain = "Start the sign-in again and sign the new message."

var kinds = map[Code]Kind{
	CodeBadRequest:           {http.StatusBadRequest, "The request is malformed", "Send the body that the API description asks for."},
	CodeUnknownField:         {http.StatusBadRequest, "The body has a member that is not known", "Remove the member or correct its spelling."},
	CodeUnsupportedMediaType: {http.StatusUnsupportedMediaType, "The body is not JSON", "Send the body with Content-Type application/json."},
	CodeNotFound:             {http.StatusNotFound, "There is nothing at this path", "See openapi.json for the paths of this broker."},
	CodeMethodNotAllowed:     {http.StatusMethodNotAllowed, "The method is not allowed here", "Use a method that the Allow header names."},
	CodeBodyTooLarge:         {http.StatusRequestEntityTooLarge, "The body is too large", "Send a smaller body."},
	CodeInternal:             {http.StatusInternalServerError, "The broker failed", "Give the request id to the operator; the log has the reason."},
	CodeTimeout:              {http.StatusRequestTimeout, "The body did not arrive in time", "Send the whole body at once."},
	CodeCrossOrigin:          {http.StatusForbidden, "The request comes from a page of another origin", "Call the broker from a program, not from another site's page."},
	CodeAuditUnavailable:     {http.StatusServiceUnavailable, "The request could not be recorded, so nothing was released", "Try again; if it repeats, the operator must mend what /readyz of the broker names."},
	CodeStoreUnavailable:     {http.StatusServiceUnavailable, "The database is not available", "Try again; if it repeats, the operator must mend the database."},

	CodeAddressMalformed: {http.StatusBadRequest, "The address is malformed", "Send an Ethereum address: 0x and 40 hexadecimal digits."},
	CodeAddressChecksum:  {http.StatusBadRequest, "The address fails its checksum", "Check the address for a typing error, or send it in lower case."},
	CodeChainNotAllowed:  {http.StatusBadRequest, "The chain is not allowed", "Use a chain id that this broker is configured for."},

	CodeRequestUnknown:     {http.StatusUnauthorized, "The sign-in request is not known", startAgain},
	CodeRequestUsed:        {http.StatusUnauthorized, "The sign-in request was used before", startAgain},
	CodeRequestExpired:     {http.StatusUnauthorized, "The sign-in request has expired", startAgain},
	CodeClockBackwards:     {http.StatusServiceUnavailable, "The broker's clock is behind the time it had before", "The operator must set the clock of the broker's host; then try again."},
	CodeBadSignature:       {http.StatusUnauthorized, "The signature is not valid", "Sign in again; a wallet signs the exact text that it is given."},
	CodeSignatureMalformed: {http.StatusUnauthorized, "The signature is malformed", "Send the 65 bytes of an EIP-191 signature as 0x and 130 hexadecimal digits."},
	CodeSignatureRecovery:  {http.StatusUnauthorized, "The signature's recovery byte is not one that wallets make", "Sign with personal_sign; the last byte is 0, 1, 27 or 28."},
	CodeDomainMismatch:     {http.StatusUnauthorized, "The sign-in message is for another domain than this broker's", startAgain},
	CodeMessageMismatch:    {http.StatusUnauthorized, "The stored sign-in message is not the one that was handed out", startAgain},
	CodeHighSSignature:     {http.StatusUnauthorized, "The signature is not in its low-s form", "Use a wallet that makes low-s signatures (EIP-2)."},
	CodeWrongSigner:        {http.StatusUnauthorized, "Another key than the address's made the signature", "Start again and sign with the wallet of that address."},

	CodeCallSignature:         {http.StatusUnauthorized, "The call's signature is not the caller's", "Sign the RFC 8785 form of method, url and body with the session's wallet (EIP-191)."},
	CodeCallExpired:           {http.StatusUnauthorized, "The call was signed too long ago, or in the future", "Set the clock, then sign the call anew with the present issued_at."},
	CodeCallReplayed:          {http.StatusUnauthorized, "The call's request_id was used before", "Sign the call anew with a fresh request_id."},
	CodeWalletMismatch:        {http.StatusForbidden, "The call was signed for another wallet than the session's", "Sign in with the wallet that signs the calls."},
	CodeGrantRequired:         {http.StatusForbidden, "There is no grant for this", "Ask the owner for a grant to this wallet (agentkeys grant create)."},
	CodeGrantAmbiguous:        {http.StatusForbidden, "More than one owner granted to this wallet", "Name the grant with grant_id (agentkeys grant list)."},
	CodeGrantRevoked:          {http.StatusForbidden, "The grant was revoked", "Ask the owner for a new grant."},
	CodeGrantExpired:          {http.StatusForbidden, "The grant has expired", "Ask the owner for a new grant."},
	CodeGrantExhausted:        {http.StatusForbidden, "The grant has been used as often as it may", "Ask the owner for a new grant."},
	CodeScopeExceedsGrant:     {http.StatusForbidden, "The grant does not reach that far", "Ask for a path under the grant's, or the owner for a wider grant."},
	CodeGrantInvalid:          {http.StatusBadRequest, "The grant is not one that can be made", "Correct the member that the detail names."},
	CodeGrantUnknown:          {http.StatusNotFound, "There is no such grant of this owner", "See agentkeys grant list for the ids."},
	CodeIdempotencyKeyReused:  {http.StatusUnprocessableEntity, "The Idempotency-Key was used with another body", "Use a fresh key for each new request."},
	CodeIdempotencyInProgress: {http.StatusConflict, "The first request with this Idempotency-Key is still running", "Try again with the same key and body."},
	CodeMintInterrupted:       {http.StatusServiceUnavailable, "The first request with this Idempotency-Key was cut off; nothing of it was released", "Sign the call anew with a fresh request_id and a fresh key."},
	CodeBudgetSpent:           {http.StatusTooManyRequests, "The budget is spent for now", "Wait as long as Retry-After says; keep credentials until they end."},
	CodeSTSRefused:            {http.StatusBadGateway, "AWS STS refused to give credentials", "The operator must mend what the detail names; see agentkeys federation explain."},
	CodeSTSUnavailable:        {http.StatusBadGateway, "AWS STS did not answer in full, was too busy, or failed", "Try again later with a fresh request_id; where it repeats, the operator must look at the broker's log and at BROKER_AWS_STS_ENDPOINT."},
	CodeAWSNotConfigured:      {http.StatusServiceUnavailable, "This broker gives no AWS credentials", "The operator must set BROKER_AWS_ACCOUNT, BROKER_AWS_REGION and BROKER_AWS_BUCKET."},

	CodeAuditorRequired: {http.StatusForbidden, "Only an auditor sees the records of others", "Leave account and tenant out, or give your own; the operator names auditors in BROKER_AUDITORS."},
	CodeCursorInvalid:   {http.StatusBadRequest, "The cursor is not one of this caller's for this query", "Begin again without a cursor; keep order and filters the same from page to page."},
	CodeRecordUnknown:   {http.StatusNotFound, "There is no such record", "Give the id of a record as it stands in the entry; those of pruned records are only in exports."},
	CodeAuditPending:    {http.StatusConflict, "The record has no place in the signed tree yet", "Try again in a second; where it repeats, the operator must look at the broker's readiness."},

	CodeSessionRequired:  {http.StatusUnauthorized, "A session token is required", "Sign in, then send the session token as Authorization: Bearer."},
	CodeMalformedToken:   {http.StatusUnauthorized, "The session token is malformed", signInAgain},
	CodeWrongTokenType:   {http.StatusUnauthorized, "This is not a session token", signInAgain},
	CodeUnknownKey:       {http.StatusUnauthorized, "The session token was signed by a key that is not known", signInAgain},
	CodeWrongIssuer:      {http.StatusUnauthorized, "The session token is of another issuer", signInAgain},
	CodeWrongAudience:    {http.StatusUnauthorized, "The session token is for another audience", signInAgain},
	CodeTokenExpired:     {http.StatusUnauthorized, "The session token has expired", signInAgain},
	CodeTokenNotYetValid: {http.StatusUnauthorized, "The session token is not valid yet", "Check the clocks of the broker's hosts; then sign in again."},
}
