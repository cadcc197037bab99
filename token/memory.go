package token

import (
	"container/heap"
	"crypto/sha256"
	"sync"
	"time"
)

// maxRemembered bounds the verified sessions that are kept in mind: about 6 MB
// with wallets, and at most 30 MB if every identity had the longest value.
const maxRemembered = 10_000

type digest [sha256.Size]byte

func digestOf(raw string) digest { return sha256.Sum256([]byte(raw)) }

// memory remembers verified session tokens, and nothing that was refused.
//
// The key is the digest of the whole token, signature included: remembering by
// header and claims alone would let any signature through after the first good
// one. ECDSA has two valid signatures for one text, which whoever holds the
// token can compute, so a session has at most one entry: the second form takes
// the place of the first, and one sign-in never takes up two places.
//
// When the room is used up, the session that ends first makes way. Somebody
// with very many sessions can so make others be verified again, which costs
// time and no more.
type memory struct {
	capacity int

	mu       sync.Mutex // guards the rest
	byDigest map[digest]*remembered
	byID     map[string]*remembered
	byEnd    endingFirst
}

type remembered struct {
	digest  digest
	session verified
	index   int // in byEnd
}

func newMemory(capacity int) *memory {
	return &memory{capacity: capacity, byDigest: map[digest]*remembered{}, byID: map[string]*remembered{}}
}

// recall returns the session of a token that was verified before. Its times
// are the caller's to check.
func (m *memory) recall(d digest, now time.Time) (verified, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byDigest[d]
	if !ok {
		return verified{}, false
	}
	session := e.session
	m.dropEnded(now)
	return session, true
}

// remember keeps a session whose token has just been verified.
func (m *memory) remember(d digest, session verified, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dropEnded(now)
	if old, ok := m.byID[session.ID]; ok {
		m.drop(old)
	}
	e := &remembered{digest: d, session: session}
	m.byDigest[d] = e
	m.byID[session.ID] = e
	heap.Push(&m.byEnd, e)
	for len(m.byEnd) > m.capacity {
		m.drop(m.byEnd[0])
	}
}

func (m *memory) forget(jti string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byID[jti]; ok {
		m.drop(e)
	}
}

func (m *memory) dropEnded(now time.Time) {
	for len(m.byEnd) > 0 && !now.Before(m.byEnd[0].session.ExpiresAt) {
		m.drop(m.byEnd[0])
	}
}

func (m *memory) drop(e *remembered) {
	heap.Remove(&m.byEnd, e.index)
	delete(m.byDigest, e.digest)
	delete(m.byID, e.session.ID)
}

// endingFirst is a heap whose first entry is the session that ends first.
type endingFirst []*remembered

func (h endingFirst) Len() int { return len(h) }

func (h endingFirst) Less(i, j int) bool {
	return h[i].session.ExpiresAt.Before(h[j].session.ExpiresAt)
}

func (h endingFirst) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *endingFirst) Push(x any) {
	e := x.(*remembered)
	e.index = len(*h)
	*h = append(*h, e)
}

func (h *endingFirst) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
