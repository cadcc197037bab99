// Command bench measures what a minted token costs, beside what this machine's
// bare cryptography costs in the same run: rates move from machine to machine
// and from hour to hour, ratios far less.
//
// It builds the program, runs "agentkeys serve" with a database that is flushed
// to disk for every answer, and asks for tokens over HTTP on loopback at 1, 16
// and 64 connections. CPU time and memory are the broker process's own, as the
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

	broker, err := startBroker(ctx)
	if err != nil {
		return err
	}
	defer broker.stop()
	fmt.Printf("\nmint-oidc-jwt, session verified, record durable, token signed; cold start %v, idle %.0f MiB\n",
		broker.coldStart.Round(time.Millisecond), broker.usage().memory)
	tw = tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "connections\ttokens/s\tp50\tp99\tCPU per token\tof verify+sign\tcommits per token\tmemory\t")
	for _, connections := range []int{1, 16, 64} {
		r, err := broker.load(ctx, connections, each)
		if err != nil {
			return err
		}
		fmt.Fprintf(tw, "%d\t%.0f\t%v\t%v\t%.0f µs\t%.2f×\t%.3f\t%.0f MiB\t\n", connections, r.rate,
			r.p50.Round(10*time.Microsecond), r.p99.Round(10*time.Microsecond), micros(r.cpu),
			float64(r.cpu)/float64(limits.verify+limits.sign), r.commits, r.memory)
	}
	return tw.Flush()
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
