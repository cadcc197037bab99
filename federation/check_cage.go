package federation

import (
	"fmt"
	"slices"
	"strings"

	"agentkeys/policy"
)

// iamActions change what somebody may do, or make credentials of somebody else.
var iamActions = []struct {
	action string
	on     string // kind of entity
}{
	{"iam:PutRolePolicy", "role"}, {"iam:AttachRolePolicy", "role"}, {"iam:UpdateAssumeRolePolicy", "role"},
	{"iam:DeleteRolePermissionsBoundary", "role"}, {"iam:PutRolePermissionsBoundary", "role"},
	{"iam:CreatePolicyVersion", "policy"}, {"iam:SetDefaultPolicyVersion", "policy"},
	{"iam:PutUserPolicy", "user"}, {"iam:AttachUserPolicy", "user"}, {"iam:DeleteUserPermissionsBoundary", "user"},
	{"iam:PutUserPermissionsBoundary", "user"},
	{"iam:PutGroupPolicy", "group"}, {"iam:AttachGroupPolicy", "group"}, {"iam:AddUserToGroup", "group"},
	{"iam:CreateAccessKey", "other user"}, {"iam:CreateLoginProfile", "other user"}, {"iam:UpdateLoginProfile", "other user"},
}

// cageActions change what holds a tenant's session, besides those of IAM above:
// on the role itself, its provider, and the bucket with what guards it.
var cageActions = []struct {
	action string
	on     string
}{
	{"iam:DeleteRolePolicy", "data role"}, {"iam:DetachRolePolicy", "data role"}, {"iam:TagRole", "data role"},
	{"iam:UntagRole", "data role"}, {"iam:DeleteRole", "data role"}, {"iam:UpdateRole", "data role"},
	{"iam:AddClientIDToOpenIDConnectProvider", "provider"}, {"iam:UpdateOpenIDConnectProviderThumbprint", "provider"},
	{"iam:DeleteOpenIDConnectProvider", "provider"}, {"iam:RemoveClientIDFromOpenIDConnectProvider", "provider"},
	{"iam:DeletePolicyVersion", "own policy"},
	{"s3:PutBucketPolicy", "bucket"}, {"s3:DeleteBucketPolicy", "bucket"}, {"s3:PutBucketAcl", "bucket"},
	{"s3:PutBucketOwnershipControls", "bucket"}, {"s3:PutBucketPublicAccessBlock", "bucket"}, {"s3:PutAccountPublicAccessBlock", "account"},
	{"s3:CreateAccessPoint", "access point"}, {"s3:PutAccessPointPolicy", "access point"}, {"s3:DeleteAccessPointPolicy", "access point"},
	{"s3:DeleteAccessPoint", "access point"}, {"s3:PutAccessPointPublicAccessBlock", "account"},
	{"s3:CreateAccessPointForObjectLambda", "object lambda"}, {"s3:PutAccessPointPolicyForObjectLambda", "object lambda"},
	{"s3:CreateMultiRegionAccessPoint", "multi-region"}, {"s3:PutMultiRegionAccessPointPolicy", "multi-region"},
	{"s3:PutLifecycleConfiguration", "bucket"}, {"s3:PutReplicationConfiguration", "bucket"}, {"s3:PutInventoryConfiguration", "bucket"},
}

// resourcesOf are the ARNs of a kind of thing that an actor may try to change.
func (k *checker) resourcesOf(on string, a *caller) []string {
	c := k.Config
	arn := func(service, region, rest string) string {
		return "arn:" + c.Partition() + ":" + service + ":" + region + ":" + c.Account + ":" + rest
	}
	var list []string
	switch on {
	case "data role":
		return []string{k.data.ARN}
	case "provider":
		return []string{c.ProviderARN()}
	case "bucket":
		return []string{c.BucketARN()}
	case "account":
		return []string{"*"}
	case "access point":
		for _, p := range k.AccessPoints {
			list = append(list, p.ARN)
		}
		return append(list, arn("s3", c.Region, "accesspoint/another"))
	case "object lambda":
		return []string{arn("s3-object-lambda", c.Region, "accesspoint/another")}
	case "multi-region":
		return []string{arn("s3", "", "accesspoint/another")}
	case "own policy":
		return slices.DeleteFunc(slices.Clone(k.data.Attached), func(p string) bool { return strings.Contains(p, "::aws:policy/") })
	case "role":
		list = append(list, k.data.ARN)
		for i := range k.Roles {
			if r := &k.Roles[i]; r != k.data && !k.serviceLinked(r) {
				list = append(list, r.ARN)
			}
		}
	case "user", "other user":
		for _, u := range k.Users {
			if on == "user" || u.ARN != a.who.ARN {
				list = append(list, u.ARN)
			}
		}
	case "group":
		for _, g := range k.Groups {
			list = append(list, g.ARN)
		}
	case "policy":
		for _, arn := range k.attachedPolicies() {
			if !strings.Contains(arn, "::aws:policy/") {
				list = append(list, arn)
			}
		}
	}
	return list
}

// attachedPolicies are the managed policies that somebody has.
func (k *checker) attachedPolicies() []string {
	var arns []string
	add := func(e Entity) {
		for _, arn := range append(slices.Clone(e.Attached), e.Boundary) {
			if arn != "" && !slices.Contains(arns, arn) {
				arns = append(arns, arn)
			}
		}
	}
	for _, r := range k.Roles {
		add(r.Entity)
	}
	for _, u := range k.Users {
		add(u.Entity)
	}
	for _, g := range k.Groups {
		add(g.Entity)
	}
	return arns
}

// mayDo looks for a resource on which an actor may do something.
func (k *checker) mayDo(a *caller, action, on string, grant *part) (*ask, answer, bool) {
	l := a.own
	if a.who.Account == k.Config.Account {
		l.scp = k.scp
	}
	if on == "bucket" {
		l = k.at(a)
	}
	l.rcp = k.rcp
	l = l.only(grant)
	admits := slices.ContainsFunc(l.grants(), func(p *part) bool { return p.admits(action) })
	if !admits && !slices.ContainsFunc(l.identity, func(p *part) bool { return p.given }) {
		return nil, answer{}, false
	}
	for _, resource := range k.resourcesOf(on, a) {
		ask := &ask{
			request: policy.Request{Principal: a.who, Action: action, Resource: resource, ResourceAccount: k.Config.Account},
			keys:    a.keys, names: a.names, layers: l,
			free: func(key string) bool { return k.chooses(a, action, key) },
		}
		if ans := k.search(ask); ans.gotIn() {
			return ask, ans, true
		}
	}
	return nil, answer{}, false
}

// changesIAM reports whether an actor may change what somebody may do.
func (k *checker) changesIAM(a *caller) (action, resource string, ok bool) {
	if a.who.Account != k.Config.Account {
		return "", "", false
	}
	key := a.name
	if r, seen := k.iamOf[key]; seen {
		return r[0], r[1], r[0] != ""
	}
	for _, c := range iamActions {
		if ask, ans, can := k.mayDo(a, c.action, c.on, nil); can && ans.allowed {
			action, resource, ok = c.action, ask.request.Resource, true
			break
		}
	}
	k.iamOf[key] = [2]string{action, resource}
	return action, resource, ok
}

// changesBucket reports whether an actor may change what guards the bucket.
func (k *checker) changesBucket(a *caller) (string, bool) {
	for _, c := range cageActions {
		if strings.HasPrefix(c.action, "s3:") {
			if _, ans, can := k.mayDo(a, c.action, c.on, nil); can && ans.allowed {
				return c.action, true
			}
		}
	}
	return "", false
}

// cage looks for what a session of the data role, or somebody outside, can change
// of what holds it.
func (k *checker) cage(a *caller) {
	outside := a.role == nil
	for _, grant := range k.cageGrants(a) {
		for _, c := range cageActions {
			if outside && c.on != "bucket" || !grant.admits(c.action) || k.has(PolicyEditable, grant) {
				continue
			}
			if ask, ans, ok := k.mayDo(a, c.action, c.on, grant); ok {
				k.reportWay(way{PolicyEditable, a, grant, ask, ans})
			}
		}
		for _, c := range iamActions {
			if outside || !grant.admits(c.action) || k.has(PolicyEditable, grant) {
				continue
			}
			if ask, ans, ok := k.mayDo(a, c.action, c.on, grant); ok {
				k.reportWay(way{PolicyEditable, a, grant, ask, ans})
			}
		}
	}
}

func (k *checker) cageGrants(a *caller) []*part {
	l := k.at(a)
	return l.grants()
}

// serviceAdvice speaks of services that the bucket or the data role lets in
// without asking on whose behalf.
func (k *checker) serviceAdvice() {
	for _, p := range append(slices.Clone(k.bucket), k.split(k.data.Trust)...) {
		who := p.statement.Principal
		if !p.allows() || who == nil || len(who.Service) == 0 {
			continue
		}
		if p.from.Document == k.data.Trust.Name {
			k.advise("%s lets %s assume the data role without a tenant tag", p.from, strings.Join(who.Service, ", "))
			continue
		}
		if !slices.ContainsFunc(p.conditions, func(c *condition) bool { return slices.Contains(sourceKeys, c.key) }) {
			k.advise("%s lets %s in on anybody's behalf; hold it to aws:SourceAccount and aws:SourceArn",
				p.from, strings.Join(who.Service, ", "))
		}
	}
}

// sourceKeys say on whose behalf a service acts.
var sourceKeys = []string{"aws:sourceaccount", "aws:sourcearn", "aws:sourceorgid", "aws:sourceorgpaths", "aws:sourceowner"}

// aclName is what the bucket's ACL is called in a report, and aclSid what stands
// before the place of a grant.
const (
	aclName = "bucket ACL"
	aclSid  = "Grant"
)

// groups of an ACL's grantees.
// Source: S3 User Guide, acl-overview.
const (
	allUsers           = "http://acs.amazonaws.com/groups/global/AllUsers"
	authenticatedUsers = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers"
)

// aclDocument is the bucket's ACL in the words of a bucket policy: an ACL grants
// and never denies. It counts for nothing where the bucket's owner owns every
// object, and its public grants for nothing where public ACLs are ignored.
// Source: S3 User Guide, acl-overview, "Mapping of ACL permissions and access
// policy permissions"; about-object-ownership; access-control-block-public-access.
func (k *checker) aclDocument() Document {
	d := Document{Name: aclName}
	if k.ACL == nil {
		return d
	}
	if k.Ownership != nil {
		for _, r := range k.Ownership.Rules {
			if r.ObjectOwnership == "BucketOwnerEnforced" {
				return d
			}
		}
	}
	doc := document()
	for i, g := range k.ACL.Grants {
		public := g.URI == allUsers || g.URI == authenticatedUsers
		if public && k.PublicAccess != nil && k.PublicAccess.IgnorePublicAcls {
			continue
		}
		who := &policy.Principals{}
		s := policy.Statement{Sid: fmt.Sprintf("%s%d", aclSid, i), Effect: policy.Allow, Principal: who,
			Resource: []string{k.Config.BucketARN(), k.Config.BucketARN() + "/*"}, Action: aclActions(g.Permission)}
		switch {
		case g.URI == allUsers:
			who.Any = true
		case g.URI == authenticatedUsers:
			who.Any = true
			s.Condition = []policy.Condition{{Operator: "Null", Key: "aws:PrincipalAccount", Values: []string{"false"}}}
		case g.ID != "" && g.ID != k.ACL.Owner:
			who.CanonicalUser = []string{g.ID}
		default: // the owner itself, or the service that delivers logs
			continue
		}
		if s.Action != nil {
			doc.Statements = append(doc.Statements, s)
		}
	}
	if len(doc.Statements) > 0 {
		d.Policy = doc
	}
	return d
}

// aclActions are what a permission on a bucket allows.
func aclActions(permission string) []string {
	read := []string{"s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads"}
	write := []string{"s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"}
	switch permission {
	case "READ":
		return read
	case "WRITE":
		return write
	case "READ_ACP":
		return []string{"s3:GetBucketAcl"}
	case "WRITE_ACP":
		return []string{"s3:PutBucketAcl"}
	case "FULL_CONTROL":
		return append(append(read, write...), "s3:GetBucketAcl", "s3:PutBucketAcl")
	}
	return nil
}
