package broker

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"agentkeys/anchor"
	"agentkeys/api"
)

// idle is a broker of which nobody asks anything, with a file of heads and an anchor of
// them, both of which have all that there is.
func idle(t *testing.T, follow bool) (b *Broker, heads, checkpoints string) {
	t.Helper()
	b = &Broker{Config: Config{Now: time.Now, Log: slog.New(slog.DiscardHandler), AnchorsFollow: follow}, log: newSequence(), anchorFor: anchorTimeout}
	ctx, cancel := context.WithCancel(t.Context())
	open := func(name string) (string, Anchor) {
		path := filepath.Join(t.TempDir(), name)
		c, err := anchor.OpenCheckpoints(path, time.Now)
		if err == nil || anchor.CreateCheckpoints(path) != nil {
			t.Fatalf("%s is there already: %v", path, err)
		}
		if c, err = anchor.OpenCheckpoints(path, time.Now); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
		return path, Anchor{Name: name, Publish: c.Publish, Look: c.Look}
	}
	ended := make(chan struct{})
	for _, into := range []struct {
		name string
		path *string
	}{{headsAnchor, &heads}, {"checkpoints", &checkpoints}} {
		path, a := open(into.name)
		*into.path = path
		b.followers = append(b.followers, b.follow(a))
	}
	for _, f := range b.followers {
		go func() {
			f.run(ctx)
			ended <- struct{}{}
		}()
	}
	t.Cleanup(func() {
		cancel()
		for range b.followers {
			<-ended
		}
	})
	return b, heads, checkpoints
}

// A file that was moved, replaced or changed under a broker that has nothing to write is
// named in readiness as soon as it was looked at, with what happened to it and without its
// path; and as what works, once it is back.
func TestReadinessNamesAFileThatWasMoved(t *testing.T) {
	const moved, changed = "it was moved, removed or replaced", "something else changed the file: want 0 bytes, got 2"
	away := func(path string) error { return os.Rename(path, path+".1") }
	back := func(path string) error { return os.Rename(path+".1", path) }
	for name, tt := range map[string]struct {
		harm, mend func(path string) error
		want       string
	}{
		"moved": {away, back, moved},
		"replaced": {func(path string) error { return errors.Join(away(path), anchor.CreateCheckpoints(path)) },
			func(path string) error { return errors.Join(os.Remove(path), back(path)) }, moved},
		"linked":  {func(path string) error { return errors.Join(away(path), os.Symlink(path+".1", path)) }, func(path string) error { return errors.Join(os.Remove(path), back(path)) }, moved},
		"written": {func(path string) error { return os.WriteFile(path, []byte("x\n"), 0o600) }, func(path string) error { return os.Truncate(path, 0) }, changed},
	} {
		for _, follow := range []bool{true, false} {
			status := map[bool]string{true: api.StatusDegraded, false: api.StatusUnready}[follow]
			t.Run(name+" "+status, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b, heads, checkpoints := idle(t, follow)
					want := func(when, log, anchor string) {
						t.Helper()
						<-time.After(time.Minute) // a look, and the next try at its latest
						for check, status := range map[api.Check]string{b.checkLog(): log, b.checkAnchor(b.anchors()[0]): anchor} {
							bad := status != api.StatusReady
							if check.Status != status || bad != strings.Contains(check.Reason, tt.want) || strings.Contains(check.Reason, heads) || strings.Contains(check.Reason, checkpoints) {
								t.Errorf("%s: %+v, want %s", when, check, status)
							}
						}
					}
					want("as it was left", api.StatusReady, api.StatusReady)
					if err := tt.harm(checkpoints); err != nil {
						t.Fatal(err)
					}
					want("after the harm to the checkpoints", api.StatusReady, status)
					if err := errors.Join(tt.mend(checkpoints), tt.harm(heads)); err != nil {
						t.Fatal(err)
					}
					want("after the harm to the heads", api.StatusUnready, api.StatusReady)
					if err := tt.mend(heads); err != nil {
						t.Fatal(err)
					}
					want("mended", api.StatusReady, api.StatusReady)
				})
			})
		}
	}
}

// An anchor is looked at while it lacks nothing, never beside another call, and one that
// hangs then is given up like one that hangs with what it is brought.
func TestAnchorIsLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards looks and hang
		var looks []time.Duration
		hang := false
		release := make(chan struct{})
		looked := func() []time.Duration {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(looks)
		}
		hangs := func(now bool) {
			mu.Lock()
			defer mu.Unlock()
			hang = now
		}
		s := &shelf{start: time.Now()}
		f := newFollower("east", &Broker{Config: Config{Now: time.Now, Log: slog.New(slog.DiscardHandler)}, anchorFor: anchorTimeout})
		f.next = func(_ context.Context, after int64) (func(context.Context) error, int64, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if after >= s.there {
				return nil, after, nil
			}
			return s.call, s.there, nil
		}
		f.look = func(context.Context) error {
			mu.Lock()
			looks = append(looks, time.Since(s.start))
			hung := hang
			mu.Unlock()
			if hung {
				<-release
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.run(ctx)
		}()
		<-time.After(2*lookEvery + time.Second)
		if got, want := looked(), []time.Duration{lookEvery, 2 * lookEvery}; !slices.Equal(got, want) {
			t.Errorf("it was looked at after %v, want %v", got, want)
		}
		hangs(true)
		<-time.After(lookEvery + anchorTimeout)
		synctest.Wait()
		if st := f.standing(); !st.open {
			t.Errorf("one that hangs stands %+v", st)
		}
		hangs(false)
		close(release)
		before := len(looked()) // what it answered came too late to be believed, so it is looked at again
		if st := f.standing(); st.open || st.failures != 0 || before < 4 {
			t.Errorf("one that works again stands %+v after %d looks", st, before)
		}
		s.bring(f, 7, nil)
		after := len(looked())
		if calls := s.called(); f.at() != 7 || len(calls) != 1 || after != before {
			t.Errorf("brought at %v, and looked at %d times more: want no look at what it was just brought", calls, after-before)
		}
		cancel()
		<-ended
	})
}

// What an error says of itself to anybody is all that readiness tells of it.
func TestPublicPartOfAnError(t *testing.T) {
	if got := public(errors.New("/secret/path: no room")); got != "" {
		t.Errorf("of an error that says nothing to anybody: %q", got)
	}
	path := filepath.Join(t.TempDir(), "checkpoints")
	if err := anchor.CreateCheckpoints(path); err != nil {
		t.Fatal(err)
	}
	cps, err := anchor.OpenCheckpoints(path, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer cps.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := cps.Look(t.Context())
		if err == nil || !strings.Contains(err.Error(), path) || public(err) != "it was moved, removed or replaced" {
			t.Errorf("looking at a file that is gone: %v, of which anybody reads %q", err, public(err))
		}
	}
}
