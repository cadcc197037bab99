package trail

import (
	"time"
)

// A Code is the stable name of a kind of finding.
type Code string

// The kinds of findings.
const (
	// Unrecorded is a session of the data role, or of a token of the broker's
	// provider, that no record accounts for.
	Unrecorded Code = "unrecorded-session"
	// ForeignUse is the use of credentials of the data role that no record issued.
	ForeignUse Code = "foreign-use"
	// Outside is a session of the data role by another way than the broker's provider.
	Outside Code = "assumed-outside"
	// Missing is a record of credentials whose session is not in the trail.
	Missing Code = "missing-in-trail"
	// UnreleasedUsed is the use of credentials that the broker released to nobody.
	UnreleasedUsed Code = "quarantined-used"
	// Mismatch is a session that is another than its record says.
	Mismatch Code = "tag-mismatch"
	// RefusedAtSTS is a record of credentials for a call that STS refused.
	RefusedAtSTS Code = "refused-at-sts"
	// Attempt is a refused call that no record accounts for.
	Attempt Code = "unrecorded-attempt"
	// Duplicate is one record with more than one session, or one event with two contents.
	Duplicate Code = "duplicate"
)

// A Severity says how much a finding tells by itself.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // credentials are in the wrong hands
	High     Severity = "high"     // somebody holds, or has made, what nobody was given; or a log lacks something
	Medium   Severity = "medium"   // the two logs disagree, and nothing was given
)

// severities of the codes; Codes has their order.
var severities = map[Code]Severity{UnreleasedUsed: Critical, ForeignUse: Critical, Unrecorded: High, Outside: High, Duplicate: High,
	Mismatch: High, Missing: High, RefusedAtSTS: High, Attempt: Medium}

// Severity says how much findings of a code tell.
func (c Code) Severity() Severity { return severities[c] }

// Codes lists all codes, the worst first.
func Codes() []Code {
	return []Code{UnreleasedUsed, ForeignUse, Unrecorded, Outside, Duplicate, Mismatch, Missing, RefusedAtSTS, Attempt}
}

// A Finding is a disagreement between the trail and the records.
type Finding struct {
	Code     Code      `json:"code"`
	Severity Severity  `json:"severity"`
	Event    *EventRef `json:"event,omitempty"` // nil of what is not in the trail
	Uses     int       `json:"uses,omitempty"`  // events by the credentials, of which Event is the first
	// The credentials, and the record that they are held against, as far as there is one.
	AccessKeyID string `json:"access_key_id,omitempty"`
	SessionName string `json:"session_name,omitempty"`
	Record      string `json:"record,omitempty"`
	Proof       string `json:"proof,omitempty"` // the report of a proof that names the credentials
	Expected    string `json:"expected"`
	Found       string `json:"found"`
}

// An EventRef says where an event is.
type EventRef struct {
	ID   string    `json:"event_id"`
	Name string    `json:"event_name"`
	Time time.Time `json:"event_time"`
	File string    `json:"file"`
}

// A Verdict is what Reconcile comes to.
type Verdict string

// The verdicts.
const (
	Clean        Verdict = "CLEAN"
	Findings     Verdict = "FINDINGS"
	Inconclusive Verdict = "INCONCLUSIVE"
)

// A Report is what Reconcile found.
type Report struct {
	Verdict  Verdict   `json:"verdict"`
	Why      []string  `json:"why,omitempty"` // of INCONCLUSIVE
	Role     string    `json:"role"`
	Provider string    `json:"provider,omitempty"`
	Window   Window    `json:"window"`
	Counts   Counts    `json:"counts"`
	Proofs   []Proven  `json:"proofs,omitempty"` // with calls of the window
	Findings []Finding `json:"findings"`
	Notes    []string  `json:"notes,omitempty"`
}

// A Window is the time that the files are taken to cover: events from From on and
// before To, all of which are taken to be delivered that happened before Settled.
type Window struct {
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Settled time.Time `json:"settled"`
}

// Counts are what was compared.
type Counts struct {
	Files        int `json:"files"`
	Events       int `json:"events"`
	DataEvents   int `json:"data_events"`
	Repeated     int `json:"repeated_events"`
	Sessions     int `json:"sessions"`      // that were made in the window
	ByKey        int `json:"by_access_key"` // of these, matched with a record by access key id
	BySource     int `json:"by_jti"`        // by the jti, in the source identity
	ByName       int `json:"by_name"`       // by session name and time
	ByToken      int `json:"by_token"`      // made by the bearer of a token that the broker gave out
	ByProof      int `json:"by_proof"`      // made by a proof, by the request id in its report
	Refused      int `json:"refused"`       // calls that STS refused
	ProofRefused int `json:"proof_refused"` // of these, calls of a proof, likewise
	ProofReports int `json:"proof_reports"` // that were given
	Uses         int `json:"uses"`          // events by credentials of the role, in the window
	UsedKeys     int `json:"used_keys"`     // of so many credentials
	UnplacedKeys int `json:"unplaced_keys"` // of these, sessions from before the files
	Records      int `json:"records"`       // of credentials, in the window or of a session of it
	Pending      int `json:"not_yet"`       // of these, too late for their event to be due
	Tokens       int `json:"token_records"` // records of tokens that the broker gave out, likewise
}
