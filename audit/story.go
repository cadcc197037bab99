package audit

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// An event is what a record has to do with others.
type event struct {
	place       int64
	id, settles string
	outcome     string
	millis      int64
	prunes      int64 // up to which place
	erases      int64 // so many records before it, as it says
	erased      bool  // it was erased
	unplaced    bool  // the tree does not have it
}

// eventOf is false for a record that has nothing to do with others.
func eventOf(e event, action, detail string) (event, bool) {
	switch action {
	case ActionPruned:
		e.prunes = numberIn(detail, "through=")
	case ActionErased:
		e.erases = numberIn(detail, "records=")
	}
	return e, e.prunes > 0 || e.erases > 0 || e.erased || e.settles != "" || e.outcome == Pending
}

// numberIn reads the number that a detail has under a name, 0 where there is none.
func numberIn(detail, name string) int64 {
	for _, word := range strings.Fields(detail) {
		if value, ok := strings.CutPrefix(word, name); ok {
			n, err := strconv.ParseInt(value, 10, 64)
			if err == nil && n > 0 {
				return n
			}
		}
	}
	return 0
}

// A span is of places.
type span struct{ from, to int64 }

// The bounds of what a story remembers.
const (
	maxSpans      = 1 << 12
	maxUnresolved = 1 << 16
)

// A story follows what records say of one another, in the order of the log. It
// remembers the intents that are open and little else.
type story struct {
	open       map[string]event // intents without an outcome, by ID
	unresolved []event          // outcomes of what is no open intent
	overflow   bool             // there were more of those

	gone      []span // places without a record
	goneMore  int64  // places of spans beyond maxSpans
	through   int64  // the records up to there were pruned, says a record
	first     string // ID of the first record that is there
	unsaid    int64  // erased records that no record behind them counts
	unsaidAt  event  // the first of them, or one that was counted
	unsigned  bool   // a record that says what is gone is not in the tree, and anybody may have written it
	lastMilli int64  // the time of the latest record
	partial   bool   // there are records that were withheld
}

func newStory() *story { return &story{open: make(map[string]event)} }

// add takes the events in the order of the log.
func (s *story) add(e event) {
	if e.prunes > 0 && e.prunes < e.place {
		s.through = max(s.through, e.prunes)
	}
	s.unsaid = max(0, s.unsaid-e.erases)
	s.unsigned = s.unsigned || e.unplaced && (e.prunes > 0 || e.erases > 0)
	if e.erased {
		if s.unsaid == 0 {
			s.unsaidAt = e
		}
		s.unsaid++
	}
	if e.settles != "" {
		s.settle(e)
	}
	if e.outcome == Pending {
		s.open[strings.Clone(e.id)] = event{place: e.place, millis: e.millis}
	}
}

func (s *story) settle(e event) {
	if _, ok := s.open[e.settles]; ok {
		delete(s.open, e.settles)
		return
	}
	if len(s.unresolved) == maxUnresolved {
		s.overflow = true
		return
	}
	e.id, e.settles = strings.Clone(e.id), strings.Clone(e.settles)
	s.unresolved = append(s.unresolved, e)
}

// miss notes places without a record.
func (s *story) miss(from, to int64) {
	if last := len(s.gone) - 1; last >= 0 && s.gone[last].to == from-1 {
		s.gone[last].to = to
		return
	}
	if len(s.gone) == maxSpans {
		s.goneMore += to - from + 1
		return
	}
	s.gone = append(s.gone, span{from, to})
}

// A past is a record that another names.
type past struct {
	place   int64
	outcome string
}

// lookup finds records by ID.
type lookup func(ctx context.Context, ids []string) (map[string]past, error)

// end gives what is wrong with the story once the last record was added. An ID that
// sorts before the first may be that of a pruned record.
func (s *story) end(ctx context.Context, now time.Time, find lookup, report func(Finding)) error {
	if s.unsaid > 0 {
		report(Finding{Code: EraseUnrecorded, Place: s.unsaidAt.place, ID: s.unsaidAt.id,
			Want: "a record of " + ActionErased + " behind it that counts it", Got: fmt.Sprintf("%d erased records more than those count", s.unsaid)})
	}
	s.endIntents(now, report)
	if len(s.unresolved) == 0 {
		return nil
	}
	ids := make([]string, 0, len(s.unresolved))
	for _, e := range s.unresolved {
		ids = append(ids, e.settles)
	}
	found, err := find(ctx, ids)
	if err != nil {
		return err
	}
	settled := make(map[string]bool)
	for _, e := range s.unresolved {
		s.resolve(e, found, settled, report)
	}
	return nil
}

// endIntents reports intents that are too old to be open, the first ones first.
func (s *story) endIntents(now time.Time, report func(Finding)) {
	for _, id := range sortedBy(s.open, func(e event) int64 { return e.place }) {
		e := s.open[id]
		if age := now.Sub(time.UnixMilli(e.millis)); age > intentAge {
			report(Finding{Code: IntentOpen, Place: e.place, ID: id, Want: "an outcome within " + intentAge.String(), Got: "none after " + age.Round(time.Second).String()})
		}
	}
}

// resolve judges an outcome of what is no open intent. Credentials that an anchor did
// not take, and so were not released, have a quarantined record that settles the
// confirmed one.
func (s *story) resolve(e event, found map[string]past, settled map[string]bool, report func(Finding)) {
	f := Finding{Place: e.place, ID: e.id, Want: "an intent before it", Got: "no record " + e.settles}
	p, ok := found[e.settles]
	switch {
	case !ok && (s.partial || s.through > 0 && e.settles < s.first):
		return
	case !ok || p.place >= e.place:
		f.Code = SettlesNothing
	case p.outcome == Pending:
		f.Code, f.Want, f.Got = SettledTwice, "one outcome of "+e.settles, "another"
	case p.outcome != Confirmed || e.outcome != Quarantined:
		f.Code, f.Got = SettlesNothing, fmt.Sprintf("%s, which is %s", e.settles, p.outcome)
	case settled[e.settles]:
		f.Code, f.Want, f.Got = SettledTwice, "one record that quarantines "+e.settles, "another"
	default:
		settled[e.settles] = true
		return
	}
	report(f)
}
