package grant

import (
	"context"
	"database/sql"
	"sync"
	"time"
)

// maxKnown bounds the grants that are known, and so their memory: some 7 MB.
const maxKnown = 4_000

// Known keeps what never changes of grants that were found by their names, so that a
// call with one need not read it again: who granted what to whom, and until when.
// Whether such a grant was revoked or is used up it does not know; Use finds out. The zero
// value knows nothing yet. It may be used concurrently.
type Known struct {
	mu     sync.Mutex
	grants map[string]known // by ID; guarded by mu
}

// known is a grant as New made it, and the session policy that was compiled for it last.
type known struct {
	Grant
	target Target
	path   Path
	policy string // "" where none was
}

// Find is like the function Find, but for a request that names its grant it may return
// one that has been revoked or used up meanwhile, which Use then refuses.
func (k *Known) Find(ctx context.Context, tx *sql.Tx, r Request, now time.Time) (Grant, error) {
	if r.GrantID == "" {
		return Find(ctx, tx, r, now)
	}
	if before, ok := k.get(r.GrantID); ok && Check(before.Grant, r, now) == nil {
		return before.Grant, nil
	}
	g, err := Find(ctx, tx, r, now) // which knows the reason, where there is one
	if err == nil {
		k.put(known{Grant: g})
	}
	return g, err
}

// SessionPolicy is like the function SessionPolicy, for a path under a grant of Find. It
// compiles the one of the call before no second time.
func (k *Known) SessionPolicy(t Target, g Grant, p Path) (string, error) {
	found, ok := k.get(g.ID)
	if ok && found.policy != "" && found.target == t && found.path == p {
		return found.policy, nil
	}
	text, err := SessionPolicy(t, g.Tenant, p, g.Actions, g.ExpiresAt)
	if err == nil && ok {
		found.target, found.path, found.policy = t, p, text
		k.put(found)
	}
	return text, err
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

func (k *Known) get(id string) (known, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	g, ok := k.grants[id]
	return g, ok
}

func (k *Known) put(g known) {
	g.UsedCount, g.LastUsedAt, g.LastRecord = 0, time.Time{}, ""
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.grants == nil {
		k.grants = make(map[string]known)
	}
	if _, ok := k.grants[g.ID]; !ok && len(k.grants) == maxKnown {
		for other := range k.grants { // whichever: it is read again
			delete(k.grants, other)
			break
		}
	}
	k.grants[g.ID] = g
}
