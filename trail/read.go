package trail

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// maxFile bounds a file, unpacked. CloudTrail begins a new file long before that.
const maxFile = 512 << 20

// A Trail is what was read: the events that were to be kept, and what the files as a
// whole are evidence of.
type Trail struct {
	Files   int // without those that are passed over
	Events  int // of all kinds
	Data    int // of these, data events
	Kept    []Event
	Again   int     // events to be kept that came again, alike
	Altered []Event // events whose ID came before, of which something else is told

	First, Last time.Time // of all events
	Delivered   time.Time // the latest delivery that a file's name tells; zero without

	seen map[string]int // where in Kept an ID is
}

// logName is the name of a log file, with the time of its delivery.
// Source: "CloudTrail log file name format", AWS CloudTrail User Guide.
var logName = regexp.MustCompile(`^[0-9]{12}_CloudTrail_[a-z0-9-]+_([0-9]{8}T[0-9]{4}Z)_[A-Za-z0-9]{16}\.json(?:\.gz)?$`)

// otherName is that of a digest file, which has hashes of log files, or of an
// insights file: neither has calls in it.
// Source: "CloudTrail digest file structure", AWS CloudTrail User Guide.
var otherName = regexp.MustCompile(`^[0-9]{12}_CloudTrail-(?:Digest|Insight)_[a-z0-9-]+_.+\.json\.gz$`)

// Read reads files, and folders with all that is below them. A file holds
// {"Records":[…]}, as CloudTrail delivers it, or {"Events":[…]}, as "aws cloudtrail
// lookup-events" prints it; packed with gzip if its name ends in .gz. Anything else
// is refused by its name, apart from digest and insights files in folders, which are
// passed over. keep says which events are kept, each once however often it comes:
// two trails, or a file and its copy, have the same event.
func Read(keep func(*Event) bool, paths ...string) (*Trail, error) {
	t := &Trail{seen: map[string]int{}}
	for _, path := range paths {
		if err := t.walk(path, keep); err != nil {
			return nil, fmt.Errorf("reading CloudTrail's files: %w", err)
		}
	}
	return t, nil
}

func (t *Trail) walk(root string, keep func(*Event) bool) error {
	if info, err := os.Stat(root); err != nil {
		return err
	} else if !info.IsDir() { // named by itself: a link will do
		return t.file(root, info.Mode(), keep)
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || otherName.MatchString(d.Name()) {
			return err
		}
		return t.file(path, d.Type(), keep)
	})
}

func (t *Trail) file(path string, mode fs.FileMode, keep func(*Event) bool) error {
	name := filepath.Base(path)
	packed := strings.HasSuffix(name, ".json.gz")
	if !mode.IsRegular() || !packed && !strings.HasSuffix(name, ".json") {
		return fmt.Errorf("%s: want a file that ends in .json or .json.gz, got another kind", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = readFile(f, packed, func(e Event) {
		e.File = path
		t.add(e, keep)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	t.Files++
	if m := logName.FindStringSubmatch(name); m != nil {
		if at, err := time.Parse("20060102T1504Z", m[1]); err == nil && at.After(t.Delivered) {
			t.Delivered = at
		}
	}
	return nil
}

// add counts an event, and keeps it if it is wanted.
func (t *Trail) add(e Event, keep func(*Event) bool) {
	t.Events++
	if e.Data {
		t.Data++
	}
	if t.First.IsZero() || e.Time.Before(t.First) {
		t.First = e.Time
	}
	if e.Time.After(t.Last) {
		t.Last = e.Time
	}
	at, came := t.seen[e.ID]
	switch {
	case came && t.Kept[at].same(e):
		t.Again++
	case came:
		t.Altered = append(t.Altered, e)
	case keep(&e):
		t.seen[e.ID] = len(t.Kept)
		t.Kept = append(t.Kept, e)
	}
}

// same says whether two events tell the same, wherever they were read.
func (e Event) same(other Event) bool {
	e.File, other.File = "", ""
	return reflect.DeepEqual(e, other)
}

// readFile hands on the events of one file, none of them all in memory.
func readFile(r io.Reader, packed bool, each func(Event)) error {
	r = bufio.NewReader(r)
	if packed {
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	}
	limited := &io.LimitedReader{R: r, N: maxFile + 1}
	err := readEvents(json.NewDecoder(limited), each)
	if limited.N <= 0 {
		return fmt.Errorf("want at most %d bytes, got more", maxFile)
	}
	return err
}

// readEvents reads one object with one of the two members that hold events.
func readEvents(d *json.Decoder, each func(Event)) error {
	if err := expect(d, json.Delim('{')); err != nil {
		return err
	}
	found := ""
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		switch {
		case (name == "Records" || name == "Events") && found != "":
			return fmt.Errorf("want Records or Events once, got %s and %s", found, name)
		case name == "Records" || name == "Events":
			found = name
			err = readArray(d, name, each)
		default:
			err = readOther(d, name)
		}
		if err != nil {
			return err
		}
	}
	if err := expect(d, json.Delim('}')); err != nil {
		return err
	}
	if found == "" {
		return errors.New("want Records or Events, got neither")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("want one JSON object, got more")
	}
	return nil
}

// readOther passes over a member, but not over the word that there is more to come.
func readOther(d *json.Decoder, name string) error {
	var value json.RawMessage
	if err := d.Decode(&value); err != nil {
		return err
	}
	if name == "NextToken" && string(value) != "null" && string(value) != `""` {
		return errors.New("the list of events goes on: want it without --max-items and --no-paginate, got NextToken")
	}
	return nil
}

func readArray(d *json.Decoder, name string, each func(Event)) error {
	if err := expect(d, json.Delim('[')); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for i := 0; d.More(); i++ {
		var value json.RawMessage
		err := d.Decode(&value)
		var e Event
		if err == nil {
			e, err = parseMember(name, value)
		}
		if err != nil {
			return fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		each(e)
	}
	return expect(d, json.Delim(']'))
}

// parseMember reads a record, or a found event, which has its record as text.
func parseMember(name string, value []byte) (Event, error) {
	if name == "Records" {
		return ParseEvent(value)
	}
	var found struct {
		EventID         string `json:"EventId"`
		CloudTrailEvent string
	}
	if err := json.Unmarshal(value, &found); err != nil {
		return Event{}, err
	}
	e, err := ParseEvent([]byte(found.CloudTrailEvent))
	if err == nil && found.EventID != "" && found.EventID != e.ID {
		err = fmt.Errorf("want the event %.64q, got %.64q within", found.EventID, e.ID)
	}
	return e, err
}

func expect(d *json.Decoder, want json.Delim) error {
	got, err := d.Token()
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("want %s, got %v", want, got)
	}
	return nil
}
