package main

import (
	"bytes"
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The terminals that the README shows are runs of the commands above them: each
// line stands in what the command prints, and in that order.
func TestReadmeShowsRealRuns(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?s)```\n\\$ go run ./cmd/agentkeys ([^\n]*)\n(.*?)```").FindAllStringSubmatch(string(data), -1)
	if len(shown) != 3 {
		t.Fatalf("the README shows %d runs, want 3", len(shown))
	}
	for _, run := range shown {
		var stdout bytes.Buffer
		args := strings.Fields(run[1])
		for i, arg := range args { // the README stands at the root
			if strings.HasPrefix(arg, "federation/") {
				args[i] = "../../" + arg
			}
		}
		runCommand(t, args, &stdout)
		rest := stdout.String()
		for line := range strings.Lines(run[2]) {
			_, after, found := strings.Cut(rest, line)
			if !found {
				t.Errorf("agentkeys %s: the README shows a line that the run does not print here:\n%s", run[1], line)
				continue
			}
			rest = after
		}
	}
}

func runCommand(t *testing.T, args []string, stdout *bytes.Buffer) {
	t.Helper()
	var stderr bytes.Buffer
	if code := run(context.Background(), args, os.Environ(), stdout, &stderr); code == exitUsage {
		t.Fatalf("agentkeys %s: %s", strings.Join(args, " "), stderr.String())
	}
}

// The commands of the README are known to the program and to make.
func TestReadmeCommandsExist(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)(?:^|`)make ([a-z]+)").FindAllStringSubmatch(string(readme), -1) {
		if !strings.Contains(string(makefile), "\n"+m[1]+":") {
			t.Errorf("the README says make %s, the Makefile has no such target", m[1])
		}
	}
	ci, err := os.ReadFile("../../.ci/run")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(ci), "\nmake test\n") || !strings.Contains(string(readme), "\nmake test\n") {
		t.Error("CI and the README do not name the same test command")
	}
	p := &program{}
	for _, m := range regexp.MustCompile(`(?m)agentkeys (init|keygen|serve|demo|dev|mint|grant|creds|federation)\b`).FindAllStringSubmatch(string(readme), -1) {
		if cmd, _, err := p.root().Find([]string{m[1]}); err != nil || cmd.Name() != m[1] {
			t.Errorf("the README says agentkeys %s: %v", m[1], err)
		}
	}
}
