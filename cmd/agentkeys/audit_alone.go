package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"agentkeys/audit"
	"agentkeys/broker"
	"agentkeys/config"
	"agentkeys/store"
	"agentkeys/token"
)

// An aloneWork is what a command does with the database of a broker that does not run.
type aloneWork struct {
	path   string // of the database
	dryRun bool   // nothing is written
	// do does it, and returns what to tell of it.
	do func(*store.Store) (said string, err error)
}

// alone opens the database of a broker that does not run, has the work done and its
// records given their place, and wants to be the last to close it: only then is nothing
// of what was deleted left in the log beside it.
func (p *program) alone(ctx context.Context, w aloneWork) error {
	keeper := p.logKeeper(w.path)
	db, err := store.Open(ctx, w.path, keeper.options()...)
	if err != nil {
		return databaseHint(err)
	}
	if err := errors.Join(p.aloneWith(ctx, db, keeper, w), db.Close()); err != nil {
		return err
	}
	if _, err := os.Stat(w.path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
		return hint{fmt.Errorf("it is done, but %s is still there, with what was deleted: somebody else has the database open", w.path+"-wal"),
			"close what reads it, an sqlite3 shell say; the last one to close it takes that file away"}
	}
	return nil
}

// aloneWith does the work on an open database. Where the log can be extended it is first
// held against what was seen of it, as at a start: work that deletes must not take away
// what would show that the log was put back or forked.
func (p *program) aloneWith(ctx context.Context, db *store.Store, keeper *logKeeper, w aloneWork) (err error) {
	if err := unchanged(ctx, db); err != nil {
		return err
	}
	if err := keeper.open(ctx, db); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, keeper.close()) }()
	said, err := w.do(db)
	if err != nil {
		return err
	}
	var placed string
	if !w.dryRun {
		placed, err = p.place(ctx, db, keeper)
	}
	if _, failed := fmt.Fprint(p.stdout, said, placed); failed != nil {
		err = errors.Join(err, printed("what was done", failed))
	}
	return err
}

// place gives the records of the work their place, or tells why it does not.
func (p *program) place(ctx context.Context, db *store.Store, keeper *logKeeper) (said string, err error) {
	ctx = context.WithoutCancel(ctx) // what was done is done
	var standing audit.Standing
	err = db.View(ctx, func(tx *sql.Tx) (err error) {
		standing, err = audit.ReadStanding(ctx, tx)
		return err
	})
	switch {
	case err != nil:
		return "", err
	case standing.Last <= standing.Size:
		return "", nil
	case keeper.log == nil:
		fmt.Fprintln(p.stderr, printable(fmt.Sprintf("Without a place in the log until the next start of the broker: records %d to %d, as the audit key is not at hand: %s.",
			standing.Size+1, standing.Last, keeper.lacks)))
		return "", nil
	}
	placed, err := keeper.place(ctx, db)
	if err != nil {
		next := "the next start of the broker tries it again"
		if errors.Is(err, audit.ErrBroken) {
			next = `see "The audit log does not extend what was seen of it" in docs/runbook.md`
		}
		return "", hint{fmt.Errorf("it is done and recorded, but the log was not extended: %w", err), next}
	}
	for _, lag := range placed.Behind {
		fmt.Fprintln(p.stderr, printable(fmt.Sprintf("The next start of the broker brings it to %s, which did not take it: %s.", lag.Anchor, lag.Reason)))
	}
	return fmt.Sprintf("the signed head counts all %d records\n", placed.Head.Size), nil
}

// A logKeeper extends the audit log in the place of the broker, by the configuration that
// serve reads.
type logKeeper struct {
	config config.Config
	log    *audit.Log  // nil where the audit key is not at hand
	lacks  string      // then, why
	files  *auditFiles // nil while they are not open
}

// logKeeper is that of a database. A configuration of another folder has another log's
// key and files, and is taken for none; so is half a configuration, as it may lack the
// files that the log is to be held against.
func (p *program) logKeeper(path string) *logKeeper {
	k := &logKeeper{}
	if _, named := variable(p.environ, "BROKER_AUDIT_KEY_FILE"); !named {
		k.lacks = "BROKER_AUDIT_KEY_FILE is not set"
		return k
	}
	c, err := config.Load(p.environ)
	if err == nil {
		err = sameFolder(c.DataDir, filepath.Dir(path))
	}
	var key *token.AuditKey
	if err == nil {
		key, err = token.LoadAuditKeyFile(c.AuditKeyFile)
	}
	if err == nil {
		k.config = c
		k.log, err = auditLog(c, key)
	}
	if err != nil {
		k.lacks, _, _ = strings.Cut(err.Error(), "\n")
	}
	return k
}

func sameFolder(configured, given string) error {
	want, err := os.Stat(configured)
	if err != nil {
		return fmt.Errorf("BROKER_DATA_DIR: %w", err)
	}
	if got, err := os.Stat(given); err != nil || !os.SameFile(want, got) {
		return fmt.Errorf("BROKER_DATA_DIR is %q, which is not the folder %q", configured, given)
	}
	return nil
}

// options are those that serve opens the database with.
func (k *logKeeper) options() []store.Option {
	if k.log == nil {
		return nil
	}
	return []store.Option{beforeUpgrade(k.config)}
}

// open opens the files of the log and holds it against them, as a start does.
func (k *logKeeper) open(ctx context.Context, db *store.Store) (err error) {
	if k.log == nil {
		return nil
	}
	if k.files, err = openAuditFiles(k.config); err != nil {
		return err
	}
	if err := checkAudit(ctx, db, k.log, k.files); err != nil {
		return errors.Join(err, k.close())
	}
	return nil
}

func (k *logKeeper) close() error {
	if k.files == nil {
		return nil
	}
	return k.files.close()
}

func (k *logKeeper) place(ctx context.Context, db *store.Store) (broker.Placed, error) {
	parts := broker.Config{Store: db, Audit: k.log, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
	k.files.into(&parts)
	return broker.Place(ctx, parts)
}
