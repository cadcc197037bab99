package policy

// Document is a policy document as it was written.
type Document struct {
	Version    string // "2012-10-17", "2008-10-17" or "" for absent, which means 2008-10-17
	ID         string
	Statements []Statement
}

// Effect is what a statement does when it matches.
type Effect string

// The two effects. AWS compares them with case.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Statement is one statement of a Document. An element that is absent is nil.
type Statement struct {
	Sid          string
	Effect       Effect
	Principal    *Principals
	NotPrincipal *Principals
	Action       []string
	NotAction    []string
	Resource     []string
	NotResource  []string
	Condition    []Condition
}

// Principals is the value of a Principal or NotPrincipal element.
type Principals struct {
	Any           bool // the bare "*"
	AWS           []string
	Federated     []string
	Service       []string
	CanonicalUser []string
}

// namedList is the principals of one type.
type namedList struct {
	name string
	list []string
}

// members returns the lists that are not empty, in AWS' order.
func (p *Principals) members() []namedList {
	var out []namedList
	for _, m := range []namedList{{"AWS", p.AWS}, {"Federated", p.Federated}, {"Service", p.Service}, {"CanonicalUser", p.CanonicalUser}} {
		if len(m.list) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// Condition is one key under one operator of a Condition element.
type Condition struct {
	Operator string
	Key      string
	Values   []string
}

// Kind says where a document is used, which decides what it may contain.
type Kind int

// The kinds of document.
const (
	IdentityPolicy Kind = iota // of a user, group or role, inline or managed
	BucketPolicy
	TrustPolicy
	SessionPolicy
	BoundaryPolicy
	ControlPolicy // SCP or RCP
)

// BucketRules is what ValidateBucket has to know of the bucket.
type BucketRules struct {
	Bucket  string // its name
	Account string // its owner's, twelve digits
	// CanonicalUser is the owner's canonical user id, the only one that a policy
	// may name. Empty means that none may be named.
	CanonicalUser string
	// PrincipalExists reports whether the ARN of a user, a role or another
	// account's root, or the unique id of a user or a role, is that of one that
	// exists; of a role session, whether the role does. Nil means that every one
	// does, and canonical users too.
	PrincipalExists func(arn string) bool
}

// MalformedError is S3's refusal of a bucket policy: MalformedPolicy.
type MalformedError struct {
	Message   string // S3's text
	Statement int    // index of the first bad statement, or -1
}

func (e *MalformedError) Error() string { return e.Message }
