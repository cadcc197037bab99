package federation

import (
	"agentkeys/policy"
)

// Account is what decides at AWS who gets at the tenants' objects, as far as
// somebody looked: Fetch reads it from AWS, ReadAccount from files. Check judges
// it. It is not changed once it is made.
type Account struct {
	Config Config
	Source string // for the report: "files: DIR", or the endpoint that was asked

	Users   []User
	Groups  []Group
	Roles   []Role
	Managed map[string]Document // managed policies' default versions by ARN

	Bucket Document // bucket policy; its Policy is nil where there is none

	// What follows is nil where it was not looked at, and empty where there is
	// nothing.
	Providers    []Provider
	PublicAccess *PublicAccessBlock
	Ownership    *OwnershipControls
	ACL          *ACL
	AccessPoints []AccessPoint
	Organization *Organization

	// NotLookedAt names what was not looked at, in words for the report.
	NotLookedAt []string
	// Remarks are oddities of the source that decide nothing.
	Remarks []string
}

// Document is a policy document in force and what it is called.
type Document struct {
	Name   string           // "role agentkeys-data-role, inline policy old"
	Policy *policy.Document // nil where there is none, or where Err says why it cannot be read
	Err    error
}

// Entity is what users, groups and roles have in common.
type Entity struct {
	Name     string
	ARN      string
	ID       string // unique id: AIDA…, AROA…
	Inline   []Document
	Attached []string          // ARNs of managed policies
	Boundary string            // ARN of the permissions boundary; "" for none
	Tags     map[string]string // by key, as it is written
}

// User is an IAM user.
type User struct {
	Entity
	Groups []string // names
}

// Group is an IAM group.
type Group struct{ Entity }

// Role is an IAM role.
type Role struct {
	Entity
	Path  string
	Trust Document
	// MaxSession is MaxSessionDuration in seconds; 0 where it is not known, since
	// get-account-authorization-details leaves it out.
	MaxSession int
}

// Provider is an OIDC provider of the account.
type Provider struct {
	ARN       string
	URL       string // without the scheme, as AWS shows it
	ClientIDs []string
}

// ACL is the bucket's access control list.
type ACL struct {
	Owner  string // canonical user id
	Grants []Grant
}

// Grant is one entry of an ACL.
type Grant struct {
	Type       string // "Group" or "CanonicalUser"
	URI        string // of a group
	ID         string // canonical user id
	Permission string // READ, WRITE, READ_ACP, WRITE_ACP or FULL_CONTROL
}

// AccessPoint is an access point of the bucket.
type AccessPoint struct {
	Name         string
	ARN          string
	VPC          string   // "" for one that takes requests from the internet
	Policy       Document // its Policy is nil where there is none
	PublicAccess *PublicAccessBlock
}

// Organization is the control policies, level by level from the root down to the
// account. A nil list was not looked at.
type Organization struct {
	Service  []Level // service control policies
	Resource []Level // resource control policies
}

// Level is the control policies of one target.
type Level struct {
	Target   string
	Policies []Document
}
