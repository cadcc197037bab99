package auth

import (
	"encoding/hex"
	"strconv"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"
)

// signatureLen is "0x" and 65 bytes in hexadecimal: r, s (32 bytes each) and v.
const signatureLen = len("0x") + 2*65

// RecoverAddress returns the lower-case address of the key that signed the
// bytes of message as personal_sign does (EIP-191, version 0x45). Which address
// that must be is for the caller to decide: some key fits nearly every
// signature.
//
// It takes one form of each signature only, so that none can be replayed in
// another: 65 bytes after a lower-case 0x, v of 0, 1, 27 or 28, s in the lower
// half of the order (EIP-2). The compact form of EIP-2098 is refused. The error
// is an *Error and holds nothing of the signature.
func RecoverAddress(message, signature string) (string, error) {
	compact, refusal := parseSignature(signature)
	if refusal != nil {
		return "", refusal
	}
	key, _, err := ecdsa.RecoverCompact(compact, hashMessage(message))
	if err != nil {
		return "", refusef(CodeBadSignature, "no key recovers from the signature")
	}
	hash := keccak256(key.SerializeUncompressed()[1:])
	return "0x" + hex.EncodeToString(hash[12:]), nil
}

// parseSignature checks everything about a signature that needs no message and
// returns it as RecoverCompact takes it: v of 27 or 28, r, s.
func parseSignature(signature string) ([]byte, *Error) {
	if len(signature) != signatureLen {
		return nil, refusef(CodeSignatureMalformed, "signature: want %d characters, got %d", signatureLen, len(signature))
	}
	if signature[:2] != "0x" {
		return nil, refusef(CodeSignatureMalformed, "signature: want it to begin with 0x")
	}
	raw, err := hex.DecodeString(signature[2:])
	if err != nil {
		return nil, refusef(CodeSignatureMalformed, "signature: want hexadecimal digits after 0x, got another character")
	}
	v := raw[64]
	if v < 27 {
		v += 27
	}
	if v != 27 && v != 28 {
		return nil, refusef(CodeSignatureRecovery, "signature: want a v of 0, 1, 27 or 28, got %d", raw[64])
	}
	if refusal := checkScalars(raw[:32], raw[32:64]); refusal != nil {
		return nil, refusal
	}
	return append([]byte{v}, raw[:64]...), nil
}

func checkScalars(r, s []byte) *Error {
	var n secp256k1.ModNScalar
	if overflow := n.SetByteSlice(r); overflow || n.IsZero() {
		return refusef(CodeBadSignature, "signature: want r from 1 to the order of secp256k1 less 1, got one outside")
	}
	if overflow := n.SetByteSlice(s); overflow || n.IsZero() {
		return refusef(CodeBadSignature, "signature: want s from 1 to the order of secp256k1 less 1, got one outside")
	}
	if n.IsOverHalfOrder() {
		return refusef(CodeHighSSignature, "signature: want s of at most half the order of secp256k1 (EIP-2), got a higher one")
	}
	return nil
}

// hashMessage is the hash that personal_sign signs. The length is in bytes.
func hashMessage(message string) []byte {
	return keccak256([]byte("\x19Ethereum Signed Message:\n" + strconv.Itoa(len(message)) + message))
}

func keccak256(b []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(b)
	return h.Sum(nil)
}
