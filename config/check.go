package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// checkIssuer holds an issuer to what AWS takes as the URL of an OIDC provider
// (IAM User Guide, "Create an OpenID Connect provider"): https, no port, no
// query. A loopback host may use http and a port, for the local AWS alone.
func checkIssuer(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil:
		return errors.New("want a URL, got text that does not parse as one")
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || strings.HasSuffix(v, "#"):
		return errors.New("want scheme://host/path with no user, query or fragment")
	case strings.HasSuffix(v, "/"):
		return errors.New("want no trailing slash: AWS compares the issuer byte by byte")
	case u.Host != strings.ToLower(u.Host):
		return fmt.Errorf("want the host in lower case, got %q", u.Host)
	case u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	case u.Scheme != "https":
		return fmt.Errorf("want https (http only on a loopback host), got %q", u.Scheme)
	case u.Port() != "":
		return fmt.Errorf("want no port: AWS takes none, got %q", u.Port())
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
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("want a port from 0 to 65535, got %q", port)
	}
	return nil
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

func oneOf(v string, allowed ...string) error {
	if slices.Contains(allowed, v) {
		return nil
	}
	return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
}

func seconds(low, high int, field func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil {
			return errors.New("want a whole number of seconds")
		}
		if n < low || n > high {
			return fmt.Errorf("want %d to %d seconds, got %d", low, high, n)
		}
		*field(c) = time.Duration(n) * time.Second
		return nil
	}
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
		id, err := strconv.ParseInt(p, 10, 64)
		if err != nil || id <= 0 {
			return nil, fmt.Errorf("want positive chain ids, got %q", p)
		}
		ids = append(ids, id)
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
