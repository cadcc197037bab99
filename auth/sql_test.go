package auth

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"agentkeys/identity"
	"agentkeys/store"
)

func newStore(t *testing.T) *store.Store {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agentkeys.db")
	if err := store.Create(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t *testing.T, s *store.Store, fn func(ctx context.Context, tx *sql.Tx) error) {
	t.Helper()
	ctx := t.Context()
	if err := s.Update(ctx, func(tx *sql.Tx) error { return fn(ctx, tx) }); err != nil {
		t.Fatal(err)
	}
}

func save(t *testing.T, s *store.Store, w *Wallet, c Challenge) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *sql.Tx) error { return w.Save(ctx, tx, c) })
}

// verify answers a challenge as the broker does: read, recover outside the
// write transaction, finish. It is called from many goroutines at once.
func verify(ctx context.Context, s *store.Store, w *Wallet, requestID, signature string, now time.Time) (identity.Identity, *Error, error) {
	var c Challenge
	err := s.View(ctx, func(tx *sql.Tx) (err error) {
		c, err = w.Pending(ctx, tx, requestID)
		return err
	})
	var refusal *Error
	if err != nil && !errors.As(err, &refusal) {
		return identity.Identity{}, nil, err
	}
	recovered, recoverErr := "", err
	if err == nil {
		recovered, recoverErr = w.Recover(c, signature)
	}
	var id identity.Identity
	err = s.Update(ctx, func(tx *sql.Tx) (err error) {
		id, refusal, err = w.Finish(ctx, tx, requestID, recovered, recoverErr, now)
		return err
	})
	return id, refusal, err
}

func wantRefused(t *testing.T, s *store.Store, w *Wallet, requestID, signature string, now time.Time, code string) {
	t.Helper()
	id, refusal, err := verify(t.Context(), s, w, requestID, signature, now)
	if err != nil {
		t.Fatal(err)
	}
	if refusal == nil {
		t.Fatalf("signed in as %v, want the refusal %s", id, code)
	}
	wantCode(t, refusal, code)
	if id != (identity.Identity{}) {
		t.Errorf("the refusal %s came with the identity %v", code, id)
	}
}

func TestSignInWithAnEthersSignature(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{ChainIDs: []int64{1}})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	signature := loadVectors(t).Answers.Allowed[0].Signature

	var pending Challenge
	if err := s.View(t.Context(), func(tx *sql.Tx) (err error) {
		pending, err = w.Pending(t.Context(), tx, c.RequestID)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if pending != c {
		t.Errorf("stored challenge %+v, want %+v", pending, c)
	}
	now := issued.Add(time.Minute)
	id, refusal, err := verify(t.Context(), s, w, c.RequestID, signature, now)
	if err != nil || refusal != nil {
		t.Fatalf("refusal %v, error %v", refusal, err)
	}
	if want := (identity.Identity{Type: identity.EVM, Value: c.Address}); id != want {
		t.Errorf("identity %v, want %v", id, want)
	}
	update(t, s, func(ctx context.Context, tx *sql.Tx) error {
		a, err := identity.SignIn(ctx, tx, id, now)
		if err == nil && a.Wallet != c.Address {
			t.Errorf("account %+v, want the wallet %s", a, c.Address)
		}
		return err
	})
	wantRefused(t, s, w, c.RequestID, signature, now, CodeRequestUsed)
	wantRefused(t, s, w, c.RequestID, signature, now.Add(24*time.Hour), CodeRequestUsed)
}

// One wrong answer, of any kind, and the right one comes too late.
func TestAnyAnswerConsumesTheChallenge(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	answers := loadVectors(t).Answers
	c := vectorChallenge(t, w)
	for _, a := range answers.Refused {
		t.Run(a.Name, func(t *testing.T) {
			save(t, s, w, c)
			wantRefused(t, s, w, c.RequestID, a.Signature, issued, a.Code)
			wantRefused(t, s, w, c.RequestID, answers.Allowed[0].Signature, issued, CodeRequestUsed)
			forget(t, s, c.ExpiresAt.Add(time.Millisecond), 1)
			wantRefused(t, s, w, c.RequestID, answers.Allowed[0].Signature, issued, CodeRequestUnknown)
		})
	}
}

func forget(t *testing.T, s *store.Store, before time.Time, want int64) {
	t.Helper()
	update(t, s, func(ctx context.Context, tx *sql.Tx) error {
		n, err := Expire(ctx, tx, before)
		if err == nil && n != want {
			t.Errorf("expired %d challenges before %v, want %d", n, before, want)
		}
		return err
	})
}

func TestFinishMindsTheTime(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	signature := loadVectors(t).Answers.Allowed[0].Signature
	for name, test := range map[string]struct {
		now  time.Time
		code string // "" signs in
	}{
		"at once":                 {c.IssuedAt, ""},
		"last instant":            {c.ExpiresAt.Add(-time.Nanosecond), ""},
		"at the end":              {c.ExpiresAt, CodeRequestExpired},
		"years after":             {c.ExpiresAt.AddDate(5, 0, 0), CodeRequestExpired},
		"clock back by leeway":    {c.IssuedAt.Add(-clockLeeway), ""},
		"clock back beyond":       {c.IssuedAt.Add(-clockLeeway - time.Nanosecond), CodeClockBackwards},
		"clock at its zero":       {time.Unix(0, 0), CodeClockBackwards},
		"same instant, else zone": {c.IssuedAt.In(time.FixedZone("", -8*3600)), ""},
	} {
		t.Run(name, func(t *testing.T) {
			save(t, s, w, c)
			if test.code == "" {
				if id, refusal, err := verify(t.Context(), s, w, c.RequestID, signature, test.now); err != nil || refusal != nil || id.Value != c.Address {
					t.Errorf("identity %v, refusal %v, error %v", id, refusal, err)
				}
			} else {
				wantRefused(t, s, w, c.RequestID, signature, test.now, test.code)
			}
			wantRefused(t, s, w, c.RequestID, signature, c.IssuedAt, CodeRequestUsed)
			forget(t, s, c.ExpiresAt.Add(time.Millisecond), 1)
		})
	}
}

// Fifty answers at once, all right: one signs in.
func TestOneOfManyAnswersAtOnceSignsIn(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	signature := loadVectors(t).Answers.Allowed[0].Signature
	const answers = 50
	outcomes := make(chan string, answers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for range answers {
		wg.Go(func() {
			<-start
			id, refusal, err := verify(t.Context(), s, w, c.RequestID, signature, issued)
			switch {
			case err != nil:
				outcomes <- err.Error()
			case refusal != nil:
				outcomes <- refusal.Code
			default:
				outcomes <- id.Value
			}
		})
	}
	close(start)
	wg.Wait()
	close(outcomes)
	count := map[string]int{}
	for o := range outcomes {
		count[o]++
	}
	if count[c.Address] != 1 || count[CodeRequestUsed] != answers-1 {
		t.Errorf("outcomes %v, want one sign-in and %d times %s", count, answers-1, CodeRequestUsed)
	}
}

// What comes back from the database is what went in, to the last bit that the
// message holds; a used challenge does not come back.
func TestPending(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c, err := w.NewChallenge("0x"+strings.Repeat("0", 40), maxChainID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, w, c)
	pending := func() (got Challenge, err error) {
		err = s.View(t.Context(), func(tx *sql.Tx) error {
			got, err = w.Pending(t.Context(), tx, c.RequestID)
			return err
		})
		return got, err
	}
	if got, err := pending(); err != nil || got != c {
		t.Errorf("got %+v, %v; want %+v", got, err, c)
	}
	if refusal := w.checkMessage(c); refusal != nil {
		t.Errorf("our own message: %v", refusal)
	}
	wantRefused(t, s, w, c.RequestID, "", c.IssuedAt, CodeSignatureMalformed)
	got, err := pending()
	wantCode(t, err, CodeRequestUsed)
	if got != (Challenge{}) {
		t.Errorf("a used challenge came back: %+v", got)
	}
	forget(t, s, c.ExpiresAt.Add(time.Hour), 1)
	_, err = pending()
	wantCode(t, err, CodeRequestUnknown)
}

// An answer to one challenge is none to another, not even of the same wallet.
func TestAnswerIsForItsOwnChallenge(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	second, err := w.NewChallenge(c.Address, 1, issued)
	if err != nil {
		t.Fatal(err)
	}
	save(t, s, w, second)
	signature := loadVectors(t).Answers.Allowed[0].Signature
	wantRefused(t, s, w, second.RequestID, signature, issued, CodeWrongSigner)
	if _, refusal, err := verify(t.Context(), s, w, c.RequestID, signature, issued); err != nil || refusal != nil {
		t.Errorf("its own challenge: refusal %v, error %v", refusal, err)
	}
}

func TestRequestIDsThatAreNone(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	signature := loadVectors(t).Answers.Allowed[0].Signature
	for _, id := range []string{
		"", "siwe-", "siwe-" + rand.Text(), c.RequestID + " ", strings.ToLower(c.RequestID), c.RequestID + "\x00", "%", "_",
		"siwe-%", "' OR '1'='1", c.Nonce, strings.TrimPrefix(c.RequestID, "siwe-"), strings.Repeat("A", 1<<16),
	} {
		wantRefused(t, s, w, id, signature, issued, CodeRequestUnknown)
	}
	if _, refusal, err := verify(t.Context(), s, w, c.RequestID, signature, issued); err != nil || refusal != nil {
		t.Errorf("the real one, after that: refusal %v, error %v", refusal, err)
	}
}

func TestFinishChecksTheChainAgain(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	narrowed := newTestWallet(t, WalletConfig{ChainIDs: []int64{10}})
	wantRefused(t, s, narrowed, c.RequestID, loadVectors(t).Answers.Allowed[0].Signature, issued, CodeChainNotAllowed)
}

// An error of unknown origin consumes the challenge too, and its text, which
// may hold anything, goes no further.
func TestFinishHidesForeignErrors(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	update(t, s, func(ctx context.Context, tx *sql.Tx) error {
		id, refusal, err := w.Finish(ctx, tx, c.RequestID, c.Address, errors.New("0xsecret"), issued)
		wantCode(t, refusal, CodeBadSignature)
		if strings.Contains(refusal.Detail, "secret") || id != (identity.Identity{}) {
			t.Errorf("identity %v, refusal %v", id, refusal)
		}
		return err
	})
	wantRefused(t, s, w, c.RequestID, "", issued, CodeRequestUsed)
}

// Finish without a recovered address, by whatever mistake, signs nobody in.
func TestFinishWithoutAnAddress(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	c.Address = ""
	save(t, s, w, c)
	update(t, s, func(ctx context.Context, tx *sql.Tx) error {
		_, refusal, err := w.Finish(ctx, tx, c.RequestID, "", nil, issued)
		wantCode(t, refusal, CodeWrongSigner)
		return err
	})
}

func TestSaveRefusesASecondOfTheSame(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	sameNonce := c
	sameNonce.RequestID += "X"
	for name, again := range map[string]Challenge{"request id": c, "nonce": sameNonce} {
		err := s.Update(t.Context(), func(tx *sql.Tx) error { return w.Save(t.Context(), tx, again) })
		if err == nil || strings.Contains(err.Error(), c.Nonce) {
			t.Errorf("the same %s again: %v", name, err)
		}
	}
}

func TestExpireDeletesOnlyWhatExpiredBefore(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	forget(t, s, c.ExpiresAt, 0)
	forget(t, s, c.ExpiresAt.Add(time.Millisecond), 1)
	forget(t, s, c.ExpiresAt.Add(time.Hour), 0)
}

func TestDatabaseErrorsAreNoRefusals(t *testing.T) {
	s, w := newStore(t), newTestWallet(t, WalletConfig{})
	c := vectorChallenge(t, w)
	save(t, s, w, c)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Update(t.Context(), func(tx *sql.Tx) error {
		var refusal *Error
		if _, err := w.Pending(ended, tx, c.RequestID); err == nil || errors.As(err, &refusal) {
			t.Errorf("Pending: %v", err)
		}
		if _, refusal, err := w.Finish(ended, tx, c.RequestID, c.Address, nil, issued); err == nil || refusal != nil {
			t.Errorf("Finish: refusal %v, error %v", refusal, err)
		}
		if _, err := Expire(ended, tx, issued); err == nil {
			t.Error("Expire: no error")
		}
		return nil
	})
}
