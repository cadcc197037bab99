package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/federation"
)

// revokeOptions are the flags of revoke.
type revokeOptions struct {
	federationOptions
	tenant, since       string
	block, unblock      bool
	list, clear, force  bool
	dryRun, render      bool
	oidcKey             string
	wallet, broker      string
	chainID             int64
	token, otherToken   string
	noProof             bool
	timeout             time.Duration
	format              string
	stsEndpoint, s3Host string
}

func (p *program) revoke() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "revoke --tenant W",
		Short: "End the live AWS sessions of one tenant, and prove that they are out",
		Long: `Shuts out every AWS session of one tenant that was issued before a time, the next second unless
--since says otherwise. Sessions issued later get in, so revoke the grants first, or give --block,
which shuts out new ones too until --unblock. A tenant is named by the tag that its sessions carry:
the wallet's address in lower case, or the omni account, 64 digits, of who has no wallet. In the
name of a session, DAEMON@GRANT, the address is the daemon's: the tenant is the grant's owner.

--since is a time (RFC 3339), or how long ago that was, above zero, such as 15m, 2h or 1d: it shuts
out what is older than that, and lets in what is newer.

It puts an inline policy of its own on the data role, agentkeys-revoked-W: a Deny of everything for
the session tag W and a time of issue before T; for a block at any time. No other tenant's
revocation is touched. Revoking a tenant again moves T on, and never back. AWS counts in whole
seconds, so a T within a second is moved to its end; "now" is by AWS's clock, not by this machine's.
A revocation over a block is refused. --unblock turns a block into a revocation up to now, in one
write.

The proof takes a token of W, from the issuer's key (--oidc-key), the tenant's wallet (--wallet) or
a file (--token, which "agentkeys token proof" makes): a session made before is asked until it is
refused, and a new one until it is allowed, or with --block refused as well. With --oidc-key or
--other-token a made-up tenant's old session shows besides that others are spared. What they do is
to list the tenant's own prefix. Where the old session cannot be had, sessions are revoked all the
same, and the verdict is INCONCLUSIVE: not proven. --no-proof asks for no proof.

A revocation can go when the last session that it shuts out has ended by itself: 12 hours after T,
the longest that STS gives, whatever the role allows now. --list shows when, and --clear takes those
away that are over; a block never is. --clear --tenant W --force takes W's away at once: sessions
from before get in again. Not covered are sessions that one of W's made by assuming another role:
they run as that role, so end them there.

--render needs no access to AWS: it prints the policy, and on standard error the AWS CLI's command,
with this machine's clock unless --since is given. --dry-run prints the policy and the difference
from what is in force, and changes nothing.

Exit status: 0 revoked and proven, or done as asked; 1 BROKEN: the old session still gets in, or a
new one or another tenant's does not as it should; or it failed; 2 wrong use, such as a --since that
is before the one in force; 3 INCONCLUSIVE: revoked, and not proven.`,
		Example: `  agentkeys revoke --config federation.json --tenant 0x52908400098527886e0f7030069857d2e4169ee7 \
      --token proof.jwt --other-token other.jwt
  agentkeys revoke --config federation.json --list
  agentkeys revoke --config federation.json --clear`,
		Args: noRevokeArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.runRevoke(cmd, &o) },
	}
	o.bind(cmd)
	o.bindEndpoint(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.tenant, "tenant", "", "`TAG` of the tenant: 0x and 40 digits, or 64 digits, in lower case")
	flags.StringVar(&o.since, "since", "", "`WHEN`: sessions from before that are shut out; now unless set")
	flags.BoolVar(&o.block, "block", false, "shut out new sessions as well, until --unblock")
	flags.BoolVar(&o.unblock, "unblock", false, "let new sessions of a tenant in that is blocked, and none from before now")
	flags.BoolVar(&o.list, "list", false, "show which tenants' sessions are revoked, and when each revocation can go")
	flags.BoolVar(&o.clear, "clear", false, "take revocations away that are over, or that of --tenant")
	flags.BoolVar(&o.force, "force", false, "with --clear --tenant: although sessions that it shuts out may live")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	flags.BoolVar(&o.render, "render", false, "print the policy and the AWS CLI's command, without access to AWS")
	flags.StringVar(&o.oidcKey, "oidc-key", "", "`FILE` of the issuer's key, to sign the proof's tokens")
	flags.StringVar(&o.wallet, "wallet", "", "`FILE` of the tenant's wallet key, to sign in at the broker with for the proof")
	flags.StringVar(&o.broker, "broker", "", "`URL` of the broker to sign in at; the issuer unless set")
	flags.Int64Var(&o.chainID, "chain-id", 1, "EIP-155 chain id to sign in for")
	flags.StringVar(&o.token, "token", "", "`FILE` with a web identity token of the tenant's, for the proof")
	flags.StringVar(&o.otherToken, "other-token", "", "`FILE` with one of another tenant's, who must be spared")
	flags.BoolVar(&o.noProof, "no-proof", false, "do not prove it")
	flags.DurationVar(&o.timeout, "timeout", 2*time.Minute, "how long to wait for the old session to be refused, at most 10m")
	flags.StringVar(&o.stsEndpoint, "sts-endpoint-url", "", "`URL` of STS, where it is not --endpoint-url's")
	flags.StringVar(&o.s3Host, "s3-endpoint-url", "", "`URL` of S3, where it is not --endpoint-url's")
	flags.StringVar(&o.format, "format", "text", "`FORMAT` of what is printed: text or json")
	return cmd
}

func (p *program) runRevoke(cmd *cobra.Command, o *revokeOptions) error {
	since, err := o.check(cmd)
	if err != nil {
		var known hint
		if errors.As(err, &known) {
			return usage(err)
		}
		return usage(hint{err, `see "agentkeys revoke --help"`})
	}
	p.ignoreProof(cmd, o)
	c, err := o.load(cmd, p.environ)
	if err != nil {
		return err
	}
	if o.render {
		return p.renderRevocation(o, c, since)
	}
	proof, err := o.proof(cmd.Context(), c)
	if err != nil {
		return usage(err)
	}
	proof.Progress = func(line string) { fmt.Fprintf(p.stderr, "… %s\n", line) }
	clients, err := o.awsClients(cmd.Context(), c)
	if err != nil {
		return err
	}
	r := federation.Revoker{AWS: clients, Config: c}
	switch {
	case o.list:
		err = p.listRevocations(cmd.Context(), o, r)
	case o.clear:
		err = p.clearRevocations(cmd.Context(), o, r)
	default:
		err = p.revokeTenant(cmd.Context(), o, r, proof, since)
	}
	var refused *federation.RevocationRefused
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Next != "":
		return usage(hint{err, refused.Next})
	}
	return usage(err)
}

// renderRevocation prints what somebody is to apply by hand: the document to where a
// pipe takes it, and the command beside it.
func (p *program) renderRevocation(o *revokeOptions, c federation.Config, since cutoff) error {
	now := time.Now()
	at := federation.NextSecond(now).Add(-since.ago)
	switch {
	case since.at.After(now):
		return usage(fmt.Errorf("--since: want a time up to now, %s, got %s, which would shut out new sessions", now.UTC().Format(time.RFC3339), o.since))
	case !since.at.IsZero():
		at = since.at
	}
	r, err := federation.NewRevocation(o.tenant, at)
	if o.block {
		r, err = federation.NewBlock(o.tenant)
	}
	if err != nil {
		return usage(err)
	}
	document, err := r.JSON(c)
	if err != nil {
		return err
	}
	command, err := r.CLI(c)
	if err != nil {
		return err
	}
	if o.format == "json" {
		return printed("the policy", writeJSON(p.stdout, map[string]string{"policy": r.Policy(), "document": document, "command": command}))
	}
	if _, err = fmt.Fprintln(p.stdout, document); err != nil {
		return printed("the policy", err)
	}
	_, err = fmt.Fprintln(p.stderr, command)
	return printed("the command", err)
}

func (p *program) listRevocations(ctx context.Context, o *revokeOptions, r federation.Revoker) error {
	now, list, err := r.InForce(ctx)
	if err != nil {
		return err
	}
	if o.format == "json" {
		return printed("the list", federation.WriteRevocationsJSON(p.stdout, now, list))
	}
	return printed("the list", federation.WriteRevocations(p.stdout, now, list))
}

func (p *program) clearRevocations(ctx context.Context, o *revokeOptions, r federation.Revoker) error {
	plan, err := r.PlanClear(ctx, o.tenant, o.force)
	if err != nil {
		return err
	}
	if err := p.printPlan(o, plan); err != nil || o.dryRun {
		return err
	}
	if err := p.carryOut(ctx, plan); err != nil || !o.force || len(plan.Steps) == 0 {
		return err
	}
	fmt.Fprintf(p.stderr, "agentkeys: note: sessions of %s that were shut out and have not ended get in again\n", o.tenant)
	return nil
}

func (p *program) printPlan(o *revokeOptions, plan *federation.Plan) error {
	if o.format == "json" {
		return printed("the plan", plan.WriteJSON(p.stdout))
	}
	return printed("the plan", plan.WriteText(p.stdout, p.colour()))
}

func (p *program) carryOut(ctx context.Context, plan *federation.Plan) error {
	err := federation.Apply(ctx, plan, func(s federation.Step) { fmt.Fprintf(p.stderr, "… %s\n", s) })
	var incomplete *federation.Incomplete
	if errors.As(err, &incomplete) {
		return hint{err, "look with agentkeys revoke --list, and give the same command again"}
	}
	return err
}

// revokeTenant revokes first of all: where there is nothing to prove it with, the
// sessions are to end all the same.
func (p *program) revokeTenant(ctx context.Context, o *revokeOptions, r federation.Revoker, proof federation.RevocationProof, since cutoff) error {
	var prover *federation.RevocationProver
	if proof.Tenant.Token != nil {
		var err error
		if prover, err = federation.NewRevocationProver(proof); err != nil {
			return usage(err)
		}
		defer prover.Close()
		prover.Before(ctx)
	}
	plan, revocation, err := o.plan(ctx, r, since)
	if err != nil {
		return err
	}
	if o.dryRun {
		return p.showRevocation(o, r.Config, revocation, plan)
	}
	if err := p.carryOut(ctx, plan); err != nil {
		return err
	}
	report := proof.Unproven(revocation, "no session was tried: --oidc-key, --wallet or --token lets one be made")
	switch {
	case prover != nil:
		report = prover.After(ctx, revocation)
	case o.noProof:
		report.Verdict, report.NotProven = federation.NotAsked, []string{"no proof was asked for"}
	}
	report.Changed = len(plan.Steps) > 0
	if o.format == "json" {
		err = report.WriteJSON(p.stdout)
	} else {
		err = report.WriteText(p.stdout, p.colour())
	}
	if err != nil {
		return printed("the report", err)
	}
	return status{code: report.Verdict.ExitStatus()}.orNil()
}

// plan is what the flags ask for.
func (o *revokeOptions) plan(ctx context.Context, r federation.Revoker, since cutoff) (*federation.Plan, federation.Revocation, error) {
	switch {
	case o.block:
		return r.PlanBlock(ctx, o.tenant)
	case o.unblock:
		return r.PlanUnblock(ctx, o.tenant)
	}
	if since.ago > 0 {
		return r.PlanAgo(ctx, o.tenant, since.ago)
	}
	return r.Plan(ctx, o.tenant, since.at)
}

// showRevocation prints what would be in force, and what would change.
func (p *program) showRevocation(o *revokeOptions, c federation.Config, r federation.Revocation, plan *federation.Plan) error {
	if o.format == "text" {
		document, err := r.JSON(c)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(p.stdout, "%s\n", document); err != nil {
			return printed("the policy", err)
		}
	}
	return p.printPlan(o, plan)
}
