package auth

import "fmt"

// The codes of refused sign-ins. They are stable: clients switch on them.
const (
	CodeAddressMalformed   = "address_malformed"   // not 0x and 40 hexadecimal digits
	CodeAddressChecksum    = "address_checksum"    // mixed case that is not EIP-55's
	CodeChainNotAllowed    = "chain_not_allowed"   // not a chain id, or not one that is configured
	CodeSignatureMalformed = "signature_malformed" // not 0x and 130 hexadecimal digits
	CodeSignatureRecovery  = "signature_recovery"  // v is none of 0, 1, 27 and 28
	CodeHighSSignature     = "high_s_signature"    // s above half the order (EIP-2)
	CodeBadSignature       = "bad_signature"       // r or s out of range, or no key made it
	CodeWrongSigner        = "wrong_signer"        // another key than the address's made it
	CodeRequestUnknown     = "request_unknown"     // no such challenge
	CodeRequestUsed        = "request_used"        // the challenge was answered before
	CodeRequestExpired     = "request_expired"     // the challenge's time is over
	CodeClockBackwards     = "clock_backwards"     // the clock reads less than when the challenge was issued
	CodeDomainMismatch     = "domain_mismatch"     // the message is for another domain or URI than the issuer's
	CodeMessageMismatch    = "message_mismatch"    // the stored message is not what its row says
)

// Codes returns every code that a refusal of this package may carry, so that
// the table that maps them to statuses can be tested for gaps.
func Codes() []string {
	return []string{
		CodeAddressMalformed, CodeAddressChecksum, CodeChainNotAllowed,
		CodeSignatureMalformed, CodeSignatureRecovery, CodeHighSSignature, CodeBadSignature, CodeWrongSigner,
		CodeRequestUnknown, CodeRequestUsed, CodeRequestExpired, CodeClockBackwards,
		CodeDomainMismatch, CodeMessageMismatch,
	}
}

// Error is a refused sign-in. Detail is for people: one line that never holds a
// signature, a nonce or a message.
type Error struct {
	Code   string
	Detail string
}

func (e *Error) Error() string { return e.Code + ": " + e.Detail }

func refusef(code, format string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(format, args...)}
}
