package grant

import "fmt"

// The codes of an Error. They are the broker's API's.
const (
	CodeInvalid   = "grant_invalid"
	CodeUnknown   = "grant_unknown"
	CodeRequired  = "grant_required"
	CodeAmbiguous = "grant_ambiguous"
	CodeRevoked   = "grant_revoked"
	CodeExpired   = "grant_expired"
	CodeExhausted = "grant_exhausted"
	CodeScope     = "scope_exceeds_grant"
	CodeCursor    = "cursor_invalid"
)

// Error is a refusal for the caller to read.
type Error struct {
	Code   string
	Detail string
}

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

func refuse(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Codes returns every code that an Error may carry, so that the table that maps them
// to statuses can be tested for gaps.
func Codes() []string {
	return []string{CodeInvalid, CodeUnknown, CodeRequired, CodeAmbiguous, CodeRevoked, CodeExpired, CodeExhausted, CodeScope, CodeCursor}
}
