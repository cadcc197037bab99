package federation

import (
	"context"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// The ways that are tried: what an owner must be able to do at home, and what a
// stranger must not be able to do next door.

// layObjects lays the objects that the probes are about: one to read under each
// tenant's prefix, and one for each attempt to change something, so that no
// attempt spoils the evidence of another.
func (v *prover) layObjects(ctx context.Context) {
	for _, a := range v.actors {
		home := v.Config.TenantPrefix(a.Tag)
		for _, name := range []string{"read", "overwrite", "delete", "delete-version", "delete-many", "copy-onto"} {
			v.lay(ctx, a, name, home)
		}
		if v.Seeder == nil {
			continue
		}
		// With an administrator's help there is something to be had beside the
		// prefix as well, so that a refusal there is a refusal of something.
		for _, place := range v.besides(a) {
			v.lay(ctx, a, place.id, place.prefix)
		}
		v.layUpload(ctx, a)
	}
}

// layUpload begins an upload for others to list and abort. Without it they try
// their hands at one that does not exist, so a failure takes no row.
func (v *prover) layUpload(ctx context.Context, a *actor) {
	v.ask(ctx, func(ctx context.Context) (r reply) {
		a.uploadID, r = v.beginUpload(ctx, v.Seeder, v.uploadKey(a), a)
		return r
	})
}

// lay writes one object. Only a failure is worth a row in the report.
func (v *prover) lay(ctx context.Context, a *actor, name, prefix string) {
	o := object{
		key:     prefix + v.name + "/" + a.Tag[:min(len(a.Tag), 10)] + "-" + name,
		content: "AgentKeys isolation proof " + v.name + ": " + name + " of " + a.Name + "\n",
	}
	defer func() { a.objects[name] = o }()
	client := a.client
	if v.Seeder != nil {
		client = v.Seeder
	}
	if client == nil {
		return
	}
	r := v.ask(ctx, func(ctx context.Context) reply { return v.put(o, a)(ctx, client) })
	o.laid, o.version = r.answer == Allowed, r.version
	if o.laid {
		return
	}
	p := &Probe{
		ID: "seed." + name, Group: "seed", Actor: a.Name, label: "lay " + name, What: "lay an object",
		Action: "s3:PutObject", Resource: v.Config.BucketARN() + "/" + o.key, Expected: Allowed,
	}
	if v.Seeder != nil { // a refusal of the administrator is not one of a tenant
		p.Actor = seeder
		if r.answer == Denied {
			r.answer, r.advice = Unclear, "Give the seeder's credentials the right to put objects into the bucket."
		}
	}
	v.settle(p, r)
}

// place is a folder beside a tenant's own.
type place struct{ id, what, prefix string }

// besides are the places whose names come closest to the tenant's own.
func (v *prover) besides(a *actor) []place {
	all := []place{
		{"longer", "<tag>0/", v.Config.TenantPrefix(a.Tag + "0")},
		{"parent", "parent/", v.Config.Prefix + "/"},
	}
	if upper := strings.ToUpper(a.Tag); upper != a.Tag {
		all = append(all, place{"capitals", "<TAG>/", v.Config.TenantPrefix(upper)})
	}
	return all
}

// ownPrefix is what an owner must be able to do. It is the control for every
// refusal of the same session.
func (v *prover) ownPrefix(ctx context.Context, a *actor) {
	home := v.Config.TenantPrefix(a.Tag)
	scratch := object{key: home + v.name + "/scratch", content: "scratch of " + v.name + "\n"}
	do := func(kind, action, resource string, call func(context.Context, *s3.Client) reply) {
		a.own[kind] = v.probe(ctx, a, spec{
			id: "own." + kind, group: "own", label: kind, what: kind + " under its own prefix", action: action,
			resource: resource, want: Allowed, call: call,
		})
	}
	do("list", "s3:ListBucket", home, func(ctx context.Context, client *s3.Client) reply {
		out, r := v.listed(ctx, client, listing{prefix: &home})
		if r.answer == Allowed && !holds(out, a.objects["read"].key) && !aws.ToBool(out.IsTruncated) {
			return otherContent("the listing lacks the object that was laid there")
		}
		return r
	})
	do("get", "s3:GetObject", a.objects["read"].key, v.get(a.objects["read"]))
	do("head", "s3:GetObject", a.objects["read"].key, v.head(a.objects["read"].key))
	do("put", "s3:PutObject", scratch.key, v.put(scratch, a))
	do("delete", "s3:DeleteObject", scratch.key, v.removeOne(scratch.key))
}

func (v *prover) head(key string) func(context.Context, *s3.Client) reply {
	return func(ctx context.Context, client *s3.Client) reply {
		out, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &v.Config.Bucket, Key: &key})
		if err != nil {
			return readHead(err)
		}
		return done(out.ResultMetadata)
	}
}

// listings must all be refused to a: they would show names that are not its own.
func (v *prover) listings(ctx context.Context, a, o *actor) {
	c := v.Config
	foreign, parent, bare := c.TenantPrefix(o.Tag), c.Prefix+"/", c.Prefix
	beforeSlash, initial, slash := c.Prefix+"/"+a.Tag, c.Prefix+"/"+o.Tag[:min(len(o.Tag), 2)], "/"
	for _, l := range []struct {
		id, group, label, what string
		listing
	}{
		{"control.list_all", "control", "list without a prefix", "list the bucket without a prefix", listing{}},
		{"near.list_empty", "near", "list, empty prefix", "list with an empty prefix", listing{prefix: aws.String("")}},
		{"foreign.list", "foreign", "list", "list " + o.Name + "'s prefix", listing{prefix: &foreign}},
		{"near.list_parent", "near", "list parent/", "list the parent folder", listing{prefix: &parent}},
		{"near.list_tenants", "near", "list parent/ by /", "list the tenants' names",
			listing{prefix: &parent, delimiter: &slash}},
		{"near.list_initial", "near", "list tag's start", "list the tenants whose tags begin as " + o.Name + "'s", listing{prefix: &initial}},
		{"near.list_folders", "near", "list other's by /", "list " + o.Name + "'s folders",
			listing{prefix: &foreign, delimiter: &slash}},
		{"near.list_one", "near", "list other's, max 1", "list one name of " + o.Name + "'s",
			listing{prefix: &foreign, maxKeys: aws.Int32(1)}},
		{"near.list_bare", "near", "list parent", "list the parent folder without its slash", listing{prefix: &bare}},
		{"near.list_no_slash", "near", "list <tag>", "list its own tag without the slash", listing{prefix: &beforeSlash}},
	} {
		resource := ""
		if l.prefix != nil {
			resource = *l.prefix
		}
		p := v.probe(ctx, a, spec{
			id: l.id, group: l.group, label: l.label, what: l.what, action: "s3:ListBucket", resource: resource,
			want: Denied, needs: []*Probe{a.own["list"]}, call: v.list(l.listing),
		})
		a.own[l.id] = p
	}
	v.rareListings(ctx, a, o)
}

// reads must all be refused to a, or show nothing of o's.
func (v *prover) reads(ctx context.Context, a, o *actor) {
	theirs, mine := o.objects["read"], v.Config.TenantPrefix(a.Tag)+v.name+"/"
	exists := []*Probe{a.own["get"], o.own["get"]}
	get := v.probe(ctx, a, spec{
		id: "foreign.get", group: "foreign", label: "get", what: "get an object of " + o.Name + "'s",
		action: "s3:GetObject", resource: theirs.key, want: Denied, needs: exists, call: v.get(theirs),
	})
	v.probe(ctx, a, spec{
		id: "near.head", group: "near", label: "head", what: "ask for the head of an object of " + o.Name + "'s",
		action: "s3:GetObject", resource: theirs.key, want: Denied, needs: []*Probe{a.own["head"], get}, call: v.head(theirs.key),
	})
	v.missing(ctx, a, o, get)
	v.rareReads(ctx, a, o)
	v.probe(ctx, a, spec{
		id: "near.copy_from", group: "near", label: "copy to its own", what: "copy an object of " + o.Name + "'s to its own prefix",
		action: "s3:GetObject", resource: theirs.key, want: Denied, needs: append(exists, a.own["put"]),
		call: v.copy(theirs.key, mine+"copied", a),
	})
	v.dotted(ctx, a, o)
}

// missing asks for an object of o's that does not exist. S3 answers 404 only to a
// caller who may list it (GetObject, "Permissions"), so a 404 beside another answer
// for an object that does exist tells the two apart. Where S3 answered 404 for both,
// it told nothing.
func (v *prover) missing(ctx context.Context, a, o *actor, existing *Probe) {
	key := v.Config.TenantPrefix(o.Tag) + v.name + "/never-written"
	told := func(r reply) reply {
		if (r.code == "NoSuchKey" || r.code == "NotFound") && (existing.Actual == Denied || existing.Actual == Allowed) {
			r.answer, r.advice = Allowed, ""
		}
		return r
	}
	for _, m := range []struct {
		id, label string
		needs     []*Probe
		call      func(context.Context, *s3.Client) reply
	}{
		{"near.get_missing", "get missing", []*Probe{existing}, v.get(object{key: key})},
		{"near.head_missing", "head missing", []*Probe{existing, a.own["head"]}, v.head(key)},
	} {
		v.probe(ctx, a, spec{
			id: m.id, group: "near", label: m.label, what: "learn that " + o.Name + " lacks an object", action: "s3:GetObject",
			resource: key, want: Denied, needs: m.needs,
			call: func(ctx context.Context, client *s3.Client) reply { return told(m.call(ctx, client)) },
		})
	}
}

// neighbours tries the places whose names come close to a's own.
func (v *prover) neighbours(ctx context.Context, a, _ *actor) {
	for _, n := range v.besides(a) {
		o, laid := a.objects[n.id]
		if !laid {
			o = object{key: n.prefix + v.name + "/nothing"}
		}
		attempt := object{key: n.prefix + v.name + "/written-by-" + a.Tag, content: "written where it must not be\n"}
		try := func(kind, action, resource string, call func(context.Context, *s3.Client) reply) {
			v.probe(ctx, a, spec{
				id: "near." + n.id + "_" + kind, group: "near", label: kind + " " + n.what, what: kind + " in " + n.prefix,
				action: action, resource: resource, want: Denied, needs: []*Probe{a.own[kind]}, call: call,
			})
		}
		if n.id != "parent" { // listed already
			try("list", "s3:ListBucket", n.prefix, v.list(listing{prefix: &n.prefix}))
		}
		try("get", "s3:GetObject", o.key, v.get(o))
		try("put", "s3:PutObject", attempt.key, v.put(attempt))
	}
}

// dotted tries keys with "..". To S3 a key is text, so these lie under a's own
// prefix and may well be answered; what must not happen is that the answer comes
// from o's prefix. The key goes out as it is: neither the SDK nor net/http cleans
// a path.
func (v *prover) dotted(ctx context.Context, a, o *actor) {
	home, foreign := v.Config.TenantPrefix(a.Tag), v.Config.TenantPrefix(o.Tag)
	climb := home + "../" + o.Tag + "/"
	theirs := o.objects["read"]
	detour := object{key: climb + strings.TrimPrefix(theirs.key, foreign), content: theirs.content}
	v.probe(ctx, a, spec{
		id: "near.dots_get", group: "near", label: "get ../<other>", what: "get an object of " + o.Name + "'s by ..",
		action: "s3:GetObject", resource: detour.key, want: Held, needs: []*Probe{a.own["get"], o.own["get"]},
		call: func(ctx context.Context, client *s3.Client) reply { return elsewhere(v.get(detour)(ctx, client)) },
	})
	v.probe(ctx, a, spec{
		id: "near.dots_list", group: "near", label: "list ../<other>", what: "list " + o.Name + "'s prefix by ..",
		action: "s3:ListBucket", resource: climb, want: Held, needs: []*Probe{a.own["list"], o.own["list"]},
		call: func(ctx context.Context, client *s3.Client) reply {
			out, r := v.listed(ctx, client, listing{prefix: &climb})
			if r.answer == Allowed && !holds(out, theirs.key) {
				r.answer, r.message = Held, "a listing without anything of the other's"
			}
			return elsewhere(r)
		},
	})
}

// elsewhere reads the answer to a key with "..": that there is no such key, or no
// such name, is as good as a refusal.
func elsewhere(r reply) reply {
	switch r.code {
	case "NoSuchKey", "InvalidURI", "InvalidRequest", "InvalidArgument", "KeyTooLongError":
		r.answer, r.advice = Held, ""
	}
	return r
}

// writes must all be refused to a, and leave o's objects as they were.
func (v *prover) writes(ctx context.Context, a, o *actor) {
	mine := a.objects["read"].key
	over := object{key: o.objects["overwrite"].key, content: "overwritten by " + a.Name + "\n"}
	for _, w := range []struct {
		id, group, label, what, action, target, control string
		call                                            func(key string) func(context.Context, *s3.Client) reply
	}{
		{"foreign.put", "foreign", "put over", "put over an object of " + o.Name + "'s", "s3:PutObject", "overwrite", "put",
			func(string) func(context.Context, *s3.Client) reply { return v.put(over, o) }},
		{"foreign.delete", "foreign", "delete", "delete an object of " + o.Name + "'s", "s3:DeleteObject", "delete", "delete",
			v.removeOne},
		{"foreign.delete_version", "foreign", "delete version", "delete a version of an object of " + o.Name + "'s",
			"s3:DeleteObjectVersion", "delete-version", "delete",
			func(key string) func(context.Context, *s3.Client) reply {
				version := o.objects["delete-version"].versionID()
				return orNotOffered(request((*s3.Client).DeleteObject, &s3.DeleteObjectInput{
					Bucket: &v.Config.Bucket, Key: &key, VersionId: version,
				}))
			}},
		{"near.delete_many", "near", "delete in a batch", "delete an object of " + o.Name + "'s in a batch", "s3:DeleteObject",
			"delete-many", "delete", v.removeMany},
		{"near.copy_onto", "near", "copy onto other's", "copy an object of its own onto one of " + o.Name + "'s",
			"s3:PutObject", "copy-onto", "put",
			func(key string) func(context.Context, *s3.Client) reply { return v.copy(mine, key, o) }},
	} {
		target := o.objects[w.target]
		v.probe(ctx, a, spec{
			id: w.id, group: w.group, label: w.label, what: w.what, action: w.action, resource: target.key, want: Denied,
			needs: []*Probe{a.own[w.control]}, call: w.call(target.key), owner: o, target: target,
		})
	}
	v.rareWrites(ctx, a, o)
	v.dottedPut(ctx, a, o)
}

// dottedPut writes to a key with ".." and looks, as o, whether it arrived in o's
// prefix.
func (v *prover) dottedPut(ctx context.Context, a, o *actor) {
	name := v.name + "/climbed"
	attempt := object{key: v.Config.TenantPrefix(a.Tag) + "../" + o.Tag + "/" + name, content: "climbed\n"}
	arrived := object{key: v.Config.TenantPrefix(o.Tag) + name, content: attempt.content}
	v.probe(ctx, a, spec{
		id: "near.dots_put", group: "near", label: "put ../<other>", what: "put an object into " + o.Name + "'s prefix by ..",
		action: "s3:PutObject", resource: attempt.key, want: Held, needs: []*Probe{a.own["put"], o.own["get"]},
		call: func(ctx context.Context, client *s3.Client) reply {
			r := elsewhere(v.put(attempt, a)(ctx, client))
			if r.answer == Allowed {
				return v.arrival(ctx, o, arrived, client)
			}
			return r
		},
	})
}

// arrival has o look whether an object that was written by a detour is in its
// prefix.
func (v *prover) arrival(ctx context.Context, o *actor, arrived object, writer *s3.Client) reply {
	unknown := reply{answer: Unclear, code: "not verified", advice: "Make the control pass, then run the proof again."}
	if o.client == nil {
		unknown.message = o.Name + " has no session to look where it went"
		return unknown
	}
	seen := v.get(arrived)(ctx, o.client)
	if seen.answer == Denied {
		// Some servers say that to an owner of what is not there.
		out, listed := v.listed(ctx, o.client, listing{prefix: &arrived.key})
		if seen = listed; listed.answer == Allowed && !holds(out, arrived.key) {
			seen.code = "NoSuchKey"
		}
	}
	switch {
	case seen.code == "NoSuchKey":
		return reply{answer: Held, status: http.StatusOK, message: "written under its own prefix"}
	case seen.answer == Allowed:
		v.remember(written{key: arrived.key}, writer, o)
		return read(nil)
	}
	unknown.message = o.Name + " could not look where it went: " + seen.text()
	return unknown
}
