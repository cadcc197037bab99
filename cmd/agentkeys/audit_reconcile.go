package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/config"
	"agentkeys/federation"
	"agentkeys/grant"
	"agentkeys/store"
	"agentkeys/token"
	"agentkeys/trail"
)

// reconcileOptions are the flags of audit reconcile.
type reconcileOptions struct {
	files, proofs []string
	config        string
	role, issuer  string
	since, until  string
	dataDir       string
	late, tokenIs time.Duration
	json          bool
}

func (p *program) auditReconcile() *cobra.Command {
	var o reconcileOptions
	cmd := &cobra.Command{
		Use:   "reconcile --cloudtrail FILES",
		Short: "Hold the audit log against CloudTrail's files, in both directions",
		Long: `Holds the broker's records of credentials and tokens against CloudTrail's files: every session of
the data role in the trail has its record, every record of credentials has its session, and nothing
is used that no record released. docs/audit-reconcile.md has the findings, what is matched by what,
and how to have CloudTrail write what is needed.

FILES are files or folders: log files as CloudTrail delivers them (.json.gz, or .json unpacked), or
what "aws cloudtrail lookup-events" prints. The database may be in use; it is only read.

The tokens of "agentkeys federation prove" may be signed past the broker. --proof names its reports:
the sessions in them are told apart, by their access key ids, and counted. A report is believed:
keep it where whoever could make such sessions cannot write.

The role and the provider come from --config (the federation.json of "agentkeys federation"), or
from the broker's BROKER_* variables, or from --role and --issuer.

Exit status: 0 clean; 1 findings, or it failed; 2 wrong use; 3 inconclusive: files that cannot be
read, or that do not cover what is asked.`,
		Example: `  aws s3 sync s3://acme-trail/AWSLogs/111122223333/CloudTrail/us-east-1/2026/12/07 trail
  agentkeys audit reconcile --cloudtrail trail --config federation.json \
      --data-dir /var/lib/agentkeys`,
		Args: usageArgs(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.files = append(o.files, args...)
			return p.runReconcile(cmd.Context(), &o)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&o.files, "cloudtrail", nil, "`FILES` of CloudTrail, or folders of them; repeatable, and the rest of the line")
	flags.StringArrayVar(&o.proofs, "proof", nil, "`REPORT` of federation prove as JSON, or the folder of its --out-dir, whose sessions are told apart; repeatable")
	flags.StringVar(&o.config, "config", "", "`FILE` with the configuration, in the form of federation.json")
	flags.StringVar(&o.role, "role", "", "`ARN` of the data role")
	flags.StringVar(&o.issuer, "issuer", "", "`URL` of the broker, whose OIDC provider is the one way to the role (BROKER_ISSUER)")
	flags.StringVar(&o.since, "since", "", "`TIME` (RFC 3339) from which on the files are whole; their first event unless set")
	flags.StringVar(&o.until, "until", "", "`TIME` (RFC 3339) before which events count; the end of the files unless set")
	flags.StringVar(&o.dataDir, "data-dir", "", "`DIR` of the broker's database (BROKER_DATA_DIR)")
	flags.DurationVar(&o.late, "late", 15*time.Minute, "how late CloudTrail may deliver: records this young may lack their event")
	flags.DurationVar(&o.tokenIs, "token-ttl", 5*time.Minute, "lifetime of the broker's web identity tokens")
	flags.BoolVar(&o.json, "json", false, "print JSON")
	return cmd
}

func (p *program) runReconcile(ctx context.Context, o *reconcileOptions) error {
	scope, err := p.reconcileScope(o)
	if err != nil {
		return usage(hint{err, `see "agentkeys audit reconcile --help"`})
	}
	dir := o.dataDir
	if v, ok := variable(p.environ, "BROKER_DATA_DIR"); dir == "" && ok {
		dir = v
	}
	if dir == "" {
		return usage(errors.New("--data-dir is missing: want the folder of the broker's database"))
	}
	t, err := trail.Read(scope.Keep, o.files...)
	if err == nil {
		scope.Proofs, err = readProofs(scope, o.proofs)
	}
	if err != nil { // what could not be read could have shown anything
		return status{exitInconclusive, err}
	}
	records, err := readMints(ctx, filepath.Join(dir, databaseFile), scope.RecordsFrom(t))
	if err != nil {
		return databaseHint(err)
	}
	report := trail.Reconcile(scope, t, records)
	write := report.WriteText
	if o.json {
		write = report.WriteJSON
	}
	if err := printed("the report", write(p.stdout)); err != nil {
		return err
	}
	switch report.Verdict {
	case trail.Findings:
		return status{code: exitBroken}
	case trail.Inconclusive:
		return status{code: exitInconclusive}
	}
	return nil
}

var roleARNForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[!-~]+$`)

// reconcileScope puts together what is compared.
func (p *program) reconcileScope(o *reconcileOptions) (trail.Scope, error) {
	s := trail.Scope{TagKey: token.TagKey, SubjectPrefix: token.SubjectPrefix, SessionName: grant.SessionName, TokenLife: o.tokenIs, Late: o.late}
	if len(o.files) == 0 {
		return s, errors.New("--cloudtrail is missing: want CloudTrail's files, or a folder of them")
	}
	if o.late < 0 || o.tokenIs < 0 {
		return s, fmt.Errorf("--late and --token-ttl: want no negative time, got %v and %v", o.late, o.tokenIs)
	}
	var err error
	if s.Since, err = timeFlag("since", o.since); err != nil {
		return s, err
	}
	if s.Until, err = timeFlag("until", o.until); err != nil {
		return s, err
	}
	if !s.Until.IsZero() && !s.Since.Before(s.Until) {
		return s, fmt.Errorf("--until: want a time after --since, got %s", o.until)
	}
	role, issuer, err := p.roleAndIssuer(o, &s)
	if err != nil {
		return s, err
	}
	if !roleARNForm.MatchString(role) {
		return s, fmt.Errorf("--role: want the ARN of the data role, got %q", role)
	}
	s.Role = role
	if issuer != "" {
		_, provider, _ := strings.Cut(issuer, "://")
		before, _, _ := strings.Cut(role, ":role/")
		s.Provider = before + ":oidc-provider/" + provider
	}
	return s, nil
}

// roleAndIssuer takes the role's ARN and the issuer, and the tag key beside them,
// from the flags, or the variables, or the file, in that order.
func (p *program) roleAndIssuer(o *reconcileOptions, s *trail.Scope) (role, issuer string, err error) {
	if err := config.CheckNames(p.environ); err != nil {
		return "", "", err
	}
	var c federation.Config
	if o.config != "" {
		if c, err = readFederationFile(o.config); err != nil {
			return "", "", err
		}
	}
	for name, field := range map[string]*string{"BROKER_ISSUER": &c.Issuer, "BROKER_AWS_ACCOUNT": &c.Account, "BROKER_AWS_REGION": &c.Region,
		"BROKER_AWS_ROLE": &c.Role, "BROKER_OIDC_TAG_KEY": &c.TagKey} {
		if v, ok := variable(p.environ, name); ok {
			*field = v
		}
	}
	s.TagKey = cmp.Or(c.TagKey, s.TagKey)
	if c.Account != "" {
		c.Role = cmp.Or(c.Role, federation.DefaultRole)
		role = c.RoleARN()
	}
	return cmp.Or(o.role, role), cmp.Or(o.issuer, c.Issuer), nil
}

func timeFlag(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, value)
	if err != nil {
		return t, fmt.Errorf("--%s: want a time like 2026-12-07T00:00:00Z, got %q", name, value)
	}
	return t, nil
}

// readMints reads the records that account for sessions, from a time on, beside a
// broker that may be at work. One view of the database gives them all, so that no
// outcome is there without its intent.
func readMints(ctx context.Context, path string, since time.Time) (records []audit.Record, err error) {
	db, err := store.Open(ctx, path, store.ReadOnly())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.View(ctx, func(tx *sql.Tx) error {
		for _, action := range []string{audit.ActionMintAWS, audit.ActionMintOIDC} {
			q := audit.Query{Action: action, Since: since, Limit: audit.MaxLimit}
			for {
				page, err := audit.Find(ctx, tx, q)
				if err != nil {
					return err
				}
				for _, e := range page {
					records, q.Before = append(records, e.Record), e.Seq
				}
				if len(page) < q.Limit {
					break
				}
			}
		}
		return nil
	})
	return records, err
}
