package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// pages are all that is written for people, by name from the root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	const root = "../.."
	found := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no pages match %s (%v)", pattern, err)
		}
		for _, name := range names {
			rel, err := filepath.Rel(root, name)
			if err != nil {
				t.Fatal(err)
			}
			found[filepath.ToSlash(rel)] = read(t, name)
		}
	}
	return found
}

// block is code between fences.
var block = regexp.MustCompile("(?s)\n```.*?\n```")

// anchors are the headings of a page as links name them.
func anchors(page string) (found []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(block.ReplaceAllString(page, ""), -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(m[1]), "")
		found = append(found, strings.ReplaceAll(plain, " ", "-"))
	}
	return found
}

// A link within the repository leads to a file that is there, and to a heading of it.
func TestPagesLinksLead(t *testing.T) {
	all := pages(t)
	links := 0
	for name, text := range all {
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join("../..", target)); err != nil {
				t.Errorf("%s links to %s: %v", name, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(all[target]), anchor) {
				t.Errorf("%s links to %s: %s has no such heading", name, m[1], target)
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links, want at least 50", links)
	}
}

var (
	commandLine = regexp.MustCompile("\\bagentkeys((?: [a-z][a-z0-9-]*)+)([^`\n]*)")
	commandFlag = regexp.MustCompile(`(?:^|[ (])--([a-z][a-z0-9-]*)`)
	// behindCommand is where the flags of agentkeys end on a line.
	behindCommand = regexp.MustCompile(`\)| -- | [|;>]| && |"`)
)

// unknown names what a text says of the program that the program does not know:
// commands, and flags that the command before them does not have.
func unknown(root *cobra.Command, text string) (found []string, commands int) {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, m := range commandLine.FindAllStringSubmatch(text, -1) {
		cmd, left, err := root.Find(strings.Fields(m[1]))
		if err != nil || cmd == root || cmd.HasSubCommands() && len(left) > 0 {
			found = append(found, "agentkeys"+m[1]+": no such command")
			continue
		}
		commands++
		rest := m[1] + m[2]
		if end := behindCommand.FindStringIndex(rest); end != nil {
			rest = rest[:end[0]]
		}
		for _, f := range commandFlag.FindAllStringSubmatch(rest, -1) {
			if cmd.Flags().Lookup(f[1]) == nil && !slices.Contains([]string{"help", "version"}, f[1]) {
				found = append(found, cmd.CommandPath()+" --"+f[1]+": no such flag")
			}
		}
	}
	return found, commands
}

// The commands that the pages name, in blocks or in sentences, are ones that the
// program knows, with their flags.
func TestPagesCommandsAreKnown(t *testing.T) {
	root := (&program{}).root()
	commands := 0
	for name, text := range pages(t) {
		found, n := unknown(root, regexp.MustCompile(`\n  (\S)`).ReplaceAllString(text, " $1")) // also over a line's end, within a list
		commands += n
		for _, u := range found {
			t.Errorf("%s: %s", name, u)
		}
	}
	if commands < 180 {
		t.Errorf("%d commands, want at least 180", commands)
	}
}

// So are those that the help names. Each flag that it speaks of is one of some command,
// or of the AWS CLI's.
func TestHelpNamesWhatThereIs(t *testing.T) {
	root := (&program{}).root()
	flags := map[string]bool{"help": true, "capabilities": true}
	var all []*cobra.Command
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		all = append(all, cmd)
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	examples := 0
	for _, cmd := range all {
		quoted := regexp.MustCompile(`"agentkeys [^"]*`).FindAllString(strings.ReplaceAll(cmd.Long, "\n", " "), -1)
		found, n := unknown(root, strings.Join(quoted, "\n")+"\n"+cmd.Example)
		examples += n
		for _, u := range found {
			t.Errorf("help of %s: %s", cmd.CommandPath(), u)
		}
		for _, f := range commandFlag.FindAllStringSubmatch(cmd.Long, -1) {
			if !flags[f[1]] {
				t.Errorf("help of %s: no command has a flag --%s", cmd.CommandPath(), f[1])
			}
		}
		for _, f := range commandFlag.FindAllStringSubmatch(cmd.Use, -1) {
			if cmd.Flags().Lookup(f[1]) == nil {
				t.Errorf("usage of %s: there is no flag --%s", cmd.CommandPath(), f[1])
			}
		}
	}
	if examples < 60 {
		t.Errorf("%d commands, want at least 60", examples)
	}
}

// The tour has a row for every package.
func TestOverviewHasEveryPackage(t *testing.T) {
	tour := read(t, "../../docs/overview.md")
	rows := strings.Join(regexp.MustCompile("(?m)^\\| `.*$").FindAllString(tour, -1), "\n")
	for name := range house {
		if short := strings.TrimPrefix(name, "agentkeys/"); !strings.Contains(rows, "`"+strings.TrimPrefix(short, "agentkeystest/")+"`") {
			t.Errorf("docs/overview.md has no row for %s", short)
		}
	}
}
