package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// The forms are those of federation.Config, which knows more of AWS's rules (the
// reserved names of buckets, for one).
var (
	accountForm = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}$`)
	roleForm    = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]+$`)
	bucketForm  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`)
	folderForm  = regexp.MustCompile(`^[A-Za-z0-9!_.'()/-]+$`)
)

func checkAccount(v string) error {
	return checkForm(v, 12, accountForm, "twelve digits")
}

func checkRegion(v string) error {
	return checkForm(v, 32, regionForm, "the form us-east-1")
}

func checkRole(v string) error {
	return checkForm(v, 64, roleForm, "a role name, not an ARN: 1 to 64 of A-Z a-z 0-9 + = , . @ _ -")
}

func checkForm(v string, longest int, form *regexp.Regexp, want string) error {
	if len(v) > longest || !form.MatchString(v) {
		return errors.New("want " + want)
	}
	return nil
}

func checkBucket(v string) error {
	if err := checkForm(v, 63, bucketForm, "3 to 63 of a-z 0-9 . - that begin and end with a letter or digit"); err != nil {
		return err
	}
	if _, err := netip.ParseAddr(v); err == nil || strings.Contains(v, "..") {
		return errors.New("want no IP address and no two dots in a row")
	}
	return nil
}

// checkFolder refuses what a policy would read as more than text, and what makes
// two spellings of one folder.
func checkFolder(v string) error {
	if err := checkForm(v, 512, folderForm, "1 to 512 of A-Z a-z 0-9 ! _ . ' ( ) / - (no wildcard, no $)"); err != nil {
		return err
	}
	for segment := range strings.SplitSeq(v, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return errors.New("want no slash at either end, no two in a row, and neither . nor .. as a segment")
		}
	}
	return nil
}

// checkEndpoint admits the bare URL of a server. Web identity tokens go there,
// so without TLS it must be this machine.
func checkEndpoint(v string) error {
	u, err := url.Parse(v)
	switch {
	case err != nil:
		return errors.New("want a URL, got text that does not parse as one")
	case u.Host == "" || v != u.Scheme+"://"+u.Host:
		return errors.New("want scheme://host in lower case with no user, path, query or fragment")
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return fmt.Errorf("want https (http only on a loopback host), got %q", u.Scheme)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err != nil && !hostName.MatchString(u.Hostname()) {
		return fmt.Errorf("want a host name of a-z, 0-9, - and ., got %q", u.Hostname())
	}
	return checkPort(u)
}

// checkTogether finds variables that do not fit one another. Given are those of the
// environment.
func (c *Config) checkTogether(given map[string]string) (errs []error) {
	var set, missing []string
	for _, v := range []struct{ name, value string }{
		{"BROKER_AWS_ACCOUNT", c.AWS.Account}, {"BROKER_AWS_REGION", c.AWS.Region}, {"BROKER_AWS_BUCKET", c.AWS.Bucket},
	} {
		if v.value == "" {
			missing = append(missing, v.name)
		} else {
			set = append(set, v.name)
		}
	}
	if len(set) > 0 && len(missing) > 0 {
		errs = append(errs, fmt.Errorf("want all or none of BROKER_AWS_ACCOUNT, BROKER_AWS_REGION and BROKER_AWS_BUCKET: %s set, %s not",
			strings.Join(set, " and "), strings.Join(missing, " and ")))
	}
	for _, name := range []string{"BROKER_AWS_STS_ENDPOINT", "BROKER_AWS_SESSION_SECONDS"} {
		if given[name] != "" && len(set) == 0 {
			errs = append(errs, fmt.Errorf("%s is set, and BROKER_AWS_ACCOUNT, BROKER_AWS_REGION and BROKER_AWS_BUCKET are not: it is for AWS credentials alone", name))
		}
	}
	return append(errs, c.checkAnchors()...)
}
