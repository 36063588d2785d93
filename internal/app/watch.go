package app

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/alert"
	"panoptes/internal/cluster"
	"panoptes/internal/notify"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
	"panoptes/internal/verdict"
)

func (a *App) openWatch() (err error) {
	dialer := probe.NewDialer(probe.Policy{AllowLoopback: a.cfg.Probe.AllowLoopback, AllowPrivate: !a.cfg.Probe.DenyPrivate, DenyPorts: a.ownPorts()})
	a.beats = newHeartbeats(a.cfg.Path("heartbeats.json"))
	a.push = a.beats.receiver
	a.results = newResults(a.appendSamples, a.logger("results"), a.registry)
	a.fanout = newFanout(a.dialNode, a.logger("fanout"), a.registry)
	a.results.tell = a.fanout.send
	a.worker, err = probe.NewWorker(probe.WorkerConfig{Node: a.cfg.Node, Region: a.cfg.Region}, probe.WorkerDeps{
		Kinds: all.Kinds(), Env: &probe.Env{Dialer: dialer, Now: time.Now, Heartbeats: a.push}, Sink: a.results, References: a.references, LastRun: a.lastRun,
		Logger: a.logger("probe"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the worker: %w", err)
	}
	a.bridge = newBridge(a.events, a.logger("bridge"))
	a.regions = newRegionAlerts(a.events, a.logger("regions"))
	a.checks = newChecks(a)
	a.prober = &prober{placement: a.placement, local: a.checks.runHere, lookup: a.checks.lookup, agent: a.probeAgent, dial: a.dialNode}
	a.verdict, err = verdict.New(verdict.Config{Node: a.cfg.Node, Region: a.cfg.Region}, verdict.Deps{
		Prober: a.prober, Regions: a.regionNames, Record: a.bridge.transition, Owns: a.placement.owns, Share: a.fanout.send,
		Workers: a.placement.regionWorkers, Isolated: a.cluster.Isolated, RegionChanged: a.regions.changed,
		Logger: a.logger("verdict"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("make the verdict engine: %w", err)
	}
	a.results.observe = a.verdict.Observe
	a.regions.adopt = a.verdict.AdoptRegion
	a.regions.names = func() []string {
		if !a.isKnown() {
			return nil
		}
		return a.regionNames()
	}
	a.bridge.seen, a.bridge.lookup, a.bridge.past = a.checks.seen, a.checks.lookup, a.checks.transitions
	a.dial, a.ownAddr = dialer.DialContext, dialer.Own
	return nil
}

func (a *App) openAlerting() (err error) {
	a.notify, err = notify.New(notify.Config{ExternalURL: a.externalURL()}, notify.Deps{Dialer: a.dial, Record: a.delivery, Logger: a.logger("notify"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("make the notifier: %w", err)
	}
	a.alerting, err = alert.New(alert.Config{Dir: a.cfg.Path("alert")}, alert.Deps{
		Receivers: a.notify, Quiet: a.quiet.on, Record: a.alertEvent, Logger: a.logger("alert"),
		Settled: a.cluster.Settled(), Position: a.placement.position, Broadcast: a.cluster.Broadcast,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"part": "alert"}, a.registry),
	})
	if err != nil {
		return fmt.Errorf("open the alerting part: %w", err)
	}
	a.bridge.put, a.regions.put = a.alerting.Put, a.alerting.Put
	for _, part := range []string{"nflog", "silences"} {
		a.cluster.Part(part, cluster.Part{
			State: func() ([]byte, error) { return a.alerting.State(part) },
			Merge: func(b []byte) error { return a.alerting.Merge(part, b) },
		})
	}
	a.bridge.externalURL = a.externalURL()
	return nil
}
