package localaws

import (
	"slices"
	"strings"
)

var groupOperations = map[string]operation{
	"CreateGroup":         {writes: true, resource: func(c *call) string { return c.named("group", "GroupName") }, run: (*call).createGroup},
	"GetGroup":            {resource: groupResource, run: (*call).getGroup},
	"ListGroups":          {resource: listOf("group"), run: (*call).listGroups},
	"UpdateGroup":         {writes: true, resource: groupResource, run: (*call).updateGroup},
	"DeleteGroup":         {writes: true, resource: groupResource, run: (*call).deleteGroup},
	"AddUserToGroup":      {writes: true, resource: groupResource, run: (*call).addUserToGroup},
	"RemoveUserFromGroup": {writes: true, resource: groupResource, run: (*call).removeUserFromGroup},
	"ListGroupsForUser":   {resource: userResource, run: (*call).listGroupsForUser},
}

type xmlGroup struct {
	Path       string
	GroupName  string
	GroupID    string `xml:"GroupId"`
	Arn        string
	CreateDate string
}

func (c *call) groupXML(g *group) xmlGroup {
	return xmlGroup{g.Path, g.Name, g.ID, c.state.groupARN(g), timestamp(g.Created)}
}

func (c *call) group() *group {
	name := c.params["GroupName"]
	if g := c.state.Groups[strings.ToLower(name)]; g != nil && g.Name == name {
		return g
	}
	return nil
}

func (c *call) mustGroup() (*group, *apiError) {
	var v violations
	v.text(c.params, "GroupName", true, 1, 128, nameRequired)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if g := c.group(); g != nil {
		return g, nil
	}
	return nil, noSuchEntity("The group with name %s cannot be found.", clip(c.params["GroupName"]))
}

func groupResource(c *call) string {
	if g := c.group(); g != nil {
		return c.state.groupARN(g)
	}
	return c.state.arn("group", "/", c.params["GroupName"])
}

func (c *call) createGroup() (any, *apiError) {
	n, e := c.newEntity("GroupName", "AGPA", 128)
	if e != nil {
		return nil, e
	}
	key := strings.ToLower(n.Name)
	if c.state.Groups[key] != nil {
		return nil, alreadyExists("Group with name %s already exists.", n.Name)
	}
	g := &group{entity: n}
	c.state.Groups[key] = g
	return struct{ Group xmlGroup }{c.groupXML(g)}, nil
}

func (c *call) getGroup() (any, *apiError) {
	g, e := c.mustGroup()
	if e != nil {
		return nil, e
	}
	ids, end, e := page(c, slices.Sorted(slices.Values(g.Members)), func(id string) string { return id })
	if e != nil {
		return nil, e
	}
	var users list[xmlUser]
	for _, id := range ids {
		if u := c.state.userByID(id); u != nil {
			users.Member = append(users.Member, c.userXML(u, false))
		}
	}
	return struct {
		Group xmlGroup
		Users list[xmlUser]
		paged
	}{c.groupXML(g), users, end}, nil
}

func (c *call) listGroups() (any, *apiError) {
	var items []*group
	for _, name := range sortedKeys(c.state.Groups) {
		if g := c.state.Groups[name]; strings.HasPrefix(g.Path, c.pathPrefix()) {
			items = append(items, g)
		}
	}
	return c.groupPage(items)
}

func (c *call) groupPage(items []*group) (any, *apiError) {
	items, end, e := page(c, items, func(g *group) string { return strings.ToLower(g.Name) })
	if e != nil {
		return nil, e
	}
	var groups list[xmlGroup]
	for _, g := range items {
		groups.Member = append(groups.Member, c.groupXML(g))
	}
	return struct {
		Groups list[xmlGroup]
		paged
	}{groups, end}, nil
}

func (c *call) listGroupsForUser() (any, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return nil, e
	}
	return c.groupPage(c.state.groupsOf(u))
}

// updateGroup is updateUser for a group.
func (c *call) updateGroup() (any, *apiError) {
	g, e := c.mustGroup()
	if e != nil {
		return nil, e
	}
	next, e := c.newName(&g.entity, "Group", 128)
	if e != nil {
		return nil, e
	}
	if other := c.state.Groups[strings.ToLower(next.Name)]; other != nil && other != g {
		return nil, alreadyExists("Group with name %s already exists.", other.Name)
	}
	delete(c.state.Groups, strings.ToLower(g.Name))
	g.Name, g.Path = next.Name, next.Path
	c.state.Groups[strings.ToLower(g.Name)] = g
	return nil, nil
}

func (c *call) deleteGroup() (any, *apiError) {
	g, e := c.mustGroup()
	if e != nil {
		return nil, e
	}
	if e := g.deletable(); e != nil {
		return nil, e
	}
	if len(g.Members) > 0 {
		return nil, deleteConflict("remove users from group")
	}
	delete(c.state.Groups, strings.ToLower(g.Name))
	return nil, nil
}

func (c *call) groupAndUser() (*group, *user, *apiError) {
	g, e := c.mustGroup()
	if e != nil {
		return nil, nil, e
	}
	u, e := c.mustUser()
	return g, u, e
}

func (c *call) addUserToGroup() (any, *apiError) {
	g, u, e := c.groupAndUser()
	if e != nil {
		return nil, e
	}
	if !slices.Contains(g.Members, u.ID) {
		g.Members = append(g.Members, u.ID)
	}
	return nil, nil
}

func (c *call) removeUserFromGroup() (any, *apiError) {
	g, u, e := c.groupAndUser()
	if e != nil {
		return nil, e
	}
	i := slices.Index(g.Members, u.ID)
	if i < 0 {
		return nil, noSuchEntity("User %s is not in group %s.", u.Name, g.Name)
	}
	g.Members = slices.Delete(g.Members, i, i+1)
	return nil, nil
}
