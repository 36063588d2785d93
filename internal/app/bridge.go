package app

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// bridge turns verdicts into events and alerts. It remembers which check has
// an alert, sends each again every minute, as the alerting part asks of whoever
// raises alerts, and ends it when the check is well again.
type bridge struct {
	events      *recorder
	put         func(context.Context, ...alert.Alert) error
	seen        func(verdict.Transition) // told of every transition, after it was stored
	externalURL string
	log         *slog.Logger

	mu     sync.Mutex             // guards firing
	firing map[string]alert.Alert // by id of the check
}

// How often a firing alert is sent again, and how long it lives without that.
const (
	resendEvery = time.Minute
	alertLife   = 4 * time.Minute
)

func newBridge(events *recorder, log *slog.Logger) *bridge {
	return &bridge{events: events, log: log, firing: map[string]alert.Alert{}}
}

// transition takes what the verdict decided: the event is stored first, so
// that a server that is killed now remembers what it tells of.
func (b *bridge) transition(t verdict.Transition) {
	if e, err := verdict.Event(t, t.Check); err != nil {
		b.log.Error("state event not made", "check", t.Check.Name, "err", err)
	} else {
		b.events.storeNow(e)
	}
	b.seen(t)
	b.take(t)
}

// setChecks takes the records as they are now and ends the alerts of checks
// that are gone, renamed or labelled otherwise.
func (b *bridge) setChecks(checks map[string]model.Check) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ended []alert.Alert
	for id, a := range b.firing {
		c, ok := checks[id]
		labels := alertLabels(c, a.Labels["alertname"])
		if ok && maps.Equal(a.Labels, labels) {
			continue
		}
		a.EndsAt = time.Now()
		ended = append(ended, a)
		delete(b.firing, id)
		if ok {
			next := a
			next.Labels, next.EndsAt = labels, time.Time{}
			b.firing[id] = next
		}
	}
	b.send(ended)
}

// Run sends firing alerts again until ctx ends.
func (b *bridge) Run(ctx context.Context) error {
	t := time.NewTicker(resendEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			b.resend()
		}
	}
}

// The label alertname by state. Other states raise nothing.
var alertNames = map[model.Status]string{
	model.StatusDown: "CheckDown", model.StatusDegraded: "CheckDegraded", model.StatusUnknown: "CheckUnknown",
}

// nextAlert is the name of the alert that a check has after t, when it had the
// one of that name before; empty for none.
func nextAlert(had string, t verdict.Transition) string {
	name := alertNames[t.To]
	switch {
	case t.To == model.StatusMaintenance, t.To == model.StatusPending,
		t.To == model.StatusUnknown && had == alertNames[model.StatusDown]:
		return had // nobody knows that it is well again
	case name != had && (t.Suppressed || !t.Notify):
		return "" // not news, but what was said before has ended
	}
	return name
}

func (b *bridge) take(t verdict.Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, firing := b.firing[t.Check.ID]
	had := a.Labels["alertname"]
	name := nextAlert(had, t)
	var out []alert.Alert
	if firing && name != had {
		delete(b.firing, t.Check.ID)
		a.EndsAt = t.At
		a.Annotations = b.annotations(t.Check, t.Message)
		out = append(out, a)
	}
	if name != "" {
		if name != had {
			a = b.alert(t.Check, name, t.At, t.Message)
		}
		a.Annotations = b.annotations(t.Check, t.Message)
		b.firing[t.Check.ID] = a
		out = append(out, a)
	}
	b.send(out)
}

func (b *bridge) resend() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.send(slices.Collect(maps.Values(b.firing)))
}

// restore takes what happened to a check before this process began, oldest
// first, and sends the alert that follows from it.
func (b *bridge) restore(c model.Check, past []verdict.Transition) {
	name, since := "", verdict.Transition{}
	for _, t := range past {
		if next := nextAlert(name, t); next != name {
			name, since = next, t
		}
	}
	if name == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	a := b.alert(c, name, since.At, past[len(past)-1].Message)
	b.firing[c.ID] = a
	b.send([]alert.Alert{a})
}

// send needs mu. It is quick: the alerting part only notes what it is given.
func (b *bridge) send(list []alert.Alert) {
	if len(list) == 0 {
		return
	}
	for i := range list {
		if list[i].EndsAt.IsZero() {
			list[i].EndsAt = time.Now().Add(alertLife)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := b.put(ctx, list...); err != nil {
		b.log.Error("alerts not taken", "alerts", len(list), "err", err)
	}
}

// alertLabels identify the alert of a check. Only down is as severe as the
// check's record says.
func alertLabels(c model.Check, name string) map[string]string {
	l := maps.Clone(c.Labels)
	if l == nil {
		l = map[string]string{}
	}
	l["alertname"], l[model.LabelCheck], l["severity"], l["type"] = name, c.Name, c.Severity, c.Type
	if name != alertNames[model.StatusDown] && c.Severity == "critical" {
		l["severity"] = "warning"
	}
	return l
}

func (b *bridge) alert(c model.Check, name string, since time.Time, message string) alert.Alert {
	return alert.Alert{
		Labels: alertLabels(c, name), Annotations: b.annotations(c, message), StartsAt: since,
		GeneratorURL: strings.TrimRight(b.externalURL, "/") + "/checks/" + url.PathEscape(c.ID),
	}
}

func (b *bridge) annotations(c model.Check, message string) map[string]string {
	a := map[string]string{"summary": c.Name + ": " + message, "description": message}
	if c.Target != "" {
		a["target"] = c.Target
	}
	if c.Description != "" {
		a["about"] = c.Description
	}
	return a
}
