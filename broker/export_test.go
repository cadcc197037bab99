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

// SetAnchorTimeout sets how long the anchors have, of a broker that does not serve
// yet.
func (b *Broker) SetAnchorTimeout(d time.Duration) { b.anchorFor = d }
