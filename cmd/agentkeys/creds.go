package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/api"
	"agentkeys/client"
)

type credsOptions struct {
	signInOptions
	path, service, grant, owner, agent, format string
}

func (p *program) creds() *cobra.Command {
	var o credsOptions
	cmd := &cobra.Command{
		Use:   "creds --broker URL --wallet FILE --path PATH (--grant ID | --owner WALLET) [-- COMMAND ARGUMENT...]",
		Short: "Get AWS credentials under a grant, or run a command with them",
		Long: `Signs in with an agent's wallet, signs a call for AWS credentials for a path that an owner granted to it, and prints
them to standard output, and nothing else: as JSON for the credential_process of an AWS configuration, or with
--format env as lines for the eval of a shell. With a command behind "--" nothing is printed: this process becomes the
command, with the credentials in its environment in the place of any others that the environment names.

Anybody may grant to any wallet, so say whose objects are meant: --grant names the grant, --owner the tenant, and then
the owner's grant that covers the path and ends last is used. Credentials of any other tenant are not handed on.

The credentials are never written to a file or given as an argument. Each call is one use of the grant. The AWS CLI keeps
none from one command to the next, so in a credential_process each of its commands is a use; --format env is one use for
all that a shell runs.

With --format env a failure prints lines that take the credentials out of the shell and end the eval with status 1. In a
pipe the status of the last command is what counts, unless the shell is told "set -o pipefail".

Exit status: 0 given, 1 refused, 2 wrong use; with a command its own, and 126 or 127 where it cannot be run.`,
		Example: `  agentkeys creds --broker https://broker.example.com --wallet bob.key --path reports --grant grn-AAAAAAAAAAAAAAAA -- \
      aws s3 ls s3://BUCKET/PREFIX/0x52908400098527886e0f7030069857d2e4169ee7/reports/

  eval "$(agentkeys creds --broker https://broker.example.com --wallet bob.key --path reports \
      --owner 0x52908400098527886e0f7030069857d2e4169ee7 --format env)" || exit
  aws s3 ls s3://BUCKET/PREFIX/0x52908400098527886e0f7030069857d2e4169ee7/reports/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash == 0 && len(args) == 0 {
				return lacking(cmd, "want a command behind --, got none")
			} else if len(args) > 0 && dash != 0 {
				return lacking(cmd, fmt.Sprintf("want a command behind --, got %q before it", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := need(cmd, "broker", "wallet", "path"); err != nil {
				return err
			}
			if o.grant == "" && o.owner == "" {
				return lacking(cmd, "--grant or --owner is needed: anybody may grant to this wallet, so say whose objects are meant")
			}
			if len(args) > 0 {
				if cmd.Flags().Changed("format") {
					return lacking(cmd, "--format is for credentials that are printed; a command finds them in its environment")
				}
				return p.runWithCredentials(cmd.Context(), o, args)
			}
			return p.printCredentials(cmd.Context(), o)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.path, "path", "", "`PATH` under the owner's prefix, within the grant's")
	cmd.Flags().StringVar(&o.service, "service", "s3", "`SERVICE` at AWS; s3 is the one there is")
	cmd.Flags().StringVar(&o.grant, "grant", "", "`ID` of the grant to use")
	cmd.Flags().StringVar(&o.owner, "owner", "", "`WALLET` (or omni account) of the owner whose objects are meant")
	cmd.Flags().StringVar(&o.agent, "agent", "agentkeys creds", "`NAME` of the agent in the audit record")
	cmd.Flags().StringVar(&o.format, "format", "json", "json, as credential_process wants it, or env, for the eval of a shell")
	return cmd
}

func (p *program) printCredentials(ctx context.Context, o credsOptions) error {
	if o.format != "json" && o.format != "env" {
		return usage(fmt.Errorf("--format: want json or env, got %q", o.format))
	}
	given, err := o.ask(ctx)
	if err != nil {
		return err
	}
	if o.format == "env" {
		err = writeExports(p.stdout, given)
	} else {
		err = writeJSON(p.stdout, processCredentials{1, given.AccessKeyID, given.SecretAccessKey, given.SessionToken, expiration(given)})
	}
	if err != nil {
		return fmt.Errorf("printing the credentials: %w", err)
	}
	return nil
}

// ask gets the credentials of the tenant that is meant, and of no other.
func (o credsOptions) ask(ctx context.Context) (api.MintAWSResponse, error) {
	var owner string
	if o.owner != "" {
		var err error
		if owner, err = parseOwner(o.owner); err != nil {
			return api.MintAWSResponse{}, usage(fmt.Errorf("--owner: %w", err))
		}
	}
	c, err := o.signIn(ctx)
	if err != nil {
		return api.MintAWSResponse{}, err
	}
	meant, err := c.findMeant(ctx, owner, o)
	if err != nil {
		return api.MintAWSResponse{}, err
	}
	given, err := c.MintAWS(ctx, c.session.SessionJWT, c.wallet,
		api.Intent{AgentID: o.agent, Service: o.service, ScopePath: o.path, GrantID: meant.grant}, client.MintAWSOptions{})
	if err != nil {
		return api.MintAWSResponse{}, credsRefusal(err, o)
	}
	if given.Wallet != meant.tenant {
		return api.MintAWSResponse{}, fmt.Errorf("getting credentials: want the tenant %s, got credentials of %q, which are not handed on", meant.tenant, given.Wallet)
	}
	return given, nil
}

// credsRefusal says of a refusal what to do next in the words of this command.
func credsRefusal(err error, o credsOptions) error {
	var e *api.Error
	if !errors.As(err, &e) {
		return refusal(err)
	}
	switch e.Code {
	case api.CodeGrantRequired, api.CodeGrantUnknown:
		return hint{err, `"agentkeys grant list" shows the grants of this wallet; if the right one is not there, ask the owner for it`}
	case api.CodeGrantAmbiguous:
		return hint{err, `name the grant with --grant; "agentkeys grant list" shows whose they are`}
	case api.CodeBadRequest:
		return usage(inFlags(err, o.path))
	}
	return refusal(err)
}

// processCredentials is what a credential_process prints (AWS CLI User Guide,
// "Sourcing credentials with an external process").
type processCredentials struct {
	Version         int
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

func expiration(given api.MintAWSResponse) string {
	return time.Unix(given.Expiration, 0).UTC().Format(time.RFC3339)
}

// variables are the credentials in the form of os.Environ.
func variables(given api.MintAWSResponse) []string {
	return []string{
		"AWS_ACCESS_KEY_ID=" + given.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY=" + given.SecretAccessKey,
		"AWS_SESSION_TOKEN=" + given.SessionToken,
		"AWS_CREDENTIAL_EXPIRATION=" + expiration(given),
	}
}

// rivals are variables by which an SDK would find other credentials than those in
// AWS_ACCESS_KEY_ID and its fellows (AWS SDKs and Tools Reference Guide, "Environment
// variables"), with the older spellings of some SDKs.
var rivals = []string{
	"AWS_PROFILE", "AWS_DEFAULT_PROFILE",
	"AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE",
	"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
	"AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
	"AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SECURITY_TOKEN", "AWS_CREDENTIAL_FILE", "AWS_SESSION_EXPIRATION",
}

// writeExports prints lines for a POSIX shell.
func writeExports(w io.Writer, given api.MintAWSResponse) error {
	var text strings.Builder
	fmt.Fprintf(&text, "unset %s\n", strings.Join(rivals, " "))
	for _, variable := range variables(given) {
		name, value, _ := strings.Cut(variable, "=")
		fmt.Fprintf(&text, "export %s=%s\n", name, shellQuote(value))
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// noExports is what an eval gets in the place of credentials: none stay from
// earlier, and the eval ends with status 1, which without it would be 0.
func noExports() string {
	names := []string{}
	for _, variable := range variables(api.MintAWSResponse{}) {
		name, _, _ := strings.Cut(variable, "=")
		names = append(names, name)
	}
	return "unset " + strings.Join(append(names, rivals...), " ") + "; false\n"
}

// wantsExports reports whether a command line, however wrong, is one of creds for
// the eval of a shell.
func wantsExports(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	format := ""
	for i, arg := range args {
		if value, given := strings.CutPrefix(arg, "--format="); given {
			format = value
		} else if arg == "--format" && i+1 < len(args) {
			format = args[i+1]
		}
	}
	return format == "env" && slices.Contains(args, "creds")
}

// withCredentials is an environment with the credentials in the place of whatever
// named others.
func withCredentials(environ []string, given api.MintAWSResponse) []string {
	ours := variables(given)
	kept := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(rivals, name) || slices.ContainsFunc(ours, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	})
	return append(kept, ours...)
}
