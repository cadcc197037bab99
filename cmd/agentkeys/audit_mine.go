package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/client"
)

type auditMineOptions struct {
	signInOptions
	query    client.AuditQuery
	limit    int
	verifier []string
	lines    bool
}

// auditMine reads the log as its broker shows it, and believes no more of it than the
// log's key vouches for, where that is given.
func (p *program) auditMine() *cobra.Command {
	var o auditMineOptions
	cmd := &cobra.Command{
		Use:   "mine --broker URL --wallet FILE [--verifier VKEY|FILE]",
		Short: "Read over HTTP what the log has about you, and verify it",
		Long: `Asks the broker for the records that concern you, the newest first: what you did, and what agents
did in your prefix. An auditor gets the records of everybody. The broker records that you asked.

--verifier is the public key of the log, as "agentkeys keygen --purpose audit --show" prints it on
the broker's host and the operator hands it out. With it each record is held against its proof, and
the first that does not hold is an error. A record has its proof a second after it was made.

A record is one line, cut at ` + fmt.Sprint(terminalWidth) + ` columns, and long names are shortened. --lines prints the records
in whole, as exports have them.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := need(cmd, "broker", "wallet"); err != nil {
				return err
			}
			if o.limit < 1 {
				return usage(fmt.Errorf("--limit: want 1 or more, got %d", o.limit))
			}
			return p.runAuditMine(cmd.Context(), o)
		},
	}
	o.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&o.query.Action, "action", "", "only records of this `ACTION`, such as mint.aws_credentials")
	f.StringVar(&o.query.Outcome, "outcome", "", "only records of this `OUTCOME`, such as refused")
	f.StringVar(&o.query.GrantID, "grant", "", "only records about the grant of this `ID`")
	f.StringVar(&o.query.Account, "account", "", "only records of this omni `ACCOUNT`; another's for auditors alone")
	f.StringVar(&o.query.Tenant, "tenant", "", "only records in the prefix of this `TENANT`; another's for auditors alone")
	f.IntVar(&o.limit, "limit", 100, "`N`, the most records to print")
	f.StringArrayVar(&o.verifier, "verifier", nil, "`VKEY`, the verifier key of the log (name+hash+base64), or a file with a key a line")
	f.BoolVar(&o.lines, "lines", false, "print the records as exports have them")
	return cmd
}

func (p *program) runAuditMine(ctx context.Context, o auditMineOptions) error {
	var keys []note.Verifier
	if len(o.verifier) > 0 {
		var err error
		if keys, err = readVerifiers("verifier", o.verifier); err != nil {
			return err
		}
	}
	c, err := o.signIn(ctx)
	if err != nil {
		return err
	}
	var found []api.AuditEntry
	o.query.Limit = min(o.limit, 1000)
	for e, err := range c.AuditAll(ctx, c.session.SessionJWT, o.query) {
		if err != nil {
			return refusal(err)
		}
		if found = append(found, e); len(found) == o.limit {
			break
		}
	}
	if len(keys) > 0 {
		if err := verifyEntries(ctx, c.Client, keys, found); err != nil {
			return err
		}
		fmt.Fprintln(p.stderr, printable(fmt.Sprintf("verified: %s in the log %s", audit.Count(len(found), "record"), keys[0].Name())))
	}
	if o.lines {
		for _, e := range found {
			if _, err := io.WriteString(p.stdout, e.Line); err != nil {
				return err
			}
		}
		return nil
	}
	return writeEntries(p.stdout, found)
}

// verifyEntries holds each entry against its line, the line against its proof, and the
// proof against the keys.
func verifyEntries(ctx context.Context, c *client.Client, keys []note.Verifier, entries []api.AuditEntry) error {
	for _, e := range entries {
		leaf, err := checkLine(e)
		if err != nil {
			return fmt.Errorf("verifying record %.40q: %w", e.ID, err)
		}
		answer, err := c.AuditProof(ctx, e.ID)
		if err != nil {
			return refusal(fmt.Errorf("verifying record %.40q: %w", e.ID, err))
		}
		text, err := json.Marshal(answer)
		if err != nil {
			return fmt.Errorf("verifying record %.40q: %w", e.ID, err)
		}
		proof, err := audit.ParseProof(text)
		if err == nil && proof.Index != e.Place-1 {
			err = fmt.Errorf("want the proof of place %d, got that of %d", e.Place, proof.Index+1)
		}
		if err == nil {
			_, err = proof.Verify(keys[0].Name(), keys, leaf)
		}
		if err != nil {
			return hint{fmt.Errorf("verifying record %.40q: %w", e.ID, err), "the broker shows what its log does not have, or the key is of another log: ask the operator, and keep the output of --lines"}
		}
	}
	return nil
}

// checkLine wants an entry to say what its line says, and returns the hash of its leaf.
func checkLine(e api.AuditEntry) (audit.Digest, error) {
	line, err := audit.ParseLine([]byte(e.Line))
	if err == nil {
		err = line.Check()
	}
	var said audit.Entry
	if err == nil {
		said, err = line.Entry()
	}
	if err != nil {
		return audit.Digest{}, fmt.Errorf("its line: %w", err)
	}
	shown := []string{e.ID, e.Action, e.Outcome, e.Reason, e.Detail, e.GrantID, e.CredentialID, e.Service, e.Settles, fmt.Sprint(e.Place, e.Time)}
	meant := []string{said.ID, said.Action, said.Outcome, said.Reason, said.Detail, said.GrantID, said.CredentialID, said.Service, said.Settles, fmt.Sprint(said.Seq, said.Time.Unix())}
	if e.Shown == api.ShownFull {
		shown = append(shown, e.Wallet, e.Tenant, e.Agent, e.ScopePath, e.OmniAccount, e.Source)
		meant = append(meant, said.Wallet, said.Tenant, said.Agent, said.ScopePath, said.OmniAccount, said.Source)
	}
	for i := range shown {
		if shown[i] != meant[i] {
			return audit.Digest{}, fmt.Errorf("it is shown with %.80q, and its line has %.80q", shown[i], meant[i])
		}
	}
	if e.Shown == api.ShownFull && line.Person == nil {
		return audit.Digest{}, errors.New("it is shown in full, and its line is not")
	}
	return line.Hash, nil
}

// mineHeader names the columns of the lines for people.
var mineHeader = []string{"PLACE", "TIME (UTC)", "ACTION", "STATUS", "WHO", "GRANT", "ABOUT"}

// writeEntries prints a line for each entry, within the width of a terminal. The last
// column has as much as there is room for behind the others.
func writeEntries(w io.Writer, entries []api.AuditEntry) error {
	rows := [][]string{mineHeader}
	for _, e := range entries {
		row := []string{fmt.Sprint(e.Place), time.Unix(e.Time, 0).UTC().Format("2006-01-02 15:04:05"), cut(e.Action, 20), cut(e.Status, 11), shortened(e.Wallet), shortened(e.GrantID), ""}
		for i, text := range row {
			row[i] = printable(text)
		}
		rows = append(rows, row)
	}
	last := len(mineHeader) - 1
	widths, room := make([]int, last), terminalWidth-last
	for i := range widths {
		for _, row := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
		room -= widths[i]
	}
	for i, e := range entries {
		agent := e.Agent
		if strings.HasPrefix(agent, "0x") { // a daemon's address, not a name of its own
			agent = shortened(agent)
		}
		rows[i+1][last] = printable(beside([]string{e.Reason, e.ScopePath, agent, e.CredentialID}, room))
	}
	for _, row := range rows {
		line := fmt.Sprintf("%*s ", widths[0], row[0])
		for i := 1; i < last; i++ {
			line += fmt.Sprintf("%-*s ", widths[i], row[i])
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line+row[last], " ")); err != nil {
			return err
		}
	}
	return nil
}
