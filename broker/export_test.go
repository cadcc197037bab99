package broker

import (
	"context"
	"database/sql"
	"time"
)

// How long a call of STS waits after an attempt.
var (
	Backoff = backoff
	Wait    = wait
)

// MaxCallSkew is the most that CallSkew may be, KeepAnswers how long calls are
// remembered.
const (
	MaxCallSkew = maxCallSkew
	KeepAnswers = keepAnswers
)

// PendingTime is how long an intent may be without an outcome.
const PendingTime = pendingTime

// Routes names every route of the public listener.
func Routes() []string {
	var routes []string
	for _, rt := range table {
		routes = append(routes, rt.method+" "+rt.path)
	}
	return routes
}

// Transact is what Store.Update does.
type Transact func(context.Context, func(*sql.Tx) error) error

// WrapTransactions puts faults around every transaction of a broker that does not
// serve yet.
func (b *Broker) WrapTransactions(wrap func(Transact) Transact) { b.transact = wrap(b.transact) }

// WrapPlacing puts faults around the transactions that give records their places, of a
// broker that does not serve yet.
func (b *Broker) WrapPlacing(wrap func(Transact) Transact) { b.place = wrap(b.place) }

// CatchUp has anchors that work again be tried without a pause, and returns when none
// lacks anything.
func (b *Broker) CatchUp(ctx context.Context) error {
	return b.until(ctx, func(s standing) bool { return s.upto >= b.log.end() && !s.open })
}

// AwaitAnchors does so, and returns when none is given up.
func (b *Broker) AwaitAnchors(ctx context.Context) error {
	return b.until(ctx, func(s standing) bool { return !s.open })
}

func (b *Broker) until(ctx context.Context, good func(standing) bool) error {
	for _, f := range b.anchors() {
		for !good(f.standing()) {
			nudge(f.probe)
			nudge(f.wake)
			select {
			case <-time.After(5 * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// SetAnchorTimeout sets how long the anchors have, of a broker that does not serve
// yet.
func (b *Broker) SetAnchorTimeout(d time.Duration) { b.anchorFor = d }
