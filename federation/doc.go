// Package federation is the AWS side of AgentKeys: it renders the documents
// that keep tenants apart (Render), puts them in force (MakePlan, Apply), finds
// every way in that the documents in force leave open (Fetch or ReadAccount, and
// Check), proves with real requests that they keep tenants apart (Prove), and says
// why STS refuses a token (Explain).
//
// What it keeps safe: the token's tag, the trust policy's conditions and the
// bucket policy's variables come from one Config, so they cannot disagree; a
// finding of Check is a request that the documents let through, with the statement
// that does; and a proof says PROVEN only where every refusal was really observed,
// together with the controls that give a refusal its meaning.
//
// What it does not: Check sees what the account shows and CheckReport.NotLookedAt
// names the rest; a proof speaks for the moment, the target and the two tenants
// it was made with, and tries what Report.NotTried does not name; and a run against
// the local AWS says nothing about AWS.
//
// What Check tries grows with the documents and not with the product of everything
// that a request can be. Principals are those that the documents and the account
// have, each with its own policies. Each grant of each of them is tried alone, for
// the actions that it admits. Resources and prefixes are one for every combination
// of patterns that some text below a tenant's prefix matches, found by walking the
// patterns' automata (policy.Distinguish). Condition keys begin with ordinary
// values, and one at a time is changed where a statement in the way, or one that
// would have to allow, depends on it; a search that fails tells on which keys that
// rests, so that keys which have nothing to do with each other cost their sum.
// Tenants are two of each kind, and one or two for whatever tells tenants apart in a
// document. Each of these is bounded, and a report says where a bound was met.
package federation
