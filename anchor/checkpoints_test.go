package anchor

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
)

// signed is a checkpoint that nobody here verifies.
func signed(size int64) audit.Checkpoint {
	return audit.Checkpoint{Size: size, Note: fmt.Sprintf("example.com/audit\n%d\ncm9vdCByb290IHJvb3Qgcm9vdCByb290IHJvb3Qgcm8=\n\n— example.com/<&> c2lnbmVk\n", size)}
}

func newHeads(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "heads")
	if err := CreateCheckpoints(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func openHeads(t testing.TB, path string) *Checkpoints {
	t.Helper()
	c, err := OpenCheckpoints(path, func() time.Time { return noon })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func readSeen(t testing.TB, path string) (sizes []int64, err error) {
	t.Helper()
	data, readErr := os.ReadFile(path)
	if readErr != nil {
		t.Fatal(readErr)
	}
	for s, err := range ReadCheckpoints(bytes.NewReader(data)) {
		if err != nil {
			return sizes, err
		}
		sizes = append(sizes, s.Size)
	}
	return sizes, nil
}

func TestPublishThenRead(t *testing.T) {
	path := newHeads(t)
	c := openHeads(t, path)
	if last, some := c.Last(); some || c.Name() != "checkpoints" {
		t.Errorf("the newest of an empty file is %+v, %t; its name is %q", last, some, c.Name())
	}
	for _, size := range []int64{1, 5, 5, 9} { // the same one again adds no line
		if err := c.Publish(t.Context(), signed(size)); err != nil {
			t.Error(err)
		}
	}
	wantRefusal(t, c.Publish(t.Context(), signed(8)), "putting the checkpoint of 8 records into file of checkpoints")
	wantRefusal(t, c.Publish(t.Context(), signed(8)), "want one of 9 records, as the newest is, or more, got one of 8")
	forked := signed(9)
	forked.Note += "— another c2lnbmVk\n"
	wantRefusal(t, c.Publish(t.Context(), forked), "there is another one of 9 records already")
	wantRefusal(t, c.Publish(t.Context(), audit.Checkpoint{Size: 10, Note: signed(11).Note}), "size: want 11, as the checkpoint has it, got 10")
	if got, err := readSeen(t, path); err != nil || !slices.Equal(got, []int64{1, 5, 9}) {
		t.Errorf("the file holds %v, %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	again := openHeads(t, path)
	if last, some := again.Last(); !some || last != (Seen{noon, 9, signed(9).Note}) {
		t.Errorf("opened again, the newest is %+v, %t", last, some)
	}
	wantRefusal(t, again.Publish(t.Context(), signed(8)), "got one of 8")
}

// Files are read for years, so the form is fixed.
func TestFormOfCheckpoints(t *testing.T) {
	path := newHeads(t)
	if err := openHeads(t, path).Publish(t.Context(), signed(5)); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2030-01-02T12:00:00.000Z","size":5,"checkpoint":"example.com/audit\n5\ncm9vdCByb290IHJvb3Qgcm9vdCByb290IHJvb3Qgcm8=\n\n— example.com/<&> c2lnbmVk\n"}` + "\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("error %v, got  %swant %s", err, got, want)
	}
}

// Whatever File refuses to open, this refuses as well, and says how another is made.
func TestOpenCheckpointsRefuses(t *testing.T) {
	path := newHeads(t)
	c := openHeads(t, path)
	_, err := OpenCheckpoints(path, time.Now)
	wantRefusal(t, err, "file is in use by another broker")
	if err := c.Publish(t.Context(), signed(5)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*testing.T, string) error
		want   string
	}{
		"missing":         {func(_ *testing.T, path string) error { return os.Remove(path) }, "agentkeys init --checkpoints-file FILE makes one"},
		"others can read": {func(_ *testing.T, path string) error { return os.Chmod(path, 0o644) }, "want mode 0600, got 0644"},
		"a torn line":     {content(string(whole[:len(whole)-3])), "its last line is cut off, from byte 0"},
		"an anchor file":  {content(lineFor(record("a"))), "is none of its kind: "},
	} {
		path := newHeads(t)
		if err := tt.change(t, path); err != nil {
			t.Fatal(err)
		}
		_, err := OpenCheckpoints(path, time.Now)
		if wantRefusal(t, err, tt.want); t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestReadCheckpointsIsStrict(t *testing.T) {
	line := func(size int64) string {
		text, err := Seen{noon, size, signed(size).Note}.line()
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"shrunk":            {line(6) + line(5), "want one of 6 records, as the newest is, or more, got one of 5"},
		"forked":            {line(6) + strings.Replace(line(6), "\\ncm9v", "\\nZm9v", 1), "there is another one of 6 records already"},
		"another size":      {strings.Replace(line(6), `"size":6`, `"size":7`, 1), "size: want 6, as the checkpoint has it, got 7"},
		"a space":           {strings.Replace(line(6), `"size":6`, `"size": 6`, 1), "another spelling"},
		"an unknown member": {strings.Replace(line(6), `"}`, `","x":1}`, 1), "known members"},
		"another zone":      {strings.Replace(line(6), "00.000Z", "00.000+01:00", 1), "time: want RFC 3339"},
		"no JSON":           {"hello\n", "want a JSON object"},
		"cut off":           {line(6)[:30], "it is cut off"},
		"no note":           {`{"time":"2030-01-02T12:00:00.000Z","size":6,"checkpoint":"6"}` + "\n", "checkpoint: malformed note"},
	} {
		path := newHeads(t)
		if err := content(line(1)+tt.text)(t, path); err != nil {
			t.Fatal(err)
		}
		if _, err := readSeen(t, path); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// A disk that hangs holds nobody up for longer than the context says.
func TestPublishOnAHangingDisk(t *testing.T) {
	answer := make(chan struct{})
	c := newCheckpoints(newLines(heads, "x", flushingAfter(answer), 0, nil), time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() { first <- c.Publish(ctx, signed(1)) }()
	second := make(chan error, 1)
	go func() { second <- c.Publish(ctx, signed(2)) }()
	cancel()
	for _, outcome := range []chan error{first, second} {
		wantRefusal(t, <-outcome, "context canceled")
	}
	close(answer)
	if err := c.Publish(t.Context(), signed(3)); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzReadCheckpoints(f *testing.F) {
	good, err := Seen{noon, 6, signed(6).Note}.line()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(append(bytes.Clone(good), good...))
	f.Add(good[:40])
	f.Fuzz(func(t *testing.T, data []byte) {
		var again []byte
		var failed error
		for s, err := range ReadCheckpoints(bytes.NewReader(data)) {
			if failed = err; err != nil {
				break
			}
			line, err := s.line()
			if err != nil {
				t.Fatalf("%+v was read and cannot be written: %v", s, err)
			}
			again = append(again, line...)
		}
		if !bytes.HasPrefix(data, again) || failed == nil && len(again) != len(data) {
			t.Fatalf("%q was read as what is written as %q (error %v)", data, again, failed)
		}
	})
}
