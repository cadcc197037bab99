package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"agentkeys/audit"
	"agentkeys/store"
)

// proofPath is where a broker has the proofs of its log, without its ID.
const proofPath = "/v1/audit/proof/"

type proveRecordOptions struct {
	dataDir
	url, out, entry string
	json            bool
}

func (p *program) auditProve() *cobra.Command {
	var o proveRecordOptions
	cmd := &cobra.Command{
		Use:   "prove ID|PLACE (--data-dir DIR | --url BROKER) [--entry FILE] [--out FILE]",
		Short: "Prove that a record is in the log",
		Long: `Writes a proof that the record of that ID, or at that place in a database, is in the tree of the
signed head, as C2SP tlog-proof text or as JSON. It tells nothing of the record, so it can be shown
to anybody; --entry writes the record's own line into another file, for those who may know what it
says. "agentkeys audit verify-proof" takes both.

A record has its place in the tree within a second of being written.

Exit status: 0 proven, 1 the record is not what the tree has, 3 it could not be looked at, 2
wrong use.`,
		Example: `  agentkeys audit prove 01J9ZX3VJ6Q1T5N8M4C2B7E0KD --data-dir /var/lib/agentkeys \
      --entry record.json --out record.tlog-proof
  agentkeys audit verify-proof record.tlog-proof --key audit.vkey --entry record.json`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			of, err := parseSubject(args[0])
			if err != nil {
				return usage(err)
			}
			return inconclusive(p.proveRecord(cmd, &o, of))
		},
	}
	o.bind(cmd)
	cmd.Flags().StringVar(&o.url, "url", "", "`BROKER` to ask, instead of a database")
	cmd.Flags().StringVar(&o.entry, "entry", "", "new `FILE` for the line of the record, from a database")
	cmd.Flags().StringVar(&o.out, "out", "", "new `FILE` for the proof instead of standard output")
	cmd.Flags().BoolVar(&o.json, "json", false, "write the proof as JSON, with the hash of the record")
	return cmd
}

// A subject is the record that a proof is asked of: by its ID, or by its place where that
// is not 0.
type subject struct {
	id    string
	place int64
}

func parseSubject(text string) (subject, error) {
	if place, err := strconv.ParseInt(text, 10, 64); err == nil && place >= 1 && strconv.FormatInt(place, 10) == text {
		return subject{place: place}, nil
	}
	id, err := audit.ParseID(text)
	if err != nil {
		return subject{}, hint{fmt.Errorf("want the ID of a record or its place, a number from 1, got %.40q", text), `"agentkeys audit query" and "agentkeys audit tail" print places, "agentkeys audit show PLACE" the ID`}
	}
	return subject{id: id}, nil
}

// read is the record as the database has it.
func (s subject) read(ctx context.Context, tx *sql.Tx) (audit.Entry, error) {
	if s.place == 0 {
		e, err := audit.ByID(ctx, tx, s.id)
		if errors.Is(err, sql.ErrNoRows) {
			err = hint{fmt.Errorf("the log has no record %q", s.id), `"agentkeys audit show PLACE" prints the id of the record at a place`}
		}
		return e, err
	}
	e, err := audit.AtPlace(ctx, tx, s.place)
	if !errors.Is(err, sql.ErrNoRows) {
		return e, err
	}
	standing, err := audit.ReadStanding(ctx, tx)
	switch {
	case err != nil:
		return e, err
	case s.place <= standing.Pruned:
		return e, hint{fmt.Errorf("the record at place %d was pruned: its hash is left", s.place), "the export that it went into has the record, and \"agentkeys audit verify --export\" holds it against the log's key"}
	case s.place <= standing.Last:
		return e, status{exitBroken, hint{fmt.Errorf("there is no record at place %d, and the last one is at %d: somebody took it out", s.place, standing.Last),
			"keep a copy of the database as it is, and run \"agentkeys audit verify\""}}
	}
	return e, fmt.Errorf("there is no record at place %d: the last one is at %d", s.place, standing.Last)
}

func (p *program) proveRecord(cmd *cobra.Command, o *proveRecordOptions, of subject) error {
	if o.url != "" && (cmd.Flags().Changed("data-dir") || o.entry != "") {
		return lacking(cmd, "--url: --data-dir and --entry are for a database, and a broker was named")
	}
	if o.url != "" && of.place != 0 {
		return lacking(cmd, fmt.Sprintf("--url: want the ID of a record, which a broker knows it by, got the place %d", of.place))
	}
	for _, f := range []struct{ flag, path string }{{"out", o.out}, {"entry", o.entry}} {
		if f.path == "" {
			continue
		}
		if err := checkNew(f.flag, f.path); err != nil {
			return usage(err)
		}
	}
	proof, line, err := p.obtainProof(cmd, o, of)
	if err != nil {
		return err
	}
	text := []byte(proof.Text())
	if o.json {
		if text, err = json.Marshal(proof); err != nil {
			return err
		}
		text = append(text, '\n')
	}
	if o.entry != "" {
		if err := (reportFile{o.entry, content(line)}).save(); err != nil {
			return err
		}
	}
	if o.out != "" {
		return reportFile{o.out, content(text)}.save()
	}
	_, err = p.stdout.Write(text)
	return err
}

func content(text []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	}
}

// obtainProof makes a proof or fetches it. The line of the record comes from a database
// alone.
func (p *program) obtainProof(cmd *cobra.Command, o *proveRecordOptions, of subject) (proof audit.Proof, line []byte, err error) {
	if o.url != "" {
		proof, err = fetchProof(cmd.Context(), o.url, of.id)
		return proof, nil, err
	}
	err = p.readDatabase(cmd, o.dataDir, func(ctx context.Context, db *store.Store) error {
		return db.View(ctx, func(tx *sql.Tx) error {
			entry, err := of.read(ctx, tx)
			if err != nil {
				return err
			}
			line = entry.Line()
			proof, err = audit.Prove(ctx, tx, entry.ID)
			return err
		})
	})
	switch {
	case errors.Is(err, audit.ErrChanged):
		err = status{exitBroken, err}
	case errors.Is(err, audit.ErrNotInTree):
		err = hint{err, "a running broker gives it one within a second: try again"}
	}
	return proof, line, err
}

// maxAnswer bounds a broker's answer, in bytes.
const maxAnswer = 64 << 10

// fetchProof asks a broker for a proof. It is not believed before it is verified.
func fetchProof(ctx context.Context, broker, id string) (audit.Proof, error) {
	base, err := url.Parse(broker)
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return audit.Proof{}, usage(fmt.Errorf("--url: want a URL with http or https, got %q", broker))
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(broker, "/")+proofPath+url.PathEscape(id), nil)
	if err != nil {
		return audit.Proof{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return audit.Proof{}, fmt.Errorf("fetching the proof: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return audit.Proof{}, fmt.Errorf("fetching the proof: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return audit.Proof{}, fmt.Errorf("fetching the proof: %s: %.300s", resp.Status, body)
	}
	return audit.ParseProof(body)
}

type verifyProofOptions struct {
	keys  []string
	entry string
}

func (p *program) auditVerifyProof() *cobra.Command {
	var o verifyProofOptions
	cmd := &cobra.Command{
		Use:   "verify-proof PROOF --key VKEY|FILE [--entry LINE.json]",
		Short: "Verify a proof that a record is in the log, and show the record",
		Long: `Holds a proof against the log's verifier key, with nothing else. --entry is the line of the record,
as "agentkeys audit prove --entry" and exports have it: then the proof is of what that line says,
and it is shown. Without it, a proof in JSON is of the hash that stands in it.

Exit status: 0 proven, 1 it is no proof of that, 3 a file could not be read, 2 wrong use.`,
		Example: `  agentkeys audit verify-proof record.tlog-proof --key audit.vkey --entry record.json`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return inconclusive(p.verifyProof(cmd, &o, args[0]))
		},
	}
	cmd.Flags().StringArrayVar(&o.keys, "key", nil, "`VKEY`, the verifier key of the log (name+hash+base64), or a file with a key a line")
	cmd.Flags().StringVar(&o.entry, "entry", "", "`FILE` with the line of the record")
	return cmd
}

func (p *program) verifyProof(cmd *cobra.Command, o *verifyProofOptions, path string) error {
	keys, err := readVerifiers("key", o.keys)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading the proof: %w", err)
	}
	proof, err := audit.ParseProof(text)
	if err != nil {
		return status{exitBroken, err}
	}
	var line []byte
	if o.entry != "" {
		if line, err = os.ReadFile(o.entry); err != nil {
			return fmt.Errorf("--entry: %w", err)
		}
	}
	leaf, raw, err := proofSubject(cmd, proof, line)
	if err != nil {
		return err
	}
	head, err := proof.Verify(keys[0].Name(), keys, leaf)
	if err != nil {
		return status{exitBroken, err}
	}
	return writeProven(p.stdout, proof, head, raw)
}

// proofSubject is the leaf that a proof has to be of.
func proofSubject(cmd *cobra.Command, proof audit.Proof, line []byte) (audit.Digest, *audit.RawLine, error) {
	if line == nil {
		if proof.Leaf == nil {
			return audit.Digest{}, nil, lacking(cmd, "--entry is missing: the proof does not say what it is of")
		}
		return *proof.Leaf, nil, nil
	}
	raw, err := audit.ParseLine(line)
	if err == nil {
		err = raw.Check()
	}
	if err == nil && raw.Leaf == nil {
		err = errors.New("the record was pruned: its line has no more than its hash")
	}
	if err != nil {
		return audit.Digest{}, nil, status{exitBroken, fmt.Errorf("--entry: %w", err)}
	}
	if raw.Place != proof.Index+1 {
		return audit.Digest{}, nil, status{exitBroken, fmt.Errorf("--entry: want the record at place %d, which the proof is of, got place %d", proof.Index+1, raw.Place)}
	}
	return raw.Hash, &raw, nil
}

// writeProven prints what was proven.
func writeProven(w io.Writer, proof audit.Proof, head audit.Checkpoint, raw *audit.RawLine) error {
	lines := []string{
		fmt.Sprintf("PROVEN: a record is at place %d of the %s of %s", proof.Index+1, audit.Count(head.Size, "record"), head.Origin),
		fmt.Sprintf("root    %s", head.Root),
	}
	if raw == nil {
		lines = append(lines, fmt.Sprintf("leaf    %s", proof.Leaf))
	} else {
		lines = append(lines, "leaf    "+raw.Hash.String(), "", "record")
		for _, part := range [][]byte{raw.Leaf, raw.Person} {
			if part == nil {
				continue
			}
			var b bytes.Buffer
			if err := json.Indent(&b, part, "", "  "); err != nil {
				return status{exitBroken, fmt.Errorf("--entry: %w", err)}
			}
			lines = append(lines, strings.Split(b.String(), "\n")...)
		}
		if raw.Person == nil {
			lines = append(lines, "the personal members were erased")
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, printable(line)); err != nil {
			return err
		}
	}
	return nil
}
