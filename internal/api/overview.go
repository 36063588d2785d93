package api

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"panoptes/internal/model"
)

type overviewAnswer struct {
	Health Health            `json:"health"`
	Checks map[string]int    `json:"checks"`
	Alerts alertCounts       `json:"alerts"`
	Worst  []json.RawMessage `json:"worst"`
	Events []model.Event     `json:"events"`
}

type alertCounts struct {
	Critical int `json:"critical"`
	Warning  int `json:"warning"`
	Info     int `json:"info"`
	Silenced int `json:"silenced"`
}

const (
	worstChecks  = 10
	recentEvents = 20
)

// overview answers what is known; a part that cannot answer is left empty and
// shows in the health.
func (a *API) overview(r *http.Request) (any, error) {
	out := overviewAnswer{
		Health: a.healthNow(r.Context()), Checks: map[string]int{"total": 0},
		Worst: []json.RawMessage{}, Events: []model.Event{},
	}
	if !boundTo(r).IsEmpty() {
		out.Health.Parts = []HealthPart{}
	}
	for _, s := range model.Statuses {
		out.Checks[string(s)] = 0
	}
	var bad []checkEntry
	for _, e := range a.checks.all(a.deps.Catalog.List(model.KindCheck), a.states()) {
		if !who(r).Sees(e.check.Labels) {
			continue
		}
		out.Checks["total"]++
		out.Checks[string(e.state.Status)]++
		if e.state.Status == model.StatusDown || e.state.Status == model.StatusDegraded {
			bad = append(bad, e)
		}
	}
	slices.SortFunc(bad, func(x, y checkEntry) int { return checkPlace(x, "status").compare(checkPlace(y, "status")) })
	for _, e := range bad[:min(worstChecks, len(bad))] {
		b, err := a.flat(e.rec, withState{State: e.state})
		if err != nil {
			return nil, err
		}
		out.Worst = append(out.Worst, b)
	}
	if list, err := a.matching(r, nil); err != nil {
		a.log.Warn("overview without alerts", "err", err)
	} else {
		for _, al := range list {
			switch {
			case al.Status == "suppressed":
				out.Alerts.Silenced++
			case al.Labels["severity"] == "warning":
				out.Alerts.Warning++
			case al.Labels["severity"] == "info":
				out.Alerts.Info++
			default:
				out.Alerts.Critical++
			}
		}
	}
	if a.deps.Events != nil {
		events, _, err := a.deps.Events.Query(r.Context(), model.EventQuery{Kinds: []model.EventKind{model.EventState, model.EventAlert}, Limit: recentEvents})
		if err != nil {
			a.log.Warn("overview without events", "err", err)
		}
		for _, e := range events {
			if maySee(who(r), e) {
				out.Events = append(out.Events, e)
			}
		}
	}
	return out, nil
}

func (a *API) healthNow(ctx context.Context) Health {
	h := Health{Status: "ok", Score: 100}
	if a.deps.Health != nil {
		h = a.deps.Health(ctx)
	}
	if h.Parts == nil {
		h.Parts = []HealthPart{}
	}
	return h
}
