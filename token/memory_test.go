package token

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// check holds what must be true of a memory after every step.
func (m *memory) check(t *testing.T) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.byEnd) > m.capacity {
		t.Fatalf("want at most %d remembered, got %d", m.capacity, len(m.byEnd))
	}
	if len(m.byDigest) != len(m.byEnd) || len(m.byID) != len(m.byEnd) {
		t.Fatalf("want the same number everywhere, got %d by end, %d by digest, %d by id", len(m.byEnd), len(m.byDigest), len(m.byID))
	}
	for i, e := range m.byEnd {
		if e.index != i || m.byDigest[e.digest] != e || m.byID[e.session.ID] != e {
			t.Fatalf("entry %d is not where it says", i)
		}
		if parent := m.byEnd[(i-1)/2]; i > 0 && e.session.ExpiresAt.Before(parent.session.ExpiresAt) {
			t.Fatalf("entry %d ends before the one above it", i)
		}
	}
}

func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byEnd)
}

// After a good token was remembered, its header and claims with any other
// signature must not pass.
func TestMemoryIsNotPoisoned(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	raw, _ := issue(t, sessions, testSubject)
	if _, err := sessions.Verify(raw, testNow); err != nil {
		t.Fatal(err)
	}
	forged := raw[:strings.LastIndexByte(raw, '.')+1] + strings.Repeat("A", 86)
	for range 2 {
		_, err := sessions.Verify(forged, testNow)
		wantCode(t, err, CodeBadSignature)
	}
	if n := sessions.memory.size(); n != 1 {
		t.Errorf("want 1 remembered, got %d", n)
	}
}

func TestRefusalsAreNotRemembered(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	sessions := newSessions(t, key)
	raw, session := issue(t, sessions, testSubject)
	other, _ := issue(t, newSessions(t, newTestKey(t, PurposeSession)), testSubject)
	for range 2 {
		for _, bad := range []string{"", "x", raw + "x", other} {
			if _, err := sessions.Verify(bad, testNow); err == nil {
				t.Fatalf("accepted %q", bad)
			}
		}
		_, err := sessions.Verify(raw, session.ExpiresAt)
		wantCode(t, err, CodeTokenExpired)
		_, err = sessions.Verify(raw, session.IssuedAt.Add(-time.Hour))
		wantCode(t, err, CodeClockBackwards)
		if n := sessions.memory.size(); n != 0 {
			t.Fatalf("want nothing remembered of refusals, got %d", n)
		}
	}
	// A refusal for the time leaves no mark: when the time is right, it passes.
	if _, err := sessions.Verify(raw, testNow); err != nil {
		t.Error(err)
	}
}

// ECDSA has a second signature for the same text, (r, n-s), that anybody can
// compute from the first. ES256 accepts it, so do we; but one session must not
// fill the memory twice, and Forget must drop it whichever form it came in.
func TestSecondSignatureFormTakesNoSecondPlace(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	raw, session := issue(t, sessions, testSubject)
	twin := malleate(t, raw)
	for _, form := range []string{raw, twin, raw, twin, twin} {
		got, err := sessions.Verify(form, testNow)
		if err != nil || got != session {
			t.Fatalf("want the session in both forms, got %v, %v", got, err)
		}
		sessions.memory.check(t)
		if n := sessions.memory.size(); n != 1 {
			t.Fatalf("want 1 remembered, got %d", n)
		}
	}
	sessions.Forget(session.ID)
	if n := sessions.memory.size(); n != 0 {
		t.Errorf("want nothing remembered, got %d", n)
	}
}

func malleate(t testing.TB, raw string) string {
	t.Helper()
	c, err := parseCompact(raw)
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(c.signature[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(c.signature[32:])
	return c.input + "." + base64.RawURLEncoding.EncodeToString(c.signature)
}

func TestForget(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	raw, session := issue(t, sessions, testSubject)
	if _, err := sessions.Verify(raw, testNow); err != nil {
		t.Fatal(err)
	}
	sessions.Forget("another")
	if n := sessions.memory.size(); n != 1 {
		t.Errorf("want the session remembered after another was forgotten, got %d", n)
	}
	sessions.Forget(session.ID)
	sessions.Forget(session.ID)
	sessions.memory.check(t)
	if n := sessions.memory.size(); n != 0 {
		t.Errorf("want nothing remembered, got %d", n)
	}
	if _, err := sessions.Verify(raw, testNow); err != nil {
		t.Errorf("forgetting is not revoking, as its comment says: %v", err)
	}
}

func TestEndedSessionsAreDropped(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	raw, session := issue(t, sessions, testSubject)
	if _, err := sessions.Verify(raw, testNow); err != nil {
		t.Fatal(err)
	}
	_, err := sessions.Verify(raw, session.ExpiresAt)
	wantCode(t, err, CodeTokenExpired)
	if n := sessions.memory.size(); n != 0 {
		t.Errorf("want the ended session dropped, got %d remembered", n)
	}
}

func entry(id int, end time.Time) (digest, verified) {
	name := fmt.Sprint(id)
	return digestOf(name), verified{Session: Session{ID: name, ExpiresAt: end}}
}

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(100)
	for i := range 10_000 {
		d, v := entry(i, testNow.Add(time.Hour+time.Duration(i)))
		m.remember(d, v, testNow)
	}
	m.check(t)
	for i := range 10_000 {
		d, _ := entry(i, testNow)
		if _, ok := m.recall(d, testNow); ok != (i >= 9_900) {
			t.Fatalf("want the 100 that end last, got %t for entry %d", ok, i)
		}
	}
}

// A walk of random steps against a plain map.
func TestMemoryInvariant(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	const capacity, ids = 16, 40
	m := newMemory(capacity)
	model := map[int]time.Time{}
	now := testNow
	for range 20_000 {
		id := random.IntN(ids)
		switch random.IntN(4) {
		case 0, 1:
			end := now.Add(time.Duration(1+random.IntN(20)) * time.Second)
			if _, known := model[id]; !known { // one session, one end
				d, v := entry(id, end)
				m.remember(d, v, now)
				model[id] = end
			}
		case 2:
			m.forget(fmt.Sprint(id))
			delete(model, id)
		case 3:
			now = now.Add(time.Duration(random.IntN(3)) * time.Second)
		}
		for id, end := range model {
			if !now.Before(end) {
				delete(model, id)
			}
		}
		d, _ := entry(id, now)
		got, ok := m.recall(d, now)
		if _, known := model[id]; ok && now.Before(got.ExpiresAt) && !known {
			t.Fatalf("entry %d is remembered and should not be", id)
		}
		m.check(t)
		for id := range model { // those that made way
			if _, kept := m.byID[fmt.Sprint(id)]; !kept {
				if len(m.byEnd) < capacity {
					t.Fatalf("entry %d is gone while there is room", id)
				}
				delete(model, id)
			}
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	sessions := newSessions(t, newTestKey(t, PurposeSession))
	sessions.memory = newMemory(4)
	var raws []string
	var issued []Session
	for range 8 {
		raw, session := issue(t, sessions, testSubject)
		raws, issued = append(raws, raw, malleate(t, raw)), append(issued, session, session)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 100 {
				at := (i*7 + g) % len(raws)
				got, err := sessions.Verify(raws[at], testNow)
				if err != nil || got != issued[at] {
					t.Errorf("want session %s, got %s, %v", issued[at].ID, got.ID, err)
				}
				switch i % 5 {
				case 1:
					sessions.Forget(issued[at].ID)
				case 2:
					if _, err := sessions.Verify(raws[at]+"x", testNow); err == nil {
						t.Error("a changed token was accepted")
					}
				case 3:
					if _, err := sessions.Verify(raws[at], issued[at].ExpiresAt); err == nil {
						t.Error("an ended session was accepted")
					}
				}
			}
		})
	}
	wg.Wait()
	sessions.memory.check(t)
}
