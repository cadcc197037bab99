package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/mod/sumdb/note"

	"agentkeys/audit"
	"agentkeys/store"
)

// The log that is measured: so many records of mints of AWS credentials.
const (
	auditOrigin  = "broker.example.com/audit"
	auditRecords = 100_000
	auditBatch   = 1000 // records that get their place under one head
)

// auditRecord is one of a mint of AWS credentials: an intent, or its outcome.
func auditRecord(n int, intent string) audit.Record {
	r := audit.Record{Time: time.Now(), Action: audit.ActionMintAWS, Outcome: audit.Pending, IdentityType: "evm", IdentityValue: tenantA,
		OmniAccount: fmt.Sprintf("%x", sha256.Sum256([]byte(tenantA))), Wallet: tenantA, KeyID: "ak-oidc-n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
		TokenID: fmt.Sprintf("%026d", n), Source: "2001:db8::1", RequestID: fmt.Sprintf("%026d", n), Tenant: tenantA, Agent: "nightly report",
		Service: "s3", ScopePath: "reports/2026", GrantID: "grn-ABCDEFGHIJKLMNOP"}
	if intent != "" {
		r.Outcome, r.Settles, r.CredentialID = audit.Confirmed, intent, "ASIAIOSFODNN7EXAMPLE"
	}
	return r
}

// measureAudit says what the audit log's tree adds to a record and how fast a log is
// verified, beside SHA-256 over the bytes of one record.
func measureAudit(ctx context.Context, w io.Writer) error {
	dir, err := os.MkdirTemp("", "agentkeys-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, verifier, err := auditLog()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "agentkeys.db")
	if err := store.Create(ctx, path); err != nil {
		return err
	}
	s, err := store.Open(ctx, path)
	if err != nil {
		return err
	}
	defer s.Close()
	placing, err := fillLog(ctx, s, l)
	if err != nil {
		return err
	}
	limit, digests := auditLimit()
	fmt.Fprintf(w, "\naudit log of %d records of mints of AWS credentials; limit: SHA-256 over the bytes of one, %.2f µs\n", auditRecords, micros(limit))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, each time.Duration, rate string) {
		fmt.Fprintf(tw, "%s\t%.1f µs CPU a record\t%.1f× the limit\t%s\t\n", what, micros(each), float64(each)/float64(limit), rate)
	}
	row("a record's digests", digests, "")
	row(fmt.Sprintf("its place in the tree, %d under one head", auditBatch), placing, "")
	if err := measureVerification(ctx, s, l, verifier, row); err != nil {
		return err
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return measureBoot(ctx, w, s, l)
}

func auditLog() (*audit.Log, note.Verifier, error) {
	private, public, err := note.GenerateKey(rand.Reader, auditOrigin)
	if err != nil {
		return nil, nil, err
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, nil, err
	}
	l, err := audit.NewLog(auditOrigin, signer, verifier)
	return l, verifier, err
}

// auditLimit is what SHA-256 over a record's texts costs, and what its digests do.
func auditLimit() (limit, digests time.Duration) {
	r := auditRecord(1, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
	r.ID = "01ARZ3NDEKTSV4RRFFQ69G5FAW"
	salt := make([]byte, audit.SaltSize)
	person, leaf := append(bytes.Clone(salt), r.PersonText()...), append([]byte{0}, r.Leaf(audit.Digest{})...)
	limit = eachCPU(func() { sha256.Sum256(person); sha256.Sum256(leaf) })
	digests = eachCPU(func() { r.LeafHash(r.PersonDigest(salt)) })
	return limit, digests
}

// eachCPU is the CPU time of a call.
func eachCPU(f func()) time.Duration {
	const calls = 200_000
	before := cpuTime()
	for range calls {
		f()
	}
	return (cpuTime() - before) / calls
}

// fillLog appends the records and gives them their places, and returns the CPU time
// that the latter costs a record.
func fillLog(ctx context.Context, s *store.Store, l *audit.Log) (each time.Duration, err error) {
	var spent time.Duration
	intent := ""
	for n := 0; n < auditRecords; n += auditBatch {
		err := s.Update(ctx, func(tx *sql.Tx) error {
			for i := range auditBatch {
				r := auditRecord(n+i, intent)
				if err := audit.Append(ctx, tx, &r); err != nil {
					return err
				}
				if intent == "" {
					intent = r.ID
				} else {
					intent = ""
				}
			}
			before := cpuTime()
			_, _, err := l.Extend(ctx, tx, auditBatch)
			spent += cpuTime() - before
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return spent / auditRecords, nil
}

// cpuTime is what this process has used of the cores.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// measureVerification verifies the database, and then an export of it.
func measureVerification(ctx context.Context, s *store.Store, l *audit.Log, verifier note.Verifier, row func(string, time.Duration, string)) error {
	verification := func() *audit.Verification {
		return &audit.Verification{Origin: auditOrigin, Verifiers: []note.Verifier{verifier}}
	}
	export, err := auditExport(ctx, s, l)
	if err != nil {
		return err
	}
	for _, m := range []struct {
		what   string
		verify func() (*audit.Report, error)
	}{
		{"verify the database", func() (*audit.Report, error) { return verification().Database(ctx, s.View) }},
		{"verify an export", func() (*audit.Report, error) {
			return verification().Export(ctx, bytes.NewReader(export), int64(len(export)), "")
		}},
	} {
		begin, before := time.Now(), cpuTime()
		report, err := m.verify()
		if err != nil {
			return err
		}
		took, spent := time.Since(begin), cpuTime()-before
		if report.Integrity != audit.Intact || report.Completeness != audit.Complete || report.Records != auditRecords {
			return fmt.Errorf("verifying a log of %d records: %s, %s, %d records, %+v", auditRecords, report.Integrity, report.Completeness, report.Records, report.Findings)
		}
		row(m.what, spent/auditRecords, fmt.Sprintf("%.0f records/s", auditRecords/took.Seconds()))
	}
	return nil
}

func auditExport(ctx context.Context, s *store.Store, l *audit.Log) (text []byte, err error) {
	err = s.View(ctx, func(tx *sql.Tx) error {
		head, err := l.Head(ctx, tx)
		if err != nil {
			return err
		}
		for at := int64(0); at < head.Size; {
			page, err := audit.After(ctx, tx, at, 1000)
			if err != nil {
				return err
			}
			for _, e := range page {
				text = append(text, e.Line()...)
			}
			at += int64(len(page))
		}
		quoted, err := json.Marshal(head.Note)
		text = fmt.Appendf(text, "{\"checkpoint\":%s}\n", quoted)
		return err
	})
	return text, err
}

// measureBoot is what a broker looks at before it serves, which grows with the
// logarithm of the log alone.
func measureBoot(ctx context.Context, w io.Writer, s *store.Store, l *audit.Log) error {
	return s.View(ctx, func(tx *sql.Tx) error {
		begin := time.Now()
		if _, err := l.Check(ctx, tx); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "check at boot: %v\n", time.Since(begin).Round(10*time.Microsecond))
		return err
	})
}
