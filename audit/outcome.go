package audit

// The outcomes that records hold.
const (
	Issued    = "issued"    // a token was made and its answer may leave
	Refused   = "refused"   // nothing was released; Reason says why
	SignedIn  = "signed_in" // control of the identity was proven
	Confirmed = "confirmed" // what the action names did happen
)
