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
	c.setIAMContext(context)
	d := policy.Evaluate(&policy.Request{Principal: c.caller.principal, Action: action, Resource: resource,
		ResourceAccount: c.state.Account, Context: context}, &c.caller.policies)
	if !d.Allowed {
		return accessDenied(c.caller.principal, action, resource, d)
	}
	return nil
}

// setIAMContext sets the condition keys of IAM's actions: the tags and the
// boundary of what is acted on, and what is passed along.
func (c *call) setIAMContext(context *policy.Context) {
	if e := c.target(); e != nil {
		setTags(context, "aws:ResourceTag/", e.Tags)
		setTags(context, "iam:ResourceTag/", e.Tags)
		if e.Boundary != "" {
			context.Set("iam:PermissionsBoundary", e.Boundary)
		}
	}
	if boundary := c.params["PermissionsBoundary"]; boundary != "" {
		context.Set("iam:PermissionsBoundary", boundary)
	}
	if arn := c.params["PolicyArn"]; arn != "" {
		context.Set("iam:PolicyARN", arn)
		if p := c.state.Policies[arn]; p != nil {
			setTags(context, "aws:ResourceTag/", p.Tags)
			setTags(context, "iam:ResourceTag/", p.Tags)
		}
	}
	keys, _ := c.params.list("TagKeys")
	if tags, e := c.params.tags("Tags"); e == nil {
		setTags(context, "aws:RequestTag/", tags)
		for _, t := range tags {
			keys = append(keys, t.Key)
		}
	}
	if keys != nil {
		context.SetList("aws:TagKeys", keys...)
	}
}

// target is the role or user that a request names, or nil.
func (c *call) target() *entity {
	if r := c.role(); r != nil {
		return &r.entity
	}
	if u := c.user(); u != nil {
		return &u.entity
	}
	return nil
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
	n := entity{Name: c.params[nameParam], Path: c.newPath(), ID: newID(prefix), Created: c.server.now().UTC()}
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
