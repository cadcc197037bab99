package grant

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// maxKnown bounds the grants that are known, and so their memory: some 5 MB.
const maxKnown = 10_000

// Known keeps what never changes of grants that were found by their names, so that a
// call with one need not read it again: who granted what to whom, and until when.
// Whether such a grant was revoked or is used up it does not know; Use finds out. The zero
// value knows nothing yet. It may be used concurrently.
type Known struct {
	mu     sync.Mutex
	grants map[string]Grant // by ID, as New made them; guarded by mu
}

// Find is like the function Find, but for a request that names its grant it may return
// one that has been revoked or used up meanwhile, which Use then refuses.
func (k *Known) Find(ctx context.Context, tx *sql.Tx, r Request, now time.Time) (Grant, error) {
	if r.GrantID == "" {
		return Find(ctx, tx, r, now)
	}
	if g, ok := k.get(r.GrantID); ok && Check(g, r, now) == nil {
		return g, nil
	}
	g, err := Find(ctx, tx, r, now) // which knows the reason, where there is one
	if err == nil {
		k.put(g)
	}
	return g, err
}

// Use is like the function Use. A grant that it refuses is known no longer, so that
// Find says it the next time.
func (k *Known) Use(ctx context.Context, tx *sql.Tx, g Grant, record string, now time.Time) error {
	err := Use(ctx, tx, g, record, now)
	if err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.grants, g.ID)
	}
	return err
}

func (k *Known) get(id string) (Grant, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g, ok := k.grants[id]
	return g, ok
}

func (k *Known) put(g Grant) {
	g.UsedCount, g.LastUsedAt, g.LastRecord = 0, time.Time{}, ""
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.grants == nil {
		k.grants = make(map[string]Grant)
	}
	if len(k.grants) == maxKnown {
		for other := range k.grants { // whichever: it is read again
			delete(k.grants, other)
			break
		}
	}
	k.grants[g.ID] = g
}
