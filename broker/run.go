package broker

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	settleEvery = 5 * time.Second
	keepEvery   = time.Second // how far the anchors are
)

// Run does what a broker does beside answering, until ctx ends: it gives records their
// places in the audit log, brings them to the anchors, and settles and forgets the
// calls that are due. While it does not run, no answer leaves that has to wait for an
// anchor. It ends with what is left of each, for a few seconds at most; no request
// may be under way by then, or its record waits for the next start.
//
// Before the broker serves, SettleAll must have settled what an earlier process left.
func (b *Broker) Run(ctx context.Context) {
	stopFollowing := b.startFollowing(ctx)
	var others sync.WaitGroup // end with ctx
	b.noteHead(ctx)
	others.Go(func() { b.extendAlways(ctx) })
	others.Go(func() { every(ctx, noteOldEvery, func() { b.noteOld(ctx) }) })
	others.Go(func() { every(ctx, settleEvery, func() { b.note(ctx, "settling", b.Settle(ctx)) }) })
	others.Go(func() {
		every(ctx, keepEvery, func() { b.note(ctx, "keeping how far the anchors are", b.keepCursors(ctx)) })
	})
	others.Wait()
	b.note(ctx, "ending the audit log", b.finishLog(ctx, stopFollowing))
}

// every calls do at intervals until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			do()
		}
	}
}

// note has the log of the broker tell of an error in the background.
func (b *Broker) note(ctx context.Context, what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) { // that is the end of ctx
		b.Log.WarnContext(ctx, what+" failed; it is tried again", "error", err)
	}
}
