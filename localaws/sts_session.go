package localaws

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// sessionKeySize is that of AES-256.
const sessionKeySize = 32

// sealedVersion is the first byte of every session token.
const sealedVersion = 1

// session is what a session token holds: all there is to know of a session of
// an assumed role. Nothing is kept on this side, so sessions survive a restart
// and cost no memory; what may change meanwhile (the role, its policies and
// tags) is looked up at each request, by the role's unique id.
type session struct {
	Secret         string   `json:"secret"`
	RoleID         string   `json:"role_id"`
	Name           string   `json:"name"`
	Issued         int64    `json:"issued"`  // Unix seconds
	Expires        int64    `json:"expires"` // Unix seconds
	Tags           []tag    `json:"tags,omitempty"`
	Transitive     []string `json:"transitive,omitempty"` // keys of Tags
	SourceIdentity string   `json:"source_identity,omitempty"`
	Policy         string   `json:"policy,omitempty"`      // inline session policy
	PolicyARNs     []string `json:"policy_arns,omitempty"` // managed session policies
	Issuer         string   `json:"issuer,omitempty"`      // of a web identity, without scheme
	Audience       string   `json:"aud,omitempty"`
	Subject        string   `json:"sub,omitempty"`
	AMR            []string `json:"amr,omitempty"`
}

// restricted says whether session policies were passed. Without any there is
// no session filter.
func (s *session) restricted() bool { return s.Policy != "" || len(s.PolicyARNs) > 0 }

func (s *session) expires() time.Time { return time.Unix(s.Expires, 0) }

// sealer encrypts sessions into session tokens. The access key id is bound in,
// so a token is of use with its own key alone.
type sealer struct{ aead cipher.AEAD }

func loadSealer(dir string) (sealer, error) {
	path := filepath.Join(dir, keyName)
	data, err := readPrivate(path)
	if err != nil {
		return sealer{}, fmt.Errorf("reading session key: %w", err)
	}
	key, err := hex.DecodeString(strings.TrimSuffix(string(data), "\n"))
	if err != nil || len(key) != sessionKeySize {
		return sealer{}, fmt.Errorf("reading session key %q: want %d bytes in hex, got %d characters", path, sessionKeySize, len(data))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return sealer{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return sealer{aead}, err
}

func (s sealer) seal(accessKeyID string, v *session) (string, error) {
	plain, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	sealed := s.aead.Seal([]byte{sealedVersion}, nil, plain, []byte(accessKeyID))
	return base64.StdEncoding.EncodeToString(sealed), nil
}

// open returns the session in a token, whether it has expired or not, or false
// where the token was not sealed here, or not for this access key.
func (s sealer) open(accessKeyID, token string) (*session, bool) {
	sealed, err := base64.StdEncoding.Strict().DecodeString(token)
	if err != nil || len(sealed) == 0 || sealed[0] != sealedVersion {
		return nil, false
	}
	plain, err := s.aead.Open(nil, nil, sealed[1:], []byte(accessKeyID))
	if err != nil {
		return nil, false
	}
	v := new(session)
	if err := decodeStrict(plain, v); err != nil {
		return nil, false
	}
	return v, true
}
