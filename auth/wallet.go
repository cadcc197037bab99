// Package auth proves control of an identity. There is one way to sign in, with an
// Ethereum wallet. It hands out a challenge, and an answer to it consumes the
// challenge, also when the answer is refused, so nobody tries twice and nothing is
// replayed.
//
// What it keeps safe: a sign-in is bound to one challenge, one address, this
// issuer and a span of time, and the text that is verified is byte for byte the
// text that was handed out. What it does not: it cannot tell whether the owner
// of the key meant to sign what a deceiving page showed; that is why the
// message names the issuer's domain, which wallets compare with the page's. It
// limits no rates and writes no audit record; the broker does.
package auth

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"time"

	"agentkeys/identity"
)

const (
	// DefaultWalletTTL is how long a challenge may be answered.
	DefaultWalletTTL = 45 * time.Minute
	// DefaultStatement is the sentence in the message for the owner to read.
	DefaultStatement = "Sign in to AgentKeys. This costs nothing and sends no transaction."

	maxWalletTTL = 24 * time.Hour
	// maxChainID is the bound of EIP-2294.
	maxChainID = 9223372036854775771
	// clockLeeway is how far the clock may read below the time at which a
	// challenge was issued: clocks of several brokers differ, and are corrected.
	clockLeeway = 30 * time.Second

	requestPrefix = "siwe-"
	// timeLayout is RFC 3339 in UTC with the milliseconds that the table keeps.
	timeLayout = "2006-01-02T15:04:05.000Z"
)

// WalletConfig is what sign-in with an Ethereum wallet needs to know.
type WalletConfig struct {
	Issuer    string        // URL: its host and port are the message's domain, the whole its URI
	ChainIDs  []int64       // allowed chains; empty allows every chain id
	TTL       time.Duration // 1 s to 24 h; 0 stands for DefaultWalletTTL
	Statement string        // one line of URI characters and blanks; "" stands for DefaultStatement
}

// Wallet is sign-in with an Ethereum wallet (ERC-4361 and EIP-191). Externally
// owned accounts only: a contract's signature (ERC-1271) is a wrong signer's.
// Safe for concurrent use.
type Wallet struct {
	issuer, domain, statement string
	chainIDs                  []int64
	ttl                       time.Duration
}

// NewWallet checks the configuration to the point where every message that it
// can lead to is a valid one.
func NewWallet(c WalletConfig) (*Wallet, error) {
	u, err := url.Parse(c.Issuer)
	if err != nil {
		return nil, fmt.Errorf("wallet sign-in: issuer: %w", err)
	}
	if (u.Scheme != "https" && u.Scheme != "http") || u.Hostname() == "" || u.User != nil || !isURI(c.Issuer) || !isAuthority(u.Host) {
		return nil, fmt.Errorf("wallet sign-in: issuer: want a URL like https://broker.example, got %q", c.Issuer)
	}
	w := &Wallet{issuer: c.Issuer, domain: u.Host, statement: c.Statement, chainIDs: slices.Clone(c.ChainIDs), ttl: c.TTL}
	if w.statement == "" {
		w.statement = DefaultStatement
	}
	if !isStatement(w.statement) {
		return nil, fmt.Errorf("wallet sign-in: statement: want one line of URI characters and blanks, got %q", w.statement)
	}
	if w.ttl == 0 {
		w.ttl = DefaultWalletTTL
	}
	if w.ttl < time.Second || w.ttl > maxWalletTTL {
		return nil, fmt.Errorf("wallet sign-in: lifetime of a challenge: want %v to %v, got %v", time.Second, maxWalletTTL, w.ttl)
	}
	for _, id := range w.chainIDs {
		if id < 1 || id > maxChainID {
			return nil, fmt.Errorf("wallet sign-in: allowed chain: want an id from 1 to %d, got %d", maxChainID, id)
		}
	}
	return w, nil
}

// Challenge is a message that was handed out to be signed: a row of the table
// wallet_challenges.
type Challenge struct {
	RequestID string // "siwe-" and 26 characters
	Message   string // the exact text to sign
	Nonce     string
	Address   string // who must sign, in lower case
	ChainID   int64
	IssuedAt  time.Time // UTC, milliseconds, like the message's
	ExpiresAt time.Time
}

// NewChallenge makes a challenge for the owner of address. Of the request only
// the address, spelled anew, and the number of the chain get into the message.
// A refusal is an *Error.
func (w *Wallet) NewChallenge(address string, chainID int64, now time.Time) (Challenge, error) {
	lower, err := identity.ParseAddress(address)
	switch {
	case errors.Is(err, identity.ErrAddressChecksum):
		return Challenge{}, &Error{Code: CodeAddressChecksum, Detail: err.Error()}
	case err != nil:
		return Challenge{}, &Error{Code: CodeAddressMalformed, Detail: err.Error()}
	}
	if refusal := w.checkChain(chainID); refusal != nil {
		return Challenge{}, refusal
	}
	issued := now.UTC().Truncate(time.Millisecond)
	c := Challenge{
		RequestID: requestPrefix + rand.Text(),
		Nonce:     rand.Text(), // 26 characters of base 32, 130 bits
		Address:   lower,
		ChainID:   chainID,
		IssuedAt:  issued,
		ExpiresAt: issued.Add(w.ttl),
	}
	m := w.message(c)
	c.Message = m.String()
	// A message that reads as something else than was meant must not be signed.
	if read, err := ParseMessage(c.Message); err != nil {
		return Challenge{}, fmt.Errorf("building a sign-in message: %w", err)
	} else if !reflect.DeepEqual(read, m) {
		return Challenge{}, errors.New("building a sign-in message: it does not read as it was written")
	}
	return c, nil
}

// checkChain refuses what is no chain id by EIP-2294 or not on the list.
func (w *Wallet) checkChain(id int64) *Error {
	if id < 1 || id > maxChainID {
		return refusef(CodeChainNotAllowed, "chain id: want 1 to %d, got %d", maxChainID, id)
	}
	if len(w.chainIDs) > 0 && !slices.Contains(w.chainIDs, id) {
		return refusef(CodeChainNotAllowed, "chain id: want one of %v, got %d", w.chainIDs, id)
	}
	return nil
}

// message is the message that a challenge of this issuer has.
func (w *Wallet) message(c Challenge) Message {
	return Message{
		Domain:         w.domain,
		Address:        identity.Checksum(c.Address),
		Statement:      &w.statement,
		URI:            w.issuer,
		ChainID:        strconv.FormatInt(c.ChainID, 10),
		Nonce:          c.Nonce,
		IssuedAt:       c.IssuedAt.UTC().Format(timeLayout),
		ExpirationTime: c.ExpiresAt.UTC().Format(timeLayout),
		RequestID:      &c.RequestID,
	}
}

// Recover returns the lower-case address of the key that signed the challenge's
// message. It uses no database, so that the costly part of a sign-in is done
// outside the write transaction; Finish decides whether the address is the
// right one. A refusal is an *Error.
func (w *Wallet) Recover(c Challenge, signature string) (string, error) {
	if refusal := w.checkMessage(c); refusal != nil {
		return "", refusal
	}
	return RecoverAddress(c.Message, signature)
}

// checkMessage refuses a stored message that is not this issuer's, which
// happens when the issuer is renamed while challenges are open, and one that
// does not say what its row says, which only a tampered database does.
func (w *Wallet) checkMessage(c Challenge) *Error {
	m, err := ParseMessage(c.Message)
	if err != nil {
		return refusef(CodeMessageMismatch, "the stored message is not a sign-in message")
	}
	if m.Domain != w.domain || m.URI != w.issuer {
		return refusef(CodeDomainMismatch, "message: want domain %q and URI %q, got %q and %q", w.domain, w.issuer, m.Domain, m.URI)
	}
	// The statement alone may have been configured anew since.
	want := w.message(c)
	want.Statement = m.Statement
	if !reflect.DeepEqual(m, want) {
		return refusef(CodeMessageMismatch, "the stored message does not agree with its challenge")
	}
	return nil
}
