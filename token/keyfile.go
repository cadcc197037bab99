package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

const (
	coordinateLen = 32   // bytes of d, x and y on P-256 (RFC 7518, section 6.2), and of d and x on Ed25519 (RFC 8032, section 5.1.5)
	maxKeyFileLen = 4096 // bytes; a key file has about 400
)

// keyFile is a private JWK (RFC 7517) with a purpose beside it.
type keyFile struct {
	Purpose   Purpose `json:"purpose"`
	Type      string  `json:"kty"`
	Curve     string  `json:"crv"`
	Algorithm string  `json:"alg"`
	Use       string  `json:"use"`
	KeyID     string  `json:"kid"`
	X         string  `json:"x"`
	Y         string  `json:"y"`
	D         string  `json:"d"`
}

// WriteKeyFile writes a key to a new file with mode 0600, and returns when it
// is on the disk. It never writes over a file, nor through a symbolic link.
func WriteKeyFile(path string, k *Key) error {
	fail := func(err error) error { return fmt.Errorf("writing %s key %q: %w", k.purpose, path, err) }
	data, err := encodeKey(k)
	if err != nil {
		return fail(err)
	}
	if err := writeNewFile(path, data, 0o600); err != nil {
		return fail(err)
	}
	return nil
}

// writeNewFile returns when a file that was not there is on the disk.
func writeNewFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; it is never written over", fs.ErrExist)
	}
	if err != nil {
		return cause(err)
	}
	if err = writeAndSync(f, data, mode); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		_ = os.Remove(path) // what may not last is of no use, and in the way of the next try
		return cause(err)
	}
	return nil
}

func writeAndSync(f *os.File, data []byte, mode fs.FileMode) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // a umask of 0700, say, would leave a file that nobody can load
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes the new name durable, without which the file may be gone after
// a power cut although its content was flushed.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// cause drops the path that fs errors repeat.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func encodeKey(k *Key) ([]byte, error) {
	private, ok := k.signer.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("the private part is not in this process")
	}
	scalar, err := private.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding the private key: %w", err)
	}
	point, err := k.public.Bytes() // 4, x, y
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	data, err := json.MarshalIndent(keyFile{
		Purpose: k.purpose, Type: "EC", Curve: "P-256", Algorithm: algorithm, Use: "sig", KeyID: k.ID(),
		X: strict.EncodeToString(point[1 : 1+coordinateLen]),
		Y: strict.EncodeToString(point[1+coordinateLen:]),
		D: strict.EncodeToString(scalar),
	}, "", "  ")
	return append(data, '\n'), err
}

// LoadKeyFile reads the key of one purpose. It refuses a file that is missing
// or is no regular file, that the group or others have any permission on, that
// holds another purpose's key, and anything but a whole and consistent ES256
// key. A symbolic link is followed, since that is how orchestrators mount
// secrets; the permissions are those of the file that was opened.
func LoadKeyFile(path string, p Purpose) (*Key, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return loadKey(path, p, func(data []byte) (*Key, error) { return parseKey(data, p) })
}

// loadKey reads a key of either type.
func loadKey[K any](path string, p Purpose, parse func([]byte) (*K, error)) (*K, error) {
	fail := func(err error) error { return fmt.Errorf("reading %s key %q: %w", p, path, err) }
	data, err := readKeyFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(fmt.Errorf("%w; make one with agentkeys keygen --purpose %s --out FILE", fs.ErrNotExist, p))
	}
	if err != nil {
		return nil, fail(cause(err))
	}
	k, err := parse(data)
	if err != nil {
		return nil, fail(err)
	}
	return k, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("want mode 0600 or less, got %04o: others than its owner may use it", mode)
	}
	return readAtMost(f, maxKeyFileLen)
}

// openRegular opens what is a file and nothing else, such as a FIFO, which would
// hold up the start.
func openRegular(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case info.IsDir():
		err = errors.New("want a file, got a directory")
	case !info.Mode().IsRegular():
		err = fmt.Errorf("want a regular file, got one of type %s", info.Mode().Type())
	default:
		return f, nil
	}
	_ = f.Close() // nothing was written
	return nil, err
}

func readAtMost(r io.Reader, limit int) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("want at most %d bytes, got more", limit)
	}
	return data, nil
}

// parseKey reads the content of a key file. Its errors never repeat a value
// that could be the private part, put under another name by mistake.
func parseKey(data []byte, p Purpose) (*Key, error) {
	o, err := parseObject(data)
	if err != nil {
		return nil, err
	}
	if err := o.checkPurpose(p); err != nil {
		return nil, err
	}
	if err := o.only("purpose", "kty", "crv", "alg", "use", "kid", "x", "y", "d"); err != nil {
		return nil, err
	}
	if err := o.checkConstants("kty", "EC", "crv", "P-256", "alg", algorithm, "use", "sig"); err != nil {
		return nil, err
	}
	private, err := o.privateKey()
	if err != nil {
		return nil, err
	}
	k, err := newKey(p, private)
	if err != nil {
		return nil, err
	}
	if o["kid"] != k.ID() {
		return nil, fmt.Errorf("kid: want %s by the key's thumbprint, got another or none", k.ID())
	}
	return k, nil
}

// checkPurpose comes before the rest, so that another purpose's key is named as that.
func (o object) checkPurpose(p Purpose) error {
	if other := Purpose(fmt.Sprint(o["purpose"])); other != p && other.known() {
		return fmt.Errorf("purpose: want %q, got %q", string(p), string(other))
	}
	return o.checkConstants("purpose", string(p))
}

// checkConstants wants members with the values behind their names.
func (o object) checkConstants(pairs ...string) error {
	for pair := range slices.Chunk(pairs, 2) {
		if o[pair[0]] != pair[1] {
			return fmt.Errorf("%s: want %q, got another or none", pair[0], pair[1])
		}
	}
	return nil
}

// coordinate decodes one member of 32 bytes.
func (o object) coordinate(name string) ([]byte, error) {
	s, err := o.text(name)
	if err != nil {
		return nil, err
	}
	b, err := decodeSegment(s)
	if err != nil {
		return nil, fmt.Errorf("%s is %w", name, err)
	}
	if len(b) != coordinateLen {
		return nil, fmt.Errorf("%s: want %d bytes, got %d", name, coordinateLen, len(b))
	}
	return b, nil
}

// privateKey makes the key of d and wants x and y to be its public half.
func (o object) privateKey() (*ecdsa.PrivateKey, error) {
	var part [3][]byte
	for i, name := range []string{"d", "x", "y"} {
		var err error
		if part[i], err = o.coordinate(name); err != nil {
			return nil, err
		}
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), part[0])
	if err != nil {
		return nil, errors.New("d: want a number from 1 to the order of P-256 less 1")
	}
	point, err := private.PublicKey.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding the public key: %w", err)
	}
	if subtle.ConstantTimeCompare(point[1:], append(part[1], part[2]...)) != 1 {
		return nil, errors.New("x and y: want the public half of d, got another point")
	}
	return private, nil
}
