//go:build fault && linux

// Package fault breaks clusters of real servers – processes killed and paused,
// disks stopped and filled, networks cut – while they are written to, and asks
// every server afterwards for everything that was acknowledged.
//
// Each row of the fault matrix is one test function. Run one alone with
//
//	go test -tags fault -count=1 -v -run 'TestKill1$' ./test/fault -fault.seed 1
package fault

import (
	"flag"
	"os"
	"testing"
	"time"

	"panoptes/test/harness"
)

var options struct {
	seed     int64
	rate     int
	writes   int
	duration time.Duration
	keep     bool
	nodigest bool
}

func TestMain(m *testing.M) {
	flag.Int64Var(&options.seed, "fault.seed", 0, "seed of everything random; 0 takes one from the clock")
	flag.IntVar(&options.rate, "fault.rate", 20_000, "samples per second that are written")
	flag.IntVar(&options.writes, "fault.writes", 50, "configuration writes per second")
	flag.DurationVar(&options.duration, "fault.duration", 10*time.Minute, "how long TestRandomFaults runs")
	flag.BoolVar(&options.keep, "fault.keep", false, "keep disks and logs of rows that passed")
	flag.BoolVar(&options.nodigest, "fault.nodigest", false, "do not ask the servers to compare their stores")
	flag.Parse()
	if options.seed == 0 {
		options.seed = time.Now().UnixNano() % 1_000_000
	}
	os.Exit(harness.Isolated(func() int {
		code := m.Run()
		results.print()
		return code
	}))
}
