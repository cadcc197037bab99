package federation

import (
	"slices"
	"strings"

	"agentkeys/policy"
)

// withoutS3 is a policy of the role without what grants S3; nil where nothing
// stays. A Deny stays as it is. From a list of actions those of S3 are taken;
// where a statement grants S3 by "*" or by NotAction it goes whole, and whole
// has its index.
func withoutS3(d *policy.Document) (rest *policy.Document, whole []int) {
	rest = &policy.Document{Version: d.Version, ID: d.ID}
	for i, s := range d.Statements {
		if !statementGrantsS3(s) {
			rest.Statements = append(rest.Statements, s)
			continue
		}
		if s.Action == nil || slices.Contains(s.Action, "*") {
			whole = append(whole, i)
			continue
		}
		s.Action = slices.DeleteFunc(slices.Clone(s.Action), isS3Action)
		if len(s.Action) > 0 {
			rest.Statements = append(rest.Statements, s)
		}
	}
	if len(rest.Statements) == 0 {
		return nil, whole
	}
	return rest, whole
}

// grantsS3 reports whether a policy of the role allows any action of S3.
func grantsS3(d *policy.Document) bool { return slices.ContainsFunc(d.Statements, statementGrantsS3) }

// statementGrantsS3 weighs actions and resources. Conditions do not count: whether
// one holds is for whoever makes the request to arrange.
func statementGrantsS3(s policy.Statement) bool {
	if s.Effect != policy.Allow {
		return false
	}
	if s.Action != nil && !slices.ContainsFunc(s.Action, func(a string) bool { return a == "*" || isS3Action(a) }) {
		return false
	}
	if s.Action == nil && slices.ContainsFunc(s.NotAction, func(a string) bool {
		return strings.Trim(a, "*") == "" || isS3Action(a) && strings.Trim(a[len("s3:"):], "*") == ""
	}) {
		return false
	}
	return s.Resource == nil || slices.ContainsFunc(s.Resource, mayBeS3)
}

// isS3Action goes by the service, in which policies have no wildcard.
func isS3Action(action string) bool {
	service, _, named := strings.Cut(action, ":")
	return named && strings.EqualFold(service, "s3")
}

// mayBeS3 reports whether a resource pattern can match a bucket, an object or an
// access point.
func mayBeS3(resource string) bool {
	parts := strings.SplitN(resource, ":", 4)
	if len(parts) < 4 || strings.ContainsAny(strings.Join(parts[:3], ""), "*?$") {
		return true
	}
	return parts[2] == "s3"
}

// wayIn looks whether the bucket policy that is planned, with more policies on the
// role, lets a tenant do something with what is another's or with what keeps
// the two apart. It returns the most telling action that does, or
// "".
func (p *planner) wayIn(more ...*policy.Document) (string, error) {
	set := &policy.Set{}
	for _, doc := range append(slices.Clone(p.others), more...) {
		compiled, err := policy.Compile("", doc)
		if err != nil {
			return "", err
		}
		set.Identity = append(set.Identity, compiled)
	}
	bucket, err := policy.Compile("", p.policy)
	if err != nil {
		return "", err
	}
	set.Resource = []*policy.Policy{bucket}
	best, rank := "", len(tellingActions)+1
	for _, action := range policy.Actions("s3") {
		at := slices.Index(tellingActions, action.Name)
		if at < 0 {
			at = len(tellingActions)
		}
		if at >= rank {
			continue
		}
		if r := p.foreignRequest(action); r != nil && policy.Evaluate(r, set).Allowed {
			best, rank = r.Action, at
		}
	}
	return best, nil
}

// tellingActions are the actions that say most to a reader, the most telling first.
var tellingActions = []string{"GetObject", "ListBucket", "PutObject", "DeleteObject", "PutBucketPolicy", "DeleteBucketPolicy"}

// foreignRequest is a tenant's request for an object of another tenant's, for a
// listing of them, or for a change of the bucket; nil where the action is neither.
func (p *planner) foreignRequest(action policy.ActionInfo) *policy.Request {
	own, foreign := "0x"+strings.Repeat("a", 40), "0x"+strings.Repeat("b", 40)
	resource := p.BucketARN()
	switch {
	case slices.Contains(action.Resources, "object"):
		resource += "/" + p.TenantPrefix(foreign) + "object"
	case !slices.Contains(action.Resources, "bucket"):
		return nil
	case !strings.HasPrefix(action.Name, "ListBucket") && !strings.Contains(action.Level, "Write"):
		return nil
	}
	r := sessionRequest(p.Config, own, "s3:"+action.Name, resource)
	r.Context.Set("aws:SecureTransport", "true")
	if slices.Contains(action.ConditionKeys, "s3:prefix") {
		r.Context.Set("s3:prefix", p.TenantPrefix(foreign))
	}
	return r
}
