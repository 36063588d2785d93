package history_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"panoptes/internal/history"
	"panoptes/internal/model"
)

// BenchmarkAppend counts events per second with many callers at once, each
// waiting for its commit.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			h := open(b, history.Config{}, history.Deps{})
			var n atomic.Int64
			b.SetParallelism(32)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				events := make([]model.Event, size)
				for pb.Next() {
					for i := range events {
						at := t0.Add(time.Duration(n.Add(1)) * time.Millisecond)
						events[i] = event(at, model.EventState, fmt.Sprintf("check/%d", i), "2 of 3 regions fail (eu: connection refused; us: timeout)")
					}
					if err := h.Append(b.Context(), events...); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkQuery asks for the newest hundred of a kind among many others.
func BenchmarkQuery(b *testing.B) {
	h := open(b, history.Config{}, history.Deps{})
	var events []model.Event
	for i := range 100_000 {
		kind := model.EventState
		if i%100 == 0 {
			kind = model.EventAudit
		}
		events = append(events, event(t0.Add(time.Duration(i)*time.Second), kind, fmt.Sprintf("check/%d", i%1000), "message"))
	}
	for len(events) > 0 {
		if err := h.Append(b.Context(), events[:1000]...); err != nil {
			b.Fatal(err)
		}
		events = events[1000:]
	}
	f := func(name string, q model.EventQuery) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := h.Query(b.Context(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("newest", model.EventQuery{})
	f("rare kinds", model.EventQuery{Kinds: []model.EventKind{model.EventAudit, model.EventNode}})
	f("subject", model.EventQuery{Subject: "check/7"})
	f("old range", model.EventQuery{From: t0, To: t0.Add(time.Hour)})
	f("text nowhere", model.EventQuery{Text: "nowhere"})
}
