package audit

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// ids gives the IDs of this process.
var ids = &generator{entropy: ulid.Monotonic(rand.Reader, 0)}

// A generator gives ULIDs that only grow. When the times it is given go
// backwards it stays at the latest one, and within a millisecond it counts up by
// a random step, so an ID tells nothing of how many came between.
type generator struct {
	mu      sync.Mutex // guards the rest
	entropy *ulid.MonotonicEntropy
	last    uint64 // Unix milliseconds of the newest ID
}

func (g *generator) next(t time.Time) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = max(g.last, ulid.Timestamp(t))
	id, err := ulid.New(g.last, g.entropy)
	if err != nil {
		return "", fmt.Errorf("making a ULID: %w", err)
	}
	return id.String(), nil
}
