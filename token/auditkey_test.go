package token

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/mod/sumdb/note"
)

const testLog = "broker.example.com/audit"

// The key of RFC 8037, appendix A, which is that of the first test of RFC 8032,
// section 7.1: everybody knows its private part.
const (
	publishedSeed   = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
	publishedPublic = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
)

func publishedAuditKey(t testing.TB) *AuditKey {
	t.Helper()
	seed, err := base64.RawURLEncoding.DecodeString(publishedSeed)
	if err != nil {
		t.Fatal(err)
	}
	k, err := newAuditKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newTestAuditKey(t testing.TB) *AuditKey {
	t.Helper()
	k, err := GenerateAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func verifierText(t testing.TB, k *AuditKey, name string) string {
	t.Helper()
	text, err := k.Verifier(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func signerOf(t testing.TB, k *AuditKey, name string) note.Signer {
	t.Helper()
	s, err := k.Signer(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The public half, the thumbprint and the signature are those of RFC 8037,
// appendices A.2 to A.4; the verifier's text was made by hand from the rule of C2SP
// signed-note.
func TestAuditKeyVectors(t *testing.T) {
	k := publishedAuditKey(t)
	if got := base64.RawURLEncoding.EncodeToString(k.public); got != publishedPublic {
		t.Errorf("public half %s, want %s", got, publishedPublic)
	}
	if got, want := k.ID(), "ak-audit-kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"; got != want {
		t.Errorf("id %s, want %s", got, want)
	}
	sig, err := signerOf(t, k, testLog).Sign([]byte("eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"))
	want := "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	if got := base64.RawURLEncoding.EncodeToString(sig); err != nil || got != want {
		t.Errorf("signature %s, %v; want %s", got, err, want)
	}
	if got, want := verifierText(t, k, testLog), "broker.example.com/audit+f811cd58+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"; got != want {
		t.Errorf("verifier %s, want %s", got, want)
	}
	if a, b := newTestAuditKey(t), newTestAuditKey(t); a.ID() == b.ID() {
		t.Errorf("two keys have the id %s", a.ID())
	}
}

// Notes that we sign open under our verifier, and under no other key's or log's.
func TestNoteOpensUnderItsVerifierAlone(t *testing.T) {
	k := newTestAuditKey(t)
	signed, err := note.Sign(&note.Note{Text: testLog + "\n2\nroot\n"}, signerOf(t, k, testLog))
	if err != nil {
		t.Fatal(err)
	}
	open := func(text string, msg []byte) error {
		v, err := note.NewVerifier(text)
		if err != nil {
			t.Fatal(err)
		}
		_, err = note.Open(msg, note.VerifierList(v))
		return err
	}
	if err := open(verifierText(t, k, testLog), signed); err != nil {
		t.Errorf("our own note: %v", err)
	}
	for what, text := range map[string]string{
		"another key":         verifierText(t, newTestAuditKey(t), testLog),
		"the same, other log": verifierText(t, k, "other.example.com/audit"),
	} {
		if open(text, signed) == nil {
			t.Errorf("the note opens under %s", what)
		}
	}
	if open(verifierText(t, k, testLog), bytes.Replace(signed, []byte("\n2\n"), []byte("\n1\n"), 1)) == nil {
		t.Error("a changed note opens")
	}
}

func TestNamesOfLogs(t *testing.T) {
	k := newTestAuditKey(t)
	for _, name := range []string{"", "a b", "a\nb", "a+b", "a\u00a0b", "a\u2028b", "a\xff"} {
		_, err := k.Verifier(name)
		wantText(t, err, "name of the log: want text without white space or plus", fmt.Sprintf("got %q", name))
		_, err = k.Signer(name)
		wantText(t, err, "name of the log: want text without white space or plus")
	}
}

func TestAuditOrigin(t *testing.T) {
	for issuer, want := range map[string]string{
		testIssuer: testLog, "http://127.0.0.1:8091": "127.0.0.1:8091/audit", "http://[::1]:8091": "[::1]:8091/audit",
	} {
		if got, err := AuditOrigin(issuer); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", issuer, got, err, want)
		}
	}
	for _, issuer := range []string{"", "broker.example.com", "//broker.example.com", "ftp://broker.example.com", "https://", "https:broker.example.com",
		"https://broker.example.com/", "https://broker.example.com/audit", "https://broker.example.com?x", "https://broker.example.com#x",
		"https://me@broker.example.com", "https://Broker.example.com", "HTTPS://broker.example.com", "https://a+b", "https://a b", "https://a\n",
		"https://a\u00a0b", "https://a%2Bb", "https://a%20b", "http://[::1%25a%20b]"} {
		got, err := AuditOrigin(issuer)
		if got != "" {
			t.Errorf("%q has the origin %q", issuer, got)
		}
		wantText(t, err, "origin of the audit log: ")
	}
}

// Every origin may stand in a note, and belongs to one issuer under each scheme.
func FuzzAuditOrigin(f *testing.F) {
	for _, seed := range []string{testIssuer, "http://[::1]:8091", "https://a+b", "https://a%2Bb", "https://a\u00a0b/", "https://É"} {
		f.Add(seed)
	}
	key := publishedAuditKey(f)
	f.Fuzz(func(t *testing.T, issuer string) {
		origin, err := AuditOrigin(issuer)
		if err != nil {
			return
		}
		host := strings.TrimSuffix(origin, "/audit")
		if issuer != "https://"+host && issuer != "http://"+host || strings.ContainsAny(host, "/ +\n@?#") {
			t.Fatalf("%q has the origin %q", issuer, origin)
		}
		text, err := key.Verifier(origin)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := note.NewVerifier(text); err != nil || v.Name() != origin {
			t.Fatalf("%q: %v", text, err)
		}
	})
}

// The vector was computed apart from this code, from RFC 5869 and RFC 2104.
func TestPseudonym(t *testing.T) {
	k, other := publishedAuditKey(t), newTestAuditKey(t)
	const text = "alice@example.com"
	want := "hmac-sha256:aae7bf2c25010e65fff8c7b10023c6053fd84f9d6c7e45f7c83c7dc66942f277"
	if got := k.Pseudonym(text); got != want {
		t.Errorf("pseudonym %s, want %s", got, want)
	}
	if other.Pseudonym(text) == want {
		t.Error("two keys give one pseudonym")
	}
	if k.Pseudonym("bob@example.com") == want || k.Pseudonym("") == want {
		t.Error("two texts have one pseudonym")
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := WriteAuditKeyFile(path, other); err != nil {
		t.Fatal(err)
	}
	again, err := LoadAuditKeyFile(path)
	if err != nil || again.Pseudonym(text) != other.Pseudonym(text) {
		t.Errorf("the key that was read back gives another pseudonym: %v", err)
	}
}

func TestAuditKeyFileRoundTrip(t *testing.T) {
	for _, umask := range []int{0o022, 0o000, 0o777} {
		path, k := filepath.Join(t.TempDir(), "key"), newTestAuditKey(t)
		old := syscall.Umask(umask)
		err := WriteAuditKeyFile(path, k)
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Fatalf("umask %03o: want mode 0600, got %v, %v", umask, info.Mode(), err)
		}
		got, err := LoadAuditKeyFile(path)
		if err != nil || got.ID() != k.ID() || !got.secret().private.Equal(k.secret().private) {
			t.Errorf("want the key %s back, got %v, %v", k, got, err)
		}
		wantText(t, WriteAuditKeyFile(path, newTestAuditKey(t)), "writing audit key", fmt.Sprintf("%q", path), "never written over")
		if again, err := LoadAuditKeyFile(path); err != nil || again.ID() != k.ID() {
			t.Errorf("a refused write changed the file: %v, %v", again, err)
		}
	}
}

// A file that is there stays, and no key goes through a symbolic link.
func TestWriteAuditKeyFileRefuses(t *testing.T) {
	dir, k := t.TempDir(), newTestAuditKey(t)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	err := WriteAuditKeyFile(link, k)
	if !errors.Is(err, fs.ErrExist) {
		t.Errorf("want fs.ErrExist, got %v", err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was written through a symbolic link: %v", err)
	}
	wantText(t, WriteAuditKeyFile(filepath.Join(dir, "no", "key"), k), "no such file or directory")
}

func TestLoadAuditKeyFileRefusesFiles(t *testing.T) {
	dir, k := t.TempDir(), newTestAuditKey(t)
	path, link := filepath.Join(dir, "key"), filepath.Join(dir, "link")
	if err := WriteAuditKeyFile(path, k); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadAuditKeyFile(link); err != nil || got.ID() != k.ID() {
		t.Errorf("want the key behind the link, got %v, %v", got, err)
	}
	for _, mode := range []fs.FileMode{0o604, 0o640, 0o620, 0o610, 0o644, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{path, link} {
			_, err := LoadAuditKeyFile(name)
			wantText(t, err, "reading audit key", fmt.Sprintf("%q", name), "want mode 0600 or less", fmt.Sprintf("got %04o", mode))
		}
	}
	_, err := LoadAuditKeyFile(filepath.Join(dir, "missing"))
	wantText(t, err, "missing", "agentkeys keygen --purpose audit --out FILE")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want fs.ErrNotExist, got %v", err)
	}
	_, err = LoadAuditKeyFile(dir)
	wantText(t, err, "want a file, got a directory")
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = LoadAuditKeyFile(fifo) // must return, too
	wantText(t, err, "want a regular file")
}

// No key stands in for one of another purpose, whatever its file says beside.
func TestAuditKeyIsOfItsPurpose(t *testing.T) {
	dir := t.TempDir()
	audit := filepath.Join(dir, "audit")
	if err := WriteAuditKeyFile(audit, newTestAuditKey(t)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Purpose{PurposeOIDC, PurposeSession} {
		path := filepath.Join(dir, string(p))
		if err := WriteKeyFile(path, newTestKey(t, p)); err != nil {
			t.Fatal(err)
		}
		_, err := LoadAuditKeyFile(path)
		wantText(t, err, fmt.Sprintf(`purpose: want "audit", got %q`, string(p)))
		_, err = LoadKeyFile(audit, p)
		wantText(t, err, fmt.Sprintf(`purpose: want %q, got "audit"`, string(p)))
	}
	_, err := GenerateKey(PurposeAudit)
	wantText(t, err, `want "oidc" or "session", got "audit"`)
	_, err = LoadKeyFile(audit, PurposeAudit)
	wantText(t, err, `want "oidc" or "session", got "audit"`)
}

// relabelled are the members of a key file with some of them replaced, or removed by
// nil.
func relabelled(t *testing.T, data []byte, pairs ...any) string {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	for pair := range slices.Chunk(pairs, 2) {
		m[pair[0].(string)] = pair[1]
	}
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	return string(toJSON(t, m))
}

func TestLoadAuditKeyFileRefusesContent(t *testing.T) {
	key, other := publishedAuditKey(t), newTestAuditKey(t)
	data, err := encodeAuditKey(key)
	if err != nil {
		t.Fatal(err)
	}
	session, err := encodeKey(newTestKey(t, PurposeSession))
	if err != nil {
		t.Fatal(err)
	}
	with := func(pairs ...any) string { return relabelled(t, data, pairs...) }
	encode := base64.RawURLEncoding.EncodeToString
	othersX, seed := encode(other.public), key.secret().private.Seed()
	whole := with()
	for name, c := range map[string]struct{ text, want string }{
		"empty":                    {"", "not JSON"},
		"PEM":                      {"-----BEGIN PRIVATE KEY-----\n", "not JSON"},
		"half a file":              {whole[:len(whole)/2], "not JSON"},
		"text behind":              {whole + whole, "not JSON"},
		"a member twice":           {strings.Replace(whole, "{", `{"kty":"OKP",`, 1), "twice"},
		"a member more":            {with("key_ops", "sign"), "want no member but"},
		"a y":                      {with("y", othersX), "want no member but"},
		"no purpose":               {with("purpose", nil), `purpose: want "audit", got another or none`},
		"purpose unknown":          {with("purpose", "AUDIT"), `purpose: want "audit", got another or none`},
		"purpose oidc":             {with("purpose", "oidc"), `purpose: want "audit", got "oidc"`},
		"a session key relabelled": {relabelled(t, session, "purpose", "audit", "y", nil), `kty: want "OKP"`},
		"kty EC":                   {with("kty", "EC"), `kty: want "OKP"`},
		"crv X25519":               {with("crv", "X25519"), `crv: want "Ed25519"`},
		"crv Ed448":                {with("crv", "Ed448"), `crv: want "Ed25519"`},
		"alg ES256":                {with("alg", "ES256"), `alg: want "EdDSA"`},
		"no alg":                   {with("alg", nil), `alg: want "EdDSA"`},
		"use enc":                  {with("use", "enc"), `use: want "sig"`},
		"no kid":                   {with("kid", nil), "kid: want " + key.ID()},
		"another's kid":            {with("kid", other.ID()), "kid: want " + key.ID()},
		"another purpose's kid":    {with("kid", strings.Replace(key.ID(), "audit", "oidc", 1)), "kid: want " + key.ID()},
		"no d":                     {with("d", nil), "want d as a text, got none"},
		"d a number":               {with("d", 1), "want d as a text"},
		"d short":                  {with("d", encode(seed[1:])), "d: want 32 bytes, got 31"},
		"d the expanded key":       {with("d", encode(key.secret().private)), "d: want 32 bytes, got 64"},
		"d padded":                 {with("d", publishedSeed+"="), "d is not canonical base64url"},
		"d of two lines":           {with("d", publishedSeed[:9]+"\n"+publishedSeed[9:]), "d is broken into lines"},
		"another's d":              {with("d", encode(other.secret().private.Seed())), "x: want the public half of d"},
		"another's x":              {with("x", othersX), "x: want the public half of d"},
		"another's x and kid":      {with("x", othersX, "kid", other.ID()), "x: want the public half of d"},
		"d and x exchanged":        {with("x", publishedSeed, "d", publishedPublic), "x: want the public half of d"},
		"no x":                     {with("x", nil), "want x as a text"},
		"x short":                  {with("x", "AA"), "x: want 32 bytes, got 1"},
		"private part in the kid":  {with("kid", publishedSeed), "kid: want"},
		"private part as kty":      {with("kty", publishedSeed), "kty: want"},
		"private part as purpose":  {with("purpose", publishedSeed), "purpose: want"},
		"private part as a member": {with(publishedSeed, "x"), "want no member but"},
		"too long":                 {whole + strings.Repeat(" ", maxKeyFileLen), "want at most 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadAuditKeyFile(path)
			wantText(t, err, c.want)
			if strings.Contains(err.Error(), publishedSeed) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the refusal shows the private part or has two lines: %v", err)
			}
		})
	}
	if _, err := parseAuditKey([]byte(whole)); err != nil {
		t.Errorf("the file that the cases were made from: %v", err)
	}
}

// An audit key file is a JWK that other programs read.
func TestGoJoseReadsAuditKeyFile(t *testing.T) {
	k := newTestAuditKey(t)
	data, err := encodeAuditKey(k)
	if err != nil {
		t.Fatal(err)
	}
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(data, &jwk); err != nil {
		t.Fatal(err)
	}
	private, ok := jwk.Key.(ed25519.PrivateKey)
	if !ok || !private.Equal(k.secret().private) || jwk.KeyID != k.ID() || jwk.Use != "sig" || jwk.Algorithm != "EdDSA" {
		t.Errorf("go-jose reads another key: %v %s %s", jwk.KeyID, jwk.Use, jwk.Algorithm)
	}
}

func TestAuditKeysDoNotPrint(t *testing.T) {
	k := publishedAuditKey(t)
	s := signerOf(t, k, testLog)
	type pair struct {
		K *AuditKey
		S note.Signer
	}
	hidden := struct {
		k *AuditKey
		v AuditKey
		s note.Signer
	}{k, *k, s}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewTextHandler(&log, nil), slog.NewJSONHandler(&log, nil)} {
		slog.New(handler).Info("", "key", k, "value", *k, "signer", s, "in", pair{k, s}, "hidden", hidden)
	}
	texts := []string{log.String(), k.String(), string(toJSON(t, map[string]any{"key": k, "value": *k, "signer": s, "in": pair{k, s}}))}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%p", "%t", "%c", "%U"} {
		for _, v := range []any{k, *k, s, pair{k, s}, hidden, []*AuditKey{k}, []note.Signer{s}, map[string]AuditKey{"k": *k}} {
			texts = append(texts, fmt.Sprintf(verb, v))
		}
	}
	derived, err := hkdf.Key(sha256.New, k.secret().private.Seed(), nil, pseudonymInfo, 32)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range texts {
		for _, part := range [][]byte{k.secret().private, derived} {
			for _, leak := range leaks(part) {
				if strings.Contains(text, leak) {
					t.Errorf("the private part shows: %s", text)
				}
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got, want := fmt.Sprintf(verb+" "+verb, *k, s), k.ID()+" "+testLog+"+f811cd58"; got != want {
			t.Errorf("under %s: %s, want %s", verb, got, want)
		}
	}
}

// leaks are the first bytes of a secret in the forms that a print could give them.
func leaks(secret []byte) []string {
	digits := hex.EncodeToString(secret[:4])
	return []string{
		digits, strings.ToUpper(digits), string(secret[:4]), strings.Trim(fmt.Sprint(secret[:4]), "[]"),
		fmt.Sprintf("%#x, %#x", secret[0], secret[1]), strings.Trim(fmt.Sprintf("%o", secret[:4]), "[]"),
		base64.StdEncoding.EncodeToString(secret[:6]), base64.RawURLEncoding.EncodeToString(secret[:6]),
	}
}

func FuzzAuditKeyFile(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := parseAuditKey(data)
		if err != nil {
			return
		}
		again, err := encodeAuditKey(k)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := parseAuditKey(again)
		if err != nil || twice.ID() != k.ID() {
			t.Fatalf("read %s, and written again %v, %v", k, twice, err)
		}
		sig, err := signerOf(t, k, testLog).Sign(data)
		if err != nil || !ed25519.Verify(k.public, data, sig) {
			t.Fatalf("the key does not sign: %v", err)
		}
	})
}
