// Package policy parses, validates, evaluates and explains AWS policy documents.
//
// Parse reads a document and refuses every element, operator and value that it
// does not understand. Compile turns a document into a Policy; only a Policy
// decides. Evaluate answers one Request over all the policies that apply to it
// (a Set), and Explain answers the same and says for each statement why it
// matched or did not.
//
// What it keeps safe: a document that is not understood never decides anything,
// a value from a request is never read as a wildcard or as a policy variable,
// and where AWS leaves a point unsettled the reading that lets less through is
// taken and Decision.Ambiguous names the point.
//
// What it does not keep safe: it knows only the policies and the condition keys
// that it is given. Access control lists, public access blocks, VPC endpoint
// policies and access points are the caller's to weigh, as is the truth of a
// Principal and of a Context. Canonical user ids are compared, not resolved.
//
// A Policy is immutable. Evaluate and Explain read their arguments only, so any
// number of goroutines may share them.
package policy
