package federation

// Code is the stable name of a kind of finding.
type Code string

// The codes, in the order in which a report has them.
const (
	ForeignRead       Code = "foreign-read"         // somebody else reads a tenant's objects, versions, tags or attributes
	ForeignWrite      Code = "foreign-write"        // somebody else changes what lies under a tenant's prefix
	ForeignList       Code = "foreign-list"         // somebody else learns a tenant's key names
	TenantNames       Code = "tenant-names"         // somebody else learns which tenants exist
	PublicAccess      Code = "public-access"        // somebody who signs nothing gets at a tenant's objects or names
	UntaggedSession   Code = "untagged-session"     // a session of the data role without a tenant tag
	IllShapedTag      Code = "ill-shaped-tag"       // a session whose tag is empty or not of a tenant's shape
	WrongAudience     Code = "wrong-audience"       // a session for a token that is meant for somebody else
	WrongSubject      Code = "wrong-subject"        // a session for a token whose subject is no agent
	WrongIssuer       Code = "wrong-issuer"         // a session for a token of another issuer
	TagChosenByCaller Code = "tag-chosen-by-caller" // a session whose tenant tag the caller chose
	PolicyEditable    Code = "policy-editable"      // a tenant session can change what holds it
	ReachesOtherRole  Code = "reaches-other-role"   // a tenant session can assume a role that reaches tenants' objects
	OwnerLockedOut    Code = "owner-locked-out"     // a tenant cannot use its own prefix
)

// Codes lists the codes in the order of a report.
func Codes() []Code {
	return []Code{
		ForeignRead, ForeignWrite, ForeignList, TenantNames, PublicAccess,
		UntaggedSession, IllShapedTag, WrongAudience, WrongSubject, WrongIssuer, TagChosenByCaller,
		PolicyEditable, ReachesOtherRole, OwnerLockedOut,
	}
}

// Finding is a way in, or an owner kept out, with the request that shows it.
type Finding struct {
	Code  Code   `json:"code"`
	Title string `json:"title"`
	// Ambiguous says that the finding rests on a point that AWS leaves unsettled;
	// Title names the point.
	Ambiguous bool        `json:"ambiguous"`
	Witness   Witness     `json:"witness"`
	DecidedBy []Statement `json:"decided_by"` // empty where no statement allows
	Fix       string      `json:"fix"`
}

// Witness is a request that gets through, or that ought to.
type Witness struct {
	Principal string              `json:"principal"`
	Action    string              `json:"action"`
	Resource  string              `json:"resource"`
	Context   map[string][]string `json:"context"` // condition keys
}

// Statement points to a statement of a document in force.
type Statement struct {
	Document  string `json:"document"`
	Statement int    `json:"statement"` // index, from 0
	Sid       string `json:"sid,omitempty"`
}

// CheckReport is what Check found. Its JSON form is stable.
type CheckReport struct {
	Target      string    `json:"target"`
	Findings    []Finding `json:"findings"`
	Advice      []string  `json:"advice"`
	NotLookedAt []string  `json:"not_looked_at"`

	// Unread are documents in force that could not be read, so that nothing is
	// known of what they let in.
	Unread []string `json:"unread,omitempty"`
}

// ExitStatus is the process status that stands for the report: 1 with findings,
// 3 where something that may let somebody in could not be read, 0 else.
func (r *CheckReport) ExitStatus() int {
	switch {
	case len(r.Findings) > 0:
		return 1
	case len(r.Unread) > 0:
		return 3
	}
	return 0
}
