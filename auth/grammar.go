package auth

import (
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// The rules of RFC 3986 (appendix A), RFC 3339 (section 5.6) and ERC-4361 that
// a sign-in message is made of, each under the RFC's name for it.

const (
	digits     = "0123456789"
	hexDigits  = digits + "abcdefABCDEF"
	alphas     = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	unreserved = alphas + digits + "-._~"
	subDelims  = "!$&'()*+,;="
	genDelims  = ":/?#[]@"
)

// charset is a set of ASCII characters.
type charset [128]bool

func newCharset(chars string) *charset {
	var set charset
	for _, c := range []byte(chars) {
		set[c] = true
	}
	return &set
}

func (set *charset) has(c byte) bool { return c < 128 && set[c] }

// all tells whether s is made of the set alone. An empty s is.
func (set *charset) all(s string) bool {
	for i := range len(s) {
		if !set.has(s[i]) {
			return false
		}
	}
	return true
}

// allEncoded is all with percent-encoded bytes besides.
func (set *charset) allEncoded(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			if !set.has(s[i]) {
				return false
			}
			continue
		}
		if i+2 >= len(s) || !hexSet.all(s[i+1:i+3]) {
			return false
		}
		i += 2
	}
	return true
}

var (
	digitSet     = newCharset(digits)
	hexSet       = newCharset(hexDigits)
	alphaSet     = newCharset(alphas)
	alnumSet     = newCharset(alphas + digits)
	schemeSet    = newCharset(alphas + digits + "+-.")
	userinfoSet  = newCharset(unreserved + subDelims + ":")
	regNameSet   = newCharset(unreserved + subDelims)
	pcharSet     = newCharset(unreserved + subDelims + ":@")
	pathSet      = newCharset(unreserved + subDelims + ":@/")
	querySet     = newCharset(unreserved + subDelims + ":@/?")
	statementSet = newCharset(unreserved + subDelims + genDelims + " ")
)

func isStatement(s string) bool { return statementSet.all(s) }
func isDecimal(s string) bool   { return s != "" && digitSet.all(s) }
func isNonce(s string) bool     { return len(s) >= minNonce && alnumSet.all(s) }
func isPath(s string) bool      { return pcharSet.allEncoded(s) } // *pchar: one segment
func isScheme(s string) bool    { return s != "" && alphaSet.has(s[0]) && schemeSet.all(s) }

// isURI is the rule URI: scheme ":" hier-part [ "?" query ] [ "#" fragment ].
func isURI(s string) bool {
	scheme, rest, found := strings.Cut(s, ":")
	if !found || !isScheme(scheme) {
		return false
	}
	rest, fragment, _ := strings.Cut(rest, "#")
	hier, query, _ := strings.Cut(rest, "?")
	if !querySet.allEncoded(fragment) || !querySet.allEncoded(query) {
		return false
	}
	// A path cannot begin with "//": what does is an authority and its path.
	if after, found := strings.CutPrefix(hier, "//"); found {
		authority, path, _ := strings.Cut(after, "/")
		return isAuthority(authority) && pathSet.allEncoded(path)
	}
	return pathSet.allEncoded(hier)
}

// isAuthority is the rule authority: [ userinfo "@" ] host [ ":" port ].
func isAuthority(s string) bool {
	if userinfo, host, found := strings.Cut(s, "@"); found {
		if !userinfoSet.allEncoded(userinfo) {
			return false
		}
		s = host
	}
	if rest, found := strings.CutPrefix(s, "["); found {
		literal, port, closed := strings.Cut(rest, "]")
		return closed && isIPLiteral(literal) && (port == "" || port[0] == ':' && digitSet.all(port[1:]))
	}
	host, port, _ := strings.Cut(s, ":")
	return regNameSet.allEncoded(host) && digitSet.all(port)
}

// isIPLiteral is what stands between the brackets: IPv6address or IPvFuture.
// RFC 3986 has no zone in it.
func isIPLiteral(s string) bool {
	if s != "" && (s[0] == 'v' || s[0] == 'V') {
		version, address, found := strings.Cut(s[1:], ".")
		return found && version != "" && hexSet.all(version) && address != "" && userinfoSet.all(address)
	}
	ip, err := netip.ParseAddr(s)
	return err == nil && ip.Is6() && ip.Zone() == ""
}

// isDateTime is the rule date-time of RFC 3339, on a day that the calendar has.
// A 60th second is left to pass, as only a table of leap seconds could tell.
func isDateTime(s string) bool {
	const layout = "dddd-dd-ddTdd:dd:dd"
	if len(s) <= len(layout) || !hasShape(s[:len(layout)], layout) {
		return false
	}
	// time.Date carries a day that the month lacks over into another month.
	month := time.Month(number(s[5:7]))
	if time.Date(number(s[0:4]), month, number(s[8:10]), 0, 0, 0, 0, time.UTC).Month() != month {
		return false
	}
	if number(s[11:13]) > 23 || number(s[14:16]) > 59 || number(s[17:19]) > 60 {
		return false
	}
	rest := s[len(layout):]
	if fraction, found := strings.CutPrefix(rest, "."); found {
		rest = strings.TrimLeft(fraction, digits)
		if rest == fraction {
			return false
		}
	}
	return isOffset(rest)
}

func isOffset(s string) bool {
	if s == "Z" || s == "z" {
		return true
	}
	return (hasShape(s, "+dd:dd") || hasShape(s, "-dd:dd")) && number(s[1:3]) <= 23 && number(s[4:6]) <= 59
}

// hasShape compares s with a layout in which d is a digit and T a T of either
// case; every other character stands for itself.
func hasShape(s, layout string) bool {
	if len(s) != len(layout) {
		return false
	}
	for i := range len(s) {
		switch want, got := layout[i], s[i]; want {
		case 'd':
			if !digitSet.has(got) {
				return false
			}
		case 'T':
			if got != 'T' && got != 't' {
				return false
			}
		default:
			if got != want {
				return false
			}
		}
	}
	return true
}

// number reads digits that hasShape has seen.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
