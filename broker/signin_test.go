package broker_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/client"
)

func newWallet(t *testing.T) *client.Wallet {
	t.Helper()
	w, err := client.NewWallet()
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func start(t *testing.T, k *agentkeystest.Broker, w *client.Wallet) api.WalletStartResponse {
	t.Helper()
	s, err := k.Client.StartWallet(t.Context(), w.Address(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChallengeIsAnEIP4361MessageOfTheIssuer(t *testing.T) {
	k := agentkeystest.New(t)
	w := newWallet(t)
	s := start(t, k, w)
	m, err := auth.ParseMessage(s.SIWEMessage)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(k.Issuer, "http://")
	if m.Domain != host || m.URI != k.Issuer || m.Address != w.Address() || m.ChainID != "1" || m.Nonce != s.Nonce {
		t.Errorf("message %+v, want domain %s, URI %s, address %s and nonce %s", m, host, k.Issuer, w.Address(), s.Nonce)
	}
	if !strings.HasPrefix(s.RequestID, "siwe-") || s.ExpiresInSeconds != 45*60 {
		t.Errorf("request %s, expires in %d s", s.RequestID, s.ExpiresInSeconds)
	}
	if at, err := time.Parse(time.RFC3339, s.ExpiresAtISO); err != nil || !at.Equal(k.Clock.Now().Add(45*time.Minute)) {
		t.Errorf("expires at %s (%v)", s.ExpiresAtISO, err)
	}
	if m.ExpirationTime != s.ExpiresAtISO {
		t.Errorf("the message expires at %s, the answer says %s", m.ExpirationTime, s.ExpiresAtISO)
	}
}

func TestWalletRefusals(t *testing.T) {
	k := agentkeystest.New(t)
	w, stranger := newWallet(t), newWallet(t)
	for _, tc := range []struct {
		name   string
		answer func() (api.Session, error)
		code   api.Code
		status int
	}{
		{"another wallet's signature", func() (api.Session, error) {
			s := start(t, k, w)
			return k.Client.VerifyWallet(t.Context(), s.RequestID, stranger.SignMessage(s.SIWEMessage))
		}, api.CodeWrongSigner, 401},
		{"signature over another text", func() (api.Session, error) {
			s := start(t, k, w)
			return k.Client.VerifyWallet(t.Context(), s.RequestID, w.SignMessage(s.SIWEMessage+" "))
		}, api.CodeWrongSigner, 401},
		{"no signature at all", func() (api.Session, error) {
			return k.Client.VerifyWallet(t.Context(), start(t, k, w).RequestID, "0x")
		}, api.CodeSignatureMalformed, 401},
		{"request nobody made", func() (api.Session, error) {
			return k.Client.VerifyWallet(t.Context(), "siwe-unknown", w.SignMessage("x"))
		}, api.CodeRequestUnknown, 401},
		{"request of another's answer", func() (api.Session, error) {
			a, b := start(t, k, w), start(t, k, w)
			return k.Client.VerifyWallet(t.Context(), a.RequestID, w.SignMessage(b.SIWEMessage))
		}, api.CodeWrongSigner, 401},
		{"used", func() (api.Session, error) {
			s := start(t, k, w)
			signature := w.SignMessage(s.SIWEMessage)
			if _, err := k.Client.VerifyWallet(t.Context(), s.RequestID, signature); err != nil {
				t.Error(err)
			}
			return k.Client.VerifyWallet(t.Context(), s.RequestID, signature)
		}, api.CodeRequestUsed, 401},
		{"used up by a wrong answer", func() (api.Session, error) {
			s := start(t, k, w)
			_, err := k.Client.VerifyWallet(t.Context(), s.RequestID, stranger.SignMessage(s.SIWEMessage))
			wantCode(t, err, api.CodeWrongSigner)
			return k.Client.VerifyWallet(t.Context(), s.RequestID, w.SignMessage(s.SIWEMessage))
		}, api.CodeRequestUsed, 401},
		{"expired", func() (api.Session, error) {
			s := start(t, k, w)
			k.Clock.Move(45*time.Minute + time.Second)
			return k.Client.VerifyWallet(t.Context(), s.RequestID, w.SignMessage(s.SIWEMessage))
		}, api.CodeRequestExpired, 401},
	} {
		t.Run(tc.name, func(t *testing.T) {
			session, err := tc.answer()
			if e := wantCode(t, err, tc.code); e != nil && e.Status != tc.status {
				t.Errorf("status %d, want %d", e.Status, tc.status)
			}
			if session.SessionJWT != "" {
				t.Error("a session was handed out")
			}
			if r := records(t, k)[0]; r.Action != "auth.wallet.verify" || r.Outcome != audit.Refused || r.Reason != string(tc.code) {
				t.Errorf("recorded %+v", r)
			}
		})
	}
}

func TestWalletStartRefusals(t *testing.T) {
	k := agentkeystest.New(t)
	checksummed := newWallet(t).Address()
	wrong := strings.Map(func(r rune) rune { // turns the case of every letter behind 0x
		switch {
		case r >= 'a' && r <= 'f':
			return r - 32
		case r >= 'A' && r <= 'F':
			return r + 32
		}
		return r
	}, checksummed)
	for _, tc := range []struct {
		address string
		chain   int64
		code    api.Code
	}{
		{"0x12", 1, api.CodeAddressMalformed},
		{checksummed + "\nURI: https://evil.example", 1, api.CodeAddressMalformed},
		{wrong, 1, api.CodeAddressChecksum},
		{checksummed, 2, api.CodeChainNotAllowed},
		{checksummed, -1, api.CodeChainNotAllowed},
	} {
		_, err := k.Client.StartWallet(t.Context(), tc.address, tc.chain)
		if e := wantCode(t, err, tc.code); e != nil && e.Status != 400 {
			t.Errorf("%q: status %d", tc.address, e.Status)
		}
	}
}

// An answer that comes late hears that it is late, for a day; then nothing of its
// challenge is left.
func TestOldChallengesAreForgotten(t *testing.T) {
	k := agentkeystest.New(t)
	w := newWallet(t)
	early, late := start(t, k, w), start(t, k, w)
	k.Clock.Move(45*time.Minute + 23*time.Hour)
	start(t, k, w) // makes room
	_, err := k.Client.VerifyWallet(t.Context(), early.RequestID, w.SignMessage(early.SIWEMessage))
	wantCode(t, err, api.CodeRequestExpired)
	k.Clock.Move(2 * time.Hour)
	start(t, k, w)
	_, err = k.Client.VerifyWallet(t.Context(), late.RequestID, w.SignMessage(late.SIWEMessage))
	wantCode(t, err, api.CodeRequestUnknown)
}

// Fifty answers race for one challenge; one of them may win.
func TestOneChallengeOneSession(t *testing.T) {
	k := agentkeystest.New(t)
	w := newWallet(t)
	s := start(t, k, w)
	signature := w.SignMessage(s.SIWEMessage)
	var won sync.Map
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			session, err := k.Client.VerifyWallet(t.Context(), s.RequestID, signature)
			if err == nil {
				won.Store(i, session.SessionJWT)
				return
			}
			wantCode(t, err, api.CodeRequestUsed)
		})
	}
	wg.Wait()
	n := 0
	won.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d sessions for one challenge", n)
	}
}

// Every code that the sign-in methods know has its place in the API's table.
func TestAuthCodesAreKnownToTheAPI(t *testing.T) {
	codes := auth.Codes()
	if len(codes) == 0 {
		t.Fatal("auth names no codes")
	}
	internal := api.KindOf(api.CodeInternal)
	for _, code := range codes {
		if api.KindOf(api.Code(code)) == internal {
			t.Errorf("%s would be answered as an internal error", code)
		}
	}
}
