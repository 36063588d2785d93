package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
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
	dial    func(nodeID string) (wire.Conn, error)
	log     *slog.Logger
	dropped prometheus.Counter

	mu    sync.Mutex // guards all below
	ctx   context.Context
	want  []string           // live servers but this one
	peers map[string]*outlet // by node id
	wg    sync.WaitGroup
}

// outlet is the way to one server.
type outlet struct {
	queue  chan model.Result
	cancel context.CancelFunc
}

const (
	maxWaitingForPeer = 20_000
	fanoutDelay       = 10 * time.Millisecond
	fanoutGroup       = 500
)

func newFanout(dial func(string) (wire.Conn, error), log *slog.Logger, reg prometheus.Registerer) *fanout {
	f := &fanout{dial: dial, log: log, peers: map[string]*outlet{},
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: "panoptes_app_results_not_told_total", Help: "Results of checks that another live server did not hear of."})}
	reg.MustRegister(f.dropped)
	return f
}

// setPeers names the live servers but this one.
func (f *fanout) setPeers(ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.want = ids
	f.openLocked()
}

// openLocked opens the ways to the wanted servers once Run has begun, and
// closes the others.
func (f *fanout) openLocked() {
	if f.ctx == nil || f.ctx.Err() != nil {
		return
	}
	ids := f.want
	want := map[string]bool{}
	for _, id := range ids {
		want[id] = true
		if f.peers[id] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(f.ctx)
		o := &outlet{queue: make(chan model.Result, maxWaitingForPeer), cancel: cancel}
		f.peers[id] = o
		f.wg.Go(func() { f.feed(ctx, id, o) })
	}
	for id, o := range f.peers {
		if !want[id] {
			o.cancel()
			delete(f.peers, id)
		}
	}
}

// send never blocks.
func (f *fanout) send(r model.Result) {
	r.Samples = nil // they take the relay
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.peers {
		select {
		case o.queue <- r:
		default:
			f.dropped.Inc()
		}
	}
}

// Run keeps the ways open until ctx ends.
func (f *fanout) Run(ctx context.Context) error {
	f.mu.Lock()
	f.ctx = ctx
	f.openLocked()
	f.mu.Unlock()
	<-ctx.Done()
	f.mu.Lock()
	f.peers = map[string]*outlet{} // whoever opens ways after this sees that it is over
	f.mu.Unlock()
	f.wg.Wait()
	return nil
}

func (f *fanout) feed(ctx context.Context, id string, o *outlet) {
	for {
		var group []model.Result
		select {
		case <-ctx.Done():
			return
		case r := <-o.queue:
			group = append(group, r)
		}
		timer := time.NewTimer(fanoutDelay)
		for full := false; !full && len(group) < fanoutGroup; {
			select {
			case r := <-o.queue:
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
