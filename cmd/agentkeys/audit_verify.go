package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/term"

	"agentkeys/audit"
	"agentkeys/store"
)

type verifyOptions struct {
	dataDir
	export                           string
	keys, heads, anchors, checkpoint []string
	json                             bool
}

func (p *program) auditVerify() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify (--data-dir DIR | --export FILE) --key VKEY|FILE [--heads FILE] [--anchor FILE] [--checkpoint FILE]",
		Short: "Verify the whole audit log: is every record as it was written, and is none missing",
		Long: `Reads every record and gives two verdicts.

  integrity     each record is the one that was written: the tree of the records has the root
                that the log's key signed
  completeness  no place is without its record or has two, intents have one outcome, and all
                that was seen of the log elsewhere is still in it

The database may be in use by a broker. An export is verified anywhere, with nothing but the
verifier key. Take the key from where the broker's host could not change it.

What was cut off at the end, and a log that was put back to an earlier copy, can only be seen by
who kept something from after that: the broker's file of heads (--heads, and of the data folder
"heads" unless it is named), the file of an anchor (--anchor), or a checkpoint that was fetched
(--checkpoint). Each may be given more than once. Keep them on another machine.

Exit status: 0 INTACT and COMPLETE, 1 a finding, 3 the log or a verdict could not be looked at,
2 wrong use.`,
		Example: `  agentkeys audit verify --data-dir /var/lib/agentkeys --key audit.vkey --anchor /mnt/audit/heads
  agentkeys audit verify --export audit.ndjson --key audit.vkey --checkpoint last-week.txt --json`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return inconclusive(p.verifyLog(cmd, &o))
		},
	}
	o.bind(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.export, "export", "", "`FILE` of an export, instead of a database")
	flags.StringArrayVar(&o.keys, "key", nil, "`VKEY`, the verifier key of the log (name+hash+base64), or a file with a key a line")
	flags.StringArrayVar(&o.heads, "heads", nil, "`FILE` of witnessed heads")
	flags.StringArrayVar(&o.anchors, "anchor", nil, "`FILE` of an anchor: records, or heads")
	flags.StringArrayVar(&o.checkpoint, "checkpoint", nil, "`FILE` with a checkpoint that was seen before")
	flags.BoolVar(&o.json, "json", false, "print the report as JSON")
	return cmd
}

// inconclusive makes an error that has no exit status say that nothing was seen: 1
// would say that something was found.
func inconclusive(err error) error {
	var s status
	if err == nil || errors.As(err, &s) {
		return err
	}
	return status{exitInconclusive, err}
}

func (p *program) verifyLog(cmd *cobra.Command, o *verifyOptions) error {
	if o.export != "" && cmd.Flags().Changed("data-dir") {
		return lacking(cmd, "--data-dir and --export: want one of them")
	}
	keys, err := readVerifiers("key", o.keys)
	if err != nil {
		return err
	}
	v := &audit.Verification{Origin: keys[0].Name(), Verifiers: keys, Progress: p.progress()}
	seen, err := o.witnesses(p, cmd, v)
	defer seen.close()
	if err != nil {
		return err
	}
	report, err := p.runVerification(cmd, o, v, seen)
	if err != nil {
		return err
	}
	if o.json {
		err = writeJSON(p.stdout, report)
	} else {
		err = writeVerdicts(p.stdout, report)
	}
	if err != nil {
		return err
	}
	return verdictStatus(report)
}

func (p *program) runVerification(cmd *cobra.Command, o *verifyOptions, v *audit.Verification, seen *witnessFiles) (report *audit.Report, err error) {
	if o.export == "" {
		err = p.readDatabase(cmd, o.dataDir, func(ctx context.Context, db *store.Store) error {
			if v.Schema, err = db.SchemaChanges(ctx); err != nil {
				return err
			}
			report, err = v.Database(ctx, db.View)
			return err
		})
		return report, err
	}
	f, err := os.Open(o.export)
	if err != nil {
		return nil, fmt.Errorf("--export: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("--export: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, hint{fmt.Errorf("--export: want a file, got %s", o.export), "the last line of an export is read before the first: write it to a file"}
	}
	return v.Export(cmd.Context(), f, info.Size(), seen.newest)
}

// verdictStatus is the exit status that a report comes to.
func verdictStatus(r *audit.Report) error {
	switch {
	case r.Integrity == audit.Broken || r.Completeness == audit.Incomplete:
		return status{code: exitBroken}
	case r.Integrity == audit.Intact && r.Completeness == audit.Complete:
		return nil
	}
	return status{code: exitInconclusive}
}

// verifierHint says where a verifier key comes from.
const verifierHint = `"agentkeys keygen --purpose audit --show FILE --issuer URL" prints the key of a log`

// readVerifiers reads the verifier keys of one log, each from the command line or from
// a file. The flag is the one that names them.
func readVerifiers(flag string, texts []string) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, text := range texts {
		lines := []string{text}
		if _, err := note.NewVerifier(text); err != nil {
			content, err := os.ReadFile(text)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, usage(hint{fmt.Errorf("--%s: want a verifier key or a file of them, got %q", flag, text), verifierHint})
			}
			if err != nil {
				return nil, fmt.Errorf("--%s: %w", flag, err)
			}
			lines = strings.Fields(string(content))
		}
		for _, line := range lines {
			key, err := note.NewVerifier(line)
			if err != nil {
				return nil, usage(fmt.Errorf("--%s: want a verifier key (name+hash+base64), got %.80q", flag, line))
			}
			if len(keys) > 0 && key.Name() != keys[0].Name() {
				return nil, usage(fmt.Errorf("--%s: want the keys of one log, got those of %q and %q", flag, keys[0].Name(), key.Name()))
			}
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, usage(hint{fmt.Errorf("--%s is missing: without the log's verifier key nobody vouches for it", flag), verifierHint})
	}
	return keys, nil
}

// witnessFiles are open files that a verification reads along with the log.
type witnessFiles struct {
	open   []*os.File
	newest string // of the checkpoints: what an export without one is held against
}

func (w *witnessFiles) close() {
	for _, f := range w.open {
		_ = f.Close() // they were read
	}
}

// witnesses opens what was seen of the log elsewhere. A broker may go on writing to its
// files, so each is read as far as it goes now, before the database is opened.
func (o *verifyOptions) witnesses(p *program, cmd *cobra.Command, v *audit.Verification) (*witnessFiles, error) {
	w := &witnessFiles{}
	heads := o.heads
	if len(heads) == 0 && o.export == "" {
		path, err := p.databasePath(cmd, o.dataDir)
		if err != nil {
			return w, err
		}
		if own := filepath.Join(filepath.Dir(path), headsFile); isFile(own) {
			heads = []string{own}
		}
	}
	for _, list := range []struct {
		flag  string
		paths []string
	}{{"heads", heads}, {"anchor", o.anchors}} {
		for _, path := range list.paths {
			witness, err := w.file(path)
			if err != nil {
				return w, fmt.Errorf("--%s: %w", list.flag, err)
			}
			v.Witnesses = append(v.Witnesses, witness)
		}
	}
	size := int64(-1)
	for _, path := range o.checkpoint {
		text, err := os.ReadFile(path)
		if err != nil {
			return w, fmt.Errorf("--checkpoint: %w", err)
		}
		c, err := audit.OpenCheckpoint(string(text), v.Origin, v.Verifiers...)
		if err != nil {
			return w, fmt.Errorf("--checkpoint: %s: %w", path, err)
		}
		witness, err := audit.CheckpointWitness(path, string(text))
		if err != nil {
			return w, fmt.Errorf("--checkpoint: %w", err)
		}
		v.Witnesses = append(v.Witnesses, witness)
		if c.Size > size {
			size, w.newest = c.Size, string(text)
		}
	}
	return w, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (w *witnessFiles) file(path string) (*audit.Witness, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	w.open = append(w.open, f)
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return audit.NewWitness(path, io.LimitReader(f, info.Size())), nil
}

// progressEvery is how often a long verification says how far it is.
const progressEvery = 2 * time.Second

// progress tells on a terminal how far a verification is.
func (p *program) progress() func(place, total int64) {
	f, ok := p.stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	var mu sync.Mutex // guards last
	last := time.Now()
	return func(place, total int64) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) < progressEvery {
			return
		}
		last = time.Now()
		fmt.Fprintf(p.stderr, "… %d of %s\n", place, audit.Count(max(place, total), "record"))
	}
}

// writeVerdicts prints a report for people, the verdicts first.
func writeVerdicts(w io.Writer, r *audit.Report) error {
	lines := []string{
		fmt.Sprintf("integrity:    %s", r.Integrity),
		fmt.Sprintf("completeness: %s", r.Completeness),
		"",
		fmt.Sprintf("log           %s", r.Origin),
		fmt.Sprintf("head          %s, root %s", audit.Count(r.Size, "record"), r.Root),
		fmt.Sprintf("read          %s, %d of them without a place in the tree yet", audit.Count(r.Records, "record"), r.Unplaced),
	}
	if r.Pruned > 0 || r.Erased > 0 {
		lines = append(lines, fmt.Sprintf("gone          %s pruned, %d erased", audit.Count(r.Pruned, "record"), r.Erased))
	}
	lines = append(lines, fmt.Sprintf("witnessed     %s and %s agree with it", audit.Count(r.Heads, "head"), audit.Count(r.Anchored, "record")))
	for _, why := range r.Unsure {
		lines = append(lines, "unknown       "+why)
	}
	for _, f := range r.Findings {
		lines = append(lines, "", findingLine(f), "  want "+f.Want, "  got  "+f.Got)
		if f.More > 0 {
			lines = append(lines, fmt.Sprintf("  more %s that the log does not reach", audit.Count(f.More, "later head")))
		}
		if f.Source != "" {
			lines = append(lines, "  from "+f.Source)
		}
	}
	if more := unlisted(r); more > 0 {
		lines = append(lines, "", fmt.Sprintf("and %s more", audit.Count(more, "finding")))
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}

func findingLine(f audit.Finding) string {
	line := string(f.Code)
	if f.Place != 0 {
		line += fmt.Sprintf(", place %d", f.Place)
	}
	if f.ID != "" {
		line += ", record " + f.ID
	}
	return line
}

// unlisted is how many findings the report counts and does not list.
func unlisted(r *audit.Report) int64 {
	more := -int64(len(r.Findings))
	for _, n := range r.Counts {
		more += n
	}
	return more
}
