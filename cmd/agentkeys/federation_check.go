package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// checkOptions are the flags of federation check.
type checkOptions struct {
	federationOptions
	from, save, format, token string
}

func (p *program) federationCheck() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Find every way in that the documents in force leave open",
		Long: `Reads all that can let a request in (provider, roles, users and groups with their policies, the
bucket's policy, ACL, public access block, ownership and access points) from AWS, or with --from out
of files, and searches for requests that get through: another tenant's, an untagged session's,
another role's, another account's, nobody's. Each way in is reported with the request that shows it
and the statement that lets it in. Nothing is changed.

With --from DIR no AWS is asked: the folder holds what the AWS CLI printed, one file per call, and
the configuration is its federation.json; flags and BROKER_* variables do not count. --save DIR
writes such a folder from the account, for somebody who checks it elsewhere.

No policy shows that a token lacks its tags claim. With --token FILE (- for standard input) a
tenant's web identity token, as "agentkeys mint" gives it, is looked into as well. It is a secret,
and nothing prints it.

Statements are counted from 0, as the documents' own arrays are.

Exit status: 0 no findings, 1 findings, 2 wrong use, 3 it could not look.`,
		Example: `  agentkeys federation check --config federation.json
  agentkeys federation check --config federation.json --save audit && agentkeys federation check --from audit --format sarif`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := p.runCheck(cmd, o)
			if err != nil {
				return couldNotLook(err)
			}
			return status{code: report.ExitStatus()}.orNil()
		},
	}
	o.bind(cmd)
	o.bindEndpoint(cmd)
	cmd.Flags().StringVar(&o.from, "from", "", "`DIR` with the account's files, in the place of AWS")
	cmd.Flags().StringVar(&o.save, "save", "", "`DIR` to write the account's files to; new or empty")
	cmd.Flags().StringVar(&o.format, "format", "text", "text, json or sarif")
	cmd.Flags().StringVar(&o.token, "token", "", "`FILE` with a tenant's web identity token to look into")
	return cmd
}

// couldNotLook gives an error the status that says so, where it is not one of
// wrong use.
func couldNotLook(err error) error {
	var s status
	if errors.As(err, &s) {
		return err
	}
	return status{exitInconclusive, err}
}

func (p *program) runCheck(cmd *cobra.Command, o checkOptions) (*federation.CheckReport, error) {
	if err := o.check(cmd); err != nil {
		return nil, usage(hint{err, `see "agentkeys federation check --help"`})
	}
	token, err := o.readToken(cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	account, err := p.checkedAccount(cmd, o)
	if err != nil {
		return nil, err
	}
	report, err := federation.Check(account)
	if err != nil {
		return nil, err
	}
	if o.token != "" {
		findings, err := federation.CheckToken(account, token)
		if err != nil {
			return nil, err
		}
		report.Findings = append(report.Findings, findings...)
	}
	if err := p.printCheck(report, o.format); err != nil { // a verdict that nobody could read is none
		return nil, fmt.Errorf("printing the report: %w", err)
	}
	return report, nil
}

// check refuses flags that contradict each other. A flag of the configuration
// beside --from would be one that does not count.
func (o *checkOptions) check(cmd *cobra.Command) error {
	if formats := []string{"text", "json", "sarif"}; !slices.Contains(formats, o.format) {
		return fmt.Errorf("--format: want %s, got %q", strings.Join(formats, ", "), o.format)
	}
	for _, f := range [][2]string{{"from", o.from}, {"save", o.save}, {"token", o.token}} {
		if f[1] == "" && cmd.Flags().Changed(f[0]) {
			return fmt.Errorf(`--%s: want a name, got ""`, f[0])
		}
	}
	if o.from == "" {
		return nil
	}
	beside := []string{"config", "administrator", "endpoint-url", "save"}
	for _, s := range federationSettings {
		beside = append(beside, s.flag)
	}
	for _, flag := range beside {
		if cmd.Flags().Changed(flag) {
			return fmt.Errorf("--%s beside --from: the folder of --from holds all that is checked, the configuration too", flag)
		}
	}
	return nil
}

// maxTokenFile is more than any token that STS takes, in bytes.
const maxTokenFile = 64 << 10

func (o *checkOptions) readToken(stdin io.Reader) (string, error) {
	if o.token == "" {
		return "", nil
	}
	in := stdin
	if o.token != "-" {
		f, err := os.Open(o.token)
		if err != nil {
			return "", fmt.Errorf("reading the token: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	if len(data) > maxTokenFile {
		return "", fmt.Errorf("reading the token from %s: want at most %d bytes, got more", o.token, maxTokenFile)
	}
	return string(data), nil
}

// checkedAccount is the account of the files, or of AWS, which is kept where that
// is asked for before anything is said of it.
func (p *program) checkedAccount(cmd *cobra.Command, o checkOptions) (*federation.Account, error) {
	if o.from != "" {
		return federation.ReadAccount(o.from)
	}
	c, err := o.load(cmd, p.environ)
	if err != nil {
		return nil, err
	}
	files, err := o.fetch(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	if o.save != "" {
		if err := files.Save(o.save); err != nil {
			return nil, err
		}
	}
	return files.Account()
}

func (o *checkOptions) fetch(ctx context.Context, c federation.Config) (*federation.Files, error) {
	clients, err := o.awsClients(ctx, c)
	if err != nil {
		return nil, err
	}
	return federation.FetchFiles(ctx, clients, c)
}

func (p *program) printCheck(r *federation.CheckReport, format string) error {
	switch format {
	case "json":
		return r.WriteJSON(p.stdout)
	case "sarif":
		return r.WriteSARIF(p.stdout, version())
	}
	return r.WriteText(p.stdout, p.colour())
}
