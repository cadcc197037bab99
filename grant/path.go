package grant

import (
	"fmt"
	"strings"
)

// Path is a folder under an owner's prefix: segments joined by "/", without one at
// either end, or "/" for all of the prefix. It covers what lies beneath it.
type Path string

// Root is all of the owner's prefix.
const Root Path = "/"

// The bounds of a path. Its length lets a session policy that names it four times
// stay under the 2,048 characters of AWS; Target.Check says whether it does.
const (
	maxPath     = 200
	maxSegments = 16
)

// ParsePath reads a path in its one spelling but for a slash at the end, which it
// takes off. It refuses what a reader or AWS could take for something else: a path
// that begins at the root of the bucket or climbs, wildcards, policy variables,
// every encoding of a slash, and a segment that has the form of a tenant, since a
// path is relative to the owner's prefix and never names one.
func ParsePath(s string) (Path, error) {
	switch {
	case s == string(Root):
		return Root, nil
	case s == "":
		return "", fmt.Errorf(`want a path, or "/" for all of the prefix, got ""`)
	case len(s) > maxPath:
		return "", fmt.Errorf("want at most %d bytes, got %d", maxPath, len(s))
	case strings.HasPrefix(s, "/"):
		return "", fmt.Errorf("want a path relative to the owner's prefix, got %q", s)
	}
	p := strings.TrimSuffix(s, "/")
	segments := strings.Split(p, "/")
	if len(segments) > maxSegments {
		return "", fmt.Errorf("want at most %d segments, got %d", maxSegments, len(segments))
	}
	for _, segment := range segments {
		if err := checkSegment(segment); err != nil {
			return "", err
		}
	}
	return Path(p), nil
}

func checkSegment(segment string) error {
	switch {
	case segment == "." || segment == "..":
		return fmt.Errorf("want segments that are names, got %q", segment)
	case !isName(segment):
		return fmt.Errorf("want segments of A-Z a-z 0-9 and . _ = @ + -, got %q", segment)
	case isTenant(segment):
		return fmt.Errorf("want a path under the owner's own prefix, which names no tenant, got %q", segment)
	}
	return nil
}

func isName(s string) bool {
	for _, c := range []byte(s) {
		if !isHex(c) && (c < 'g' || c > 'z') && (c < 'G' || c > 'Z') && !strings.ContainsRune("._=@+-", rune(c)) {
			return false
		}
	}
	return s != ""
}

// isTenant reports whether s has the form of a tenant in any case: a wallet's 0x and
// 40 hexadecimal digits, or an omni account's 64.
func isTenant(s string) bool {
	digits := s
	switch {
	case len(s) == 42 && strings.EqualFold(s[:2], "0x"):
		digits = s[2:]
	case len(s) != 64:
		return false
	}
	for _, c := range []byte(digits) {
		if !isHex(c) {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F' }

// check refuses a path that is not as ParsePath spells it.
func (p Path) check() error {
	parsed, err := ParsePath(string(p))
	if err == nil && parsed != p {
		err = fmt.Errorf("want it as %q, got %q", parsed, p)
	}
	return err
}

// Covers reports whether the path holds all that other holds.
func (p Path) Covers(other Path) bool {
	return p == Root || p == other || strings.HasPrefix(string(other), string(p)+"/")
}

// ancestors are the paths that cover p, itself among them.
func (p Path) ancestors() []Path {
	found := []Path{Root}
	if p == Root {
		return found
	}
	for i, c := range []byte(p) {
		if c == '/' {
			found = append(found, p[:i])
		}
	}
	return append(found, p)
}

// under is the beginning of every key under the path in a tenant's folder.
func (p Path) under(prefix, tenant string) string {
	if p == Root {
		return prefix + "/" + tenant + "/"
	}
	return prefix + "/" + tenant + "/" + string(p) + "/"
}
