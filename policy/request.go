package policy

// PrincipalKind says what sort of caller makes a request. Resource policies
// weigh a grant by the kind of principal that it names.
type PrincipalKind int

// The kinds of principal. The zero value is the anonymous caller, so that a
// Principal somebody forgot to fill in is nobody.
const (
	Anonymous     PrincipalKind = iota // no credentials at all
	Root                               // the account's root user
	User                               // an IAM user
	RoleSession                        // a session of an assumed role
	FederatedUser                      // a GetFederationToken session of a user
	WebIdentity                        // the bearer of a web identity token, at STS only
	Service                            // an AWS service principal
)

// Principal is who makes the request, as policies can name it.
type Principal struct {
	Kind    PrincipalKind
	Account string // twelve digits; "" for Anonymous and Service
	ARN     string // user ARN, or the session ARN arn:aws:sts::A:assumed-role/R/S
	Issuer  string // RoleSession: the role's ARN with its path; FederatedUser: the user's ARN
	ID      string // unique id of the user or of the role (AIDA…, AROA…); stored policies may name it in place of the ARN
	// SessionID is a RoleSession's ID and name, "AROA…:name", which stored
	// policies may name in place of the session's ARN.
	SessionID string
	Provider  string // WebIdentity: the ARN of the OIDC provider
	Service   string // Service: s3.amazonaws.com
	// CanonicalUser is the canonical user id of the caller's account, or of an
	// origin access identity. A policy that names canonical users matches only
	// where it is known.
	CanonicalUser string
}

// Request is one action on one resource.
type Request struct {
	Principal       Principal
	Action          string // "s3:GetObject"
	Resource        string // ARN with the decoded key
	ResourceAccount string // account that owns the resource
	Context         *Context
}

// Set is every policy that applies to a request.
type Set struct {
	Identity          []*Policy   // of the user or role, inline and attached
	Boundary          []*Policy   // nil: no boundary is set. Empty but not nil: a boundary that allows nothing
	Session           []*Policy   // nil: no session policy was passed. Empty but not nil: one that allows nothing
	Resource          []*Policy   // bucket policy or trust policy
	ResourceMustAllow bool        // trust policies and key policies: an identity policy alone is never enough
	ServiceControl    [][]*Policy // levels of the principal's account, root first; nil: none known
	ResourceControl   [][]*Policy // levels of the resource's account, root first; nil: none known
}

// Layer is a group of policies that decides together.
type Layer string

// The layers, as explanations name them. The empty Layer means that no policy decided.
const (
	IdentityLayer        Layer = "identity"
	ResourceLayer        Layer = "resource"
	BoundaryLayer        Layer = "boundary"
	SessionLayer         Layer = "session"
	ServiceControlLayer  Layer = "scp"
	ResourceControlLayer Layer = "rcp"
)

// Decision is the answer to a Request.
type Decision struct {
	Allowed  bool
	Explicit bool  // refused by a Deny statement, rather than for want of an Allow
	Layer    Layer // that allowed, or that refused
	// Policy, Statement and Sid name the statement that decided; Statement is
	// -1 where none did.
	Policy    string
	Statement int
	Sid       string
	// Ambiguous says, where the decision rests on a point that AWS leaves
	// unsettled, which point that is. Otherwise it is empty.
	Ambiguous string
}

// Explanation is a Decision and what each statement had to do with it.
type Explanation struct {
	Decision
	Statements []StatementResult
	Text       string // for a person: the decision, then one line per statement
}

// StatementResult says whether one statement matched the request.
type StatementResult struct {
	Layer     Layer
	Policy    string
	Statement int
	Sid       string
	Effect    Effect
	Matched   bool
	Failed    string // the first element that did not match, with what was wanted and got; empty if Matched
	Ambiguous string // the point AWS leaves unsettled on which Matched, or how much the statement grants, rests
}
