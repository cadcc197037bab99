package policy

import (
	"fmt"
	"strings"
)

// MaxBucketPolicy is the size of the largest bucket policy, in bytes.
const MaxBucketPolicy = 20 * 1024

// kindRules is what a kind of document may and must hold.
type kindRules struct {
	name         string
	maxSize      int // bytes of the document without needless white space
	principal    presence
	notPrincipal presence
	resource     presence // Resource or NotResource
}

type presence uint8

const (
	forbidden presence = iota
	optional
	required
)

// Sources: IAM User Guide, reference_iam-quotas and
// reference_policies_elements_principal; Organizations User Guide,
// orgs_reference_limits.
var kinds = map[Kind]kindRules{
	IdentityPolicy: {"an identity policy", 10240, forbidden, forbidden, required},
	SessionPolicy:  {"a session policy", 2048, forbidden, forbidden, required},
	BoundaryPolicy: {"a permissions boundary", 6144, forbidden, forbidden, required},
	BucketPolicy:   {"a bucket policy", MaxBucketPolicy, required, optional, required},
	TrustPolicy:    {"a trust policy", 4096, required, forbidden, forbidden},
	ControlPolicy:  {"a control policy", 10240, optional, forbidden, required},
}

// Validate checks that the document may be used as a document of the given
// kind: which elements it has, whom it names, and its size. ValidateBucket says
// more about bucket policies. Errors are of type *ParseError.
func (d *Document) Validate(k Kind) error {
	if _, err := d.compile(); err != nil {
		return err
	}
	rules, ok := kinds[k]
	if !ok {
		return fmt.Errorf("validating policy document: want a known kind of document, got %d", int(k))
	}
	text, err := d.MarshalJSON()
	if err != nil {
		return err
	}
	if len(text) > rules.maxSize {
		return &ParseError{Statement: -1, Reason: fmt.Sprintf("want at most %d bytes in %s, got %d", rules.maxSize, rules.name, len(text))}
	}
	sids := make(map[string]bool)
	for i := range d.Statements {
		s := &d.Statements[i]
		err := s.validate(k, rules)
		if err == nil && s.Sid != "" && sids[s.Sid] {
			err = &ParseError{Element: "Sid", Reason: fmt.Sprintf("want each one once, got %q twice", clip(s.Sid))}
		}
		if err != nil {
			err.Statement = i
			return err
		}
		sids[s.Sid] = true
	}
	return nil
}

func (s *Statement) validate(k Kind, rules kindRules) *ParseError {
	if err := s.checkElements(rules); err != nil {
		return err
	}
	if k != BucketPolicy && !isAlphanumeric(s.Sid) {
		return &ParseError{Element: "Sid", Reason: fmt.Sprintf("want letters and digits, got %q", clip(s.Sid))}
	}
	for _, p := range []*Principals{s.Principal, s.NotPrincipal} {
		if err := p.validate(); err != nil {
			return err
		}
	}
	if k == TrustPolicy {
		return s.validateTrustActions()
	}
	if k == ControlPolicy && s.Principal != nil && !s.Principal.Any {
		return &ParseError{Element: "Principal", Reason: `want "*" in a control policy, got ` + s.Principal.describe()}
	}
	return nil
}

func (s *Statement) checkElements(rules kindRules) *ParseError {
	hasPrincipal := s.Principal != nil || rules.notPrincipal == optional && s.NotPrincipal != nil
	hasResource := s.Resource != nil || s.NotResource != nil
	switch {
	case s.NotPrincipal != nil && rules.notPrincipal == forbidden:
		return &ParseError{Element: "NotPrincipal", Reason: "has no place in " + rules.name}
	case s.Principal != nil && rules.principal == forbidden:
		return &ParseError{Element: "Principal", Reason: "has no place in " + rules.name}
	case !hasPrincipal && rules.principal == required:
		return &ParseError{Element: "Principal", Reason: "want one in " + rules.name + ", got none", Missing: true}
	case hasResource && rules.resource == forbidden:
		return &ParseError{Element: "Resource", Reason: "has no place in " + rules.name}
	case !hasResource && rules.resource == required:
		return &ParseError{Element: "Resource", Reason: "want one in " + rules.name + ", got none", Missing: true}
	}
	return nil
}

// validateTrustActions wants the actions that a trust policy can be about.
func (s *Statement) validateTrustActions() *ParseError {
	for _, list := range [][]string{s.Action, s.NotAction} {
		for _, a := range list {
			if service, _, _ := strings.Cut(a, ":"); !strings.EqualFold(service, "sts") {
				return &ParseError{Element: "Action", Reason: fmt.Sprintf("want an sts action in a trust policy, got %q", clip(a))}
			}
		}
	}
	return nil
}

// validate refuses a principal of a form that nobody has, such as an ARN with a
// wildcard in it.
func (p *Principals) validate() *ParseError {
	if p == nil {
		return nil
	}
	bad := func(kind, text string) *ParseError {
		return &ParseError{Element: "Principal", Reason: fmt.Sprintf("%s %q names no principal", kind, clip(text))}
	}
	for _, text := range p.AWS {
		if !isAWSPrincipal(text) {
			return bad("AWS", text)
		}
	}
	for _, text := range p.Federated {
		if text != "*" && !isProvider(text) {
			return bad("Federated", text)
		}
	}
	for _, text := range p.Service {
		if text != "*" && (!strings.Contains(text, ".") || strings.ContainsAny(text, "*? :/")) {
			return bad("Service", text)
		}
	}
	for _, text := range p.CanonicalUser {
		if strings.Trim(text, "0123456789abcdef") != "" {
			return bad("CanonicalUser", text)
		}
	}
	return nil
}

// isProvider accepts the ARN of an identity provider and the names of the few
// providers that AWS knows without one.
func isProvider(text string) bool {
	parts, ok := splitARN(text)
	if !ok {
		return !strings.ContainsAny(text, "*?:/ ") && strings.Contains(text, ".")
	}
	name, isOIDC := strings.CutPrefix(parts[5], "oidc-provider/")
	if !isOIDC {
		name, ok = strings.CutPrefix(parts[5], "saml-provider/")
	}
	return ok && isPartition(parts[1]) && parts[2] == "iam" && parts[3] == "" && isAccountID(parts[4]) &&
		name != "" && !strings.ContainsAny(name, "*? ")
}

// isAWSPrincipal accepts what can stand under "AWS": everybody, an account, a
// unique id, and the ARN of a root, user, role, role session or federated user.
func isAWSPrincipal(text string) bool {
	if text == "*" || isAccountID(text) || isUniqueID(text) {
		return true
	}
	parts, ok := splitARN(text)
	if !ok || !isPartition(parts[1]) || parts[3] != "" || !isAccountID(parts[4]) || strings.ContainsAny(text, "*? ") {
		return false
	}
	kind, name, _ := strings.Cut(parts[5], "/")
	switch parts[2] + ":" + kind {
	case "iam:root":
		return parts[5] == "root"
	case "iam:user", "iam:role":
		return name != "" && !strings.HasSuffix(name, "/")
	case "sts:assumed-role":
		role, session, ok := strings.Cut(name, "/")
		return ok && role != "" && session != "" && !strings.Contains(session, "/")
	case "sts:federated-user":
		return name != ""
	}
	return false
}

func isPartition(s string) bool {
	return s == "aws" || strings.HasPrefix(s, "aws-") && strings.Trim(s[4:], "abcdefghijklmnopqrstuvwxyz-") == ""
}

// isUniqueID accepts the unique id of a user or a role.
// Source: IAM User Guide, reference_identifiers.
func isUniqueID(s string) bool {
	return len(s) >= 16 && len(s) <= 128 && (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) && isAlphanumeric(s)
}

func isAlphanumeric(s string) bool {
	for _, r := range s {
		if !isActionRune(r) || r == '-' || r == '_' {
			return false
		}
	}
	return true
}
