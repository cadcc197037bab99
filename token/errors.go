package token

import "fmt"

// The codes of the errors of [Sessions.Verify]. They are stable.
const (
	CodeMalformedToken   = "malformed_token"     // not a compact ES256 JWS with the members of its kind
	CodeWrongTokenType   = "wrong_token_type"    // the header's typ is another kind's
	CodeUnknownKey       = "unknown_key"         // the header's kid is not in the keyring
	CodeBadSignature     = "bad_signature"       // the key did not make the signature
	CodeWrongIssuer      = "wrong_issuer"        // iss is not this broker
	CodeWrongAudience    = "wrong_audience"      // aud is not this broker's sessions
	CodeTokenExpired     = "token_expired"       // exp has come
	CodeTokenNotYetValid = "token_not_yet_valid" // nbf is still to come
	CodeClockBackwards   = "clock_backwards"     // iat is in the future: this clock is behind the one that issued
)

// Error is the refusal of a token. Detail is one line for people. It never
// repeats text of the token: what is refused may be somebody's secret, or
// something an attacker wants to see in a log.
type Error struct{ Code, Detail string }

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

func refuse(code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
