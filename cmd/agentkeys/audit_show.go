package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"agentkeys/audit"
)

func (p *program) auditShow() *cobra.Command {
	var dir dataDir
	var json bool
	cmd := &cobra.Command{
		Use:   "show --data-dir DIR ID|PLACE",
		Short: "Show all about one record",
		Long: `Shows one record in full, by its id or its place in the log: what belongs to it (the intent, and
what came of it), whether the signed tree has it, and which anchors do.

It ends with status 1 where the tree has another record at that place: then somebody changed the
database. "agentkeys audit verify" holds the whole log against its key.`,
		Example: "  agentkeys audit show --data-dir /var/lib/agentkeys 1042",
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.readDatabase(cmd, dir, viewing(func(ctx context.Context, tx *sql.Tx) error {
				s, err := readShown(ctx, tx, args[0])
				if err != nil {
					return err
				}
				write := s.write
				if json {
					write = s.writeLine
				}
				return errors.Join(write(p.stdout), s.treeError())
			}))
		},
	}
	dir.bind(cmd)
	cmd.Flags().BoolVar(&json, "json", false, "print the line of an export")
	return cmd
}

// shown is a record with all that there is about it.
type shown struct {
	audit.Entry
	bare       bool // it was pruned: there are its place and its hash alone
	chain      []audit.Entry
	head       audit.Checkpoint // of no records while there is none
	leaf       audit.Digest     // what the tree has at its place, if the head counts it
	have, lack []string         // anchors
}

func readShown(ctx context.Context, tx *sql.Tx, name string) (*shown, error) {
	standing, err := audit.ReadStanding(ctx, tx)
	if err != nil {
		return nil, err
	}
	s := &shown{}
	if s.head, err = standing.Head(); err != nil && !errors.Is(err, audit.ErrEmpty) {
		return nil, err
	}
	if err := s.find(ctx, tx, standing, name); err != nil {
		return nil, err
	}
	if s.Seq <= s.head.Size {
		if s.leaf, err = audit.LeafAt(ctx, tx, s.head, s.Seq); err != nil {
			return nil, err
		}
	}
	if !s.bare {
		if s.chain, err = chainOf(ctx, tx, s.Entry); err != nil {
			return nil, err
		}
	}
	s.have, s.lack, err = audit.AnchoredAt(ctx, tx, s.Seq)
	return s, err
}

// find reads the record of an ID or a place.
func (s *shown) find(ctx context.Context, tx *sql.Tx, standing audit.Standing, name string) (err error) {
	place, notPlace := strconv.ParseInt(name, 10, 64)
	if notPlace == nil {
		s.Entry, err = audit.AtPlace(ctx, tx, place)
	} else {
		s.Entry, err = audit.ByID(ctx, tx, strings.ToUpper(name))
	}
	switch {
	case err == nil || !errors.Is(err, sql.ErrNoRows):
		return err
	case notPlace != nil:
		return fmt.Errorf("no record has the id %q", name)
	case place >= 1 && place <= standing.Pruned:
		s.Seq, s.bare = place, true
		return nil
	}
	return fmt.Errorf("there is no record at place %d: the last one is at %d", place, standing.Last)
}

// chainOf is what belongs to a record: what it settles, and what settles it, in the
// order of the log.
func chainOf(ctx context.Context, tx *sql.Tx, e audit.Entry) ([]audit.Entry, error) {
	chain := []audit.Entry{e}
	for first := e; first.Settles != ""; {
		before, err := audit.ByID(ctx, tx, first.Settles)
		if errors.Is(err, sql.ErrNoRows) { // it was pruned
			break
		}
		if err != nil {
			return nil, err
		}
		if before.Seq >= first.Seq {
			return nil, fmt.Errorf("the record at place %d settles the one at %d, which is behind it", first.Seq, before.Seq)
		}
		chain, first = append([]audit.Entry{before}, chain...), before
	}
	for last := e; ; {
		after, err := audit.Settling(ctx, tx, last.ID)
		if errors.Is(err, sql.ErrNoRows) {
			return chain, nil
		}
		if err != nil {
			return nil, err
		}
		if after.Seq <= last.Seq {
			return nil, fmt.Errorf("the record at place %d settles the one at %d, which is behind it", after.Seq, last.Seq)
		}
		chain, last = append(chain, after), after
	}
}

// hash is that of the record as it is now.
func (s *shown) hash() audit.Digest {
	if s.bare {
		return s.leaf
	}
	return s.LeafHash(s.Digest())
}

// treeError says that the tree has another record there.
func (s *shown) treeError() error {
	if s.Seq > s.head.Size || s.hash() == s.leaf {
		return nil
	}
	return hint{fmt.Errorf("the record at place %d is not the one in the tree: want the hash %s, got %s", s.Seq, s.leaf, s.hash()),
		"somebody changed the database: keep a copy of it as it is, and run \"agentkeys audit verify\""}
}

// writeLine prints the line that an export has of it.
func (s *shown) writeLine(w io.Writer) error {
	line := s.Line()
	if s.bare {
		line = (&audit.RawLine{Place: s.Seq, Hash: s.leaf}).Append(nil)
	}
	_, err := w.Write(line)
	return err
}

func (s *shown) write(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(tw, "%s\t%s\n", name, printable(value))
		}
	}
	row("place", fmt.Sprint(s.Seq))
	if s.bare {
		row("record", "pruned: its hash is left")
	} else {
		s.writeMembers(row)
	}
	row("hash", s.hash().String())
	row("tree", s.tree())
	row("anchors", s.anchors())
	if err := tw.Flush(); err != nil || len(s.chain) < 2 {
		return err
	}
	if _, err := fmt.Fprintf(w, "\nWhat belongs together:\n%s\n", recordHeader); err != nil {
		return err
	}
	for i := range s.chain {
		if err := writeRecord(w, &s.chain[i], ""); err != nil {
			return err
		}
	}
	return nil
}

func (s *shown) writeMembers(row func(name, value string)) {
	row("id", s.ID)
	row("time", s.Time.Format("2006-01-02 15:04:05.000 UTC"))
	row("action", s.Action)
	row("outcome", s.Outcome)
	row("status", audit.StatusOf(s.chain[len(s.chain)-1].Outcome))
	row("reason", s.Reason)
	row("detail", s.Detail)
	if len(s.Person) > 0 {
		row("person", "erased")
	}
	row("tenant", s.Tenant)
	row("agent", s.Agent)
	row("service", s.Service)
	row("path", s.ScopePath)
	row("grant", s.GrantID)
	row("credential", s.CredentialID)
	row("token", s.TokenID)
	row("signed with", s.KeyID)
	row("identity", strings.Trim(s.IdentityType+" "+s.IdentityValue, " "))
	row("account", s.OmniAccount)
	row("wallet", s.Wallet)
	row("from", s.Source)
	row("request", s.RequestID)
	row("settles", s.Settles)
}

func (s *shown) tree() string {
	switch {
	case s.head.Size == 0:
		return "not yet: no head was signed so far"
	case s.Seq > s.head.Size:
		return fmt.Sprintf("not yet: the signed head counts %s", audit.Count(s.head.Size, "record"))
	case s.hash() != s.leaf:
		return fmt.Sprintf("NO: the signed head of %s has another one here", audit.Count(s.head.Size, "record"))
	}
	return fmt.Sprintf("yes, under the signed head of %s", audit.Count(s.head.Size, "record"))
}

func (s *shown) anchors() string {
	switch {
	case len(s.have)+len(s.lack) == 0:
		return "none but this database"
	case len(s.lack) == 0:
		return strings.Join(s.have, ", ")
	case len(s.have) == 0:
		return "not yet: " + strings.Join(s.lack, ", ")
	}
	return strings.Join(s.have, ", ") + "; not yet: " + strings.Join(s.lack, ", ")
}
