package localaws

import (
	"slices"
	"strings"

	"agentkeys/policy"
)

// entityKind is what the calls on roles, users and groups that are alike need
// to know of the one they act on.
type entityKind struct {
	noun     string // as it stands in the names of actions and parameters
	label    string // as it stands in messages
	quota    int    // of all inline policies together, in characters other than white space
	quotaKey string
	find     func(*call) (*entity, *apiError)
	resource func(*call) string
}

var (
	roleKind = entityKind{"Role", "role", 10240, "MaxRolePolicySize", func(c *call) (*entity, *apiError) {
		r, e := c.mustRole()
		if e != nil {
			return nil, e
		}
		return &r.entity, nil
	}, roleResource}
	userKind = entityKind{"User", "user", 2048, "MaxUserPolicySize", func(c *call) (*entity, *apiError) {
		u, e := c.mustUser()
		if e != nil {
			return nil, e
		}
		return &u.entity, nil
	}, userResource}
	groupKind = entityKind{"Group", "group", 5120, "MaxGroupPolicySize", func(c *call) (*entity, *apiError) {
		g, e := c.mustGroup()
		if e != nil {
			return nil, e
		}
		return &g.entity, nil
	}, groupResource}
)

// maxAttached is IAM's default quota of managed policies per role, user or group.
const maxAttached = 10

// entityOperations are the calls on policies, boundary and tags of one kind.
// A group has neither boundary nor tags.
func entityOperations(k entityKind) map[string]operation {
	op := func(writes bool, run func(*call, entityKind, *entity) (any, *apiError)) operation {
		return operation{writes: writes, resource: k.resource, run: func(c *call) (any, *apiError) {
			target, e := k.find(c)
			if e != nil {
				return nil, e
			}
			return run(c, k, target)
		}}
	}
	ops := map[string]operation{
		"Put" + k.noun + "Policy":            op(true, (*call).putInlinePolicy),
		"Get" + k.noun + "Policy":            op(false, (*call).getInlinePolicy),
		"List" + k.noun + "Policies":         op(false, (*call).listInlinePolicies),
		"Delete" + k.noun + "Policy":         op(true, (*call).deleteInlinePolicy),
		"Attach" + k.noun + "Policy":         op(true, (*call).attachPolicy),
		"Detach" + k.noun + "Policy":         op(true, (*call).detachPolicy),
		"ListAttached" + k.noun + "Policies": op(false, (*call).listAttachedPolicies),
	}
	if k.noun != "Group" {
		ops["Put"+k.noun+"PermissionsBoundary"] = op(true, (*call).putBoundary)
		ops["Delete"+k.noun+"PermissionsBoundary"] = op(true, (*call).deleteBoundary)
		ops["Tag"+k.noun] = op(true, (*call).tagEntity)
		ops["Untag"+k.noun] = op(true, (*call).untagEntity)
		ops["List"+k.noun+"Tags"] = op(false, (*call).listEntityTags)
	}
	return ops
}

// newName reads the name and path that UpdateUser and UpdateGroup give, each of
// them as it is where it is left out. The caller must be allowed to act on the
// new ARN as on the old one: else a right over some names would be one over all.
// Source: IAM API Reference, UpdateUser.
func (c *call) newName(on *entity, noun string, maxName int) (entity, *apiError) {
	var v violations
	v.text(c.params, "New"+noun+"Name", false, 1, maxName, nameRequired)
	v.text(c.params, "NewPath", false, 1, 512, pathPattern)
	if e := v.refusal(); e != nil {
		return entity{}, e
	}
	next := entity{Name: on.Name, Path: on.Path}
	if name, ok := c.params["New"+noun+"Name"]; ok {
		next.Name = name
	}
	if path, ok := c.params["NewPath"]; ok {
		next.Path = path
	}
	return next, c.authorize("iam:"+c.action, c.state.arn(strings.ToLower(noun), next.Path, next.Name))
}

func (c *call) policyName() (string, *apiError) {
	var v violations
	v.text(c.params, "PolicyName", true, 1, 128, nameRequired)
	return c.params["PolicyName"], v.refusal()
}

func (c *call) putInlinePolicy(k entityKind, on *entity) (any, *apiError) {
	name, e := c.policyName()
	if e != nil {
		return nil, e
	}
	var v violations
	v.text(c.params, "PolicyDocument", true, 1, 131072, documentPattern)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	document := c.params["PolicyDocument"]
	size := documentSize(document)
	for other, text := range on.Inline {
		if other != name {
			size += documentSize(text)
		}
	}
	if size > k.quota {
		return nil, limitExceeded(k.quotaKey, k.quota)
	}
	if e := checkDocument(document, policy.IdentityPolicy); e != nil {
		return nil, e
	}
	if on.Inline == nil {
		on.Inline = map[string]string{}
	}
	on.Inline[name] = document
	return nil, nil
}

// xmlInline has one name that is set: the others are left out.
type xmlInline struct {
	RoleName, UserName, GroupName string `xml:",omitempty"`
	PolicyName                    string
	PolicyDocument                string
}

func (x *xmlInline) setOwner(k entityKind, name string) {
	switch k.noun {
	case "Role":
		x.RoleName = name
	case "User":
		x.UserName = name
	case "Group":
		x.GroupName = name
	}
}

func (c *call) inlinePolicy(k entityKind, on *entity) (name, document string, e *apiError) {
	if name, e = c.policyName(); e != nil {
		return "", "", e
	}
	document, ok := on.Inline[name]
	if !ok {
		return "", "", noSuchEntity("The %s policy with name %s cannot be found.", k.label, clip(name))
	}
	return name, document, nil
}

func (c *call) getInlinePolicy(k entityKind, on *entity) (any, *apiError) {
	name, document, e := c.inlinePolicy(k, on)
	if e != nil {
		return nil, e
	}
	x := xmlInline{PolicyName: name, PolicyDocument: encodeDocument(document)}
	x.setOwner(k, on.Name)
	return x, nil
}

func (c *call) listInlinePolicies(_ entityKind, on *entity) (any, *apiError) {
	names, end, e := page(c, sortedKeys(on.Inline), func(name string) string { return name })
	if e != nil {
		return nil, e
	}
	return struct {
		PolicyNames list[string]
		paged
	}{list[string]{names}, end}, nil
}

func (c *call) deleteInlinePolicy(k entityKind, on *entity) (any, *apiError) {
	name, _, e := c.inlinePolicy(k, on)
	if e != nil {
		return nil, e
	}
	delete(on.Inline, name)
	return nil, nil
}

func (c *call) policyARN() (string, *apiError) {
	var v violations
	v.text(c.params, "PolicyArn", true, 20, 2048, nil)
	return c.params["PolicyArn"], v.refusal()
}

func (c *call) attachPolicy(_ entityKind, on *entity) (any, *apiError) {
	arn, e := c.policyARN()
	if e != nil {
		return nil, e
	}
	if e := c.mustHavePolicy(arn); e != nil {
		return nil, e
	}
	if slices.Contains(on.Attached, arn) {
		return nil, nil
	}
	if len(on.Attached) >= maxAttached {
		return nil, limitExceeded("PoliciesPerEntity", maxAttached)
	}
	on.Attached = append(on.Attached, arn)
	return nil, nil
}

func (c *call) detachPolicy(_ entityKind, on *entity) (any, *apiError) {
	arn, e := c.policyARN()
	if e != nil {
		return nil, e
	}
	i := slices.Index(on.Attached, arn)
	if i < 0 {
		return nil, noSuchEntity("Policy %s was not found.", clip(arn))
	}
	on.Attached = slices.Delete(on.Attached, i, i+1)
	return nil, nil
}

type xmlAttached struct {
	PolicyName string
	PolicyArn  string
}

func attachedXML(arns []string) []xmlAttached {
	var all []xmlAttached
	for _, arn := range arns {
		all = append(all, xmlAttached{arn[lastSlash(arn)+1:], arn})
	}
	return all
}

func (c *call) listAttachedPolicies(_ entityKind, on *entity) (any, *apiError) {
	arns := slices.Sorted(slices.Values(on.Attached))
	arns, end, e := page(c, arns, func(arn string) string { return arn })
	if e != nil {
		return nil, e
	}
	return struct {
		AttachedPolicies list[xmlAttached]
		paged
	}{list[xmlAttached]{attachedXML(arns)}, end}, nil
}

func (c *call) putBoundary(_ entityKind, on *entity) (any, *apiError) {
	var v violations
	v.text(c.params, "PermissionsBoundary", true, 20, 2048, nil)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	arn := c.params["PermissionsBoundary"]
	if e := c.mustHavePolicy(arn); e != nil {
		return nil, e
	}
	on.Boundary = arn
	return nil, nil
}

func (c *call) deleteBoundary(k entityKind, on *entity) (any, *apiError) {
	if on.Boundary == "" {
		return nil, noSuchEntity("The %s with name %s does not have a permissions boundary.", k.label, on.Name)
	}
	on.Boundary = ""
	return nil, nil
}

func (c *call) tagEntity(_ entityKind, on *entity) (any, *apiError) { return c.tag(&on.Tags) }

func (c *call) untagEntity(_ entityKind, on *entity) (any, *apiError) { return c.untag(&on.Tags) }

// tag adds the tags of the request to those of a thing.
func (c *call) tag(tags *[]tag) (any, *apiError) {
	added, e := c.params.tags("Tags")
	if e != nil {
		return nil, e
	}
	*tags, e = setTag(*tags, added)
	return nil, e
}

// untag takes away the tags whose keys the request names.
func (c *call) untag(tags *[]tag) (any, *apiError) {
	keys, e := c.params.list("TagKeys")
	if e != nil {
		return nil, e
	}
	*tags = removeTags(*tags, keys)
	return nil, nil
}

func (c *call) listEntityTags(_ entityKind, on *entity) (any, *apiError) {
	return c.tagPage(on.Tags)
}

func (c *call) tagPage(tags []tag) (any, *apiError) {
	tags, end, e := page(c, tags, func(t tag) string { return t.Key })
	if e != nil {
		return nil, e
	}
	return struct {
		Tags list[xmlTag]
		paged
	}{xmlTags(tags), end}, nil
}

func lastSlash(arn string) int {
	for i := len(arn) - 1; i >= 0; i-- {
		if arn[i] == '/' {
			return i
		}
	}
	return -1
}
