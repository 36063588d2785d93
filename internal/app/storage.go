package app

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"panoptes/internal/history"
	"panoptes/internal/ingest"
	"panoptes/internal/query"
	"panoptes/internal/relay"
	"panoptes/internal/replica"
	"panoptes/internal/store"
)

// futureLimit is how far ahead of the clock samples are taken.
const futureLimit = 10 * time.Minute

func (a *App) openStorage() (err error) {
	hold, err := a.openBucket()
	if err != nil {
		return err
	}
	outside, err := a.openEngine()
	if err != nil {
		return err
	}
	a.store, err = store.New(store.Config{
		Dir: a.cfg.Path("tsdb"), RetentionTime: a.cfg.Storage.RetentionTime.D(), RetentionSize: int64(a.cfg.Storage.RetentionSize),
		OutOfOrderWindow: a.cfg.Storage.OutOfOrderWindow.D(), FutureLimit: futureLimit, MinFreeBytes: int64(a.cfg.Storage.MinFree),
		ReserveBytes: min(64<<20, int64(a.cfg.Storage.ControlReserve)),
	}, store.Deps{HoldBlock: hold, Logger: a.logger("store"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the store: %w", err)
	}
	a.history, err = history.New(history.Config{Path: a.cfg.Path("history.db"), Retention: a.cfg.History.Retention.D()},
		history.Deps{Logger: a.logger("history"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the history: %w", err)
	}
	a.relay, err = relay.New(relay.Config{
		Dir: a.cfg.Path("relay"), NodeID: a.pki.NodeID(), MaxBytes: int64(a.cfg.Relay.MaxBytes), MaxAge: a.cfg.Relay.MaxAge.D(), MinFreeBytes: int64(a.cfg.Storage.MinFree),
		FutureLimit: futureLimit,
	}, relay.Deps{
		Outside: outside, Store: a.store, Events: &sink{store: a.history.Append, follow: a.followEvent}, Dial: a.dialNode, Missed: a.missed,
		Logger: a.logger("relay"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open the relay: %w", err)
	}
	a.replica, err = replica.New(replica.Config{Dir: a.cfg.Path("replica"), NodeID: a.pki.NodeID()}, replica.Deps{
		Store: a.store, History: copies{a.history, a.copied}, Dial: a.dialNode, Alive: a.placement.others, Alone: a.alone, Recorded: a.recorded, Fed: a.fed, Lag: a.relay.Lag, Emit: a.recordEvents,
		Logger: a.logger("replica"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open what keeps the copies whole: %w", err)
	}
	if len(a.welcome.Seeds) > 0 {
		a.replica.Need(time.Time{}, time.Time{}, "this server joined") // is met once
	}
	if slices.ContainsFunc(a.relay.Destinations(), func(d relay.Destination) bool { return !d.Outside }) {
		a.nowKnown() // from before
	}
	a.events = newRecorder(a.appendEvents, a.logger("events"), a.registry)
	if a.cfg.Query.Experimental {
		query.EnableExperimental()
	}
	a.query, err = query.New(query.Config{
		MaxSamples: a.cfg.Query.MaxSamples, MaxConcurrent: a.cfg.Query.MaxConcurrent, MaxSeries: a.cfg.Query.MaxSeries,
		Timeout: a.cfg.Query.Timeout.D(), Dir: a.cfg.DataDir, Server: a.cfg.Node, SlowQuery: a.cfg.Query.LogSlow.D(), CacheBytes: int64(a.cfg.Query.CacheBytes),
	}, query.Deps{
		Storage: a.store, Stats: a.store, Gatherer: a.registry, Logger: a.logger("query"), User: userOf, Bound: boundOf, Incomplete: a.behind, Rules: a.allRules, Metadata: a.metadata,
		Versions: a.store, SeesAll: seesAll, OtherSlow: a.otherSlow,
		Targets:     func(ctx context.Context) v1.TargetRetriever { return a.allTargets(ctx) },
		ScrapePools: func(ctx context.Context) v1.ScrapePoolsRetriever { return a.allTargets(ctx) },

		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "query"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the query engine: %w", err)
	}
	a.ingest, err = ingest.New(ingest.Config{MaxSeriesPerSource: a.cfg.Ingest.SeriesPerSource, OTLP: ingest.OTLP(a.cfg.Ingest.OTLP)}, ingest.Deps{Appendable: a.relay, Broadcast: func(b []byte) { a.cluster.Broadcast("ingest", b) }, Source: userOf, Bound: boundOf, Logger: a.logger("ingest"), Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "ingest"}, a.registry)})
	if err != nil {
		return fmt.Errorf("open the write endpoints: %w", err)
	}
	return nil
}

// ports that checks and webhooks never reach on this machine.
func (a *App) ownPorts() []int {
	var ports []int
	for _, addr := range []string{a.cfg.ClusterListen, a.cfg.GossipListen, a.cfg.PeerListen, a.cfg.ClientListen} {
		if p := portOf(a.cfg.Addr(addr)); p != 0 {
			ports = append(ports, p)
		}
	}
	return ports
}

// lookAtHistory ends the process when the history met damage: events that cannot
// be stored keep back all that other servers send. The file is set aside at the
// end, and the next process fills an empty one from the others.
func (a *App) lookAtHistory(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.history.Broken():
	}
	a.log.Error("the history is damaged; this process begins anew", "err", a.history.Damaged())
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(time.Until(a.began.Add(reviveAfter))):
		return ErrBeginAnew
	}
}
