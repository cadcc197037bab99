package identity

import (
	"database/sql"
	"path/filepath"
	"sync"
	"testing"
	"time"

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

func signIn(t *testing.T, s *store.Store, id Identity, now time.Time) (a Account, err error) {
	t.Helper()
	err = s.Update(t.Context(), func(tx *sql.Tx) error {
		a, err = SignIn(t.Context(), tx, id, now)
		return err
	})
	return a, err
}

func countAccounts(t *testing.T, s *store.Store) (n int) {
	t.Helper()
	err := s.View(t.Context(), func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), `SELECT count(*) FROM accounts`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestSignInMakesOneAccountPerIdentity(t *testing.T) {
	s := newStore(t)
	ids := []Identity{
		{EVM, lowerAddress}, {Email, "alice@example.com"}, {Email, "bob@example.com"}, {OAuth2Google, "alice@example.com"},
	}
	for range 2 {
		for _, id := range ids {
			a, err := signIn(t, s, id, noon)
			if err != nil {
				t.Fatal(err)
			}
			want := Account{id.OmniAccount(), id, id.Wallet(), noon, noon}
			if a != want {
				t.Errorf("account %+v, want %+v", a, want)
			}
		}
	}
	if n := countAccounts(t, s); n != len(ids) {
		t.Errorf("%d accounts, want %d", n, len(ids))
	}
}

func TestLastSignInNeverMovesBackwards(t *testing.T) {
	s := newStore(t)
	id := Identity{EVM, lowerAddress}
	last := noon
	for _, step := range []time.Duration{0, time.Hour, -time.Hour, 2 * time.Hour, time.Hour, -1000 * time.Hour, 2*time.Hour + time.Millisecond} {
		now := noon.Add(step)
		if now.After(last) {
			last = now
		}
		a, err := signIn(t, s, id, now.In(time.FixedZone("", 7*3600)))
		if err != nil {
			t.Fatal(err)
		}
		if a.LastSignInAt != last || a.CreatedAt != noon {
			t.Errorf("at %v: last %v, created %v; want %v, %v", now, a.LastSignInAt, a.CreatedAt, last, noon)
		}
	}
}

func TestSignInRefusesAnIdentityThatIsNotCanonical(t *testing.T) {
	s := newStore(t)
	for _, id := range []Identity{{}, {EVM, eip55[4]}, {Email, "Alice@example.com"}, {"admin", "1"}} {
		if a, err := signIn(t, s, id, noon); err == nil || a != (Account{}) {
			t.Errorf("%v signed in: %+v, %v", id, a, err)
		}
	}
	if n := countAccounts(t, s); n != 0 {
		t.Errorf("%d accounts, want none", n)
	}
}

// Rows that were changed behind our back stop the sign-in.
func TestSignInRefusesAnAccountOfSomebodyElse(t *testing.T) {
	id := Identity{EVM, lowerAddress}
	other := Identity{EVM, "0x" + lowerAddress[4:] + "00"}
	mail := Identity{Email, "alice@example.com"}
	for name, row := range map[string][]any{
		"other identity under the account": {id.OmniAccount(), "evm", other.Value, other.Value},
		"other wallet under the account":   {id.OmniAccount(), "evm", id.Value, other.Value},
		"no wallet under the account":      {id.OmniAccount(), "evm", id.Value, nil},
		"identity under another account":   {other.OmniAccount(), "evm", id.Value, id.Value},
		"other mail under the account":     {mail.OmniAccount(), "email", "mallory@example.com", nil},
		"other type under the account":     {mail.OmniAccount(), "oauth2_google", mail.Value, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStore(t)
			err := s.Update(t.Context(), func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), `INSERT INTO accounts
					(omni_account, identity_type, identity_value, wallet, created_at, last_sign_in_at)
					VALUES ($1, $2, $3, $4, 0, 0)`, row...)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			who := id
			if row[0] == mail.OmniAccount() {
				who = mail
			}
			if a, err := signIn(t, s, who, noon); err == nil || a != (Account{}) {
				t.Errorf("signed in as %+v, %v", a, err)
			}
		})
	}
}

func TestSignInsAtOnceMakeOneAccount(t *testing.T) {
	s := newStore(t)
	id := Identity{EVM, lowerAddress}
	var wg sync.WaitGroup
	for n := range 50 {
		wg.Go(func() {
			if _, err := signIn(t, s, id, noon.Add(time.Duration(n)*time.Second)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := signIn(t, s, id, noon)
	if err != nil || a.LastSignInAt != noon.Add(49*time.Second) || countAccounts(t, s) != 1 {
		t.Errorf("after 50 sign-ins: %+v, %v", a, err)
	}
}
