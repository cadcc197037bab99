package policy

import (
	"bytes"
	"errors"
	"strings"
)

// S3's texts for a refused bucket policy.
const (
	msgNotObject    = "Policies must be valid JSON and the first byte must be '{'"
	msgInvalidJSON  = "This policy contains invalid Json"
	msgMissing      = "Missing required field "
	msgEmpty        = "Could not parse the policy: Statement is empty!"
	msgVersion      = "The policy must contain a valid version string"
	msgPrincipal    = "Invalid principal in policy"
	msgAction       = "Policy has invalid action"
	msgResource     = "Policy has invalid resource"
	msgCombination  = "Action does not apply to any resource(s) in statement"
	msgConditions   = "Conditions do not apply to combination of actions and resources in statement"
	msgConditionKey = "Policy has an invalid condition key"
	msgTooLarge     = "Bucket policy exceeds the maximum allowed document size."
)

// ParseBucketPolicy reads a bucket policy as PutBucketPolicy does: Parse and
// ValidateBucket in one, with every refusal as the *MalformedError that S3 has
// for it.
func ParseBucketPolicy(data []byte, r BucketRules) (*Document, error) {
	if !bytes.HasPrefix(data, []byte("{")) {
		return nil, &MalformedError{msgNotObject, -1}
	}
	if len(data) > MaxBucketPolicy {
		return nil, &MalformedError{msgTooLarge, -1}
	}
	d, err := Parse(data)
	if err != nil {
		return nil, malformed(err)
	}
	if err := d.ValidateBucket(r); err != nil {
		return nil, err
	}
	return d, nil
}

// malformed finds S3's text for a refusal of Parse or of Compile.
func malformed(err error) *MalformedError {
	var p *ParseError
	if !errors.As(err, &p) {
		return &MalformedError{msgInvalidJSON, -1}
	}
	out := &MalformedError{msgInvalidJSON, p.Statement}
	switch {
	case p.empty:
		out.Message = msgEmpty
	case p.Missing:
		out.Message = msgMissing + p.Element
	case p.Element == "Version":
		out.Message = msgVersion
	case p.Element == "Principal", p.Element == "NotPrincipal":
		out.Message = msgPrincipal
	case p.Element == "Action", p.Element == "NotAction":
		out.Message = msgAction
	case p.Element == "Resource", p.Element == "NotResource":
		out.Message = msgResource
	case p.Element == "Condition":
		out.Message = msgConditionKey
	}
	return out
}

// ValidateBucket checks a bucket policy as S3 does when it is put. The error is
// a *MalformedError with the first bad statement.
// Source: observed refusals of PutBucketPolicy; the Service Authorization
// Reference says which action supports which resource and condition key.
func (d *Document) ValidateBucket(r BucketRules) error {
	if _, err := d.compile(); err != nil {
		return malformed(err)
	}
	for i := range d.Statements {
		if message := d.Statements[i].validateBucket(r); message != "" {
			return &MalformedError{message, i}
		}
	}
	text, err := d.MarshalJSON()
	if err != nil {
		return malformed(err)
	}
	if len(text) > MaxBucketPolicy {
		return &MalformedError{msgTooLarge, -1}
	}
	return nil
}

// validateBucket returns S3's text for what is wrong with the statement, or "".
func (s *Statement) validateBucket(r BucketRules) string {
	switch {
	case s.Principal == nil && s.NotPrincipal == nil:
		return msgMissing + "Principal"
	case s.Resource == nil && s.NotResource == nil:
		return msgMissing + "Resource"
	case !r.principalsExist(s.Principal) || !r.principalsExist(s.NotPrincipal):
		return msgPrincipal
	}
	for _, list := range [][]string{s.Action, s.NotAction} {
		for _, a := range list {
			if len(matching("s3", a)) == 0 {
				return msgAction
			}
		}
	}
	for _, list := range [][]string{s.Resource, s.NotResource} {
		for _, text := range list {
			if !r.ownResource(text) {
				return msgResource
			}
		}
	}
	return s.validateCombination()
}

// principalsExist reports whether each principal has a valid form and, where it
// is a user, a role or an account, exists.
func (r BucketRules) principalsExist(p *Principals) bool {
	if p == nil {
		return true
	}
	if p.validate() != nil {
		return false
	}
	if r.PrincipalExists == nil {
		return true
	}
	for _, text := range p.AWS {
		if text == "*" {
			continue
		}
		if id, ok := accountOf(text); ok {
			if id == r.Account {
				continue
			}
			text = "arn:aws:iam::" + id + ":root"
		}
		if parts, ok := splitARN(text); ok && strings.HasPrefix(parts[5], "federated-user/") {
			continue // a session of a user may exist at any time
		}
		if !r.PrincipalExists(text) {
			return false
		}
	}
	for _, id := range p.CanonicalUser {
		if id == "" || id != r.CanonicalUser {
			return false
		}
	}
	return true
}

// ownResource reports whether a resource lies in the bucket: its name in full,
// followed by nothing, by a slash or by a wildcard.
func (r BucketRules) ownResource(text string) bool {
	parts, ok := splitARN(text)
	if !ok || !isPartition(parts[1]) || parts[2] != "s3" || parts[3] != "" || parts[4] != "" {
		return false
	}
	rest, ok := strings.CutPrefix(parts[5], r.Bucket)
	return ok && r.Bucket != "" && (rest == "" || strings.IndexByte("/*?", rest[0]) >= 0)
}

// resourceTypes says of which types of resource a statement speaks.
type resourceTypes struct{ bucket, object bool }

// resourceTypes reads them off the ARNs. What NotResource leaves over is always
// of both types.
func (s *Statement) resourceTypes() resourceTypes {
	if s.Resource == nil {
		return resourceTypes{true, true}
	}
	var t resourceTypes
	for _, text := range s.Resource {
		parts, _ := splitARN(text)
		if strings.Contains(parts[5], "/") {
			t.object = true
			continue
		}
		t.bucket = true
		if strings.Contains(parts[5], "*") { // crosses the slash
			t.object = true
		}
	}
	return t
}

func (t resourceTypes) has(a *ActionInfo) bool {
	for _, name := range a.Resources {
		if name == "bucket" && t.bucket || name == "object" && t.object {
			return true
		}
	}
	return false
}

// validateCombination checks that each action speaks of one of the resources
// and carries each of S3's condition keys. Of the actions that a wildcard
// stands for it is enough that one does.
func (s *Statement) validateCombination() string {
	types := s.resourceTypes()
	for _, group := range s.actionGroups() {
		var applicable []*ActionInfo
		for _, a := range group {
			if types.has(a) {
				applicable = append(applicable, a)
			}
		}
		if len(applicable) == 0 {
			return msgCombination
		}
		for _, c := range s.Condition {
			if message := checkConditionKey(c.Key, applicable); message != "" {
				return message
			}
		}
	}
	return ""
}

// actionGroups returns what each Action stands for or, for NotAction, all that
// it leaves over.
func (s *Statement) actionGroups() [][]*ActionInfo {
	var groups [][]*ActionInfo
	for _, a := range s.Action {
		groups = append(groups, matching("s3", a))
	}
	if s.NotAction == nil {
		return groups
	}
	named := make(map[*ActionInfo]bool)
	for _, text := range s.NotAction {
		for _, a := range matching("s3", text) {
			named[a] = true
		}
	}
	var rest []*ActionInfo
	for _, a := range matching("s3", "s3:*") {
		if !named[a] {
			rest = append(rest, a)
		}
	}
	return [][]*ActionInfo{rest}
}

// accessPointKeys are the keys by which a bucket delegates to access points. S3
// takes them with every action on a bucket or an object, also where the table
// has them with some only.
// Source: S3 User Guide, access-points-policies.
var accessPointKeys = map[string]bool{
	"s3:dataaccesspointaccount":   true,
	"s3:dataaccesspointarn":       true,
	"s3:accesspointnetworkorigin": true,
}

func checkConditionKey(key string, applicable []*ActionInfo) string {
	if folded := foldKey(key); !strings.HasPrefix(folded, "s3:") || accessPointKeys[folded] {
		return ""
	}
	for _, a := range applicable {
		if a.supports(key) {
			return ""
		}
	}
	for _, a := range matching("s3", "s3:*") {
		if a.supports(key) {
			return msgConditions
		}
	}
	return msgConditionKey
}
