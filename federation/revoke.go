package federation

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"agentkeys/policy"
)

// MaxSession is the longest that STS lets a session of a role last
// (AssumeRoleWithWebIdentity, DurationSeconds). A role's own MaxSessionDuration may
// be shorter, but IAM does not say what it was when a session was made.
const MaxSession = 12 * time.Hour

// revocationPrefix begins the names of the inline policies that are revocations.
const revocationPrefix = "agentkeys-revoked-"

// Revocation ends the live sessions of one tenant. STS takes no session back, but
// every request carries the session's tag and the time it was issued at: a Deny for
// the two shuts the tenant's old sessions out and lets its new ones in.
//
// It is an inline policy of the data role of its own, named after the tenant. So
// two tenants' revocations share no document, and neither run can lose the other's:
// IAM has no conditional write. A session that was made of one of the tenant's by
// role chaining runs as another role, and is not covered.
type Revocation struct {
	Tenant string // the tag's value, as the broker stores it
	// Since is the time up to which sessions are shut out, in whole seconds and UTC:
	// those issued before it are out, those issued at it or later are in.
	Since time.Time
	// Blocked shuts out all sessions of the tenant, old and new, until somebody takes
	// that back. Since is zero then.
	Blocked bool
}

// NewBlock shuts out every session of a tenant's, those still to be made included.
// Only the owner can take a grant back, and nobody a wallet's key that leaked: this is
// how an operator ends what is bought with either.
func NewBlock(tenant string) (Revocation, error) {
	return Revocation{Tenant: tenant, Blocked: true}, CheckTenant(tenant)
}

// NewRevocation shuts out what was issued before a time. As AWS counts in whole
// seconds, a time within a second is moved to the second's end: of the sessions
// issued within it nobody can tell those before from those after, so all are out.
func NewRevocation(tenant string, since time.Time) (Revocation, error) {
	if err := CheckTenant(tenant); err != nil {
		return Revocation{}, err
	}
	whole := since.UTC().Truncate(time.Second)
	if whole.Before(since) {
		whole = whole.Add(time.Second)
	}
	return Revocation{Tenant: tenant, Since: whole}, nil
}

// NextSecond is the earliest time that shuts out every session issued up to now: one
// issued within the second of now has its beginning as the time of issue.
func NextSecond(now time.Time) time.Time { return now.UTC().Truncate(time.Second).Add(time.Second) }

var storedTenant = regexp.MustCompile(`^(?:0x[0-9a-f]{40}|[0-9a-f]{64})$`)

// CheckTenant admits the tags that the broker mints: a wallet's address or an omni
// account, in lower case. Policies compare tags with case, so a tenant in any other
// spelling would be revoked in vain.
func CheckTenant(tag string) error {
	lower := strings.ToLower(tag)
	switch {
	case storedTenant.MatchString(tag):
		return nil
	case storedTenant.MatchString(lower):
		return fmt.Errorf("tenant: want the tag as the broker stores it, %s, got %q", lower, tag)
	}
	return fmt.Errorf("tenant: want 0x and 40 of 0-9 a-f (a wallet) or 64 of 0-9 a-f (an omni account, the tenant of who has no wallet), got %q", oneLine(tag))
}

// Policy is the name of the inline policy.
func (r Revocation) Policy() string { return revocationPrefix + r.Tenant }

// Over is when the last of the sessions that are shut out has ended by itself, so
// that the policy can go; never, the zero time, for a block. It reckons with the longest session there is, since the
// role may have allowed longer ones earlier.
func (r Revocation) Over() time.Time {
	if r.Blocked {
		return time.Time{}
	}
	return r.Since.Add(MaxSession)
}

// ShutsOut says whom the revocation shuts out, for a person.
func (r Revocation) ShutsOut() string {
	if r.Blocked {
		return "all sessions, old and new"
	}
	return "sessions issued before " + stamp(r.Since)
}

// catches reports whether the revocation shuts out a session that was issued at a
// time.
func (r Revocation) catches(issued time.Time) bool { return r.Blocked || issued.Before(r.Since) }

// The keys of a revocation's conditions.
const (
	tagCondition   = "aws:PrincipalTag/"
	issueCondition = "aws:TokenIssueTime"
)

// Document is the policy. It denies everything, since it is not known what a leaked
// session is used for. Positive operators hold for no missing key, so that neither
// an untagged session nor a user's own keys are shut out.
func (r Revocation) Document(c Config) *policy.Document {
	s := policy.Statement{
		Sid: "Revoked", Effect: policy.Deny, Action: []string{"*"}, Resource: []string{"*"},
		Condition: []policy.Condition{{Operator: "StringEquals", Key: tagCondition + c.TagKey, Values: []string{r.Tenant}}},
	}
	if r.Blocked {
		s.Sid = "Blocked"
	} else {
		s.Condition = append(s.Condition,
			policy.Condition{Operator: "DateLessThan", Key: issueCondition, Values: []string{r.Since.Format(revocationTime)}})
	}
	return document(s)
}

// revocationTime is how a document has its time.
const revocationTime = "2006-01-02T15:04:05Z"

// readRevocation reads an inline policy back. One that says anything else than a
// revocation of ours does is an error: nobody knows whom it shuts out.
func readRevocation(c Config, name string, d *policy.Document) (Revocation, error) {
	bad := func(want, got string) (Revocation, error) {
		return Revocation{}, fmt.Errorf("inline policy %s: want %s, got %s", name, want, got)
	}
	tenant, named := strings.CutPrefix(name, revocationPrefix)
	if !named || !storedTenant.MatchString(tenant) {
		return bad("the name "+revocationPrefix+" and a tenant", fmt.Sprintf("%q", name))
	}
	if r := (Revocation{Tenant: tenant, Blocked: true}); same(d, r.Document(c)) {
		return r, nil
	}
	for _, s := range d.Statements {
		for _, condition := range s.Condition {
			if condition.Operator != "DateLessThan" || len(condition.Values) != 1 {
				continue
			}
			since, err := time.Parse(revocationTime, condition.Values[0])
			if r := (Revocation{Tenant: tenant, Since: since}); err == nil && same(d, r.Document(c)) {
				return r, nil
			}
		}
	}
	return bad("the statement that agentkeys revoke writes for this tenant and the tag "+c.TagKey, "another")
}

// RevocationInForce is an inline policy of the data role that is, by its name, a
// revocation.
type RevocationInForce struct {
	Policy     string // name of the inline policy
	Revocation        // zero where Problem is not nil
	// Problem says why the policy is not as agentkeys writes it; nil where it is.
	Problem error
}

// CLI is the command that puts the revocation in force without this program.
func (r Revocation) CLI(c Config) (string, error) {
	text, err := r.Document(c).MarshalJSON()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("aws iam put-role-policy --role-name %s --policy-name %s --policy-document '%s'", c.Role, r.Policy(), text), nil
}

// JSON is the document, indented.
func (r Revocation) JSON(c Config) (string, error) {
	text, err := r.Document(c).MarshalJSON()
	if err != nil {
		return "", err
	}
	return indented(text), nil
}
