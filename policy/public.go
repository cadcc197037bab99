package policy

import (
	"slices"
	"strings"
)

// narrowingKeys are the keys that take a statement for everybody out of what
// Block Public Access calls public, when they are held to fixed values.
// Source: S3 User Guide, access-control-block-public-access.
var narrowingKeys = map[string]bool{
	"aws:principalarn":      true,
	"aws:principalaccount":  true,
	"aws:principalorgid":    true,
	"aws:principalorgpaths": true,
	"aws:userid":            true,
	"aws:sourceaccount":     true,
	"aws:sourceowner":       true,
	"aws:sourcearn":         true,
	"aws:sourceorgid":       true,
	"aws:sourceip":          true,
	"aws:sourcevpc":         true,
	"aws:sourcevpce":        true,
	"s3:dataaccesspointarn": true,

	"s3:dataaccesspointaccount":                      true,
	"s3:x-amz-server-side-encryption-aws-kms-key-id": true,
}

// Public reports whether a bucket policy is public in the sense of Block Public
// Access: whether a statement allows something to everybody without being held
// to fixed values of who asks or from where. Session tags do not count, since
// another account chooses its own. A document that does not compile is public.
func (d *Document) Public() bool {
	statements, err := d.compile()
	if err != nil {
		return true
	}
	for i := range statements {
		if st := &statements[i]; st.effect == Allow && st.forEverybody() && !st.narrowed() {
			return true
		}
	}
	return false
}

func (st *statement) forEverybody() bool {
	if st.notPrincipal != nil {
		return true
	}
	return slices.ContainsFunc(st.principal, func(m member) bool {
		return m.kind == memberAnyone || m.kind == memberAnyAWS || m.text == "*"
	})
}

func (st *statement) narrowed() bool {
	for i := range st.conditions {
		if st.conditions[i].narrows() {
			return true
		}
	}
	return false
}

// narrows reports whether the condition holds only for fixed values of a
// narrowing key. One that also holds when the key is absent does not narrow.
func (c *condition) narrows() bool {
	if !narrowingKeys[c.key] || c.op.negated || c.op.ifExists || c.op.quant == forAllValues || len(c.texts) == 0 {
		return false
	}
	switch c.op.family {
	case stringEquals, stringEqualsIgnoreCase, stringLike, arnLike, ipAddress:
	default:
		return false
	}
	for i, text := range c.texts {
		if !c.fixed(text, &c.values[i]) {
			return false
		}
	}
	return true
}

// fixed reports whether a value stands for few enough: no wildcard, no policy
// variable, and no network wider than /8, or /32 for IPv6.
func (c *condition) fixed(text string, v *value) bool {
	switch c.key {
	case "aws:sourceip":
		if c.op.family != ipAddress || !v.network.IsValid() {
			return false
		}
		if v.network.Addr().Is4() {
			return v.network.Bits() >= 8
		}
		return v.network.Bits() >= 32
	case "s3:dataaccesspointarn": // the access point's name may be a wildcard
		if parts, ok := splitARN(text); ok && isAccountID(parts[4]) {
			text = strings.Join(parts[:5], ":")
		}
	}
	return !strings.ContainsAny(text, "*?") && !strings.Contains(text, "${")
}
