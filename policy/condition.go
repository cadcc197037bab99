package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// condition is one key under one operator, ready to match.
type condition struct {
	op       operator
	operator string // as written
	name     string // the key, as written
	key      string // the key, folded
	texts    []string
	values   []value
}

func compileCondition(c Condition, vars bool) (condition, error) {
	op, err := parseOperator(c.Operator)
	if err != nil {
		return condition{}, err
	}
	if err := checkKey(c.Key); err != nil {
		return condition{}, fmt.Errorf("condition %s: %w", c.Operator, err)
	}
	out := condition{op: op, operator: c.Operator, name: c.Key, key: foldKey(c.Key), texts: c.Values}
	for _, text := range c.Values {
		v, err := parseValue(op, text, vars)
		if err != nil {
			return condition{}, fmt.Errorf("condition %s %s: %w", c.Operator, c.Key, err)
		}
		out.values = append(out.values, v)
	}
	return out, nil
}

const (
	whyEmptySet    = "whether ForAllValues takes an empty value for an empty set"
	whyEmptyPolicy = "what an empty list of values means for a key that is absent"
)

// match decides the condition by the truth table of IAM's
// reference_policies_elements_condition_operators and
// reference_policies_condition-single-vs-multi-valued-context-keys. A verdict
// of maybe comes with the point that is open.
func (c *condition) match(ctx *Context) (verdict, string) {
	got, present := ctx.lookup(c.key)
	if c.op.family == null {
		return c.matchNull(present), ""
	}
	if !present {
		return c.matchAbsent()
	}
	switch c.op.quant {
	case forAllValues:
		return c.matchAll(got, ctx)
	case forAnyValue:
		return c.matchAny(got, ctx)
	default:
		if got.multi { // false even for a negated operator
			return no, ""
		}
		return c.matchValue(got.single, ctx)
	}
}

func (c *condition) matchNull(present bool) verdict {
	for i := range c.values {
		if c.values[i].truth != present {
			return yes
		}
	}
	return no
}

func (c *condition) matchAbsent() (verdict, string) {
	switch {
	case c.op.ifExists, c.op.quant == forAllValues:
		return yes, ""
	case c.op.quant == forAnyValue:
		return no, ""
	case c.op.negated && len(c.values) == 0:
		return maybe, whyEmptyPolicy
	default:
		return verdictOf(c.op.negated), ""
	}
}

func (c *condition) matchAll(got contextValue, ctx *Context) (v verdict, why string) {
	if !got.multi {
		v, why = c.matchValue(got.single, ctx)
	} else {
		v = yes
		for _, s := range got.list {
			one, reason := c.matchValue(s, ctx)
			if one < v {
				v, why = one, reason
			}
		}
	}
	if v == no && emptySet(got) {
		return maybe, whyEmptySet
	}
	return v, why
}

// emptySet reports whether a key that is present has nothing but empty values.
func emptySet(got contextValue) bool {
	if !got.multi {
		return got.single == ""
	}
	for _, s := range got.list {
		if s != "" {
			return false
		}
	}
	return true
}

func (c *condition) matchAny(got contextValue, ctx *Context) (v verdict, why string) {
	if !got.multi {
		return c.matchValue(got.single, ctx)
	}
	for _, s := range got.list {
		one, reason := c.matchValue(s, ctx)
		if one > v {
			v, why = one, reason
		}
	}
	return v, why
}

// matchValue compares one value of the request with all of the policy's: it
// must match one of them or, for a negated operator, none.
func (c *condition) matchValue(got string, ctx *Context) (verdict, string) {
	if len(c.values) == 0 {
		return no, "" // an empty list never matches a value, negated or not
	}
	v, why, ok := c.compareAny(got, ctx)
	if !ok {
		return no, ""
	}
	if c.op.negated {
		return v.not(), why
	}
	return v, why
}

// compareAny compares without regard to negation. ok is false where the
// request's value is of a form that never matches, negated or not.
func (c *condition) compareAny(got string, ctx *Context) (v verdict, why string, ok bool) {
	switch c.op.family {
	case stringEquals, stringLike:
		for i := range c.values {
			v = max(v, c.values[i].pattern.match(got, ctx))
		}
		return v, whyEmptyDefault, true
	case stringEqualsIgnoreCase:
		for i := range c.values {
			v = max(v, c.values[i].pattern.matchIgnoreCase(got, ctx))
		}
		return v, whyEmptyDefault, true
	case arnLike:
		return c.compareARN(got, ctx)
	case numeric:
		n, ok := parseDecimal(got)
		return c.compareEach(func(p *value) bool { return ok && c.op.compare.holds(n.cmp(p.num)) }), "", true
	case date:
		ms, ok := parseDate(got)
		return c.compareEach(func(p *value) bool { return ok && c.op.compare.holds(compareInt(ms, p.millis)) }), "", true
	case boolean:
		truth := strings.EqualFold(got, "true")
		return c.compareEach(func(p *value) bool { return truth == p.truth }), "", true
	case binary:
		return c.compareEach(func(p *value) bool { return got == p.bytes }), "", true
	default:
		addr, err := netip.ParseAddr(got)
		ok := err == nil && addr.Zone() == ""
		return c.compareEach(func(p *value) bool { return p.network.Contains(addr) }), "", ok
	}
}

func (c *condition) compareEach(eq func(*value) bool) verdict {
	for i := range c.values {
		if eq(&c.values[i]) {
			return yes
		}
	}
	return no
}

func (c *condition) compareARN(got string, ctx *Context) (v verdict, why string, ok bool) {
	if _, ok := splitARN(got); !ok {
		return no, "", false
	}
	for i := range c.values {
		p := &c.values[i].arn
		if one := p.match(got, ctx); one > v {
			v, why = one, p.why()
		}
	}
	return v, why, true
}

func compareInt(a, b int64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}
