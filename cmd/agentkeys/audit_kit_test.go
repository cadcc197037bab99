package main

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentkeys/audit"
	"agentkeys/store"
	"agentkeys/token"
)

// testLog is an audit log in a data folder, with what a broker has beside it.
type testLog struct {
	dir  string
	vkey string
	log  *audit.Log
	db   *store.Store // open for writing, as a running broker has it; nil while closed
}

const testIssuer = "https://broker.example.com"

// newTestLog makes the folder as init does.
func newTestLog(t testing.TB) *testLog {
	t.Helper()
	key, err := token.GenerateAuditKey()
	if err != nil {
		t.Fatal(err)
	}
	return newTestLogOf(t, key)
}

// newTestLogOf is newTestLog with a key that is there.
func newTestLogOf(t testing.TB, key *token.AuditKey) *testLog {
	t.Helper()
	l := &testLog{dir: t.TempDir()}
	if err := store.Create(t.Context(), filepath.Join(l.dir, databaseFile)); err != nil {
		t.Fatal(err)
	}
	origin, err := token.AuditOrigin(testIssuer)
	if err != nil {
		t.Fatal(err)
	}
	if l.vkey, err = key.Verifier(origin); err != nil {
		t.Fatal(err)
	}
	if l.log, err = auditLogOf(key, origin); err != nil {
		t.Fatal(err)
	}
	l.open(t)
	t.Cleanup(func() { l.close(t) })
	return l
}

func (l *testLog) open(t testing.TB) {
	t.Helper()
	var err error
	if l.db, err = store.Open(context.Background(), filepath.Join(l.dir, databaseFile)); err != nil {
		t.Fatal(err)
	}
}

func (l *testLog) close(t testing.TB) {
	t.Helper()
	if l.db == nil {
		return
	}
	if err := l.db.Close(); err != nil {
		t.Error(err)
	}
	l.db = nil
}

// testTime is when the records of tests begin, a second apart.
var testTime = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

// testWallet is one that records name.
const testWallet = "0x71c7656ec7ab88b098defb751b7401b5f6d8976f"

// testRecord is a mint of AWS credentials under a grant, as it is confirmed.
func testRecord(n int) audit.Record {
	return audit.Record{
		Time: testTime.Add(time.Duration(n) * time.Second), Action: "mint.aws_credentials", Outcome: audit.Confirmed,
		IdentityType: "evm", IdentityValue: testWallet, OmniAccount: strings.Repeat("9b", 32), Wallet: testWallet,
		KeyID: "ak-oidc-n4bQ", TokenID: fmt.Sprintf("JTI%023d", n), Source: "2001:db8::1", RequestID: fmt.Sprintf("req-%d", n),
		Tenant: "0x52908400098527886e0f7030069857d2e4169ee7", Agent: "nightly", Service: "s3", ScopePath: "reports/2026",
		GrantID: "grn-ABCDEFGHIJKLMNOP", CredentialID: fmt.Sprintf("ASIA%016d", n),
	}
}

func (l *testLog) append(t testing.TB, records ...audit.Record) []audit.Record {
	t.Helper()
	err := l.db.Update(context.Background(), func(tx *sql.Tx) error {
		for i := range records {
			if err := audit.Append(context.Background(), tx, &records[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// fill appends n records and gives them their place in the tree.
func (l *testLog) fill(t testing.TB, n int) audit.Checkpoint {
	t.Helper()
	records := make([]audit.Record, n)
	for i := range records {
		records[i] = testRecord(i)
	}
	l.append(t, records...)
	return l.extend(t)
}

func (l *testLog) extend(t testing.TB) (head audit.Checkpoint) {
	t.Helper()
	for more := true; more; {
		err := l.db.Update(context.Background(), func(tx *sql.Tx) (err error) {
			head, more, err = l.log.Extend(context.Background(), tx, 1000)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return head
}

// lines are the log's records as an anchor's file has them.
func (l *testLog) lines(t testing.TB) (text []byte) {
	t.Helper()
	err := l.db.View(context.Background(), func(tx *sql.Tx) error {
		found, err := audit.After(context.Background(), tx, 0, 1_000_000)
		for _, e := range found {
			text = append(text, e.Line()...)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// ran is what a command printed and how it ended.
type ran struct {
	status         int
	stdout, stderr string
}

// agentkeys runs a command of the program.
func agentkeys(t testing.TB, args ...string) ran {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), args, nil, &stdout, &stderr)
	return ran{status, stdout.String(), stderr.String()}
}

// audit runs a command about this log.
func (l *testLog) audit(t testing.TB, verb string, args ...string) ran {
	t.Helper()
	return agentkeys(t, append([]string{"audit", verb, "--data-dir", l.dir}, args...)...)
}

// must fails the test unless the command ended well.
func (r ran) must(t testing.TB) ran {
	t.Helper()
	if r.status != exitOK {
		t.Fatalf("exit status %d\n%s%s", r.status, r.stdout, r.stderr)
	}
	return r
}

// refused fails the test unless the command ended with the status and the words, and
// printed nothing else.
func (r ran) refused(t testing.TB, status int, words ...string) {
	t.Helper()
	if r.status != status || r.stdout != "" {
		t.Errorf("exit status %d, want %d and nothing printed\n%s%s", r.status, status, r.stdout, r.stderr)
	}
	for _, w := range words {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("printed\n%swant %q in it", r.stderr, w)
		}
	}
}
