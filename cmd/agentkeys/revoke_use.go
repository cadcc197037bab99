package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/api"
	"agentkeys/federation"
)

// cutoff is up to when sessions are shut out: a time, or a length of time before now, or now
// where both are zero.
type cutoff struct {
	at  time.Time
	ago time.Duration
}

// parseCutoff reads a time, or a length of time that has passed since.
func parseCutoff(text string) (cutoff, error) {
	if at, err := api.ParseTime(text); err == nil && !at.IsZero() {
		return cutoff{at: at}, nil
	}
	if ago, ok := parseLength(text); ok {
		return cutoff{ago: ago}, nil
	}
	return cutoff{}, fmt.Errorf("want a time such as 2026-05-01T12:00:00Z, or how long ago that is, above zero, such as 15m or 2h, got %q", text)
}

// check holds the flags against each other.
func (o *revokeOptions) check(cmd *cobra.Command) (since cutoff, err error) {
	modes := o.chosen(cmd, "list", "clear", "render")
	kinds := o.chosen(cmd, "block", "unblock", "since")
	proofs := o.chosen(cmd, "oidc-key", "wallet", "token", "no-proof")
	onlyRevoking := o.chosen(cmd, "since", "block", "unblock", "oidc-key", "wallet", "token", "other-token", "no-proof", "timeout", "broker", "chain-id")
	switch {
	case len(modes) > 1:
		return since, fmt.Errorf("%s: want one of them", strings.Join(modes, " and "))
	case len(kinds) > 1:
		return since, fmt.Errorf("%s: want one of them", strings.Join(kinds, " and "))
	case len(proofs) > 1:
		return since, fmt.Errorf("%s: want one of them", strings.Join(proofs, " and "))
	case (o.list || o.clear) && len(onlyRevoking) > 0:
		return since, fmt.Errorf("%s does not go with %s", onlyRevoking[0], modes[0])
	case (o.list || o.render) && o.dryRun:
		return since, fmt.Errorf("--dry-run does not go with %s, which changes nothing", modes[0])
	case o.render && o.unblock:
		return since, errors.New("--unblock does not go with --render: put what --render prints without it in the block's place")
	case o.list && o.tenant != "":
		return since, errors.New("--tenant does not go with --list, which shows all")
	case o.force && (!o.clear || o.tenant == ""):
		return since, errors.New("--force is for --clear with --tenant")
	case o.tenant == "" && !o.list && !o.clear:
		return since, errors.New("--tenant is missing: whose sessions are to end?")
	case o.otherToken != "" && o.token == "":
		return since, errors.New("--other-token is for --token")
	case o.wallet == "" && (cmd.Flags().Changed("broker") || cmd.Flags().Changed("chain-id")):
		return since, errors.New("--broker and --chain-id are for --wallet")
	}
	if o.tenant != "" {
		if err := checkTenantFlag(o.tenant); err != nil {
			return since, err
		}
	}
	if cmd.Flags().Changed("since") {
		if since, err = parseCutoff(o.since); err != nil {
			return since, fmt.Errorf("--since: %w", err)
		}
	}
	return since, checkFormat(o.format)
}

// chosen are those of the flags that are set, as a person writes them.
func (o *revokeOptions) chosen(cmd *cobra.Command, flags ...string) []string {
	set := slices.DeleteFunc(flags, func(f string) bool { return !cmd.Flags().Changed(f) })
	for i, f := range set {
		set[i] = "--" + f
	}
	return set
}

// ignoreProof drops what is for a proof where nothing is done that could be proven:
// --dry-run and --render are put at the end of the command that is about to be given.
func (p *program) ignoreProof(cmd *cobra.Command, o *revokeOptions) {
	if !o.dryRun && !o.render {
		return
	}
	if ignored := o.chosen(cmd, "oidc-key", "wallet", "token", "other-token", "no-proof"); len(ignored) > 0 {
		fmt.Fprintf(p.stderr, "agentkeys: note: nothing is changed, so nothing is proven: %s is ignored\n", strings.Join(ignored, ", "))
	}
	o.oidcKey, o.wallet, o.token, o.otherToken, o.noProof = "", "", "", "", false
}

// What somebody has in the hand who looks for a tenant: the name of a session of the
// broker's, alone or at the end of an ARN; a grant; another session's ARN; an access
// key.
var (
	sessionOfGrant = regexp.MustCompile(`(?:^|[/:])(?:0x[0-9a-fA-F]{40})?@?(grn-[A-Z2-7]{16})$`)
	sessionARN     = regexp.MustCompile(`^arn:aws[a-z-]*:sts::`)
	temporaryKey   = regexp.MustCompile(`^ASIA[A-Z0-9]{8,124}$`)
)

// checkTenantFlag admits a tenant's tag. For what leads to a tenant it says how, and
// goes no way itself: the broker's database is on another host.
func checkTenantFlag(text string) error {
	if m := sessionOfGrant.FindStringSubmatch(text); m != nil {
		return hint{fmt.Errorf("--tenant: want the tag of a tenant, got the name of grant %s: its tenant is the owner, and an address before it is the daemon's", m[1]),
			"on the broker host: " + askDatabase("tenant", "grants", "grant_id", m[1])}
	}
	if temporaryKey.MatchString(text) {
		return hint{fmt.Errorf("--tenant: want the tag of a tenant, got an access key id, %s", text),
			"on the broker host: " + askDatabase("tenant", "audit_records", "credential_id", text)}
	}
	if sessionARN.MatchString(text) {
		return hint{errors.New("--tenant: want the tag of a tenant, got the ARN of a session, whose name does not say whose it is"),
			`find the tenant by the access key id: docs/runbook.md, "A tenant's credentials leaked"`}
	}
	if err := federation.CheckTenant(text); err != nil {
		return hint{fmt.Errorf("--tenant: %w", err), `see "agentkeys revoke --help"`}
	}
	return nil
}

// askDatabase is the command that reads one value out of the broker's database. The
// value is of a form without quotation marks.
func askDatabase(column, table, key, value string) string {
	return fmt.Sprintf(`sqlite3 -readonly "$BROKER_DATA_DIR/agentkeys.db" "SELECT %s FROM %s WHERE %s = '%s'"`, column, table, key, value)
}

// noRevokeArgs knows the one argument that somebody means: this command ends
// sessions, and another one grants.
func noRevokeArgs(cmd *cobra.Command, args []string) error {
	for _, arg := range args {
		if m := sessionOfGrant.FindStringSubmatch(arg); m != nil {
			return usage(hint{fmt.Errorf("revoke ends the sessions of a tenant, got grant %s", m[1]),
				"its owner revokes a grant: agentkeys grant revoke --broker URL --wallet FILE " + m[1]})
		}
	}
	return usageArgs(cobra.NoArgs)(cmd, args)
}
