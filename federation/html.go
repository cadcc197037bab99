package federation

import (
	"bufio"
	"crypto/sha256"
	_ "embed" // the page's style
	"encoding/base64"
	"fmt"
	"io"
)

//go:embed report.css
var pageStyle string

// styleHash is what the page's Content-Security-Policy admits beside nothing at
// all (CSP level 3, section 2.3.1): this style sheet and no other, no script, no
// resource from anywhere.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}()

// WriteHTML writes the report as one page for people to read, print and file. It
// holds all that the JSON form holds of the probes, loads nothing and runs nothing.
func (r *Report) WriteHTML(w io.Writer) error {
	out := bufio.NewWriter(w)
	if err := r.view().page().Render(out); err != nil {
		return err
	}
	return out.Flush()
}

// view is the report with what only the page needs.
type view struct {
	*Report
	Groups   []viewGroup
	MoreSeen int // beyond those of Broken that head the page
}

type viewGroup struct {
	Title  string
	Tally  string
	Probes []viewProbe
}

type viewProbe struct {
	*Probe
	Number int
	Mark   string
	Word   string // what it came to
	Why    string // what the server said, where that is not the refusal alone
}

// mostSeen is how many of the faults that were observed stand at the head of the
// page. The table has all of them.
const mostSeen = 8

func (r *Report) view() view {
	v := view{Report: r, MoreSeen: max(0, len(r.Broken)-mostSeen)}
	for _, g := range groups {
		group := viewGroup{Title: groupTitles[g.id]}
		var probes []*Probe
		for i, p := range r.Probes {
			if p.Group == g.id {
				probes = append(probes, p)
				group.Probes = append(group.Probes, newViewProbe(i+1, p))
			}
		}
		if len(probes) > 0 {
			group.Tally = tally(probes)
			v.Groups = append(v.Groups, group)
		}
	}
	return v
}

// HeadSeen are the first of what was observed and must not be.
func (v view) HeadSeen() []string { return v.Broken[:len(v.Broken)-v.MoreSeen] }

var groupTitles = map[string]string{
	"session": "A session at STS", "seed": "Objects laid by the administrator", "own": "The own prefix",
	"foreign": "The other's prefix", "near": "Near misses", "anonymous": "Without a signature", "control": "Controls",
}

var resultMarks = map[Result]string{AsExpected: "✓", Contrary: "✗", NotShown: "?"}

func newViewProbe(number int, p *Probe) viewProbe {
	v := viewProbe{Probe: p, Number: number, Mark: resultMarks[p.Result], Word: answerWord(p.Actual)}
	if p.Actual == Unclear {
		v.Word = p.Code
	}
	v.Why = reply{answer: p.Actual, code: p.Code, status: p.HTTPStatus, message: p.Message}.text()
	if v.Why == string(p.Actual) {
		v.Why = ""
	}
	return v
}

func answerWord(a Answer) string {
	switch a {
	case Denied:
		return "refused"
	case Held:
		return "no effect"
	case NotTried:
		return "not tried"
	}
	return string(a)
}

// tally counts probes by what they contribute.
func tally(probes []*Probe) string {
	count := map[Result]int{}
	for _, p := range probes {
		count[p.Result]++
	}
	s := fmt.Sprintf("%d of %d as expected", count[AsExpected], len(probes))
	if n := count[Contrary]; n > 0 {
		s += fmt.Sprintf(", %d contrary", n)
	}
	if n := count[NotShown]; n > 0 {
		s += fmt.Sprintf(", %d not observed", n)
	}
	return s
}
