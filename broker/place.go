package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"agentkeys/audit"
)

// Placed is how an audit log stands after Place.
type Placed struct {
	Head   audit.Checkpoint // counts every record
	Behind []Lag            // the anchors that lack something; the next start brings it
}

// Lag is an anchor, or the file of heads, that did not take all that there is.
type Lag struct{ Anchor, Reason string }

// Place gives the records that a command wrote while no broker ran, and what a broker
// that was cut off left, their places in the audit log, and brings the signed head and
// the records to the anchors: what Run does at its end, and by the same code. Of the
// configuration it needs Store, Audit, Heads, Anchors, Now and Log.
//
// It may be cut off anywhere, or fail: what is not done then is left to the next start,
// which finds it as it finds what a broker left. The error is about the log itself. It
// is audit.ErrBroken where no other try can mend it. An anchor that fails is in Behind.
//
// Nobody else may have the database. Place waits for a hung anchor as long as the end of
// Run does, some seconds.
func Place(ctx context.Context, c Config) (Placed, error) {
	fail := func(err error) (Placed, error) {
		return Placed{}, fmt.Errorf("giving records their place in the audit log: %w", err)
	}
	if err := c.checkKeeping(); err != nil {
		return fail(err)
	}
	b, err := keeping(c)
	if err != nil {
		return fail(err)
	}
	if err := b.finishLog(ctx, b.startFollowing(ctx)); err != nil {
		return fail(err)
	}
	return Placed{b.log.newest(), b.behind(ctx)}, nil
}

// checkKeeping wants what it takes to keep an audit log.
func (c Config) checkKeeping() error {
	switch {
	case c.Store == nil:
		return errors.New("a store is required")
	case c.Now == nil, c.Log == nil:
		return errors.New("a clock and a log are required")
	case c.Audit == nil, c.Heads == nil:
		return errors.New("an audit log and a place for its heads are required")
	}
	return c.checkAnchors()
}

// keeping is a broker that can keep its audit log, and nothing else yet. It reads how
// far the log came.
func keeping(c Config) (*Broker, error) {
	b := &Broker{Config: c, started: c.Now(), log: newSequence(),
		transact: c.Store.Update, place: c.Store.Update, anchorFor: anchorTimeout}
	for _, a := range append([]Anchor{{Name: headsAnchor, Publish: c.Heads, Look: c.LookAtHeads}}, c.Anchors...) {
		b.followers = append(b.followers, b.follow(a))
	}
	return b, b.openLog(context.Background())
}

// startFollowing has the followers follow until the function that it returns is called,
// which waits until each brought what was left, or gave up.
func (b *Broker) startFollowing(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var followers sync.WaitGroup // end with ctx
	for _, f := range b.followers {
		followers.Go(func() { f.run(ctx) })
	}
	return func() {
		cancel()
		followers.Wait()
	}
}

// finishLog gives the records that are left their places, has the followers bring what is
// left, and keeps how far they are. A log that is known to be broken is not extended.
func (b *Broker) finishLog(ctx context.Context, stopFollowing func()) error {
	var extended error
	if b.log.whole() == nil {
		extended = b.extend(ctx)
	}
	b.noteHead(ctx)
	stopFollowing()
	return errors.Join(extended, b.keepCursors(ctx))
}

// behind are the followers that did not bring everything.
func (b *Broker) behind(ctx context.Context) (lags []Lag) {
	ctx = context.WithoutCancel(ctx)
	for _, f := range b.followers {
		bring, _, err := f.next(ctx, f.at())
		if err == nil && bring == nil {
			continue
		}
		f.mu.Lock()
		lag := Lag{f.name, f.reason}
		f.mu.Unlock()
		if err != nil {
			lag.Reason = err.Error()
		}
		lags = append(lags, lag)
	}
	return lags
}
