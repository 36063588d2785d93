package verdict

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// StatusMetric is the series of states; its values are model.Status codes.
const StatusMetric = "panoptes_check_status"

// Collect returns one sample per check that this server decides on: panoptes_check_status with the label
// check (the name) and the record's own.
func (e *Engine) Collect(now time.Time) model.Batch {
	var out model.Batch
	for _, s := range e.shards {
		s.mu.Lock()
		for _, m := range s.byID {
			if !m.owned {
				continue
			}
			out = append(out, model.Sample{Labels: m.series, T: now.UnixMilli(), V: float64(m.visible.Code())})
		}
		s.mu.Unlock()
	}
	return out
}

func series(c *model.Check) labels.Labels {
	b := labels.NewBuilder(labels.FromMap(c.Labels))
	b.Set(model.MetricName, StatusMetric)
	b.Set(model.LabelCheck, c.Name)
	return b.Labels()
}

func (e *Engine) runSamples(ctx context.Context) {
	tick := time.NewTicker(e.cfg.SampleEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if b := e.Collect(time.Now()); len(b) > 0 {
				e.deps.Samples(b)
			}
		}
	}
}

// ReachabilityQuery is the PromQL that gives the share of good results of a
// check within window, by region.
func ReachabilityQuery(check model.Check, window time.Duration) string {
	q := fmt.Sprintf("avg by (%s) (avg_over_time(probe_success{%s=%s}[%s]))", model.LabelRegion, model.LabelCheck, strconv.Quote(check.Name), model.Duration(window))
	if check.Inverted {
		return "1 - " + q
	}
	return q
}
