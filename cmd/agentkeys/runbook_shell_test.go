package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// runbookShell is a shell on a host of the run-book: a folder and an environment
// of its own. What one block sets or defines is there in the next.
type runbookShell struct {
	dir   string
	count int
	stdin io.WriteCloser
	lines *bufio.Reader
	kill  func()
}

// startRunbookShell starts a shell that ends with the test, and with it whatever
// it has started.
func startRunbookShell(t *testing.T, dir string, environ []string) *runbookShell {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--norc", "--noprofile")
	cmd.Dir, cmd.Env = dir, environ
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &runbookShell{dir: dir, stdin: stdin, lines: bufio.NewReader(stdout)}
	s.kill = func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // the group is gone where all has ended
	t.Cleanup(func() {
		s.kill()
		_ = cmd.Wait() // it was killed
	})
	return s
}

// runbookPatience is far more than any block takes.
const runbookPatience = 3 * time.Minute

// run has the shell execute commands in its own process. It returns what was
// printed, the exit status of the last command, and how many of the others failed.
func (s *runbookShell) run(commands string) (output string, status, failures int, err error) {
	s.count++
	name := fmt.Sprintf(".block-%02d", s.count)
	script := "trap 'runbook_failures=$((runbook_failures + 1))' ERR\n" + commands +
		"runbook_status=$?; trap - ERR\n"
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(script), 0o600); err != nil {
		return "", 0, 0, err
	}
	line := fmt.Sprintf("runbook_failures=0; . ./%[1]s >%[1]s.out 2>&1; echo $runbook_status $runbook_failures\n", name)
	if _, err := io.WriteString(s.stdin, line); err != nil {
		return "", 0, 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), runbookPatience)
	defer cancel()
	defer context.AfterFunc(ctx, s.kill)()
	answer, readErr := s.lines.ReadString('\n')
	printed, err := os.ReadFile(filepath.Join(s.dir, name+".out"))
	if err == nil && readErr != nil {
		err = errors.New("the shell ended, or the block did not")
	} else if err == nil {
		_, err = fmt.Sscan(answer, &status, &failures)
	}
	if status != 0 {
		failures--
	}
	return string(printed), status, failures, err
}

// execute runs a block and compares what happens with what the text says.
// translate turns what was printed into the names of the text.
func (s *runbookShell) execute(b runbookBlock, commands string, translate func(string) string) error {
	printed, status, failures, err := s.run(commands)
	printed = translate(printed)
	if err == nil && status != b.status {
		err = fmt.Errorf("want exit status %d, got %d", b.status, status)
	}
	if err == nil && failures > 0 {
		err = fmt.Errorf("want no failure before the last command, got %d", failures)
	}
	if err == nil {
		err = matchOutput(b.output, printed)
	}
	if err != nil {
		return fmt.Errorf("line %d, on the %s: %w\n%s-- printed, exit status %d:\n%s", b.line, b.host, err, commands, status, printed)
	}
	return nil
}

// runbookTools are the commands that differ from what a reader has. The local AWS
// has an address of its own, which older releases of the CLI take as an option
// alone; release 1 also wants the region in another variable, and exits with 255
// where release 2 exits with 254. The copy between the hosts is one between two
// folders.
var runbookTools = map[string]string{
	"aws": `AWS_DEFAULT_REGION=$AWS_REGION "$RUNBOOK_AWS" --endpoint-url "$AWS_ENDPOINT_URL" "$@"
status=$?
test $status != 255 || status=254
exit $status`,
	"scp": `for file; do
  case $file in agentkeys@broker.example.com:*) cp "$RUNBOOK_BROKER_HOST/${file#*:}" . || exit; esac
done`,
}

// runbookEnviron makes a folder of tools and returns the environment of a host.
func runbookEnviron(t *testing.T, brokerHost, awsURL string) []string {
	t.Helper()
	cli, err := exec.LookPath("aws")
	if err != nil {
		t.Fatal("the AWS CLI is not installed: want aws on PATH (Debian: apt-get install awscli)")
	}
	home := t.TempDir()
	for name, script := range runbookTools {
		if err := os.WriteFile(filepath.Join(home, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	environ := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return strings.HasPrefix(e, "AWS_") || strings.HasPrefix(e, "BROKER_") || strings.HasPrefix(e, "PATH=") || strings.HasPrefix(e, "HOME=")
	})
	return append(environ, "HOME="+home, "PATH="+home+":"+os.Getenv("PATH"), "RUNBOOK_AWS="+cli, "RUNBOOK_BROKER_HOST="+brokerHost,
		"AWS_ENDPOINT_URL="+awsURL, "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE="+filepath.Join(home, "config"), "AWS_SHARED_CREDENTIALS_FILE="+filepath.Join(home, "credentials"))
}
