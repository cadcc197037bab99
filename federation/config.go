package federation

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// The values that a configuration has unless somebody chooses others.
const (
	DefaultAudience = "sts.amazonaws.com"
	DefaultRole     = "agentkeys-data-role"
	DefaultPrefix   = "bots"
	DefaultTagKey   = "agentkeys_user_wallet"
)

// SubjectPattern is what the "sub" claim of every tenant's token looks like, in
// the words of StringLike.
const SubjectPattern = "agentkeys:agent:*"

// Config is everything the documents are made from. Every field is required.
// Its JSON form is the file federation.json.
type Config struct {
	Issuer   string `json:"issuer"`   // URL, byte-equal to the token's "iss"
	Account  string `json:"account"`  // twelve digits
	Region   string `json:"region"`   // of the bucket and of STS
	Role     string `json:"role"`     // name of the data role, not its ARN
	Bucket   string `json:"bucket"`   // name
	Prefix   string `json:"prefix"`   // tenants live at <prefix>/<tag>/
	TagKey   string `json:"tag_key"`  // session tag that isolates
	Audience string `json:"audience"` // "aud" of the tokens and client id of the provider
	// Administrators are ARNs of users and roles, and of other accounts' roots, that
	// are trusted with everything.
	Administrators []string `json:"administrators,omitempty"`
}

// Validate reports every field that AWS would refuse, or that could make a
// document mean something other than it says. The error has one line per field.
func (c Config) Validate() error {
	return errors.Join(
		checkIssuer(c.Issuer),
		checkPattern("account", c.Account, 12, accountForm, "twelve digits"),
		checkPattern("region", c.Region, 32, regionForm, "the form us-east-1"),
		checkPattern("role", c.Role, 64, roleForm, "a role name: 1 to 64 of A-Z a-z 0-9 + = , . @ _ -"),
		checkBucket(c.Bucket),
		checkPrefix(c.Prefix),
		checkTagKey(c.TagKey),
		checkAdministrators(c.Administrators),
		checkPattern("audience", c.Audience, 255, audienceForm, "1 to 255 printable characters without space, $, * or ?"),
	)
}

var administratorForm = regexp.MustCompile(`^arn:[a-z-]+:(?:iam|sts)::[0-9]{12}:(?:root|(?:user|role|assumed-role)/.+)$`)

func checkAdministrators(arns []string) error {
	for _, arn := range arns {
		if !administratorForm.MatchString(arn) {
			return fmt.Errorf("federation config: administrators: want the ARN of a user, a role or another account's root, got %q", arn)
		}
	}
	return nil
}

var (
	accountForm  = regexp.MustCompile(`^[0-9]{12}$`)
	regionForm   = regexp.MustCompile(`^[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}$`)
	roleForm     = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]+$`)
	bucketForm   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]+[a-z0-9]$`)
	prefixForm   = regexp.MustCompile(`^[A-Za-z0-9!_.'()/-]+$`)
	tagKeyForm   = regexp.MustCompile(`^[A-Za-z0-9_.:/=+@-]+$`)
	audienceForm = regexp.MustCompile(`^[!-#%-)+->@-~]+$`)
	issuerHost   = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
	issuerPath   = regexp.MustCompile(`^(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)
)

// checkPattern counts apart from the pattern: a repetition with a high bound is
// slow to compile, and every start of the program would pay for it.
func checkPattern(field, value string, longest int, form *regexp.Regexp, want string) error {
	if len(value) <= longest && form.MatchString(value) {
		return nil
	}
	return fmt.Errorf("federation config: %s: want %s, got %q", field, want, value)
}

// checkIssuer holds an issuer against IAM's rules for a provider URL
// (id_roles_providers_create_oidc: https, no port, no query), with one
// exception: http on a loopback address, with a port, for the local AWS. A
// trailing slash is refused because the token's "iss" must match byte for byte
// and IAM's own handling of it differs between calls.
func checkIssuer(issuer string) error {
	bad := func(want string) error {
		return fmt.Errorf("federation config: issuer: want %s, got %q", want, issuer)
	}
	u, err := url.Parse(issuer)
	switch {
	case err != nil || u.Host == "" || len(issuer) > 255:
		return bad("an https URL of at most 255 characters")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return bad("a URL without user, query or fragment")
	case !issuerPath.MatchString(u.EscapedPath()):
		return bad("a path of plain segments without a trailing slash")
	case u.Scheme == "http" && Loopback(u.Hostname()):
		return nil
	case u.Scheme != "https":
		return bad("https (http only on a loopback address, for the local AWS)")
	case u.Port() != "" || strings.HasSuffix(u.Host, ":"):
		return bad("a URL without a port, which IAM refuses")
	case !issuerHost.MatchString(u.Host):
		return bad("a host name in lower case")
	}
	return nil
}

// Loopback reports whether host is this machine and nothing else: localhost, or
// a loopback address. The name is not looked up.
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Zone() == "" && addr.Unmap().IsLoopback()
}

// checkBucket holds a name against S3's rules for general purpose buckets
// (bucketnamingrules).
func checkBucket(name string) error {
	bad := func(want string) error {
		return fmt.Errorf("federation config: bucket: want %s, got %q", want, name)
	}
	if len(name) > 63 || !bucketForm.MatchString(name) {
		return bad("3 to 63 of a-z 0-9 . - that begin and end with a letter or digit")
	}
	if strings.Contains(name, "..") {
		return bad("no two dots in a row")
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return bad("a name that is not an IP address")
	}
	for _, p := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, p) {
			return bad("a name without the reserved beginning " + p)
		}
	}
	for _, s := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, s) {
			return bad("a name without the reserved ending " + s)
		}
	}
	return nil
}

// checkPrefix refuses whatever a policy would read as more than text, and
// whatever makes two spellings of one folder.
func checkPrefix(prefix string) error {
	if err := checkFolder("prefix", prefix); err != nil {
		return fmt.Errorf("federation config: %w", err)
	}
	return nil
}

// checkFolder does so for any folder of the bucket.
func checkFolder(field, prefix string) error {
	bad := func(want string) error {
		return fmt.Errorf("%s: want %s, got %q", field, want, prefix)
	}
	if len(prefix) > 512 || !prefixForm.MatchString(prefix) {
		return bad("1 to 512 of A-Z a-z 0-9 ! _ . ' ( ) / - (no wildcard, no $)")
	}
	for _, segment := range strings.Split(prefix, "/") {
		switch segment {
		case "":
			return bad("no slash at either end and no two in a row")
		case ".", "..":
			return bad("no segment . or ..")
		}
	}
	return nil
}

// checkTagKey admits the ASCII part of what IAM admits in a tag key, without
// spaces: AWS does not say how a policy variable reads anything beyond it.
func checkTagKey(key string) error {
	if err := checkPattern("tag key", key, 128, tagKeyForm, "1 to 128 of A-Z a-z 0-9 _ . : / = + @ -"); err != nil {
		return err
	}
	if strings.HasPrefix(strings.ToLower(key), "aws:") {
		return fmt.Errorf("federation config: tag key: want a key without the reserved beginning aws:, got %q", key)
	}
	return nil
}

// ProviderID is the issuer without its scheme: the end of the provider's ARN and
// the beginning of its condition keys.
func (c Config) ProviderID() string {
	_, id, _ := strings.Cut(c.Issuer, "://")
	return id
}

// ProviderARN is the ARN of the OIDC provider.
func (c Config) ProviderARN() string {
	return "arn:" + c.Partition() + ":iam::" + c.Account + ":oidc-provider/" + c.ProviderID()
}

// RoleARN is the ARN of the data role.
func (c Config) RoleARN() string {
	return "arn:" + c.Partition() + ":iam::" + c.Account + ":role/" + c.Role
}

// sessionARN is the ARN of a session of the data role.
func (c Config) sessionARN(name string) string {
	return "arn:" + c.Partition() + ":sts::" + c.Account + ":assumed-role/" + c.Role + "/" + name
}

// BucketARN is the ARN of the bucket.
func (c Config) BucketARN() string { return "arn:" + c.Partition() + ":s3:::" + c.Bucket }

// TenantPrefix is where the tenant with that tag keeps its objects, with the
// slash at the end.
func (c Config) TenantPrefix(tag string) string { return c.Prefix + "/" + tag + "/" }

// partitions maps the beginning of a region's name to its partition, the longer
// beginnings first.
var partitions = []struct{ region, name string }{
	{"cn-", "aws-cn"},
	{"us-gov-", "aws-us-gov"},
	{"us-isob-", "aws-iso-b"},
	{"us-isof-", "aws-iso-f"},
	{"us-iso-", "aws-iso"},
	{"eu-isoe-", "aws-iso-e"},
	{"eusc-", "aws-eusc"},
}

// Partition is the part of AWS that the region is in, such as "aws": the second
// word of every ARN there.
func (c Config) Partition() string {
	for _, p := range partitions {
		if strings.HasPrefix(c.Region, p.region) {
			return p.name
		}
	}
	return "aws"
}
