package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"agentkeys/store"
)

// audit is the group of commands about the audit log.
func (p *program) audit() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "The audit log: read, verify, prove, reconcile, export and restore",
		Long: `The broker records what was asked of it and what came of it, before it answers. These commands
read the log where it is kept, in the database of the data folder; the broker may be running or not.
Away from there mine asks a broker, verify takes an export, and verify-proof a proof. They change
nothing, but for import, which fills an empty log, and erase and prune, which want the broker
stopped.

Whether the log is whole: "agentkeys audit verify". docs/audit.md explains it all.

--data-dir is the folder of the database; BROKER_DATA_DIR names it where the flag does not.`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(p.auditTail(), p.auditShow(), p.auditQuery(), p.auditMine(),
		p.auditVerify(), p.auditProve(), p.auditVerifyProof(), p.auditReconcile(),
		p.auditExport(), p.auditImport(), p.auditErase(), p.auditPrune())
	return cmd
}

// dataDir is where the database is.
type dataDir struct{ dir string }

func (d *dataDir) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&d.dir, "data-dir", "", "`DIR` of the database; BROKER_DATA_DIR where it is not given")
}

// path is that of the database.
func (p *program) databasePath(cmd *cobra.Command, d dataDir) (string, error) {
	dir := d.dir
	if !cmd.Flags().Changed("data-dir") {
		for _, e := range p.environ {
			if value, ok := strings.CutPrefix(e, "BROKER_DATA_DIR="); ok {
				dir = value
			}
		}
	}
	if dir == "" {
		return "", lacking(cmd, "--data-dir is needed: it names the folder of the database")
	}
	return filepath.Join(dir, databaseFile), nil
}

// readDatabase runs fn over a database that a broker may be writing.
func (p *program) readDatabase(cmd *cobra.Command, d dataDir, fn func(ctx context.Context, db *store.Store) error) (err error) {
	path, err := p.databasePath(cmd, d)
	if err != nil {
		return err
	}
	db, err := store.Open(cmd.Context(), path, store.ReadOnly())
	if err != nil {
		return databaseHint(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return fn(cmd.Context(), db)
}

// viewing is fn in one read transaction.
func viewing(fn func(ctx context.Context, tx *sql.Tx) error) func(context.Context, *store.Store) error {
	return func(ctx context.Context, db *store.Store) error {
		return db.View(ctx, func(tx *sql.Tx) error { return fn(ctx, tx) })
	}
}

// oneOfThem refuses a value that is none of those there are.
func oneOfThem(flag, value string, known []string) error {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return usage(fmt.Errorf("--%s: want one of %s, got %q", flag, strings.Join(known, ", "), value))
}
