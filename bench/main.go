// Command bench measures this program and others side by side in one run: what
// a sample of remote write costs, what ten thousand HTTP checks cost, and what
// three servers cost and win over one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"text/tabwriter"
	"time"
)

// settings are the flags.
type settings struct {
	series   int
	duration time.Duration
	checks   int
	interval time.Duration
	senders  int
	only     string
	keep     bool
}

func main() {
	var s settings
	flag.IntVar(&s.series, "series", 200_000, "series of the remote-write load")
	flag.DurationVar(&s.duration, "duration", 20*time.Second, "how long known series are written")
	flag.IntVar(&s.checks, "checks", 10_000, "HTTP checks")
	flag.DurationVar(&s.interval, "interval", 20*time.Second, "interval of the checks")
	flag.IntVar(&s.senders, "senders", 4, "concurrent remote-write senders")
	flag.StringVar(&s.only, "only", "", "ingest, checks or cluster; default all")
	flag.BoolVar(&s.keep, "keep", false, "keep the scratch directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	parts := []struct {
		name string
		run  func(context.Context, settings, string) error
	}{{"ingest", benchIngest}, {"checks", benchChecks}, {"cluster", benchCluster}}
	known := s.only == ""
	for _, p := range parts {
		known = known || p.name == s.only
	}
	if !known {
		return fmt.Errorf("-only %q: write ingest, checks or cluster", s.only)
	}
	dir, err := os.MkdirTemp("", "panoptes-bench-")
	if err != nil {
		return err
	}
	if s.keep {
		fmt.Println("scratch directory:", dir)
	} else {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	fmt.Printf("%s, %d cores, %s\n\n", runtime.Version(), runtime.NumCPU(), time.Now().Format("2006-01-02 15:04"))
	for _, p := range parts {
		if s.only != "" && s.only != p.name {
			continue
		}
		if err := p.run(ctx, s, dir); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func benchIngest(ctx context.Context, s settings, dir string) error {
	prom, err := buildPrometheus(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("remote write 1, %d series, %d senders; CPU is the receiver's, user + system\n", s.series, s.senders)
	results := make([]ingestResult, 0, 2)
	for _, start := range []func(context.Context, string) (*process, error){startPanoptes, func(ctx context.Context, dir string) (*process, error) { return startPrometheus(ctx, prom, dir) }} {
		p, err := start(ctx, dir)
		if err != nil {
			return err
		}
		r, err := writeLoad(ctx, p, s)
		err = errors.Join(err, p.stop())
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		results = append(results, r)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\tpanoptes\tprometheus\tratio\t")
	row := func(what, format string, f func(ingestResult) float64) {
		a, b := f(results[0]), f(results[1])
		fmt.Fprintf(w, "%s\t"+format+"\t"+format+"\t%.2f\t\n", what, a, b, a/b)
	}
	row("known series: samples per CPU second", "%.0f", func(r ingestResult) float64 { return r.known.perCPU() })
	row("known series: samples per second", "%.0f", func(r ingestResult) float64 { return r.known.perSecond() })
	row("new series: series per CPU second", "%.0f", func(r ingestResult) float64 { return r.fresh.perCPU() })
	row("peak resident memory, MB", "%.0f", func(r ingestResult) float64 { return r.peakMB })
	row("answer time p99, ms", "%.1f", func(r ingestResult) float64 { return r.p99.Seconds() * 1000 })
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Println("panoptes has fsynced a sample when it answers; prometheus has not")
	fmt.Println()
	return nil
}
