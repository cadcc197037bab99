package audit

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// MaxLine is the longest line of an export in bytes, with its line break: an entry
// whose members are all as long as they may be, and every byte of them escaped.
const MaxLine = 32 << 10

// A RawLine is a line of an export, taken apart and not yet believed.
type RawLine struct {
	Place  int64
	Leaf   []byte // the text that the tree commits to; nil once the record is pruned
	Person []byte // the text of the personal members; nil once the record is erased or pruned
	Salt   []byte
	Hash   Digest // of the leaf
}

// Line is an entry as exports and anchor files have it, a JSON object and a line
// break: {"place":1,"leaf":{…},"person":{…},"salt":"…","hash":"…"}. An erased record
// has neither person nor salt.
func (e *Entry) Line() []byte {
	l := e.rawLine()
	return l.Append(nil)
}

func (e *Entry) rawLine() RawLine {
	l := RawLine{Place: e.Seq, Leaf: e.Leaf(), Salt: e.Salt}
	if len(e.Person) == 0 {
		l.Person = e.PersonText()
	}
	l.Hash = hashLeaf(l.Leaf)
	return l
}

// Append adds the line to b.
func (l *RawLine) Append(b []byte) []byte {
	b = strconv.AppendInt(append(b, `{"place":`...), l.Place, 10)
	if l.Leaf != nil {
		b = append(append(b, `,"leaf":`...), l.Leaf...)
	}
	if l.Person != nil {
		b = append(append(b, `,"person":`...), l.Person...)
		b = hex.AppendEncode(append(b, `,"salt":"`...), l.Salt)
		b = append(b, '"')
	}
	b = hex.AppendEncode(append(b, `,"hash":"`...), l.Hash[:])
	return append(b, "\"}\n"...)
}

// ParseLine takes a line apart, with or without its line break. It looks at no more
// than where the parts begin and end: Check and Entry look into them. The parts are
// slices of the line.
func ParseLine(line []byte) (RawLine, error) {
	var l RawLine
	rest, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte(`{"place":`))
	if !ok {
		return l, errors.New(`want a line that begins with {"place": and a number`)
	}
	digits, rest, ok := bytes.Cut(rest, []byte(","))
	place, err := strconv.ParseInt(string(digits), 10, 64)
	if !ok || err != nil || place < 1 || strconv.FormatInt(place, 10) != string(digits) {
		return l, fmt.Errorf("place: want a number from 1, got %.40q", digits)
	}
	l.Place = place
	// Neither of the marks below can be inside of a text: its quotes would be escaped.
	rest, ok = bytes.CutSuffix(rest, []byte(`"}`))
	at := bytes.LastIndex(rest, []byte(`"hash":"`))
	if !ok || at < 0 || hex.DecodedLen(len(rest[at+8:])) != len(l.Hash) || !lowerHex(rest[at+8:]) {
		return l, errors.New("hash: want 64 lower-case digits of hexadecimal at the end")
	}
	_, _ = hex.Decode(l.Hash[:], rest[at+8:])
	return l, l.cut(rest[:at])
}

// cut takes leaf, person and salt from what is between place and hash.
func (l *RawLine) cut(rest []byte) error {
	if len(rest) == 0 {
		return nil // pruned
	}
	rest, ok := bytes.CutPrefix(rest, []byte(`"leaf":`))
	rest, end := bytes.CutSuffix(rest, []byte(","))
	if !ok || !end {
		return errors.New("want leaf behind place")
	}
	leaf, person, ok := bytes.Cut(rest, []byte(`,"person":{`))
	l.Leaf = leaf
	if !ok {
		return nil // erased
	}
	person, salt, ok := bytes.Cut(person, []byte(`,"salt":"`))
	salt, end = bytes.CutSuffix(salt, []byte(`"`))
	if !ok || !end || hex.DecodedLen(len(salt)) != SaltSize && len(salt) != 0 || !lowerHex(salt) {
		return fmt.Errorf("salt: want %d lower-case digits of hexadecimal behind person", 2*SaltSize)
	}
	l.Person = rest[len(leaf)+len(`,"person":`) : len(leaf)+len(`,"person":{`)+len(person)]
	l.Salt = make([]byte, hex.DecodedLen(len(salt)))
	_, _ = hex.Decode(l.Salt, salt)
	return nil
}

func lowerHex(digits []byte) bool {
	for _, c := range digits {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return len(digits)%2 == 0
}

// leafText is a leaf in JSON.
type leafText struct {
	Action       string `json:"action"`
	CredentialID string `json:"credential_id"`
	Detail       string `json:"detail"`
	GrantID      string `json:"grant_id"`
	ID           string `json:"id"`
	KeyID        string `json:"key_id"`
	Outcome      string `json:"outcome"`
	Person       string `json:"person"`
	Reason       string `json:"reason"`
	RequestID    string `json:"request_id"`
	Service      string `json:"service"`
	Settles      string `json:"settles"`
	Time         string `json:"time"`
	TokenID      string `json:"token_id"`
	Version      int    `json:"v"`
}

// personText is the text of the personal members in JSON.
type personText struct {
	Agent         string `json:"agent"`
	IdentityType  string `json:"identity_type"`
	IdentityValue string `json:"identity_value"`
	OmniAccount   string `json:"omni_account"`
	ScopePath     string `json:"scope_path"`
	Source        string `json:"source"`
	Tenant        string `json:"tenant"`
	Wallet        string `json:"wallet"`
}

// Entry reads what the line says. It refuses a line that is not spelt as Line spells
// the entry, so one entry has one line; it does not look whether Hash is that of the
// leaf (Check does).
func (l *RawLine) Entry() (Entry, error) {
	if l.Leaf == nil {
		return Entry{}, errors.New("the record was pruned, its leaf is not in the line")
	}
	var leaf leafText
	if err := strictly(l.Leaf, &leaf); err != nil {
		return Entry{}, fmt.Errorf("leaf: %w", err)
	}
	if leaf.Version != 1 {
		return Entry{}, fmt.Errorf("leaf: want version 1, got %d", leaf.Version)
	}
	var person personText
	if l.Person != nil {
		if err := strictly(l.Person, &person); err != nil {
			return Entry{}, fmt.Errorf("person: %w", err)
		}
	}
	at, err := time.Parse(timeForm, leaf.Time)
	if err != nil {
		return Entry{}, fmt.Errorf("leaf: time: want RFC 3339 with milliseconds in UTC, got %.40q", leaf.Time)
	}
	e := Entry{Salt: l.Salt, Hash: l.Hash[:], Record: Record{Seq: l.Place, ID: leaf.ID, Time: at, Action: leaf.Action, Outcome: leaf.Outcome, Reason: leaf.Reason,
		IdentityType: person.IdentityType, IdentityValue: person.IdentityValue, OmniAccount: person.OmniAccount, Wallet: person.Wallet,
		KeyID: leaf.KeyID, TokenID: leaf.TokenID, Source: person.Source, RequestID: leaf.RequestID, Tenant: person.Tenant, Agent: person.Agent,
		Service: leaf.Service, ScopePath: person.ScopePath, GrantID: leaf.GrantID, CredentialID: leaf.CredentialID, Settles: leaf.Settles, Detail: leaf.Detail}}
	if l.Person == nil {
		if e.Person, err = hex.DecodeString(leaf.Person); err != nil || len(e.Person) != len(Digest{}) {
			return Entry{}, fmt.Errorf("leaf: person: want 64 digits of hexadecimal, got %.80q", leaf.Person)
		}
	}
	return e, l.spelling(&e, leaf.Person)
}

// spelling refuses other spellings of the same entry.
func (l *RawLine) spelling(e *Entry, digest string) error {
	if err := e.validate(); err != nil {
		return err
	}
	if got := e.Digest().String(); got != digest {
		return fmt.Errorf("person: want the digest %.80s that the leaf has, got %s", digest, got)
	}
	if !bytes.Equal(e.Leaf(), l.Leaf) || l.Person != nil && !bytes.Equal(e.PersonText(), l.Person) {
		return errors.New("it is not as AgentKeys writes it: another spelling, or a member that is not known")
	}
	return nil
}

// Check holds the leaf against its hash and the personal members against the leaf,
// without reading more of either.
func (l *RawLine) Check() error {
	if l.Leaf == nil {
		return nil
	}
	if got := hashLeaf(l.Leaf); got != l.Hash {
		return fmt.Errorf("want the hash %s, got %s", l.Hash, got)
	}
	if l.Person == nil {
		return nil
	}
	digest := digestOf(l.Salt, l.Person)
	if want := []byte(`,"person":"` + digest.String() + `"`); !bytes.Contains(l.Leaf, want) {
		return fmt.Errorf("its personal members have the digest %s, which its leaf does not", digest)
	}
	return nil
}

func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("want a JSON object with known members: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("want one JSON object, got something behind it")
	}
	return nil
}
