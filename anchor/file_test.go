package anchor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"agentkeys/agentkeystest/child"
	"agentkeys/audit"
)

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func itoa(n int) string { return strconv.Itoa(n) }

// record is complete; its request tells it apart.
func record(id string) audit.Entry {
	return audit.Entry{Record: audit.Record{Seq: 1, ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Time: noon, Action: "mint.aws_creds", Outcome: "pending", RequestID: id},
		Salt: []byte("sixteen octets :")}
}

func newPath(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "anchor.jsonl")
	if err := CreateFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *File {
	t.Helper()
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func mustPut(t testing.TB, f *File, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := f.Put(t.Context(), record(id)); err != nil {
			t.Fatal(err)
		}
	}
}

// idsOf reads the whole of a file.
func idsOf(t testing.TB, path string) (ids []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	records, err := readAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		ids = append(ids, r.RequestID)
	}
	return ids
}

func wantIDs(t testing.TB, path string, want ...string) {
	t.Helper()
	if got := idsOf(t, path); !slices.Equal(got, want) {
		t.Errorf("the file holds %q, want %q", got, want)
	}
}

// wantRefusal wants an error of one line that says so.
func wantRefusal(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want a line with %q", err, want)
	}
}

func TestPutThenRead(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	if f.Name() != "file" {
		t.Errorf("Name = %q", f.Name())
	}
	mustPut(t, f, "a", "b")
	wantIDs(t, path, "a", "b")
	mustPut(t, f, "b") // a retry
	wantIDs(t, path, "a", "b", "b")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, path)
	mustPut(t, f, "c")
	wantIDs(t, path, "a", "b", "b", "c")
}

func TestPutRefusesWhatCannotBeReadBack(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	for want, change := range map[string]func(*audit.Entry){
		"it is not as AgentKeys writes it": func(e *audit.Entry) { e.Reason = "\xff" },
		"place: want a number from 1":      func(e *audit.Entry) { e.Seq = 0 },
		"request_id is missing":            func(e *audit.Entry) { e.RequestID = "" },
		"salt: want 32":                    func(e *audit.Entry) { e.Salt = []byte("short") },
		"it was changed":                   func(e *audit.Entry) { e.Hash = make([]byte, 32) },
	} {
		bad := record("a")
		bad.Seq = 7
		change(&bad)
		wantRefusal(t, f.Put(t.Context(), record("good"), bad), want)
		wantRefusal(t, f.Put(t.Context(), bad), fmt.Sprintf("putting the audit record at place %d into anchor file %q: ", bad.Seq, path))
	}
	mustPut(t, f, "b")
	wantIDs(t, path, "b") // nothing that came with a bad one either
}

func TestPutOfMany(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	if err := f.Put(t.Context()); err != nil {
		t.Error(err)
	}
	if err := f.Put(t.Context(), record("a"), record("b"), record("c")); err != nil {
		t.Error(err)
	}
	wantIDs(t, path, "a", "b", "c")
}

func TestLast(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	if last, some := f.Last(); some {
		t.Errorf("the last line of an empty file is %+v", last)
	}
	e := record("a")
	for e.Seq = 3; e.Seq < 6; e.Seq++ {
		if err := f.Put(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if last, some := open(t, path).Last(); !some || last.Place != 5 || last.Hash != e.LeafHash(e.Digest()) {
		t.Errorf("the last line is %+v, %t; want the one at place 5", last, some)
	}
}

func TestCreateFile(t *testing.T) {
	path := newPath(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 || info.Size() != 0 {
		t.Errorf("the file is %v (%v), want an empty one of mode 0600", info, err)
	}
	wantRefusal(t, CreateFile(path), "file already exists; it is never written over")
	wantRefusal(t, CreateFile(filepath.Join(path, "x")), "not a directory")
	link := filepath.Join(t.TempDir(), "link")
	target := filepath.Join(t.TempDir(), "target")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, CreateFile(link), "file already exists")
	if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("creating a file over a link made the link's target (%v)", err)
	}
}

func TestCreateFileWhateverTheUmask(t *testing.T) {
	path := filepath.Join(t.TempDir(), "anchor.jsonl")
	old := syscall.Umask(0o777)
	err := CreateFile(path)
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, open(t, path), "a")
	wantIDs(t, path, "a")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v (%v), want mode 0600", info, err)
	}
}

func TestOpenFileRefuses(t *testing.T) {
	line := lineFor(record("a"))
	for name, tt := range map[string]struct {
		change func(t *testing.T, path string) error
		want   string
	}{
		"missing": {func(_ *testing.T, path string) error { return os.Remove(path) }, "file does not exist; agentkeys init --anchor-file FILE makes one"},
		"others can read": {func(_ *testing.T, path string) error { return os.Chmod(path, 0o604) },
			"others than its owner can reach it: want mode 0600, got 0604"},
		"the group can write": {func(_ *testing.T, path string) error { return os.Chmod(path, 0o620) }, "want mode 0600, got 0620"},
		"a folder": {func(_ *testing.T, path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
			"is a directory"},
		"a FIFO": {func(_ *testing.T, path string) error {
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		},
			"want a regular file, got one of type p"},
		"a symbolic link": {func(_ *testing.T, path string) error {
			return errors.Join(os.Rename(path, path+"-target"), os.Symlink(path+"-target", path))
		}, "want a regular file, got a symbolic link"},
		"a link to nothing": {func(_ *testing.T, path string) error {
			return errors.Join(os.Remove(path), os.Symlink(path+"-target", path))
		}, "want a regular file, got a symbolic link"},
		"a device": {func(t *testing.T, path string) error {
			if os.Getuid() != 0 {
				t.Skip("only root makes devices")
			}
			return errors.Join(os.Remove(path), syscall.Mknod(path, syscall.S_IFCHR|0o600, 1<<8|3))
		}, "want a regular file, got one of type Dc"},
		"torn in the first line": {content(line[:10]), "its last line is cut off, from byte 0 to 10: nothing there was acknowledged; keep a copy, then run: truncate -s 0 /"},
		"torn in a later line":   {content(line + line + line[:len(line)-1]), fmt.Sprintf("from byte %d to %d: ", 2*len(line), 3*len(line)-1)},
		"torn far behind": {content(strings.Repeat(line, 1000) + line[:5]),
			fmt.Sprintf("from byte %d to %d: ", 1000*len(line), 1000*len(line)+5)},
		"zeros at the end":     {content(line + "\x00\x00\x00"), fmt.Sprintf("cut off, from byte %d to %d", len(line), len(line)+3)},
		"no lines":             {content(strings.Repeat("x", 3*maxLine)), "want a file of lines, got none that ends in its last 65536 bytes"},
		"another file":         {content(line + "hello\n"), fmt.Sprintf("its last line, from byte %d, is none of its kind", len(line))},
		"a last line too long": {content(line + strings.Repeat("x", 3*maxLine) + "\n"), "is none of its kind"},
		"the form of before": {content(`{"id":"1","time":"2030-01-02T12:00:00.000Z","action":"a","outcome":"b","request_id":"c"}` + "\n"),
			"it is of the form from before the audit log was a tree: keep the file, and have agentkeys init --anchor-file FILE make a new one"},
		"an empty line":         {content(line + "\n"), "is none of its kind"},
		"nothing but a line":    {content("\n"), "its last line, from byte 0, is none of its kind"},
		"a line with a stowage": {content(line + strings.Replace(line, "{", "{ ", 1)), "is none of its kind"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			if err := tt.change(t, path); err != nil {
				t.Fatal(err)
			}
			f, err := OpenFile(path)
			if err == nil {
				_ = f.Close()
			}
			wantRefusal(t, err, tt.want)
			wantRefusal(t, err, fmt.Sprintf("opening anchor file %q: ", path))
		})
	}
}

func content(text string) func(*testing.T, string) error {
	return func(_ *testing.T, path string) error { return os.WriteFile(path, []byte(text), 0o600) }
}

func TestWhatTheErrorSaysMendsATornFile(t *testing.T) {
	path := newPath(t)
	line := lineFor(record("a"))
	if err := content(line+line[:7])(t, path); err != nil {
		t.Fatal(err)
	}
	_, err := OpenFile(path)
	mend(t, path, err)
	mustPut(t, open(t, path), "b")
	wantIDs(t, path, "a", "b")
}

// mend does what the error says to do.
func mend(t testing.TB, path string, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("no error to follow")
	}
	_, command, _ := strings.Cut(err.Error(), "truncate -s ")
	size, rest, _ := strings.Cut(command, " ")
	n, numberErr := strconv.ParseInt(size, 10, 64)
	if numberErr != nil || rest != path {
		t.Fatalf("the error does not say what to do: %v", err)
	}
	if err := os.Truncate(path, n); err != nil {
		t.Fatal(err)
	}
}

func TestSecondOpenerIsRefused(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	for range 2 {
		if _, err := OpenFile(path); !errors.Is(err, ErrInUse) {
			t.Errorf("OpenFile beside another = %v, want ErrInUse", err)
		}
	}
	if out := child.Output(t, child.Command(t, "put", path, "x")); !strings.Contains(out, "file is in use by another broker") {
		t.Errorf("another process printed %q, want a refusal", out)
	}
	mustPut(t, f, "a")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if out := child.Output(t, child.Command(t, "put", path, "x")); out != "x\n" {
		t.Errorf("after Close another process printed %q, want x", out)
	}
	wantIDs(t, path, "a", "x")
}

// Another process that is just being started holds a copy of every descriptor.
func TestClosedFileIsFreeDespiteACopyOfItsDescriptor(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	held, err := syscall.Dup(int(f.disk.(lockedFile).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(held)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	mustPut(t, open(t, path), "a")
}

// A second File need not go through us to do harm.
func TestSomebodyElseChangesTheFile(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(path string) error
		want   string
	}{
		"appends": {func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("{\n")
			return errors.Join(err, f.Close())
		}, "something else changed the file: want"},
		"empties": {func(path string) error { return os.Truncate(path, 0) }, "something else changed the file: want"},
		"removes": {os.Remove, "it was moved, removed or replaced"},
		"moves":   {func(path string) error { return os.Rename(path, path+".1") }, "it was moved, removed or replaced"},
		"rotates": {func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), CreateFile(path))
		}, "it was moved, removed or replaced"},
		"puts a link": {func(path string) error {
			return errors.Join(os.Rename(path, path+".1"), os.Symlink(path+".1", path))
		}, "it was moved, removed or replaced"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			f := open(t, path)
			mustPut(t, f, "a")
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			wantRefusal(t, f.Put(t.Context(), record("b")), tt.want)
			wantRefusal(t, f.Put(t.Context(), record("c")), "file stopped, restart to open it anew: ")
		})
	}
}

func TestClose(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards acknowledged
	acknowledged := make(map[string]bool)
	started := make(chan struct{}, 64)
	for c := range 64 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d", c, i)
				err := f.Put(t.Context(), record(id))
				if i == 0 {
					started <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				acknowledged[id] = true
				mu.Unlock()
			}
		})
	}
	for range 64 {
		<-started
	}
	for range 2 {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	for _, id := range idsOf(t, path) {
		delete(acknowledged, id)
	}
	if len(acknowledged) > 0 {
		t.Errorf("acknowledged and not there: %v", acknowledged)
	}
	for range 2 * maxBatch { // more than wait
		if err := f.Put(t.Context(), record("late")); !errors.Is(err, ErrClosed) {
			t.Fatalf("Put after Close = %v, want ErrClosed", err)
		}
	}
}

func TestPutAfterTheContextEnded(t *testing.T) {
	path := newPath(t)
	f := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		if err := f.Put(ctx, record("a")); !errors.Is(err, context.Canceled) {
			t.Fatalf("Put = %v, want the context's error", err)
		}
	}
	mustPut(t, f, "b")
	wantIDs(t, path, "b")
}

func BenchmarkPut(b *testing.B) {
	f := open(b, newPath(b))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f.Put(b.Context(), record("a")); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	r := record("01ARZ3NDEKTSV4RRFFQ69G5FAV")
	for b.Loop() {
		if _, err := lineOf(&r); err != nil {
			b.Fatal(err)
		}
	}
}
