package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// blockSize is how much of an export a worker reads at once, in bytes.
const blockSize = 1 << 20

// Export verifies an export of the log: a line for each record (see Entry.Line), and
// the head that they lead to in the last line, {"checkpoint":"…"}, or in checkpoint,
// which is "" where there is none beside the export. Exports that continue one another
// make one when they are put together in order. An error says that the export could
// not be read, and is no verdict.
func (v *Verification) Export(ctx context.Context, r io.ReaderAt, size int64, checkpoint string) (*Report, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	report, err := v.export(ctx, exportFile{r, size}, checkpoint)
	if err != nil {
		return nil, fmt.Errorf("verifying the export: %w", err)
	}
	return report, nil
}

func (v *Verification) export(ctx context.Context, file exportFile, checkpoint string) (*Report, error) {
	head, err := file.head()
	if err != nil {
		return nil, err
	}
	if head.Note == "" && checkpoint != "" {
		if head, err = claimed(checkpoint); err != nil {
			return nil, fmt.Errorf("reading the checkpoint: %w", err)
		}
	}
	w, err := v.newWalk(head)
	if err != nil {
		return nil, err
	}
	w.total, w.export = head.Size, true
	if head.Note != "" {
		w.checkSignature(head.Note)
	} else {
		w.broken = "there is no head in the export, and none beside it"
		w.unplacedKnown = false
	}
	team, ctx := newCrew(ctx, v.workers())
	for range v.workers() {
		team.run(func() error {
			for j := range team.jobs {
				j.out <- readBlock(j)
				blocks.Put(&j.block)
			}
			return nil
		})
	}
	team.run(func() error {
		defer close(team.order)
		defer close(team.jobs)
		return file.each(func(offset int64, block []byte) bool {
			return team.give(ctx, job{first: offset, size: head.Size, block: block})
		})
	})
	err = team.collect(ctx, func(c *chunk) error {
		w.straighten(c)
		return w.absorb(c)
	})
	if err == nil {
		err = context.Cause(ctx)
	}
	team.cancel(err)
	team.group.Wait()
	if err != nil {
		return nil, err
	}
	return w.end(ctx, time.UnixMilli(w.story.lastMilli), file, 0)
}

// straighten drops from a chunk the lines that repeat a place or go back, and says
// where places are missing. Without their leaves there is no tree from there on.
func (w *walk) straighten(c *chunk) {
	kept, last := 0, w.last
	for i, place := range c.places {
		if place <= last {
			w.find(Finding{Code: RecordTwice, Place: place, Want: fmt.Sprintf("place %d", last+1), Got: fmt.Sprintf("place %d", place)})
			for j := range c.heads {
				if c.heads[j].behind > kept {
					c.heads[j].behind--
				}
			}
			continue
		}
		if place > last+1 {
			w.absent(RecordMissing, last+1, place-1, "a line for each place, of pruned records too")
			w.cut(fmt.Sprintf("the tree cannot be built without the leaves of the places %d to %d", last+1, place-1))
		}
		c.places[kept], c.committed[kept], c.computed[kept] = place, c.committed[i], c.computed[i]
		kept, last = kept+1, place
	}
	for i := range c.findings {
		if c.findings[i].Place == 0 { // before the first place of its block
			c.findings[i].Place = w.last + 1
		}
	}
	c.places, c.committed, c.computed = c.places[:kept], c.committed[:kept], c.computed[:kept]
}

// cut gives the tree up.
func (w *walk) cut(why string) {
	if w.broken == "" {
		w.broken = why
	}
}

// An exportFile is an export.
type exportFile struct {
	r    io.ReaderAt
	size int64
}

// head is the checkpoint in the last line, and of size 0 where there is none.
func (f exportFile) head() (Checkpoint, error) {
	tail := make([]byte, min(f.size, MaxLine))
	if _, err := f.r.ReadAt(tail, f.size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return Checkpoint{}, err
	}
	tail = bytes.TrimSuffix(tail, []byte("\n"))
	c, _, err := parseEnd(tail[bytes.LastIndexByte(tail, '\n')+1:])
	if err != nil {
		return Checkpoint{}, nil // the line is read again, and found to be none
	}
	return c, nil
}

// blocks are buffers that were read.
var blocks = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

// each gives the export in blocks of whole lines until give is false.
func (f exportFile) each(give func(offset int64, block []byte) bool) error {
	for offset := int64(0); offset < f.size; {
		block := (*blocks.Get().(*[]byte))[:blockSize]
		n, err := f.r.ReadAt(block[:min(blockSize, f.size-offset)], offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			return fmt.Errorf("want %d bytes, got %d", f.size, offset)
		}
		block = block[:n]
		if end := bytes.LastIndexByte(block, '\n'); end >= 0 {
			block = block[:end+1]
		}
		length := int64(len(block)) // before it is given away
		if !give(offset, block) {
			return nil
		}
		offset += length
	}
	return nil
}

// readBlock reads the lines of a block.
func readBlock(j job) *chunk {
	c := newChunk()
	place, offset := int64(0), j.first
	for line := range bytes.Lines(j.block) {
		at, err := c.line(line, place, j.size)
		if err != nil {
			c.findings = append(c.findings, Finding{Code: LineUnreadable, Place: min(place, 1) * (place + 1), Want: "a line of an export", Got: err.Error(), Source: fmt.Sprintf("byte %d", offset)})
		}
		place, offset = at, offset+int64(len(line))
	}
	return c
}

// line reads one line and returns the place that it is of, or the one before where it
// is of none.
func (c *chunk) line(text []byte, place, size int64) (int64, error) {
	if head, is, err := parseEnd(text); is {
		if err == nil {
			c.heads = append(c.heads, headAt{len(c.places), head})
		}
		return place, err
	}
	if !bytes.HasSuffix(text, []byte("\n")) {
		return place, errors.New("the line has no end")
	}
	l, err := ParseLine(text)
	if err != nil {
		return place, err
	}
	if l.Leaf == nil {
		c.gone = append(c.gone, span{l.Place, l.Place})
		c.add(l.Place, l.Hash, l.Hash)
		return l.Place, nil
	}
	scan, err := parseLeaf(l.Leaf)
	if err != nil {
		c.add(l.Place, l.Hash, l.Hash)
		return l.Place, err
	}
	return l.Place, c.record(&l, scan, size)
}

// record takes a line of a record apart.
func (c *chunk) record(l *RawLine, scan leafScan, size int64) error {
	leaf := hashLeaf(l.Leaf)
	c.add(l.Place, l.Hash, leaf)
	if leaf != l.Hash {
		c.changed = append(c.changed, Finding{Code: RecordChanged, Place: l.Place, ID: string(scan.id), Want: l.Hash.String(), Got: leaf.String()})
	}
	if l.Person != nil {
		if digest := digestOf(l.Salt, l.Person); digest.String() != string(scan.person) {
			c.findings = append(c.findings, Finding{Code: RecordChanged, Place: l.Place, ID: string(scan.id),
				Want: "personal members with the digest " + string(scan.person), Got: digest.String()})
		}
	}
	at, err := time.Parse(time.RFC3339, string(scan.time))
	if err != nil {
		return fmt.Errorf("leaf: time: want RFC 3339, got %.40q", scan.time)
	}
	e := event{place: l.Place, id: string(scan.id), settles: string(scan.settles), outcome: outcomeOf(scan.outcome), millis: at.UnixMilli(), erased: l.Person == nil, unplaced: l.Place > size}
	if e.unplaced {
		c.unplaced(e)
	}
	c.tell(e, string(scan.action), string(scan.detail))
	return nil
}

// outcomeOf spares most records a copy.
func outcomeOf(text []byte) string {
	switch string(text) {
	case Pending:
		return Pending
	case Confirmed:
		return Confirmed
	case Issued:
		return Issued
	}
	return string(text)
}

// records goes through the export again.
func (f exportFile) records(_ context.Context, ids []string) (map[string]past, error) {
	wanted := make(map[string]bool, len(ids))
	for _, id := range ids {
		wanted[id] = true
	}
	found := make(map[string]past)
	err := f.lines(func(l *RawLine) {
		if l.Leaf == nil {
			return
		}
		if scan, err := parseLeaf(l.Leaf); err == nil && wanted[string(scan.id)] {
			found[string(scan.id)] = past{l.Place, string(scan.outcome)}
		}
	})
	return found, err
}

// leaves goes through the export again.
func (f exportFile) leaves(_ context.Context, places []int64) (map[int64]Digest, error) {
	wanted := make(map[int64]bool, len(places))
	for _, place := range places {
		wanted[place] = true
	}
	found := make(map[int64]Digest)
	err := f.lines(func(l *RawLine) {
		if wanted[l.Place] {
			found[l.Place] = l.Hash
		}
	})
	return found, err
}

// lines gives the lines of records that can be read.
func (f exportFile) lines(take func(*RawLine)) error {
	return f.each(func(_ int64, block []byte) bool {
		for line := range bytes.Lines(block) {
			if l, err := ParseLine(line); err == nil {
				take(&l)
			}
		}
		blocks.Put(&block)
		return true
	})
}
