package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
)

// refuseSwallowed has each command below cmd, and cmd, refuse a flag that took the
// flag behind it for its value, before anything comes of that.
func (p *program) refuseSwallowed(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := swallowed(cmd, p.args); err != nil {
				return usage(err)
			}
			return check(cmd, args)
		}
	}
	for _, sub := range cmd.Commands() {
		p.refuseSwallowed(sub)
	}
}

// swallowed finds a flag that wants a value and is followed by a flag. Whoever means
// such a value writes --flag=--value.
func swallowed(cmd *cobra.Command, args []string) error {
	for i, arg := range args[:max(len(args)-1, 0)] {
		name, isFlag := strings.CutPrefix(arg, "--")
		if arg == "--" {
			return nil
		}
		f := cmd.Flags().Lookup(name)
		if isFlag && f != nil && f.NoOptDefVal == "" && strings.HasPrefix(args[i+1], "--") {
			return hint{fmt.Errorf("%s: want a value, got the flag %q", arg, args[i+1]), `see "` + cmd.CommandPath() + ` --help"`}
		}
	}
	return nil
}

// strconvText is what strconv says before its reason.
var strconvText = regexp.MustCompile(`strconv\.\w+: parsing "(?:[^"\\]|\\.)*": `)

// flagError words what cobra says of flags that it cannot read.
func (p *program) flagError(cmd *cobra.Command, err error) error {
	if swallowed := swallowed(cmd, p.args); swallowed != nil {
		return usage(swallowed)
	}
	next := `see "` + cmd.CommandPath() + ` --help"`
	if name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --"); unknown {
		if near := nearFlag(cmd, name); near != "" {
			next = "did you mean --" + near + "? " + next
		}
	}
	return usage(hint{errors.New(strconvText.ReplaceAllString(err.Error(), "")), next})
}

// nearFlag is a flag of a command whose name is near to one that it does not know,
// and "" where none is. Cobra suggests commands alone, so the flags are made ones.
func nearFlag(cmd *cobra.Command, name string) string {
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	for line := range strings.Lines(cmd.Flags().FlagUsages()) {
		if _, rest, found := strings.Cut(line, "--"); found && strings.HasPrefix(strings.TrimLeft(line, " "), "-") {
			flags.AddCommand(&cobra.Command{Use: strings.FieldsFunc(rest, func(r rune) bool { return r == ' ' || r == '[' || r == '\n' })[0], Run: func(*cobra.Command, []string) {}})
		}
	}
	if near := flags.SuggestionsFor(name); len(near) > 0 {
		return near[0]
	}
	return ""
}
