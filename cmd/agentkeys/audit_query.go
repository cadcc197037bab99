package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/store"
)

type queryOptions struct {
	dataDir
	q            audit.Query
	since, until string
	cursor       int64
	limit        int
	json         bool
}

func (p *program) auditQuery() *cobra.Command {
	var o queryOptions
	cmd := &cobra.Command{
		Use:   "query --data-dir DIR [--tenant T] [--grant G] [--outcome O] [--status S] [--since WHEN] ...",
		Short: "Find records",
		Long: `Finds the records that match all of the flags, the newest first.

--outcome is what a record says:
  ` + strings.Join(audit.Outcomes(), ", ") + `
--status is what came of it by now:
  ` + strings.Join(audit.Statuses(), ", ") + `

A mint of AWS credentials is recorded as pending before AWS is asked, and again with what came of
it; the first record's status is the outcome of the second.

WHEN is a length of time before now, such as 30m, 24h or 7d, or a time such as
2026-12-31T18:00:00Z. When there are more records than --limit, the way to the next page is told on
standard error.`,
		Example: `  agentkeys audit query --data-dir /var/lib/agentkeys --status failed --since 24h
  agentkeys audit query --data-dir /var/lib/agentkeys --grant grn-ABCDEFGHIJKLMNOP --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd, time.Now()); err != nil {
				return err
			}
			return p.readDatabase(cmd, o.dataDir, func(ctx context.Context, db *store.Store) error { return p.runQuery(ctx, db, o) })
		},
	}
	o.bind(cmd)
	return cmd
}

func (o *queryOptions) bind(cmd *cobra.Command) {
	o.dataDir.bind(cmd)
	f := cmd.Flags()
	f.StringVar(&o.q.Tenant, "tenant", "", "`TENANT` whose prefix it is about: a wallet or an omni account")
	f.StringVar(&o.q.OmniAccount, "account", "", "omni `ACCOUNT` of who asked")
	f.StringVar(&o.q.GrantID, "grant", "", "`GRANT` that was used, made or revoked")
	f.StringVar(&o.q.Action, "action", "", "`ACTION`, such as mint.aws_credentials")
	f.StringVar(&o.q.Outcome, "outcome", "", "`OUTCOME` that the record says")
	f.StringVar(&o.q.Status, "status", "", "`STATUS` of what the record is about, by now")
	f.StringVar(&o.since, "since", "", "`WHEN` the first of them was written")
	f.StringVar(&o.until, "until", "", "`WHEN` they end: records before that time")
	f.StringVar(&o.q.Wallet, "wallet", "", "`WALLET` of who asked")
	f.StringVar(&o.q.Agent, "agent", "", "`NAME` that the agent gives itself")
	f.StringVar(&o.q.CredentialID, "credential", "", "AWS access key `ID`")
	f.StringVar(&o.q.TokenID, "token", "", "`JTI` of a token")
	f.StringVar(&o.q.RequestID, "request", "", "request `ID`")
	f.BoolVar(&o.q.OldestFirst, "oldest-first", false, "the oldest first")
	f.IntVar(&o.limit, "limit", audit.DefaultLimit, "print at most `N` records")
	f.Int64Var(&o.cursor, "cursor", 0, "go on behind the record at `PLACE`, the last one of the page before")
	f.BoolVar(&o.json, "json", false, "print the lines of an export")
}

// check completes the query. What no record can match is refused, so that a slip does
// not read as "there was nothing".
func (o *queryOptions) check(cmd *cobra.Command, now time.Time) error {
	for _, name := range []string{"tenant", "account", "grant", "action", "outcome", "status", "since", "until", "wallet", "agent", "credential", "token", "request"} {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return lacking(cmd, "--"+name+`: want a value, got ""`)
		}
	}
	if o.limit < 1 {
		return usage(fmt.Errorf("--limit: want a number from 1, got %d", o.limit))
	}
	if o.cursor < 1 && cmd.Flags().Changed("cursor") {
		return usage(fmt.Errorf("--cursor: want the place of a record, from 1, got %d", o.cursor))
	}
	if o.q.Outcome != "" {
		if err := oneOfThem("outcome", o.q.Outcome, audit.Outcomes()); err != nil {
			return err
		}
	}
	if o.q.Status != "" {
		if err := oneOfThem("status", o.q.Status, audit.Statuses()); err != nil {
			return err
		}
	}
	if o.q.GrantID != "" && !strings.HasPrefix(o.q.GrantID, "grn-") {
		return usage(fmt.Errorf("--grant: want the id of a grant, grn-…, got %q", o.q.GrantID))
	}
	return errors.Join(o.checkOwners(), o.checkTimes(now))
}

func (o *queryOptions) checkOwners() (err error) {
	for _, f := range []struct {
		name  string
		value *string
	}{{"tenant", &o.q.Tenant}, {"wallet", &o.q.Wallet}, {"account", &o.q.OmniAccount}} {
		if *f.value == "" {
			continue
		}
		if *f.value, err = parseOwner(*f.value); err != nil {
			return usage(fmt.Errorf("--%s: %w", f.name, err))
		}
	}
	return nil
}

func (o *queryOptions) checkTimes(now time.Time) (err error) {
	for _, f := range []struct {
		name, text string
		at         *time.Time
	}{{"since", o.since, &o.q.Since}, {"until", o.until, &o.q.Until}} {
		if f.text == "" {
			continue
		}
		if *f.at, err = parsePast(f.text, now); err != nil {
			return usage(fmt.Errorf("--%s: %w", f.name, err))
		}
	}
	if !o.q.Since.IsZero() && !o.q.Until.IsZero() && !o.q.Since.Before(o.q.Until) {
		return usage(fmt.Errorf("--since and --until: want the first before the second, got %s and %s", o.q.Since.UTC().Format(time.RFC3339), o.q.Until.UTC().Format(time.RFC3339)))
	}
	return nil
}

// parsePast reads a time, or a length of time before now.
func parsePast(text string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	ago, ok := parseLength(text)
	if !ok {
		return time.Time{}, fmt.Errorf("want a length of time such as 24h or 7d, or a time such as 2026-12-31T18:00:00Z, got %q", text)
	}
	return now.Add(-ago), nil
}

// parseLength reads a length of time above zero, of whole days or as Go writes it. None
// overflows.
func parseLength(text string) (time.Duration, bool) {
	if days := wholeDays.FindStringSubmatch(text); days != nil {
		n, _ := strconv.Atoi(days[1]) // five digits are a number
		return time.Duration(n) * 24 * time.Hour, n > 0
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

// runQuery prints page after page. Each is read in a transaction of its own.
func (p *program) runQuery(ctx context.Context, db *store.Store, o queryOptions) error {
	printed := 0
	for more := true; more; {
		o.move(o.cursor)
		o.q.Limit = min(o.limit-printed+1, audit.MaxLimit) // one beyond says whether there are more
		var page []queried
		err := db.View(ctx, func(tx *sql.Tx) (err error) {
			page, err = readPage(ctx, tx, o)
			return err
		})
		if err != nil {
			return err
		}
		more = len(page) == o.q.Limit
		page = page[:min(len(page), o.limit-printed)]
		if err := p.writePage(page, o, printed == 0); err != nil {
			return err
		}
		printed += len(page)
		if len(page) > 0 {
			o.cursor = page[len(page)-1].Seq
		}
		if more && printed == o.limit {
			fmt.Fprintf(p.stderr, "there are more: --cursor %d\n", o.cursor)
			return nil
		}
	}
	if printed == 0 {
		fmt.Fprintln(p.stderr, "no record matches")
	}
	return nil
}

func (o *queryOptions) move(cursor int64) {
	if o.q.OldestFirst {
		o.q.After = cursor
	} else {
		o.q.Before = cursor
	}
}

// queried is a record that was found, and the outcome of what settles it, "" where
// that is not known.
type queried struct {
	audit.Entry
	then string
}

func readPage(ctx context.Context, tx *sql.Tx, o queryOptions) ([]queried, error) {
	found, err := audit.Find(ctx, tx, o.q)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && o.q.Action != "" {
		return nil, knownAction(ctx, tx, o.q.Action)
	}
	page := make([]queried, 0, len(found))
	for _, e := range found {
		q := queried{Entry: e}
		if e.Outcome == audit.Pending && !o.json {
			if q.then, err = outcomeOf(ctx, tx, e.ID); err != nil {
				return nil, err
			}
		}
		page = append(page, q)
	}
	return page, nil
}

// outcomeOf is what came of an intent, "" while nothing has. What was taken back has an
// outcome of its outcome.
func outcomeOf(ctx context.Context, tx *sql.Tx, id string) (outcome string, err error) {
	for range 2 {
		e, err := audit.Settling(ctx, tx, id)
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return "", err
		}
		outcome, id = e.Outcome, e.ID
	}
	return outcome, nil
}

// knownAction refuses an action that the log does not have.
func knownAction(ctx context.Context, tx *sql.Tx, action string) error {
	known, err := audit.Actions(ctx, tx)
	if err != nil || len(known) == 0 || slices.Contains(known, action) {
		return err
	}
	return usage(fmt.Errorf("--action: the log has %s, and not %q", strings.Join(known, ", "), action))
}

func (p *program) writePage(page []queried, o queryOptions, first bool) error {
	if first && len(page) > 0 && !o.json {
		fmt.Fprintln(p.stdout, recordHeader)
	}
	for i := range page {
		var err error
		if o.json {
			_, err = p.stdout.Write(page[i].Line())
		} else {
			err = writeRecord(p.stdout, &page[i].Entry, page[i].then)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
