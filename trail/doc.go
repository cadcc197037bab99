// Package trail holds CloudTrail's log files against the broker's audit records:
// two accounts of the same events, of which the broker writes one and AWS the other.
//
// What it keeps safe: somebody who can leave records out, or sign tokens with the
// issuer's key behind the broker's back, does not write AWS's log as well. A session
// of the data role that no record accounts for is a finding, and so is the use of
// credentials that no record releases. Where the files cannot tell, the verdict is
// INCONCLUSIVE and says why.
//
// What it does not: files are taken as they are. Whether CloudTrail delivered them
// so is what "aws cloudtrail validate-logs" tells, and records are as true as the
// log that they are read from, which package audit verifies. A web identity token
// that the broker gave out is good for as many sessions as its bearer makes with it
// while it lives; the trail names the subject of each and not the token's jti, so
// one that somebody else made for the same subject at the same time looks the same.
//
// Sessions that a proof of the isolation made past the broker are told apart by the
// request ids in its report, which is believed (see Proof).
//
// It is a package of its own, as neither side may know the other: audit reads no
// file of AWS's, and the local AWS, which writes such files, reads no records.
//
// Read reads files, and Reconcile compares them with records.
package trail
