package federation

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"agentkeys/policy"
)

// Fault is one of the three faults under which a set-up looks green while
// nothing is enforced. Each hides the next.
type Fault string

// The three faults.
const (
	// FaultTagsClaim: the token lacks the claim https://aws.amazon.com/tags, so
	// AWS makes no session tag. It is a fault of the token, not of a document.
	FaultTagsClaim Fault = "tags-claim"
	// FaultTrustPolicy: the trust policy tests the tag with a negated
	// comparison, which a tag that is absent satisfies.
	FaultTrustPolicy Fault = "trust-policy"
	// FaultInlinePolicy: an inline policy of the role grants reading of the
	// whole bucket, and permissions are a union.
	FaultInlinePolicy Fault = "inline-policy"
)

// Faults lists the three, in the order in which they hide each other.
func Faults() []Fault { return []Fault{FaultTagsClaim, FaultTrustPolicy, FaultInlinePolicy} }

// ParseFault reads the name of a fault.
func ParseFault(name string) (Fault, error) {
	if f := Fault(name); slices.Contains(Faults(), f) {
		return f, nil
	}
	return "", fmt.Errorf("fault: want tags-claim, trust-policy or inline-policy, got %q", name)
}

// InlinePolicyName is the name under which FaultInlinePolicy puts its policy on
// the role.
const InlinePolicyName = "agentkeys-data-s3-read"

// Break puts faults into documents. It returns the documents with the trust
// fault, if asked for, and the inline policies of the role that SetUp is to put
// beside them. FaultTagsClaim changes no document: whoever mints the tokens puts
// that one in. The documents passed in stay as they are.
func Break(c Config, d Documents, faults ...Fault) (Documents, map[string]*policy.Document, error) {
	inline := map[string]*policy.Document{}
	for _, f := range faults {
		switch f {
		case FaultTagsClaim:
		case FaultTrustPolicy:
			d.Trust = negatedTagTest(d.Trust, c)
		case FaultInlinePolicy:
			inline[InlinePolicyName] = wholeBucket(c)
		default:
			return Documents{}, nil, fmt.Errorf("fault: want one of %v, got %q", Faults(), f)
		}
	}
	return d, inline, nil
}

// negatedTagTest is trust with StringNotEquals "" where the tag is tested. The
// mistake is to have written that one line in the belief that it means "the tag is
// there and not empty". So in each Allow it takes the place of every condition on
// the tag's value: of Null in the plain form, of Null and the shape in the
// hardened one, beside which it would have no effect. The condition on
// aws:TagKeys and the Deny stay, as neither notices an absent tag.
func negatedTagTest(trust *policy.Document, c Config) *policy.Document {
	tag := "aws:RequestTag/" + c.TagKey
	negated := policy.Condition{Operator: "StringNotEquals", Key: tag, Values: []string{""}}
	broken := *trust
	broken.Statements = slices.Clone(trust.Statements)
	for i, s := range broken.Statements {
		if s.Effect != policy.Allow {
			continue
		}
		kept := slices.DeleteFunc(slices.Clone(s.Condition), func(c policy.Condition) bool {
			return strings.EqualFold(c.Key, tag)
		})
		broken.Statements[i].Condition = append(kept, negated)
	}
	return &broken
}

// wholeBucket is the grant from before there were tenants.
func wholeBucket(c Config) *policy.Document {
	return document(policy.Statement{
		Sid: "ReadWholeBucket", Effect: policy.Allow,
		Action:   []string{"s3:GetObject", "s3:ListBucket"},
		Resource: []string{c.BucketARN(), c.BucketARN() + "/*"},
	})
}

// sortedNames gives the names of inline policies in a fixed order.
func sortedNames(inline map[string]*policy.Document) []string {
	return slices.Sorted(maps.Keys(inline))
}
