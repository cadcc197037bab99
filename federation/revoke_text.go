package federation

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// WriteText writes the report for a person: what is in force, what was tried, and
// the verdict last, where eyes fall.
func (r *RevocationReport) WriteText(w io.Writer, colour bool) error {
	t := textReport{out: bufio.NewWriter(w), colour: colour}
	target := r.Target.Name
	if r.Target.Note != "" {
		target += " (" + r.Target.Note + ")"
	}
	done := "in force already"
	if r.Changed {
		done = "written"
	}
	for _, row := range [][2]string{
		{"target", target}, {"role", r.Role}, {"tenant", r.Tenant}, {"shut out", r.revocation().ShutsOut()},
		{"policy", r.Policy + ", " + done}, {"can go", r.canGo()},
	} {
		t.field(row[0], row[1])
	}
	t.line("")
	for _, c := range r.Checks {
		sgr, text := green, c.What
		if !c.held() {
			sgr = red
			text += fmt.Sprintf(": want %s", c.Expected)
		}
		if c.Said != "" {
			text += " (" + c.Said + ")"
		}
		if c.Requests > 1 {
			text += fmt.Sprintf(", %d requests", c.Requests)
		}
		t.painted(sgr, strings.ReplaceAll(string(c.Actual), "_", " "), text)
	}
	for _, why := range r.NotProven {
		t.painted(yellow, "note", "not proven: "+why)
	}
	t.painted(map[Verdict]string{Proven: green, Broken: red}[r.Verdict], "verdict", r.verdictText())
	if r.Verdict == Proven {
		t.painted(yellow, "note", provenWith)
	}
	return t.out.Flush()
}

// provenWith keeps a reader from taking the proof for one about the session that
// leaked, which nobody but its holder has: of another tenant it would live on.
const provenWith = "proven with sessions made for this proof. Try the leaked one as well: an S3 request must get AccessDenied" +
	" (get-caller-identity answers even so). If it does not, its tenant is another"

func (r *RevocationReport) revocation() Revocation {
	return Revocation{Tenant: r.Tenant, Since: r.Since, Blocked: r.Blocked}
}

func (r *RevocationReport) canGo() string {
	if r.Blocked {
		return "when new sessions may get in, by agentkeys revoke --unblock"
	}
	return stamp(r.Over) + ", by agentkeys revoke --clear"
}

// verdictText has its own word for what nobody asked to be proven.
func (r *RevocationReport) verdictText() string {
	switch {
	case r.Verdict != NotAsked:
		return string(r.Verdict)
	case r.Blocked:
		return "BLOCKED, not proven"
	}
	return "REVOKED, not proven"
}

// WriteJSON writes the report for machines.
func (r *RevocationReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// revocationEntry is a revocation of a list, for machines.
type revocationEntry struct {
	Policy  string     `json:"policy"`
	Tenant  string     `json:"tenant,omitempty"`
	Since   *time.Time `json:"since,omitempty"`
	Over    *time.Time `json:"over,omitempty"`
	Blocked bool       `json:"blocked"`
	CanGo   bool       `json:"can_go"`
	Problem string     `json:"problem,omitempty"`
}

// WriteRevocationsJSON writes a list for machines; now is the time that decides
// which of them can go.
func WriteRevocationsJSON(w io.Writer, now time.Time, list []RevocationInForce) error {
	out := struct {
		Now         time.Time         `json:"now"`
		Revocations []revocationEntry `json:"revocations"`
	}{now, []revocationEntry{}}
	for _, have := range list {
		e := revocationEntry{Policy: have.Policy, CanGo: have.stays(now) == ""}
		if have.Problem != nil {
			e.Problem = printable(have.Problem.Error())
		} else if e.Tenant, e.Blocked = have.Tenant, have.Blocked; !have.Blocked {
			over := have.Over()
			e.Since, e.Over = &have.Since, &over
		}
		out.Revocations = append(out.Revocations, e)
	}
	return writeJSON(w, out)
}

// WriteRevocations writes a list for a person, a line for each.
func WriteRevocations(w io.Writer, now time.Time, list []RevocationInForce) error {
	out := bufio.NewWriter(w)
	for _, have := range list {
		switch {
		case have.Problem != nil:
			fmt.Fprintln(out, printable(have.Problem.Error()))
		case have.Blocked:
			fmt.Fprintf(out, "%s  blocked: all sessions, old and new  until --unblock\n", have.Tenant)
		case have.stays(now) == "":
			fmt.Fprintf(out, "%s  sessions from before %s  can go\n", have.Tenant, stamp(have.Since))
		default:
			fmt.Fprintf(out, "%s  sessions from before %s  can go at %s\n", have.Tenant, stamp(have.Since), stamp(have.Over()))
		}
	}
	if len(list) == 0 {
		fmt.Fprintln(out, "No tenant's sessions are revoked.")
	}
	return out.Flush()
}
