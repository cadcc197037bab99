// Command agentkeys is the credential broker, its local AWS, and the tools
// around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/spf13/cobra"
)

// Exit statuses.
const (
	exitOK           = 0
	exitBroken       = 1 // the proof found a way in; or the work failed
	exitUsage        = 2
	exitInconclusive = 3 // something could not be observed

	exitReaderGone = 128 + int(syscall.SIGPIPE) // nobody reads any more: what a shell gives of a process that SIGPIPE ended
)

func main() {
	os.Exit(runProcess())
}

// sameSignal is how long after the first signal another one says the same. A process
// manager may send SIGTERM to the process and to its group, a shell and a wrapper may pass
// SIGINT on that the terminal has sent already: two within microseconds, of one wish. A
// person who wants it to end at once sees first that it has not ended.
const sameSignal = time.Second

// runProcess runs the command of this process. The first signal asks it to end in
// order. What comes within sameSignal of it changes nothing; the next one ends it at once.
func runProcess() int {
	signal.Ignore(syscall.SIGPIPE) // a reader that went away is an error of Write, and the clean-up still runs
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	held := make(chan os.Signal, 1) // nobody reads it: while it is notified, no signal ends the process
	signal.Notify(held, ends...)
	context.AfterFunc(ctx, func() {
		time.AfterFunc(sameSignal, func() {
			stop()
			signal.Stop(held)
		})
	})
	return run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
}

// program is what a command works with, so that a test can run one without
// touching the process.
type program struct {
	args    []string // as they were given; what a command is run with comes from cobra
	environ []string
	stdout  io.Writer
	stderr  io.Writer
}

// run carries out one command and returns its exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	p := &program{args: args, environ: environ, stdout: out, stderr: stderr}
	root := p.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.failed
	}
	if err == nil {
		return exitOK
	}
	if out.gone && errors.Is(err, syscall.EPIPE) { // as with head, which has its lines
		return exitReaderGone
	}
	if wantsExports(args) {
		_, _ = io.WriteString(stdout, noExports()) // where nobody reads, nobody evaluates
	}
	var s status
	if errors.As(err, &s) && s.err == nil {
		return s.code
	}
	for line := range strings.Lines(withoutSecrets(err.Error(), args)) {
		fmt.Fprintf(stderr, "agentkeys: error: %s\n", printable(strings.TrimSuffix(line, "\n")))
	}
	var h hint
	if errors.As(err, &h) {
		fmt.Fprintf(stderr, "agentkeys: hint: %s\n", printable(h.text))
	}
	if s.code != 0 {
		return s.code
	}
	return exitBroken
}

// printable is a line without what a terminal would obey instead of showing it: some
// of what is printed comes from a broker, or from whoever answers in its place.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsPrint(r):
			return r
		case r == '\t':
			return ' '
		}
		return unicode.ReplacementChar
	}, line)
}

// secretLike is what a token, a private key in hexadecimal digits or a key file's
// content looks like.
var secretLike = regexp.MustCompile(`eyJ[A-Za-z0-9_.-]{16,}|\b(?:0x)?[0-9a-fA-F]{64}\b|(?s)\{.*"d"\s*:.*`)

// withoutSecrets takes out of an error what somebody wrote on the command line in
// the place of the name of a file: errors repeat their arguments, and end up in
// logs.
func withoutSecrets(text string, args []string) string {
	for _, arg := range args {
		if secret := secretLike.FindString(arg); secret != "" {
			text = strings.ReplaceAll(text, secret, "[what looks like a secret]")
			quoted := strconv.Quote(secret)
			text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], "[what looks like a secret]")
		}
	}
	return text
}

// status is an error that fixes the exit status. With no error inside there is
// nothing more to print.
type status struct {
	code int
	err  error
}

func (s status) Error() string {
	if s.err == nil {
		return fmt.Sprintf("exit status %d", s.code)
	}
	return s.err.Error()
}

func (s status) Unwrap() error { return s.err }

func usage(err error) error { return status{exitUsage, err} }

// hint adds to an error what to do next.
type hint struct {
	error
	text string
}

func (h hint) Unwrap() error { return h.error }

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "agentkeys",
		Short: "A credential broker for AI agents whose isolation is proven",
		Long: `agentkeys signs people and agents in, mints five-minute web identity tokens that carry the tenant
as an AWS session tag, and proves that AWS keeps the tenants apart.

Start with "agentkeys demo": it needs no account and no set-up.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args:              usageArgs(cobra.NoArgs),
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetOut(helpOutput{bare(p.stdout)})
	root.SetErr(p.stderr)
	root.SetFlagErrorFunc(p.flagError)
	root.AddCommand(p.demo(), p.dev(), p.serve(), p.init(), p.keygen(), p.certificate(), p.mint(), p.grant(), p.creds(), p.revoke(), p.token(), p.audit(), p.federation())
	p.refuseSwallowed(root)
	for _, cmd := range append(root.Commands(), root) {
		p.tellVersion(cmd)
	}
	return root
}

// usageArgs makes wrong arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			if !cmd.HasSubCommands() && strings.HasPrefix(err.Error(), "unknown command ") { // cobra.NoArgs, of a command that has none
				err = fmt.Errorf("want flags alone, got %q", args[0])
			}
			return usage(hint{err, `see "` + cmd.CommandPath() + ` --help"`})
		}
		return nil
	}
}

// tellVersion gives a command the flag --version. Cobra's own would need a template
// for these words, and see house_test.go for what that keeps in the program.
func (p *program) tellVersion(cmd *cobra.Command) {
	asked := cmd.Flags().BoolP("version", "v", false, "version for "+cmd.Name())
	check := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if !*asked {
			return check(cmd, args)
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "agentkeys %s\n", version()); err != nil {
			return err
		}
		return status{code: exitOK}
	}
}

// release is set by the linker when a release is built.
var release = ""

func version() string {
	if release != "" {
		return release
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return "devel " + s.Value[:12]
			}
		}
	}
	return "devel"
}
