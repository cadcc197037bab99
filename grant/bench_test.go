//go:build linux

package grant

import (
	"database/sql"
	"fmt"
	"syscall"
	"testing"
	"time"

	"agentkeys/store"
)

// Shapes of the table: what is there besides the one grant that a mint uses. The
// hostile ones are all of one daemon on one path. Compare them with "one".
var shapes = []struct {
	name string
	rows int
	// The SQL of members of row n.i.
	owner, tenant, daemon, path, expires, used, revoked, standing string
}{
	{"one", 0, "", "", "", "", "", "", "", ""},
	{"million", 1e6, alicesAccount, alicesWallet, "printf('0x%040x', n.i % 1000)", "'p' || (n.i / 1000)", "$2 + 3600000", "0", "NULL", "2"},
	{"expired", 1e6, alicesAccount, alicesWallet, daemonText, "'reports'", "$2 - n.i", "0", "NULL", "1"},
	{"exhausted", 1e6, alicesAccount, alicesWallet, daemonText, "'reports'", "$2 + 9900000", "3", "NULL", "0"},
	{"revoked", 1e6, alicesAccount, alicesWallet, daemonText, "'reports'", "$2 + 9900000", "0", "$2", "0"},
	{"active", 1e6, alicesAccount, alicesWallet, daemonText, "'reports'", "$2 + 1000 + n.i", "0", "NULL", "1"},
	{"owners", 1e6, "printf('%064x', n.i)", "printf('%064x', n.i)", daemonText, "'reports'", "$2 - n.i", "0", "NULL", "2"},
}

var (
	alicesAccount = "'" + alice.OmniAccount() + "'"
	alicesWallet  = "'" + walletA + "'"
	daemonText    = "'" + daemonD + "'"
)

func BenchmarkGrants(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			s := newStore(b)
			mustRun(b, s, `WITH RECURSIVE n(i) AS (SELECT 1 WHERE $1 > 0 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
				INSERT INTO grants (`+columns+`, standing)
				SELECT printf('grn-%016d', n.i), `+or(shape.owner, "''")+`, `+or(shape.tenant, "''")+`, `+or(shape.daemon, "''")+`, 's3', `+or(shape.path, "''")+`,
				'list,get,put,delete', $2, `+or(shape.expires, "0")+`, 3, `+or(shape.used, "0")+`, `+or(shape.revoked, "NULL")+`, NULL, '', `+or(shape.standing, "0")+` FROM n`,
				shape.rows, noon.UnixMilli())
			g := add(b, s, alice, until(noon.Add(time.Hour)), uses(MaxUses))
			unnamed := "" // what Find says
			if shape.name == "owners" {
				unnamed = CodeAmbiguous
			}
			benchmark(b, s, g, unnamed)
		})
	}
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func benchmark(b *testing.B, s *store.Store, g Grant, unnamed string) {
	in := func(name string, run func(tx *sql.Tx) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			err := s.Update(b.Context(), func(tx *sql.Tx) error {
				before := cpu(b)
				for b.Loop() {
					if err := run(tx); err != nil {
						return err
					}
				}
				b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/op")
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
	request := asking("reports/2026")
	in("FindUnnamed", func(tx *sql.Tx) error {
		if _, err := Find(b.Context(), tx, request, noon); codeOf(err) != unnamed {
			return fmt.Errorf("finding an unnamed grant: %v, want code %q", err, unnamed)
		}
		return nil
	})
	in("FindNamed", func(tx *sql.Tx) error { _, err := Find(b.Context(), tx, named(request, g.ID), noon); return err })
	in("FindNone", func(tx *sql.Tx) error {
		if _, err := Find(b.Context(), tx, request, noon.Add(99*24*time.Hour)); codeOf(err) != CodeExpired {
			return err
		}
		return nil
	})
	in("Use", func(tx *sql.Tx) error { return Use(b.Context(), tx, g, "01ARZ3NDEKTSV4RRFFQ69G5FAV", noon) })
	in("ListPage", func(tx *sql.Tx) error {
		_, err := List(b.Context(), tx, Query{Owner: g.Owner, Daemon: walletA, Limit: 20})
		return err
	})
	in("ListOne", func(tx *sql.Tx) error {
		_, err := List(b.Context(), tx, Query{Owner: g.Owner, Daemon: daemonD, ID: g.ID})
		return err
	})
	in("InsertThenRevoke", func(tx *sql.Tx) error { return insertThenRevoke(b, tx) })
	in("InsertThenUseUp", func(tx *sql.Tx) error {
		g, err := New(alice, terms(uses(1)), longestLife, noon)
		if err == nil {
			err = Insert(b.Context(), tx, g)
		}
		if err == nil {
			err = Use(b.Context(), tx, g, "01ARZ3NDEKTSV4RRFFQ69G5FAV", noon)
		}
		return err
	})
}

// cpu is the time that the process has computed, which a busy machine changes less
// than the clock.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func insertThenRevoke(b *testing.B, tx *sql.Tx) error {
	g, err := New(alice, terms(until(end.Add(time.Hour))), longestLife, noon)
	if err == nil {
		err = Insert(b.Context(), tx, g)
	}
	if err == nil {
		_, _, err = Revoke(b.Context(), tx, g.Owner, g.ID, noon)
	}
	return err
}

// Reading and parsing a path, and compiling a policy.
func BenchmarkSessionPolicy(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		p, err := ParsePath("reports/2026")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := SessionPolicy(Target{"aws", "agentkeys-test", "bots"}, walletA, p, AllActions(), end); err != nil {
			b.Fatal(err)
		}
	}
}
