package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// runbook is a run-book taken apart.
type runbook struct {
	blocks    []runbookBlock
	documents []runbookDocument
}

// runbookBlock is one block of shell.
type runbookBlock struct {
	line     int // of the text
	headings []string
	host     string
	commands string
	notRun   string // the reason, for a block that no test can execute
	output   string // what it must print; "" for nothing at all
	status   int    // what its last command must exit with; all others with 0
}

// runbookDocument is one block of JSON.
type runbookDocument struct {
	line int
	text string
}

// runbookReasons are the only reasons for which a block is not executed: the
// names of the internet, machines at EC2, the mail service, a service manager.
var runbookReasons = []string{"DNS", "EC2", "SES", "systemd"}

var (
	runbookHost   = regexp.MustCompile(`\(on the (broker host|workstation)\)$`)
	runbookNotRun = regexp.MustCompile(`\A# not run by the test: (.*)\n`)
	runbookStatus = regexp.MustCompile(`(?m)^\(exit status ([1-9][0-9]*)\)\n\z`)
	runbookFence  = regexp.MustCompile("^ *[`~]{3}")
)

// readRunbook takes a run-book apart. Its rules are stated to people at the
// run-book's head:
//
//   - a block of sh is executed on the host that a heading above it names, or it
//     begins with a comment that gives one of runbookReasons;
//   - what it prints follows it as a block of output, in which … is what varies;
//     without one it prints nothing;
//   - all its commands succeed, or the output ends with the exit status of the
//     last one.
func readRunbook(text string) (runbook, error) {
	var r runbook
	var headings []string // by level
	lines := strings.SplitAfter(text, "\n")
	behind := false // whether nothing but empty lines came after a block of sh
	for i := 0; i < len(lines); i++ {
		line := strings.TrimRight(lines[i], "\n")
		if !runbookFence.MatchString(line) {
			if level := len(line) - len(strings.TrimLeft(line, "#")); level > 0 {
				headings = append(headings[:min(level-1, len(headings))], strings.TrimLeft(line, "# "))
			}
			behind = behind && line == ""
			continue
		}
		start, body := i+1, ""
		for i++; i < len(lines) && lines[i] != "```\n"; i++ {
			body += lines[i]
		}
		var err error
		switch {
		case i == len(lines):
			err = errors.New("the block is not closed")
		case line == "```sh":
			err = r.addBlock(runbookBlock{line: start, headings: slices.Clone(headings), commands: body})
		case line == "```output" && behind:
			err = r.blocks[len(r.blocks)-1].expect(body)
		case line == "```output":
			err = errors.New("the output stands behind no block of sh")
		case line == "```json":
			r.documents = append(r.documents, runbookDocument{start, body})
		case line != "```ini":
			err = fmt.Errorf("want a block of sh, output, json or ini, got %q", line)
		}
		if err != nil {
			return r, fmt.Errorf("line %d: %w", start, err)
		}
		behind = line == "```sh"
	}
	if len(r.blocks) == 0 {
		return r, errors.New("the text has no block of sh")
	}
	return r, nil
}

func (r *runbook) addBlock(b runbookBlock) error {
	if strings.TrimSpace(b.commands) == "" {
		return errors.New("the block is empty")
	}
	if m := runbookNotRun.FindStringSubmatch(b.commands); m != nil {
		if b.notRun = m[1]; !slices.Contains(runbookReasons, b.notRun) {
			return fmt.Errorf("not run: want one of the reasons %s, got %q", strings.Join(runbookReasons, ", "), b.notRun)
		}
	}
	for _, h := range b.headings {
		if m := runbookHost.FindStringSubmatch(h); m != nil {
			b.host = m[1]
		}
	}
	if b.host == "" && b.notRun == "" {
		return fmt.Errorf("no heading above the block says on which host it runs: %q", b.headings)
	}
	r.blocks = append(r.blocks, b)
	return nil
}

// expect sets what a block must print and how it must end.
func (b *runbookBlock) expect(output string) error {
	if b.notRun != "" {
		return errors.New("output of a block that is not run")
	}
	if m := runbookStatus.FindStringSubmatchIndex(output); m != nil {
		b.status, _ = strconv.Atoi(output[m[2]:m[3]])
		output = output[:m[0]]
	}
	if b.output = output; output == "" && b.status == 0 {
		return errors.New("the output is empty: want none in its place")
	}
	return nil
}

// matchOutput compares what was printed with what the run-book shows, line by
// line without the empty ones: … in a line is anything, and a line of … alone is
// any number of lines.
func matchOutput(want, got string) error {
	wanted, printed := fullLines(want), fullLines(got)
	var match func(w, g int) bool
	furthest := 0
	match = func(w, g int) bool {
		furthest = max(furthest, w)
		switch {
		case w == len(wanted):
			return g == len(printed)
		case strings.TrimSpace(wanted[w]) == "…":
			return match(w+1, g) || g < len(printed) && match(w, g+1)
		}
		return g < len(printed) && linePattern(wanted[w]).MatchString(printed[g]) && match(w+1, g+1)
	}
	if match(0, 0) {
		return nil
	}
	if furthest == len(wanted) {
		return errors.New("more is printed than the text shows")
	}
	return fmt.Errorf("this line of the text is not printed where it should be: %q", wanted[furthest])
}

func linePattern(line string) *regexp.Regexp {
	return regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*") + "$")
}

func fullLines(text string) []string {
	return slices.DeleteFunc(strings.Split(text, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
}
