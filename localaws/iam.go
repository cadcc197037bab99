package localaws

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"agentkeys/policy"
)

// iamOperations are the calls of IAM that there are.
var iamOperations = mergeOperations(
	roleOperations, userOperations, keyOperations, groupOperations, providerOperations,
	managedPolicyOperations, detailOperations,
	entityOperations(roleKind), entityOperations(userKind), entityOperations(groupKind),
)

func mergeOperations(tables ...map[string]operation) map[string]operation {
	all := map[string]operation{}
	for _, table := range tables {
		for name, op := range table {
			all[name] = op
		}
	}
	return all
}

// authorize asks the caller's policies whether an action is allowed on an ARN.
func (c *call) authorize(action, resource string) *apiError {
	context := c.caller.context.Clone()
	context.Set("aws:ResourceAccount", c.state.Account)
	c.setIAMContext(context, resource)
	d := policy.Evaluate(&policy.Request{Principal: c.caller.principal, Action: action, Resource: resource,
		ResourceAccount: c.state.Account, Context: context}, &c.caller.policies)
	if !d.Allowed {
		return accessDenied(c.caller.principal, action, resource, d)
	}
	return nil
}

// setIAMContext sets the condition keys of IAM's actions: the tags and the
// boundary of what is acted on, and what is passed along. A parameter counts
// for the actions that read it alone: else a caller could add one that the
// action ignores, to make a condition true.
func (c *call) setIAMContext(context *policy.Context, resource string) {
	tags, boundary := c.state.tagsAndBoundary(resource)
	setTags(context, "aws:ResourceTag/", tags)
	setTags(context, "iam:ResourceTag/", tags)
	creates := strings.HasPrefix(c.action, "Create")
	if creates || strings.HasPrefix(c.action, "Put") && strings.HasSuffix(c.action, "PermissionsBoundary") {
		boundary = c.params["PermissionsBoundary"]
	}
	if boundary != "" {
		context.Set("iam:PermissionsBoundary", boundary)
	}
	if strings.HasPrefix(c.action, "Attach") || strings.HasPrefix(c.action, "Detach") {
		context.Set("iam:PolicyARN", c.params["PolicyArn"])
	}
	var keys []string
	if strings.HasPrefix(c.action, "Untag") {
		keys, _ = c.params.list("TagKeys") // the action refuses what is malformed
	}
	if creates || strings.HasPrefix(c.action, "Tag") {
		passed, _ := c.params.tags("Tags")
		setTags(context, "aws:RequestTag/", passed)
		for _, t := range passed {
			keys = append(keys, t.Key)
		}
	}
	if keys != nil {
		context.SetList("aws:TagKeys", keys...)
	}
}

// tagsAndBoundary are those of the role, user, policy or provider of that ARN.
func (s *state) tagsAndBoundary(arn string) (tags []tag, boundary string) {
	if r := s.roleByARN(arn); r != nil {
		return r.Tags, r.Boundary
	}
	if u := s.userByARN(arn); u != nil {
		return u.Tags, u.Boundary
	}
	if p := s.Policies[arn]; p != nil {
		return p.Tags, ""
	}
	if p := s.providerByARN(arn); p != nil {
		return p.Tags, ""
	}
	return nil, ""
}

func noSuchEntity(format string, args ...any) *apiError {
	return refuse(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func alreadyExists(format string, args ...any) *apiError {
	return refuse(http.StatusConflict, "EntityAlreadyExists", format, args...)
}

func deleteConflict(what string) *apiError {
	return refuse(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must %s first.", what)
}

func invalidInput(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "InvalidInput", format, args...)
}

func limitExceeded(quota string, limit int) *apiError {
	return refuse(http.StatusConflict, "LimitExceeded", "Cannot exceed quota for %s: %d", quota, limit)
}

func malformedDocument(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "MalformedPolicyDocument", format, args...)
}

// checkDocument refuses a policy document that is not valid for its kind.
func checkDocument(text string, kind policy.Kind) *apiError {
	d, err := policy.Parse([]byte(text))
	if err == nil {
		err = d.Validate(kind)
	}
	if err == nil {
		_, err = policy.Compile("", d)
	}
	if err != nil {
		return malformedDocument("%s", clip(err.Error()))
	}
	return nil
}

// documentSize counts a document's characters as IAM's quotas do: without white space.
func documentSize(text string) int {
	n := 0
	for _, r := range text {
		if !strings.ContainsRune(" \t\r\n", r) {
			n++
		}
	}
	return n
}

// encodeDocument is how IAM's replies carry policy documents.
func encodeDocument(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

// paged is what every list reply ends with.
type paged struct {
	IsTruncated bool
	Marker      string `xml:",omitempty"`
}

// page cuts a list, which is in the order of key, to MaxItems entries after Marker.
func page[T any](c *call, items []T, key func(T) string) ([]T, paged, *apiError) {
	limit, e := c.params.integer("MaxItems", 100)
	if e != nil {
		return nil, paged{}, e
	}
	var v violations
	v.number(limit, "maxItems", 1, 1000)
	if e := v.refusal(); e != nil {
		return nil, paged{}, e
	}
	if text, ok := c.params["Marker"]; ok {
		after, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(after) == 0 {
			return nil, paged{}, refuse(http.StatusBadRequest, "ValidationError", "Invalid Marker.")
		}
		start := slices.IndexFunc(items, func(item T) bool { return key(item) > string(after) })
		if start < 0 {
			start = len(items)
		}
		items = items[start:]
	}
	if len(items) <= limit {
		return items, paged{}, nil
	}
	items = items[:limit]
	return items, paged{true, base64.StdEncoding.EncodeToString([]byte(key(items[limit-1])))}, nil
}

// pathPrefix is the filter that the lists share.
func (c *call) pathPrefix() string {
	if p, ok := c.params["PathPrefix"]; ok {
		return p
	}
	return "/"
}

// newEntity reads what CreateRole, CreateUser and CreateGroup share.
func (c *call) newEntity(nameParam, prefix string, maxName int) (entity, *apiError) {
	var v violations
	v.text(c.params, nameParam, true, 1, maxName, nameRequired)
	v.text(c.params, "Path", false, 1, 512, pathPattern)
	v.text(c.params, "PermissionsBoundary", false, 20, 2048, nil)
	if e := v.refusal(); e != nil {
		return entity{}, e
	}
	n := entity{Name: c.params[nameParam], Path: c.newPath(), ID: newID(prefix), Created: c.now.UTC()}
	tags, e := c.params.tags("Tags")
	if e == nil {
		e = checkTags(tags, "tags")
	}
	if e != nil {
		return entity{}, e
	}
	n.Tags = tags
	if arn := c.params["PermissionsBoundary"]; arn != "" {
		if e := c.mustHavePolicy(arn); e != nil {
			return entity{}, e
		}
		n.Boundary = arn
	}
	return n, nil
}

func (c *call) newPath() string {
	if p := c.params["Path"]; p != "" {
		return p
	}
	return "/"
}

// mustHavePolicy refuses the ARN of a managed policy that is not there.
func (c *call) mustHavePolicy(arn string) *apiError {
	if _, ok := c.state.policyText(arn); !ok {
		return noSuchEntity("Policy %s does not exist or is not attachable.", clip(arn))
	}
	return nil
}

type xmlTag struct{ Key, Value string }

func xmlTags(tags []tag) list[xmlTag] {
	var l list[xmlTag]
	for _, t := range tags {
		l.Member = append(l.Member, xmlTag(t))
	}
	return l
}

// setTag adds tags to those there are, a key in another case replacing its like.
func setTag(old, added []tag) ([]tag, *apiError) {
	if e := checkTags(added, "tags"); e != nil {
		return nil, e
	}
	merged := mergeTags(old, added)
	slices.SortFunc(merged, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
	if len(merged) > maxTags {
		return nil, limitExceeded("TagsPerResource", maxTags)
	}
	return merged, nil
}

func removeTags(tags []tag, keys []string) []tag {
	return slices.DeleteFunc(tags, func(t tag) bool { return containsFold(keys, t.Key) })
}

type xmlBoundary struct {
	PermissionsBoundaryType string
	PermissionsBoundaryArn  string
}

func boundaryXML(arn string) *xmlBoundary {
	if arn == "" {
		return nil
	}
	return &xmlBoundary{"Policy", arn}
}

// named is the resource of an action on something that may not exist yet.
func (c *call) named(kind, nameParam string) string {
	return c.state.arn(kind, c.newPath(), c.params[nameParam])
}

func everything(*call) string { return "*" }

// listOf is the resource of a list call.
func listOf(kind string) func(*call) string {
	return func(c *call) string { return fmt.Sprintf("arn:aws:iam::%s:%s/", c.state.Account, kind) }
}
