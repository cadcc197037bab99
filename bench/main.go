// Command bench measures what minted tokens and AWS credentials cost, beside what
// this machine's bare cryptography costs in the same run: rates move from machine
// to machine and from hour to hour, ratios far less.
//
// It also verifies an audit log, and says what its tree adds to a record; and it
// checks the reference set-up and a large account ("agentkeys federation check").
//
// It builds the program, runs "agentkeys serve" with a database that is flushed
// to disk for every answer and with a stand-in for STS, and asks for tokens and
// for credentials over HTTP on loopback at 1, 16 and 64 connections. CPU time and memory are the broker process's own, as the
// kernel counts them; the load runs in this process, on the same cores, so rates
// are lower than a broker with the machine for itself would show.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"text/tabwriter"
	"time"
)

func main() {
	each := flag.Duration("time", 5*time.Second, "time for each measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *each); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, each time.Duration) error {
	fmt.Printf("%s, %d cores, each measurement %v\n\n", runtime.Version(), runtime.NumCPU(), each)
	fmt.Println("limits of this machine, one core")
	limits, err := measureLimits()
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, l := range limits.rows() {
		fmt.Fprintf(tw, "%s\t%.1f µs\t%.0f a second\t\n", l.name, micros(l.each), 1/l.each.Seconds())
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if err := measureChecks(os.Stdout, limits.evaluateForeign); err != nil {
		return err
	}

	if err := measureAudit(ctx, os.Stdout); err != nil {
		return err
	}

	broker, err := startBroker(ctx)
	if err != nil {
		return err
	}
	defer broker.stop()
	idle := broker.usage()
	if idle.err != nil {
		return idle.err
	}
	fmt.Printf("\nthe program %.1f MiB (aim 40), cold start %v (aim 50ms), idle %.0f MiB (aim 25), under load as below (aim 45)\n",
		float64(broker.size)/(1<<20), broker.coldStart.Round(time.Millisecond), idle.memory)
	fmt.Println("\nmint-oidc-jwt, session verified, record durable, token signed")
	bare := map[int]result{}
	err = table(func(connections int) (result, error) {
		r, err := broker.load(ctx, connections, each, broker.mint)
		bare[connections] = r
		return r, err
	}, func(connections int, r result) string {
		return fmt.Sprintf("%.2f×", float64(r.cpu)/float64(limits.verify+limits.sign))
	}, "of verify+sign")
	if err != nil {
		return err
	}

	fmt.Printf("\nmint-aws-creds, call signed, grant used, Idempotency-Key, two records durable, answer sealed, STS a stand-in on this machine\n")
	return table(func(connections int) (result, error) {
		calls, err := broker.prepare(ctx, callsAhead)
		if err != nil {
			return result{}, err
		}
		return broker.load(ctx, connections, each, calls.mint)
	}, func(connections int, r result) string {
		return fmt.Sprintf("%.0f µs", micros(r.cpu-bare[connections].cpu-limits.recover))
	}, "over a bare mint, less recover, with the call to STS")
}

// callsAhead is how many calls are signed before a load; a load ends with them.
const callsAhead = 10_000

// table loads the broker at three numbers of connections and prints a line each.
func table(load func(connections int) (result, error), last func(connections int, r result) string, title string) error {
	tw := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "connections\tmints/s\tp50\tp99\tCPU per mint\t%s\tcommits per mint\tmemory\t\n", title)
	for _, connections := range []int{1, 16, 64} {
		r, err := load(connections)
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%d\t%.0f\t%v\t%v\t%.0f µs\t%s\t%.3f\t%.0f MiB\t\n", connections, r.rate,
			r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond), micros(r.cpu), last(connections, r), r.commits, r.memory)
	}
	return tw.Flush()
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
