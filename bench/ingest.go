package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"
)

// subject is a program under the same load as the other.
type subject struct {
	name  string
	start func(ctx context.Context, dir string) (*process, error) // a second start in the same dir is a restart
	tsdb  func(dir string) string
}

func subjects(prom string) []subject {
	return []subject{
		{"panoptes", startPanoptesIn, func(dir string) string { return filepath.Join(dir, "tsdb") }},
		{"prometheus", func(ctx context.Context, dir string) (*process, error) { return startPrometheus(ctx, prom, dir) },
			func(dir string) string { return filepath.Join(dir, "prometheus") }},
	}
}

func benchIngest(ctx context.Context, s settings, dir string) error {
	prom, err := buildPrometheus(ctx)
	if err != nil {
		return err
	}
	programs := subjects(prom)
	for i, size := range s.sizes {
		for _, version := range []int{1, 2} {
			s.series, s.version = size, version
			restart := version == 1 && i == len(s.sizes)-1
			if err := compareIngest(ctx, s, dir, programs, restart); err != nil {
				return err
			}
		}
	}
	if err := compareDisk(ctx, s, dir, programs); err != nil {
		return err
	}
	fmt.Println("panoptes has fsynced a sample when it answers; prometheus has not")
	fmt.Println()
	return nil
}

// compareIngest loads one program after the other and prints a table.
func compareIngest(ctx context.Context, s settings, dir string, programs []subject, restart bool) error {
	fmt.Printf("remote write %d, %d series, %d senders; CPU is the receiver's, user + system\n", s.version, s.series, s.senders)
	results := make([]ingestResult, len(programs))
	back := make([]time.Duration, len(programs))
	for i, sub := range programs {
		err := func() error {
			home, err := os.MkdirTemp(dir, sub.name)
			if err != nil {
				return err
			}
			defer os.RemoveAll(home)
			p, err := sub.start(ctx, home)
			if err != nil {
				return err
			}
			stopProfile := p.profile(ctx, s, fmt.Sprintf("%s-v%d-%d", sub.name, s.version, s.series))
			results[i], err = writeLoad(ctx, p, s)
			stopProfile()
			if err != nil || !restart {
				return errors.Join(err, p.stop())
			}
			back[i], err = restarted(ctx, p, sub, home)
			return err
		}()
		if err != nil {
			return fmt.Errorf("%s: %w", sub.name, err)
		}
	}
	t := newTable(programs)
	row := func(what, format string, f func(ingestResult) float64) {
		t.row(what, format, f(results[0]), f(results[1]))
	}
	row("known series: samples per CPU second", "%.0f", func(r ingestResult) float64 { return r.known.perCPU() })
	row("known series: samples per second", "%.0f", func(r ingestResult) float64 { return r.known.perSecond() })
	row("known series: samples sent", "%.0f", func(r ingestResult) float64 { return float64(r.known.samples) })
	row("new series: series per CPU second", "%.0f", func(r ingestResult) float64 { return r.fresh.perCPU() })
	row("resident memory per series, bytes", "%.0f", ingestResult.perSeries)
	row("resident memory with them, MB", "%.0f", func(r ingestResult) float64 { return r.after })
	row("peak resident memory, MB", "%.0f", func(r ingestResult) float64 { return r.peakMB })
	row("answer time p99, ms", "%.1f", func(r ingestResult) float64 { return r.p99.Seconds() * 1000 })
	if restart {
		t.row("kill -9 to ready, s", "%.1f", back[0].Seconds(), back[1].Seconds())
	}
	return t.flush()
}

// restarted kills a program and measures how long the next one needs in its
// directory until it is ready.
func restarted(ctx context.Context, p *process, sub subject, home string) (time.Duration, error) {
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return 0, fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	begin := time.Now()
	again, err := sub.start(ctx, home)
	if err != nil {
		return 0, err
	}
	took := time.Since(begin)
	return took, again.stop()
}

// table is what two programs did, side by side.
type table struct{ w *tabwriter.Writer }

func newTable(programs []subject) *table {
	t := &table{tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', tabwriter.AlignRight)}
	fmt.Fprintf(t.w, "\t%s\t%s\tratio\t\n", programs[0].name, programs[1].name)
	return t
}

func (t *table) row(what, format string, a, b float64) {
	fmt.Fprintf(t.w, "%s\t"+format+"\t"+format+"\t%.2f\t\n", what, a, b, a/b)
}

func (t *table) flush() error {
	err := t.w.Flush()
	fmt.Println()
	return err
}

// profile writes a profile of the process' CPU into s.profiles until it is
// called; nothing when no directory was given.
func (p *process) profile(ctx context.Context, s settings, name string) (stop func()) {
	if s.profiles == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- p.saveProfile(ctx, filepath.Join(s.profiles, name+".pprof")) }()
	return func() {
		if err := <-done; err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
		cancel()
	}
}

const profileSeconds = "6"

func (p *process) saveProfile(ctx context.Context, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/debug/pprof/profile?seconds="+profileSeconds, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+apiKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Close())
}
