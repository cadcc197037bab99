package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// renderOptions is what render takes besides the configuration.
type renderOptions struct {
	form, format, out string
	extras            federation.Extras
}

func (p *program) federationRender() *cobra.Command {
	var shared federationOptions
	var o renderOptions
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Write the documents for AWS, and touch nothing there",
		Long: `Writes the AWS side of a configuration: the OIDC provider, the role's trust policy, the bucket's
policy, its public access block and its ownership controls. The role has no identity policy, since
the bucket's policy alone grants a tenant's objects; --mail-from gives it one that lets tenants send
mail. Nothing is asked of AWS.

The formats:

  json            each document as the AWS CLI takes it with file://; without --out, one object with
                  all of them
  cli             a shell script of AWS CLI commands; it stops rather than replace a statement that
                  is not its own
  cloudformation  a template in JSON; deploy it with --capabilities CAPABILITY_NAMED_IAM
  terraform       resources for the aws provider, as "terraform fmt" lays them out

With --out the files go into a folder, which is made where it is absent; a file that is there with
other content is never written over. CLIs from before mid-2024 want a --thumbprint, although IAM
itself does not.

Exit status: 0 written, 1 it could not be written, 2 wrong use.`,
		Example: `  # See the documents.
  agentkeys federation render --issuer https://broker.example.com \
    --account 111122223333 --region eu-central-1 --bucket acme-agents

  # Put everything in force with the AWS CLI. Run it again whenever the configuration changes.
  agentkeys federation render --config federation.json --format cli >set-up.sh
  sh set-up.sh

  # Terraform, with mail: each tenant sends as <its tag>@agents.example.com, and SES delivers into inbound/.
  agentkeys federation render --config federation.json --format terraform --out infra \
    --mail-from agents.example.com --inbound inbound`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := shared.load(cmd, p.environ)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("out") && o.out == "" {
				return usage(errors.New("--out: want a folder, got an empty name"))
			}
			return p.runRender(c, o)
		},
	}
	shared.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.format, "format", string(federation.RenderJSON), "json, cli, cloudformation or terraform")
	flags.StringVar(&o.form, "form", string(federation.Hardened),
		"hardened: with the tag's shape and the denies that hold where another policy allows too much; plain: with tag-scoped allows only")
	flags.StringVar(&o.out, "out", "", "`FOLDER` to write to, in place of standard output")
	bindExtras(cmd, &o.extras)
	return cmd
}

// bindExtras gives a verb the flags of what a set-up may have besides.
func bindExtras(cmd *cobra.Command, x *federation.Extras) {
	flags := cmd.Flags()
	flags.StringSliceVar(&x.Thumbprints, "thumbprint", nil,
		"SHA-1 `THUMBPRINT` of the authority behind the issuer's certificate, 40 hexadecimal digits; repeatable")
	flags.StringVar(&x.MailFrom, "mail-from", "",
		"let tenants send mail through SES from `WHOM`: a domain (each tenant as <its tag>@domain), one address, or *@domain")
	flags.StringVar(&x.Inbound, "inbound", "", "let SES write incoming mail into this `FOLDER` of the bucket")
}

func (p *program) runRender(c federation.Config, o renderOptions) error {
	d, err := federation.RenderWith(c, federation.Form(o.form), o.extras)
	if err != nil {
		return usage(err)
	}
	files, err := d.Files(c, federation.RenderFormat(o.format))
	if err != nil {
		return usage(err)
	}
	for _, r := range d.Remarks() {
		fmt.Fprintf(p.stderr, "agentkeys: note: %s\n", r)
	}
	if o.out != "" {
		return p.writeRendered(o.out, files)
	}
	text, err := d.Text(c, federation.RenderFormat(o.format))
	if err != nil {
		return err
	}
	if _, err := p.stdout.Write(text); err != nil {
		return fmt.Errorf("writing the documents: %w", err)
	}
	return nil
}

// writeRendered puts files into a folder. It looks at all of them first, so that it
// writes either every one or none.
func (p *program) writeRendered(folder string, files []federation.RenderedFile) error {
	var missing []federation.RenderedFile
	for _, f := range files {
		path := filepath.Join(folder, f.Name)
		there, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, f)
		case err != nil:
			return fmt.Errorf("writing the documents: %w", err)
		case !bytes.Equal(there, f.Text):
			return hint{fmt.Errorf("writing the documents: %s is there with other content", path),
				"name another folder, or move the file away; nothing was written"}
		default:
			fmt.Fprintf(p.stdout, "%s is as it was\n", path)
		}
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("writing the documents: %w", err)
	}
	for _, f := range missing {
		path := filepath.Join(folder, f.Name)
		if err := writeRenderedFile(path, f); err != nil {
			return fmt.Errorf("writing the documents: %w", err)
		}
		fmt.Fprintf(p.stdout, "wrote %s\n", path)
	}
	return nil
}

// writeRenderedFile makes a file, and fails where one came to be meanwhile.
func writeRenderedFile(path string, f federation.RenderedFile) error {
	mode := os.FileMode(0o644)
	if f.Executable {
		mode = 0o755
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := out.Write(f.Text); err != nil {
		return errors.Join(err, out.Close(), os.Remove(path))
	}
	return out.Close()
}
