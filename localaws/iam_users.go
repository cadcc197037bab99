package localaws

import (
	"slices"
	"strings"
)

var userOperations = map[string]operation{
	"CreateUser": {writes: true, resource: func(c *call) string { return c.named("user", "UserName") }, run: (*call).createUser},
	"GetUser":    {resource: userResource, run: (*call).getUser},
	"ListUsers":  {resource: listOf("user"), run: (*call).listUsers},
	"UpdateUser": {writes: true, resource: userResource, run: (*call).updateUser},
	"DeleteUser": {writes: true, resource: userResource, run: (*call).deleteUser},
}

var keyOperations = map[string]operation{
	"CreateAccessKey": {writes: true, resource: userResource, run: (*call).createAccessKey},
	"ListAccessKeys":  {resource: userResource, run: (*call).listAccessKeys},
	"UpdateAccessKey": {writes: true, resource: userResource, run: (*call).updateAccessKey},
	"DeleteAccessKey": {writes: true, resource: userResource, run: (*call).deleteAccessKey},
}

// maxAccessKeys is per user.
const maxAccessKeys = 2

type xmlUser struct {
	Path                string
	UserName            string
	UserID              string `xml:"UserId"`
	Arn                 string
	CreateDate          string
	PermissionsBoundary *xmlBoundary  `xml:",omitempty"`
	Tags                *list[xmlTag] `xml:",omitempty"`
}

type xmlUserResult struct{ User xmlUser }

func (c *call) userXML(u *user, full bool) xmlUser {
	x := xmlUser{Path: u.Path, UserName: u.Name, UserID: u.ID, Arn: c.state.userARN(u), CreateDate: timestamp(u.Created)}
	if full {
		x.PermissionsBoundary = boundaryXML(u.Boundary)
		if len(u.Tags) > 0 {
			tags := xmlTags(u.Tags)
			x.Tags = &tags
		}
	}
	return x
}

// user is the user that the request names, or the caller where it names none;
// nil where there is no such user.
func (c *call) user() *user {
	name, ok := c.params["UserName"]
	if !ok {
		if c.actsOnCaller() && c.caller.user != nil {
			return c.caller.user
		}
		return nil
	}
	if u := c.state.Users[strings.ToLower(name)]; u != nil && u.Name == name {
		return u
	}
	return nil
}

// actsOnCaller names the actions whose UserName may be left out.
func (c *call) actsOnCaller() bool {
	return c.action == "GetUser" || strings.HasSuffix(c.action, "AccessKey") || c.action == "ListAccessKeys"
}

func (c *call) mustUser() (*user, *apiError) {
	if _, ok := c.params["UserName"]; !ok && c.actsOnCaller() {
		if c.caller.user == nil {
			return nil, refuse(400, "ValidationError", "Must specify userName when calling with non-User credentials")
		}
		return c.user(), nil
	}
	var v violations
	v.text(c.params, "UserName", true, 1, 128, nameRequired)
	if e := v.refusal(); e != nil {
		return nil, e
	}
	if u := c.user(); u != nil {
		return u, nil
	}
	return nil, noSuchEntity("The user with name %s cannot be found.", clip(c.params["UserName"]))
}

func userResource(c *call) string {
	if u := c.user(); u != nil {
		return c.state.userARN(u)
	}
	return c.state.arn("user", "/", c.params["UserName"])
}

func (c *call) createUser() (any, *apiError) {
	n, e := c.newEntity("UserName", "AIDA", 64)
	if e != nil {
		return nil, e
	}
	key := strings.ToLower(n.Name)
	if c.state.Users[key] != nil {
		return nil, alreadyExists("User with name %s already exists.", n.Name)
	}
	u := &user{n}
	c.state.Users[key] = u
	return xmlUserResult{c.userXML(u, true)}, nil
}

func (c *call) getUser() (any, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return nil, e
	}
	return xmlUserResult{c.userXML(u, true)}, nil
}

func (c *call) listUsers() (any, *apiError) {
	var items []*user
	for _, name := range sortedKeys(c.state.Users) {
		if u := c.state.Users[name]; strings.HasPrefix(u.Path, c.pathPrefix()) {
			items = append(items, u)
		}
	}
	items, end, e := page(c, items, func(u *user) string { return strings.ToLower(u.Name) })
	if e != nil {
		return nil, e
	}
	var users list[xmlUser]
	for _, u := range items {
		users.Member = append(users.Member, c.userXML(u, false))
	}
	return struct {
		Users list[xmlUser]
		paged
	}{users, end}, nil
}

// updateUser gives a user another name or path. Keys, groups and stored
// policies go by the unique id, which stays.
func (c *call) updateUser() (any, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return nil, e
	}
	next, e := c.newName(&u.entity, "User", 64)
	if e != nil {
		return nil, e
	}
	if other := c.state.Users[strings.ToLower(next.Name)]; other != nil && other != u {
		return nil, alreadyExists("User with name %s already exists.", other.Name)
	}
	delete(c.state.Users, strings.ToLower(u.Name))
	u.Name, u.Path = next.Name, next.Path
	c.state.Users[strings.ToLower(u.Name)] = u
	return nil, nil
}

func (c *call) deleteUser() (any, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return nil, e
	}
	if e := u.deletable(); e != nil {
		return nil, e
	}
	if len(c.state.keysOf(u)) > 0 {
		return nil, deleteConflict("delete access keys")
	}
	if len(c.state.groupsOf(u)) > 0 {
		return nil, deleteConflict("remove users from group")
	}
	delete(c.state.Users, strings.ToLower(u.Name))
	return nil, nil
}

func (s *state) keysOf(u *user) []string {
	var ids []string
	for _, id := range sortedKeys(s.Keys) {
		if s.Keys[id].UserID == u.ID {
			ids = append(ids, id)
		}
	}
	return ids
}

type xmlAccessKey struct {
	UserName        string
	AccessKeyID     string `xml:"AccessKeyId"`
	Status          string
	SecretAccessKey string `xml:",omitempty"`
	CreateDate      string
}

func keyXML(u *user, id string, k *accessKey) xmlAccessKey {
	status := "Inactive"
	if k.Active {
		status = "Active"
	}
	return xmlAccessKey{UserName: u.Name, AccessKeyID: id, Status: status, CreateDate: timestamp(k.Created)}
}

func (c *call) createAccessKey() (any, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return nil, e
	}
	if len(c.state.keysOf(u)) >= maxAccessKeys {
		return nil, limitExceeded("AccessKeysPerUser", maxAccessKeys)
	}
	id := newAccessKeyID("AKIA")
	k := &accessKey{UserID: u.ID, Secret: newSecret(), Active: true, Created: c.now.UTC()}
	c.state.Keys[id] = k
	x := keyXML(u, id, k)
	x.SecretAccessKey = k.Secret
	return struct{ AccessKey xmlAccessKey }{x}, nil
}

func (c *call) listAccessKeys() (any, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return nil, e
	}
	ids, end, e := page(c, c.state.keysOf(u), func(id string) string { return id })
	if e != nil {
		return nil, e
	}
	var keys list[xmlAccessKey]
	for _, id := range ids {
		keys.Member = append(keys.Member, keyXML(u, id, c.state.Keys[id]))
	}
	return struct {
		UserName          string
		AccessKeyMetadata list[xmlAccessKey]
		paged
	}{u.Name, keys, end}, nil
}

// accessKey is the key that the request names, which has to be the user's own.
func (c *call) accessKey() (string, *accessKey, *apiError) {
	u, e := c.mustUser()
	if e != nil {
		return "", nil, e
	}
	var v violations
	v.text(c.params, "AccessKeyId", true, 16, 128, nil)
	if e := v.refusal(); e != nil {
		return "", nil, e
	}
	id := c.params["AccessKeyId"]
	if !slices.Contains(c.state.keysOf(u), id) {
		return "", nil, noSuchEntity("The Access Key with id %s cannot be found.", clip(id))
	}
	return id, c.state.Keys[id], nil
}

func (c *call) updateAccessKey() (any, *apiError) {
	_, k, e := c.accessKey()
	if e != nil {
		return nil, e
	}
	switch status := c.params["Status"]; status {
	case "Active", "Inactive":
		k.Active = status == "Active"
		return nil, nil
	default:
		var v violations
		v.add(status, "status", "Member must satisfy enum value set: [Active, Inactive]")
		return nil, v.refusal()
	}
}

func (c *call) deleteAccessKey() (any, *apiError) {
	id, _, e := c.accessKey()
	if e != nil {
		return nil, e
	}
	delete(c.state.Keys, id)
	if c.state.AdminKey == id {
		c.state.AdminKey = ""
	}
	return nil, nil
}
