package policy

import (
	"fmt"
	"strings"
	"unicode"
)

// family is the kind of comparison that an operator makes.
type family uint8

const (
	stringEquals family = iota
	stringEqualsIgnoreCase
	stringLike
	numeric
	date
	boolean
	binary
	ipAddress
	arnLike // ArnEquals and ArnLike are the same
	null
)

// comparison is how a number or a date is compared with the policy's.
type comparison uint8

const (
	equal comparison = iota
	less
	lessOrEqual
	greater
	greaterOrEqual
)

// holds reports whether the comparison holds where the request's value compares
// so with the policy's: negative for less, positive for greater.
func (c comparison) holds(order int) bool {
	switch c {
	case less:
		return order < 0
	case lessOrEqual:
		return order <= 0
	case greater:
		return order > 0
	case greaterOrEqual:
		return order >= 0
	default:
		return order == 0
	}
}

// quantifier is the set operator before an operator's name.
type quantifier uint8

const (
	scalar quantifier = iota
	forAllValues
	forAnyValue
)

// operator is a condition operator with its qualifiers.
type operator struct {
	family   family
	compare  comparison
	negated  bool
	quant    quantifier
	ifExists bool
}

// operators is every operator without its qualifiers, by the exact name.
// Source: IAM User Guide, reference_policies_elements_condition_operators.
var operators = map[string]operator{
	"StringEquals":              {family: stringEquals},
	"StringNotEquals":           {family: stringEquals, negated: true},
	"StringEqualsIgnoreCase":    {family: stringEqualsIgnoreCase},
	"StringNotEqualsIgnoreCase": {family: stringEqualsIgnoreCase, negated: true},
	"StringLike":                {family: stringLike},
	"StringNotLike":             {family: stringLike, negated: true},
	"NumericEquals":             {family: numeric},
	"NumericNotEquals":          {family: numeric, negated: true},
	"NumericLessThan":           {family: numeric, compare: less},
	"NumericLessThanEquals":     {family: numeric, compare: lessOrEqual},
	"NumericGreaterThan":        {family: numeric, compare: greater},
	"NumericGreaterThanEquals":  {family: numeric, compare: greaterOrEqual},
	"DateEquals":                {family: date},
	"DateNotEquals":             {family: date, negated: true},
	"DateLessThan":              {family: date, compare: less},
	"DateLessThanEquals":        {family: date, compare: lessOrEqual},
	"DateGreaterThan":           {family: date, compare: greater},
	"DateGreaterThanEquals":     {family: date, compare: greaterOrEqual},
	"Bool":                      {family: boolean},
	"BinaryEquals":              {family: binary},
	"IpAddress":                 {family: ipAddress},
	"NotIpAddress":              {family: ipAddress, negated: true},
	"ArnEquals":                 {family: arnLike},
	"ArnLike":                   {family: arnLike},
	"ArnNotEquals":              {family: arnLike, negated: true},
	"ArnNotLike":                {family: arnLike, negated: true},
	"Null":                      {family: null},
}

// parseOperator reads a name such as "ForAnyValue:StringLikeIfExists". Names
// are compared with case.
func parseOperator(name string) (operator, error) {
	base, quant := name, scalar
	if rest, ok := strings.CutPrefix(name, "ForAllValues:"); ok {
		base, quant = rest, forAllValues
	} else if rest, ok := strings.CutPrefix(name, "ForAnyValue:"); ok {
		base, quant = rest, forAnyValue
	}
	base, ifExists := strings.CutSuffix(base, "IfExists")
	op, ok := operators[base]
	if !ok {
		return operator{}, fmt.Errorf("condition operator %q is not known", clip(name))
	}
	if op.family == null && (ifExists || quant != scalar) {
		return operator{}, fmt.Errorf("condition operator %q: Null takes neither IfExists nor a set operator", name)
	}
	op.quant, op.ifExists = quant, ifExists
	return op, nil
}

// checkKey refuses what cannot be the name of a condition key.
func checkKey(key string) error {
	prefix, name, ok := strings.Cut(key, ":")
	if !ok || prefix == "" || name == "" {
		return fmt.Errorf("condition key %q: want the form prefix:name", clip(key))
	}
	if strings.ContainsAny(key, "*?${}'\"") || strings.ContainsFunc(key, unicode.IsControl) || strings.TrimSpace(key) != key {
		return fmt.Errorf("condition key %q holds a character that no key has", clip(key))
	}
	return nil
}
