package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// run probes once and makes the result.
func (w *Worker) run(ctx context.Context, e *entry) model.Result {
	w.m.running.Inc()
	defer w.m.running.Dec()
	start := time.Now()
	out := w.outcome(ctx, e)
	took := time.Since(start)

	r := model.Result{
		CheckID: e.check.ID, Region: w.cfg.Region, Prober: w.cfg.Node,
		Start: w.wall(start), Duration: took,
		Success: out.Success, Degraded: out.Success && out.Degraded, Untried: out.Untried,
		Message: Line(out.Message), Assertion: out.Assertions,
	}
	if out.Untried { // no value of any series would be true
		r.Success, r.Degraded = false, false
		w.m.count(e.check.Type, "untried")
		return r
	}
	success := 0.0
	if out.Success {
		success = 1
	}
	t := r.Start.UnixMilli()
	r.Samples = e.series.samples(out.Samples, t, success, took.Seconds())
	if (!out.Success || out.Degraded) && out.Evidence != nil {
		b, err := json.Marshal(out.Evidence)
		if err != nil {
			w.log.Error("evidence cannot be written", "check", e.check.Name, "err", err)
		}
		r.Evidence = b
	}
	good := out.Success != e.check.Inverted
	r.Abstain = w.guard.observe(ctx, &e.check, good)
	switch {
	case out.Success:
		w.m.count(e.check.Type, "up")
	case r.Abstain:
		w.m.count(e.check.Type, "abstained")
	default:
		w.m.count(e.check.Type, "down")
	}
	return r
}

// wall turns a local instant into the wall clock of the environment.
func (w *Worker) wall(t time.Time) time.Time {
	return w.env.Now().Add(-time.Since(t)).Round(0)
}

// outcome runs the probe under its timeout.
func (w *Worker) outcome(ctx context.Context, e *entry) (out Outcome) {
	if e.err != nil {
		return Outcome{Untried: true, Message: "cannot run: " + e.err.Error()}
	}
	// A fault of ours in one kind must not end the watch over all others.
	defer func() {
		if v := recover(); v != nil {
			w.log.Error("probe panicked", "check", e.check.Name, "type", e.check.Type, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			out = Outcome{Untried: true, Message: "internal error of this worker; its log has the details"}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, e.check.Timeout.D())
	defer cancel()
	return e.probe.Run(ctx)
}

// interner keeps the label sets of a check's series between runs: most runs
// find the same names in the same places.
type interner struct {
	mu   sync.Mutex // guards last
	last []interned
}

type interned struct {
	name   string
	labels []string
	set    labels.Labels
}

func (in *interner) samples(found []Sample, t int64, success, seconds float64) []model.Sample {
	out := make([]model.Sample, 0, len(found)+2)
	in.mu.Lock()
	defer in.mu.Unlock()
	put := func(i int, s Sample) {
		if i >= len(in.last) {
			in.last = append(in.last, interned{})
		}
		k := &in.last[i]
		if k.name != s.Name || !slices.Equal(k.labels, s.Labels) {
			*k = interned{s.Name, slices.Clone(s.Labels), labelSet(s)}
		}
		out = append(out, model.Sample{Labels: k.set, T: t, V: s.Value})
	}
	put(0, Sample{Name: "probe_success", Value: success})
	put(1, Sample{Name: "probe_duration_seconds", Value: seconds})
	for i, s := range found {
		put(i+2, s)
	}
	in.last = in.last[:len(out)]
	return out
}

func labelSet(s Sample) labels.Labels {
	b := labels.NewScratchBuilder(1 + len(s.Labels)/2)
	b.Add(model.MetricName, s.Name)
	for i := 0; i+1 < len(s.Labels); i += 2 {
		if s.Labels[i+1] != "" {
			b.Add(s.Labels[i], Line(s.Labels[i+1]))
		}
	}
	b.Sort()
	return b.Labels()
}

// Stamp completes the samples of a result with the labels check, region,
// prober and those of the record. A label that the sample has itself wins over
// one of the record.
func Stamp(r model.Result, c model.Check) model.Batch {
	out := make(model.Batch, len(r.Samples))
	b := labels.NewScratchBuilder(8 + len(c.Labels))
	for i, s := range r.Samples {
		b.Reset()
		s.Labels.Range(func(l labels.Label) {
			switch l.Name {
			case model.LabelCheck, model.LabelRegion, model.LabelProber:
			default:
				b.Add(l.Name, l.Value)
			}
		})
		for k, v := range c.Labels {
			if !s.Labels.Has(k) {
				b.Add(k, v)
			}
		}
		b.Add(model.LabelCheck, c.Name)
		if r.Region != "" {
			b.Add(model.LabelRegion, r.Region)
		}
		b.Add(model.LabelProber, r.Prober)
		b.Sort()
		out[i] = model.Sample{Labels: b.Labels(), T: s.T, V: s.V}
	}
	return out
}
