package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func newSealer(t testing.TB, k *Key, others ...*Key) *Sealer {
	t.Helper()
	s, err := NewSealer(newRing(t, k, others...))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const sealPlace = "mints\x000xde709f2102306220921060314715629080e2fb77\x00key-1"

func TestSealRoundTrip(t *testing.T) {
	s := newSealer(t, newTestKey(t, PurposeSession))
	for _, text := range []string{"", "x", `{"secret_access_key":"wJalrXUtnFEMI"}`, strings.Repeat("long ", 10_000), "\x00\xff"} {
		for _, place := range []string{"", "p", sealPlace} {
			sealed := s.Seal([]byte(text), place)
			got, err := s.Open(sealed, place)
			if err != nil || string(got) != text {
				t.Errorf("%.20q at %q comes back as %.20q, %v", text, place, got, err)
			}
			if len(text) > 8 && bytes.Contains(sealed, []byte(text[:8])) {
				t.Errorf("%.20q can be read in what was sealed", text)
			}
			if again := s.Seal([]byte(text), place); bytes.Equal(again, sealed) {
				t.Error("the same text sealed twice gives the same bytes")
			}
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	key := newTestKey(t, PurposeSession)
	s := newSealer(t, key)
	secret := []byte("wJalrXUtnFEMI/K7MDENG")
	sealed := s.Seal(secret, sealPlace)
	refused := func(what string, s *Sealer, sealed []byte, place string) {
		t.Helper()
		text, err := s.Open(sealed, place)
		if err == nil || text != nil || !strings.HasPrefix(err.Error(), "opening what was sealed: ") {
			t.Errorf("%s: %q, %v; want a refusal", what, text, err)
		}
		if err != nil && strings.Contains(err.Error(), string(secret)) {
			t.Errorf("%s: the refusal tells the text", what)
		}
	}
	for _, place := range []string{"", sealPlace + "2", sealPlace[1:], strings.ToUpper(sealPlace), "\x00" + sealPlace, sealPlace + "\x00"} {
		refused(fmt.Sprintf("place %q", place), s, sealed, place)
	}
	for i := range sealed {
		for bit := range 8 {
			changed := bytes.Clone(sealed)
			changed[i] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d flipped", bit, i), s, changed, sealPlace)
		}
		refused(fmt.Sprintf("cut to %d", i), s, sealed[:i], sealPlace)
	}
	refused("longer", s, append(bytes.Clone(sealed), 0), sealPlace)
	refused("twice", s, append(bytes.Clone(sealed), sealed...), sealPlace)
	refused("nothing", s, nil, sealPlace)
	other := newTestKey(t, PurposeSession)
	refused("another key", newSealer(t, other), sealed, sealPlace)
	renamed := append([]byte(other.ID()), sealed[len(key.ID()):]...)
	refused("another key's name", newSealer(t, key, other), renamed, sealPlace)
	// What belongs to the name and what to the place cannot be moved between them.
	refused("a part of the place in the name", s, append([]byte(key.ID()+"\x00mints"), sealed[len(key.ID()):]...), strings.TrimPrefix(sealPlace, "mints"))
}

func TestSealOutlivesRotation(t *testing.T) {
	former, next := newTestKey(t, PurposeSession), newTestKey(t, PurposeSession)
	sealed := newSealer(t, former, next).Seal([]byte("answer"), sealPlace)
	rotated := newSealer(t, next, former)
	if text, err := rotated.Open(sealed, sealPlace); string(text) != "answer" || err != nil {
		t.Errorf("after rotation: %q, %v", text, err)
	}
	fresh := rotated.Seal([]byte("answer"), sealPlace)
	if !bytes.HasPrefix(fresh, []byte(next.ID()+"\x00")) || !bytes.HasPrefix(sealed, []byte(former.ID()+"\x00")) {
		t.Error("the key that signs is not the one that seals")
	}
	if _, err := newSealer(t, next).Open(sealed, sealPlace); err == nil {
		t.Error("it opens without the former key")
	}
}

func TestNewSealerRefuses(t *testing.T) {
	_, err := NewSealer(newRing(t, newTestKey(t, PurposeOIDC)))
	wantText(t, err, "sealer: ", "want keys for session, got")
	_, err = NewSealer(nil)
	wantText(t, err, "sealer: keyring: want keys for session, got none")
	remote := newTestKey(t, PurposeSession)
	remote.signer = remoteSigner{remote.signer}
	_, err = NewSealer(newRing(t, remote))
	wantText(t, err, "want a session key whose private part is at hand", remote.ID())
}

// remoteSigner is a key whose private part is elsewhere, as a KMS has it.
type remoteSigner struct{ crypto.Signer }

// The sealing key is the HKDF of this use alone, and neither the private key itself
// nor what another use would derive.
func TestSealingKeyIsOfThisUse(t *testing.T) {
	key := publishedKey(t, PurposeSession)
	private := key.signer.(*ecdsa.PrivateKey)
	sealed := newSealer(t, key).Seal([]byte("answer"), sealPlace)
	scalar, err := private.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	open := func(info string) bool {
		derived, err := hkdf.Key(sha256.New, scalar, nil, info, 32)
		if err != nil {
			t.Fatal(err)
		}
		return opensWith(t, derived, sealed, key.ID())
	}
	if !open("agentkeys: answers kept for Idempotency-Key, version 1") {
		t.Error("the key is not that of its info")
	}
	for _, info := range []string{"", "agentkeys", "agentkeys: answers kept for Idempotency-Key, version 2"} {
		if open(info) {
			t.Errorf("it opens with the key derived for %q", info)
		}
	}
	if opensWith(t, scalar, sealed, key.ID()) {
		t.Error("it opens with the private key itself")
	}
}

func opensWith(t *testing.T, key, sealed []byte, id string) bool {
	t.Helper()
	aead, err := newAEAD(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := aead.Open(nil, nil, sealed[len(id)+1:], []byte(id+"\x00"+sealPlace))
	return err == nil && string(text) == "answer"
}

func TestSealerPrintsNoKey(t *testing.T) {
	key := publishedKey(t, PurposeSession)
	s := newSealer(t, key)
	scalar, err := key.signer.(*ecdsa.PrivateKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	derived, err := hkdf.Key(sha256.New, scalar, nil, sealInfo, 32)
	if err != nil {
		t.Fatal(err)
	}
	holder := struct {
		sealer *Sealer
		value  Sealer
	}{s, *s}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("sealer", "s", s, "v", *s, "holder", holder)
	texts := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		texts = append(texts, fmt.Sprintf(verb+" "+verb, s, *s))
		texts = append(texts, fmt.Sprintf(verb, holder), fmt.Sprintf(verb, []any{s, *s}))
	}
	for _, text := range texts {
		for _, part := range [][]byte{scalar, derived} {
			for _, form := range []string{hex.EncodeToString(part[:8]), base64.StdEncoding.EncodeToString(part[:9]), strings.Trim(fmt.Sprint(part[:6]), "[]"), fmt.Sprintf("%#x, %#x, %#x", part[0], part[1], part[2]), string(part[:8]),
				fmt.Sprint(binary.BigEndian.Uint32(part)), fmt.Sprint(binary.LittleEndian.Uint32(part))} { // as AES expands it
				if strings.Contains(text, form) {
					t.Errorf("the key is in %q", text)
				}
			}
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", s, *s, s); got != strings.Join([]string{s.keyID, s.keyID, s.keyID}, " ") {
		t.Errorf("the sealer prints as %q, want its key's id", got)
	}
}

func BenchmarkSealThenOpen(b *testing.B) {
	s := newSealer(b, newTestKey(b, PurposeSession))
	answer := bytes.Repeat([]byte("x"), 1500)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Open(s.Seal(answer, sealPlace), sealPlace); err != nil {
			b.Fatal(err)
		}
	}
}
