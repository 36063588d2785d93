package release

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"path"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/manifest"
	"panoptes/internal/wire/uplink"
)

// Plan is the setting "agent-update": which version the agents should run, and
// how fast they come to it. Only agents whose own file says so renew themselves.
type Plan struct {
	Version string  `json:"version"`          // that is signed and on the servers; empty: none
	Stages  []Stage `json:"stages,omitempty"` // default 5 % for an hour, 25 % for an hour, all
	Paused  bool    `json:"paused,omitempty"`
	// Hosts and Groups bound who is meant: names (* and ? stand for letters) and
	// names of host groups. Both empty: all.
	Hosts  []string `json:"hosts,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// MaxFailed is how many may fail, or not return, before the rollout stops by
	// itself; default none.
	MaxFailed int            `json:"max_failed,omitempty"`
	Return    model.Duration `json:"return,omitempty"` // that an agent may be away; default 5m
}

// Stage is a part of the agents, and the time that they are watched before
// the next part follows.
type Stage struct {
	Percent float64        `json:"percent"`
	Wait    model.Duration `json:"wait,omitempty"`
}

// Progress is the setting "agent-update-state", which one of the servers writes.
type Progress struct {
	Version string    `json:"version"`
	Plan    int64     `json:"plan"`  // revision of the plan; another one lets those that failed try again
	Stage   int       `json:"stage"` // index
	Since   time.Time `json:"since"` // of the stage
	Halted  string    `json:"halted,omitempty"`
}

// Agent is what the servers know of the program of an agent that renews itself.
type Agent struct {
	Node    model.Node
	Version string
	Online  bool
	Status  model.HostStatus
	Since   time.Time // of the status
	Update  uplink.UpdateState
}

// ParsePlan reads and completes a plan.
func ParsePlan(b []byte) (Plan, error) {
	var p Plan
	if err := model.DecodeStrict(json.RawMessage(b), &p); err != nil {
		return p, err
	}
	if len(p.Stages) == 0 {
		p.Stages = []Stage{{5, model.Duration(time.Hour)}, {25, model.Duration(time.Hour)}, {Percent: 100}}
	}
	if p.Return == 0 {
		p.Return = model.Duration(5 * time.Minute)
	}
	var inv model.Invalid
	if p.Version != "" {
		if _, err := manifest.ParseVersion(p.Version); err != nil {
			inv.AddErr("version", err)
		}
	}
	if len(p.Stages) > 20 {
		inv.Add("stages", "must be 20 at most")
	}
	last := 0.0
	for i, s := range p.Stages {
		if !(s.Percent > last && s.Percent <= 100) { // NaN too
			inv.Add(model.Index("stages", i)+".percent", "must be more than the stage before and 100 at most")
		}
		last = s.Percent
		if s.Wait < 0 || s.Wait.D() > 30*24*time.Hour {
			inv.Add(model.Index("stages", i)+".wait", "must lie between 0s and 30d")
		}
	}
	for i, h := range p.Hosts {
		if _, err := path.Match(h, ""); err != nil || h == "" || len(h) > 128 {
			inv.Add(model.Index("hosts", i), "must be the name of a host; * and ? stand for letters")
		}
	}
	if len(p.Hosts) > 1000 || len(p.Groups) > 100 {
		inv.Add("hosts", "must be 1000, and groups 100, at most")
	}
	if p.MaxFailed < 0 {
		inv.Add("max_failed", "must not be negative")
	}
	if p.Return.D() < 10*time.Second || p.Return.D() > 24*time.Hour {
		inv.Add("return", "must lie between 10s and 24h")
	}
	return p, inv.Err()
}

// ParseProgress reads the state of a rollout.
func ParseProgress(b []byte) (Progress, error) {
	var s Progress
	err := model.DecodeStrict(json.RawMessage(b), &s)
	return s, err
}

// Rollout is a plan with its state and who is there.
type Rollout struct {
	Plan     Plan
	Revision int64 // of the plan
	Progress Progress
	Agents   []Agent
	Groups   []model.HostGroup
}

// covers reports whether the plan means a host.
func (r *Rollout) covers(n model.Node) bool {
	if len(r.Plan.Hosts) == 0 && len(r.Plan.Groups) == 0 {
		return true
	}
	for _, h := range r.Plan.Hosts {
		if ok, err := path.Match(h, n.Name); ok && err == nil {
			return true
		}
	}
	for i := range r.Groups {
		if slices.Contains(r.Plan.Groups, r.Groups[i].Name) && r.Groups[i].Covers(n) {
			return true
		}
	}
	return false
}

// selected are the agents of a stage, in an order that is another one for each
// version: it is not always the same hosts that go first.
func (r *Rollout) selected(stage int) []Agent {
	if len(r.Plan.Stages) == 0 || stage < 0 {
		return nil
	}
	var all []Agent
	for _, a := range r.Agents {
		if r.covers(a.Node) {
			all = append(all, a)
		}
	}
	place := func(a Agent) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(r.Plan.Version + "\x00" + a.Node.ID))
		x := h.Sum64()
		x ^= x >> 33
		x *= 0xff51afd7ed558ccd
		return x ^ x>>33
	}
	slices.SortFunc(all, func(a, b Agent) int {
		return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a.Node.ID, b.Node.ID))
	})
	share := r.Plan.Stages[min(stage, len(r.Plan.Stages)-1)].Percent / 100
	return all[:min(len(all), int(math.Ceil(share*float64(len(all)))))]
}

// id tells attempts apart.
func (r *Rollout) id() string { return fmt.Sprint(r.Progress.Plan) }

// Wanted are the versions that agents should run now, by node.
func (r *Rollout) Wanted() map[string]*uplink.UpdateWanted {
	p := r.Progress
	if r.Plan.Version == "" || r.Plan.Paused || p.Halted != "" || p.Version != r.Plan.Version || p.Plan != r.Revision {
		return nil
	}
	out := map[string]*uplink.UpdateWanted{}
	for _, a := range r.selected(p.Stage) {
		out[a.Node.ID] = &uplink.UpdateWanted{Version: p.Version, Rollout: r.id()}
	}
	return out
}

// Step returns the next state, and whether it is another one.
func (r *Rollout) Step(now time.Time) (Progress, bool) {
	p := r.Progress
	now = now.UTC().Truncate(time.Second)
	switch {
	case r.Plan.Version == "":
		return p, false
	case p.Version != r.Plan.Version:
		return Progress{Version: r.Plan.Version, Plan: r.Revision, Since: now}, true
	case p.Plan != r.Revision:
		// Somebody has looked: what stopped it before does not any more.
		p.Plan, p.Halted, p.Since = r.Revision, "", now
		p.Stage = min(p.Stage, len(r.Plan.Stages)-1)
		return p, true
	case r.Plan.Paused || p.Halted != "":
		return p, false
	}
	var bad []string
	done := true
	for _, a := range r.selected(p.Stage) {
		switch {
		case a.Online && a.Update.State == uplink.UpdateFailed && a.Update.Version == p.Version && a.Update.Rollout == r.id():
			bad = append(bad, fmt.Sprintf("%s: %s", a.Node.Name, a.Update.Error))
		case a.Online && (a.Version != p.Version || a.Update.State == uplink.UpdateTrying):
			done = false
		case !a.Online && (a.Status == model.HostUnknown || a.Status == model.HostDown) && !a.Since.Before(p.Since):
			// It was there when its turn came.
			if now.Sub(a.Since) >= r.Plan.Return.D() {
				bad = append(bad, fmt.Sprintf("%s has not returned since %s", a.Node.Name, a.Since.UTC().Format(time.RFC3339)))
			} else {
				done = false
			}
		}
	}
	if len(bad) > r.Plan.MaxFailed {
		text := strings.Join(bad, "; ")
		if len(text) > 1000 {
			text = strings.ToValidUTF8(text[:1000], "") + "…"
		}
		p.Halted = text
		return p, true
	}
	if done && p.Stage < len(r.Plan.Stages)-1 && now.Sub(p.Since) >= r.Plan.Stages[p.Stage].Wait.D() {
		p.Stage, p.Since = p.Stage+1, now
		return p, true
	}
	return p, false
}
