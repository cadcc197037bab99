package federation

import (
	"fmt"
	"slices"
	"strings"
)

// remark is advice about everybody of whom the same is to be said. An account has
// dozens of administrators, and a line for each would bury the rest.
type remark struct {
	one, many string // what is said of one, and of several
	who       []string
}

func (r *remark) String() string {
	if len(r.who) == 1 {
		return r.who[0] + " " + r.one
	}
	kind, names := "users and roles", r.who
	for _, one := range []string{"role", "user"} {
		if bare, ok := withoutPrefix(r.who, one+" "); ok {
			kind, names = one+"s", bare
		}
	}
	return fmt.Sprintf("%d %s %s: %s", len(names), kind, r.many, strings.Join(names, ", "))
}

// withoutPrefix cuts a prefix that all of a list have.
func withoutPrefix(list []string, prefix string) ([]string, bool) {
	var bare []string
	for _, s := range list {
		rest, ok := strings.CutPrefix(s, prefix)
		if !ok {
			return nil, false
		}
		bare = append(bare, rest)
	}
	return bare, true
}

// remarkOn says of a user or a role what may be true of others as well.
func (k *checker) remarkOn(who, one, many string) {
	i := slices.IndexFunc(k.remarks, func(r *remark) bool { return r.one == one })
	if i < 0 {
		i = len(k.remarks)
		k.remarks = append(k.remarks, &remark{one: one, many: many})
	}
	if r := k.remarks[i]; !slices.Contains(r.who, who) {
		r.who = append(r.who, who)
	}
}

func (k *checker) adviseAdministrator(who, action, resource string) {
	does := "may change IAM itself (" + action + " on " + resource + ")"
	k.remarkOn(who, does+", so it is an administrator in effect; list it under administrators, or take that right away",
		does+", so they are administrators in effect; list them under administrators, or take that right away")
}

func (k *checker) adviseBucketAdministrator(who, action string) {
	does := "may change what guards the bucket (" + action + ")"
	k.remarkOn(who, does+", so it is an administrator of the bucket in effect", does+", so they are administrators of the bucket in effect")
}

// adviseServiceLinked speaks of a session of a role that AWS made for a service. One
// that may change IAM could reach the objects, but its statements are not about them.
func (k *checker) adviseServiceLinked(a *caller) {
	if action, resource, ok := k.changesIAM(a); ok {
		does := "change IAM itself (" + action + " on " + resource + ")"
		k.remarkOn(k.inEffect(a), "belongs to an AWS service, which may "+does+" with it", "belong to AWS services, which may "+does+" with them")
	} else if k.reachesAnybody(a, k.tenants) {
		k.remarkOn(k.inEffect(a), "belongs to an AWS service, which reads or lists tenants' objects with it",
			"belong to AWS services, which read or list tenants' objects with them")
	}
}

// isBlock reports whether a document is a block of agentkeys revoke. Like a revocation
// it must hide no way in, and lock no owner out, in what is found: it goes again.
func (k *checker) isBlock(d Document) bool {
	role, name, _ := strings.Cut(d.Name, ", inline policy ")
	if d.Policy == nil || role != "role "+k.Config.Role {
		return false
	}
	r, err := readRevocation(k.Config, name, d.Policy)
	return err == nil && r.Blocked
}

// revocations speaks of what agentkeys revoke put on the data role, which is no
// fault: sessions of today are issued after it, and a block is no fault of the set-up.
func (k *checker) revocations() {
	for _, d := range k.data.Inline {
		_, name, _ := strings.Cut(d.Name, ", inline policy ")
		if d.Policy == nil || !strings.HasPrefix(name, revocationPrefix) {
			continue
		}
		r, err := readRevocation(k.Config, name, d.Policy)
		switch {
		case err != nil:
			k.advise("%v", err)
		case r.Blocked:
			k.advise("all sessions of tenant %s, old and new, are blocked; agentkeys revoke --unblock lets new ones in", r.Tenant)
		case k.now.Before(r.Over()):
			k.advise("sessions of tenant %s from before %s are revoked; that can go at %s", r.Tenant, stamp(r.Since), stamp(r.Over()))
		default:
			k.advise("sessions of tenant %s from before %s are revoked and over; agentkeys revoke --clear takes that away", r.Tenant, stamp(r.Since))
		}
	}
}
