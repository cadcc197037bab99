//go:build linux

package store

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agentkeys/audit"
)

// One audit record per update, as every mint leaves one. Beside it, in the same
// run: appending as many bytes and flushing them, and a commit per row. The
// machine's speed moves; the ratios are what to compare.

func BenchmarkUpdate1(b *testing.B)  { benchmarkUpdate(b, 1) }
func BenchmarkUpdate16(b *testing.B) { benchmarkUpdate(b, 16) }
func BenchmarkUpdate64(b *testing.B) { benchmarkUpdate(b, 64) }

func benchmarkUpdate(b *testing.B, callers int) {
	flush := timeFlush(b)
	single := timeCommitPerRow(b)
	s, _ := newStore(b)
	before := cpu(b)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				if err := appendRecord(b.Context(), s); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	each := b.Elapsed() / time.Duration(b.N)
	stats := s.Stats()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(stats.Commits)/float64(stats.Updates), "commits/op")
	b.ReportMetric(float64(each)/float64(flush), "of-append+fdatasync")
	b.ReportMetric(float64(each)/float64(single), "of-commit-per-row")
}

func record() *audit.Record {
	return &audit.Record{
		Time: time.Now(), Action: "mint.oidc_jwt", Outcome: "issued",
		IdentityType: "evm", IdentityValue: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f",
		OmniAccount: "9b2c1d4e5f60718293a4b5c6d7e8f9000112233445566778899aabbccddeeff0",
		Wallet:      "0x71c7656ec7ab88b098defb751b7401b5f6d8976f",
		KeyID:       "ak-oidc-n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg", TokenID: "PUR4ITQXX7LWQYDNM3QRCKAZBM",
		Source: "127.0.0.1", RequestID: "req-PUR4ITQXX7LWQYDNM3QRCKAZBM",
	}
}

func appendRecord(ctx context.Context, s *Store) error {
	return s.Update(ctx, func(tx *sql.Tx) error { return audit.Append(ctx, tx, record()) })
}

// timeFlush is what a bare append of 256 bytes and its flush take.
func timeFlush(b *testing.B) time.Duration {
	const n = 200
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	line := make([]byte, 256)
	start := time.Now()
	for range n {
		if _, err := f.Write(line); err != nil {
			b.Fatal(err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / n
}

// timeCommitPerRow is what the same row takes in a transaction of its own.
func timeCommitPerRow(b *testing.B) time.Duration {
	const n = 200
	_, path := newStore(b)
	db, err := openPlain(path, writerSettings)
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	start := time.Now()
	for range n {
		if err := commitRecord(b.Context(), db); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(start) / n
}

func commitRecord(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := audit.Append(ctx, tx, record()); err != nil {
		return err
	}
	return tx.Commit()
}

func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkOpen is what a cold start spends on an existing database.
func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "agentkeys.db")
	if err := Create(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkView(b *testing.B) {
	s, _ := newStore(b)
	b.ReportAllocs()
	for b.Loop() {
		err := s.View(b.Context(), func(tx *sql.Tx) error {
			var n int
			return tx.QueryRowContext(b.Context(), "SELECT count(*) FROM accounts WHERE omni_account = $1", "a").Scan(&n)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
