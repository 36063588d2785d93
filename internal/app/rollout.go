package app

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
	"sync/atomic"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/catalog"
	"panoptes/internal/model"
	"panoptes/internal/release"
	"panoptes/internal/wire/uplink"
)

// The settings of the renewal of agents: what an operator wants, and how far it is.
const (
	settingAgentUpdate      = "agent-update"
	settingAgentUpdateState = "agent-update-state"

	rolloutKey   = "agent-update"
	rolloutEvery = 5 * time.Second
)

// parseAgentUpdate checks the two settings.
func parseAgentUpdate(name string, value json.RawMessage) error {
	if name == settingAgentUpdateState {
		_, err := release.ParseProgress(value)
		return err
	}
	_, err := release.ParsePlan(value)
	return err
}

// rollout tells agents which version they should run. All servers work it out
// from the same records; one of them moves it on.
type rollout struct {
	wanted atomic.Pointer[map[string]*uplink.UpdateWanted]
}

func (r *rollout) of(nodeID string) *uplink.UpdateWanted {
	if m := r.wanted.Load(); m != nil {
		return (*m)[nodeID]
	}
	return nil
}

// set reports whether anything changed.
func (r *rollout) set(m map[string]*uplink.UpdateWanted) bool {
	old := r.wanted.Swap(&m)
	if old == nil {
		return len(m) > 0
	}
	return len(*old)+len(m) > 0 && !reflect.DeepEqual(*old, m)
}

// rollouts follows the plan until ctx ends.
func (a *App) rollouts(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	defer a.catalog.Subscribe(func(ch catalog.Change) {
		if ch.Kind == model.KindSetting {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	})()
	tick := time.NewTicker(rolloutEvery)
	defer tick.Stop()
	for {
		if r, ok := a.rolloutNow(); ok {
			if a.rollout.set(r.Wanted()) {
				a.fleet.Refresh()
			}
			if a.placement.owns(rolloutKey) {
				a.stepRollout(ctx, r)
			}
		} else if a.rollout.set(nil) {
			a.fleet.Refresh()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-wake:
		}
	}
}

// rolloutNow gathers plan, state and agents; false when there is no plan.
func (a *App) rolloutNow() (release.Rollout, bool) {
	var r release.Rollout
	setting := func(name string) (json.RawMessage, int64, bool) {
		rec, err := a.catalog.Get(model.KindSetting, name)
		if err != nil {
			return nil, 0, false
		}
		var s model.Setting
		if err := json.Unmarshal(rec.Spec, &s); err != nil {
			return nil, 0, false
		}
		return s.Value, rec.Revision, true
	}
	value, revision, ok := setting(settingAgentUpdate)
	if !ok {
		return r, false
	}
	var err error
	if r.Plan, err = release.ParsePlan(value); err != nil {
		a.log.Warn("plan of the agents' renewal not read", "err", err)
		return r, false
	}
	r.Revision = revision
	if value, _, ok := setting(settingAgentUpdateState); ok {
		if r.Progress, err = release.ParseProgress(value); err != nil {
			a.log.Warn("state of the agents' renewal not read; it begins anew", "err", err)
		}
	}
	r.Groups = a.hostGroups()
	for _, p := range a.fleet.Programs() {
		if p.Update != nil {
			r.Agents = append(r.Agents, release.Agent{Node: p.Node, Version: p.Version, Online: p.Online, Status: p.Status, Since: p.Since, Update: *p.Update})
		}
	}
	return r, true
}

// stepRollout moves the rollout on, if it is time.
func (a *App) stepRollout(ctx context.Context, r release.Rollout) {
	next, changed := r.Step(time.Now())
	if !changed {
		return
	}
	value, err := json.Marshal(next)
	if err != nil {
		return
	}
	spec, err := json.Marshal(model.Setting{Name: settingAgentUpdateState, Value: value})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	rec, err := a.catalog.Get(model.KindSetting, settingAgentUpdateState)
	switch {
	case err == nil:
		_, err = a.catalog.Update(ctx, "system", model.KindSetting, settingAgentUpdateState, spec, rec.Revision)
	case errors.Is(err, model.ErrNotFound):
		_, err = a.catalog.Create(ctx, "system", model.KindSetting, spec)
	}
	if err != nil {
		if ctx.Err() == nil {
			a.log.Warn("the agents' renewal cannot go on now", "err", err)
		}
		return
	}
	e := model.Event{
		ID: model.NewID(time.Now()), Time: time.Now().UTC(), Kind: model.EventNode, Subject: "setting/" + settingAgentUpdate, Name: "agents " + next.Version, Actor: "system",
		Severity: "info", Code: "agents.update", Message: "agents of the next stage are told to renew themselves to version " + next.Version,
		Labels: map[string]string{"version": next.Version},
	}
	if next.Halted != "" {
		e.Severity, e.Code, e.Message = "warning", "agents.update_halted", "the renewal of agents to version "+next.Version+" was stopped: "+next.Halted
	}
	a.events.record(e)
}

// hostUpdate is what becomes of another version of one agent.
func (a *App) hostUpdate(nodeID string) *api.HostUpdate {
	p, ok := a.fleet.Program(nodeID)
	want := a.rollout.of(nodeID)
	if !ok || p.Update == nil || p.Update.State == uplink.UpdateIdle && (want == nil || want.Version == p.Version) {
		return nil
	}
	out := api.HostUpdate{State: p.Update.State, Wanted: p.Update.Version}
	if want != nil {
		out.Wanted = want.Version
	}
	if p.Update.Error != "" {
		out.State += ": " + p.Update.Error
	}
	return &out
}
