package audit_test

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"agentkeys/audit"
	"agentkeys/store"

	"golang.org/x/mod/sumdb/note"
)

// tryExtend extends the log once.
func (l *ledger) tryExtend(t testing.TB) (err error) {
	t.Helper()
	l.with(t, func(s *store.Store) {
		err = s.Update(t.Context(), func(tx *sql.Tx) error {
			_, _, err := l.log.Extend(t.Context(), tx, 1000)
			return err
		})
	})
	return err
}

// check is what a broker does at boot.
func (l *ledger) check(t testing.TB) (head audit.Checkpoint, err error) {
	t.Helper()
	l.with(t, func(s *store.Store) {
		err = s.View(t.Context(), func(tx *sql.Tx) (err error) {
			head, err = l.log.Check(t.Context(), tx)
			return err
		})
	})
	return head, err
}

// Nothing is added to a log that is not what its head says, or that has gaps.
func TestExtendRefuses(t *testing.T) {
	template := newLedger(t, 300, 5)
	for name, tt := range map[string]struct {
		tamper []string
		want   string
	}{
		"a gap behind the head":       {[]string{"DELETE FROM audit_records WHERE seq = 301"}, "want the record at place 301, got the one at 302: records are missing"},
		"a gap further on":            {[]string{"DELETE FROM audit_records WHERE seq = 303"}, "want the record at place 303, got the one at 304: records are missing"},
		"a record without a hash":     {[]string{"UPDATE audit_records SET hash = x'' WHERE seq = 302"}, "the record at place 302: want a hash of 32 bytes, got 0"},
		"a hash that is too short":    {[]string{"UPDATE audit_records SET hash = x'0102' WHERE seq = 302", "UPDATE audit_head SET unhashed = 302"}, "the record at place 302: want a hash of 32 bytes, got 2"},
		"another tile":                {[]string{flipTile(0, 1, 3)}, "got"},
		"no tile":                     {[]string{"DELETE FROM audit_tiles WHERE level = 0 AND n = 1"}, "tile 1 of level 0 is missing"},
		"a tile cut":                  {[]string{"UPDATE audit_tiles SET hashes = x'' WHERE level = 0 AND n = 1"}, "tile 1 of level 0: want 44 hashes, got 0 bytes"},
		"a head of another size":      {[]string{"UPDATE audit_head SET size = 299"}, "the signed one is of 300 records, the database says 299"},
		"a head that nobody signed":   {[]string{"UPDATE audit_head SET note = replace(note, '300', '301')"}, "invalid signature"},
		"no head, and a size of some": {[]string{"UPDATE audit_head SET note = ''"}, "reading the head of the audit log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := template.copy(t)
			l.tamper(t, tt.tamper...)
			before := l.query(t, "SELECT size || note FROM audit_head")
			if err := l.tryExtend(t); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Extend = %v, want %q", err, tt.want)
			}
			if after := l.query(t, "SELECT size || note FROM audit_head"); after != before {
				t.Errorf("the head was moved to %s", after)
			}
		})
	}
}

func TestCheckRefuses(t *testing.T) {
	template := newLedger(t, 300, 5)
	if head, err := template.check(t); err != nil || head.Size != 300 {
		t.Fatalf("%+v, %v", head, err)
	}
	for name, tt := range map[string]struct {
		tamper []string
		want   string
	}{
		"cut before the head":                     {[]string{"DELETE FROM audit_records WHERE seq > 299"}, "its head counts 300 records, and the database ends with the one at place 299"},
		"all records gone":                        {[]string{"DELETE FROM audit_records"}, "ends with the one at place 0"},
		"the last one gone, and not those behind": {[]string{"DELETE FROM audit_records WHERE seq = 300"}, "its head counts 300 records, and the database lacks the last of them, and ends with the one at place 305"},
		"the tail counts as pruned":               {[]string{"UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records WHERE seq > 290"}, "all 300 records that its head counts are to be pruned, and no record behind them says so: the database ends with the one at place 290"},
		"all counts as pruned":                    {[]string{"UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records"}, "and no record behind them says so: the database ends with the one at place 0"},
		"the tail counts as pruned up to records behind the head": {[]string{"UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records WHERE seq > 290 AND seq <= 300"},
			"and no record behind them says so: the database ends with the one at place 305"},
		"the tail but the last counts as pruned": {[]string{"UPDATE audit_head SET pruned = 298", "DELETE FROM audit_records WHERE seq > 290 AND seq < 300"},
			"its first 298 records count as pruned, and the database lacks the one behind them, and ends with the one at place 305"},
		"more is gone than counts as pruned": {[]string{"UPDATE audit_head SET pruned = 100", "DELETE FROM audit_records WHERE seq <= 101"}, "its first 100 records count as pruned, and the database lacks the one behind them"},
		"the first one is gone":              {[]string{"DELETE FROM audit_records WHERE seq = 1"}, "its first 0 records count as pruned, and the database lacks the one behind them"},
		"the note of another restore": {[]string{"UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records", "INSERT INTO boot VALUES ('configuration', 'restored', 'size=300 root=' || hex(zeroblob(32)) || ' records=300 pruned=300')"},
			"and no record behind them says so"},
		"the record of another prune": {[]string{"UPDATE audit_records SET action = 'audit.pruned', detail = 'through=3000 exported=x' WHERE seq = 305", "UPDATE audit_head SET pruned = 300", "DELETE FROM audit_records WHERE seq <= 300"},
			"and no record behind them says so"},
		"another tile":          {[]string{flipTile(0, 1, 3)}, "checking the audit log: want the root"},
		"another upper tile":    {[]string{flipTile(1, 0, 0)}, "checking the audit log: want the root"},
		"a head nobody signed":  {[]string{"UPDATE audit_head SET note = replace(note, '300', '301'), size = 301"}, "invalid signature"},
		"a head by another key": {[]string{"UPDATE audit_head SET note = '" + strings.ReplaceAll(headBy(t, otherLog(t)), "'", "''") + "', size = 1"}, "want a signature by " + origin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := template.copy(t)
			l.tamper(t, tt.tamper...)
			if head, err := l.check(t); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Check = %+v, %v, want %q", head, err, tt.want)
			}
		})
	}
	empty := newLedger(t, 0, 3)
	if _, err := empty.check(t); !errors.Is(err, audit.ErrEmpty) {
		t.Errorf("without a head: %v", err)
	}
}

func otherLog(t testing.TB) *audit.Log {
	l, _ := newLog(t)
	return l
}

// A log extends what it was, and neither what it will be nor another.
func TestExtendsRefuses(t *testing.T) {
	one := newLedger(t, 300, 0)
	two := one.copy(t)
	now, err := one.check(t)
	if err != nil {
		t.Fatal(err)
	}
	one.grow(t, 300, 100, true)
	two.grow(t, 301, 100, true)
	first, err1 := one.check(t)
	second, err2 := two.check(t)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	two.with(t, func(s *store.Store) {
		err := s.View(t.Context(), func(tx *sql.Tx) error {
			for _, tt := range []struct {
				seen audit.Checkpoint
				want string
			}{
				{audit.Checkpoint{}, ""},
				{now, ""},
				{second, ""},
				{first, "it was forked"},
				{audit.Checkpoint{Size: 401}, "the log was seen with 401 records, and has 400: it was cut or put back to an earlier copy"},
				{audit.Checkpoint{Size: 200, Root: now.Root}, "it was forked"},
			} {
				err := two.log.Extends(t.Context(), tx, second, tt.seen)
				if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("of %d: %v, want %q", tt.seen.Size, err, tt.want)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// Records from before there was a tree have their leaf all the same.
func TestRecordsFromBeforeTheTree(t *testing.T) {
	l := newLedger(t, 0, 5)
	l.tamper(t, "UPDATE audit_records SET hash = x'', salt = x''", "UPDATE audit_head SET unhashed = 5")
	l.grow(t, 5, 20, true)
	mustBeGood(t, l.verify(t, l.verification(string(l.heads), string(l.anchor))))
	mustBeGood(t, verifyExport(t, l.verification(string(l.anchor)), l.export(t)))
	for _, tt := range []struct {
		statement string
		code      audit.Code
		place     int64
	}{
		{"UPDATE audit_records SET reason = 'x' WHERE seq = 3", audit.RecordChanged, 3},
		{"UPDATE audit_records SET hash = x'00' WHERE seq = 3", audit.HashChanged, 3},
		{"UPDATE audit_records SET salt = x'00' WHERE seq = 3", audit.RecordChanged, 3},
		{"UPDATE audit_records SET hash = x'' WHERE seq = 7", audit.HashChanged, 7},
	} {
		c := l.copy(t)
		c.tamper(t, tt.statement)
		mustFind(t, c.verify(t, c.verification()), tt.code, tt.place)
	}
	raised := l.copy(t) // what hides the hash of a record hides nothing of the record
	raised.tamper(t, "UPDATE audit_head SET unhashed = 25", "UPDATE audit_records SET hash = x'', reason = 'x' WHERE seq = 7")
	mustFind(t, raised.verify(t, raised.verification()), audit.RecordChanged, 7)
}

func TestNewLogRefuses(t *testing.T) {
	signer, verifier, _ := testKey(t, strings.Repeat("11", 32), origin)
	_, other, _ := testKey(t, strings.Repeat("22", 32), origin)
	_, foreign, _ := testKey(t, strings.Repeat("11", 32), "other.example.com/audit")
	for name, tt := range map[string]struct {
		origin    string
		verifiers []note.Verifier
		want      string
	}{
		"no origin":           {"", []note.Verifier{verifier}, "want a key named as its origin"},
		"another origin":      {"other.example.com/audit", []note.Verifier{verifier}, `named as its origin "other.example.com/audit", got "` + origin + `"`},
		"no verifier":         {origin, nil, "want the verifier of its own key"},
		"another key's":       {origin, []note.Verifier{other}, "want the verifier of its own key"},
		"another log's":       {origin, []note.Verifier{verifier, foreign}, "want keys named as its origin"},
		"its own and another": {origin, []note.Verifier{other, verifier}, ""},
	} {
		l, err := audit.NewLog(tt.origin, signer, tt.verifiers...)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) || (l == nil) != (err != nil) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestOpenCheckpointRefuses(t *testing.T) {
	signer, verifier, _ := testKey(t, strings.Repeat("11", 32), origin)
	witnessSigner, _, _ := testKey(t, strings.Repeat("22", 32), "witness.example.com")
	const root = "sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08="
	sign := func(text string, signers ...note.Signer) string {
		signed, err := note.Sign(&note.Note{Text: text}, signers...)
		if err != nil {
			t.Fatal(err)
		}
		return string(signed)
	}
	good := sign(origin+"\n7\n"+root+"\n", signer)
	loose := func(text string) string { // the last bits of a signature's base64 stand for nothing
		at := len(text) - len("x=\n")
		const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
		return text[:at] + string(digits[strings.IndexByte(digits, text[at])^1]) + text[at+1:]
	}
	for name, tt := range map[string]struct{ text, want string }{
		"another spelling":         {loose(good), "illegal base64"},
		"good":                     {good, ""},
		"with a witness":           {sign(origin+"\n7\n"+root+"\n", signer, witnessSigner), ""},
		"another log":              {sign("other.example.com/audit\n7\n"+root+"\n", signer), `want the log "` + origin + `", got "other.example.com/audit"`},
		"a witness alone":          {sign(origin+"\n7\n"+root+"\n", witnessSigner), "want a signature by " + origin},
		"a line more":              {sign(origin+"\n7\n"+root+"\nmore\n", signer), "got 4 lines"},
		"a line less":              {sign(origin+"\n7\n", signer), "got 2 lines"},
		"no origin":                {sign("\n7\n"+root+"\n", signer), "want origin, size and root"},
		"a size with a zero":       {sign(origin+"\n07\n"+root+"\n", signer), "without leading zeros"},
		"a size with a sign":       {sign(origin+"\n+7\n"+root+"\n", signer), "without leading zeros"},
		"a negative size":          {sign(origin+"\n-7\n"+root+"\n", signer), "without leading zeros"},
		"a size too large":         {sign(origin+"\n9223372036854775808\n"+root+"\n", signer), "without leading zeros"},
		"a root too short":         {sign(origin+"\n7\nAAAA\n", signer), "root: want 32 bytes"},
		"a root of other spelling": {sign(origin+"\n7\n"+strings.Replace(root, "8=", "9=", 1)+"\n", signer), "root: want 32 bytes"},
		"another size":             {strings.Replace(good, "\n7\n", "\n8\n", 1), "invalid signature"},
		"text in front":            {"x" + good, "invalid signature"},
		"no note":                  {"x", "malformed note"},
		"nothing":                  {"", "malformed note"},
	} {
		c, err := audit.OpenCheckpoint(tt.text, origin, verifier)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if err == nil && (c.Size != 7 || c.Origin != origin || c.Note != tt.text) {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

func TestParseLineRefuses(t *testing.T) {
	l := newLedger(t, 3, 0)
	good := strings.SplitAfter(string(l.anchor), "\n")[0]
	if line, err := audit.ParseLine([]byte(good)); err != nil || line.Check() != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) string {
		text := strings.Replace(good, old, new, 1)
		if text == good {
			t.Fatalf("there is no %q in %s", old, good)
		}
		return text
	}
	for name, tt := range map[string]struct{ line, want string }{
		"nothing":               {"", "want a line that begins with"},
		"place 0":               {replace(`"place":1`, `"place":0`), "place: want a number from 1"},
		"a negative place":      {replace(`"place":1`, `"place":-1`), "place: want a number from 1"},
		"a place with a zero":   {replace(`"place":1`, `"place":01`), "place: want a number from 1"},
		"a place of words":      {replace(`"place":1`, `"place":"1"`), "place: want a number from 1"},
		"white space":           {replace(`{"place"`, `{ "place"`), "want a line that begins with"},
		"a short hash":          {good[:len(good)-4] + "\"}\n", "hash: want 64"},
		"a hash in capitals":    {replace(good[len(good)-6:], strings.ToUpper("xx")+good[len(good)-4:]), "hash: want 64"},
		"something behind":      {strings.TrimSuffix(good, "\n") + " \n", "hash: want 64"},
		"another leaf":          {replace(`"issued"`, `"refused"`), "want the hash"},
		"another person":        {replace("0x71c7", "0x81c7"), "its personal members have the digest"},
		"a member more":         {replace(`"v":1`, `"v":1,"x":1`), "want the hash"},
		"no salt":               {replace(`"salt":"`, `"sold":"`), "salt: want 32"},
		"a salt too short":      {replace(`"salt":"`, `"salt":"00`), "salt: want 32"},
		"a line of another one": {"{}", "want a line that begins with"},
	} {
		line, err := audit.ParseLine([]byte(tt.line))
		if err == nil {
			err = line.Check()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// The database lets a record be erased once, whole, and nothing else be changed with it.
func TestErasingIsAdmittedOnce(t *testing.T) {
	l := newLedger(t, 20, 0)
	var e audit.Entry
	l.with(t, func(s *store.Store) { e = after(t, s, 9)[0] })
	good := erasing(e)
	for name, statement := range map[string]string{
		"and the outcome":   strings.Replace(good, "SET ", "SET outcome = 'failed', ", 1),
		"and the place":     strings.Replace(good, "SET ", "SET seq = 99, ", 1),
		"and the hash":      strings.Replace(good, "SET ", "SET hash = x'', ", 1),
		"and the time":      strings.Replace(good, "SET ", "SET time = 0, ", 1),
		"but for the salt":  strings.Replace(good, "salt = x'', ", "", 1),
		"but for the agent": strings.Replace(good, "agent = '', ", "", 1),
		"with no digest":    strings.Replace(good, e.Digest().String(), "", 1),
		"with half of one":  strings.Replace(good, e.Digest().String(), e.Digest().String()[:32], 1),
	} {
		if statement == good {
			t.Fatalf("%s: the statement is the good one", name)
		}
		if err := l.exec(t, statement); err == nil || !strings.Contains(err.Error(), "append-only: UPDATE refused") {
			t.Errorf("erased %s: %v", name, err)
		}
	}
	for _, column := range []string{"id", "time", "action", "outcome", "reason", "identity_type", "identity_value", "omni_account", "wallet", "key_id", "token_id", "source",
		"request_id", "tenant", "agent", "service", "scope_path", "grant_id", "credential_id", "settles", "detail", "salt", "hash", "person", "seq"} {
		if err := l.exec(t, fmt.Sprintf("UPDATE audit_records SET %s = 9 WHERE seq = 10", column)); err == nil {
			t.Errorf("the column %s was changed", column)
		}
	}
	if err := l.exec(t, good); err != nil {
		t.Fatal(err)
	}
	if err := l.exec(t, good); err == nil {
		t.Error("a record was erased twice")
	}
	if err := l.exec(t, strings.Replace(good, e.Digest().String(), strings.Repeat("ab", 32), 1)); err == nil {
		t.Error("the digest of an erased record was changed")
	}
	mustFind(t, l.verify(t, l.verification()), audit.EraseUnrecorded, 10)
}

// exec runs a statement as the broker could.
func (l *ledger) exec(t testing.TB, statement string) (err error) {
	t.Helper()
	l.with(t, func(s *store.Store) {
		err = s.Update(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), statement)
			return err
		})
	})
	return err
}

// Records go up to the mark and no further, and there is no mark beyond the tree.
func TestPruningIsAdmittedUpToTheMark(t *testing.T) {
	l := newLedger(t, 20, 5)
	for _, statement := range []string{"DELETE FROM audit_records WHERE seq = 1", "UPDATE audit_head SET pruned = 21", "UPDATE audit_head SET pruned = -1", "DELETE FROM audit_records"} {
		if err := l.exec(t, statement); err == nil {
			t.Errorf("the database let %q run", statement)
		}
	}
	if err := l.exec(t, "UPDATE audit_head SET pruned = 10"); err != nil {
		t.Fatal(err)
	}
	if err := l.exec(t, "DELETE FROM audit_records WHERE seq <= 11"); err == nil {
		t.Error("a record behind the mark was deleted")
	}
	if err := l.exec(t, "DELETE FROM audit_records WHERE seq <= 10"); err != nil {
		t.Error(err)
	}
	if got := l.query(t, "SELECT count(*) || ' ' || min(seq) FROM audit_records"); got != "15 11" {
		t.Errorf("records left: %s", got)
	}
}
