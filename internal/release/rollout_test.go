package release_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/release"
	"panoptes/internal/wire/uplink"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// world is a fleet that obeys.
type world struct {
	t   *testing.T
	r   release.Rollout
	now time.Time
}

func newWorld(t *testing.T, plan string, hosts int) *world {
	t.Helper()
	p, err := release.ParsePlan([]byte(plan))
	require.NoError(t, err)
	w := &world{t: t, now: noon, r: release.Rollout{Plan: p, Revision: 7}}
	for i := range hosts {
		name := fmt.Sprintf("web-%d", i)
		w.r.Agents = append(w.r.Agents, release.Agent{Node: model.Node{ID: "ID-" + name, Name: name, Region: "eu"}, Version: "1.0.0", Online: true, Status: model.HostOnline, Since: noon.Add(-time.Hour)})
	}
	return w
}

// step moves the clock and lets the owner decide until nothing changes.
func (w *world) step(d time.Duration) {
	w.t.Helper()
	w.now = w.now.Add(d)
	for range 5 {
		p, changed := w.r.Step(w.now)
		if !changed {
			return
		}
		b, err := json.Marshal(p)
		require.NoError(w.t, err)
		w.r.Progress, err = release.ParseProgress(b) // as it comes back from the catalog
		require.NoError(w.t, err)
	}
	w.t.Fatal("it does not settle")
}

// obey lets every agent take what it should.
func (w *world) obey() {
	for id, v := range w.r.Wanted() {
		a := w.agent(id)
		a.Version, a.Update = v.Version, uplink.UpdateState{State: uplink.UpdateIdle}
	}
}

func (w *world) agent(id string) *release.Agent {
	for i := range w.r.Agents {
		if w.r.Agents[i].Node.ID == id {
			return &w.r.Agents[i]
		}
	}
	w.t.Fatal(id)
	return nil
}

func TestStages(t *testing.T) {
	w := newWorld(t, `{"version":"1.1.0"}`, 40)
	w.step(0)
	require.Len(t, w.r.Wanted(), 2, "5 %")
	first := w.r.Wanted()
	w.step(2 * time.Hour)
	require.Len(t, w.r.Wanted(), 2, "the first ones have not arrived")
	w.obey()
	w.step(time.Second)
	require.Len(t, w.r.Wanted(), 10, "they have, and an hour is over")
	for id := range first {
		require.Contains(t, w.r.Wanted(), id)
	}
	w.obey()
	w.step(30 * time.Minute)
	require.Len(t, w.r.Wanted(), 10, "they are watched for an hour")
	w.step(31 * time.Minute)
	require.Len(t, w.r.Wanted(), 40)

	small := newWorld(t, `{"version":"1.1.0"}`, 1)
	small.step(0)
	require.Len(t, small.r.Wanted(), 1, "one is at least one")
	other := newWorld(t, `{"version":"1.2.0"}`, 40)
	other.step(0)
	require.NotEqual(t, first, other.r.Wanted(), "not always the same ones go first")
}

func TestWhoIsMeant(t *testing.T) {
	w := newWorld(t, `{"version":"1.1.0","stages":[{"percent":100}],"hosts":["web-1*"],"groups":["dbs"]}`, 12)
	w.r.Groups = []model.HostGroup{{Name: "dbs", Hosts: []string{"web-5"}}, {Name: "others", Hosts: []string{"web-6"}}}
	w.step(0)
	require.Len(t, w.r.Wanted(), 4, "web-1, web-10, web-11 and web-5")
	require.Contains(t, w.r.Wanted(), "ID-web-5")
}

func TestARolloutStops(t *testing.T) {
	plan := `{"version":"1.1.0","stages":[{"percent":50},{"percent":100}],"return":"5m"}`
	fails := func(w *world) {
		for id, v := range w.r.Wanted() {
			w.agent(id).Update = uplink.UpdateState{State: uplink.UpdateFailed, Version: v.Version, Rollout: v.Rollout, Error: "it ended (exit status 3)"}
			return
		}
	}
	w := newWorld(t, plan, 4)
	w.step(0)
	fails(w)
	w.step(time.Second)
	require.Contains(t, w.r.Progress.Halted, "exit status 3")
	require.Empty(t, w.r.Wanted(), "nobody follows")
	w.step(time.Hour)
	require.NotEmpty(t, w.r.Progress.Halted, "not by itself")
	w.r.Revision++ // somebody has changed the plan
	w.step(time.Second)
	require.Empty(t, w.r.Progress.Halted)
	require.Len(t, w.r.Wanted(), 2, "another rollout, so that what failed is tried again")

	// One that does not return.
	w = newWorld(t, plan, 4)
	w.step(0)
	for id := range w.r.Wanted() {
		a := w.agent(id)
		a.Online, a.Status, a.Since = false, model.HostUnknown, w.now.Add(10*time.Second)
		break
	}
	w.step(time.Minute)
	require.Empty(t, w.r.Progress.Halted)
	require.Zero(t, w.r.Progress.Stage, "it is waited for")
	w.step(5 * time.Minute)
	require.Contains(t, w.r.Progress.Halted, "has not returned since")

	// One that was gone before, and one that was stopped on purpose, hold nobody up.
	w = newWorld(t, plan, 4)
	for i, s := range []model.HostStatus{model.HostDown, model.HostStopped} {
		w.r.Agents[i].Online, w.r.Agents[i].Status = false, s
	}
	w.step(0)
	w.obey()
	w.step(time.Minute)
	require.Equal(t, 1, w.r.Progress.Stage)

	// Some may fail where the plan says so.
	w = newWorld(t, `{"version":"1.1.0","stages":[{"percent":50},{"percent":100}],"max_failed":1}`, 4)
	w.step(0)
	w.obey()
	fails(w)
	w.step(time.Minute)
	require.Equal(t, 1, w.r.Progress.Stage)
}

func TestPausesAndPlans(t *testing.T) {
	w := newWorld(t, `{"version":"1.1.0","paused":true}`, 4)
	w.step(0)
	require.Empty(t, w.r.Wanted())
	require.Empty(t, newWorld(t, `{"version":""}`, 4).r.Wanted())
	for want, plan := range map[string]string{
		"version":           `{"version":"latest"}`,
		"stages[1].percent": `{"version":"1.1.0","stages":[{"percent":50},{"percent":50}]}`,
		"stages[0].percent": `{"version":"1.1.0","stages":[{"percent":101}]}`,
		"stages[0].wait":    `{"version":"1.1.0","stages":[{"percent":1,"wait":"1000h"}]}`,
		"hosts[0]":          `{"version":"1.1.0","hosts":["["]}`,
		"max_failed":        `{"version":"1.1.0","max_failed":-1}`,
		"return":            `{"version":"1.1.0","return":"1s"}`,
		"versoin":           `{"versoin":"1.1.0"}`,
	} {
		_, err := release.ParsePlan([]byte(plan))
		require.ErrorContains(t, err, want)
	}
}
