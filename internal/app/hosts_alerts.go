package app

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"panoptes/internal/alert"
	"panoptes/internal/model"
)

// hostAlerts raises the alerts of hosts that are down, whose agents are silent or
// whose clocks are wrong, on every server, whoever decided. It sends each again every minute,
// as the alerting part asks of whoever raises alerts.
type hostAlerts struct {
	put         func(context.Context, ...alert.Alert) error
	list        func() []model.Host
	externalURL string
	log         *slog.Logger

	mu     sync.Mutex             // guards what follows
	firing map[string]alert.Alert // by id of the host
}

const (
	// hostSettle is how long a server that starts waits before it says again
	// what was said of hosts before: their agents have come back by then.
	hostSettle = 25 * time.Second
	// silentFor is how long a host may be silent while nobody can look at it.
	silentFor = 5 * time.Minute
	// clockWrong is the code of a host that is online with a wrong clock.
	clockWrong = "host.clock"
)

func newHostAlerts(put func(context.Context, ...alert.Alert) error, externalURL string, log *slog.Logger) *hostAlerts {
	return &hostAlerts{put: put, externalURL: strings.TrimRight(externalURL, "/"), log: log, firing: map[string]alert.Alert{}}
}

// hostAlertName is the label alertname of what has to be said of a host; empty
// for nothing.
func hostAlertName(h model.Host, now time.Time) string {
	switch {
	case h.Status == model.HostDown:
		return "HostDown"
	case h.Status == model.HostOnline && h.Code == clockWrong:
		return "HostClockWrong"
	case h.Status != model.HostUnknown, h.Code == "host.region": // the region has an alert of its own
		return ""
	case h.Code == "host.agent_silent", now.Sub(h.Since) >= silentFor:
		return "HostUnknown"
	}
	return ""
}

// changed takes the state that a host has now.
func (x *hostAlerts) changed(h model.Host) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.look(h, time.Now())
}

// look needs mu.
func (x *hostAlerts) look(h model.Host, now time.Time) {
	name := hostAlertName(h, now)
	held, had := x.firing[h.ID]
	labels := hostLabels(h, name)
	var out []alert.Alert
	if had && !maps.Equal(held.Labels, labels) {
		held.EndsAt = now
		held.Annotations = hostAnnotations(h)
		out = append(out, held)
		delete(x.firing, h.ID)
	}
	if name != "" {
		since := h.Since
		switch { // a host is online for longer than its clock is wrong
		case h.Code == clockWrong && x.firing[h.ID].Labels != nil:
			since = x.firing[h.ID].StartsAt
		case h.Code == clockWrong:
			since = now
		}
		a := alert.Alert{Labels: labels, Annotations: hostAnnotations(h), StartsAt: since, GeneratorURL: x.externalURL + "/hosts/" + h.ID}
		x.firing[h.ID] = a
		a.EndsAt = now.Add(alertLife)
		out = append(out, a)
	}
	if len(out) == 0 {
		return
	}
	// It is quick: the alerting part only notes what it is given.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := x.put(ctx, out...); err != nil {
		x.log.Error("alert of a host not taken", "host", h.Name, "err", err)
	}
}

func hostLabels(h model.Host, name string) map[string]string {
	if name == "" {
		return nil
	}
	l := maps.Clone(h.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l["alertname"], l["host"], l["instance"], l[model.LabelRegion], l["severity"] = name, h.Name, h.Name, h.Region, "warning"
	if h.Status == model.HostDown {
		l["severity"] = "critical"
	}
	return l
}

func hostAnnotations(h model.Host) map[string]string {
	text := h.Message
	if h.Status == model.HostOnline && h.Code != clockWrong {
		text = "its agent sends"
	}
	return map[string]string{"summary": "host " + h.Name + ": " + text, "description": text}
}

// Run sends what is firing again until ctx ends.
func (x *hostAlerts) Run(ctx context.Context) error {
	for wait := hostSettle; ; wait = resendEvery {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
			x.again()
		}
	}
}

func (x *hostAlerts) again() {
	hosts := x.list()
	on := make(map[string]bool, len(hosts))
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range hosts {
		on[h.ID] = true
		x.look(h, now)
	}
	for _, id := range slices.Collect(maps.Keys(x.firing)) {
		if !on[id] { // it was removed
			a := x.firing[id]
			x.look(model.Host{ID: id, Name: a.Labels["host"], Status: model.HostStopped, Message: "it was removed"}, now)
		}
	}
}
