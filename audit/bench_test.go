package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"agentkeys/store"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	_ "modernc.org/sqlite"
)

const benchOrigin = "broker.example.com/audit"

// benchRecords is how long a log the benchmarks verify: AUDIT_BENCH_RECORDS, or fewer
// than a real one has, so that they end soon.
func benchRecords(b testing.TB) int {
	text := os.Getenv("AUDIT_BENCH_RECORDS")
	if text == "" {
		return 200_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatalf("AUDIT_BENCH_RECORDS: %v", err)
	}
	return n
}

// benchRecord is one of a mint of AWS credentials, whose records are the longest: an
// intent, then its outcome.
func benchRecord(n int, intent string) Record {
	r := Record{Time: time.UnixMilli(1_900_000_000_000 + int64(n)*37), Action: "mint.aws_credentials", Outcome: Pending,
		IdentityType: "evm", IdentityValue: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f", OmniAccount: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Wallet: "0x71c7656ec7ab88b098defb751b7401b5f6d8976f", KeyID: "ak-oidc-n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg", TokenID: fmt.Sprintf("ABCDEFGHIJKLMNOPQR%08d", n),
		Source: "2001:db8::1", RequestID: fmt.Sprintf("ABCDEFGHIJKLMNOPQR%08d", n), Tenant: "0x52908400098527886e0f7030069857d2e4169ee7", Agent: "nightly report",
		Service: "s3", ScopePath: "reports/2026", GrantID: "grn-ABCDEFGHIJKLMNOP"}
	if intent != "" {
		r.Outcome, r.Settles, r.CredentialID = Confirmed, intent, "ASIAIOSFODNN7EXAMPLE"
	}
	return r
}

func benchLog(b testing.TB) (*Log, note.Verifier) {
	b.Helper()
	private, public, err := note.GenerateKey(rand.Reader, benchOrigin)
	if err != nil {
		b.Fatal(err)
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		b.Fatal(err)
	}
	l, err := NewLog(benchOrigin, signer, verifier)
	if err != nil {
		b.Fatal(err)
	}
	return l, verifier
}

// generate makes a database with a log of n records, as the broker would have written
// it, in one transaction and without a flush to disk.
func generate(b testing.TB, n int) (*store.Store, *Log, note.Verifier) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "agentkeys.db")
	if err := store.Create(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	l, verifier := benchLog(b)
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(0)&_pragma=cache_size(-262144)&_pragma=wal_autocheckpoint(100000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	if err := bulk(b.Context(), db, l, n); err != nil {
		b.Fatal(err)
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	s, err := store.Open(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return s, l, verifier
}

const insertRecord = `INSERT INTO audit_records (` + columns + `, salt, hash)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23)`

func bulk(ctx context.Context, db *sql.DB, l *Log, n int) error {
	const batch = 100_000
	intent := ""
	for done := 0; done < n; {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		insert, err := tx.PrepareContext(ctx, insertRecord)
		if err != nil {
			return err
		}
		for range min(batch, n-done) {
			r := benchRecord(done, intent)
			if err := r.Name(); err != nil {
				return err
			}
			salt, hash := r.seal()
			args := []any{r.ID, r.Time.UnixMilli()}
			var millis int64
			for _, of := range r.fields(&millis)[2:] {
				args = append(args, *of.(*string))
			}
			if _, err := insert.ExecContext(ctx, append(args, salt, hash[:])...); err != nil {
				return err
			}
			if intent != "" {
				intent = ""
			} else {
				intent = r.ID
			}
			done++
		}
		if _, _, err := l.Extend(ctx, tx, batch); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func benchVerification(verifier note.Verifier, n int) *Verification {
	return &Verification{Origin: benchOrigin, Verifiers: []note.Verifier{verifier}, Now: benchRecord(n, "").Time}
}

// perRecord reports the rate, and the CPU time that a record costs, which other work on
// the machine changes less.
func perRecord(b *testing.B, n int, before time.Duration) {
	records := float64(n) * float64(b.N)
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(cpu(b)-before)/records, "cpu-ns/record")
}

// cpu is the time that this process has spent on a core.
func cpu(b testing.TB) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkVerifyDatabase(b *testing.B) {
	n := benchRecords(b)
	s, _, verifier := generate(b, n)
	before := cpu(b)
	for b.Loop() {
		report, err := benchVerification(verifier, n).Database(b.Context(), s.View)
		if err != nil || report.Integrity != Intact || report.Completeness != Complete || report.Records != int64(n) {
			b.Fatalf("%+v, %v", report, err)
		}
	}
	perRecord(b, n, before)
}

func BenchmarkVerifyExport(b *testing.B) {
	n := benchRecords(b)
	s, l, verifier := generate(b, n)
	f, size := exportTo(b, s, l)
	before := cpu(b)
	for b.Loop() {
		report, err := benchVerification(verifier, n).Export(b.Context(), f, size, "")
		if err != nil || report.Integrity != Intact || report.Completeness != Complete || report.Records != int64(n) {
			b.Fatalf("%+v, %v", report, err)
		}
	}
	perRecord(b, n, before)
}

func exportTo(b testing.TB, s *store.Store, l *Log) (io.ReaderAt, int64) {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "export"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = f.Close() })
	err = s.View(b.Context(), func(tx *sql.Tx) error {
		head, err := l.Head(b.Context(), tx)
		if err != nil {
			return err
		}
		for at := int64(0); at < head.Size; {
			page, err := After(b.Context(), tx, at, 10_000)
			if err != nil {
				return err
			}
			for _, e := range page {
				if _, err := f.Write(e.Line()); err != nil {
					return err
				}
			}
			at = page[len(page)-1].Seq
		}
		_, err = f.Write(append(appendText([]byte(`{"checkpoint":`), head.Note), "}\n"...))
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return f, info.Size()
}

// What a broker does at boot, with ten million records. The tiles are real, of leaves
// that are random; of the records the last one alone is there, and the others count as
// pruned, which Check does not look at.
func BenchmarkCheck(b *testing.B) {
	const size = 10_000_000
	s, l, _ := generate(b, 0)
	head := Checkpoint{Origin: benchOrigin, Size: size}
	err := s.Update(b.Context(), func(tx *sql.Tx) error {
		e, keep := &edge{}, saveTile(b.Context(), tx)
		for i := range size {
			if err := e.add(sha256.Sum256(strconv.AppendInt(nil, int64(i), 10)), keep); err != nil {
				return err
			}
		}
		if err := e.flush(keep); err != nil {
			return err
		}
		head.Root = e.root()
		if err := head.sign(l.signer); err != nil {
			return err
		}
		if _, err := tx.ExecContext(b.Context(), "UPDATE audit_head SET size = $1, note = $2, pruned = $1 - 1", head.Size, head.Note); err != nil {
			return err
		}
		r := benchRecord(0, "")
		r.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
		_, err := tx.ExecContext(b.Context(), `INSERT INTO audit_records (seq, id, time, action, outcome, reason, identity_type, identity_value, omni_account, wallet,
			key_id, token_id, source, request_id) VALUES ($1, $2, 0, 'x', 'y', '', '', '', '', '', '', '', '', '')`, size, r.ID)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	seen := Checkpoint{Size: size - 1_234_567}
	err = s.View(b.Context(), func(tx *sql.Tx) error {
		root, err := tlog.TreeHash(seen.Size, hashes(b.Context(), tx, head))
		seen.Root = Digest(root)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		err := s.View(b.Context(), func(tx *sql.Tx) error {
			head, err := l.Check(b.Context(), tx)
			if err != nil {
				return err
			}
			return l.Extends(b.Context(), tx, head, seen)
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// What the tree adds to a record: its salt, its digests and its share of Extend. The
// limit beside it is SHA-256 over as many bytes.
func BenchmarkSeal(b *testing.B) {
	r := benchRecord(1, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	r.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAW"
	for b.Loop() {
		r.seal()
	}
}

func BenchmarkSealLimit(b *testing.B) {
	r := benchRecord(1, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	r.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAW"
	person, leaf := append(make([]byte, SaltSize), r.PersonText()...), append([]byte{leafPrefix}, r.Leaf(Digest{})...)
	for b.Loop() {
		sha256.Sum256(person)
		sha256.Sum256(leaf)
	}
}

// BenchmarkExtend is of a head for so many records, as the broker signs one a second.
func BenchmarkExtend(b *testing.B) {
	for _, records := range []int{1, 100, 1000} {
		b.Run(strconv.Itoa(records), func(b *testing.B) {
			s, l, _ := generate(b, 70_000)
			err := s.Update(b.Context(), func(tx *sql.Tx) error {
				for b.Loop() {
					b.StopTimer()
					for i := range records {
						r := benchRecord(i, "")
						if err := Append(b.Context(), tx, &r); err != nil {
							return err
						}
					}
					b.StartTimer()
					if _, _, err := l.Extend(b.Context(), tx, records); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
		})
	}
}

func BenchmarkSignature(b *testing.B) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	text := []byte(Checkpoint{Origin: benchOrigin, Size: 1}.text())
	for b.Loop() {
		ed25519.Sign(key, text)
	}
}
