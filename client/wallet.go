package client

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/sha3"
)

// Wallet is an Ethereum key that lives in this process: an agent's identity.
// It signs messages and shows its address; under every fmt verb, slog and JSON
// the key stays hidden. Safe for concurrent use.
type Wallet struct {
	key     *hiddenKey
	address string
}

// hiddenKey keeps the key two pointers away from a Wallet. In an unexported
// field of another struct none of our methods is called, and there fmt follows
// one pointer under a verb that does not fit, but never two.
type hiddenKey struct{ *secp256k1.PrivateKey }

// NewWallet makes a wallet with a fresh key from the system's random source.
func NewWallet() (*Wallet, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return nil, fmt.Errorf("making a wallet key: %w", err)
	}
	return newWallet(key), nil
}

// ParseWallet reads a private key of 64 hexadecimal digits, with or without 0x.
// Zero and numbers beyond the order of the curve are refused. Errors hold
// nothing of the key.
func ParseWallet(hexKey string) (*Wallet, error) {
	digits := strings.TrimPrefix(hexKey, "0x")
	if len(digits) != 2*secp256k1.PrivKeyBytesLen {
		return nil, fmt.Errorf("wallet key: want %d hexadecimal digits, got %d characters", 2*secp256k1.PrivKeyBytesLen, len(digits))
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return nil, errors.New("wallet key: want hexadecimal digits, got another character")
	}
	var k secp256k1.ModNScalar
	if overflow := k.SetByteSlice(raw); overflow || k.IsZero() {
		return nil, errors.New("wallet key: want a number from 1 to the order of secp256k1 less 1, got one outside")
	}
	return newWallet(secp256k1.NewPrivateKey(&k)), nil
}

func newWallet(key *secp256k1.PrivateKey) *Wallet {
	// An address is the end of the hash of the public key's two coordinates.
	hash := keccak256(key.PubKey().SerializeUncompressed()[1:])
	return &Wallet{key: &hiddenKey{key}, address: checksumAddress(hash[12:])}
}

// Address returns the wallet's address with the checksum of EIP-55.
func (w Wallet) Address() string { return w.address }

// SignMessage signs the bytes of msg as personal_sign does (EIP-191, version
// 0x45) and returns 0x and 130 hexadecimal digits: r, s and v of 27 or 28. The
// signature is deterministic (RFC 6979) and has the low s of EIP-2.
func (w Wallet) SignMessage(msg string) string {
	hash := keccak256([]byte("\x19Ethereum Signed Message:\n" + strconv.Itoa(len(msg)) + msg))
	// SignCompact puts v first; 29 and 30 need an r of a chance of 2^-127.
	sig := ecdsa.SignCompact(w.key.PrivateKey, hash, false)
	return "0x" + hex.EncodeToString(append(sig[1:], sig[0]))
}

// String names the wallet by its address.
func (w Wallet) String() string { return "wallet " + w.address }

// GoString is String: %#v shows no more.
func (w Wallet) GoString() string { return w.String() }

// Format writes String under every verb, also under those for which fmt would
// otherwise print the fields.
func (w Wallet) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, w.String()) }

// LogValue is the address: all that a log may hold of a wallet.
func (w Wallet) LogValue() slog.Value { return slog.StringValue(w.address) }

// checksumAddress writes 20 bytes as EIP-55 does: a letter is a capital where
// the hash of the lower-case digits has a nibble of 8 or more.
func checksumAddress(raw []byte) string {
	digits := []byte(hex.EncodeToString(raw))
	hash := hex.EncodeToString(keccak256(digits))
	for i, c := range digits {
		if c >= 'a' && hash[i] >= '8' {
			digits[i] = c - 'a' + 'A'
		}
	}
	return "0x" + string(digits)
}

func keccak256(b []byte) []byte {
	h := sha3.NewLegacyKeccak256()
	h.Write(b)
	return h.Sum(nil)
}
