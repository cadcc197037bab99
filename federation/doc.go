// Package federation is the AWS side of AgentKeys: it renders the documents
// that keep tenants apart, puts them in force, and proves with real requests
// that they do.
//
// What it keeps safe: the token's tag, the trust policy's conditions and the
// bucket policy's variables come from one Config, so they cannot disagree; and
// a proof says PROVEN only where every refusal was really observed, together
// with the controls that give a refusal its meaning.
//
// What it does not: a proof speaks for the moment, the target and the two
// tenants it was made with. It does not search for ways in that no probe tries
// (Report.NotTried names the kinds), it does not see the policies that a caller
// without administrator's rights cannot read, and a run against the local AWS says nothing about AWS.
package federation
