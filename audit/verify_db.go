package audit

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// chunkPlaces is how many places a worker reads at once: whole tiles.
const chunkPlaces = 16 * tileWidth

// errMoved says that the transactions of the workers see two states of the log.
var errMoved = errors.New("the log grew while it was opened")

// Database verifies the log of a database. view runs a function in a read transaction
// of its own, as store.View does; the verification reads one state of the log in some
// of them side by side, so a broker may go on writing. An error says that the log could
// not be looked at, and is no verdict.
func (v *Verification) Database(ctx context.Context, view func(context.Context, func(*sql.Tx) error) error) (*Report, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	const tries = 1000 // each fails only where a commit comes within microseconds
	for range tries {
		report, err := v.database(ctx, view)
		if !errors.Is(err, errMoved) {
			if err != nil {
				return nil, fmt.Errorf("verifying the audit log: %w", err)
			}
			return report, nil
		}
	}
	return nil, fmt.Errorf("verifying the audit log: %w, %d times", errMoved, tries)
}

// A state is what tells two states of a log apart.
type state struct {
	headless               bool // there is no row for the head
	size                   int64
	note                   string
	unhashed, pruned       int64
	first, last, lastGiven int64
}

func readState(ctx context.Context, tx *sql.Tx) (s state, err error) {
	err = tx.QueryRowContext(ctx, "SELECT size, note, unhashed, pruned FROM audit_head WHERE id = 1").Scan(&s.size, &s.note, &s.unhashed, &s.pruned)
	if errors.Is(err, sql.ErrNoRows) {
		s.headless, err = true, nil
	}
	if err == nil {
		err = tx.QueryRowContext(ctx, `SELECT coalesce(min(seq), 1), coalesce(max(seq), 0),
			coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'audit_records'), 0) FROM audit_records`).Scan(&s.first, &s.last, &s.lastGiven)
	}
	if err != nil {
		return s, fmt.Errorf("reading the state of the log: %w", err)
	}
	return s, nil
}

// A job is a part of a log that a worker reads.
type job struct {
	first, last int64 // of a database
	size        int64 // of its tree
	block       []byte
	out         chan *chunk // has room for the one chunk
}

// A crew reads the parts of a log side by side.
type crew struct {
	jobs   chan job
	order  chan job // as they were given out
	cancel context.CancelCauseFunc
	group  sync.WaitGroup
}

func newCrew(ctx context.Context, workers int) (*crew, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	return &crew{jobs: make(chan job), order: make(chan job, 2*workers), cancel: cancel}, ctx
}

// run runs f until it ends or fails, which ends the others as well.
func (c *crew) run(f func() error) {
	c.group.Go(func() {
		if err := f(); err != nil {
			c.cancel(err)
		}
	})
}

// give hands out a part. It is false when the work was called off.
func (c *crew) give(ctx context.Context, j job) bool {
	j.out = make(chan *chunk, 1)
	select {
	case c.order <- j:
	case <-ctx.Done():
		return false
	}
	select {
	case c.jobs <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// collect takes the chunks in the order in which their parts were given out.
func (c *crew) collect(ctx context.Context, absorb func(*chunk) error) error {
	for j := range c.order {
		select {
		case chunk := <-j.out:
			if err := absorb(chunk); err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return context.Cause(ctx)
}

// database verifies once. The states are read at the same time in all transactions.
func (v *Verification) database(ctx context.Context, view func(context.Context, func(*sql.Tx) error) error) (report *Report, err error) {
	workers := v.workers()
	team, ctx := newCrew(ctx, workers)
	states, start := make(chan state, workers), make(chan struct{})
	for range workers {
		team.run(func() error { return view(ctx, func(tx *sql.Tx) error { return work(ctx, tx, team, states, start) }) })
	}
	team.run(func() error {
		return view(ctx, func(tx *sql.Tx) (err error) {
			s, err := readState(ctx, tx)
			if err != nil {
				return err
			}
			for range workers {
				select {
				case other := <-states:
					if other != s {
						return errMoved
					}
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			close(start)
			report, err = v.walkDatabase(ctx, tx, team, s)
			return err
		})
	})
	team.group.Wait()
	err = context.Cause(ctx)
	team.cancel(nil)
	if err != nil {
		return nil, err
	}
	return report, nil
}

// work reads parts in a transaction of its own.
func work(ctx context.Context, tx *sql.Tx, team *crew, states chan<- state, start <-chan struct{}) error {
	s, err := readState(ctx, tx)
	if err != nil {
		return err
	}
	states <- s
	select {
	case <-start:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	reader := &rowReader{ctx: context.WithoutCancel(ctx), tx: tx, state: s} // a context to watch costs more than a row
	for {
		select {
		case j, more := <-team.jobs:
			if !more {
				return nil
			}
			j.out <- reader.read(j)
		case <-ctx.Done(): // also where nobody gives out parts any more
			return context.Cause(ctx)
		}
	}
}

// head is what the head claims to be, signed or not.
func (s state) head() Checkpoint {
	if s.note == "" {
		return Checkpoint{}
	}
	c, err := claimed(s.note)
	if err != nil {
		return Checkpoint{Size: s.size}
	}
	return c
}

func (v *Verification) walkDatabase(ctx context.Context, tx *sql.Tx, team *crew, s state) (*Report, error) {
	head := s.head()
	reach, err := reachOf(ctx, tx, s)
	if err != nil {
		return nil, err
	}
	if _, err := v.open(s.note); err != nil {
		reach = s.last
	}
	head.Size = min(head.Size, reach) // whoever wrote it may have written any size
	w, err := v.newWalk(head)
	if err != nil {
		return nil, err
	}
	tiles := &tileReader{ctx: ctx, tx: tx, size: head.Size, find: w.find}
	w.tiles, w.total = tiles.made, max(s.last, head.Size)
	w.checkHead(s)
	for _, change := range v.Schema {
		w.find(Finding{Code: SchemaChanged, Want: "the schema that the broker made", Got: change})
	}
	team.run(func() error {
		defer close(team.order)
		defer close(team.jobs)
		for first := int64(1); first <= w.total; first += chunkPlaces {
			if !team.give(ctx, job{first: first, last: min(first+chunkPlaces-1, w.total), size: head.Size}) {
				break
			}
		}
		return nil
	})
	if err := team.collect(ctx, w.absorb); err != nil {
		return nil, err
	}
	if err := tiles.extra(); err != nil {
		return nil, err
	}
	return w.end(ctx, v.now(), shelf{tx}, s.pruned)
}

func (v *Verification) now() time.Time {
	if v.Now.IsZero() {
		return time.Now()
	}
	return v.Now
}

// reachOf is the last place of which there can be a record or a leaf.
func reachOf(ctx context.Context, tx *sql.Tx, s state) (int64, error) {
	var tiles int64
	if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM audit_tiles WHERE level = 0").Scan(&tiles); err != nil {
		return 0, fmt.Errorf("counting tiles: %w", err)
	}
	return max(s.last, tiles*tileWidth), nil
}

// checkHead looks at what the database says of the head and of the places.
func (w *walk) checkHead(s state) {
	head := s.head()
	switch {
	case s.headless:
		w.find(Finding{Code: HeadUnsigned, Want: "a head", Got: "none"})
	case s.note == "" && s.size == 0:
		w.broken = "the log has no head yet: nothing is signed"
	case s.size != w.head.Size && head.Size != w.head.Size:
		w.find(Finding{Code: HeadSize, Place: w.head.Size + 1, Want: fmt.Sprintf("%s, as the head says", Count(head.Size, "record")), Got: fmt.Sprintf("records and tiles of %d", w.head.Size)})
	case s.size != head.Size:
		w.find(Finding{Code: HeadSize, Place: min(s.size, head.Size) + 1, Want: fmt.Sprintf("%s, as the head says", Count(head.Size, "record")), Got: strconv.FormatInt(s.size, 10)})
	}
	if s.note != "" {
		w.checkSignature(s.note)
	}
	if s.first < 1 {
		w.find(Finding{Code: RecordOutside, Place: s.first, Want: "places from 1", Got: fmt.Sprintf("one at %d", s.first)})
	}
	if last := max(s.last, s.pruned); s.lastGiven > last {
		w.find(Finding{Code: RecordsCut, Place: last + 1, Want: fmt.Sprintf("records up to place %d, the last that the database gave", s.lastGiven), Got: fmt.Sprintf("up to %d", last)})
	}
}

// checkSignature looks whether a verifier signed the head.
func (w *walk) checkSignature(text string) {
	if _, err := w.v.open(text); err != nil {
		w.find(Finding{Code: HeadUnsigned, Want: "a head that " + w.v.Verifiers[0].Name() + " signed", Got: err.Error()})
	}
}

// A rowReader reads parts of a log in one transaction.
type rowReader struct {
	ctx   context.Context
	tx    *sql.Tx
	state state
}

// A part is what a rowReader reads at once.
type part struct {
	*chunk
	job
	stored   []Digest // the leaves from first on as the tree has them
	unhashed int64
}

func (r *rowReader) read(j job) *chunk {
	p := &part{chunk: newChunk(), job: j, unhashed: r.state.unhashed}
	if err := r.leaves(p, j.first, min(j.last, j.size)); err != nil {
		return &chunk{err: err}
	}
	if err := r.rows(p); err != nil {
		return &chunk{err: err}
	}
	p.moves()
	return p.chunk
}

// rows reads the records of a part.
func (r *rowReader) rows(p *part) error {
	rows, err := r.tx.QueryContext(r.ctx, "SELECT "+rowText+" FROM audit_records NOT INDEXED WHERE seq >= $1 AND seq <= $2 ORDER BY seq", p.first, p.last)
	if err != nil {
		return fmt.Errorf("reading records from place %d: %w", p.first, err)
	}
	defer rows.Close()
	next := p.first
	for rows.Next() {
		var text sql.NullString
		if err := rows.Scan(&text); err != nil {
			return fmt.Errorf("reading records from place %d: %w", next, err)
		}
		var at row
		unread := at.parse(text.String)
		if at.Seq < next || at.Seq > p.last {
			return fmt.Errorf("reading the record at place %d: %w", next, cmp.Or(unread, fmt.Errorf("got place %d", at.Seq)))
		}
		p.missing(next, at.Seq-1)
		p.take(&at, unread)
		next = at.Seq + 1
	}
	p.missing(next, p.last)
	return rows.Err()
}

// leaves reads the leaves as the tree has them. Those of a tile that is missing, or
// too short, are zero.
func (r *rowReader) leaves(p *part, first, last int64) error {
	if last < first {
		return nil
	}
	p.stored = make([]Digest, last-first+1)
	rows, err := r.tx.QueryContext(r.ctx, "SELECT n, hashes FROM audit_tiles WHERE level = 0 AND n >= $1 AND n <= $2 ORDER BY n", (first-1)/tileWidth, (last-1)/tileWidth)
	if err != nil {
		return fmt.Errorf("reading tiles: %w", err)
	}
	defer rows.Close()
	next := (first - 1) / tileWidth
	for rows.Next() {
		var n int64
		var data sql.RawBytes
		if err := rows.Scan(&n, &data); err != nil {
			return fmt.Errorf("reading tiles: %w", err)
		}
		p.absentTiles(next, n-1)
		p.tile(n, data)
		next = n + 1
	}
	p.absentTiles(next, (last-1)/tileWidth)
	return rows.Err()
}

func (p *part) tile(n int64, data []byte) {
	tile := p.stored[n*tileWidth+1-p.first:]
	tile = tile[:min(tileWidth, len(tile))]
	for i := range min(len(tile), len(data)/tlog.HashSize) {
		tile[i] = Digest(data[i*tlog.HashSize:])
	}
	if len(data) != len(tile)*tlog.HashSize {
		p.findings = append(p.findings, Finding{Code: TileChanged, Place: n*tileWidth + 1, Want: fmt.Sprintf("tile %d of level 0 with %d hashes", n, len(tile)), Got: fmt.Sprintf("%d bytes", len(data))})
	}
}

func (p *part) absentTiles(from, to int64) {
	for n := from; n <= to; n++ {
		p.findings = append(p.findings, Finding{Code: TileChanged, Place: n*tileWidth + 1, Want: fmt.Sprintf("tile %d of level 0", n), Got: "none"})
	}
}

// missing notes places without a record. Their leaves are those that the tree has.
func (p *part) missing(from, to int64) {
	if from > to {
		return
	}
	p.gone = append(p.gone, span{from, to})
	for place := from; place <= min(to, p.size); place++ {
		p.add(place, p.stored[place-p.first], p.stored[place-p.first])
	}
}

// take adds a record that is there.
func (p *part) take(at *row, unread error) {
	var leaf Digest
	if unread == nil {
		leaf, unread = at.leafHash()
	}
	committed := leaf
	e := event{place: at.Seq, id: at.ID, settles: at.Settles, outcome: at.Outcome, millis: at.millis, erased: len(at.person) > 0, unplaced: at.Seq > p.size}
	if e.unplaced {
		p.unplaced(e)
	} else if tile := p.stored[at.Seq-p.first]; tile != (Digest{}) {
		committed = tile
	}
	p.add(at.Seq, committed, leaf)
	p.judge(at, unread, committed, leaf)
	p.tell(e, at.Action, at.Detail)
}

// judge holds a record against the tree and against the hash beside it.
func (p *part) judge(at *row, unread error, committed, leaf Digest) {
	f := Finding{Code: RecordChanged, Place: at.Seq, ID: at.ID, Want: committed.String(), Got: leaf.String()}
	legacy := at.hash == "" && at.Seq <= p.unhashed
	switch {
	case unread != nil:
		f.Got = unread.Error()
		if committed == leaf { // behind the head there is nothing but the hash beside it
			f.Want = hexOf([]byte(at.hash))
		}
		p.changed = append(p.changed, f)
	case committed != leaf:
		p.changed = append(p.changed, f)
	case !legacy && at.hash != string(leaf[:]):
		f.Code, f.Want, f.Got = HashChanged, leaf.String(), hexOf([]byte(at.hash))
		p.findings = append(p.findings, f)
	}
}

// A tileReader holds the tiles above the first level against the tree.
type tileReader struct {
	ctx  context.Context
	tx   *sql.Tx
	size int64
	find func(Finding)
	now  map[int]tileAt // the tile of each level that is being compared
}

type tileAt struct {
	n    int64
	data []byte
}

// made looks for one of the hashes in the tiles.
func (t *tileReader) made(level int, n int64, roots ...Digest) {
	at, ok := t.now[level]
	if !ok || at.n != n/tileWidth {
		at = t.load(level, n/tileWidth)
	}
	i := n % tileWidth * tlog.HashSize
	got := at.data[min(i, int64(len(at.data))):min(i+tlog.HashSize, int64(len(at.data)))]
	if !slices.ContainsFunc(roots, func(root Digest) bool { return string(got) == string(root[:]) }) {
		t.find(Finding{Code: TileChanged, Place: n<<(tileHeight*level) + 1, Want: roots[0].String(), Got: fmt.Sprintf("%s in tile %d of level %d", hexOf(got), n/tileWidth, level)})
	}
}

func (t *tileReader) load(level int, n int64) tileAt {
	at := tileAt{n: n}
	err := t.tx.QueryRowContext(t.ctx, "SELECT hashes FROM audit_tiles WHERE level = $1 AND n = $2", level, n).Scan(&at.data)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.find(Finding{Code: TileChanged, Place: n<<(tileHeight*(level+1)) + 1, Want: "a tile", Got: err.Error()})
	}
	width := min(tileWidth, t.size>>(tileHeight*level)-n*tileWidth)
	if got := int64(len(at.data)); got > width*tlog.HashSize {
		t.find(Finding{Code: TileChanged, Place: n<<(tileHeight*(level+1)) + 1, Want: fmt.Sprintf("a tile of %d hashes", width), Got: fmt.Sprintf("%d bytes", got)})
	}
	if t.now == nil {
		t.now = make(map[int]tileAt)
	}
	t.now[level] = at
	return at
}

// extra reports tiles that no tree of this size has.
func (t *tileReader) extra() error {
	rows, err := t.tx.QueryContext(t.ctx, "SELECT level, n FROM audit_tiles ORDER BY level, n")
	if err != nil {
		return fmt.Errorf("reading tiles: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var level, n int64
		if err := rows.Scan(&level, &n); err != nil {
			return fmt.Errorf("reading tiles: %w", err)
		}
		if level < 0 || level > 7 || n < 0 || n > (t.size>>(tileHeight*level)-1)/tileWidth || t.size>>(tileHeight*level) == 0 {
			t.find(Finding{Code: TileExtra, Place: t.size + 1, Want: fmt.Sprintf("the tiles of %s", Count(t.size, "record")), Got: fmt.Sprintf("tile %d of level %d", n, level)})
		}
	}
	return rows.Err()
}

// A shelf is the library of a database.
type shelf struct{ tx *sql.Tx }

func (s shelf) records(ctx context.Context, ids []string) (map[string]past, error) {
	found := make(map[string]past)
	for _, id := range ids {
		var p past
		err := s.tx.QueryRowContext(ctx, "SELECT seq, outcome FROM audit_records WHERE id = $1", id).Scan(&p.place, &p.outcome)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("reading audit record %.40q: %w", id, err)
		}
		found[id] = p
	}
	return found, nil
}

func (s shelf) leaves(ctx context.Context, places []int64) (map[int64]Digest, error) {
	found := make(map[int64]Digest)
	for _, place := range slices.Compact(slices.Sorted(slices.Values(places))) {
		data, err := readTile(ctx, s.tx, 0, (place-1)/tileWidth, int((place-1)%tileWidth)+1)
		if err != nil {
			continue // the tile was found to be missing already
		}
		found[place] = Digest(data[len(data)-tlog.HashSize:])
	}
	return found, nil
}
