package localaws

import (
	"net/http"
	"strings"
)

var roleOperations = map[string]operation{
	"CreateRole":             {writes: true, resource: func(c *call) string { return c.named("role", "RoleName") }, run: (*call).createRole},
	"GetRole":                {resource: roleResource, run: (*call).getRole},
	"ListRoles":              {resource: listOf("role"), run: (*call).listRoles},
	"UpdateRole":             {writes: true, resource: roleResource, run: (*call).updateRole},
	"UpdateRoleDescription":  {writes: true, resource: roleResource, run: (*call).updateRoleDescription},
	"UpdateAssumeRolePolicy": {writes: true, resource: roleResource, run: (*call).updateAssumeRolePolicy},
	"DeleteRole":             {writes: true, resource: roleResource, run: (*call).deleteRole},

	"ListInstanceProfilesForRole": {resource: roleResource, run: (*call).listInstanceProfiles},
}

// maxTrustPolicy is IAM's default quota, in characters other than white space.
const maxTrustPolicy = 2048

type xmlRole struct {
	Path                     string
	RoleName                 string
	RoleID                   string `xml:"RoleId"`
	Arn                      string
	CreateDate               string
	AssumeRolePolicyDocument string
	Description              string `xml:",omitempty"`
	MaxSessionDuration       int
	PermissionsBoundary      *xmlBoundary  `xml:",omitempty"`
	Tags                     *list[xmlTag] `xml:",omitempty"`
}

type xmlRoleResult struct{ Role xmlRole }

// roleXML describes a role; lists leave tags and boundary out.
func (c *call) roleXML(r *role, full bool) xmlRole {
	x := xmlRole{Path: r.Path, RoleName: r.Name, RoleID: r.ID, Arn: c.state.roleARN(r), CreateDate: timestamp(r.Created),
		AssumeRolePolicyDocument: encodeDocument(c.state.showPrincipals(r.Trust)), Description: r.Description, MaxSessionDuration: r.MaxSession}
	if full {
		x.PermissionsBoundary = boundaryXML(r.Boundary)
		if len(r.Tags) > 0 {
			tags := xmlTags(r.Tags)
			x.Tags = &tags
		}
	}
	return x
}

// role is the role that the request names, or nil. The name has to match in
// case, so that the ARN that was authorised is the one acted on.
func (c *call) role() *role {
	name := c.params["RoleName"]
	if r := c.state.Roles[strings.ToLower(name)]; r != nil && r.Name == name {
		return r
	}
	return nil
}

func (c *call) mustRole() (*role, *apiError) {
	var v violations
	v.text(c.params, "RoleName", true, 1, 64, nameRequired)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if r := c.role(); r != nil {
		return r, nil
	}
	return nil, noSuchEntity("The role with name %s cannot be found.", clip(c.params["RoleName"]))
}

func roleResource(c *call) string {
	if r := c.role(); r != nil {
		return c.state.roleARN(r)
	}
	return c.state.arn("role", "/", c.params["RoleName"])
}

func (c *call) createRole() (any, *apiError) {
	n, e := c.newEntity("RoleName", "AROA", 64)
	if e != nil {
		return nil, e
	}
	r := &role{entity: n}
	if e := c.setRoleFields(r, 3600); e != nil {
		return nil, e
	}
	if r.Trust, e = c.trustDocument("AssumeRolePolicyDocument"); e != nil {
		return nil, e
	}
	key := strings.ToLower(r.Name)
	if c.state.Roles[key] != nil {
		return nil, alreadyExists("Role with name %s already exists.", r.Name)
	}
	c.state.Roles[key] = r
	return xmlRoleResult{c.roleXML(r, true)}, nil
}

// setRoleFields sets what CreateRole and UpdateRole share; what is not passed
// stays as it is, or gets the default for its session.
func (c *call) setRoleFields(r *role, session int) *apiError {
	n, e := c.params.integer("MaxSessionDuration", session)
	if e != nil {
		return e
	}
	var v violations
	v.number(n, "maxSessionDuration", 3600, maxSessionSeconds)
	v.text(c.params, "Description", false, 0, 1000, descriptionText)
	if e := v.refusal(); e != nil {
		return e
	}
	r.MaxSession = n
	if text, ok := c.params["Description"]; ok {
		r.Description = text
	}
	return nil
}

// trustDocument reads, checks and binds a trust policy.
func (c *call) trustDocument(name string) (string, *apiError) {
	var v violations
	v.text(c.params, name, true, 1, 131072, documentPattern)
	if e := v.refusal(); e != nil {
		return "", e
	}
	if documentSize(c.params[name]) > maxTrustPolicy {
		return "", limitExceeded("ACLSizePerRole", maxTrustPolicy)
	}
	return c.state.bindPrincipals(c.params[name])
}

func (c *call) getRole() (any, *apiError) {
	r, e := c.mustRole()
	if e != nil {
		return nil, e
	}
	return xmlRoleResult{c.roleXML(r, true)}, nil
}

func (c *call) listRoles() (any, *apiError) {
	var items []*role
	for _, name := range sortedKeys(c.state.Roles) {
		if r := c.state.Roles[name]; strings.HasPrefix(r.Path, c.pathPrefix()) {
			items = append(items, r)
		}
	}
	items, end, e := page(c, items, func(r *role) string { return strings.ToLower(r.Name) })
	if e != nil {
		return nil, e
	}
	var roles list[xmlRole]
	for _, r := range items {
		roles.Member = append(roles.Member, c.roleXML(r, false))
	}
	return struct {
		Roles list[xmlRole]
		paged
	}{roles, end}, nil
}

func (c *call) updateRole() (any, *apiError) {
	r, e := c.mustRole()
	if e != nil {
		return nil, e
	}
	return struct{}{}, c.setRoleFields(r, r.MaxSession)
}

func (c *call) updateRoleDescription() (any, *apiError) {
	r, e := c.mustRole()
	if e != nil {
		return nil, e
	}
	var v violations
	v.text(c.params, "Description", true, 0, 1000, descriptionText)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	r.Description = c.params["Description"]
	return xmlRoleResult{c.roleXML(r, true)}, nil
}

func (c *call) updateAssumeRolePolicy() (any, *apiError) {
	r, e := c.mustRole()
	if e != nil {
		return nil, e
	}
	r.Trust, e = c.trustDocument("PolicyDocument")
	return nil, e
}

// listInstanceProfiles answers that the role is in none: there are none here,
// and tools ask before they delete a role.
func (c *call) listInstanceProfiles() (any, *apiError) {
	if _, e := c.mustRole(); e != nil {
		return nil, e
	}
	return struct {
		InstanceProfiles list[string]
		paged
	}{}, nil
}

func (c *call) deleteRole() (any, *apiError) {
	r, e := c.mustRole()
	if e != nil {
		return nil, e
	}
	if e := r.deletable(); e != nil {
		return nil, e
	}
	delete(c.state.Roles, strings.ToLower(r.Name))
	return nil, nil
}

// deletable refuses to delete what still has policies.
func (e *entity) deletable() *apiError {
	if len(e.Attached) > 0 {
		return deleteConflict("detach all policies")
	}
	if len(e.Inline) > 0 {
		return deleteConflict("delete policies")
	}
	return nil
}

// notModifiable is the answer to changing what AWS owns.
func notModifiable(what string) *apiError {
	return refuse(http.StatusForbidden, "AccessDenied", "Cannot change %s, which AWS manages.", what)
}
