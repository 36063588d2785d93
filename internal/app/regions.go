package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// regionAlerts raises one alert for each region that does not vote, on every
// server, whoever found out.
type regionAlerts struct {
	events *recorder
	put    func(context.Context, ...alert.Alert) error
	adopt  func(verdict.RegionTransition) bool
	names  func() []string // regions on record; nil while they are not known
	log    *slog.Logger

	mu     sync.Mutex                          // guards what follows
	newest map[string]verdict.RegionTransition // by region
	absent map[string]bool                     // regions that were not on record the last time
}

func newRegionAlerts(events *recorder, log *slog.Logger) *regionAlerts {
	return &regionAlerts{events: events, log: log, newest: map[string]verdict.RegionTransition{}, absent: map[string]bool{}}
}

// changed takes what this server decided about a region.
func (r *regionAlerts) changed(t verdict.RegionTransition) {
	e, err := verdict.RegionEvent(t)
	if err != nil {
		r.log.Error("region event not made", "region", t.Region, "err", err)
		return
	}
	r.events.storeNow(e) // comes back through follow, unless the history is broken
	r.take(t)
}

// follow takes the event of any server.
func (r *regionAlerts) follow(e model.Event) {
	t, err := verdict.RegionFromEvent(e)
	if err != nil {
		return // another kind of node event
	}
	r.adopt(t)
	r.take(t)
}

func (r *regionAlerts) take(t verdict.RegionTransition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	held, ok := r.newest[t.Region]
	if ok && (held.ID == t.ID || t.At.Before(held.At)) {
		return
	}
	r.newest[t.Region] = t
	if !t.Impaired && (!ok || !held.Impaired) || time.Since(t.At) > lateAfter {
		return // nothing was said; or what was said was said by others, and the next round of Run will do
	}
	r.send(regionAlert(t, held))
}

// Run sends what is firing again until ctx ends.
func (r *regionAlerts) Run(ctx context.Context) error {
	t := time.NewTicker(resendEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			r.again()
		}
	}
}

// again ends the alerts of regions that are gone, since nobody will ever say
// that they vote again. One that was off the record only for a moment, or that
// this server has yet to hear of, is not gone.
func (r *regionAlerts) again() {
	names := r.names()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range slices.Collect(maps.Values(r.newest)) {
		if !t.Impaired {
			continue
		}
		off := names != nil && !slices.Contains(names, t.Region)
		if off && r.absent[t.Region] {
			delete(r.newest, t.Region)
			delete(r.absent, t.Region)
			gone := t
			gone.Impaired, gone.At = false, time.Now()
			gone.Message = "region " + t.Region + " is not there any more: no server and no agent that runs checks is in it"
			r.send(regionAlert(gone, t))
			continue
		}
		r.absent[t.Region] = off
		if !off {
			r.adopt(t) // the verdict forgets at once who is off the record, and has to end this one day
		}
		r.send(regionAlert(t, t))
	}
}

// regionAlert is the alert that follows from t, after held.
func regionAlert(t, held verdict.RegionTransition) alert.Alert {
	a := alert.Alert{
		Labels:      map[string]string{"alertname": "RegionImpaired", model.LabelRegion: t.Region, "severity": "warning"},
		Annotations: map[string]string{"summary": t.Message, "description": t.Message},
		StartsAt:    t.At, EndsAt: time.Now().Add(alertLife),
	}
	if !t.Impaired {
		a.StartsAt = held.At
		return ended(a, t.At)
	}
	return a
}

// send needs mu. It is quick: the alerting part only notes what it is given.
func (r *regionAlerts) send(a alert.Alert) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.put(ctx, a); err != nil {
		r.log.Error("alert of a region not taken", "region", a.Labels[model.LabelRegion], "err", err)
	}
}
