package localaws

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"agentkeys/policy"
)

// The folder of the S3 side holds one folder per bucket, with a random name:
//
//	ID/bucket.json          name, policy and settings
//	ID/objects/HASH.json    one object: HASH is the SHA-256 of its key
//	ID/uploads/UPLOAD.json  one multipart upload; UPLOAD.N.json is its part N
//	ID/data/DATA            bytes that one of these names
//
// No name in it comes from a client, so no key can lead out of it. Bytes are
// written first and become part of the state when a JSON file that names them
// is renamed into place; bytes that no JSON file names are removed at start.

// bucket is one bucket. Everything in it is guarded by s3.mu; settings and the
// objects that the maps point to are replaced, never changed.
type bucket struct {
	dir      string
	settings *settings
	objects  map[string]*s3Object
	keys     []string // of objects, sorted by bytes
	uploads  map[string]*upload
}

// settings is what a bucket is and what guards it.
type settings struct {
	Name      string
	Created   time.Time
	Policy    json.RawMessage `json:",omitempty"` // principals of this account by unique id
	Block     *publicAccessBlock
	Ownership string // "" after DeleteBucketOwnershipControls

	compiled *policy.Policy // of Policy; nil if there is none
	public   bool           // Policy is public in the sense of Block Public Access
}

// s3Object is one object as it was put.
type s3Object struct {
	Key      string
	Data     string // file name under data
	Size     int64
	ETag     string // without quotes
	Modified time.Time
	Headers  map[string]string `json:",omitempty"` // Content-Type and its like, by canonical name
	Meta     map[string]string `json:",omitempty"` // x-amz-meta-, by lower-case name
	Tags     []tag             `json:",omitempty"`
	Checksum checksum
	Parts    []part `json:",omitempty"` // of a multipart upload
}

// checksum is an x-amz-checksum- that was verified; Algorithm is "" for none.
type checksum struct {
	Algorithm string `json:",omitempty"`
	Value     string `json:",omitempty"`
	Type      string `json:",omitempty"` // FULL_OBJECT or COMPOSITE
}

// upload is a multipart upload under way.
type upload struct {
	ID        string
	Initiated time.Time
	Object    s3Object // Key, Headers, Meta and Tags of what it is to become
	Algorithm string   // of its checksums, "" for none
	Type      string

	parts map[int]*part
}

// part is one part, of an upload or of the object it became.
type part struct {
	Number   int
	Data     string `json:",omitempty"`
	Size     int64
	ETag     string
	Modified time.Time
	Checksum checksum
}

// received is a body that was written to a data file and belongs to nobody yet.
type received struct {
	data string
	size int64
	etag string
	sum  checksum
}

// loadBuckets reads the whole state under dir.
func loadBuckets(dir string) (map[string]*bucket, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the bucket folder: %w", err)
	}
	buckets := map[string]*bucket{}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), "tmp-") {
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("removing a bucket that was half made or half deleted: %w", err)
			}
			continue
		}
		b, err := loadBucket(path)
		if err != nil {
			return nil, err
		}
		if buckets[b.settings.Name] != nil {
			return nil, fmt.Errorf("reading bucket folder %s: there are two buckets %q", e.Name(), b.settings.Name)
		}
		buckets[b.settings.Name] = b
	}
	return buckets, nil
}

func loadBucket(dir string) (*bucket, error) {
	if err := removeUnfinished(dir); err != nil {
		return nil, err
	}
	b := &bucket{dir: dir, settings: &settings{}, objects: map[string]*s3Object{}, uploads: map[string]*upload{}}
	if err := readJSON(filepath.Join(dir, "bucket.json"), b.settings); err != nil {
		return nil, err
	}
	if err := b.settings.compile(); err != nil {
		return nil, fmt.Errorf("reading the policy of bucket %q: %w", b.settings.Name, err)
	}
	err := eachJSON(filepath.Join(dir, "objects"), func(path string) error {
		o := &s3Object{}
		if err := readJSON(path, o); err != nil {
			return err
		}
		if filepath.Base(path) != objectFile(o.Key) {
			return fmt.Errorf("reading %s: it holds key %q, which belongs in %s", path, o.Key, objectFile(o.Key))
		}
		b.objects[o.Key] = o
		b.keys = append(b.keys, o.Key)
		return nil
	})
	if err != nil {
		return nil, err
	}
	sort.Strings(b.keys)
	if err := b.loadUploads(); err != nil {
		return nil, err
	}
	return b, b.sweep()
}

// removeUnfinished removes what a write of bucket.json left when it was cut short.
func removeUnfinished(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "tmp-") {
			err = errors.Join(err, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return err
}

// loadUploads reads uploads and their parts. The files sort so that an upload
// comes before its parts.
func (b *bucket) loadUploads() error {
	return eachJSON(filepath.Join(b.dir, "uploads"), func(path string) error {
		id, rest, _ := strings.Cut(filepath.Base(path), ".")
		if rest == "json" {
			u := &upload{parts: map[int]*part{}}
			b.uploads[id] = u
			return readJSON(path, u)
		}
		p := &part{}
		if err := readJSON(path, p); err != nil {
			return err
		}
		if b.uploads[id] == nil {
			return os.Remove(path) // of an upload whose end was cut short
		}
		b.uploads[id].parts[p.Number] = p
		return nil
	})
}

// sweep removes data that nothing names: bodies whose request did not end.
func (b *bucket) sweep() error {
	named := map[string]bool{}
	for _, o := range b.objects {
		named[o.Data] = true
	}
	for _, u := range b.uploads {
		for _, p := range u.parts {
			named[p.Data] = true
		}
	}
	entries, err := os.ReadDir(filepath.Join(b.dir, "data"))
	if err != nil {
		return fmt.Errorf("reading the data of bucket %q: %w", b.settings.Name, err)
	}
	present := map[string]bool{}
	for _, e := range entries {
		present[e.Name()] = true
		if !named[e.Name()] {
			if err := os.Remove(filepath.Join(b.dir, "data", e.Name())); err != nil {
				return fmt.Errorf("removing unused data of bucket %q: %w", b.settings.Name, err)
			}
		}
	}
	for name := range named {
		if !present[name] {
			return fmt.Errorf("reading bucket %q: data file %s is missing", b.settings.Name, name)
		}
	}
	return nil
}

// eachJSON visits the JSON files of a folder in the order UPLOAD.json,
// UPLOAD.1.json and so on, and removes what an interrupted write left.
func eachJSON(dir string, visit func(path string) error) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("reading the bucket state: %w", err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return len(a.Name()) - len(b.Name()) })
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), "tmp-") {
			err = os.Remove(path)
		} else {
			err = visit(path)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the bucket state: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// draft is a JSON file that is on disk under a passing name, which is what
// takes time, and comes into force by a rename. So the former is done before the
// lock is taken, and the latter, after the checks that it depends on, under it.
type draft struct{ temp, path string }

// writeDraft writes what is to become the file at path. discard must be called.
func writeDraft(path string, v any) (*draft, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "tmp-")
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return &draft{f.Name(), path}, nil
}

// place brings the draft into force, once.
func (d *draft) place() error {
	if err := os.Rename(d.temp, d.path); err != nil {
		return fmt.Errorf("writing %s: %w", d.path, err)
	}
	d.temp = ""
	return nil
}

// discard removes a draft that was not placed. One that cannot be removed, as
// when its bucket is gone, is removed at start.
func (d *draft) discard() {
	if d.temp != "" {
		_ = os.Remove(d.temp)
	}
}

// writeJSON puts a file in place whole or not at all.
func writeJSON(path string, v any) error {
	d, err := writeDraft(path, v)
	if err != nil {
		return err
	}
	defer d.discard()
	return d.place()
}

func objectFile(key string) string { return hexSHA256([]byte(key)) + ".json" }

// createBucket makes the bucket's folder and only then lets it be found.
func (b *s3) createBucket(s *settings) error {
	id := rand.Text()
	dir := filepath.Join(b.dir, "tmp-"+id)
	for _, sub := range []string{"objects", "uploads", "data"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return fmt.Errorf("making bucket %q: %w", s.Name, err)
		}
	}
	if err := writeJSON(filepath.Join(dir, "bucket.json"), s); err != nil {
		return err
	}
	final := filepath.Join(b.dir, id)
	if err := os.Rename(dir, final); err != nil {
		return fmt.Errorf("making bucket %q: %w", s.Name, err)
	}
	b.buckets[s.Name] = &bucket{dir: final, settings: s, objects: map[string]*s3Object{}, uploads: map[string]*upload{}}
	return nil
}

func (b *s3) deleteBucket(bkt *bucket) error {
	gone := filepath.Join(b.dir, "tmp-"+rand.Text())
	if err := os.Rename(bkt.dir, gone); err != nil {
		return fmt.Errorf("deleting bucket %q: %w", bkt.settings.Name, err)
	}
	delete(b.buckets, bkt.settings.Name)
	return os.RemoveAll(gone)
}

// set replaces the settings.
func (bkt *bucket) set(s *settings) error {
	if err := s.compile(); err != nil {
		return fmt.Errorf("compiling the policy of bucket %q: %w", s.Name, err)
	}
	if err := writeJSON(filepath.Join(bkt.dir, "bucket.json"), s); err != nil {
		return err
	}
	bkt.settings = s
	return nil
}

func (bkt *bucket) objectPath(key string) string {
	return filepath.Join(bkt.dir, "objects", objectFile(key))
}

// put makes o, of which d is the draft, the object of its key.
func (bkt *bucket) put(o *s3Object, d *draft) error {
	if err := d.place(); err != nil {
		return err
	}
	old := bkt.objects[o.Key]
	bkt.objects[o.Key] = o
	if old == nil {
		i, _ := slices.BinarySearch(bkt.keys, o.Key)
		bkt.keys = slices.Insert(bkt.keys, i, o.Key)
	} else if old.Data != o.Data {
		return bkt.drop(old.Data)
	}
	return nil
}

// remove deletes the object of a key, if there is one.
func (bkt *bucket) remove(key string) error {
	old := bkt.objects[key]
	if old == nil {
		return nil
	}
	if err := os.Remove(bkt.objectPath(key)); err != nil {
		return fmt.Errorf("deleting an object of bucket %q: %w", bkt.settings.Name, err)
	}
	delete(bkt.objects, key)
	i, _ := slices.BinarySearch(bkt.keys, key)
	bkt.keys = slices.Delete(bkt.keys, i, i+1)
	return bkt.drop(old.Data)
}

func (bkt *bucket) drop(data string) error {
	if err := os.Remove(filepath.Join(bkt.dir, "data", data)); err != nil {
		return fmt.Errorf("deleting data of bucket %q: %w", bkt.settings.Name, err)
	}
	return nil
}

// open opens an object's bytes if it still is the object of its key. They stay
// readable when it is replaced later.
func (b *s3) open(bkt *bucket, o *s3Object) (f *os.File, current bool, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if bkt.objects[o.Key] != o {
		return nil, false, nil
	}
	f, err = os.Open(filepath.Join(bkt.dir, "data", o.Data))
	if err != nil {
		return nil, false, fmt.Errorf("opening data of bucket %q: %w", bkt.settings.Name, err)
	}
	return f, true, nil
}

// receive writes a body to a data file of its own. On an error nothing is left.
// The dir of a bucket never changes, so no lock is needed.
func (bkt *bucket) receive(src io.Reader, extra hash.Hash) (received, error) {
	got := received{data: rand.Text()}
	path := filepath.Join(bkt.dir, "data", got.data)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return received{}, fmt.Errorf("writing data: %w", err)
	}
	sum := md5.New() //nolint:gosec // S3's ETag is defined by it
	sinks := []io.Writer{f, sum}
	if extra != nil {
		sinks = append(sinks, extra)
	}
	got.size, err = io.Copy(io.MultiWriter(sinks...), src)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err != nil {
		return received{}, errors.Join(err, os.Remove(path))
	}
	got.etag = hex.EncodeToString(sum.Sum(nil))
	return got, nil
}

func uploadFile(id string, number int) string {
	if number == 0 {
		return id + ".json"
	}
	return fmt.Sprintf("%s.%d.json", id, number)
}

func (bkt *bucket) putUpload(u *upload) error {
	if err := writeJSON(filepath.Join(bkt.dir, "uploads", uploadFile(u.ID, 0)), u); err != nil {
		return err
	}
	bkt.uploads[u.ID] = u
	return nil
}

// putPart makes p, of which d is the draft, the part of its number.
func (bkt *bucket) putPart(u *upload, p *part, d *draft) error {
	if err := d.place(); err != nil {
		return err
	}
	old := u.parts[p.Number]
	u.parts[p.Number] = p
	if old != nil {
		return bkt.drop(old.Data)
	}
	return nil
}

// removeUpload forgets an upload and its parts. The upload's own file goes
// first: parts without one are removed at start.
func (bkt *bucket) removeUpload(u *upload) error {
	err := os.Remove(filepath.Join(bkt.dir, "uploads", uploadFile(u.ID, 0)))
	if err != nil {
		return fmt.Errorf("ending an upload of bucket %q: %w", bkt.settings.Name, err)
	}
	delete(bkt.uploads, u.ID)
	for n, p := range u.parts {
		err = errors.Join(err, os.Remove(filepath.Join(bkt.dir, "uploads", uploadFile(u.ID, n))), bkt.drop(p.Data))
	}
	return err
}
