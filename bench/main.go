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
	"strconv"
	"strings"
	"time"
)

// settings are the flags.
type settings struct {
	sizes    []int // numbers of series, one after the other
	series   int   // the last of them, or the one that is measured
	version  int   // of remote write
	samples  int
	duration time.Duration
	checks   int
	interval time.Duration
	senders  int
	only     string
	profiles string
	keep     bool
}

// parseSizes reads a list of numbers.
func (s *settings) parseSizes(list string) error {
	s.sizes = nil
	for field := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 || n > maxSeries {
			return fmt.Errorf("%q is no number of series from 1 to %d", field, maxSeries)
		}
		s.sizes = append(s.sizes, n)
		s.series = n
	}
	return nil
}

const maxSeries = 5_000_000

func main() {
	s := settings{sizes: []int{10_000, 200_000}, series: 200_000, version: 1}
	flag.Func("series", "series of the remote-write load, a list for ingest (default 10000,200000; 1000000 takes minutes)", s.parseSizes)
	flag.IntVar(&s.samples, "samples", 6_000_000, "samples of known series that are written, unless the duration ends first; 0 = no limit")
	flag.DurationVar(&s.duration, "duration", 20*time.Second, "how long known series are written")
	flag.IntVar(&s.checks, "checks", 10_000, "HTTP checks")
	flag.DurationVar(&s.interval, "interval", 20*time.Second, "interval of the checks")
	flag.IntVar(&s.senders, "senders", 4, "concurrent remote-write senders")
	flag.StringVar(&s.only, "only", "", "ingest, checks, cluster or agent; default all")
	flag.StringVar(&s.profiles, "profiles", "", "a directory for profiles of the programs under the ingest load")
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
	}{{"ingest", benchIngest}, {"checks", benchChecks}, {"cluster", benchCluster}, {"agent", benchAgent}}
	known := s.only == ""
	for _, p := range parts {
		known = known || p.name == s.only
	}
	if !known {
		return fmt.Errorf("-only %q: write ingest, checks, cluster or agent", s.only)
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
