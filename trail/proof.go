package trail

import (
	"fmt"
	"time"
)

// A Proof is what the report of a proof of the isolation says of the calls by which it
// got its sessions ("agentkeys federation prove"). The tokens of some are signed past
// the broker, by design, and no record accounts for them.
//
// A call is a proof's by the request id that AWS made for it and told its caller. A
// session's name is nothing: whoever makes a session chooses it. Whoever can write a
// report can name calls of their own in it; so each call that a report accounts for is
// listed with the digest of the report, and counted.
type Proof struct {
	Source   string    // where the report is
	Digest   string    // SHA-256 of it, in hexadecimal digits
	From, To time.Time // of the proof, by its own clock
	Calls    []ProofCall
}

// A ProofCall is one call of STS.
type ProofCall struct {
	RequestID                 string // AWS's
	At                        time.Time
	SessionName, Subject, Tag string
	Got                       bool // a session
}

// Proven is a proof with those of its calls that were made or used in the window.
type Proven struct {
	Report string       `json:"report"`
	SHA256 string       `json:"sha256"`
	From   time.Time    `json:"started_at"`
	To     time.Time    `json:"finished_at"`
	Calls  []ProvenCall `json:"calls"`
}

// ProvenCall is a call that the report of a proof accounts for.
type ProvenCall struct {
	Event       EventRef `json:"event"`
	SessionName string   `json:"session_name"`
	AccessKeyID string   `json:"access_key_id,omitempty"` // "" where STS refused
	Uses        int      `json:"uses"`                    // events of the window by the session
}

// proofCall is a call, and what the trail has of it.
type proofCall struct {
	ProofCall
	proof *Proof
	event *Event
	uses  int
}

// proofCalls are those of all proofs by their request ids.
func proofCalls(proofs []Proof) map[string]*proofCall {
	calls := map[string]*proofCall{}
	for n := range proofs {
		for _, c := range proofs[n].Calls {
			calls[c.RequestID] = &proofCall{ProofCall: c, proof: &proofs[n]}
		}
	}
	return calls
}

// settleProof notes a call that a proof made, and holds it against the report.
func (m *match) settleProof(e *Event) bool {
	call := m.proofs[e.RequestID]
	if e.RequestID == "" || call == nil || call.event != nil || e.Name != webIdentity {
		return false
	}
	call.event = e
	got := e.ErrorCode == ""
	f := Finding{Proof: call.proof.Source}
	if got {
		m.session[e.Assumed.AccessKeyID] = session{event: e, proof: call}
		m.compare(e, nil, f, call.Subject, call.Tag, call.SessionName)
	}
	if got != call.Got || e.Time.Sub(call.At).Abs() > near {
		f.Expected, f.Found = callText(call.Got, call.At)+", as the report of the proof says", callText(got, e.Time)
		m.find(Mismatch, e, nil, f)
	}
	return true
}

func callText(got bool, at time.Time) string {
	if got {
		return "a session made at about " + stamp(at)
	}
	return "a call that STS refused at about " + stamp(at)
}

// useOfProof counts the uses of a session that a proof made. The prover drops its
// sessions when it ends, so a use after that is somebody else's.
func (m *match) useOfProof(u *use, call *proofCall, f Finding) {
	call.uses += u.count
	if !u.last.Time.After(call.proof.To.Add(near)) {
		return
	}
	f.Proof = call.proof.Source
	f.Expected = "no use after the proof ended at " + stamp(call.proof.To)
	f.Found = fmt.Sprintf("%s, and last by %s at %s", usesOf(u), u.last.Name, stamp(u.last.Time))
	m.find(ForeignUse, u.last, nil, f)
}

// checkProofs lists what the proofs account for, and wants every session that a report
// names.
func (m *match) checkProofs() {
	for n := range m.Proofs {
		p := &m.Proofs[n]
		seen := Proven{Report: p.Source, SHA256: p.Digest, From: p.From, To: p.To}
		for _, c := range p.Calls {
			switch call := m.proofs[c.RequestID]; {
			case call.proof != p: // of another report as well, which has it
			case call.event != nil && (call.uses > 0 || m.window.has(call.event.Time)):
				seen.Calls = append(seen.Calls, call.seen())
			case call.event == nil && c.Got && m.window.has(c.At) && c.At.Before(m.window.Settled):
				m.find(Missing, nil, nil, Finding{SessionName: c.SessionName, Proof: p.Source,
					Expected: "an event with the request id " + c.RequestID + " at about " + stamp(c.At) + ", as the report of the proof says", Found: "none in the files"})
			}
		}
		if len(seen.Calls) > 0 {
			m.report.Proofs = append(m.report.Proofs, seen)
		}
	}
}

func (c *proofCall) seen() ProvenCall {
	e := c.event
	return ProvenCall{Event: EventRef{ID: e.ID, Name: e.Name, Time: e.Time, File: e.File},
		SessionName: e.Assumed.SessionName, AccessKeyID: e.Assumed.AccessKeyID, Uses: c.uses}
}

// text tells what a proof accounts for.
func (p Proven) text(line func(string, ...any)) {
	line("           %s, %s to %s, SHA-256 %s", p.Report, stamp(p.From), stamp(p.To), p.SHA256)
	for _, c := range p.Calls {
		made := "refused"
		if c.AccessKeyID != "" {
			made = c.AccessKeyID + ", " + count(c.Uses, "use")
		}
		line("             %s %s: %s, event %s", stamp(c.Event.Time), c.SessionName, made, c.Event.ID)
	}
}
