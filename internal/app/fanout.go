package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// methodObserve takes results of checks that another server's worker found.
const methodObserve = "verdict.observe"

// fanout tells all live servers what the worker here found, so that whoever
// owns a check hears of it at once and whoever owns it next knows as much.
// Nothing is kept for a server that is away: the next result is an interval off.
type fanout struct {
	ways[model.Result]
	dial    func(nodeID string) (wire.Conn, error)
	log     *slog.Logger
	dropped prometheus.Counter
}

const (
	maxWaitingForPeer = 20_000
	fanoutDelay       = 10 * time.Millisecond
	fanoutGroup       = 500
)

func newFanout(dial func(string) (wire.Conn, error), log *slog.Logger, reg prometheus.Registerer) *fanout {
	f := &fanout{dial: dial, log: log,
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_app_results_not_told_total", Help: "Results of checks that another live server did not hear of."})}
	f.ways.room, f.ways.feed, f.ways.full = maxWaitingForPeer, f.feed, f.dropped.Inc
	reg.MustRegister(f.dropped)
	return f
}

// send never blocks.
func (f *fanout) send(r model.Result) {
	r.Samples = nil // they take the relay
	f.ways.send(r)
}

func (f *fanout) feed(ctx context.Context, id string, queue <-chan model.Result) {
	for {
		var group []model.Result
		select {
		case <-ctx.Done():
			return
		case r := <-queue:
			group = append(group, r)
		}
		timer := time.NewTimer(fanoutDelay)
		for full := false; !full && len(group) < fanoutGroup; {
			select {
			case r := <-queue:
				group = append(group, r)
			case <-timer.C:
				full = true
			case <-ctx.Done():
				timer.Stop()
				return
			}
		}
		timer.Stop()
		if err := f.tell(ctx, id, group); err != nil && ctx.Err() == nil {
			f.dropped.Add(float64(len(group)))
			f.log.Debug("results not told", "to", id, "results", len(group), "err", err)
		}
	}
}

func (f *fanout) tell(ctx context.Context, id string, group []model.Result) error {
	conn, err := f.dial(id)
	if err != nil {
		return err
	}
	b, err := json.Marshal(group)
	if err != nil {
		return err
	}
	// One that hangs is soon called suspect and leaves the list.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err = conn.Call(ctx, methodObserve, b)
	return err
}
