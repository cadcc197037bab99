package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/store"
)

// The formats of an export.
const (
	formatLines = "ndjson"
	formatOCSF  = "ocsf"
)

type exportOptions struct {
	dataDir
	out, after, tenant, format string
}

func (p *program) auditExport() *cobra.Command {
	var o exportOptions
	cmd := &cobra.Command{
		Use:   "export --data-dir DIR --out FILE|- [--after PLACE|FILE] [--tenant T] [--format ndjson|ocsf]",
		Short: "Write the log, up to its signed head, to a file",
		Long: `Writes the records that the signed head counts, a JSON line each in the order of the log, and the
signed head as the last line. "agentkeys audit verify" checks such a file with nothing but the
public key, and "agentkeys audit import" makes a log of it again.

An export goes on where another one ended: --after names its file, or the place of its last record.
Exports in a row have every record once. A FILE is written whole or not at all and never over
another one, so one that is there is complete; on standard output the last line says so.

Of a pruned record there is its hash, and of an erased one all but what was personal. With --tenant
the records of all others are there as hashes: the tenant can check the file and reads nothing else.

--format ocsf writes events of the Open Cybersecurity Schema Framework ` + ocsfVersion + ` for a SIEM, without
what is pruned; they can be neither checked nor imported.`,
		Example: `  agentkeys audit export --data-dir /var/lib/agentkeys --out audit-1.ndjson
  agentkeys audit export --data-dir /var/lib/agentkeys --out audit-2.ndjson --after audit-1.ndjson`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(cmd); err != nil {
				return err
			}
			return p.readDatabase(cmd, o.dataDir, func(ctx context.Context, db *store.Store) error { return p.runExport(ctx, db, o) })
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.out, "out", "", "`FILE` to make, or - for standard output")
	cmd.Flags().StringVar(&o.after, "after", "", "go on behind a `PLACE`, or behind the last record in the FILE of an export")
	cmd.Flags().StringVar(&o.tenant, "tenant", "", "`TENANT`, a wallet or an omni account, to export for")
	cmd.Flags().StringVar(&o.format, "format", formatLines, "`FORMAT`: ndjson or ocsf")
	return cmd
}

func (o *exportOptions) check(cmd *cobra.Command) (err error) {
	if o.out == "" {
		return lacking(cmd, "--out is needed: it names the file to make, or - for standard output")
	}
	for _, name := range []string{"after", "tenant"} {
		if f := cmd.Flags().Lookup(name); f.Changed && f.Value.String() == "" {
			return lacking(cmd, "--"+name+`: want a value, got ""`)
		}
	}
	if o.tenant != "" {
		if o.tenant, err = parseOwner(o.tenant); err != nil {
			return usage(fmt.Errorf("--tenant: %w", err))
		}
	}
	return oneOfThem("format", o.format, []string{formatLines, formatOCSF})
}

func (p *program) runExport(ctx context.Context, db *store.Store, o exportOptions) error {
	cursor, err := parseCursor(o.after)
	if err != nil {
		return err
	}
	var x *audit.Export
	err = db.View(ctx, func(tx *sql.Tx) (err error) {
		x, err = audit.NewExport(ctx, tx, cursor, o.tenant)
		return err
	})
	if err != nil {
		return exportHint(err)
	}
	write := func(w io.Writer) error { return writeExport(ctx, db, x, o.format, w) }
	if o.out == "-" {
		b := bufio.NewWriterSize(p.stdout, 1<<16)
		err = errors.Join(write(b), b.Flush())
	} else {
		err = writeNew(o.out, write)
	}
	if err != nil {
		return exportHint(fmt.Errorf("exporting the audit log: %w", err))
	}
	p.tellExport(x, cursor, o)
	return nil
}

// tellExport says on standard error what was written and where the next one begins.
func (p *program) tellExport(x *audit.Export, from audit.Cursor, o exportOptions) {
	next := strconv.FormatInt(x.Place(), 10)
	if o.out != "-" && o.format == formatLines {
		next = o.out
	}
	if x.Place() == from.Place {
		fmt.Fprintf(p.stderr, "nothing new: the log's signed head counts %s\n", audit.Count(x.Place(), "record"))
		return
	}
	fmt.Fprintln(p.stderr, printable(fmt.Sprintf("exported places %d to %d; the next export begins with --after %s", from.Place+1, x.Place(), next)))
}

func exportHint(err error) error {
	if errors.Is(err, audit.ErrEmpty) {
		return hint{err, "the broker signs one within a second of the first record: run agentkeys serve"}
	}
	return err
}

// exportPage is how many records are read in one transaction.
const exportPage = 2000

func writeExport(ctx context.Context, db *store.Store, x *audit.Export, format string, w io.Writer) error {
	var text []byte
	for {
		var lines []audit.RawLine
		err := db.View(ctx, func(tx *sql.Tx) (err error) {
			lines, err = x.Next(ctx, tx, exportPage)
			return err
		})
		if err != nil {
			return err
		}
		if len(lines) == 0 {
			break
		}
		text = text[:0]
		for i := range lines {
			if text, err = appendExported(text, &lines[i], format); err != nil {
				return err
			}
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
	if format != formatLines {
		return nil
	}
	_, err := w.Write(x.Head().Line())
	return err
}

func appendExported(text []byte, line *audit.RawLine, format string) ([]byte, error) {
	if format == formatLines {
		return line.Append(text), nil
	}
	if line.Leaf == nil {
		return text, nil
	}
	e, err := line.Entry()
	if err != nil {
		return nil, fmt.Errorf("the record at place %d: %w", line.Place, err)
	}
	event, err := ocsfLine(&e)
	return append(text, event...), err
}

// writeNew makes a file of mode 0600 whole, or none: a link gives the finished file
// its name, and fails where the name is taken.
func writeNew(path string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(err, &fs.PathError{Op: "making", Path: path, Err: fs.ErrExist})
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".export-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	b := bufio.NewWriterSize(f, 1<<16)
	if err = write(b); err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the name of a new file as durable as its content.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// parseCursor reads a place, or the end of the file of an export.
func parseCursor(text string) (audit.Cursor, error) {
	if text == "" {
		return audit.Cursor{}, nil
	}
	if place, err := strconv.ParseInt(text, 10, 64); err == nil {
		if place < 0 {
			return audit.Cursor{}, usage(fmt.Errorf("--after: want the place of a record, or the file of an export, got %q", text))
		}
		return audit.Cursor{Place: place}, nil
	}
	last, err := lastLine(text)
	if err != nil {
		return audit.Cursor{}, fmt.Errorf("--after: %w", err)
	}
	head, err := audit.ParseCheckpointLine(last)
	if err != nil {
		return audit.Cursor{}, hint{fmt.Errorf("--after: %s: want a signed head as the last line: %w", text, err),
			"it is not the whole file of an export; after one that was cut short, name the place of its last whole line"}
	}
	return audit.Cursor{Place: head.Size, Root: &head.Root}, nil
}

// lastLine is the last line of a file, with its line break if it has one.
func lastLine(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	end := make([]byte, min(info.Size(), audit.MaxLine))
	if _, err := f.ReadAt(end, info.Size()-int64(len(end))); err != nil {
		return nil, err
	}
	at := len(end) - 1
	for at > 0 && end[at-1] != '\n' {
		at--
	}
	return end[max(at, 0):], nil
}
