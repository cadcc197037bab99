package main

import (
	"os"
	"strings"
	"testing"
)

// runbookSample is a run-book of two hosts that keeps to all rules. ~~~ stands for
// the fence of a block.
const runbookSample = `# A sample

## First (on the broker host)

~~~sh
WORD=one
greet() { echo "$1 $WORD"; }
~~~

~~~sh
greet hello
mkdir made
~~~

~~~output
hello one
~~~

~~~sh
# not run by the test: DNS
exit 9
~~~

### Below, still there

~~~sh
ls
cat absent || echo none
printf 'a\n\nb\nc\n'
false
~~~

~~~output
…
none
a
…
c
(exit status 1)
~~~

## Second (on the workstation)

~~~sh
echo "at $(ls), ${WORD:-nothing}"
~~~

~~~output
at…nothing
~~~
`

// trySample reads and executes a run-book of plain commands.
func trySample(t *testing.T, text string) error {
	t.Helper()
	r, err := readRunbook(strings.ReplaceAll(text, "~~~", "```"))
	if err != nil {
		return err
	}
	l := &runbookLab{broker: "127.0.0.1:1", hosts: map[string]*runbookShell{}}
	for _, host := range []string{"broker host", "workstation"} {
		l.hosts[host] = startRunbookShell(t, t.TempDir(), os.Environ())
	}
	return l.tell(runbookStory{name: "sample"}, r)
}

// TestRunbookRules is the test of the test: a run-book that is a little wrong does
// not pass.
func TestRunbookRules(t *testing.T) {
	if err := trySample(t, runbookSample); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct{ from, to, want string }{
		{"greet hello\n", "greet hallo\n", `not printed where it should be: "hello one"`},
		{"greet hello\n", "greeet hello\n", "want no failure before the last command, got 1"},
		{"greet hello\n", "greet hello; greet again\n", "more is printed than the text shows"},
		{"mkdir made\n", "mkdir made/made\n", "want exit status 0, got 1"},
		{"false\n~~~", "true\n~~~", "want exit status 1, got 0"},
		{"(exit status 1)\n", "", "want exit status 0, got 1"},
		{"(exit status 1)", "(exit status 2)", "want exit status 2, got 1"},
		{"…\nc\n", "c\n", `not printed where it should be: "c"`},
		{"\nc\n", "\nb\n", `more is printed`},
		{"WORD=one\n", "WORD=one; echo set\n", "more is printed than the text shows"},
		{"WORD=one\n", "WORD=one; exit\n", "the shell ended"},
		{"~~~output\nhello one\n~~~\n", "", "more is printed than the text shows"},
		{"~~~output\nhello one\n~~~\n", "~~~output\n~~~\n", "the output is empty"},
		{"mkdir made\n~~~\n", "mkdir made\n~~~\nSome words.\n", "the output stands behind no block of sh"},
		{"test: DNS", "test: laziness", `want one of the reasons DNS, EC2, SES, systemd, got "laziness"`},
		{"# not run by the test: DNS", "# not run", "the shell ended"},
		{"exit 9\n~~~\n", "exit 9\n~~~\n~~~output\nx\n~~~\n", "output of a block that is not run"},
		{" (on the workstation)", "", "no heading above the block says on which host"},
		{"~~~sh\necho", "~~~bash\necho", "want a block of sh, output, json or ini"},
		{"~~~sh\necho", "~~~\necho", "want a block of sh, output, json or ini"},
		{"~~~sh\necho", " ~~~sh\necho", "want a block of sh, output, json or ini"},
		{"at…nothing\n~~~\n", "at…nothing\n", "the block is not closed"},
		{"greet hello\nmkdir made\n", "\n", "the block is empty"},
	} {
		text := strings.Replace(runbookSample, wrong.from, wrong.to, 1)
		if text == runbookSample {
			t.Fatalf("the sample has no %q", wrong.from)
		}
		if err := trySample(t, text); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("with %q in the place of %q: %v\nwant %q", wrong.to, wrong.from, err, wrong.want)
		}
	}
	if err := trySample(t, "# Nothing (on the workstation)\n\nWords.\n"); err == nil || !strings.Contains(err.Error(), "no block of sh") {
		t.Errorf("a run-book without blocks: %v", err)
	}
}

// A story that names a heading which is not there, or that has nothing to do, is
// told so: else renaming a heading would leave blocks out unseen.
func TestRunbookStoriesAreWhole(t *testing.T) {
	r, err := readRunbook("## One (on the workstation)\n\n```sh\ntrue\n```\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []struct {
		story runbookStory
		want  string
	}{
		{runbookStory{skip: []string{"Two"}}, `no heading "Two"`},
		{runbookStory{stop: "Two"}, `no heading "Two"`},
		{runbookStory{skip: []string{"One"}}, "no block was executed"},
		{runbookStory{stop: "One"}, "no block was executed"},
	} {
		l := &runbookLab{broker: "127.0.0.1:1", hosts: map[string]*runbookShell{"workstation": startRunbookShell(t, t.TempDir(), os.Environ())}}
		if err := l.tell(wrong.story, r); err == nil || !strings.Contains(err.Error(), wrong.want) {
			t.Errorf("%+v: %v, want %q", wrong.story, err, wrong.want)
		}
	}
}

// TestRunbookMutations breaks the run-book itself, one command at a time, and its
// own test must see it. The stories end early, where the sound one would go on.
func TestRunbookMutations(t *testing.T) {
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []struct{ name, from, to, want string }{
		{"init", "agentkeys init --data-dir data\n", "agentkeys init --data-dir daten\n", `"made data/agentkeys.db"`},
		{"bucket", `aws s3 mb "s3://$BUCKET"`, `aws s3 mb "s3://$BUCKET-2"`, "NoSuchBucket"},
		{"action", `"Action": "s3:PutObject",` + "\n    \"Resource\"", `"Action": "s3:PutObjects",` + "\n    \"Resource\"", "MalformedPolicy"},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(string(text), m.from, m.to, 1)
			if changed == string(text) {
				t.Fatalf("the run-book has no %q", m.from)
			}
			r, err := readRunbook(changed)
			if err != nil {
				t.Fatal(err)
			}
			err = newRunbookLab(t).tell(runbookStory{name: "mutation", stop: "5. The way of before: an IAM user and a broad role"}, r)
			if err == nil || !strings.Contains(err.Error(), m.want) {
				t.Errorf("with %q in the place of %q: %v, want %q", m.to, m.from, err, m.want)
			}
		})
	}
}
