package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"agentkeys/anchor"
	"agentkeys/audit"
	"agentkeys/store"
)

type importOptions struct {
	dataDir
	keys              []string
	checkpoint, heads string
	allowPruned       bool
}

func (p *program) auditImport() *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use:   "import --data-dir DIR --key VKEY [--checkpoint FILE | --heads FILE] FILE...",
		Short: "Restore the log of a new database from exports",
		Long: `Puts the records of exports, in the order of the files, into the empty log of a new database that
"agentkeys init" made: places, ids, hashes and the signed head are what they were, and "agentkeys
serve" goes on from there. Every record is held against the checkpoints, and those against the key.
All of it is put in, or nothing.

--key is the verifier key of the log, from where the broker's host could not change it ("agentkeys
keygen --purpose audit --show FILE --issuer URL" prints it); once for each key that signed.

A file of an anchor has the same lines without a checkpoint. Then --checkpoint names a file that is
one, or --heads the broker's file of heads, whose last one is taken. Records behind it are put in as
well. Nothing that is signed vouches for those; the broker gives them their place in the tree.`,
		Example: `  agentkeys init --data-dir /var/lib/agentkeys
  agentkeys audit import --data-dir /var/lib/agentkeys --key audit.vkey \
      audit-1.ndjson audit-2.ndjson`,
		Args: usageArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			path, err := p.databasePath(cmd, o.dataDir)
			if err != nil {
				return err
			}
			if len(o.keys) == 0 {
				return lacking(cmd, "--key is needed: without it nobody vouches for what the files say")
			}
			if o.checkpoint != "" && o.heads != "" {
				return lacking(cmd, "--checkpoint and --heads: want one of them")
			}
			return p.runImport(cmd.Context(), path, files, o)
		},
	}
	o.bind(cmd)
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "`VKEY`, the verifier key of the log (name+hash+base64), or a file with a key a line")
	cmd.Flags().StringVar(&o.checkpoint, "checkpoint", "", "`FILE` that is a checkpoint of the log")
	cmd.Flags().StringVar(&o.heads, "heads", "", "`FILE` of heads, as the broker keeps one")
	cmd.Flags().BoolVar(&o.allowPruned, "allow-pruned", false, "also take records that were pruned behind ones that are there")
	return cmd
}

func (p *program) runImport(ctx context.Context, path string, files []string, o importOptions) (err error) {
	keys, err := readVerifiers("key", o.keys)
	if err != nil {
		return err
	}
	checkpoints, err := o.collect(files, keys)
	if err != nil {
		return err
	}
	if len(checkpoints) == 0 {
		return usage(hint{errors.New("want a checkpoint, and there is none in the files: nothing would vouch for their records"),
			"name one with --checkpoint, or the broker's file of heads with --heads"})
	}
	db, err := store.Open(ctx, path)
	if err != nil {
		return databaseHint(err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := unchanged(ctx, db); err != nil {
		return err
	}
	var done audit.Restored
	err = db.Update(ctx, func(tx *sql.Tx) (err error) {
		done, err = restoreFiles(ctx, tx, files, checkpoints, o.allowPruned)
		return err
	})
	if errors.Is(err, audit.ErrNotEmpty) {
		return hint{err, `import is for a new database: "agentkeys init --data-dir DIR" makes one in another folder`}
	}
	if err != nil {
		return err
	}
	p.tellImport(done)
	return nil
}

// collect opens all checkpoints there are with the keys of the log.
func (o *importOptions) collect(files []string, keys []note.Verifier) (all []audit.Checkpoint, err error) {
	open := func(text string) error {
		c, err := audit.OpenCheckpoint(text, keys[0].Name(), keys...)
		all = append(all, c)
		return err
	}
	switch {
	case o.checkpoint != "":
		text, err := os.ReadFile(o.checkpoint)
		if err == nil {
			err = open(string(text))
		}
		if err != nil {
			return nil, fmt.Errorf("--checkpoint: %s: %w", o.checkpoint, err)
		}
	case o.heads != "":
		text, err := lastHead(o.heads)
		if err == nil {
			err = open(text)
		}
		if err != nil {
			return nil, fmt.Errorf("--heads: %s: %w", o.heads, err)
		}
	}
	for _, path := range files {
		err := eachLine(path, func(line []byte) error {
			if !audit.IsCheckpointLine(line) {
				return nil
			}
			c, err := audit.ParseCheckpointLine(line)
			if err != nil {
				return err
			}
			return open(c.Note)
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// lastHead is the checkpoint in the last whole line of a file of heads.
func lastHead(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var last anchor.Seen
	for seen, err := range anchor.ReadCheckpoints(f) {
		if errors.Is(err, anchor.ErrCutOff) { // its writer did not finish this line
			break
		}
		if err != nil {
			return "", err
		}
		last = seen
	}
	if last.Note == "" {
		return "", errors.New("want a line with a checkpoint, got none")
	}
	return last.Note, nil
}

// eachLine calls fn with each line of a regular file, its line break among it, and
// says where an error was.
func eachLine(path string, fn func(line []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%s: want a file, since it is read twice", path))
	}
	r := bufio.NewReaderSize(f, audit.MaxLine)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return nil
		case err == io.EOF:
			err = hint{fmt.Errorf("it ends within this line: %w", io.ErrUnexpectedEOF), "the file was cut, or its writer died: find a whole one, or take the last line off if what it began does not matter"}
		case errors.Is(err, bufio.ErrBufferFull):
			err = fmt.Errorf("want a line of at most %d bytes", audit.MaxLine)
		case err == nil:
			err = fn(line)
		}
		if err != nil {
			return fmt.Errorf("%s: line %d: %w", path, n, err)
		}
	}
}

// restoreFiles puts the records of the files into an empty log.
func restoreFiles(ctx context.Context, tx *sql.Tx, files []string, checkpoints []audit.Checkpoint, allowPruned bool) (audit.Restored, error) {
	r, err := audit.NewRestore(ctx, tx, checkpoints)
	if err != nil {
		return audit.Restored{}, err
	}
	for _, path := range files {
		err := eachLine(path, func(line []byte) error {
			if !audit.IsCheckpointLine(line) {
				return r.Add(line)
			}
			if !known(checkpoints, line) {
				return errors.New("the checkpoint was not there when the file was read first: somebody writes it")
			}
			return nil
		})
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return audit.Restored{}, err
		}
	}
	done, err := r.Finish()
	if err == nil && done.Holes > 0 && !allowPruned {
		err = hint{fmt.Errorf("of %s behind others that are there the files have the hash alone", audit.Count(done.Holes, "record")),
			"the export is for one tenant, or they were pruned before it; --allow-pruned restores the log without what they said"}
	}
	return done, err
}

func known(checkpoints []audit.Checkpoint, line []byte) bool {
	for _, c := range checkpoints {
		if bytes.Equal(c.Line(), line) {
			return true
		}
	}
	return false
}

// tellImport says what the log is now.
func (p *program) tellImport(done audit.Restored) {
	fmt.Fprintln(p.stdout, printable(fmt.Sprintf("restored %s of the log %s under its signed head of %d", audit.Count(done.Records, "record"), done.Head.Origin, done.Head.Size)))
	if done.Erased+done.Pruned > 0 {
		fmt.Fprintf(p.stdout, "of %d of them there is the hash alone, and in %d what was personal is erased\n", done.Pruned, done.Erased)
	}
	if behind := done.Records - done.Head.Size; behind > 0 {
		fmt.Fprintf(p.stderr, "behind the head: %s, which nothing signed vouches for, and which agentkeys serve gives a place in the tree\n", audit.Count(behind, "record"))
	}
}
