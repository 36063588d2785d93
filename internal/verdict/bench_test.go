package verdict_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// BenchmarkResults counts the cost of a result from Observe to the decision,
// with ten thousand checks in three regions.
func BenchmarkResults(b *testing.B) {
	const checks = 10_000
	reg := prometheus.NewRegistry()
	e, err := verdict.New(verdict.Config{QueueSize: 1 << 20}, verdict.Deps{Regions: func() []string { return three }, Registerer: reg})
	if err != nil {
		b.Fatal(err)
	}
	list := make([]model.Check, checks)
	for i := range list {
		list[i] = check(func(c *model.Check) { c.ID, c.Name = fmt.Sprint("c", i), fmt.Sprint("shop ", i) })
	}
	begin := time.Now()
	e.Update(list, nil)
	update := time.Since(begin)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	results := make([]model.Result, 3*checks)
	for i := range results {
		results[i] = model.Result{CheckID: list[i%checks].ID, Region: three[i/checks], Prober: "w", Success: true, Message: "200 OK", Duration: time.Millisecond}
	}
	i := 0
	b.ResetTimer()
	for range b.N {
		r := results[i%len(results)]
		r.Start = time.Now()
		e.Observe(r)
		i++
	}
	for count(b, reg, "panoptes_verdict_results_total")+count(b, reg, "panoptes_verdict_dropped_results_total") < float64(i) {
		runtime.Gosched()
	}
	b.StopTimer()
	b.ReportMetric(count(b, reg, "panoptes_verdict_dropped_results_total"), "dropped")
	begin = time.Now()
	e.Collect(begin)
	b.ReportMetric(float64(time.Since(begin).Microseconds()), "µs/collect")
	b.ReportMetric(float64(update.Milliseconds()), "ms/update")
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func count(b *testing.B, reg *prometheus.Registry, name string) float64 {
	families, err := reg.Gather()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// BenchmarkStates is what a list of all ten thousand checks costs.
func BenchmarkStates(b *testing.B) {
	e, err := verdict.New(verdict.Config{}, verdict.Deps{Regions: func() []string { return three }})
	if err != nil {
		b.Fatal(err)
	}
	list := make([]model.Check, 10_000)
	for i := range list {
		list[i] = check(func(c *model.Check) { c.ID, c.Name = fmt.Sprint("c", i), fmt.Sprint("shop ", i) })
	}
	e.Update(list, nil)
	for b.Loop() {
		if n := len(e.States()); n != len(list) {
			b.Fatal(n)
		}
	}
}
