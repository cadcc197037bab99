//go:build linux

package broker_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"agentkeys/agentkeystest"
	"agentkeys/api"
	"agentkeys/audit"
	"agentkeys/auth"
	"agentkeys/broker"
	"agentkeys/grant"
	"agentkeys/identity"
	"agentkeys/token"
)

// The handlers with their records, without the HTTP server and without AWS: what a
// mint of AWS credentials costs beside a bare one is the difference of cpu-µs/op,
// less that of BenchmarkRecover. Run them in one run:
//
//	go test ./broker -run '^$' -bench 'Mint|Recover' -benchtime 20000x
//
// With -cpu 1,16,64 the group commit shares the flushes.

func BenchmarkMint(b *testing.B) {
	k := agentkeystest.New(b, unbudgeted)
	_, session := k.SignIn(b)
	run(b, k, func(int) *http.Request {
		r := httptest.NewRequest(http.MethodPost, api.PathMintOIDC, nil)
		r.Header.Set("Authorization", "Bearer "+session.SessionJWT)
		return r
	})
}

// unbudgeted has budgets that no run of these spends.
func unbudgeted(c *broker.Config) {
	c.Budgets = broker.Budgets{PerAccount: 1_000_000, PerGrant: 1_000_000, PerNetwork: 1_000_000}
}

func BenchmarkMintAWS(b *testing.B)              { benchmarkAWS(b, 0) }
func BenchmarkMintAWSMillionGrants(b *testing.B) { benchmarkAWS(b, 1_000_000) }

// benchmarkAWS mints under a grant, each call with an Idempotency-Key, among others'
// grants and as many of the same daemon.
func benchmarkAWS(b *testing.B, grants int) {
	k := agentkeystest.New(b, func(c *broker.Config) {
		c.AWS = &broker.AWS{RoleARN: agentkeystest.RoleARN, Session: 15 * time.Minute,
			Target: grant.Target{Partition: "aws", Bucket: agentkeystest.Bucket, Prefix: agentkeystest.Prefix},
			AssumeRole: func(context.Context, broker.AssumeRole) (broker.Credentials, error) {
				return broker.Credentials{AccessKeyID: "ASIAEXAMPLEEXAMPLE00", SecretAccessKey: token.NewSecret(strings.Repeat("s", 40)),
					SessionToken: token.NewSecret(strings.Repeat("t", 900)), ExpiresAt: time.Now().Add(time.Hour)}, nil
			},
			Explain: func(broker.AssumeRole, *broker.STSError, time.Time) string { return "" },
		}
		unbudgeted(c)
		mint := c.Mint
		c.AWS.Token = func(_, tenant, id string, now time.Time) (token.Secret, token.WebIdentity, error) {
			jwt, minted, err := mint(tenant, now) // the same signature as a bare mint's
			minted.ID = id
			return jwt, minted, err
		}
	})
	owner, daemon := k.Party(b), k.Party(b)
	g := k.Grant(b, owner, daemon, "reports", func(r *api.GrantCreateRequest) { r.MaxUses = grant.MaxUses })
	fill(b, k, daemon, grants)
	calls := make([][]byte, b.N)
	for i := range calls {
		c := k.NewCall(daemon, "reports")
		c.Intent.GrantID = g.GrantID
		var err error
		if calls[i], err = json.Marshal(c.Sign(b).MintAWSRequest); err != nil {
			b.Fatal(err)
		}
	}
	run(b, k, func(i int) *http.Request {
		r := httptest.NewRequest(http.MethodPost, api.PathMintAWS, bytes.NewReader(calls[i]))
		r.Header.Set("Authorization", "Bearer "+daemon.Session.SessionJWT)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", fmt.Sprint("key-", i))
		return r
	})
}

// fill adds grants of as many owners, every tenth of them to the daemon.
func fill(b *testing.B, k *agentkeystest.Broker, daemon agentkeystest.Party, n int) {
	const batch = 10_000
	now := k.Clock.Now()
	for from := 0; from < n; from += batch {
		err := k.Store.Update(b.Context(), func(tx *sql.Tx) error {
			for i := from; i < min(n, from+batch); i++ {
				owner := identity.Identity{Type: identity.EVM, Value: fmt.Sprintf("0x%040x", i)}
				to := fmt.Sprintf("0x%040x", i+n)
				if i%10 == 0 {
					to = daemon.Address()
				}
				g, err := grant.New(owner, grant.Terms{Daemon: to, Service: grant.S3, Path: fmt.Sprint("p", i%100), ExpiresAt: now.Add(time.Hour), MaxUses: 10}, 24*time.Hour, now)
				if err != nil {
					return err
				}
				if err := grant.Insert(b.Context(), tx, g); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// run serves b.N requests in parallel and reports the CPU time and the commits of
// each.
func run(b *testing.B, k *agentkeystest.Broker, request func(i int) *http.Request) {
	var next atomic.Int64
	stats, before := k.Store.Stats(), cpuTime(b)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w := httptest.NewRecorder()
			k.Broker.ServeHTTP(w, request(int(next.Add(1)-1)))
			if w.Code != http.StatusOK {
				b.Errorf("%d %s", w.Code, w.Body)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(k.Store.Stats().Commits-stats.Commits)/float64(b.N), "commits/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkRecover is the part of a signed call that is the signature's.
func BenchmarkRecover(b *testing.B) {
	w := agentkeystest.New(b).Party(b)
	text := strings.Repeat("x", 400)
	signature := w.SignMessage(text)
	for b.Loop() {
		if _, err := auth.RecoverAddress(text, signature); err != nil {
			b.Fatal(err)
		}
	}
}

// What the tree costs a record: its place and its share of a signed head, a thousand
// records at a time. cpu-µs/record is, writing the records not counted.
func BenchmarkExtend(b *testing.B) {
	const many = 1000
	k := agentkeystest.New(b)
	var used time.Duration
	for b.Loop() {
		must(b, k.Store.Update(b.Context(), func(tx *sql.Tx) error {
			for range many {
				err := audit.Append(b.Context(), tx, &audit.Record{Time: k.Clock.Now(), Action: "bench", Outcome: audit.Confirmed, RequestID: "r"})
				if err != nil {
					return err
				}
			}
			return nil
		}))
		before := cpuTime(b)
		k.Head(b)
		used += cpuTime(b) - before
	}
	b.ReportMetric(float64(used.Microseconds())/float64(b.N*many), "cpu-µs/record")
}
