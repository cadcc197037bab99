package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// hostName is a name of letters, digits and hyphens, or an IPv4 address.
var hostName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// checkIssuer holds an issuer to what AWS takes as the URL of an OIDC provider
// (IAM User Guide, "Create an OpenID Connect provider"): https, no port, no
// query. A loopback host may use http and a port, for the local AWS alone. A path
// is refused, since the broker serves at the root of its host.
func checkIssuer(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil:
		return errors.New("want a URL, got text that does not parse as one")
	case strings.HasSuffix(v, "/"):
		return errors.New("want no trailing slash: AWS compares the issuer byte by byte")
	case u.Host == "" || v != u.Scheme+"://"+u.Host:
		return errors.New("want scheme://host in lower case with no user, path, query or fragment")
	case len(v) > 255:
		return fmt.Errorf("want at most 255 characters, got %d", len(v))
	case u.Scheme == "http" && loopback(u.Hostname()):
		return checkPort(u)
	case u.Scheme != "https":
		return fmt.Errorf("want https (http only on a loopback host), got %q", u.Scheme)
	case u.Port() != "" || strings.HasSuffix(u.Host, ":"):
		return fmt.Errorf("want no port: AWS takes none, got %q", u.Port())
	case !hostName.MatchString(u.Host):
		return fmt.Errorf("want a host name of a-z, 0-9, - and ., got %q", u.Host)
	}
	return nil
}

func checkPort(u *url.URL) error {
	if u.Port() == "" && strings.HasSuffix(u.Host, ":") {
		return errors.New("want a port behind the colon, got none")
	}
	if u.Port() != "" {
		return portNumber(u.Port(), 1)
	}
	return nil
}

// portNumber admits digits alone; strconv would take a sign too.
func portNumber(port string, lowest int) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n < uint64(lowest) {
		return fmt.Errorf("want a port from %d to 65535, got %q", lowest, port)
	}
	return nil
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func checkBind(v string) error {
	_, port, err := net.SplitHostPort(v)
	if err != nil {
		return errors.New("want HOST:PORT")
	}
	return portNumber(port, 0)
}

func checkOptional(v string, check func(string) error) error {
	if v == "" {
		return nil
	}
	return check(v)
}

// checkText admits a client id as IAM does: 1 to 255 characters.
func checkText(v string) error {
	if v == "" || len(v) > 255 || strings.ContainsFunc(v, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return fmt.Errorf("want 1 to 255 characters without spaces, got %d", len(v))
	}
	return nil
}

var tagKeyForm = regexp.MustCompile(`^[A-Za-z0-9_.:/=+@-]{1,128}$`)

// checkTagKey admits what the policies at AWS can test under the same name.
func checkTagKey(v string) error {
	if !tagKeyForm.MatchString(v) || strings.HasPrefix(strings.ToLower(v), "aws:") {
		return errors.New("want 1 to 128 of A-Z a-z 0-9 _ . : / = + @ -, the reserved beginning aws: excepted")
	}
	return nil
}

func oneOf(v string, allowed ...string) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
}

func seconds(low, high int, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := whole(v, "seconds", low, high)
		*field(c) = time.Duration(n) * time.Second
		return err
	}
}

func days(low, high int, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := whole(v, "days", low, high)
		*field(c) = time.Duration(n) * 24 * time.Hour
		return err
	}
}

func mints(field func(*Config) *int) func(*Config, string) error {
	return func(c *Config, v string) (err error) {
		*field(c), err = whole(v, "mints a minute", 1, 1_000_000)
		return err
	}
}

func whole(v, unit string, low, high int) (int, error) {
	digits, err := strconv.ParseUint(v, 10, 31) // digits alone, no sign
	if err != nil {
		return 0, fmt.Errorf("want a whole number of %s", unit)
	}
	n := int(digits)
	if n < low || n > high {
		return 0, fmt.Errorf("want %d to %d %s, got %d", low, high, unit, n)
	}
	return n, nil
}

// list splits at commas. An empty member is a mistake, not a name.
func list(v string) ([]string, error) {
	if v == "" {
		return nil, nil
	}
	parts := strings.Split(v, ",")
	for i, p := range parts {
		if parts[i] = strings.TrimSpace(p); parts[i] == "" {
			return nil, errors.New("want names separated by commas, got an empty one")
		}
	}
	return parts, nil
}

func chainIDs(v string) ([]int64, error) {
	parts, err := list(v)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		return nil, errors.New("want at least one chain id")
	}
	ids := make([]int64, 0, len(parts))
	for _, p := range parts {
		id, err := strconv.ParseUint(p, 10, 63)
		if err != nil || id == 0 {
			return nil, fmt.Errorf("want positive chain ids, got %q", p)
		}
		if slices.Contains(ids, int64(id)) {
			return nil, fmt.Errorf("want each chain id once, got %q twice", p)
		}
		ids = append(ids, int64(id))
	}
	return ids, nil
}

func networks(v string) ([]netip.Prefix, error) {
	parts, err := list(v)
	if err != nil {
		return nil, err
	}
	var nets []netip.Prefix
	for _, p := range parts {
		n, err := netip.ParsePrefix(p)
		if err != nil {
			return nil, fmt.Errorf("want networks such as 10.0.0.0/8, got %q", p)
		}
		if n != n.Masked() {
			return nil, fmt.Errorf("want the network %s, got %s with host bits set", n.Masked(), n)
		}
		nets = append(nets, n)
	}
	return nets, nil
}

// nearest suggests the known name that differs least from a wrong one.
func nearest(name string) string {
	best, distance := "", 4
	for _, v := range table {
		if d := edits(name, v.name); d < distance {
			best, distance = v.name, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// edits is the Levenshtein distance of two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}
