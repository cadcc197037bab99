package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"agentkeys/audit"
	"agentkeys/federation"
)

// planOptions are the flags that plan and apply share.
type planOptions struct {
	federationOptions
	form              string
	extras            federation.Extras
	dropUnknown, keep bool
	detach            bool
	format            string // of plan
	yes               bool   // of apply
}

// whatPlansDo is the part of the help that plan and apply share.
const whatPlansDo = `What is compared: the OIDC provider and its client ids, the role with its trust policy, tags, inline
and attached policies, the bucket with its ownership controls, public access block and policy. The
permissions boundary and the longest session of the role are left alone.

A statement is ours by its Sid, or by saying what a planned one says. What is not ours:

  bucket policy     stays beside ours and is listed as kept, such as leave for SES to write mail.
                    These stop the plan: a statement that grants something to the data role, such as
                    an earlier hand's version of ours; one that has a Sid of ours but is for another
                    role; and, where the policy has to be written, one that S3 would not take back
                    (for a principal that is gone, or public) or would read otherwise
  trust policy      a Deny stays, as it can only narrow; an Allow stops the plan, as it lets
                    sessions in that the issuer does not vouch for
  inline policies   what allows S3 goes, since the bucket policy alone is to grant it, and the rest
                    stays; a policy of which nothing stays is deleted. A statement that allows S3 by
                    "*" or NotAction stops the plan
  managed policies  one that allows S3 is named in a warning; it is detached with --detach alone

A plan that is stopped names each statement, and --drop-unknown drops just these. --keep-unknown
keeps those that grant something to the data role by the bucket policy; nothing else that stops a
plan can be kept.`

func (o *planOptions) bind(cmd *cobra.Command) {
	o.federationOptions.bind(cmd)
	o.bindEndpoint(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.form, "form", string(federation.Hardened),
		"`FORM` of the documents: hardened, or plain, without the tests of the tag's shape and the backstop denies")
	bindExtras(cmd, &o.extras)
	flags.BoolVar(&o.dropUnknown, "drop-unknown", false, "drop the statements that stop the plan")
	flags.BoolVar(&o.keep, "keep-unknown", false, "keep statements of the bucket policy that grant something to the data role")
	flags.BoolVar(&o.detach, "detach", false, "detach managed policies that allow S3 from the role")
}

func (p *program) federationPlan() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what has to change at AWS, with a diff per document, and change nothing",
		Long: `Compares the documents of the configuration with what is in force and shows what has to change, with
a diff for each document and the call that would make it. Changes nothing.

` + whatPlansDo + `

Exit status: 0 whether or not there is something to change (--format json tells: "steps" is empty or
not), 1 where the account could not be read or a statement stops the plan, 2 wrong use.`,
		Example: `  agentkeys federation plan --config federation.json
  agentkeys federation plan --config federation.json --format json | jq -e '.steps == []'`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.format != "text" && o.format != "json" {
				return usage(fmt.Errorf("--format: want text or json, got %q", o.format))
			}
			plan, err := p.makePlan(cmd, &o)
			if err != nil {
				return err
			}
			if o.format == "json" {
				err = plan.WriteJSON(p.stdout)
			} else {
				err = plan.WriteText(p.stdout, p.colour())
			}
			return printed("the plan", err)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.format, "format", "text", "`FORMAT` of the plan: text or json")
	return cmd
}

func (p *program) federationApply() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Put the documents in force at AWS, after a yes",
		Long: `Shows what "agentkeys federation plan" shows, asks, and carries it out. Applying twice changes
nothing. Each document is read again right before it is written, and one that somebody changed in
between stops the run.

` + whatPlansDo + `

A run that fails half-way lists what is done and what is not; the same command again goes on from
there. Two runs at once do no harm.

Exit status: 0 all is in force, or nothing was to change; 1 it failed, a statement stops the plan,
or the answer was no; 2 wrong use, which includes having nobody to ask: without a terminal --yes is
needed.`,
		Example: `  agentkeys federation apply --config federation.json
  agentkeys federation apply --config federation.json --yes`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runApply(cmd, &o) },
	}
	o.bind(cmd)
	cmd.Flags().BoolVarP(&o.yes, "yes", "y", false, "apply without asking")
	return cmd
}

// printed is the error of printing something that had to be read.
func printed(what string, err error) error {
	if err != nil {
		return fmt.Errorf("printing %s: %w", what, err)
	}
	return nil
}

// makePlan makes the plan that the flags ask for.
func (p *program) makePlan(cmd *cobra.Command, o *planOptions) (*federation.Plan, error) {
	c, err := o.load(cmd, p.environ)
	if err != nil {
		return nil, err
	}
	if o.dropUnknown && o.keep {
		return nil, usage(errors.New("--drop-unknown and --keep-unknown: want at most one of them, got both"))
	}
	documents, err := federation.RenderWith(c, federation.Form(o.form), o.extras)
	if err != nil {
		return nil, usage(err)
	}
	clients, err := o.awsClients(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	plan, err := federation.MakePlan(cmd.Context(), clients, c, documents, federation.PlanOptions{
		DropUnknown: o.dropUnknown, KeepUnknown: o.keep, Detach: o.detach,
	})
	var unknown federation.UnknownStatements
	if errors.As(err, &unknown) {
		err = hint{err, whatToDo(unknown)}
	}
	return plan, err
}

// whatToDo about the statements that stop a plan.
func whatToDo(unknown federation.UnknownStatements) string {
	text := "move them elsewhere first, or drop them with --drop-unknown; plan --drop-unknown shows what would go"
	if !slices.ContainsFunc(unknown, func(u federation.Unknown) bool { return !u.Keepable }) {
		text += "; --keep-unknown keeps them"
	}
	return text
}

func (p *program) runApply(cmd *cobra.Command, o *planOptions) error {
	plan, err := p.makePlan(cmd, o)
	if err != nil {
		return err
	}
	if err := printed("the plan", plan.WriteText(p.stdout, p.colour())); err != nil {
		return err
	}
	if len(plan.Steps) == 0 {
		return nil
	}
	if !o.yes {
		if err := p.confirm(cmd.Context(), cmd.InOrStdin()); err != nil {
			return err
		}
	}
	err = federation.Apply(cmd.Context(), plan, func(s federation.Step) { fmt.Fprintf(p.stderr, "… %s\n", s) })
	var incomplete *federation.Incomplete
	if errors.As(err, &incomplete) {
		p.printIncomplete(incomplete)
		return hint{err, "give the same command again: it goes on from here"}
	}
	if err != nil {
		return err
	}
	return printed("the outcome", p.printApplied(plan))
}

// confirm asks on the terminal and returns nil for a yes.
func (p *program) confirm(ctx context.Context, in io.Reader) error {
	if f, ok := in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usage(hint{errors.New("nothing was changed: there is no terminal to ask on"), "give --yes to apply without a question"})
	}
	fmt.Fprint(p.stderr, "\nApply? [y/N] ")
	answer := make(chan string, 1)
	go func() { // ends with the process where nobody answers
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.stderr)
		return errors.New("nothing was changed: interrupted")
	case a := <-answer:
		if a != "y" && a != "yes" {
			return fmt.Errorf("nothing was changed: the answer was %q", a)
		}
		return nil
	}
}

func (p *program) printIncomplete(i *federation.Incomplete) {
	list := func(title string, steps []federation.Step) {
		if len(steps) == 0 {
			return
		}
		fmt.Fprintf(p.stdout, "\n%s:\n", title)
		for _, s := range steps {
			fmt.Fprintf(p.stdout, "  %s\n", s)
		}
	}
	list("Done", i.Done)
	list("Failed", []federation.Step{i.Failed})
	list("Not done", i.Left)
}

// printApplied ends a run that carried everything out.
func (p *program) printApplied(plan *federation.Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nApplied %s. Next: agentkeys federation check looks for ways in that are left, and prove tries.\n", audit.Count(len(plan.Steps), "change"))
	for _, w := range plan.Warnings {
		fmt.Fprintf(&b, "WARNING: %s\n", w)
	}
	_, err := io.WriteString(p.stdout, b.String())
	return err
}
