package federation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"agentkeys/policy"
)

// way is a request of an actor that gets through.
type way struct {
	code   Code
	actor  *caller
	grant  *part
	ask    *ask
	answer answer
}

// reach tries what of the victims' an actor gets at, grant by grant, and tells
// visit of the first way for each code and grant. It ends when visit says so.
func (k *checker) reach(a *caller, victims []string, visit func(way) bool) {
	k.throughAll(a, victims, visit)
	for _, victim := range victims {
		if b := k.posingAs(a, victim); b != nil {
			k.throughAll(b, []string{victim}, visit)
		}
	}
}

func (k *checker) throughAll(a *caller, victims []string, visit func(way) bool) {
	k.through(a, victims, k.directly(a), visit)
	for i := range k.AccessPoints {
		k.through(a, victims, k.byAccessPoint(a, &k.AccessPoints[i]), visit)
	}
}

// posingAs is the actor with whatever it chooses that policies put in the place of
// a variable: somebody of another account chooses his tags and his name, anybody
// the headers that he sends. It is nil where nothing is to be chosen.
func (k *checker) posingAs(a *caller, tenant string) *caller {
	b := *a
	b.keys, b.names = a.keys.Clone(), maps.Clone(a.names)
	posing := a.foreign(k.Config.Account)
	if posing {
		b.keys.Set("aws:PrincipalTag/"+k.Config.TagKey, tenant)
		b.show("aws:PrincipalTag/" + k.Config.TagKey)
	}
	for _, p := range append(a.own.all(), k.resourceParts()...) {
		for _, key := range p.variables() {
			if k.chooses(a, "s3:GetObject", key) {
				b.keys.Set(key, tenant)
				if _, shown := b.names[key]; !shown {
					b.show(key)
				}
				posing = true
			}
		}
	}
	if !posing {
		return nil
	}
	return &b
}

// entrance is a way to address the bucket: by its name, or by an access point.
type entrance struct {
	layers  layers
	keys    *policy.Context // of the actor at that door
	base    string          // what stands before an object's key in its ARN
	bucket  string          // ARN that bucket actions are about
	behind  *entrance       // what has to let the request pass as well
	unclear bool            // how a grant of the actor's own policies counts here is not settled
}

func (k *checker) directly(a *caller) *entrance {
	return &entrance{layers: k.at(a), keys: a.keys, base: k.Config.BucketARN() + "/", bucket: k.Config.BucketARN()}
}

// byAccessPoint is the door of an access point. Its policy must let a request
// pass, and so must the bucket's, which may leave it to access points by the keys
// s3:DataAccessPointAccount and s3:DataAccessPointArn.
// Source: S3 User Guide, access-points-policies.
func (k *checker) byAccessPoint(a *caller, p *AccessPoint) *entrance {
	keys := a.keys.Clone()
	keys.Set("s3:DataAccessPointArn", p.ARN)
	keys.Set("s3:DataAccessPointAccount", k.Config.Account)
	origin := "Internet"
	if p.VPC != "" {
		origin = "VPC"
	}
	keys.Set("s3:AccessPointNetworkOrigin", origin)
	behind := k.directly(a)
	behind.keys = keys
	d := &entrance{layers: a.own, keys: keys, base: p.ARN + "/object/", bucket: p.ARN, behind: behind, unclear: true}
	d.layers.rcp = k.rcp
	outside := a.who.Account != k.Config.Account
	if !outside {
		d.layers.scp = k.scp
	}
	block := p.PublicAccess
	restricted := block != nil && block.RestrictPublicBuckets && p.Policy.Policy != nil && p.Policy.Policy.Public()
	for _, part := range k.split(p.Policy) {
		if !outside || !restricted || !part.allows() {
			d.layers.resource = append(d.layers.resource, part)
		}
	}
	return d
}

func (d *entrance) parts() []*part {
	parts := d.layers.all()
	if d.behind != nil {
		parts = append(parts, d.behind.layers.all()...)
	}
	return parts
}

// resource is the ARN of an object by its key or, without one, of the bucket, as
// the door has it.
func (d *entrance) resource(key string) string {
	if key == "" {
		return d.bucket
	}
	return d.base + key
}

// asks are the requests of one action at a door: there with one grant alone, and
// behind it with all.
func (k *checker) asks(a *caller, d *entrance, action, key string, grant *part, extra func(*policy.Context)) []*ask {
	keys, names := d.keys, a.names
	if extra != nil {
		keys, names = keys.Clone(), maps.Clone(names)
		extra(keys)
		for _, key := range []string{"s3:prefix", "s3:delimiter"} {
			names[key] = key
		}
	}
	one := func(l layers, resource string) *ask {
		return &ask{
			request: policy.Request{Principal: a.who, Action: action, Resource: resource, ResourceAccount: k.Config.Account},
			keys:    keys, names: names, layers: l,
			free: func(key string) bool {
				if _, set := keys.Values(key); set || extra != nil && (key == "s3:prefix" || key == "s3:delimiter") {
					return false
				}
				return k.chooses(a, action, key)
			},
		}
	}
	list := []*ask{one(d.layers.only(grant), d.resource(key))}
	if d.behind != nil {
		list = append(list, one(d.behind.layers, d.behind.resource(key)))
	}
	return list
}

// through tries one door.
func (k *checker) through(a *caller, victims []string, d *entrance, visit func(way) bool) {
	parts := d.parts()
	grants := d.layers.grants()
	for _, victim := range victims {
		home := k.Config.TenantPrefix(victim)
		objects := sync.OnceValue(func() []string { return k.objectsWithin(a, parts, d, home) })
		lists := sync.OnceValue(func() []listingOf { return k.listings(a, parts, home) })
		for _, grant := range grants {
			t := &trial{checker: k, actor: a, door: d, grant: grant, visit: visit}
			if t.objects(ForeignRead, k.read, objects) || t.objects(ForeignWrite, k.write, objects) || t.lists(lists) {
				return
			}
		}
	}
}

// trial is one grant of one actor at one door.
type trial struct {
	*checker
	actor *caller
	door  *entrance
	grant *part
	visit func(way) bool
}

// known reports whether a way by this grant was found before, and whether the report
// names its user or role.
func (t *trial) known(code Code) bool {
	if t.actor.who.Kind == policy.Anonymous {
		code = PublicAccess
	}
	return t.has(code, t.grant) && (!t.mayBeListed(t.actor) || slices.Contains(t.sharers[t.foundBy(code, t.grant)], t.inEffect(t.actor)))
}

// applies reports whether the grant is about a request at all, whatever its
// conditions say.
func (t *trial) applies(action, key string) bool {
	r := policy.Request{Principal: t.actor.who, Action: action, Resource: t.door.resource(key), ResourceAccount: t.Config.Account, Context: t.door.keys}
	layer := policy.ResourceLayer
	for _, p := range t.door.layers.identity {
		if p == t.grant {
			layer = policy.IdentityLayer
		}
	}
	s := &policy.Set{}
	if t.door.layers.bounded {
		s.Boundary = []*policy.Policy{}
	}
	applies, _ := t.grant.bare.Applies(&r, s, layer)
	return applies
}

// objects tries actions on objects. It reports whether the search may end.
func (t *trial) objects(code Code, actions []string, objects func() []string) bool {
	var open *way
	for _, action := range actions {
		if !t.grant.admits(action) {
			continue
		}
		if t.known(code) {
			return false
		}
		for _, object := range objects() {
			if !t.applies(action, object) {
				continue
			}
			w, ok := t.try(code, action, object, nil)
			if ok && w.answer.allowed {
				return t.visit(w)
			}
			if ok && open == nil {
				open = &w
			}
		}
	}
	return open != nil && t.visit(*open)
}

func (t *trial) try(code Code, action, key string, extra func(*policy.Context)) (way, bool) {
	asks := t.asks(t.actor, t.door, action, key, t.grant, extra)
	ans := t.search(asks...)
	if ans.allowed && t.door.unclear && ans.decision.Layer == policy.IdentityLayer && !t.grant.given {
		ans.allowed, ans.ambiguous = false, "how an access point's policy and a caller's own policies add up"
	}
	return way{code, t.actor, t.grant, asks[0], ans}, ans.gotIn()
}

// lists tries the listings of a tenant's names.
func (t *trial) lists(lists func() []listingOf) bool {
	open := map[Code]way{}
	for _, action := range t.list {
		if !t.grant.admits(action) || !t.applies(action, "") {
			continue
		}
		for _, l := range lists() {
			codes := l.shows
			if action == listUploads {
				codes = []Code{ForeignList, TenantNames} // of everybody, whatever the prefix
			}
			if t.knownAll(codes) {
				continue
			}
			w, ok := t.try(codes[0], action, "", l.keys(action))
			for _, code := range codes {
				if w.code = code; ok && w.answer.allowed && !t.known(code) && t.visit(w) {
					return true
				}
				if _, seen := open[code]; ok && !seen {
					open[code] = w
				}
			}
			if action == listUploads {
				break
			}
		}
	}
	for _, code := range []Code{ForeignList, TenantNames} {
		if w, ok := open[code]; ok && !t.known(code) && t.visit(w) {
			return true
		}
	}
	return false
}

func (t *trial) knownAll(codes []Code) bool {
	for _, code := range codes {
		if !t.known(code) {
			return false
		}
	}
	return true
}

// keys sets the parameters of a listing. An action that no policy can hold to a
// prefix has none.
func (l listingOf) keys(action string) func(*policy.Context) {
	return func(c *policy.Context) {
		if action == listUploads {
			return
		}
		if l.prefix != nil {
			c.Set("s3:prefix", *l.prefix)
		}
		if l.delimiter != nil {
			c.Set("s3:delimiter", *l.delimiter)
		}
	}
}

// reportWay makes a finding of a way in. It never ends the search.
func (k *checker) reportWay(w way) bool {
	f := k.finding(w)
	if w.actor.who.Kind == policy.Anonymous {
		f.Code = PublicAccess
	}
	i := k.add(f)
	if who := k.inEffect(w.actor); k.mayBeListed(w.actor) && !slices.Contains(k.sharers[i], who) {
		k.sharers[i] = append(k.sharers[i], who)
	}
	return false
}

// effect says what a way in means.
func (w way) effect() string {
	whose := "tenants'"
	if w.actor.tenant != "" {
		whose = "another tenant's"
	}
	switch w.code {
	case ForeignRead:
		return "reads " + whose + " objects"
	case ForeignWrite:
		return "changes " + whose + " objects"
	case ForeignList:
		return "learns " + whose + " key names"
	case TenantNames:
		return "learns which tenants exist"
	}
	return "can change what holds the tenants' sessions"
}

// finding words a way in.
func (k *checker) finding(w way) Finding {
	f := Finding{
		Code: w.code, Title: w.actor.name + " " + w.effect(), Ambiguous: !w.answer.allowed,
		Witness: Witness{
			Principal: w.actor.name, Action: w.ask.request.Action, Resource: w.ask.request.Resource, Context: w.answer.context,
		},
		DecidedBy: []Statement{w.grant.from},
		Fix:       k.fix(w),
	}
	if f.Ambiguous {
		f.Title += " under one reading of AWS, which leaves open " + w.answer.ambiguous
		if p := k.byName[w.answer.decision.Policy]; p != nil && p != w.grant {
			f.DecidedBy = append(f.DecidedBy, p.from)
		}
	}
	return f
}

// fix says what to change about a grant.
func (k *checker) fix(w way) string {
	name := w.grant.from.Document
	variable := "${aws:PrincipalTag/" + k.Config.TagKey + "}"
	switch {
	case w.actor.role == k.data && ownedByAWS(name):
		return fmt.Sprintf("Detach %s from the data role: the bucket policy alone grants what it needs.", name)
	case w.code == PolicyEditable:
		return fmt.Sprintf("Take %s out of %s: no tenant session needs it.", w.ask.request.Action, name)
	case name == aclName:
		return "Set the bucket's ownership to BucketOwnerEnforced, which turns ACLs off."
	case w.actor.who.Kind == policy.Anonymous:
		return fmt.Sprintf("Name principals in %s, and turn all four settings of the bucket's public access block on.", name)
	case w.actor.tenant != "" && w.actor.role == k.data && strings.HasPrefix(name, "bucket policy"):
		return fmt.Sprintf("Scope it to %s/%s/, and a listing to the same in s3:prefix.", k.Config.Prefix, variable)
	case w.actor.role == k.data:
		return fmt.Sprintf("Take the S3 statements out of %s: the bucket policy alone grants S3.", name)
	case w.actor.foreign(k.Config.Account):
		return fmt.Sprintf("Name the data role as the one principal of the statement in %s.", name)
	}
	return takeAway(name, k.inEffect(w.actor))
}
