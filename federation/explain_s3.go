package federation

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"agentkeys/policy"
)

// requests decides what S3 would answer to the session's requests, whether or not
// STS would give the session.
func (e *explainer) requests() {
	for _, r := range e.Requests {
		e.out.Requests = append(e.out.Requests, e.request(r))
	}
}

func (e *explainer) request(r S3Request) ExplainStep {
	s := stepPassed(r.Action+" "+r.Resource, "the session may do "+r.Action+" on "+r.Resource, "")
	switch {
	case e.token == nil:
		return s.unknown("which tags the session has is not known without its token", "")
	case e.role == nil:
		return s.unknown("the role's policies are not known", "")
	}
	s.Got = "session tags " + orNone(showTags(e.sessionTags(), nil))
	p, problem := e.s3Policies()
	if problem != "" {
		return s.unknown(problem, "")
	}
	req := e.sessionRequest(r)
	unknown := senderOnly(mergeContext(e.Context, r.Context))
	generous, err := p.decide(req, unknown, true)
	if err != nil {
		return s.unknown(oneLine(err.Error()), "")
	}
	strict, err := p.decide(req, unknown, false)
	switch {
	case err != nil:
		return s.unknown(oneLine(err.Error()), "")
	case strict.Allowed:
		s.At = explainDecidedBy(strict)
		s.Why = fmt.Sprintf("%s, statement %s, allows it", strict.Policy, statementNumber(strict))
		return s
	case generous.Allowed:
		return s.unknown("it hangs on what only the request's sender knows, such as an address or a header", "Tell it with --context KEY=VALUE.")
	}
	return e.s3Refuses(s, r, req, p, generous)
}

func mergeContext(a, b map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range []map[string]string{a, b} {
		for k, v := range m {
			out[k] = v
		}
	}
	return out
}

// s3Policies are the documents that decide for a session, by their layer.
type s3Policies struct {
	identity, boundary, session, bucket []Document
	hasBoundary, hasSession             bool
	service, resource                   []Level
}

// s3Policies gathers what applies to the session, or says what is missing.
func (e *explainer) s3Policies() (p s3Policies, problem string) {
	managed := func(arn string) Document {
		d, ok := e.Account.Managed[arn]
		if !ok && problem == "" {
			problem = "managed policy " + arn + " is attached, and what it says was not looked at"
		}
		return d
	}
	p.identity = append(p.identity, e.role.Inline...)
	for _, arn := range e.role.Attached {
		p.identity = append(p.identity, managed(arn))
	}
	if e.role.Boundary != "" {
		p.hasBoundary, p.boundary = true, []Document{managed(e.role.Boundary)}
	}
	if e.SessionPolicy != "" {
		d, err := parseDocument(e.SessionPolicy)
		p.hasSession, p.session = true, []Document{{Name: "the session policy", Policy: d, Err: err}}
	}
	for _, arn := range e.PolicyARNs {
		p.hasSession = true
		p.session = append(p.session, managed(arn))
	}
	p.bucket = []Document{e.Account.Bucket}
	if o := e.Account.Organization; o != nil {
		p.service, p.resource = o.Service, o.Resource
	}
	if p.service == nil || p.resource == nil {
		e.remarkOnce("Organization policies were not looked at; one of them could refuse what the account's own allow.")
	}
	return p, problem
}

// decide evaluates one reading of the documents.
func (p s3Policies) decide(r *policy.Request, unknown func(string) bool, generous bool) (policy.Decision, error) {
	var failed error
	compile := func(list []Document) []*policy.Policy {
		out := []*policy.Policy{}
		for _, d := range list {
			if d.Err == nil {
				more, less := senderReadings(d.Policy, unknown)
				d.Policy = less
				if generous {
					d.Policy = more
				}
			}
			one, err := explainCompile(d)
			if err != nil && failed == nil {
				failed = err
			}
			if one != nil {
				out = append(out, one)
			}
		}
		return out
	}
	set := &policy.Set{Identity: compile(p.identity), Resource: compile(p.bucket)}
	if p.hasBoundary {
		set.Boundary = compile(p.boundary)
	}
	if p.hasSession {
		set.Session = compile(p.session)
	}
	for _, l := range p.service {
		set.ServiceControl = append(set.ServiceControl, compile(l.Policies))
	}
	for _, l := range p.resource {
		set.ResourceControl = append(set.ResourceControl, compile(l.Policies))
	}
	if failed != nil {
		return policy.Decision{}, failed
	}
	return policy.Evaluate(r, set), nil
}

// sessionTags are the token's tags over the role's own; keys that differ by case
// alone are one key.
func (e *explainer) sessionTags() []tokenTag {
	tags := append([]tokenTag(nil), e.id.tags...)
	for _, key := range slices.Sorted(maps.Keys(e.role.Tags)) {
		if !hasTagKey(e.id.tags, key) {
			tags = append(tags, tokenTag{key, e.role.Tags[key]})
		}
	}
	return tags
}

// sessionRequest is a request of the session that STS would give.
func (e *explainer) sessionRequest(r S3Request) *policy.Request {
	account := accountOfARN(e.RoleARN)
	name := e.role.Name
	p := policy.Principal{
		Kind: policy.RoleSession, Account: account, Issuer: e.RoleARN, ID: e.role.ID, SessionID: e.role.ID + ":" + e.SessionName,
		ARN: "arn:" + e.Config.Partition() + ":sts::" + account + ":assumed-role/" + name + "/" + e.SessionName,
	}
	c := e.commonContext()
	for key, value := range map[string]string{
		"aws:PrincipalArn": e.RoleARN, "aws:PrincipalAccount": account, "aws:PrincipalType": "AssumedRole", "aws:userid": p.SessionID,
		"aws:MultiFactorAuthPresent": "false", "aws:ResourceAccount": e.Config.Account, "s3:ResourceAccount": e.Config.Account,
		"s3:signatureversion":   "AWS4-HMAC-SHA256",
		"aws:FederatedProvider": "arn:" + e.Config.Partition() + ":iam::" + account + ":oidc-provider/" + providerKey(e.id.issuer),
	} {
		c.Set(key, value)
	}
	c.SetTime("aws:TokenIssueTime", e.Now)
	prefix := providerKey(e.id.issuer)
	c.Set(prefix+":aud", e.id.audience)
	c.Set(prefix+":sub", e.id.subject)
	if e.id.hasAMR {
		c.SetList(prefix+":amr", e.id.amr...)
	}
	if e.id.source != "" {
		c.Set("aws:SourceIdentity", e.id.source)
	}
	for _, t := range e.sessionTags() {
		c.Set("aws:PrincipalTag/"+t.Key, t.Value)
	}
	if strings.EqualFold(r.Action, "s3:ListBucket") || strings.EqualFold(r.Action, "s3:ListBucketVersions") {
		c.Set("s3:max-keys", "1000")
	}
	for key, value := range r.Context {
		c.Set(key, value)
	}
	return &policy.Request{Principal: p, Action: r.Action, Resource: r.Resource, ResourceAccount: e.Config.Account, Context: c}
}

// layerTitles is how S3 calls the layers, with their article.
var layerTitles = map[policy.Layer]string{
	policy.IdentityLayer: "an identity-based policy", policy.ResourceLayer: "a resource-based policy",
	policy.BoundaryLayer: "a permissions boundary", policy.SessionLayer: "a session policy",
	policy.ServiceControlLayer: "a service control policy", policy.ResourceControlLayer: "a resource control policy",
}

// s3Told is S3's refusal, which names the layer.
func s3Told(r *policy.Request, d policy.Decision) *ToldError {
	title := layerTitles[d.Layer]
	reason := " with an explicit deny in " + title
	if !d.Explicit {
		_, name, _ := strings.Cut(title, " ")
		reason = fmt.Sprintf(" because no %s allows the %s action", name, r.Action)
	}
	return &ToldError{Status: http.StatusForbidden, Code: "AccessDenied",
		Message: fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %q", r.Principal.ARN, r.Action, r.Resource) + reason}
}

// s3Refuses words why nothing lets the request through.
func (e *explainer) s3Refuses(s ExplainStep, r S3Request, req *policy.Request, p s3Policies, d policy.Decision) ExplainStep {
	told := s3Told(req, d)
	if d.Ambiguous != "" {
		s = s.note("AWS leaves unsettled %s; the strict reading was taken", d.Ambiguous)
	}
	for _, doc := range p.bucket {
		if doc.Policy != nil && doc.Policy.Version != "2012-10-17" && strings.Contains(jsonLine(doc.Policy), "${") {
			s = s.note("the %s has no Version 2012-10-17, so its ${…} are plain text", doc.Name)
		}
	}
	if d.Explicit {
		s.At = explainDecidedBy(d)
		return s.fails(fmt.Sprintf("%s, statement %s, denies it", d.Policy, statementNumber(d)), told, e.s3Fix(r))
	}
	near := nearestAllow(req, p, d.Layer, senderOnly(r.Context))
	why := "no policy has an Allow"
	if near != nil {
		s.At = near.at()
		var lacks []string
		for _, u := range near.unmet {
			lacks = append(lacks, oneLine(u.text))
		}
		why = fmt.Sprintf("nothing allows it; %s, statement %d, comes nearest: %s", near.document, near.index+1, strings.Join(lacks, "; "))
	}
	return s.fails(why, told, e.s3Fix(r))
}

// nearestAllow is the Allow that comes nearest to the request, in the layer that refused;
// where nothing allows, the bucket's policy counts with the role's own.
func nearestAllow(req *policy.Request, p s3Policies, refusedBy policy.Layer, unknown func(string) bool) *diagnosis {
	lists := map[policy.Layer][]Document{policy.IdentityLayer: p.identity, policy.BoundaryLayer: p.boundary, policy.SessionLayer: p.session}
	var best *diagnosis
	consider := func(docs []Document, as layerOf) {
		for _, doc := range docs {
			for _, d := range (diagnoser{request: req, layer: as, unknown: unknown}).diagnose(doc, policy.Allow) {
				if best == nil || d.distance() < best.distance() {
					best = &d
				}
			}
		}
	}
	if refusedBy == policy.IdentityLayer || refusedBy == policy.ResourceLayer {
		consider(p.bucket, asResource)
	}
	consider(lists[refusedBy], asIdentity)
	return best
}

// s3Fix says what to do about a refusal. A tenant kept out of another's prefix is
// what the whole set-up is for.
func (e *explainer) s3Fix(r S3Request) string {
	tag := ""
	for _, t := range e.sessionTags() {
		if strings.EqualFold(t.Key, e.Config.TagKey) {
			tag = t.Value
		}
	}
	object, isObject := strings.CutPrefix(r.Resource, e.Config.BucketARN()+"/")
	if !isObject {
		object = r.Context["s3:prefix"]
	}
	own := e.Config.TenantPrefix(tag)
	switch {
	case tag == "" && e.tagFix != "":
		return "Mend the token: " + e.tagWhy + "; " + e.tagFix + "."
	case tag == "":
		return "Mint the tenant's tag: a session without it reaches no prefix."
	case strings.HasPrefix(strings.ToLower(object), strings.ToLower(own)) && !strings.HasPrefix(object, own):
		return fmt.Sprintf("Spell the prefix as the tag is spelled, %s: keys go by case.", own)
	case !isObject && object == "":
		return fmt.Sprintf("List with a prefix under the session's own: %s.", own)
	case !strings.HasPrefix(object, own):
		return fmt.Sprintf("Nothing, if the isolation is meant: %q is not under the session's own prefix, %s.", object, own)
	}
	return fmt.Sprintf("Let the bucket policy allow %s under %s.", r.Action, own)
}
