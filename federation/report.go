package federation

import (
	"encoding/json"
	"io"
	"time"
)

// Verdict is the outcome of a proof.
type Verdict string

// The verdicts.
const (
	Proven       Verdict = "PROVEN"       // all that must be allowed was, all that must be refused was, for the right reason
	Broken       Verdict = "BROKEN"       // a way in, or an owner kept out, was really observed
	Inconclusive Verdict = "INCONCLUSIVE" // something could not be observed
	NotAsked     Verdict = "NOT_PROVEN"   // done, and whoever had it done asked for no proof: of a revocation alone
)

// ExitStatus is the process status that stands for the verdict: 0, 1 or 3.
func (v Verdict) ExitStatus() int {
	switch v {
	case Proven, NotAsked:
		return 0
	case Broken:
		return 1
	}
	return 3
}

// Report is what a proof found. Its JSON form is stable.
type Report struct {
	Verdict    Verdict        `json:"verdict"`
	Target     TargetReport   `json:"target"`
	StartedAt  time.Time      `json:"started_at"`
	FinishedAt time.Time      `json:"finished_at"`
	Config     Config         `json:"config"`
	Documents  Form           `json:"documents,omitempty"` // form of the documents, where the caller knows it
	Tenants    []TenantReport `json:"tenants"`
	AtAGlance  Glance         `json:"at_a_glance"`
	Naive      string         `json:"naive_conclusion"` // what a reader of "own prefix: success" alone would conclude
	Truth      string         `json:"truth"`
	Broken     []string       `json:"broken"`     // what was observed and must not be
	Unobserved []Gap          `json:"unobserved"` // what could not be observed
	Causes     []Cause        `json:"causes"`
	Probes     []*Probe       `json:"probes"`
	Exchanges  []Exchange     `json:"exchanges"` // the calls by which it got its sessions, as AWS knows them
	Leftovers  []string       `json:"leftovers"` // objects of the proof that could not be deleted again
	NotTried   []string       `json:"not_tried"` // what a proof of this kind does not cover
}

// TargetReport says what the proof speaks for.
type TargetReport struct {
	Name string `json:"name"`
	Kind string `json:"kind"` // "aws", "local" (on this machine) or "other"
	STS  string `json:"sts"`
	S3   string `json:"s3"`
	Note string `json:"note,omitempty"`
}

// TenantReport is a tenant and the token that it sent. The token itself is
// never part of a report.
type TenantReport struct {
	Name     string `json:"name"`
	Tag      string `json:"tag"`
	TokenTag string `json:"token_tag"` // the tag that AWS reads from the token; "" if it reads none
	Session  string `json:"session"`   // ARN of the session, "" if there is none
}

// Exchange is one call of STS by which a proof got a session, or was refused one: what
// AWS CloudTrail knows it by. None of it is secret.
type Exchange struct {
	At          time.Time `json:"at"` // by the clock of the prover, before the call
	SessionName string    `json:"session_name"`
	Subject     string    `json:"subject"`              // of the token
	Tag         string    `json:"tag"`                  // that AWS reads from the token; "" if it reads none
	Answer      Answer    `json:"answer"`               // allowed: there is a session
	RequestID   string    `json:"request_id,omitempty"` // that AWS gave the call; "" where it said none
}

// Glance is the outcome in four words.
type Glance struct {
	Session  Answer `json:"session"`        // tenants' own tokens at STS
	Own      Answer `json:"own_prefix"`     // reading an own object
	Foreign  Answer `json:"foreign_prefix"` // reading the other tenant's object
	Untagged Answer `json:"untagged_token"` // a token without the tag at STS
}

// Gap is something that could not be observed, and what to do about it.
type Gap struct {
	Probes []string `json:"probes"` // ids with their actor
	Why    string   `json:"why"`
	Do     string   `json:"do"`
}

// Cause is why the outcome is as it is, as far as tokens, answers and documents
// show. A cause that is Contained did no harm in this run because something else
// refused.
type Cause struct {
	Fault     Fault  `json:"fault"`
	Contained bool   `json:"contained"`
	Evidence  string `json:"evidence"`
	Fix       string `json:"fix"`
}

// Result says what a probe contributes to the verdict.
type Result string

// The results of a probe.
const (
	AsExpected Result = "ok"
	Contrary   Result = "broken"
	NotShown   Result = "unobserved"
)

// Probe is one request of the proof.
type Probe struct {
	ID         string   `json:"id"`
	Group      string   `json:"group"`
	Actor      string   `json:"actor"`
	What       string   `json:"what"`
	Action     string   `json:"action"`
	Resource   string   `json:"resource"`
	Expected   Answer   `json:"expected"`
	Actual     Answer   `json:"actual"`
	Code       string   `json:"code,omitempty"`
	HTTPStatus int      `json:"http_status,omitempty"`
	Message    string   `json:"message,omitempty"`
	RefusedBy  *Refusal `json:"refused_by,omitempty"`
	After      string   `json:"after,omitempty"` // state of the other's object after an attempt to change it
	Result     Result   `json:"result"`
	Sentence   string   `json:"sentence"`
	Do         string   `json:"do,omitempty"` // what to do about a probe that showed nothing

	label string // row of the text report
	weak  string // why a refusal would not count
	about string // tenant whose things an actor tries who is no tenant, where there is a probe for each
}

// WriteJSON writes the report for machines.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}
