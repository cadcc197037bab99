package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/federation"
	"agentkeys/policy"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	federationOptions
	token, from, keySet, format       string
	errorText, errorFile              string
	roleARN, session, policyFile, at  string
	duration, maxSession              int
	policyARNs                        []string
	action, resource, key, listPrefix string
	context                           []string
	offline                           bool
}

func (p *program) explain() *cobra.Command {
	o := &explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain [--token FILE|-] [--from DIR] [--error TEXT|-]",
		Short: "Say what STS checks of a token, which check fails, and what to change",
		Long: `Says in the order of STS what AssumeRoleWithWebIdentity checks of a token, which check fails, what
the caller is told, and what to change. The checks after a failure are made as well, so that a
second one does not hide behind it.

The token comes from a file or from standard input (--token), never from the command line. The
documents in force are fetched from AWS, with credentials that may read them, or come from files
(--from, a folder in the form of federation check --from). The issuer's keys are fetched from the
issuer, or come from a file (--jwks); with --offline nothing is fetched.

With --error it says what an error means that a client printed, and, together with a token and the
documents, which of its causes it is. With --action it goes on to what S3 answers to the session.

Exit status: 0 all checks pass, 1 something fails, 2 wrong use, 3 it could not be told.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runExplain(cmd, o) },
	}
	o.bind(cmd)
	o.bindExplain(cmd)
	o.bindLive(cmd)
	return cmd
}

func (o *explainOptions) bindExplain(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.token, "token", "", "`FILE` with the token, or - for standard input")
	f.StringVar(&o.from, "from", "", "`DIR` with the documents in force; the configuration is its federation.json")
	f.StringVar(&o.errorText, "error", "", "`TEXT` of the error that a client printed, or - for standard input")
	f.StringVar(&o.errorFile, "error-file", "", "`FILE` with that text")
	f.StringVar(&o.keySet, "jwks", "", "`FILE` with the issuer's key set, in place of fetching it")
	f.BoolVar(&o.offline, "offline", false, "fetch nothing")
	f.StringVar(&o.roleARN, "role-arn", "", "`ARN` of the role; that of the configuration unless set")
	f.StringVar(&o.session, "session-name", "", "RoleSessionName of the call")
	f.IntVar(&o.duration, "duration", 0, "DurationSeconds of the call; none, which means 3600, unless set")
	f.IntVar(&o.maxSession, "max-session", 0, "MaxSessionDuration of the role in seconds, which files do not tell")
	f.StringVar(&o.policyFile, "session-policy", "", "`FILE` with the session policy of the call")
	f.StringSliceVar(&o.policyARNs, "policy-arn", nil, "`ARN` of a managed session policy; repeatable")
	f.StringVar(&o.action, "action", "", "explain this action of the session as well, such as s3:GetObject")
	f.StringVar(&o.resource, "resource", "", "`ARN` it is done on")
	f.StringVar(&o.key, "key", "", "`KEY` of the object it is done on, in place of --resource")
	f.StringVar(&o.listPrefix, "list-prefix", "", "prefix that is listed, for s3:ListBucket")
	f.StringArrayVar(&o.context, "context", nil, "`KEY=VALUE` of a condition key that the request has; repeatable")
	f.StringVar(&o.at, "at", "", "`TIME` of the call in RFC 3339; now unless set")
	f.StringVar(&o.format, "format", "text", "text or json")
}

func (p *program) runExplain(cmd *cobra.Command, o *explainOptions) error {
	if err := o.check(cmd); err != nil {
		return err
	}
	in, err := p.explainInput(cmd, o)
	if err != nil {
		return err
	}
	x := federation.Explain(in)
	if o.format == "json" {
		err = writeJSON(p.stdout, x)
	} else {
		err = x.WriteText(p.stdout, p.colour())
	}
	if err != nil {
		return status{exitInconclusive, fmt.Errorf("printing the explanation: %w", err)}
	}
	if code := x.ExitStatus(); code != exitOK {
		return status{code: code}
	}
	return nil
}

// check refuses flags that contradict one another.
func (o *explainOptions) check(cmd *cobra.Command) error {
	stdin := 0
	for _, name := range []string{o.token, o.errorText, o.errorFile} {
		if name == "-" {
			stdin++
		}
	}
	changed := cmd.Flags().Changed
	switch {
	case !changed("token") && !changed("error") && !changed("error-file") && !changed("from"):
		return usage(hint{errors.New("want a token (--token), an error (--error) or documents (--from), got none"), `see "agentkeys federation explain --help"`})
	case stdin > 1:
		return usage(errors.New("standard input: want it for one of --token, --error and --error-file, got it for more"))
	case changed("error") && changed("error-file"):
		return usage(errors.New("--error and --error-file: want one of them, got both"))
	case o.keySet != "" && o.offline:
		return usage(errors.New("--jwks and --offline: want one of them, got both"))
	case o.action == "" && (o.resource != "" || o.key != "" || changed("list-prefix")):
		return usage(errors.New("--resource, --key and --list-prefix: want --action with them, got none"))
	case o.resource != "" && o.key != "":
		return usage(errors.New("--resource and --key: want one of them, got both"))
	case o.action != "":
		if err := checkAction(o); err != nil {
			return usage(err)
		}
	}
	switch {
	case changed("duration") && o.duration == 0:
		return usage(errors.New("--duration: want a number of seconds, got 0"))
	}
	if o.from != "" {
		for _, s := range federationSettings {
			if changed(s.flag) {
				return usage(fmt.Errorf("--from and --%s: with --from the configuration is that of its federation.json", s.flag))
			}
		}
		if changed("endpoint-url") {
			return usage(errors.New("--from and --endpoint-url: with --from no AWS is asked"))
		}
		if changed("config") {
			return usage(errors.New("--from and --config: with --from the configuration is that of its federation.json"))
		}
	}
	return checkFormat(o.format)
}

// explainInput gathers what Explain works with.
func (p *program) explainInput(cmd *cobra.Command, o *explainOptions) (in federation.ExplainInput, err error) {
	in = federation.ExplainInput{
		Now: time.Now(), RoleARN: o.roleARN, SessionName: o.session, Duration: o.duration, MaxSession: o.maxSession, PolicyARNs: o.policyARNs,
	}
	if o.at != "" {
		if in.Now, err = time.Parse(time.RFC3339, o.at); err != nil {
			return in, usage(fmt.Errorf("--at: want a time in RFC 3339, got %q", o.at))
		}
	}
	if in.Context, err = o.contextKeys(); err != nil {
		return in, err
	}
	if in.Error, err = o.readErrorText(cmd); err != nil {
		return in, err
	}
	if o.token != "" {
		if in.Token, err = readSecret(cmd, o.token); err != nil {
			return in, err
		}
		if strings.TrimSpace(in.Token) == "" {
			return in, usage(errors.New("reading the token: it is empty"))
		}
	}
	if o.policyFile != "" {
		text, err := os.ReadFile(o.policyFile)
		if err != nil {
			return in, usage(fmt.Errorf("reading the session policy: %w", err))
		}
		in.SessionPolicy = string(text)
	}
	return in, p.explainDocuments(cmd, o, &in)
}

// explainDocuments adds the configuration, the documents in force and the issuer's
// keys. An error alone needs none of them.
func (p *program) explainDocuments(cmd *cobra.Command, o *explainOptions, in *federation.ExplainInput) (err error) {
	switch {
	case o.from != "":
		if in.Account, err = federation.ReadAccount(o.from); err != nil {
			return status{exitInconclusive, err}
		}
		in.Config = in.Account.Config
	case o.token != "":
		if in.Config, err = o.load(cmd, p.environ); err != nil {
			return err
		}
		if !o.offline {
			if err := o.live(cmd.Context(), in); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	switch {
	case o.keySet != "":
		if in.Issuer, err = readKeySetFile(o.keySet, in.Config.Issuer); err != nil {
			return err
		}
	case !o.offline && o.token != "":
		in.Issuer = federation.FetchIssuer(cmd.Context(), nil, in.Config.Issuer)
	}
	in.Requests = o.requests(in.Config)
	return nil
}

// requests are what the session is to do at S3.
func (o *explainOptions) requests(c federation.Config) []federation.S3Request {
	if o.action == "" {
		return nil
	}
	r := federation.S3Request{Action: o.action, Resource: o.resource, Context: map[string]string{}}
	switch {
	case o.key != "":
		r.Resource = c.BucketARN() + "/" + o.key
	case r.Resource == "":
		r.Resource = c.BucketARN()
	}
	if o.listPrefix != "" {
		r.Context["s3:prefix"] = o.listPrefix
	}
	return []federation.S3Request{r}
}

func (o *explainOptions) contextKeys() (map[string]string, error) {
	keys := map[string]string{}
	for _, c := range o.context {
		key, value, ok := strings.Cut(c, "=")
		if !ok || key == "" {
			return nil, usage(fmt.Errorf("--context: want KEY=VALUE, got %q", c))
		}
		keys[key] = value
	}
	return keys, nil
}

func (o *explainOptions) readErrorText(cmd *cobra.Command) (string, error) {
	name := o.errorFile
	if o.errorText == "-" {
		name = "-"
	}
	text := o.errorText
	var err error
	switch {
	case name == "-":
		text, err = readLimited(cmd.InOrStdin(), "standard input")
	case name != "":
		var data []byte
		if data, err = os.ReadFile(name); err != nil {
			err = usage(fmt.Errorf("reading the error: %w", err))
		}
		text = string(data)
	}
	changed := cmd.Flags().Changed("error") || cmd.Flags().Changed("error-file")
	if err == nil && changed && strings.TrimSpace(text) == "" {
		err = usage(errors.New("the error's text: want what the client printed, got nothing"))
	}
	return text, err
}

// checkAction wants an action that S3 has, and an object where it is done on one.
func checkAction(o *explainOptions) error {
	name, ok := strings.CutPrefix(strings.ToLower(o.action), "s3:")
	if !ok {
		return fmt.Errorf("--action: want an action of S3 such as s3:GetObject, got %q", o.action)
	}
	actions := policy.Actions("s3")
	i := slices.IndexFunc(actions, func(a policy.ActionInfo) bool { return strings.EqualFold(a.Name, name) })
	switch {
	case i < 0:
		return fmt.Errorf("--action: S3 has no action %q", o.action)
	case slices.Contains(actions[i].Resources, "object") && o.key == "" && o.resource == "":
		return fmt.Errorf("--action %s is done on an object: give its --key, or its ARN as --resource", o.action)
	case o.resource != "" && !strings.HasPrefix(o.resource, "arn:"):
		return fmt.Errorf("--resource: want an ARN, got %q; an object's name goes behind --key", o.resource)
	}
	return nil
}
