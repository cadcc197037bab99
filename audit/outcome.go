package audit

// The outcomes that records hold.
const (
	Issued    = "issued"    // a token was made and its answer may leave
	Refused   = "refused"   // nothing was released; Reason says why
	SignedIn  = "signed_in" // control of the identity was proven
	Confirmed = "confirmed" // what the action names did happen

	Pending     = "pending"     // about to be done: another record says what came of it
	Failed      = "failed"      // it did not happen; Reason says why
	Quarantined = "quarantined" // it may have happened outside, and nothing of it was released
	Replayed    = "replayed"    // the answer of an earlier call was given to its caller again
)
