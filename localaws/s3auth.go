package localaws

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"agentkeys/policy"
)

// conditionKeys collects the s3: condition keys of one action. A key that AWS
// does not define for the action is left out, so that a condition on it is
// decided as for a missing key, here as there.
type conditionKeys struct {
	ctx     *policy.Context
	defined map[string]bool
}

func (k conditionKeys) set(name, value string) {
	if k.has(name) {
		k.ctx.Set(name, value)
	}
}

// setSent sets a key from something the client may have left out.
func (k conditionKeys) setSent(name, value string, sent bool) {
	if sent {
		k.set(name, value)
	}
}

func (k conditionKeys) setList(name string, values []string) {
	if k.has(name) {
		k.ctx.SetList(name, values...)
	}
}

func (k conditionKeys) has(name string) bool {
	prefix, _, tag := strings.Cut(strings.ToLower(name), "/")
	if tag {
		return k.defined[prefix+"/<key>"]
	}
	return k.defined[prefix]
}

// mayBucket authorises an action on the bucket.
func (c *s3Call) mayBucket(action string, keys func(conditionKeys)) *apiError {
	return c.may(action, "arn:aws:s3:::"+c.name, c.set, keys)
}

// mayObject authorises an action on the object of a key.
func (c *s3Call) mayObject(action, key string, keys func(conditionKeys)) *apiError {
	return c.may(action, "arn:aws:s3:::"+c.name+"/"+key, c.set, keys)
}

// may authorises one action on one resource under the policy of the bucket
// that set belongs to, which is nil where there is no bucket yet.
func (c *s3Call) may(action, resource string, set *settings, keys func(conditionKeys)) *apiError {
	defined, ok := c.b.actions[strings.ToLower(strings.TrimPrefix(action, "s3:"))]
	if !ok {
		return c.fault(fmt.Errorf("%s is not in the table of actions", action))
	}
	ctx := c.who.context.Clone()
	k := conditionKeys{ctx: ctx, defined: defined}
	c.commonKeys(k)
	if keys != nil {
		keys(k)
	}
	policies := c.who.policies
	if set != nil && set.compiled != nil && !c.ignoresPolicy(action) {
		policies.Resource = []*policy.Policy{set.compiled}
	}
	account := c.b.server.config.Account
	if set != nil && set.Block != nil && set.Block.RestrictPublicBuckets && set.public && c.who.principal.Account != account && c.who.principal.Kind != policy.Service {
		return plainDenied()
	}
	d := policy.Evaluate(&policy.Request{Principal: c.who.principal, Action: action, Resource: resource, ResourceAccount: account, Context: ctx}, &policies)
	if d.Allowed {
		return nil
	}
	c.b.server.config.Log.Debug("s3 action denied", slog.String("request_id", c.id), slog.String("principal", c.who.principal.ARN),
		slog.String("action", action), slog.String("resource", resource), slog.String("layer", string(d.Layer)),
		slog.String("policy", d.Policy), slog.String("sid", d.Sid), slog.Int("statement", d.Statement))
	if c.who.principal.Account != account {
		return plainDenied()
	}
	return refuse(http.StatusForbidden, "AccessDenied", "%s", denial(c.who.principal.ARN, action, resource, d))
}

// ignoresPolicy is how an account's root user mends a bucket policy that locks
// everybody out.
func (c *s3Call) ignoresPolicy(action string) bool {
	return c.who.principal.Kind == policy.Root && c.who.principal.Account == c.b.server.config.Account &&
		(action == "s3:GetBucketPolicy" || action == "s3:PutBucketPolicy" || action == "s3:DeleteBucketPolicy")
}

// commonKeys sets what every S3 action has. s3:TlsVersion is absent over plain
// HTTP, and so are the keys about the signature for anonymous callers.
func (c *s3Call) commonKeys(k conditionKeys) {
	account := c.b.server.config.Account
	k.ctx.Set("aws:ResourceAccount", account)
	k.set("s3:ResourceAccount", account)
	if t := c.r.TLS; t != nil && t.Version >= 0x0301 {
		k.set("s3:TlsVersion", "1."+strconv.Itoa(int(t.Version)-0x0301))
	}
	k.setSent("s3:x-amz-content-sha256", c.sig.payloadHash, c.sig.payloadHash != "")
	if c.sig.anonymous {
		return
	}
	k.set("s3:signatureversion", sigV4Algorithm)
	if !c.sig.presigned {
		k.set("s3:authType", "REST-HEADER")
		return
	}
	k.set("s3:authType", "REST-QUERY-STRING")
	k.set("s3:signatureAge", strconv.FormatInt(c.sig.age.Milliseconds(), 10))
}

// plainDenied is what callers of another account and of none get.
func plainDenied() *apiError {
	return refuse(http.StatusForbidden, "AccessDenied", "Access Denied")
}

// denial words a refusal as S3 does for callers of the owner's account.
func denial(arn, action, resource string, d policy.Decision) string {
	if d.Layer == "" {
		d.Layer = policy.IdentityLayer
	}
	on := ` on resource: "` + resource + `"`
	if resource == allBuckets {
		on = ""
	}
	return "User: " + arn + " is not authorized to perform: " + action + on + denialReason(action, d)
}

// allBuckets is the resource of an action that has none. Both "*" and
// "arn:aws:s3:::*" in a policy match it.
const allBuckets = "arn:aws:s3:::*"

// missing is the answer for a key that has no object.
func (c *s3Call) missing(key string) *apiError { return c.missingIn(c.name, c.set, key) }

// missingIn tells that a key is missing to those only who may list its bucket
// with the key as prefix. For all others it looks like any refusal.
func (c *s3Call) missingIn(name string, set *settings, key string) *apiError {
	e := c.may("s3:ListBucket", "arn:aws:s3:::"+name, set, func(k conditionKeys) {
		k.set("s3:prefix", key)
		k.set("s3:max-keys", "1000")
	})
	if e != nil {
		return e
	}
	return refuse(http.StatusNotFound, "NoSuchKey", "The specified key does not exist.")
}

// versioned is the action on an object, in its Version form if the request
// names a version: GetObject and GetObjectVersion are apart in policies.
func (c *s3Call) versioned(action string) string {
	if !c.has("versionId") {
		return "s3:" + action
	}
	verb, rest, _ := strings.Cut(action, "Object")
	return "s3:" + verb + "ObjectVersion" + rest
}

// objectKeys sets s3:versionid and the tags of the object that is there.
func (c *s3Call) objectKeys(o *s3Object) func(conditionKeys) {
	return func(k conditionKeys) {
		k.setSent("s3:versionid", c.query["versionId"], c.has("versionId"))
		if o == nil {
			return
		}
		for _, t := range o.Tags {
			k.set("s3:ExistingObjectTag/"+t.Key, t.Value)
		}
	}
}

// existing authorises actions on the object of the call's key and finds it.
func (c *s3Call) existing(actions ...string) (*s3Object, *apiError) {
	return c.existingWith(func(conditionKeys) {}, actions...)
}

// existingWith is existing with more condition keys.
func (c *s3Call) existingWith(keys func(conditionKeys), actions ...string) (*s3Object, *apiError) {
	if c.has("versionId") && c.query["versionId"] == "" {
		return nil, invalidArgument("Version id cannot be the empty string")
	}
	o := c.b.object(c.bkt, c.key)
	for _, action := range actions {
		e := c.mayObject(c.versioned(action), c.key, func(k conditionKeys) {
			c.objectKeys(o)(k)
			keys(k)
		})
		if e != nil {
			return nil, e
		}
	}
	if o == nil {
		return nil, c.missing(c.key)
	}
	// A bucket without versioning has the version "null" of each object.
	if v, named := c.query["versionId"]; named && v != "null" {
		return nil, refuse(http.StatusNotFound, "NoSuchVersion", "The specified version does not exist.")
	}
	return o, nil
}

func (b *s3) object(bkt *bucket, key string) *s3Object {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return bkt.objects[key]
}
