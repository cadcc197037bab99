package trail

import (
	"fmt"
	"time"
)

// A Proof is what the report of a proof of the isolation says of the calls by which it
// got its sessions ("agentkeys federation prove"). The tokens of some are signed past
// the broker, by design, and no record accounts for them.
//
// A session is a proof's by its access key id, which AWS chose and told the prover alone,
// and a refused call by AWS's id of the request. A name is nothing: whoever makes a
// session chooses it. Whoever can write a report can name sessions of their own in it;
// so each that is told apart is listed with the report's digest, and counted.
type Proof struct {
	Source   string    // where the report is
	Digest   string    // SHA-256 of it, in hexadecimal digits
	From, To time.Time // of the proof, by its own clock
	Calls    []ProofCall
}

// A ProofCall is one call of STS.
type ProofCall struct {
	At                        time.Time
	SessionName, Subject, Tag string
	AccessKeyID               string // of the session, "" where STS refused
	RequestID                 string // "" where it is not known
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
	Event       *EventRef `json:"event,omitempty"` // nil where the files begin after it
	SessionName string    `json:"session_name"`
	AccessKeyID string    `json:"access_key_id,omitempty"` // "" where STS refused
	Uses        int       `json:"uses"`                    // events of the window by the session
}

// proofCalls are the calls of all proofs.
type proofCalls struct {
	all   []*proofCall
	byKey map[string]*proofCall
	byID  map[string]*proofCall // those that STS refused
}

// proofCall is a call, and what the trail has of it.
type proofCall struct {
	ProofCall
	proof *Proof
	event *Event
	uses  int
}

func newProofCalls(proofs []Proof) proofCalls {
	c := proofCalls{byKey: map[string]*proofCall{}, byID: map[string]*proofCall{}}
	for n := range proofs {
		for _, one := range proofs[n].Calls {
			call := &proofCall{ProofCall: one, proof: &proofs[n]}
			c.all = append(c.all, call)
			switch {
			case one.AccessKeyID != "":
				c.byKey[one.AccessKeyID] = call
			case one.RequestID != "":
				c.byID[one.RequestID] = call
			}
		}
	}
	return c
}

// settleProof notes a session that a proof made, and holds it against the report.
func (m *match) settleProof(e *Event) bool {
	call := m.proofs.byKey[e.Assumed.AccessKeyID]
	if call == nil || call.event != nil {
		return false
	}
	call.event = e
	m.session[e.Assumed.AccessKeyID] = session{event: e, proof: call}
	f := Finding{Proof: call.proof.Source}
	m.compare(e, nil, f, call.Subject, call.Tag, call.SessionName)
	if e.Time.Sub(call.At).Abs() > near {
		f.Expected, f.Found = "a session of about "+stamp(call.At)+", as the report of the proof says", "one of "+stamp(e.Time)
		m.find(Mismatch, e, nil, f)
	}
	return true
}

// refusedProof notes a refused call that a proof made. It is one of the same session
// name and role: of another the report says nothing.
func (m *match) refusedProof(e *Event) bool {
	call := m.proofs.byID[e.RequestID]
	if call == nil || call.event != nil || e.Name != webIdentity || e.Assumed.Role != m.Role || e.Assumed.SessionName != call.SessionName {
		return false
	}
	call.event = e
	return true
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
	f.Found = usesOf(u) + fmt.Sprintf(", and last by %s", u.last.Name)
	m.find(ForeignUse, u.last, nil, f)
}

// checkProofs lists what the proofs account for, and wants every session that a report
// names.
func (m *match) checkProofs() {
	for n := range m.Proofs {
		p := Proven{Report: m.Proofs[n].Source, SHA256: m.Proofs[n].Digest, From: m.Proofs[n].From, To: m.Proofs[n].To}
		for _, call := range m.proofs.all {
			if call.proof == &m.Proofs[n] {
				m.checkCall(call, &p)
			}
		}
		if len(p.Calls) > 0 {
			m.report.Proofs = append(m.report.Proofs, p)
		}
	}
}

func (m *match) checkCall(call *proofCall, p *Proven) {
	e := call.event
	seen := ProvenCall{SessionName: call.SessionName, AccessKeyID: call.AccessKeyID, Uses: call.uses}
	if e != nil {
		seen.Event = &EventRef{ID: e.ID, Name: e.Name, Time: e.Time, File: e.File}
	}
	switch {
	case e != nil && m.window.has(e.Time), call.uses > 0:
		p.Calls = append(p.Calls, seen)
	case e == nil && call.AccessKeyID != "" && m.window.has(call.At) && call.At.Before(m.window.Settled):
		m.find(Missing, nil, nil, Finding{AccessKeyID: call.AccessKeyID, SessionName: call.SessionName, Proof: call.proof.Source,
			Expected: "an event that made these credentials at about " + stamp(call.At) + ", as the report of the proof says", Found: "none in the files"})
	}
}

// text tells what a proof accounts for.
func (p Proven) text(line func(string, ...any)) {
	line("           %s from %s to %s, SHA-256 %s", p.Report, stamp(p.From), stamp(p.To), p.SHA256)
	for _, c := range p.Calls {
		made := "refused"
		if c.AccessKeyID != "" {
			made = c.AccessKeyID + ", " + count(c.Uses, "use")
		}
		event := "made before the files begin"
		if c.Event != nil {
			event = "event " + c.Event.ID + " at " + stamp(c.Event.Time)
		}
		line("             %s: %s, %s", c.SessionName, made, event)
	}
}
