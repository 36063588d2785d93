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
//
// Every server raises the alerts of all checks, whoever decided: transitions of
// other servers come as events. One that is told of long after it happened
// raises nothing by itself; what counts then is where the check stands in the end.
type bridge struct {
	events      *recorder
	put         func(context.Context, ...alert.Alert) error
	seen        func(verdict.Transition) // told of every transition, after it was stored
	lookup      func(id string) (model.Check, bool)
	past        func(ctx context.Context, id string) ([]verdict.Transition, error) // of a check, oldest first
	externalURL string
	log         *slog.Logger

	mu     sync.Mutex                    // guards what follows
	firing map[string]alert.Alert        // by id of the check
	newest map[string]time.Time          // by id of the check: the transition that was taken last
	known  map[string]time.Time          // by id of the event: when it was taken
	late   map[string]time.Time          // by id of the check: when the last late transition came
	heard  map[string]verdict.Transition // by id of the check: what others know and the history here does not yet
	copies map[string]verdict.Transition // by id of the check: the newest of what was copied from another history
	copied time.Time                     // when the last of these came
	more   func() bool                   // whether more is to be copied
}

// How often a firing alert is sent again, and how long it lives without that.
const (
	resendEvery = time.Minute
	alertLife   = 4 * time.Minute

	lateAfter  = 90 * time.Second // a transition is old news
	lateSettle = 3 * time.Second  // without more of them before a check is looked at
	knownFor   = 10 * time.Minute
)

func newBridge(events *recorder, log *slog.Logger) *bridge {
	return &bridge{events: events, log: log, firing: map[string]alert.Alert{}, newest: map[string]time.Time{}, known: map[string]time.Time{}, late: map[string]time.Time{}, copies: map[string]verdict.Transition{}}
}

// transition takes what the verdict decided here: the event is stored first, so
// that a server that is killed now remembers what it tells of.
func (b *bridge) transition(t verdict.Transition) {
	e, err := verdict.Event(t, t.Check)
	if err != nil {
		b.log.Error("state event not made", "check", t.Check.Name, "err", err)
		b.seen(t)
		b.take(t)
		return
	}
	b.events.storeNow(e) // comes back through follow, unless the history is broken
	b.follow(e.ID, t)
}

// follow takes a transition that was decided by any server, each once.
func (b *bridge) follow(eventID string, t verdict.Transition) {
	now := time.Now()
	b.mu.Lock()
	_, again := b.known[eventID]
	b.known[eventID] = now
	// An event knows too little of its check to raise an alert: one whose record
	// has not arrived yet is looked at when it has.
	full, ok := b.lookup(t.Check.ID)
	if ok {
		t.Check = full
	}
	old := !ok || now.Sub(t.At) > lateAfter
	stale := t.At.Before(b.newest[t.Check.ID])
	if !again && (old || stale) {
		b.late[t.Check.ID] = now
	}
	if !again && !old && !stale {
		b.newest[t.Check.ID] = t.At
	}
	b.mu.Unlock()
	if again {
		return
	}
	b.seen(t)
	if !old && !stale {
		b.take(t)
	}
}

// setChecks takes the records as they are now and ends the alerts of checks
// that are gone, renamed or labelled otherwise.
func (b *bridge) setChecks(checks map[string]model.Check) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.newest {
		if _, ok := checks[id]; !ok {
			delete(b.newest, id)
		}
	}
	maps.DeleteFunc(b.heard, func(id string, _ verdict.Transition) bool { _, ok := checks[id]; return !ok })
	var gone []alert.Alert
	for id, a := range b.firing {
		c, ok := checks[id]
		labels := alertLabels(c, a.Labels["alertname"])
		if ok && maps.Equal(a.Labels, labels) {
			continue
		}
		gone = append(gone, ended(a, time.Now()))
		delete(b.firing, id)
		if ok {
			next := a
			next.Labels, next.EndsAt = labels, time.Time{}
			b.firing[id] = next
		}
	}
	b.send(gone)
}

// Run sends firing alerts again until ctx ends.
func (b *bridge) Run(ctx context.Context) error {
	resend, settle := time.NewTicker(resendEvery), time.NewTicker(time.Second)
	defer resend.Stop()
	defer settle.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-resend.C:
			b.resend()
		case now := <-settle.C:
			b.settleLate(ctx, now)
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
		a.Annotations = b.annotations(t.Check, t.Message)
		out = append(out, ended(a, t.At))
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

// restore takes all that happened to a check, oldest first, and sees that it
// has the alert that follows from it and from what was heard of it.
func (b *bridge) restore(c model.Check, past []verdict.Transition) {
	b.mu.Lock()
	defer b.mu.Unlock()
	past = b.withHeard(c.ID, past)
	if len(past) == 0 {
		return
	}
	name, since := "", verdict.Transition{}
	for _, t := range past {
		if next := nextAlert(name, t); next != name {
			name, since = next, t
		}
	}
	last := past[len(past)-1]
	b.newest[c.ID] = last.At
	var out []alert.Alert
	if held, ok := b.firing[c.ID]; ok && held.Labels["alertname"] != name {
		delete(b.firing, c.ID)
		out = append(out, ended(held, last.At))
	}
	if name != "" {
		a := b.alert(c, name, since.At, last.Message)
		b.firing[c.ID] = a
		out = append(out, a)
	}
	b.send(out)
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

// ended returns an alert that ended at a time that any server's clock gave. One
// that lies ahead by the clock here would be taken for no end at all, and one
// before the beginning would be refused.
func ended(a alert.Alert, at time.Time) alert.Alert {
	if now := time.Now(); at.After(now) {
		at = now
	}
	a.EndsAt = at
	if a.StartsAt.After(at) {
		a.StartsAt = at
	}
	return a
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
