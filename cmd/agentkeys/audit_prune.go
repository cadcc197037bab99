package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/store"
)

// leastRetention is how old a record must be to be pruned. By then nothing is on its
// way any more that looks for one.
const leastRetention = 24 * time.Hour

// mostRetention bounds --keep-days, as BROKER_AUDIT_RETENTION_DAYS is bounded.
const mostRetention = 36600

// pruneBatch is how many records go in one transaction.
const pruneBatch = 20_000

type pruneOptions struct {
	dataDir
	before   string
	keepDays int
	exported string
	keys     []string
	dryRun   bool
}

func (p *program) auditPrune() *cobra.Command {
	var o pruneOptions
	cmd := &cobra.Command{
		Use:   "prune --data-dir DIR (--keep-days N | --before TIME) --exported FILE --key VKEY [--dry-run]",
		Short: "Delete old records that were exported; the log stays verifiable",
		Long: `Deletes the oldest records from the database of a broker that does not run, and keeps their hashes:
the tree, its heads and every proof stay as they are. That records were pruned, and the digest of
the export they are in, is itself recorded.

Nothing goes that is not in the export, line by line as the log has it now, under a checkpoint that
one of the keys has signed ("agentkeys audit export" writes both). Nothing goes either that an
anchor does not have yet, nor an intent without an outcome, nor anything less than a day old. Keep
the export: what it holds is nowhere else.

Stop the broker first. In its environment, the configuration that "agentkeys serve" reads, the log
is held against its files before, and the record has its place in it afterwards; otherwise at the
next start. The file of the database keeps its size; what is free in it is used again.`,
		Example: `  agentkeys audit prune --data-dir /var/lib/agentkeys --keep-days 400 \
      --exported /mnt/archive/2026.ndjson --key audit.vkey`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := p.databasePath(cmd, o.dataDir)
			if err != nil {
				return err
			}
			before, err := o.horizon(cmd, time.Now())
			if err != nil {
				return usage(hint{err, `see "agentkeys audit prune --help"`})
			}
			if o.exported == "" || len(o.keys) == 0 {
				return lacking(cmd, "--exported and --key are needed: nothing goes that is not in an export which the log's key vouches for")
			}
			return p.prune(cmd.Context(), path, before, o)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.before, "before", "", "prune what is older than `TIME`, such as 2026-01-31T00:00:00Z")
	cmd.Flags().IntVar(&o.keepDays, "keep-days", 0, "prune what is older than `N` days, 1 to 36600")
	cmd.Flags().StringVar(&o.exported, "exported", "", "`FILE` with the export of what is to go")
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "`VKEY`, the verifier key of the log (name+hash+base64), or a file with a key a line")
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "say what would go, and delete nothing")
	return cmd
}

// horizon is the time before which records may go.
func (o pruneOptions) horizon(cmd *cobra.Command, now time.Time) (time.Time, error) {
	days := cmd.Flags().Changed("keep-days")
	switch {
	case days == (o.before != ""):
		return time.Time{}, errors.New("--keep-days and --before: want one of them")
	case days && (o.keepDays < 1 || o.keepDays > mostRetention):
		return time.Time{}, fmt.Errorf("--keep-days: want 1 to %d, got %d", mostRetention, o.keepDays)
	case days:
		return now.Add(-24 * time.Hour * time.Duration(o.keepDays)), nil
	}
	before, err := time.Parse(time.RFC3339, o.before)
	if err != nil {
		return time.Time{}, fmt.Errorf("--before: want a time such as 2026-01-31T00:00:00Z, got %q", o.before)
	}
	if before.After(now.Add(-leastRetention)) {
		return time.Time{}, fmt.Errorf("--before: want a time at least %v ago, got %s", leastRetention, before.UTC().Format(time.RFC3339))
	}
	return before, nil
}

func (p *program) prune(ctx context.Context, path string, before time.Time, o pruneOptions) error {
	keys, err := readVerifiers("key", o.keys)
	if err != nil {
		return err
	}
	open := func(text string) (audit.Checkpoint, error) {
		return audit.OpenCheckpoint(text, keys[0].Name(), keys...)
	}
	return p.alone(ctx, aloneWork{path, o.dryRun, func(db *store.Store) (string, error) {
		var may audit.Prunable
		err := db.View(ctx, func(tx *sql.Tx) (err error) {
			may, err = audit.FindPrunable(ctx, tx, before)
			return err
		})
		if err != nil {
			return "", err
		}
		if !may.Any() {
			return fmt.Sprintf("nothing to prune: the record at place %d stays, since %s\n", may.After+1, may.Kept), nil
		}
		exported, err := checkExported(ctx, db, may, open, o.exported)
		if err != nil {
			return "", hint{err, fmt.Sprintf(`"agentkeys audit export" exports the log anew; the records from place %d to %d are to go`, may.After+1, may.Through)}
		}
		done := "would prune"
		if !o.dryRun {
			done, err = "pruned", pruneAll(ctx, db, may.Through, exported)
		}
		return fmt.Sprintf("%s %s, up to place %d; they are in the export with the SHA-256 %s\n", done, audit.Count(may.Through-may.After, "record"), may.Through, exported), err
	}})
}

func checkExported(ctx context.Context, db *store.Store, may audit.Prunable, open func(string) (audit.Checkpoint, error), path string) (audit.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return audit.Digest{}, fmt.Errorf("reading the export: %w", err)
	}
	defer f.Close()
	return audit.CheckExport(ctx, db.View, may, open, f)
}

// pruneAll deletes in batches. One that is cut short is gone on with by the same
// command: what went has its mark and its record.
func pruneAll(ctx context.Context, db *store.Store, through int64, exported audit.Digest) error {
	for upto := int64(0); upto < through; {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := db.Update(ctx, func(tx *sql.Tx) (err error) {
			upto, err = audit.Prune(ctx, tx, through, pruneBatch, exported, audit.Record{Time: time.Now(), RequestID: "prune-" + rand.Text()})
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
