package policy

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// value is one value of a condition, converted once for its operator.
type value struct {
	pattern pattern
	arn     arnPattern
	num     decimal
	millis  int64
	truth   bool
	bytes   string
	network netip.Prefix // not valid: matches no address
}

// parseValue converts a policy's value for an operator. vars says whether the
// document's version has policy variables.
func parseValue(op operator, text string, vars bool) (value, error) {
	switch op.family {
	case stringEquals, stringEqualsIgnoreCase, stringLike:
		p, err := parsePattern(text, op.family == stringLike, vars)
		return value{pattern: p}, err
	case arnLike:
		p, err := parseARNPattern(text, vars)
		return value{arn: p}, err
	case numeric:
		n, ok := parseDecimal(text)
		return value{num: n}, valueError(ok, text, "a decimal number")
	case date:
		ms, ok := parseDate(text)
		return value{millis: ms}, valueError(ok, text, "an ISO 8601 date or seconds since 1970")
	case boolean, null:
		truth := strings.EqualFold(text, "true")
		return value{truth: truth}, valueError(truth || strings.EqualFold(text, "false"), text, "true or false")
	case binary:
		b, err := base64.StdEncoding.Strict().DecodeString(text)
		return value{bytes: string(b)}, valueError(err == nil, text, "base64")
	default:
		network, ok := parseNetwork(text)
		return value{network: network}, valueError(ok, text, "an address or a network in CIDR form")
	}
}

func valueError(ok bool, got, want string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("value %q: want %s", clip(got), want)
}

// parseNetwork reads an address, which stands for itself alone, or a CIDR
// block. Bits of an IPv4 block beyond its length do not count; an IPv6 block
// that has any never matches, so it comes back as a network that is not valid.
func parseNetwork(text string) (netip.Prefix, bool) {
	if !strings.Contains(text, "/") {
		addr, err := netip.ParseAddr(text)
		if err != nil || addr.Zone() != "" {
			return netip.Prefix{}, false
		}
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	if p.Addr().Is6() && p.Masked() != p {
		return netip.Prefix{}, true
	}
	return p.Masked(), true
}

// decimal is a number as its digits, so that no text, however long or large its
// exponent would be, costs more than its length to compare.
type decimal struct {
	negative bool
	whole    string // without leading zeros
	fraction string // without trailing zeros
}

// parseDecimal reads an optional sign, digits, and optionally a point and digits.
func parseDecimal(s string) (decimal, bool) {
	var d decimal
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative = s[0] == '-'
		s = s[1:]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	if whole == "" && fraction == "" || !digits(whole) || !digits(fraction) {
		return decimal{}, false
	}
	d.whole = strings.TrimLeft(whole, "0")
	d.fraction = strings.TrimRight(fraction, "0")
	if d.whole == "" && d.fraction == "" {
		d.negative = false
	}
	return d, true
}

// digits reports whether s is nothing but ASCII digits; the empty string is.
func digits(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// cmp orders two numbers: negative when d is less than other.
func (d decimal) cmp(other decimal) int {
	if d.negative != other.negative {
		if d.negative {
			return -1
		}
		return 1
	}
	order := len(d.whole) - len(other.whole)
	if order == 0 {
		order = strings.Compare(d.whole, other.whole)
	}
	if order == 0 {
		order = strings.Compare(d.fraction, other.fraction)
	}
	if d.negative {
		return -order
	}
	return order
}

// dateForms are the forms of ISO 8601 that are read, with the places of a
// value's punctuation: time.Parse alone takes an hour of one digit.
var dateForms = []struct{ layout, shape string }{
	{"2006-01", "dddd-dd"},
	{"2006-01-02", "dddd-dd-dd"},
	{"2006-01-02T15:04", "dddd-dd-ddTdd:dd"},
	{"2006-01-02T15:04Z07:00", "dddd-dd-ddTdd:dd"},
	{"2006-01-02T15:04Z0700", "dddd-dd-ddTdd:dd"},
	{"2006-01-02T15:04:05", "dddd-dd-ddTdd:dd:dd"},
	{"2006-01-02T15:04:05Z07:00", "dddd-dd-ddTdd:dd:dd"},
	{"2006-01-02T15:04:05Z0700", "dddd-dd-ddTdd:dd:dd"},
}

// parseDate reads an ISO 8601 date, in UTC where it names no zone, or seconds
// since 1970. The result is in milliseconds, which is as fine as AWS compares.
func parseDate(s string) (int64, bool) {
	if d, ok := parseDecimal(s); ok {
		return epochMillis(d)
	}
	for _, form := range dateForms {
		if !hasShape(s, form.shape) {
			continue
		}
		if t, err := time.Parse(form.layout, s); err == nil {
			return t.UnixMilli(), true
		}
	}
	return 0, false
}

func epochMillis(d decimal) (int64, bool) {
	const maxDigits = 12 // beyond the year 30000
	if len(d.whole) > maxDigits {
		return 0, false
	}
	var ms int64
	for i := 0; i < len(d.whole); i++ {
		ms = ms*10 + int64(d.whole[i]-'0')
	}
	for i := 0; i < 3; i++ {
		ms *= 10
		if i < len(d.fraction) {
			ms += int64(d.fraction[i] - '0')
		}
	}
	if d.negative {
		ms = -ms
	}
	return ms, true
}

func hasShape(s, shape string) bool {
	if len(s) < len(shape) {
		return false
	}
	for i := 0; i < len(shape); i++ {
		if shape[i] == 'd' && (s[i] < '0' || s[i] > '9') || shape[i] != 'd' && s[i] != shape[i] {
			return false
		}
	}
	return true
}
