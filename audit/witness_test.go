package audit_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/tlog"
)

// mustFind wants a finding of that code with the first place, and what it is about.
func mustFind(t testing.TB, r *audit.Report, code audit.Code, place int64) {
	t.Helper()
	if got, ok := codes(r)[code]; !ok || got != place {
		t.Errorf("want %s at %d, got %+v", code, place, r.Findings)
	}
	mustSpoil(t, r, code)
}

func TestRollBackIsSeen(t *testing.T) {
	yesterday := newLedger(t, 300, 0)
	today := yesterday.copy(t)
	today.grow(t, 300, 150, true)
	mustBeGood(t, today.verify(t, today.verification(string(today.heads), string(today.anchor))))
	mustBeGood(t, yesterday.verify(t, yesterday.verification())) // alone it cannot be told

	mustFind(t, yesterday.verify(t, yesterday.verification(string(today.heads))), audit.RolledBack, 301)
	mustFind(t, yesterday.verify(t, yesterday.verification(string(today.anchor))), audit.RolledBack, 301)
	mustFind(t, verifyExport(t, yesterday.verification(string(today.heads)), yesterday.export(t)), audit.RolledBack, 301)

	head := lastLine(today.heads)
	v := yesterday.verification(string(head))
	r := yesterday.verify(t, v)
	mustFind(t, r, audit.RolledBack, 301)
	if r.Integrity != audit.Intact || !strings.HasPrefix(r.Findings[0].Want, "450 records") || r.Findings[0].Got != "300 records" {
		t.Errorf("the finding is %+v", r.Findings[0])
	}
}

// All heads from after the moment to which a log was put back say the same: the first of
// each witness is reported, and how many there are. What others signed stays apart.
func TestRollBackIsReportedOnce(t *testing.T) {
	yesterday := newLedger(t, 300, 3) // the last ones have no place yet
	today := yesterday.copy(t)
	today.with(t, func(s *store.Store) {
		today.heads = append(bytes.Clone(today.heads), headLine(t, at(303), extend(t, s, today.log))...)
	})
	today.grow(t, 303, 450, true)
	var later [][]byte
	for line := range bytes.Lines(today.heads) {
		if _, c, err := audit.ParseHeadLine(line); err != nil {
			t.Fatal(err)
		} else if c.Size > 300 {
			later = append(later, line)
		}
	}
	_, first, err := audit.ParseHeadLine(later[0])
	if err != nil || len(later) < 4 {
		t.Fatalf("%d heads are of more than 300 records, %v", len(later), err)
	}
	want := audit.Finding{Code: audit.RolledBack, Place: 301, Want: fmt.Sprintf("%d records with the root %s", first.Size, first.Root), Got: "300 records", More: int64(len(later)) - 1}
	rolledBack := func(r *audit.Report) (found []audit.Finding) {
		t.Helper()
		for _, f := range r.Findings {
			if f.Code == audit.RolledBack {
				found = append(found, f)
			}
		}
		if r.Counts[audit.RolledBack] != int64(len(found)) || r.Completeness != audit.Incomplete || r.Integrity != audit.Intact {
			t.Errorf("the report is %+v", r)
		}
		return found
	}
	heads, line := string(today.heads), bytes.Count(today.heads, []byte("\n"))-len(later)+1
	for name, r := range map[string]*audit.Report{
		"a database": yesterday.verify(t, yesterday.verification(heads)),
		"an export":  verifyExport(t, yesterday.verification(heads), yesterday.export(t)),
	} {
		want := want
		want.Source = fmt.Sprintf("witness 1, line %d", line)
		if diff := cmp.Diff([]audit.Finding{want}, rolledBack(r)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	unsigned := lastLine(newLedger(t, 310, 0).heads) // of another key
	r := yesterday.verify(t, yesterday.verification(heads, string(later[1]), string(unsigned)+string(bytes.Join(later[2:], nil))))
	found := rolledBack(r)
	if len(found) != 3 || found[0].More != want.More || found[1].More != 0 || found[2].More != int64(len(later))-3 || found[1].Source != "witness 2, line 1" || found[2].Source != "witness 3, line 2" {
		t.Errorf("of three witnesses: %+v", found)
	}
	if r.Counts[audit.WitnessUnsigned] != 1 {
		t.Errorf("the head of another key: %+v", r.Counts)
	}
	if got := today.verify(t, today.verification(heads)); got.Counts[audit.RolledBack] != 0 || got.Heads == 0 {
		t.Errorf("the log that has them: %+v", got)
	}
}

// An export that ends with a head before the ones between its lines was put together
// of two, and says so once.
func TestExportEndsBeforeItsOwnHeads(t *testing.T) {
	early := newLedger(t, 300, 0)
	late := early.copy(t)
	late.grow(t, 300, 4, true)
	text := late.export(t)
	late.grow(t, 304, 4, true)
	text = append(text, bytes.Join(slices.Collect(bytes.Lines(late.export(t)))[304:], nil)...)
	text = append(text, lastLine(early.export(t))...)
	r := verifyExport(t, late.verification(), text)
	mustFind(t, r, audit.RolledBack, 301)
	for _, f := range r.Findings {
		if f.Code == audit.RolledBack && (f.More != 1 || !strings.HasPrefix(f.Want, "304 records ") || !strings.HasPrefix(f.Source, "the export")) {
			t.Errorf("found %+v", f)
		}
	}
}

func lastLine(text []byte) []byte {
	return text[bytes.LastIndexByte(text[:len(text)-1], '\n')+1:]
}

func TestForkIsSeen(t *testing.T) {
	one := newLedger(t, 300, 0)
	two := one.copy(t)
	one.grow(t, 300, 150, true)
	two.grow(t, 301, 200, true) // by the same key, and other records
	if one.query(t, "SELECT hash FROM audit_records WHERE seq = 301") == two.query(t, "SELECT hash FROM audit_records WHERE seq = 301") {
		t.Fatal("the logs did not fork")
	}
	mustBeGood(t, two.verify(t, two.verification(string(two.heads))))
	r := two.verify(t, two.verification(string(one.heads)))
	mustFind(t, r, audit.Forked, 301)
	if r.Heads != 3 || r.Integrity != audit.Intact {
		t.Errorf("%d heads agree, integrity %s; want 3 and INTACT", r.Heads, r.Integrity)
	}
	r = two.verify(t, two.verification(string(one.anchor)))
	mustFind(t, r, audit.Forked, 301)
	if r.Anchored != 300 || r.Counts[audit.Forked] != 150 {
		t.Errorf("%d records agree and %d do not, want 300 and 150", r.Anchored, r.Counts[audit.Forked])
	}
	mustFind(t, verifyExport(t, two.verification(string(one.heads)), two.export(t)), audit.Forked, 301)
}

// Who rewrites all of a log but lacks its key has another root than the one that was
// signed, and other heads than those that were seen.
func TestRewrittenLogIsSeen(t *testing.T) {
	l := newLedger(t, 300, 0)
	note := l.query(t, "SELECT note FROM audit_head")
	forged := l.copy(t)
	forged.tamper(t, "UPDATE audit_records SET reason = 'forged' WHERE seq = 150", "UPDATE audit_head SET size = 0, note = '', unhashed = 300", "DELETE FROM audit_tiles",
		"UPDATE audit_records SET hash = x'' WHERE seq = 150")
	forged.log, _ = newLog(t)
	forged.with(t, func(s *store.Store) { extend(t, s, forged.log) })
	export := bytes.Replace(forged.export(t), lastLine(forged.export(t)), endLine(t, audit.Checkpoint{Note: note}), 1)
	forged.tamper(t, "UPDATE audit_head SET note = '"+note+"'")
	r := forged.verify(t, forged.verification())
	mustFind(t, r, audit.RootChanged, 1)
	if r.Completeness != audit.Complete || len(r.Findings) != 1 {
		t.Errorf("report %+v", r)
	}
	r = forged.verify(t, forged.verification(string(l.heads)))
	mustFind(t, r, audit.Forked, 101)
	mustFind(t, r, audit.RootChanged, 101)
	mustFind(t, forged.verify(t, forged.verification(string(l.anchor))), audit.Forked, 150)
	mustFind(t, verifyExport(t, forged.verification(), export), audit.RootChanged, 1)
}

// A witness is believed for its signature alone, and only where it contradicts.
func TestWitnessThatIsNotSigned(t *testing.T) {
	l := newLedger(t, 300, 0)
	other := newLedger(t, 400, 0)
	mustFind(t, l.verify(t, l.verification(string(other.heads))), audit.WitnessUnsigned, 1)
	w, err := audit.CheckpointWitness("a file", strings.Replace(string(decodeHead(t, l.heads)), "\n300\n", "\n299\n", 1))
	if err != nil {
		t.Fatal(err)
	}
	v := l.verification()
	v.Witnesses = append(v.Witnesses, w)
	mustFind(t, l.verify(t, v), audit.WitnessUnsigned, 299-298)
}

// decodeHead is the note of the last line of a file of heads.
func decodeHead(t testing.TB, heads []byte) []byte {
	t.Helper()
	_, text, ok := bytes.Cut(lastLine(heads), []byte(`"checkpoint":"`))
	text, _, ok2 := bytes.Cut(text, []byte(`"}`))
	if !ok || !ok2 {
		t.Fatalf("no checkpoint in %s", heads)
	}
	return bytes.ReplaceAll(text, []byte(`\n`), []byte("\n"))
}

func TestWitnessFiles(t *testing.T) {
	l := newLedger(t, 300, 3)
	heads := bytes.SplitAfter(l.heads, []byte("\n"))
	lines := bytes.SplitAfter(l.anchor, []byte("\n"))
	join := func(parts ...[]byte) string { return string(bytes.Join(parts, nil)) }
	for name, tt := range map[string]struct {
		text            string
		code            audit.Code // "" for none
		place           int64
		heads, anchored int64
	}{
		"empty":                     {"", "", 0, 0, 0},
		"each head twice":           {join(heads[0], heads[0], heads[1], heads[1]), "", 0, 4, 0},
		"heads that go back":        {join(heads[1], heads[0], heads[2]), audit.WitnessBackwards, 100, 2, 0},
		"a line that is none":       {join(heads[0], []byte("{}\n"), heads[1]), audit.WitnessUnread, 0, 2, 0},
		"a line of another size":    {strings.Replace(join(heads[0], heads[1]), `"size":100`, `"size":101`, 1), audit.WitnessUnread, 0, 1, 0},
		"a line without end":        {strings.Repeat("x", audit.MaxLine*3) + "\n" + join(heads[0]), audit.WitnessUnread, 0, 1, 0},
		"torn":                      {join(heads[0], heads[1][:40]), "", 0, 1, 0},
		"whole but for the end":     {strings.TrimSuffix(join(heads[0], heads[1]), "\n"), "", 0, 2, 0},
		"records that go back":      {join(lines[8], lines[9], lines[8], lines[9], lines[10]), "", 0, 0, 5},
		"one that goes back is not": {join(lines[9], bytes.Replace(lines[8], []byte(`"place":9`), []byte(`"place":8`), 1), lines[10]), audit.Forked, 8, 0, 2},
		"records behind the head":   {join(lines[300], lines[301], lines[302]), "", 0, 0, 3},
		"a record changed":          {strings.Replace(join(lines[7]), `"issued"`, `"issuex"`, 1), audit.WitnessUnread, 0, 0, 0},
		"another record":            {strings.Replace(join(lines[8]), `"place":9`, `"place":10`, 1), audit.Forked, 10, 0, 0},
		"another behind the head":   {strings.Replace(join(lines[301]), `"place":302`, `"place":303`, 1), audit.Forked, 303, 0, 0},
		"heads and records":         {join(lines[0], heads[0], lines[200], heads[2]), "", 0, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			r := l.verify(t, l.verification(tt.text))
			if tt.code == "" {
				mustBeGood(t, r)
			} else {
				mustFind(t, r, tt.code, tt.place)
			}
			if r.Heads != tt.heads || r.Anchored != tt.anchored {
				t.Errorf("%d heads and %d records agree, want %d and %d", r.Heads, r.Anchored, tt.heads, tt.anchored)
			}
		})
	}
}

// What was pruned and erased is vouched for by records, and the tree stays what it was.
func TestPrunedAndErased(t *testing.T) {
	l := newLedger(t, 600, 0)
	l.with(t, func(s *store.Store) {
		err := s.Update(t.Context(), func(tx *sql.Tx) error {
			for _, q := range []string{erasingAt(t, tx, 400), erasingAt(t, tx, 20), "UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records WHERE seq <= 300"} {
				if _, err := tx.ExecContext(t.Context(), q); err != nil {
					return fmt.Errorf("%s: %w", q, err)
				}
			}
			for _, r := range []audit.Record{
				{Time: at(600), Action: "audit.erased", Outcome: audit.Confirmed, RequestID: "r", Detail: "records=2 grants=0"},
				{Time: at(600), Action: "audit.pruned", Outcome: audit.Confirmed, RequestID: "r", Detail: "through=300 days=90"},
			} {
				if err := audit.Append(t.Context(), tx, &r); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	r := l.verify(t, l.verification(string(l.heads))) // the records of it have no place yet
	if r.Integrity != audit.Intact || r.Completeness != audit.Unknown || len(r.Findings) > 0 {
		t.Errorf("want INTACT and UNKNOWN, since nobody signed what it says, got %+v", r)
	}
	if r.Pruned != 300 || r.Erased != 1 || r.Heads != 6 {
		t.Errorf("report %+v", r)
	}
	l.grow(t, 602, 10, true)
	mustBeGood(t, l.verify(t, l.verification(string(l.heads))))
	l.tamper(t, "DELETE FROM audit_records WHERE seq = 301")
	mustFind(t, l.verify(t, l.verification()), audit.RecordMissing, 301)
}

func erasingAt(t testing.TB, tx *sql.Tx, place int64) string {
	t.Helper()
	found, err := audit.After(t.Context(), tx, place-1, 1)
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	return erasing(found[0])
}

// A log of which the leaves alone are left is still the log that its heads sign, and
// whoever changes a tile of any level is found.
func TestThreeLevelsOfTiles(t *testing.T) {
	const size = 1<<16 + 300
	l := newLedger(t, 0, 0)
	l.tamper(t, fmt.Sprintf(`INSERT INTO audit_records (id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet, key_id, token_id, source, request_id, hash)
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i, 0, 'x', 'y', '', '', '', '', '', '', '', '', '', randomblob(32) FROM n`, size))
	l.with(t, func(s *store.Store) { extend(t, s, l.log) })
	l.tamper(t, "DELETE FROM audit_records", fmt.Sprintf("UPDATE audit_head SET pruned = %d", size))
	l.with(t, func(s *store.Store) {
		mustAppend(t, s, audit.Record{Time: at(0), Action: "audit.pruned", Outcome: audit.Confirmed, RequestID: "r", Detail: fmt.Sprintf("through=%d", size)})
		extend(t, s, l.log)
	})
	l.now = at(1)
	mustBeGood(t, l.verify(t, l.verification()))
	for level, tile := range []struct {
		n, i  int
		place int64
	}{{256, 7, 65536 + 7 + 1}, {0, 7, 256*7 + 1}, {0, 0, 1}} {
		c := l.copy(t)
		c.tamper(t, flipTile(level, tile.n, tile.i))
		r := c.verify(t, c.verification())
		if level == 0 { // there is no record to tell which of tile and root is wrong, but for the tile above
			mustFind(t, r, audit.RootChanged, 1)
			continue
		}
		mustFind(t, r, audit.TileChanged, tile.place)
	}
}

func TestProofs(t *testing.T) {
	l := newLedger(t, 600, 2)
	l.with(t, func(s *store.Store) {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			for _, e := range after(t, s, 0) {
				if e.Seq%17 != 1 && e.Seq != 256 && e.Seq < 599 { // the edges, and some between
					continue
				}
				p, err := l.log.Prove(t.Context(), tx, e.ID)
				if e.Seq > 600 {
					if err == nil || !strings.Contains(err.Error(), audit.ErrNotInTree.Error()) {
						t.Errorf("place %d: %v, want %v", e.Seq, err, audit.ErrNotInTree)
					}
					continue
				}
				if err != nil {
					return err
				}
				if e.Seq%29 == 1 || e.Seq > 590 { // what is broken of each is the same
					checkProof(t, l, p, e)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// checkProof reads a proof back in both its forms, and breaks it in every way.
func checkProof(t *testing.T, l *ledger, p audit.Proof, e audit.Entry) {
	t.Helper()
	leaf := audit.Digest(tlog.RecordHash(e.Leaf()))
	inJSON, err := p.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{p.Text(), string(inJSON)} {
		back, err := audit.ParseProof([]byte(text))
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		head, err := back.Verify(origin, l.verification().Verifiers, leaf)
		if err != nil || head.Size != 600 || back.Index != e.Seq-1 {
			t.Fatalf("place %d: %v, head %+v", e.Seq, err, head)
		}
		for name, bad := range map[string]audit.Proof{
			"another index":   {Index: back.Index ^ 1, Hashes: back.Hashes, Checkpoint: back.Checkpoint},
			"a hash less":     {Index: back.Index, Hashes: back.Hashes[1:], Checkpoint: back.Checkpoint},
			"a hash more":     {Index: back.Index, Hashes: append([]audit.Digest{leaf}, back.Hashes...), Checkpoint: back.Checkpoint},
			"another size":    {Index: back.Index, Hashes: back.Hashes, Checkpoint: strings.Replace(back.Checkpoint, "\n600\n", "\n601\n", 1)},
			"another's hash":  {Index: back.Index, Leaf: &audit.Digest{1}, Hashes: back.Hashes, Checkpoint: back.Checkpoint},
			"beyond the head": {Index: 600, Hashes: back.Hashes, Checkpoint: back.Checkpoint},
		} {
			if _, err := bad.Verify(origin, l.verification().Verifiers, leaf); err == nil {
				t.Errorf("place %d: a proof with %s verifies", e.Seq, name)
			}
		}
		if _, err := back.Verify(origin, l.verification().Verifiers, audit.Digest{}); err == nil {
			t.Errorf("place %d: the proof verifies for another leaf", e.Seq)
		}
		if _, err := back.Verify("other.example.com/audit", l.verification().Verifiers, leaf); err == nil {
			t.Errorf("place %d: the proof verifies for another log", e.Seq)
		}
	}
}

func TestProofOfExtending(t *testing.T) {
	l := newLedger(t, 600, 0)
	heads := bytes.SplitAfter(l.heads, []byte("\n"))
	l.with(t, func(s *store.Store) {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			for i, line := range heads[:6] {
				earlier, err := l.log.Open(string(decodeHead(t, line)))
				if err != nil {
					return err
				}
				proof, head, err := l.log.Consistency(t.Context(), tx, int64(100*(i+1)), 0)
				if err != nil {
					return err
				}
				if err := checkExtends(proof, head, earlier); err != nil {
					t.Error(err)
				}
				earlier.Root[0] ^= 1
				if checkExtends(proof, head, earlier) == nil {
					t.Errorf("a fork at %d extends", earlier.Size)
				}
			}
			for _, size := range []int64{0, -1, 601} {
				if _, _, err := l.log.Consistency(t.Context(), tx, size, 0); err == nil {
					t.Errorf("there is a proof from size %d", size)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// checkExtends holds two heads and the proof between them against each other.
func checkExtends(proof []audit.Digest, later, earlier audit.Checkpoint) error {
	var path tlog.TreeProof
	for _, d := range proof {
		path = append(path, tlog.Hash(d))
	}
	return tlog.CheckTree(path, later.Size, tlog.Hash(later.Root), earlier.Size, tlog.Hash(earlier.Root))
}
