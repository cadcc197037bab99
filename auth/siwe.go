package auth

import (
	"fmt"
	"strings"

	"agentkeys/identity"
)

// Message is a Sign-In with Ethereum message, version 1 (ERC-4361). Every field
// holds the text as it stands in the message, because the text is what is
// signed: two spellings of one instant are two messages.
type Message struct {
	Scheme         string // "" when absent
	Domain         string // RFC 3986 authority
	Address        string // with EIP-55's checksum
	Statement      *string
	URI            string
	ChainID        string // decimal
	Nonce          string
	IssuedAt       string // RFC 3339, like the next two
	ExpirationTime string // "" when absent
	NotBefore      string // "" when absent
	RequestID      *string
	Resources      []string // nil when absent; empty when only the heading is there
}

// The literal parts of the message.
const (
	headerEnd       = " wants you to sign in with your Ethereum account:"
	prefixURI       = "URI: "
	prefixVersion   = "Version: "
	prefixChainID   = "Chain ID: "
	prefixNonce     = "Nonce: "
	prefixIssuedAt  = "Issued At: "
	prefixExpires   = "Expiration Time: "
	prefixNotBefore = "Not Before: "
	prefixRequestID = "Request ID: "
	resourcesHead   = "Resources:"
	prefixResource  = "- "

	messageVersion = "1"
	minNonce       = 8 // ERC-4361; our own nonces are longer
)

// String writes the message out. It checks nothing: ParseMessage of the result
// tells whether the fields make a message.
func (m Message) String() string {
	var b strings.Builder
	if m.Scheme != "" {
		b.WriteString(m.Scheme + "://")
	}
	b.WriteString(m.Domain + headerEnd + "\n" + m.Address + "\n\n")
	if m.Statement != nil {
		b.WriteString(*m.Statement + "\n")
	}
	b.WriteString("\n" + prefixURI + m.URI + "\n" + prefixVersion + messageVersion + "\n")
	b.WriteString(prefixChainID + m.ChainID + "\n" + prefixNonce + m.Nonce + "\n" + prefixIssuedAt + m.IssuedAt)
	if m.ExpirationTime != "" {
		b.WriteString("\n" + prefixExpires + m.ExpirationTime)
	}
	if m.NotBefore != "" {
		b.WriteString("\n" + prefixNotBefore + m.NotBefore)
	}
	if m.RequestID != nil {
		b.WriteString("\n" + prefixRequestID + *m.RequestID)
	}
	if m.Resources != nil {
		b.WriteString("\n" + resourcesHead)
	}
	for _, r := range m.Resources {
		b.WriteString("\n" + prefixResource + r)
	}
	return b.String()
}

// ParseMessage reads a message by the grammar of ERC-4361, strictly: what it
// accepts, String writes out again byte for byte. Beyond the grammar it wants
// the address in EIP-55's spelling, a domain that is not empty, and dates that
// exist.
func ParseMessage(text string) (Message, error) {
	m, err := parseMessage(text)
	if err != nil {
		return Message{}, fmt.Errorf("parsing a sign-in message: %w", err)
	}
	return m, nil
}

func parseMessage(text string) (Message, error) {
	var m Message
	l := &lines{rest: strings.Split(text, "\n")}
	if err := m.parseHeader(l); err != nil {
		return m, err
	}
	if err := m.parseStatement(l); err != nil {
		return m, err
	}
	if err := m.parseRequired(l); err != nil {
		return m, err
	}
	if err := m.parseOptional(l); err != nil {
		return m, err
	}
	if line, more := l.next(); more {
		return m, l.errorf("want the end of the message, got %s", excerpt(line))
	}
	return m, nil
}

func (m *Message) parseHeader(l *lines) error {
	first, _ := l.next()
	origin, ok := strings.CutSuffix(first, headerEnd)
	if !ok {
		return l.errorf("want the line to end with %q, got %s", headerEnd, excerpt(first))
	}
	// No authority holds a slash, so the first "://" ends a scheme.
	m.Domain = origin
	if scheme, domain, found := strings.Cut(origin, "://"); found {
		m.Scheme, m.Domain = scheme, domain
		if !isScheme(scheme) {
			return l.errorf("want a scheme before ://, got %s", excerpt(scheme))
		}
	}
	if m.Domain == "" || !isAuthority(m.Domain) {
		return l.errorf("want a domain, got %s", excerpt(m.Domain))
	}
	m.Address, _ = l.next()
	lower, err := identity.ParseAddress(m.Address)
	if err != nil {
		return l.errorf("address: %w", err)
	}
	if want := identity.Checksum(lower); m.Address != want {
		return l.errorf("want the address with its checksum, %s, got %s", want, m.Address)
	}
	return nil
}

// parseStatement tells the three forms apart: two blank lines stand for no
// statement, three for an empty one.
func (m *Message) parseStatement(l *lines) error {
	if blank, ok := l.next(); !ok || blank != "" {
		return l.errorf("want a blank line after the address, got %s", excerpt(blank))
	}
	statement, _ := l.next()
	if after, ok := l.peek(); !ok || after != "" {
		if statement != "" {
			return l.errorf("want a blank line after the statement %s", excerpt(statement))
		}
		return nil
	}
	_, _ = l.next()
	if !isStatement(statement) {
		return l.errorf("want a statement of URI characters and blanks, got %s", excerpt(statement))
	}
	m.Statement = &statement
	return nil
}

func (m *Message) parseRequired(l *lines) error {
	var version string
	for _, f := range []struct {
		prefix string
		into   *string
		valid  func(string) bool
	}{
		{prefixURI, &m.URI, isURI},
		{prefixVersion, &version, func(s string) bool { return s == messageVersion }},
		{prefixChainID, &m.ChainID, isDecimal},
		{prefixNonce, &m.Nonce, isNonce},
		{prefixIssuedAt, &m.IssuedAt, isDateTime},
	} {
		found, err := l.field(f.prefix, f.into, f.valid)
		if err != nil {
			return err
		}
		if !found {
			got, _ := l.next()
			return l.errorf("want %q, got %s", f.prefix, excerpt(got))
		}
	}
	return nil
}

func (m *Message) parseOptional(l *lines) error {
	if _, err := l.field(prefixExpires, &m.ExpirationTime, isDateTime); err != nil {
		return err
	}
	if _, err := l.field(prefixNotBefore, &m.NotBefore, isDateTime); err != nil {
		return err
	}
	var id string
	found, err := l.field(prefixRequestID, &id, isPath)
	if err != nil {
		return err
	}
	if found {
		m.RequestID = &id
	}
	return m.parseResources(l)
}

func (m *Message) parseResources(l *lines) error {
	if head, ok := l.peek(); !ok || head != resourcesHead {
		return nil
	}
	_, _ = l.next()
	m.Resources = []string{}
	for {
		var uri string
		found, err := l.field(prefixResource, &uri, isURI)
		if err != nil || !found {
			return err
		}
		m.Resources = append(m.Resources, uri)
	}
}

// lines hands out the lines of a message and knows how many it has handed out.
type lines struct {
	rest []string
	n    int
}

func (l *lines) peek() (string, bool) {
	if len(l.rest) == 0 {
		return "", false
	}
	return l.rest[0], true
}

func (l *lines) next() (string, bool) {
	line, ok := l.peek()
	if ok {
		l.rest = l.rest[1:]
		l.n++
	}
	return line, ok
}

// field takes the next line if it begins with prefix.
func (l *lines) field(prefix string, into *string, valid func(string) bool) (found bool, err error) {
	line, _ := l.peek()
	value, found := strings.CutPrefix(line, prefix)
	if !found {
		return false, nil
	}
	_, _ = l.next()
	if !valid(value) {
		return true, l.errorf("%q is not followed by a valid value, got %s", prefix, excerpt(value))
	}
	*into = value
	return true, nil
}

func (l *lines) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %w", max(l.n, 1), fmt.Errorf(format, args...))
}

// excerpt quotes the beginning of a text for an error.
func excerpt(s string) string {
	const most = 40
	if len(s) > most {
		return fmt.Sprintf("%q…", s[:most])
	}
	return fmt.Sprintf("%q", s)
}
