package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

func TestGenerateKeyRefusesPurpose(t *testing.T) {
	for _, p := range []Purpose{"", "OIDC", "signing", "session\n"} {
		_, err := GenerateKey(p)
		wantText(t, err, `want "oidc" or "session"`, fmt.Sprintf("got %q", string(p)))
		_, err = LoadKeyFile("x", p)
		wantText(t, err, `want "oidc" or "session"`)
	}
}

// The thumbprint by hand: SHA-256 over the required members in order, without
// blanks (RFC 7638, section 3).
func TestKeyID(t *testing.T) {
	text := `{"crv":"P-256","kty":"EC","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}`
	h := crypto.SHA256.New()
	h.Write([]byte(text))
	want := base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	if got := publishedKey(t, PurposeOIDC).ID(); got != "ak-oidc-"+want {
		t.Errorf("want ak-oidc-%s, got %s", want, got)
	}
	if got := publishedKey(t, PurposeSession).ID(); got != "ak-session-"+want {
		t.Errorf("want ak-session-%s, got %s", want, got)
	}
	if a, b := newTestKey(t, PurposeOIDC), newTestKey(t, PurposeOIDC); a.ID() == b.ID() {
		t.Errorf("two keys have the id %s", a.ID())
	}
}

// shortKey is a key whose x or y begins with a zero byte, which an encoder of
// numbers would drop.
func shortKey(t testing.TB) *Key {
	t.Helper()
	for {
		k := newTestKey(t, PurposeOIDC)
		point, err := k.public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] == 0 || point[33] == 0 {
			return k
		}
	}
}

func TestKeyFileRoundTrip(t *testing.T) {
	dir := t.TempDir()
	for i, k := range []*Key{newTestKey(t, PurposeOIDC), newTestKey(t, PurposeSession), shortKey(t)} {
		path := filepath.Join(dir, fmt.Sprint(i))
		if err := WriteKeyFile(path, k); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Fatalf("want mode 0600, got %v, %v", info.Mode(), err)
		}
		got, err := LoadKeyFile(path, k.Purpose())
		if err != nil {
			t.Fatal(err)
		}
		if got.ID() != k.ID() || got.Purpose() != k.Purpose() || !got.signer.(*ecdsa.PrivateKey).Equal(k.signer) {
			t.Errorf("want the key %s back, got %s", k, got)
		}
		sig, err := signES256(got.signer, []byte("text"))
		if err != nil || !verifyES256(k.public, []byte("text"), sig) {
			t.Errorf("the key that was read does not sign for the one that was written: %v", err)
		}
	}
}

// Whatever the umask, the file is there for its owner and for nobody else.
func TestKeyFileUnderAnyUmask(t *testing.T) {
	for _, umask := range []int{0o000, 0o777} {
		path := filepath.Join(t.TempDir(), "key")
		old := syscall.Umask(umask)
		err := WriteKeyFile(path, newTestKey(t, PurposeOIDC))
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
			t.Errorf("umask %03o: want mode 0600, got %v, %v", umask, info.Mode(), err)
		}
	}
}

// A key file is a JWK that other programs read.
func TestGoJoseReadsKeyFile(t *testing.T) {
	k := shortKey(t)
	data, err := encodeKey(k)
	if err != nil {
		t.Fatal(err)
	}
	var jwk jose.JSONWebKey
	if err := json.Unmarshal(data, &jwk); err != nil {
		t.Fatal(err)
	}
	private, ok := jwk.Key.(*ecdsa.PrivateKey)
	if !ok || !private.Equal(k.signer) || jwk.KeyID != k.ID() || jwk.Use != "sig" || jwk.Algorithm != "ES256" {
		t.Errorf("go-jose reads another key: %v %s %s", jwk.KeyID, jwk.Use, jwk.Algorithm)
	}
}

func TestWriteKeyFileRefuses(t *testing.T) {
	dir := t.TempDir()
	k := newTestKey(t, PurposeOIDC)
	existing := filepath.Join(dir, "existing")
	if err := os.WriteFile(existing, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	link, dangling := filepath.Join(dir, "link"), filepath.Join(dir, "dangling")
	for path, to := range map[string]string{link: existing, dangling: filepath.Join(dir, "elsewhere")} {
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{existing, link, dangling, dir} {
		err := WriteKeyFile(path, k)
		wantText(t, err, "writing oidc key", fmt.Sprintf("%q", path), "never written over")
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("want fs.ErrExist, got %v", err)
		}
	}
	if data, err := os.ReadFile(existing); err != nil || string(data) != "mine" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key was written through a symbolic link: %v", err)
	}
	wantText(t, WriteKeyFile(filepath.Join(dir, "no", "key"), k), "no such file or directory")
	wantText(t, WriteKeyFile(filepath.Join(existing, "key"), k), "not a directory")
	elsewhere := *k
	elsewhere.signer = asn1Signer{}
	wantText(t, WriteKeyFile(filepath.Join(dir, "kms"), &elsewhere), "not in this process")
}

func TestLoadKeyFileRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	k := newTestKey(t, PurposeSession)
	path := filepath.Join(dir, "key")
	if err := WriteKeyFile(path, k); err != nil {
		t.Fatal(err)
	}

	t.Run("modes", func(t *testing.T) {
		for _, mode := range []fs.FileMode{0o604, 0o640, 0o644, 0o620, 0o602, 0o610, 0o601, 0o660, 0o666, 0o777} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKeyFile(path, PurposeSession)
			wantText(t, err, "reading session key", fmt.Sprintf("%q", path), "want mode 0600 or less", fmt.Sprintf("got %04o", mode))
		}
		for _, mode := range []fs.FileMode{0o400, 0o600, 0o700} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadKeyFile(path, PurposeSession); err != nil {
				t.Errorf("mode %04o: %v", mode, err)
			}
		}
	})
	t.Run("missing", func(t *testing.T) {
		missing := filepath.Join(dir, "missing")
		_, err := LoadKeyFile(missing, PurposeSession)
		wantText(t, err, fmt.Sprintf("%q", missing), "agentkeys keygen --purpose session")
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("want fs.ErrNotExist, got %v", err)
		}
		if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("loading made the file: %v", err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		_, err := LoadKeyFile(dir, PurposeSession)
		wantText(t, err, "want a file, got a directory")
	})
	t.Run("FIFO", func(t *testing.T) {
		fifo := filepath.Join(dir, "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyFile(fifo, PurposeSession) // must return, too
		wantText(t, err, "want a regular file")
	})
	t.Run("symbolic link", func(t *testing.T) {
		link := filepath.Join(dir, "link")
		if err := os.Symlink(path, link); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadKeyFile(link, PurposeSession); err != nil || got.ID() != k.ID() {
			t.Errorf("want the key behind the link, got %v", err)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeyFile(link, PurposeSession)
		wantText(t, err, "got 0644")
	})
	t.Run("the other purpose", func(t *testing.T) {
		for _, c := range []struct{ is, wanted Purpose }{{PurposeOIDC, PurposeSession}, {PurposeSession, PurposeOIDC}} {
			path := filepath.Join(dir, string(c.is))
			if err := WriteKeyFile(path, newTestKey(t, c.is)); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKeyFile(path, c.wanted)
			wantText(t, err, fmt.Sprintf("purpose: want %q, got %q", string(c.wanted), string(c.is)))
		}
	})
}

func TestLoadKeyFileRefusesContent(t *testing.T) {
	key, other := newTestKey(t, PurposeSession), newTestKey(t, PurposeSession)
	members := func(k *Key) map[string]any {
		data, err := encodeKey(k)
		if err != nil {
			t.Fatal(err)
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	mine, others := members(key), members(other)
	secret := mine["d"].(string)
	scalar, err := decodeSegment(secret)
	if err != nil {
		t.Fatal(err)
	}
	order := elliptic.P256().Params().N.Bytes()
	with := func(pairs ...any) string {
		m := maps.Clone(mine)
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i+1] == nil {
				delete(m, pairs[i].(string))
			} else {
				m[pairs[i].(string)] = pairs[i+1]
			}
		}
		return string(toJSON(t, m))
	}
	encode := base64.RawURLEncoding.EncodeToString
	whole := with()
	for name, c := range map[string]struct{ text, want string }{
		"empty":                    {"", "not JSON"},
		"PEM":                      {"-----BEGIN PRIVATE KEY-----\n", "not JSON"},
		"half a file":              {whole[:len(whole)/2], "not JSON"},
		"text behind":              {whole + whole, "not JSON"},
		"an array":                 {"[" + whole + "]", "not a JSON object"},
		"a key set":                {`{"keys":[` + whole + `]}`, "neither a string nor a number"},
		"a member twice":           {strings.Replace(whole, "{", `{"kty":"EC",`, 1), "twice"},
		"a member more":            {with("key_ops", "sign"), "want no member but"},
		"a comment":                {with("_comment", secret), "want no member but"},
		"no purpose":               {with("purpose", nil), `purpose: want "session", got another or none`},
		"purpose unknown":          {with("purpose", "enc"), `purpose: want "session", got another or none`},
		"purpose a number":         {with("purpose", 1), `purpose: want "session", got another or none`},
		"no kty":                   {with("kty", nil), `kty: want "EC"`},
		"kty RSA":                  {with("kty", "RSA"), `kty: want "EC"`},
		"crv P-384":                {with("crv", "P-384"), `crv: want "P-256"`},
		"crv secp256k1":            {with("crv", "secp256k1"), `crv: want "P-256"`},
		"alg ES384":                {with("alg", "ES384"), `alg: want "ES256"`},
		"no alg":                   {with("alg", nil), `alg: want "ES256"`},
		"use enc":                  {with("use", "enc"), `use: want "sig"`},
		"no use":                   {with("use", nil), `use: want "sig"`},
		"no kid":                   {with("kid", nil), "kid: want " + key.ID()},
		"another's kid":            {with("kid", other.ID()), "kid: want " + key.ID()},
		"the other purpose's kid":  {with("kid", strings.Replace(key.ID(), "session", "oidc", 1)), "kid: want " + key.ID()},
		"no d":                     {with("d", nil), "want d as a text, got none"},
		"d a number":               {with("d", 1), "want d as a text"},
		"d short":                  {with("d", encode(scalar[1:])), "d: want 32 bytes, got 31"},
		"d long":                   {with("d", encode(append([]byte{0}, scalar...))), "d: want 32 bytes, got 33"},
		"d zero":                   {with("d", encode(make([]byte, 32))), "d: want a number"},
		"d the order":              {with("d", encode(order)), "d: want a number"},
		"d padded":                 {with("d", secret+"="), "d is not canonical base64url"},
		"d of two lines":           {with("d", secret[:9]+"\n"+secret[9:]), "d is broken into lines"},
		"another's d":              {with("d", others["d"]), "x and y: want the public half of d"},
		"another's x":              {with("x", others["x"]), "x and y: want the public half of d"},
		"another's y":              {with("y", others["y"]), "x and y: want the public half of d"},
		"another's x and y":        {with("x", others["x"], "y", others["y"]), "x and y: want the public half of d"},
		"another's x, y, and kid":  {with("x", others["x"], "y", others["y"], "kid", other.ID()), "x and y: want the public half of d"},
		"x and y exchanged":        {with("x", mine["y"], "y", mine["x"]), "x and y: want the public half of d"},
		"no y":                     {with("y", nil), "want y as a text"},
		"y short":                  {with("y", "AA"), "y: want 32 bytes, got 1"},
		"private part in the kid":  {with("kid", secret), "kid: want"},
		"private part as kty":      {with("kty", secret), "kty: want"},
		"private part as purpose":  {with("purpose", secret), "purpose: want"},
		"private part as a member": {with(secret, "x"), "want no member but"},
		"too long":                 {whole + strings.Repeat(" ", maxKeyFileLen), "want at most 4096 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadKeyFile(path, PurposeSession)
			wantText(t, err, c.want)
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("the refusal shows the private part or has two lines: %v", err)
			}
		})
	}
	if _, err := parseKey([]byte(whole), PurposeSession); err != nil {
		t.Errorf("the file that the cases were made from: %v", err)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	k := publishedKey(t, PurposeSession)
	const d = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "key", k, "in", struct{ K *Key }{k})
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "key", k, "in", struct{ K *Key }{k})
	asJSON := string(toJSON(t, map[string]any{"key": k, "value": *k}))
	texts := []string{log.String(), asJSON, k.String(), fmt.Sprint(struct{ k *Key }{k}), fmt.Sprintf("%#v", newRing(t, k))}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%p", "%t"} {
		texts = append(texts, fmt.Sprintf(verb, *k), fmt.Sprintf(verb, []*Key{k}), fmt.Sprintf(verb, struct{ K Key }{*k}))
	}
	b, err := decodeSegment(d)
	if err != nil {
		t.Fatal(err)
	}
	scalar, decimal := fmt.Sprintf("%x", b), strings.Trim(fmt.Sprint(b[:4]), "[]")
	for _, text := range texts {
		for _, leak := range []string{d, scalar, strings.ToUpper(scalar), decimal, "0x8e, 0x9b"} {
			if strings.Contains(text, leak) {
				t.Errorf("the private part shows: %s", text)
			}
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if got := fmt.Sprintf(verb, *k); got != k.ID() {
			t.Errorf("want a key to print as %s under %s, got %s", k.ID(), verb, got)
		}
	}
}

func TestKeyringRefuses(t *testing.T) {
	k := newTestKey(t, PurposeOIDC)
	for name, c := range map[string]struct {
		signing *Key
		others  []*Key
		want    string
	}{
		"no signing key": {nil, []*Key{k}, "want a signing key"},
		"a nil key":      {k, []*Key{nil}, "nil"},
		"twice":          {k, []*Key{k}, "want each key once, got " + k.ID()},
		"twice beside":   {newTestKey(t, PurposeOIDC), []*Key{k, k}, "want each key once, got " + k.ID()},
		"session key":    {k, []*Key{newTestKey(t, PurposeSession)}, "want keys for oidc only"},
		"101 keys":       {k, make([]*Key, 100), "want at most 100 keys, got 101"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := NewKeyring(c.signing, c.others...)
			wantText(t, err, c.want)
		})
	}
}

func TestJWKS(t *testing.T) {
	keys := []*Key{newTestKey(t, PurposeOIDC), shortKey(t), newTestKey(t, PurposeOIDC)}
	ring := newRing(t, keys[0], keys[1:]...)
	var set struct{ Keys []map[string]any }
	if err := json.Unmarshal(ring.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	got := map[string]map[string]any{}
	for _, k := range set.Keys {
		got[k["kid"].(string)] = k
	}
	want := map[string]map[string]any{}
	for _, k := range keys {
		point, err := k.public.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		want[k.ID()] = map[string]any{
			"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": k.ID(),
			"x": base64.RawURLEncoding.EncodeToString(point[1:33]),
			"y": base64.RawURLEncoding.EncodeToString(point[33:]),
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(set.Keys) != len(keys) {
		t.Errorf("%d keys (-want +got):\n%s", len(set.Keys), diff)
	}

	rotated := newRing(t, keys[2], keys[0], keys[1])
	if !bytes.Equal(ring.JWKS(), rotated.JWKS()) {
		t.Error("the set's bytes change when another key takes over the signing")
	}
	ring.JWKS()[0] = 'x'
	if !bytes.Equal(ring.JWKS(), rotated.JWKS()) {
		t.Error("a caller can change the set")
	}
}

func TestJWKSOfSessionKeysIsEmpty(t *testing.T) {
	ring := newRing(t, newTestKey(t, PurposeSession), newTestKey(t, PurposeSession))
	if got := string(ring.JWKS()); got != `{"keys":[]}` {
		t.Errorf("want an empty set, got %s", got)
	}
}

func TestDisjoint(t *testing.T) {
	published := publishedKey(t, PurposeOIDC)
	oidc := newRing(t, newTestKey(t, PurposeOIDC), published)
	if err := Disjoint(oidc, newRing(t, newTestKey(t, PurposeSession))); err != nil {
		t.Error(err)
	}
	copied := publishedKey(t, PurposeSession)
	err := Disjoint(oidc, newRing(t, newTestKey(t, PurposeSession), copied))
	wantText(t, err, published.ID(), copied.ID())
}
