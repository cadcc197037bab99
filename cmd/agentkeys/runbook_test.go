package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"agentkeys/localaws"
)

const runbookFile = "../../docs/cloud-setup.md"

// What the run-book calls the issuer and the address behind its proxy. They are
// the only values that a run replaces: here the broker is its own front, on a
// loopback port.
const (
	runbookIssuer = "https://broker.example.com"
	runbookBind   = "127.0.0.1:8091"
)

// runbookStory is one way through the run-book: all blocks in order, but for
// those below the headings that it passes over, and as far as one heading.
type runbookStory struct {
	name string
	skip []string
	stop string
}

// The run-book has a beginning that not everybody has, and two ways to one end.
var runbookStories = []runbookStory{
	{name: "from static keys with agentkeys", skip: []string{"6.3 By hand"}},
	{name: "from static keys by hand", skip: []string{"6.2 With agentkeys"}, stop: "8. The proof"},
	{name: "from nothing by hand", skip: []string{"5. The way of before: an IAM user and a broad role", "6.2 With agentkeys",
		"Strip the broad grant", "6.4 The old key"}, stop: "9. From outcome to cause"},
}

// TestRunbook does what the run-book says, word for word, with the real AWS CLI
// against a broker and a local AWS.
func TestRunbook(t *testing.T) {
	r := parseRunbook(t)
	for _, b := range r.blocks {
		if b.notRun != "" {
			t.Logf("line %d is not run: %s", b.line, b.notRun)
		}
	}
	for _, s := range runbookStories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			if err := newRunbookLab(t).tell(s, r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func parseRunbook(t *testing.T) runbook {
	t.Helper()
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	r, err := readRunbook(string(text))
	if err != nil {
		t.Fatalf("%s: %v", runbookFile, err)
	}
	return r
}

// runbookLab is the world of a story: a local AWS, two hosts, and an address at
// which the story is to start its broker.
type runbookLab struct {
	broker string
	hosts  map[string]*runbookShell
}

func newRunbookLab(t *testing.T) *runbookLab {
	t.Helper()
	dir := t.TempDir()
	c := localaws.Config{Dir: dir, Account: localAccount, Region: localRegion, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	if err := localaws.Create(c); err != nil {
		t.Fatal(err)
	}
	l, err := listen("127.0.0.1:0", "")
	if err != nil {
		t.Fatal(err)
	}
	a, err := startAWS(l, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.stop(); err != nil {
			t.Error(err)
		}
	})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close() // the story's broker takes the port
	brokerHost, workstation := t.TempDir(), t.TempDir()
	environ := runbookEnviron(t, brokerHost, a.url)
	id, secret := a.AdminCredentials()
	return &runbookLab{free.Addr().String(), map[string]*runbookShell{
		"broker host": startRunbookShell(t, brokerHost, environ),
		"workstation": startRunbookShell(t, workstation, append(slices.Clone(environ), "AWS_ACCESS_KEY_ID="+id, "AWS_SECRET_ACCESS_KEY="+secret)),
	}}
}

// tell executes a story's blocks until one does not do what the text says.
func (l *runbookLab) tell(s runbookStory, r runbook) error {
	toLocal := strings.NewReplacer("ISSUER="+runbookIssuer+"\n", "ISSUER=http://"+l.broker+"\n", "BIND="+runbookBind+"\n", "BIND="+l.broker+"\n")
	toText := strings.NewReplacer("http://"+l.broker, runbookIssuer, l.broker, strings.TrimPrefix(runbookIssuer, "https://"),
		"aws: [ERROR]: ", "")
	seen, executed := map[string]bool{}, 0
	for _, b := range r.blocks {
		skip := b.notRun != ""
		for _, h := range b.headings {
			h = strings.TrimSpace(runbookHost.ReplaceAllString(h, ""))
			seen[h] = true
			if h == s.stop {
				return s.complete(seen, executed)
			}
			skip = skip || slices.Contains(s.skip, h)
		}
		if skip {
			continue
		}
		if err := l.hosts[b.host].execute(b, toLocal.Replace(b.commands), toText.Replace); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		executed++
	}
	return s.complete(seen, executed)
}

// complete checks that a story was the one that it says: a heading that was
// renamed would silently leave its blocks in, or out.
func (s runbookStory) complete(seen map[string]bool, executed int) error {
	for _, h := range append(slices.Clone(s.skip), s.stop) {
		if h != "" && !seen[h] {
			return fmt.Errorf("%s: the run-book has no heading %q", s.name, h)
		}
	}
	if executed == 0 {
		return fmt.Errorf("%s: no block was executed", s.name)
	}
	return nil
}
