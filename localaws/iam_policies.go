package localaws

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"agentkeys/policy"
)

var managedPolicyOperations = map[string]operation{
	"CreatePolicy":            {writes: true, resource: func(c *call) string { return c.named("policy", "PolicyName") }, run: (*call).createPolicy},
	"GetPolicy":               {resource: policyResource, run: (*call).getPolicy},
	"ListPolicies":            {resource: listOf("policy"), run: (*call).listPolicies},
	"DeletePolicy":            {writes: true, resource: policyResource, run: (*call).deletePolicy},
	"CreatePolicyVersion":     {writes: true, resource: policyResource, run: (*call).createPolicyVersion},
	"GetPolicyVersion":        {resource: policyResource, run: (*call).getPolicyVersion},
	"ListPolicyVersions":      {resource: policyResource, run: (*call).listPolicyVersions},
	"DeletePolicyVersion":     {writes: true, resource: policyResource, run: (*call).deletePolicyVersion},
	"SetDefaultPolicyVersion": {writes: true, resource: policyResource, run: (*call).setDefaultPolicyVersion},
	"ListEntitiesForPolicy":   {resource: policyResource, run: (*call).listEntitiesForPolicy},
	"TagPolicy":               {writes: true, resource: policyResource, run: (*call).tagPolicy},
	"UntagPolicy":             {writes: true, resource: policyResource, run: (*call).untagPolicy},
	"ListPolicyTags":          {resource: policyResource, run: (*call).listPolicyTags},
}

const (
	maxPolicyVersions = 5
	maxManagedPolicy  = 6144 // characters other than white space
)

type xmlPolicy struct {
	PolicyName                    string
	PolicyID                      string `xml:"PolicyId"`
	Arn                           string
	Path                          string
	DefaultVersionID              string `xml:"DefaultVersionId"`
	AttachmentCount               int
	PermissionsBoundaryUsageCount int
	IsAttachable                  bool
	Description                   string `xml:",omitempty"`
	CreateDate                    string
	UpdateDate                    string
	Tags                          *list[xmlTag] `xml:",omitempty"`
}

type xmlPolicyResult struct{ Policy xmlPolicy }

type xmlVersion struct {
	Document         string `xml:",omitempty"`
	VersionID        string `xml:"VersionId"`
	IsDefaultVersion bool
	CreateDate       string
}

func versionID(n int) string { return "v" + strconv.Itoa(n) }

// policyView is a managed policy of either kind, AWS's own or the account's.
type policyView struct {
	xmlPolicy
	versions []policyVersion
	current  int
}

// policyByARN returns a view of a managed policy, or nil.
func (s *state) policyByARN(arn string) *policyView {
	if p := awsManaged(arn); p != nil {
		return &policyView{s.awsPolicyXML(p), []policyVersion{{1, p.document, awsPoliciesSince}}, 1}
	}
	if p := s.Policies[arn]; p != nil {
		return &policyView{s.policyXML(p), p.Versions, p.Default}
	}
	return nil
}

func (s *state) policyXML(p *managedPolicy) xmlPolicy {
	arn := s.policyARN(p)
	attached, boundary := s.usesOf(arn)
	return xmlPolicy{PolicyName: p.Name, PolicyID: p.ID, Arn: arn, Path: p.Path, DefaultVersionID: versionID(p.Default),
		AttachmentCount: attached, PermissionsBoundaryUsageCount: boundary, IsAttachable: true, Description: p.Description,
		CreateDate: timestamp(p.Created), UpdateDate: timestamp(p.Updated)}
}

func (s *state) awsPolicyXML(p *awsPolicy) xmlPolicy {
	arn := awsPolicyARN(p.name)
	attached, boundary := s.usesOf(arn)
	slash := lastSlash(p.name)
	return xmlPolicy{PolicyName: p.name[slash+1:], PolicyID: p.id, Arn: arn, Path: "/" + p.name[:slash+1], DefaultVersionID: versionID(1),
		AttachmentCount: attached, PermissionsBoundaryUsageCount: boundary, IsAttachable: true, Description: p.description,
		CreateDate: timestamp(awsPoliciesSince), UpdateDate: timestamp(awsPoliciesSince)}
}

// usesOf counts whom a managed policy is attached to, and whose boundary it is.
func (s *state) usesOf(arn string) (attached, boundary int) {
	for _, e := range s.entities() {
		if slices.Contains(e.Attached, arn) {
			attached++
		}
		if e.Boundary == arn {
			boundary++
		}
	}
	return attached, boundary
}

func (s *state) entities() []*entity {
	var all []*entity
	for _, r := range s.Roles {
		all = append(all, &r.entity)
	}
	for _, u := range s.Users {
		all = append(all, &u.entity)
	}
	for _, g := range s.Groups {
		all = append(all, &g.entity)
	}
	return all
}

func policyResource(c *call) string { return c.params["PolicyArn"] }

func (c *call) mustPolicy() (*policyView, *apiError) {
	arn, e := c.policyARN()
	if e != nil {
		return nil, e
	}
	if p := c.state.policyByARN(arn); p != nil {
		return p, nil
	}
	return nil, noSuchEntity("Policy %s was not found.", clip(arn))
}

// mustOwnPolicy is mustPolicy for the calls that change one.
func (c *call) mustOwnPolicy() (*managedPolicy, *apiError) {
	p, e := c.mustPolicy()
	if e != nil {
		return nil, e
	}
	if own := c.state.Policies[p.Arn]; own != nil {
		return own, nil
	}
	return nil, notModifiable("policy " + p.Arn)
}

// managedDocument reads and checks the document of a managed policy.
func (c *call) managedDocument() (string, *apiError) {
	var v violations
	v.text(c.params, "PolicyDocument", true, 1, 131072, documentPattern)
	if e := v.refusal(); e != nil {
		return "", e
	}
	document := c.params["PolicyDocument"]
	if documentSize(document) > maxManagedPolicy {
		return "", limitExceeded("PolicySize", maxManagedPolicy)
	}
	return document, checkDocument(document, policy.IdentityPolicy)
}

func (c *call) createPolicy() (any, *apiError) {
	var v violations
	v.text(c.params, "PolicyName", true, 1, 128, nameRequired)
	v.text(c.params, "Path", false, 1, 512, pathPattern)
	v.text(c.params, "Description", false, 0, 1000, nil)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	document, e := c.managedDocument()
	if e != nil {
		return nil, e
	}
	tags, e := c.params.tags("Tags")
	if e == nil {
		e = checkTags(tags, "tags")
	}
	if e != nil {
		return nil, e
	}
	now := c.now.UTC()
	p := &managedPolicy{Name: c.params["PolicyName"], Path: c.newPath(), ID: newID("ANPA"), Description: c.params["Description"],
		Created: now, Updated: now, Default: 1, Latest: 1, Versions: []policyVersion{{1, document, now}}, Tags: tags}
	for _, other := range c.state.Policies {
		if strings.EqualFold(other.Name, p.Name) {
			return nil, alreadyExists("A policy called %s already exists. Duplicate names are not allowed.", p.Name)
		}
	}
	c.state.Policies[c.state.policyARN(p)] = p
	return xmlPolicyResult{c.state.policyXML(p)}, nil
}

func (c *call) getPolicy() (any, *apiError) {
	p, e := c.mustPolicy()
	if e != nil {
		return nil, e
	}
	if own := c.state.Policies[p.Arn]; own != nil && len(own.Tags) > 0 {
		tags := xmlTags(own.Tags)
		p.Tags = &tags
	}
	return xmlPolicyResult{p.xmlPolicy}, nil
}

func (c *call) listPolicies() (any, *apiError) {
	var items []xmlPolicy
	scope := c.params["Scope"]
	if scope != "AWS" {
		for _, arn := range sortedKeys(c.state.Policies) {
			items = append(items, c.state.policyXML(c.state.Policies[arn]))
		}
	}
	if scope != "Local" {
		for i := range awsPolicies {
			items = append(items, c.state.awsPolicyXML(&awsPolicies[i]))
		}
	}
	items = slices.DeleteFunc(items, func(p xmlPolicy) bool {
		return !strings.HasPrefix(p.Path, c.pathPrefix()) || c.params["OnlyAttached"] == "true" && p.AttachmentCount == 0
	})
	slices.SortFunc(items, func(a, b xmlPolicy) int { return strings.Compare(a.Arn, b.Arn) })
	items, end, e := page(c, items, func(p xmlPolicy) string { return p.Arn })
	if e != nil {
		return nil, e
	}
	return struct {
		Policies list[xmlPolicy]
		paged
	}{list[xmlPolicy]{items}, end}, nil
}

func (c *call) deletePolicy() (any, *apiError) {
	p, e := c.mustOwnPolicy()
	if e != nil {
		return nil, e
	}
	arn := c.state.policyARN(p)
	if attached, boundary := c.state.usesOf(arn); attached+boundary > 0 {
		return nil, refuse(http.StatusConflict, "DeleteConflict", "Cannot delete a policy attached to entities.")
	}
	if len(p.Versions) > 1 {
		return nil, refuse(http.StatusConflict, "DeleteConflict", "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
	}
	delete(c.state.Policies, arn)
	return nil, nil
}

func (c *call) createPolicyVersion() (any, *apiError) {
	p, e := c.mustOwnPolicy()
	if e != nil {
		return nil, e
	}
	document, e := c.managedDocument()
	if e != nil {
		return nil, e
	}
	if len(p.Versions) >= maxPolicyVersions {
		return nil, limitExceeded("VersionsPerPolicy", maxPolicyVersions)
	}
	p.Latest++
	v := policyVersion{p.Latest, document, c.now.UTC()}
	p.Versions = append(p.Versions, v)
	if c.params["SetAsDefault"] == "true" {
		p.Default, p.Updated = v.Number, v.Created
	}
	return struct{ PolicyVersion xmlVersion }{versionXML(v, p.Default, false)}, nil
}

func versionXML(v policyVersion, current int, document bool) xmlVersion {
	x := xmlVersion{VersionID: versionID(v.Number), IsDefaultVersion: v.Number == current, CreateDate: timestamp(v.Created)}
	if document {
		x.Document = encodeDocument(v.Document)
	}
	return x
}

// versionIn finds the version that the request names.
func (c *call) versionIn(versions []policyVersion) (int, *apiError) {
	var v violations
	v.text(c.params, "VersionId", true, 2, 32, nil)
	if e := v.refusal(); e != nil {
		return 0, e
	}
	i := slices.IndexFunc(versions, func(v policyVersion) bool { return versionID(v.Number) == c.params["VersionId"] })
	if i < 0 {
		return 0, noSuchEntity("Policy %s version %s does not exist or is not attachable.", clip(c.params["PolicyArn"]), clip(c.params["VersionId"]))
	}
	return i, nil
}

func (c *call) getPolicyVersion() (any, *apiError) {
	p, e := c.mustPolicy()
	if e != nil {
		return nil, e
	}
	i, e := c.versionIn(p.versions)
	if e != nil {
		return nil, e
	}
	return struct{ PolicyVersion xmlVersion }{versionXML(p.versions[i], p.current, true)}, nil
}

func (c *call) listPolicyVersions() (any, *apiError) {
	p, e := c.mustPolicy()
	if e != nil {
		return nil, e
	}
	var versions list[xmlVersion]
	for _, v := range slices.Backward(p.versions) {
		versions.Member = append(versions.Member, versionXML(v, p.current, false))
	}
	return struct {
		Versions list[xmlVersion]
		paged
	}{versions, paged{}}, nil
}

func (c *call) deletePolicyVersion() (any, *apiError) {
	p, e := c.mustOwnPolicy()
	if e != nil {
		return nil, e
	}
	i, e := c.versionIn(p.Versions)
	if e != nil {
		return nil, e
	}
	if p.Versions[i].Number == p.Default {
		return nil, refuse(http.StatusConflict, "DeleteConflict", "Cannot delete the default version of a policy.")
	}
	p.Versions = slices.Delete(p.Versions, i, i+1)
	return nil, nil
}

func (c *call) setDefaultPolicyVersion() (any, *apiError) {
	p, e := c.mustOwnPolicy()
	if e != nil {
		return nil, e
	}
	i, e := c.versionIn(p.Versions)
	if e != nil {
		return nil, e
	}
	p.Default, p.Updated = p.Versions[i].Number, c.now.UTC()
	return nil, nil
}

func (c *call) listEntitiesForPolicy() (any, *apiError) {
	p, e := c.mustPolicy()
	if e != nil {
		return nil, e
	}
	var roles list[xmlRoleName]
	var users list[xmlUserName]
	var groups list[xmlGroupName]
	uses := func(e *entity) bool {
		if c.params["PolicyUsageFilter"] == "PermissionsBoundary" {
			return e.Boundary == p.Arn
		}
		return slices.Contains(e.Attached, p.Arn)
	}
	for _, name := range sortedKeys(c.state.Roles) {
		if r := c.state.Roles[name]; uses(&r.entity) {
			roles.Member = append(roles.Member, xmlRoleName{r.Name, r.ID})
		}
	}
	for _, name := range sortedKeys(c.state.Users) {
		if u := c.state.Users[name]; uses(&u.entity) {
			users.Member = append(users.Member, xmlUserName{u.Name, u.ID})
		}
	}
	for _, name := range sortedKeys(c.state.Groups) {
		if g := c.state.Groups[name]; uses(&g.entity) {
			groups.Member = append(groups.Member, xmlGroupName{g.Name, g.ID})
		}
	}
	return struct {
		PolicyRoles  list[xmlRoleName]
		PolicyUsers  list[xmlUserName]
		PolicyGroups list[xmlGroupName]
		paged
	}{roles, users, groups, paged{}}, nil
}

type xmlRoleName struct {
	RoleName string
	RoleID   string `xml:"RoleId"`
}

type xmlUserName struct {
	UserName string
	UserID   string `xml:"UserId"`
}

type xmlGroupName struct {
	GroupName string
	GroupID   string `xml:"GroupId"`
}

func (c *call) tagPolicy() (any, *apiError) {
	p, e := c.mustOwnPolicy()
	if e != nil {
		return nil, e
	}
	return c.tag(&p.Tags)
}

func (c *call) untagPolicy() (any, *apiError) {
	p, e := c.mustOwnPolicy()
	if e != nil {
		return nil, e
	}
	return c.untag(&p.Tags)
}

func (c *call) listPolicyTags() (any, *apiError) {
	p, e := c.mustPolicy()
	if e != nil {
		return nil, e
	}
	if own := c.state.Policies[p.Arn]; own != nil {
		return c.tagPage(own.Tags)
	}
	return c.tagPage(nil)
}
