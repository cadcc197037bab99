package audit

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// A chunk is a part of a log as a worker read it, in the order of the log.
type chunk struct {
	places    []int64
	committed []Digest // the leaves as the tree has them; of an export, as the lines say
	computed  []Digest // the leaves of what the records say; where there is no record, as committed
	changed   []Finding
	findings  []Finding // that say nothing of the tree
	gone      []span    // places without a record
	events    []event
	heads     []headAt // of an export
	records   int64
	erased    int64
	oldest    event // the oldest record behind the head
	newest    event // the newest one there
	firstID   string
	lastMilli int64
	err       error
}

// headAt is a head between the lines of an export.
type headAt struct {
	behind int // how many of the places of its chunk
	Checkpoint
}

func newChunk() *chunk {
	return &chunk{places: make([]int64, 0, chunkPlaces), committed: make([]Digest, 0, chunkPlaces), computed: make([]Digest, 0, chunkPlaces)}
}

func (c *chunk) add(place int64, committed, computed Digest) {
	c.places, c.committed, c.computed = append(c.places, place), append(c.committed, committed), append(c.computed, computed)
}

// unplaced notes a record behind the head.
func (c *chunk) unplaced(e event) {
	if c.oldest.place == 0 || e.millis < c.oldest.millis {
		c.oldest = e
	}
	if c.newest.place == 0 || e.millis > c.newest.millis {
		c.newest = e
	}
}

// tell counts a record and keeps what it has to do with others.
func (c *chunk) tell(e event, action, detail string) {
	c.records++
	c.lastMilli = max(c.lastMilli, e.millis)
	if c.firstID == "" {
		c.firstID = e.id
	}
	if e.erased {
		c.erased++
	}
	if e, ok := eventOf(e, action, detail); ok {
		c.events = append(c.events, e)
	}
}

// moves finds among the records that are not those of their places those that are of
// another place nearby.
func (c *chunk) moves() {
	if len(c.changed) == 0 {
		return
	}
	home := make(map[Digest]int64, len(c.places))
	for i, d := range c.committed {
		home[d] = c.places[i]
	}
	for i, f := range c.changed {
		at, _ := slices.BinarySearch(c.places, f.Place)
		if place, ok := home[c.computed[at]]; ok && place != f.Place {
			c.changed[i].Code = RecordMoved
			c.changed[i].Got += fmt.Sprintf(", the record of place %d", place)
		}
	}
}

// A walk takes the chunks of a log in order: it builds the tree, meets the witnesses
// and follows the story.
type walk struct {
	v      *Verification
	report *Report
	head   Checkpoint // whose root is to be found; of size 0 where there is none
	total  int64      // places, as far as it is known
	last   int64      // the place of the last record

	tree     climb // of the leaves as they were committed
	records  climb // of the leaves of what the records say, once they differ
	differs  bool
	others   []Digest // the subtrees of records that the last leaf made whole, from level 1
	tiles    func(level int, n int64, roots ...Digest)
	rootAt   Digest // of tree, at the size of head
	recordAt Digest // of records there
	broken   string // why the tree cannot be built
	changed  []Finding
	changes  int64
	moved    int64

	inside *Witness // the heads between the lines of an export
	next   int64    // where the next witness is
	agreed int64    // up to where a witness was found to agree
	late   []lateSeen
	story  *story
	oldest event
	newest event
	err    error

	unplacedKnown bool  // whether a record can be told to be behind the head
	export        bool  // where a record of which the hash alone is there may have been withheld
	withheld      int64 // so many
}

// lateSeen is a record of a witness that goes back, as one does whose writer did not
// know how far it came before it was started again.
type lateSeen struct {
	seen
	position string
}

const maxLate = 1 << 16

func (v *Verification) newWalk(head Checkpoint) (*walk, error) {
	w := &walk{v: v, head: head, story: newStory(), unplacedKnown: true, inside: &Witness{name: "the export"}, report: &Report{Origin: v.Origin, Size: head.Size, Root: head.Root.String(), Counts: make(map[Code]int64)}}
	for _, witness := range v.Witnesses {
		if witness.line > 0 || witness.ended {
			continue // it is one head
		}
		if err := w.advance(witness); err != nil {
			return nil, err
		}
	}
	w.schedule()
	return w, nil
}

func (w *walk) find(f Finding) { w.report.find(w.v.keep(), f) }

// absorb takes the next chunk.
func (w *walk) absorb(c *chunk) error {
	if c.err != nil {
		return c.err
	}
	heads := c.heads
	for i, place := range c.places {
		heads = w.passing(heads, i)
		w.leaf(place, c.committed[i], c.computed[i])
		if w.err != nil {
			return w.err
		}
	}
	w.passing(heads, len(c.places))
	for _, f := range c.changed {
		w.change(f)
	}
	for _, f := range c.findings {
		w.find(f)
	}
	for _, s := range c.gone {
		w.story.miss(s.from, s.to)
	}
	for _, e := range c.events {
		w.story.add(e)
	}
	w.count(c)
	return nil
}

func (w *walk) count(c *chunk) {
	w.report.Records += c.records
	w.report.Erased += c.erased
	if w.story.first == "" {
		w.story.first = c.firstID
	}
	w.story.lastMilli = max(w.story.lastMilli, c.lastMilli)
	if c.oldest.place > 0 && (w.oldest.place == 0 || c.oldest.millis < w.oldest.millis) {
		w.oldest = c.oldest
	}
	if c.newest.place > 0 && (w.newest.place == 0 || c.newest.millis > w.newest.millis) {
		w.newest = c.newest
	}
	if w.v.Progress != nil {
		w.v.Progress(w.last, w.total)
	}
}

// leaf takes the next place.
func (w *walk) leaf(place int64, committed, computed Digest) {
	w.last = place
	if place > w.head.Size {
		w.report.Unplaced++
		w.meet(place, computed)
		return
	}
	if w.broken != "" {
		w.meet(place, committed)
		return
	}
	if committed != computed && !w.differs {
		w.differs, w.records = true, w.tree
	}
	w.others = w.others[:0]
	if w.differs {
		w.records.add(computed, func(_ int, _ int64, root Digest) { w.others = append(w.others, root) })
	}
	w.tree.add(committed, w.above)
	w.meet(place, committed)
	if place == w.head.Size {
		w.rootAt = w.tree.root()
		w.recordAt = w.rootAt
		if w.differs {
			w.recordAt = w.records.root()
		}
	}
}

// above holds a tile against a subtree. Where the leaves below are in doubt, it may have
// the root of either.
func (w *walk) above(level int, n int64, root Digest) {
	switch {
	case w.tiles == nil:
	case w.differs:
		w.tiles(level, n, root, w.others[level-1])
	default:
		w.tiles(level, n, root)
	}
}

// passing takes the heads that stand behind so many lines, and returns the rest. The
// one in the last line is that of the whole export.
func (w *walk) passing(heads []headAt, lines int) []headAt {
	for len(heads) > 0 && heads[0].behind == lines {
		h := heads[0].Checkpoint
		heads = heads[1:]
		switch {
		case h.Note == w.head.Note:
		case h.Size != w.last:
			w.find(Finding{Code: LineUnreadable, Place: w.last + 1, Want: fmt.Sprintf("a head of %s, which the lines before it are", Count(w.last, "record")), Got: fmt.Sprintf("one of %d", h.Size)})
		default:
			w.inside.next = seen{at: h.Size, digest: h.Root, note: h.Note}
			w.compare(w.inside, w.last, Digest{})
		}
	}
	return heads
}

// change keeps a record that is not the one that the tree has. Which of the two is
// wrong is known at the end.
func (w *walk) change(f Finding) {
	if f.Code == RecordMoved {
		w.moved++
	}
	w.changes++
	if len(w.changed) < 2*w.v.keep() {
		w.changed = append(w.changed, f)
	}
}

// advance reads the next line of a witness.
func (w *walk) advance(witness *Witness) error {
	before := witness.next
	for {
		err := witness.advance(func(line int64, err error) {
			w.find(Finding{Code: WitnessUnread, Want: "a head or a record", Got: err.Error(), Source: fmt.Sprintf("%s, line %d", witness.name, line)})
		})
		if err != nil || witness.next.at >= before.at {
			return err
		}
		w.back(witness, before)
	}
}

// back takes a line that goes back. For records that is in order: see lateSeen.
func (w *walk) back(witness *Witness, before seen) {
	if witness.next.note != "" {
		w.find(Finding{Code: WitnessBackwards, Place: witness.next.at, Want: fmt.Sprintf("a head of %s or more", Count(before.at, "record")),
			Got: fmt.Sprintf("one of %d", witness.next.at), Source: witness.position()})
		return
	}
	if len(w.late) < maxLate {
		w.late = append(w.late, lateSeen{witness.next, witness.position()})
	}
}

// schedule notes where the next witness is.
func (w *walk) schedule() {
	w.next = math.MaxInt64
	for _, witness := range w.v.Witnesses {
		w.next = min(w.next, witness.next.at)
	}
}

// meet holds a place against the witnesses of it.
func (w *walk) meet(place int64, leaf Digest) {
	if place < w.next {
		return
	}
	for _, witness := range w.v.Witnesses {
		for witness.next.at <= place && w.err == nil {
			w.compare(witness, place, leaf)
			w.err = w.advance(witness)
		}
	}
	w.schedule()
}

// compare holds one witness against the place. A head beyond ours is left for the end.
func (w *walk) compare(witness *Witness, place int64, leaf Digest) {
	s := witness.next
	switch {
	case s.at < place: // the head of no records, which every log extends
	case s.note == "":
		w.anchored(s, leaf, witness.position())
	case place > w.head.Size:
		w.ahead(witness)
	case w.tree.size != place: // there is no tree to compare it with, and the report says so
	case w.tree.root() == s.digest:
		w.report.Heads++
		w.agreed = place
	default:
		w.contradicted(witness, Finding{Code: Forked, Place: w.agreed + 1, Want: fmt.Sprintf("the root %s of %s", s.digest, Count(s.at, "record")), Got: w.tree.root().String()})
	}
}

// anchored holds a record that was seen elsewhere against the one that is there.
func (w *walk) anchored(s seen, leaf Digest, position string) {
	if s.digest == leaf {
		w.report.Anchored++
		w.agreed = max(w.agreed, s.at)
		return
	}
	w.find(Finding{Code: Forked, Place: s.at, ID: s.id, Want: s.digest.String(), Got: leaf.String(), Source: position})
}

// contradicted reports a head that this log does not extend, if the log signed it.
func (w *walk) contradicted(witness *Witness, f Finding) {
	f.Source = witness.position()
	if err := w.unsigned(witness); err != nil {
		f.Code, f.Want, f.Got = WitnessUnsigned, "a head of this log", err.Error()
	}
	w.find(f)
}

// unsigned says why the next head of a witness is none of this log's.
func (w *walk) unsigned(witness *Witness) error {
	_, err := w.v.open(witness.next.note)
	return err
}

// ahead takes a head of more records than ours has. A log that was put back lacks every
// head from after that, so of those that a witness has the first is reported, with how
// many more there are.
func (w *walk) ahead(witness *Witness) {
	switch s := witness.next; {
	case w.unsigned(witness) != nil:
		w.contradicted(witness, Finding{Place: w.head.Size + 1})
	case witness.ahead == nil:
		witness.ahead = &Finding{Code: RolledBack, Place: w.head.Size + 1, Source: witness.position(),
			Want: fmt.Sprintf("%s with the root %s", Count(s.at, "record"), s.digest), Got: Count(w.head.Size, "record")}
	default:
		witness.ahead.More++
	}
}

// beyond takes the witnesses of what this log does not reach.
func (w *walk) beyond() error {
	w.tellAhead(w.inside)
	for _, witness := range w.v.Witnesses {
		for !witness.ended && witness.next.at < math.MaxInt64 {
			if s := witness.next; s.note != "" {
				w.ahead(witness)
			} else {
				w.find(Finding{Code: RolledBack, Place: s.at, ID: s.id, Want: s.digest.String(), Got: "no record", Source: witness.position()})
			}
			if err := w.advance(witness); err != nil {
				return err
			}
		}
		w.tellAhead(witness)
	}
	return nil
}

func (w *walk) tellAhead(witness *Witness) {
	if witness.ahead != nil {
		w.find(*witness.ahead)
	}
}

// A library looks up what a walk has passed.
type library interface {
	records(ctx context.Context, ids []string) (map[string]past, error)
	leaves(ctx context.Context, places []int64) (map[int64]Digest, error)
}

// end concludes the report. A root that is not the head's says whether it is the
// records or the tiles that were changed.
func (w *walk) end(ctx context.Context, now time.Time, books library, pruned int64) (*Report, error) {
	if err := w.beyond(); err != nil {
		return nil, err
	}
	if err := w.revisit(ctx, books); err != nil {
		return nil, err
	}
	w.endTree()
	w.endPlaces(pruned)
	w.endUnplaced(now)
	if err := w.story.end(ctx, now, books.records, w.find); err != nil {
		return nil, err
	}
	w.report.conclude(w.broken, w.unfollowed())
	return w.report, nil
}

// endUnplaced reports records that should have their places by now, and those of a time
// to come, which would never be due.
func (w *walk) endUnplaced(now time.Time) {
	for _, e := range []event{w.oldest, w.newest} {
		age := now.Sub(time.UnixMilli(e.millis))
		if w.unplacedKnown && e.place > 0 && (age > unplacedAge || age < -aheadOf) {
			w.find(Finding{Code: RecordUnplaced, Place: e.place, ID: e.id, Want: "a place in the tree within " + unplacedAge.String(),
				Got: fmt.Sprintf("%s without, this one since %s", Count(w.report.Unplaced, "record"), age.Round(time.Second))})
			return
		}
	}
}

// unfollowed says what of the story was too much to follow.
func (w *walk) unfollowed() string {
	if !w.unplacedKnown {
		return w.broken
	}
	if w.withheld > 0 {
		return fmt.Sprintf("of %s there is the hash alone, and no record says that it was pruned", Count(w.withheld, "record"))
	}
	if w.story.unsigned {
		return "a record that says what was pruned or erased has no place in the tree yet: nobody signed it"
	}
	if w.story.overflow {
		return fmt.Sprintf("more than %d records settle what is no open intent", maxUnresolved)
	}
	if len(w.late) == maxLate {
		return fmt.Sprintf("more than %d lines of records seen elsewhere go back", maxLate)
	}
	return ""
}

// revisit looks at the places that witnesses went back to.
func (w *walk) revisit(ctx context.Context, books library) error {
	if len(w.late) == 0 {
		return nil
	}
	places := make([]int64, 0, len(w.late))
	for _, l := range w.late {
		places = append(places, l.at)
	}
	leaves, err := books.leaves(ctx, places)
	if err != nil {
		return err
	}
	for _, l := range w.late {
		w.anchored(l.seen, leaves[l.at], l.position)
	}
	return nil
}

// endTree holds the tree against the head, and says of what differs which is wrong.
func (w *walk) endTree() {
	tiles := w.differs && w.rootAt != w.head.Root && w.recordAt == w.head.Root
	for _, f := range w.changed {
		if tiles {
			f.Code, f.Want, f.Got = TileChanged, f.Got, f.Want
		}
		w.find(f)
	}
	if more := w.changes - int64(len(w.changed)); more > 0 {
		w.report.Counts[w.changed[len(w.changed)-1].Code] += more
	}
	switch {
	case w.broken != "" || w.head.Size == 0:
	case w.last < w.head.Size:
		w.absent(RecordMissing, w.last+1, w.head.Size, "a record, as the head counts it")
		w.broken = fmt.Sprintf("the head counts %s, and there are %d to build its tree of", Count(w.head.Size, "record"), w.last)
	case w.rootAt != w.head.Root && !tiles:
		w.find(Finding{Code: RootChanged, Place: w.agreed + 1, Want: w.head.Root.String(), Got: w.rootAt.String()})
	}
}

// endPlaces reports the places without a record, unless a record says that they were
// pruned.
func (w *walk) endPlaces(mark int64) {
	for _, s := range w.story.gone {
		w.report.Pruned += max(0, min(s.to, w.story.through)-s.from+1)
		from := max(s.from, w.story.through+1)
		if w.export {
			w.withheld += max(0, s.to-from+1)
			continue
		}
		w.absent(PruneUnrecorded, from, min(s.to, mark), "a record of "+ActionPruned+" with through= and this place or a later one")
		w.absent(RecordMissing, max(from, mark+1), s.to, "a record")
	}
	if w.story.goneMore > 0 {
		w.report.Counts[RecordMissing] += w.story.goneMore
	}
	w.story.partial = w.withheld > 0
}

func (w *walk) absent(code Code, from, to int64, want string) {
	if from > to {
		return
	}
	w.find(Finding{Code: code, Place: from, Want: want, Got: fmt.Sprintf("none up to place %d", to)})
	w.report.Counts[code] += to - from
}

// sortedBy are the keys of a map in the order of what key gives of their values.
func sortedBy[K cmp.Ordered, V any](m map[K]V, key func(V) int64) []K {
	return slices.SortedFunc(maps.Keys(m), func(a, b K) int { return cmp.Or(cmp.Compare(key(m[a]), key(m[b])), cmp.Compare(a, b)) })
}
