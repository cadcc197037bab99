//go:build linux

package broker_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
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

// The handlers with their records, without the HTTP server and without AWS. With
// -cpu 1,16,64 the group commit shares the flushes.
//
//	go test ./broker -run '^$' -bench 'Mint' -benchtime 20000x

func BenchmarkMint(b *testing.B) {
	x := newAWSBench(b, 0)
	run(b, x.Broker, x.bare(b.N))
}

// unbudgeted has budgets that no run of these spends.
func unbudgeted(c *broker.Config) {
	c.Budgets = broker.Budgets{PerAccount: 1_000_000, PerGrant: 1_000_000, PerNetwork: 1_000_000}
}

func BenchmarkMintAWS(b *testing.B) {
	x := newAWSBench(b, 0)
	run(b, x.Broker, x.sign(b, b.N))
}

// What a million grants change of a mint, by turns as below. of-alone is the share of
// what one costs whose grant is the only one; it is to be below 1.1.
//
//	go test ./broker -run '^$' -bench MintAWSMillionGrants -benchtime 12x
func BenchmarkMintAWSMillionGrants(b *testing.B) {
	const mints = 2048
	alone, among := newAWSBench(b, 0), newAWSBench(b, 1_000_000)
	cost := func(x *awsBench) float64 {
		request := x.sign(b, mints)
		return usedBy(b, mints, func(i int) { serve(b, x.Broker, request(i)) })
	}
	var share []float64
	for b.Loop() {
		first, then := cost(alone), cost(among)
		share = append(share, then/first)
	}
	b.ReportMetric(median(share), "of-alone")
}

// What a mint of AWS credentials costs beside a bare one, the recovery of its signature
// aside. The three are done by turns, so that a machine that others slow down slows all
// of them, and what is told is the median of the rounds:
//
//	go test ./broker -run '^$' -bench MintAWSOverBare -benchtime 12x
//
// of-aim is the share of the aim, 150 µs where a recovery takes 154.
func BenchmarkMintAWSOverBare(b *testing.B) {
	const mints = 2048
	x := newAWSBench(b, 0)
	text := strings.Repeat("x", 400)
	signature := x.daemon.SignMessage(text)
	var over, share []float64
	for b.Loop() {
		request, plainRequest := x.sign(b, mints), x.bare(mints)
		aws := usedBy(b, mints, func(i int) { serve(b, x.Broker, request(i)) })
		plain := usedBy(b, mints, func(i int) { serve(b, x.Broker, plainRequest(i)) })
		recovery := usedBy(b, mints, func(int) {
			if _, err := auth.RecoverAddress(text, signature); err != nil {
				b.Error(err)
			}
		})
		over = append(over, aws-plain-recovery)
		share = append(share, (aws-plain-recovery)/recovery/(150./154))
	}
	b.ReportMetric(median(over), "cpu-µs/mint")
	b.ReportMetric(median(share), "of-aim")
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// usedBy is the CPU time of one call in microseconds, with as many callers as run has.
func usedBy(b *testing.B, n int, call func(i int)) float64 {
	var next atomic.Int64
	var callers sync.WaitGroup
	runtime.GC() // of what was made before
	before := cpuTime(b)
	for range parallelism * runtime.GOMAXPROCS(0) {
		callers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				call(int(i))
			}
		})
	}
	callers.Wait()
	return float64((cpuTime(b) - before).Nanoseconds()) / float64(n) / 1e3
}

// awsBench is a broker whose AWS answers at once, and a daemon with a grant among
// others' grants and as many of its own.
type awsBench struct {
	*agentkeystest.Broker
	daemon agentkeystest.Party
	grant  string
}

func newAWSBench(b *testing.B, grants int) *awsBench {
	before := debug.SetGCPercent(200) // as serve has it
	b.Cleanup(func() { debug.SetGCPercent(before) })
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
	return &awsBench{Broker: k, daemon: daemon, grant: g.GrantID}
}

// bare makes the requests of n mints of tokens.
func (x *awsBench) bare(n int) func(i int) *http.Request {
	requests := make([]*http.Request, n)
	for i := range requests {
		requests[i] = httptest.NewRequest(http.MethodPost, api.PathMintOIDC, nil)
		requests[i].Header.Set("Authorization", "Bearer "+x.daemon.Session.SessionJWT)
	}
	return func(i int) *http.Request { return requests[i] }
}

// sign makes the requests of n calls, each with an Idempotency-Key.
func (x *awsBench) sign(b *testing.B, n int) func(i int) *http.Request {
	requests := make([]*http.Request, n)
	for i := range requests {
		c := x.NewCall(x.daemon, "reports")
		c.Intent.GrantID = x.grant
		body, err := json.Marshal(c.Sign(b).MintAWSRequest)
		if err != nil {
			b.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, api.PathMintAWS, bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+x.daemon.Session.SessionJWT)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", rand.Text())
		requests[i] = r
	}
	return func(i int) *http.Request { return requests[i] }
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
	b.SetParallelism(parallelism)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			serve(b, k, request(int(next.Add(1)-1)))
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N)/1e3, "cpu-µs/op")
	b.ReportMetric(float64(k.Store.Stats().Commits-stats.Commits)/float64(b.N), "commits/op")
}

const parallelism = 32 // callers of each core

func serve(b *testing.B, k *agentkeystest.Broker, r *http.Request) {
	w := httptest.NewRecorder()
	k.Broker.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Errorf("%d %s", w.Code, w.Body)
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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
