package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"agentkeys/api"
	"agentkeys/audit"
)

// Anchor is a place beside the database where what is recorded is made durable too.
// It has one of Put and Publish, which is called from one goroutine, one call at a
// time; a call that does not return by the end of its context holds up this anchor
// alone. An error that has a method Public() string says with it what of it anybody may
// read in the answer of readiness; of other errors the log alone tells.
type Anchor struct {
	Name string // lower-case word, as in the answer's "anchored"

	// Put keeps records. It returns nil once all of them are durable there. They come
	// in the order of the log, from the one behind the last that the anchor has; those
	// that it may have come again, which must do no harm.
	Put func(context.Context, ...audit.Entry) error
	// Publish keeps the signed heads of the log, and with them what the records are,
	// if not what they say. It returns nil once the head is durable there. They come
	// in the order of their sizes, not all of them, and the newest may come again.
	Publish func(context.Context, audit.Checkpoint) error

	// Has is how far the anchor is when the broker starts: it has all up to that
	// place. nil is for one that cannot tell; then the database remembers it, which
	// may be less.
	Has func() int64

	// Look says, without bringing anything, whether the anchor could take what comes. It
	// is asked now and then while there is nothing to bring. nil is for one that can only
	// be tried.
	Look func(context.Context) error
}

// The names of the database, and of the file of heads, among the anchors.
const (
	databaseAnchor = "sqlite"
	headsAnchor    = "heads"
)

// checkAnchors wants each anchor to have a name of its own and one way to it.
func (c Config) checkAnchors() error {
	for i, a := range c.Anchors {
		same := func(other Anchor) bool { return other.Name == a.Name }
		if a.Name == "" || a.Name == databaseAnchor || a.Name == headsAnchor || slices.ContainsFunc(c.Anchors[:i], same) {
			return fmt.Errorf("anchors: want names of their own, got %q", a.Name)
		}
		if (a.Put == nil) == (a.Publish == nil) {
			return fmt.Errorf("anchor %s: want a way to put records or one to publish heads", a.Name)
		}
	}
	return nil
}

// anchors are the followers of the anchors.
func (b *Broker) anchors() []*follower { return b.followers[1:] }

// heads is the follower of the file of heads, which nobody waits for.
func (b *Broker) heads() *follower { return b.followers[0] }

// appended lets those know who follow that the records up to a place are durable.
func (b *Broker) appended(c *call) {
	if c.place == 0 {
		return
	}
	urgent := !b.AnchorsFollow && slices.ContainsFunc(b.Anchors, func(a Anchor) bool { return a.Publish != nil })
	b.log.appended(c.place, urgent)
	for _, f := range b.anchors() {
		nudge(f.wake)
	}
}

// awaitAnchors returns once the records of the last commit are where they must be
// before the answer leaves: at every anchor, unless the anchors follow. One that
// hangs is given up after anchorTimeout. Its error is what the client gets.
func (b *Broker) awaitAnchors(c *call) error {
	if err := b.log.whole(); err != nil {
		return fmt.Errorf("%w: %w", errLogBroken(), err)
	}
	if b.AnchorsFollow || c.place == 0 || len(b.Anchors) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), b.anchorFor)
	defer cancel()
	var errs []error
	for _, f := range b.anchors() {
		if err := f.wait(ctx, c.place); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", api.Errorf(api.CodeAuditUnavailable, "an anchor did not take the record"), err)
	}
	return nil
}

func errLogBroken() *api.Error {
	return api.Errorf(api.CodeAuditUnavailable, "the audit log is not as it was left")
}

// anchoredOnRelease names the places that have a record whenever its answer leaves.
func (b *Broker) anchoredOnRelease() []string {
	names := []string{databaseAnchor}
	if !b.AnchorsFollow {
		for _, f := range b.anchors() {
			names = append(names, f.name)
		}
	}
	return names
}

// anchoredAt names every place that has the records up to one.
func (b *Broker) anchoredAt(place int64) []string {
	names := []string{databaseAnchor}
	for _, f := range b.anchors() {
		if f.at() >= place {
			names = append(names, f.name)
		}
	}
	return names
}
