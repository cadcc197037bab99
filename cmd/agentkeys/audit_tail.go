package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/store"
)

type tailOptions struct {
	dataDir
	follow, json bool
	lines        int
}

// tailInterval is how often a followed log is looked at.
const tailInterval = 250 * time.Millisecond

func (p *program) auditTail() *cobra.Command {
	var o tailOptions
	cmd := &cobra.Command{
		Use:   "tail --data-dir DIR [-f] [-n N]",
		Short: "Print the last records, and with -f those to come",
		Long: `Prints the last records, the newest last. With -f it goes on with each record as it is written, in
the order of the log, none left out and none twice, until it is interrupted. The broker may be
running, stopped or started anew meanwhile.

A record is one line, cut at ` + fmt.Sprint(terminalWidth) + ` columns: "agentkeys audit show" has all of it, and --json prints
the lines of an export.`,
		Example: "  agentkeys audit tail -f --data-dir /var/lib/agentkeys",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.lines < 0 || o.lines > audit.MaxLimit {
				return usage(fmt.Errorf("-n: want 0 to %d, got %d", audit.MaxLimit, o.lines))
			}
			path, err := p.databasePath(cmd, o.dataDir)
			if err != nil {
				return err
			}
			file, err := os.Stat(path)                         // before it is opened
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // which is for Open to tell
				return fmt.Errorf("following the database: %w", err)
			}
			return p.readDatabase(cmd, o.dataDir, func(ctx context.Context, db *store.Store) error {
				return p.runTail(ctx, db, func() error { return sameFile(path, file) }, o)
			})
		},
	}
	o.bind(cmd)
	cmd.Flags().BoolVarP(&o.follow, "follow", "f", false, "go on with the records to come")
	cmd.Flags().IntVarP(&o.lines, "lines", "n", 10, "begin with the last `N` records")
	cmd.Flags().BoolVar(&o.json, "json", false, "print the lines of an export")
	return cmd
}

// runTail prints the log. check fails once there is no use in following it.
func (p *program) runTail(ctx context.Context, db *store.Store, check func() error, o tailOptions) error {
	t := &tail{db: db, w: p.stdout, json: o.json}
	if err := t.begin(ctx, o.lines); err != nil || !o.follow {
		return err
	}
	ticker := time.NewTicker(tailInterval)
	defer ticker.Stop()
	if err := t.follow(ctx, ticker.C, check); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// sameFile refuses another file under the name: the one that is read would never get
// another record.
func sameFile(path string, file os.FileInfo) error {
	now, err := os.Stat(path)
	if err == nil && !os.SameFile(file, now) {
		err = fmt.Errorf("%s is another file than before", path)
	}
	if err != nil {
		return fmt.Errorf("following the database: %w", err)
	}
	return nil
}

// A tail prints the records of a log as they come.
type tail struct {
	db   *store.Store
	w    io.Writer
	json bool
	at   int64 // the place of the last record that was printed, or was there before
}

// begin prints the last records that there are.
func (t *tail) begin(ctx context.Context, lines int) error {
	var last []audit.Entry
	err := t.db.View(ctx, func(tx *sql.Tx) error {
		standing, err := audit.ReadStanding(ctx, tx)
		t.at = standing.Last
		if err != nil || lines == 0 {
			return err
		}
		last, err = audit.Find(ctx, tx, audit.Query{Limit: lines})
		return err
	})
	if err != nil {
		return err
	}
	if !t.json {
		if _, err := fmt.Fprintln(t.w, recordHeader); err != nil {
			return err
		}
	}
	slices.Reverse(last)
	return t.print(last)
}

// follow looks for new records at each tick, until ctx ends.
func (t *tail) follow(ctx context.Context, ticks <-chan time.Time, check func() error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticks:
		}
		if err := t.catchUp(ctx); err != nil {
			return err
		}
		if err := check(); err != nil {
			return err
		}
	}
}

// tailPage is how many records are read at once. A page is a transaction.
const tailPage = 500

// catchUp prints what is new.
func (t *tail) catchUp(ctx context.Context) error {
	for {
		var page []audit.Entry
		err := t.db.View(ctx, func(tx *sql.Tx) (err error) {
			page, err = t.next(ctx, tx)
			return err
		})
		if err == nil {
			err = t.print(page)
		}
		if err != nil || len(page) < tailPage {
			return err
		}
	}
}

// next reads the records behind the last one. It fails where some are missing that
// were not pruned: a log only grows, at its end.
func (t *tail) next(ctx context.Context, tx *sql.Tx) ([]audit.Entry, error) {
	page, err := audit.After(ctx, tx, t.at, tailPage)
	if err != nil {
		return nil, err
	}
	standing, err := audit.ReadStanding(ctx, tx)
	if err != nil {
		return nil, err
	}
	if standing.Last < t.at {
		return nil, fmt.Errorf("the log ended at place %d, and now ends at %d: it was cut or put back to an earlier copy", t.at, standing.Last)
	}
	want := t.at + 1
	for _, e := range page {
		if e.Seq != want && e.Seq-1 > standing.Pruned {
			return nil, fmt.Errorf("want the record at place %d, got the one at %d: records are missing", want, e.Seq)
		}
		want = e.Seq + 1
	}
	return page, nil
}

func (t *tail) print(page []audit.Entry) error {
	for i := range page {
		var err error
		if t.json {
			_, err = t.w.Write(page[i].Line())
		} else {
			err = writeRecord(t.w, &page[i], "")
		}
		if err != nil {
			return err
		}
		t.at = page[i].Seq
	}
	return nil
}
