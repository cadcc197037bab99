package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/spf13/cobra"

	"agentkeys/config"
	"agentkeys/federation"
)

// federation is the group of verbs that look after the AWS side. All of them take
// one configuration.
func (p *program) federation() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "federation",
		Short: "The AWS side: render it, apply it, find the ways in, prove it, explain a refusal",
		Long: `Looks after the AWS side of the isolation. One configuration serves every verb, so that the tag in
the token and the variable in the policies cannot disagree. It comes from flags, from the broker's
BROKER_* variables, and from a file (--config, a JSON object with the members issuer, account,
region, role, bucket, prefix, tag_key, audience and administrators); a flag goes before a variable,
and a variable before the file.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.federationRender(), p.federationPlan(), p.federationApply(), p.federationCheck(), p.federationProve(), p.explain())
	return cmd
}

// federationOptions is the configuration that the verbs share, as flags.
type federationOptions struct {
	file           string
	values         map[string]*string // by federationSetting.flag
	administrators []string
	endpoint       string
}

// federationSetting is one member of the configuration with its three names.
type federationSetting struct {
	flag, variable, meaning, standard string
	field                             func(*federation.Config) *string
}

var federationSettings = []federationSetting{
	{"issuer", "BROKER_ISSUER", "URL of the broker, byte-equal to the iss of its tokens", "",
		func(c *federation.Config) *string { return &c.Issuer }},
	{"account", "BROKER_AWS_ACCOUNT", "AWS account, twelve digits", "", func(c *federation.Config) *string { return &c.Account }},
	{"region", "BROKER_AWS_REGION", "region of the bucket and of STS", "", func(c *federation.Config) *string { return &c.Region }},
	{"role", "BROKER_AWS_ROLE", "name of the data role", federation.DefaultRole, func(c *federation.Config) *string { return &c.Role }},
	{"bucket", "BROKER_AWS_BUCKET", "name of the bucket", "", func(c *federation.Config) *string { return &c.Bucket }},
	{"prefix", "BROKER_AWS_PREFIX", "folder of the tenants: <prefix>/<tag>/", federation.DefaultPrefix,
		func(c *federation.Config) *string { return &c.Prefix }},
	{"tag-key", "BROKER_OIDC_TAG_KEY", "session tag that isolates", federation.DefaultTagKey,
		func(c *federation.Config) *string { return &c.TagKey }},
	{"audience", "BROKER_OIDC_AUDIENCE", "aud of the tokens, and client id of the provider", federation.DefaultAudience,
		func(c *federation.Config) *string { return &c.Audience }},
}

// bind gives a verb the flags of the configuration.
func (o *federationOptions) bind(cmd *cobra.Command) {
	o.values = map[string]*string{}
	flags := cmd.Flags()
	flags.StringVar(&o.file, "config", "", "`FILE` with the configuration, in the form of federation.json")
	for _, s := range federationSettings {
		meaning := s.meaning + " (" + s.variable + ")"
		if s.standard != "" {
			meaning += "; " + s.standard + " unless set"
		}
		o.values[s.flag] = flags.String(s.flag, "", meaning)
	}
	flags.StringSliceVar(&o.administrators, "administrator", nil,
		"`ARN` of a user or role that is trusted with everything; repeatable")
}

// bindEndpoint gives a verb that calls AWS the flag for another endpoint.
func (o *federationOptions) bindEndpoint(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.endpoint, "endpoint-url", "", "`URL` of another AWS, such as the local one of agentkeys dev")
}

// load puts the configuration together and validates it.
func (o *federationOptions) load(cmd *cobra.Command, environ []string) (federation.Config, error) {
	var c federation.Config
	if err := config.CheckNames(environ); err != nil {
		return c, usage(err)
	}
	if o.file != "" {
		var err error
		if c, err = readFederationFile(o.file); err != nil {
			return c, usage(err)
		}
	}
	for _, s := range federationSettings {
		field := s.field(&c)
		if v, ok := variable(environ, s.variable); ok {
			if *field != "" && *field != v && !cmd.Flags().Changed(s.flag) {
				fmt.Fprintf(cmd.ErrOrStderr(), "agentkeys: note: %s is %q by %s, not %q as in %s\n", s.flag, v, s.variable, *field, o.file)
			}
			*field = v
		}
		if cmd.Flags().Changed(s.flag) {
			*field = *o.values[s.flag]
		} else if *field == "" {
			*field = s.standard
		}
		if *field == "" {
			return c, usage(hint{fmt.Errorf("%s is not set: it is the %s", s.flag, s.meaning),
				fmt.Sprintf("give --%s, set %s, or name a file with --config", s.flag, s.variable)})
		}
	}
	if cmd.Flags().Changed("administrator") {
		c.Administrators = o.administrators
	}
	if err := c.Validate(); err != nil {
		return c, usage(err)
	}
	return c, nil
}

// variable looks a name up in an environment. Set and empty is set.
func variable(environ []string, name string) (string, bool) {
	for _, e := range environ {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// readFederationFile reads a configuration strictly: a misspelt member must not
// leave a default in force.
func readFederationFile(path string) (federation.Config, error) {
	var c federation.Config
	data, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("reading the federation's configuration: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("reading the federation's configuration %s: %w", path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, fmt.Errorf("reading the federation's configuration %s: want one JSON object, got more", path)
	}
	return c, nil
}

// sdkConfig is the SDK's configuration for the account: the environment's or the
// profile's credentials, the configuration's region and, where one is named,
// another endpoint.
func (o *federationOptions) sdkConfig(ctx context.Context, c federation.Config) (aws.Config, error) {
	if o.endpoint != "" {
		if u, err := url.Parse(o.endpoint); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return aws.Config{}, usage(fmt.Errorf("--endpoint-url: want a URL with http or https, got %q", o.endpoint))
		}
	}
	loaded, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(c.Region), awsconfig.WithLogger(logging.Nop{}))
	if err != nil {
		return loaded, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	if o.endpoint != "" {
		loaded.BaseEndpoint = aws.String(o.endpoint)
	}
	return loaded, nil
}

// awsClients are the clients that plan, apply and check work with.
func (o *federationOptions) awsClients(ctx context.Context, c federation.Config) (federation.AWS, error) {
	sdk, err := o.sdkConfig(ctx, c)
	if err != nil {
		return federation.AWS{}, err
	}
	if _, err := sdk.Credentials.Retrieve(ctx); err != nil {
		return federation.AWS{}, hint{fmt.Errorf("no AWS credentials found, want some of account %s", c.Account),
			"set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"}
	}
	return federation.AWS{
		IAM:     iam.NewFromConfig(sdk),
		S3:      s3.NewFromConfig(sdk, func(s *s3.Options) { s.UsePathStyle = sdk.BaseEndpoint != nil }),
		STS:     sts.NewFromConfig(sdk),
		Control: federation.NewControl(sdk),
	}, nil
}
