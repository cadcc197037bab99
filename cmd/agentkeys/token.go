package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// token is the group of commands about one token.
func (p *program) token() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Look into a web identity token, or sign one that a proof needs",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.inspectToken(), p.controlToken(), p.proofToken())
	return cmd
}

func (p *program) inspectToken() *cobra.Command {
	var issuer, keySet, tagKey, format string
	cmd := &cobra.Command{
		Use:   "inspect FILE|-",
		Short: "Show a token's header, claims, times and session tags",
		Long: `Shows what is in a web identity token, from a file or from standard input (-): header and claims,
the times in local time, and the session tags as AWS will read them. White space around the token
does not matter, and neither does padding; both are told. The signature is never shown. It is
verified with --jwks or --issuer alone; without them the token may be anybody's writing.

Exit status: 0 shown, 1 the signature is not good or the text is no token, 2 wrong use.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(format); err != nil {
				return err
			}
			text, err := readSecret(cmd, args[0])
			if err != nil {
				return err
			}
			var keys *federation.IssuerDocuments
			switch {
			case keySet != "" && issuer != "":
				return usage(errors.New("--jwks and --issuer: want one of them, got both"))
			case keySet != "":
				if keys, err = readKeySetFile(keySet, ""); err != nil {
					return err
				}
			case issuer != "":
				keys = federation.FetchIssuer(cmd.Context(), nil, issuer)
			}
			return p.showToken(text, tagKey, format, keys)
		},
	}
	cmd.Flags().StringVar(&issuer, "issuer", "", "verify with the keys that this issuer `URL` publishes")
	cmd.Flags().StringVar(&keySet, "jwks", "", "verify with the key set in `FILE`")
	cmd.Flags().StringVar(&tagKey, "tag-key", federation.DefaultTagKey, "session tag that isolates")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	return cmd
}

func (p *program) controlToken() *cobra.Command {
	var keyFile, like, out, tagKey string
	cmd := &cobra.Command{
		Use:   "control --oidc-key FILE --like FILE --out FILE",
		Short: "Sign a token that lacks the tag, for the proof to see it refused",
		Long: `Signs, with the issuer's key, a token that differs from a tenant's in one thing: it has no session
tags. No broker mints such a token, and AWS must give no session for it; "agentkeys federation prove
--control-token" on a machine without the issuer's key sees whether that is so. It is good for five
minutes, and goes to a file of mode 0600.`,
		Example: "  agentkeys token control --oidc-key oidc.jwk --like alice.jwt --out control.jwt",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keyFile == "" || like == "" || out == "" {
				return usage(hint{errors.New("--oidc-key, --like and --out are all needed"), `see "agentkeys token control --help"`})
			}
			raw, err := readSecret(cmd, like)
			if err != nil {
				return err
			}
			jwt, err := controlLike(cmd.Context(), keyFile, raw, tagKey)
			if err != nil {
				return err
			}
			return writeToken(out, jwt)
		},
	}
	cmd.Flags().StringVar(&keyFile, "oidc-key", "", "`FILE` of the issuer's key")
	cmd.Flags().StringVar(&like, "like", "", "`FILE` with a tenant's token, or - for standard input")
	cmd.Flags().StringVar(&out, "out", "", "`FILE` to write the control to, in the place of an earlier one")
	cmd.Flags().StringVar(&tagKey, "tag-key", federation.DefaultTagKey, "session tag that isolates")
	return cmd
}

// controlLike signs a control for the issuer, the audience and the tenant of a
// token.
func controlLike(ctx context.Context, keyFile, raw, tagKey string) (string, error) {
	c := federation.Config{TagKey: tagKey}
	tag, err := federation.TenantOf(raw, c)
	if err != nil {
		return "", err
	}
	if c.Issuer, c.Audience, err = federation.IssuerOf(raw); err != nil {
		return "", err
	}
	source, err := signedControl(keyFile, c)
	if err != nil {
		return "", err
	}
	sign, err := source(federation.Tenant{Tag: tag})
	if err != nil {
		return "", err
	}
	return sign(ctx)
}

func (p *program) showToken(text, tagKey, format string, keys *federation.IssuerDocuments) error {
	view, err := federation.InspectToken(text, tagKey, time.Now(), keys)
	if err != nil {
		return err
	}
	if format == "json" {
		err = writeJSON(p.stdout, view)
	} else {
		err = view.WriteText(p.stdout, p.colour())
	}
	if err != nil {
		return fmt.Errorf("printing the token: %w", err)
	}
	if view.Wrong {
		return status{code: exitBroken}
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func checkFormat(format string) error {
	if format != "text" && format != "json" {
		return usage(fmt.Errorf("--format: want text or json, got %q", format))
	}
	return nil
}

// maxSecret is more than any token that STS takes.
const maxSecret = 1 << 16

// readSecret reads a token from a file or, for "-", from standard input. A token on
// the command line would be seen by every user of the machine and kept in the
// shell's history; where one is given in the place of a file, it is not repeated.
func readSecret(cmd *cobra.Command, path string) (string, error) {
	if path == "-" {
		return readLimited(cmd.InOrStdin(), "standard input")
	}
	f, err := os.Open(path)
	if err != nil && strings.HasPrefix(path, "eyJ") {
		return "", usage(hint{errors.New("want a file with the token, got the token itself"),
			"a token is a secret: put it into a file, or give - and write it to standard input"})
	}
	if err != nil {
		return "", usage(fmt.Errorf("reading the token: %w", err))
	}
	defer f.Close()
	return readLimited(f, path)
}

func readLimited(r io.Reader, name string) (string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err
	}
	switch {
	case err != nil:
		return "", usage(fmt.Errorf("reading %s: %w", name, err))
	case len(data) > maxSecret:
		return "", usage(fmt.Errorf("reading %s: want at most %d bytes, got more", name, maxSecret))
	}
	return string(data), nil
}

// readKeySetFile takes a key set from a file in place of the issuer's.
func readKeySetFile(path, issuer string) (*federation.IssuerDocuments, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usage(fmt.Errorf("reading the key set: %w", err))
	}
	return &federation.IssuerDocuments{Issuer: issuer, KeySet: data}, nil
}
