package localaws

import "slices"

// detailOperations is the one call that shows a whole account: what an auditor
// exports and the federation check reads.
var detailOperations = map[string]operation{
	"GetAccountAuthorizationDetails": {resource: everything, run: (*call).accountDetails},
	"ListAccountAliases":             {resource: everything, run: (*call).listAliases},
}

type xmlDocument struct {
	PolicyName     string
	PolicyDocument string
}

type xmlUserDetail struct {
	Path                    string
	UserName                string
	UserID                  string `xml:"UserId"`
	Arn                     string
	CreateDate              string
	UserPolicyList          list[xmlDocument]
	GroupList               list[string]
	AttachedManagedPolicies list[xmlAttached]
	PermissionsBoundary     *xmlBoundary `xml:",omitempty"`
	Tags                    list[xmlTag]
}

type xmlGroupDetail struct {
	xmlGroup
	GroupPolicyList         list[xmlDocument]
	AttachedManagedPolicies list[xmlAttached]
}

type xmlRoleDetail struct {
	Path                     string
	RoleName                 string
	RoleID                   string `xml:"RoleId"`
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string
	InstanceProfileList      list[string] // there are none
	RolePolicyList           list[xmlDocument]
	AttachedManagedPolicies  list[xmlAttached]
	PermissionsBoundary      *xmlBoundary `xml:",omitempty"`
	Tags                     list[xmlTag]
}

type xmlPolicyDetail struct {
	xmlPolicy
	PolicyVersionList list[xmlVersion]
}

// detail is one entry of the reply, of one of the four kinds.
type detail struct {
	user   *xmlUserDetail
	group  *xmlGroupDetail
	role   *xmlRoleDetail
	policy *xmlPolicyDetail
	key    string // orders the entries over all pages
}

func (c *call) accountDetails() (any, *apiError) {
	filters, e := c.params.list("Filter")
	if e != nil {
		return nil, e
	}
	wanted := func(kind string) bool { return len(filters) == 0 || slices.Contains(filters, kind) }
	for _, f := range filters {
		if !slices.Contains([]string{"User", "Role", "Group", "LocalManagedPolicy", "AWSManagedPolicy"}, f) {
			var v violations
			v.add(f, "filter", "Member must satisfy enum value set: [LocalManagedPolicy, User, Group, AWSManagedPolicy, Role]")
			return nil, v.refusal()
		}
	}
	items, end, e := page(c, c.details(wanted), func(d detail) string { return d.key })
	if e != nil {
		return nil, e
	}
	var reply struct {
		UserDetailList  list[*xmlUserDetail]
		GroupDetailList list[*xmlGroupDetail]
		RoleDetailList  list[*xmlRoleDetail]
		Policies        list[*xmlPolicyDetail]
		paged
	}
	reply.paged = end
	for _, d := range items {
		switch {
		case d.user != nil:
			reply.UserDetailList.Member = append(reply.UserDetailList.Member, d.user)
		case d.group != nil:
			reply.GroupDetailList.Member = append(reply.GroupDetailList.Member, d.group)
		case d.role != nil:
			reply.RoleDetailList.Member = append(reply.RoleDetailList.Member, d.role)
		case d.policy != nil:
			reply.Policies.Member = append(reply.Policies.Member, d.policy)
		}
	}
	return reply, nil
}

func (c *call) details(wanted func(kind string) bool) []detail {
	var all []detail
	st := c.state.state
	if wanted("Group") {
		for _, name := range sortedKeys(st.Groups) {
			all = append(all, detail{group: c.groupDetail(st.Groups[name]), key: "group/" + name})
		}
	}
	if wanted("LocalManagedPolicy") {
		for _, arn := range sortedKeys(st.Policies) {
			all = append(all, detail{policy: c.policyDetail(arn), key: "policy/" + arn})
		}
	}
	if wanted("AWSManagedPolicy") {
		for i := range awsPolicies {
			arn := awsPolicyARN(awsPolicies[i].name)
			if attached, boundary := st.usesOf(arn); attached+boundary > 0 {
				all = append(all, detail{policy: c.policyDetail(arn), key: "policy/" + arn})
			}
		}
	}
	if wanted("Role") {
		for _, name := range sortedKeys(st.Roles) {
			all = append(all, detail{role: c.roleDetail(st.Roles[name]), key: "role/" + name})
		}
	}
	if wanted("User") {
		for _, name := range sortedKeys(st.Users) {
			all = append(all, detail{user: c.userDetail(st.Users[name]), key: "user/" + name})
		}
	}
	return all
}

func inlineXML(e *entity) list[xmlDocument] {
	var l list[xmlDocument]
	for _, name := range sortedKeys(e.Inline) {
		l.Member = append(l.Member, xmlDocument{name, encodeDocument(e.Inline[name])})
	}
	return l
}

func (c *call) userDetail(u *user) *xmlUserDetail {
	d := &xmlUserDetail{Path: u.Path, UserName: u.Name, UserID: u.ID, Arn: c.state.userARN(u), CreateDate: timestamp(u.Created),
		UserPolicyList: inlineXML(&u.entity), AttachedManagedPolicies: list[xmlAttached]{attachedXML(u.Attached)},
		PermissionsBoundary: boundaryXML(u.Boundary), Tags: xmlTags(u.Tags)}
	for _, g := range c.state.groupsOf(u) {
		d.GroupList.Member = append(d.GroupList.Member, g.Name)
	}
	return d
}

func (c *call) groupDetail(g *group) *xmlGroupDetail {
	return &xmlGroupDetail{c.groupXML(g), inlineXML(&g.entity), list[xmlAttached]{attachedXML(g.Attached)}}
}

func (c *call) roleDetail(r *role) *xmlRoleDetail {
	return &xmlRoleDetail{Path: r.Path, RoleName: r.Name, RoleID: r.ID, Arn: c.state.roleARN(r), CreateDate: timestamp(r.Created),
		AssumeRolePolicyDocument: encodeDocument(c.state.showPrincipals(r.Trust)), RolePolicyList: inlineXML(&r.entity),
		AttachedManagedPolicies: list[xmlAttached]{attachedXML(r.Attached)}, PermissionsBoundary: boundaryXML(r.Boundary), Tags: xmlTags(r.Tags)}
}

func (c *call) policyDetail(arn string) *xmlPolicyDetail {
	p := c.state.policyByARN(arn)
	d := &xmlPolicyDetail{xmlPolicy: p.xmlPolicy}
	for _, v := range slices.Backward(p.versions) {
		d.PolicyVersionList.Member = append(d.PolicyVersionList.Member, versionXML(v, p.current, true))
	}
	return d
}

// listAliases answers that the account has none, since none can be made here.
func (c *call) listAliases() (any, *apiError) {
	return struct {
		AccountAliases list[string]
		paged
	}{}, nil
}
