package agent_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
)

func TestSettingsReachTheAgentWithinASecond(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start(func(c *agent.Config, _ *agent.Deps) { c.Interval = time.Hour })
	eventually(t, 5*time.Second, func() bool { return len(s.hosts.Connected()) == 1 }, "connected")
	w.mu.Lock()
	w.groups = []model.HostGroup{
		{Name: "b", Regions: []string{"eu"}, Interval: model.Duration(30 * time.Minute), Labels: map[string]string{"team": "web", "tier": "front"}},
		{Name: "a", Hosts: []string{"web-*"}, Priority: 5, Interval: model.Duration(time.Second), Collectors: map[string]bool{"cpu": false}, Labels: map[string]string{"team": "shop"}},
		{Name: "c", Hosts: []string{"db-*"}, Priority: 9, Interval: model.Duration(time.Minute)},
	}
	w.mu.Unlock()
	took := time.Hour
	for try := 0; try < 5 && took > time.Second; try++ { // of a busy machine the best try counts
		interval := model.Duration(time.Duration(5-try) * time.Second)
		w.mu.Lock()
		w.groups[1].Interval = interval
		w.mu.Unlock()
		began := time.Now()
		s.hosts.Refresh()
		eventually(t, 2*time.Second, func() bool {
			h.collect.mu.Lock()
			defer h.collect.mu.Unlock()
			return h.collect.settings.Interval == interval
		}, "settings")
		took = time.Since(began)
	}
	require.Less(t, took, time.Second)
	require.Equal(t, map[string]bool{"cpu": false}, h.collect.settings.Collectors)
	// The series get the new labels although they were described before.
	eventually(t, 4*time.Second, func() bool {
		return len(w.store.series(map[string]string{"__name__": "node_test", "host": "web-1", "team": "shop", "tier": "front"})) == 5
	}, "labels")
}

func TestWhileSomebodyLooksTheAgentSendsEachSecond(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{LiveFor: 2500 * time.Millisecond})
	w.add("n2", hosts.Config{LiveFor: 2500 * time.Millisecond})
	h := w.join("web-1").start(func(c *agent.Config, _ *agent.Deps) { c.Interval = time.Hour })
	eventually(t, 5*time.Second, func() bool { return len(w.all()[0].hosts.Sessions()) == 1 && len(w.all()[1].hosts.Sessions()) == 1 }, "both know who talks to whom")
	require.Len(t, h.collect.rounds(), 1)
	// One of the two servers has the stream, the other one asks it.
	for _, s := range w.all() {
		require.NoError(t, s.hosts.KeepLive(t.Context(), h.pki.NodeID()))
	}
	last := time.Now()
	eventually(t, 4*time.Second, func() bool {
		if time.Since(last) > 2*time.Second { // a machine that stood still has looked away
			for _, s := range w.all() {
				_ = s.hosts.KeepLive(t.Context(), h.pki.NodeID()) // or the agent is not there for a moment
			}
			last = time.Now()
		}
		return len(w.store.times("node_test", "web-1")) >= 3*5
	}, "each second")
	eventually(t, 6*time.Second, func() bool {
		n := len(h.collect.rounds())
		select {
		case <-time.After(1500 * time.Millisecond):
		case <-t.Context().Done():
		}
		return len(h.collect.rounds()) == n
	}, "nobody looks any more")
}

func TestAnAgentRunsItsChecks(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	w.add("n2", hosts.Config{})
	h := w.join("web-1").start()
	id := h.pki.NodeID()
	mine := model.Check{ID: model.NewID(time.Now()), Revision: 1, Name: "shop", Type: "http", Target: "http://shop.example/", Interval: model.Duration(20 * time.Second), Labels: map[string]string{"team": "web"}}
	w.mu.Lock()
	w.checks[id] = []model.Check{mine}
	w.mu.Unlock()
	refresh := func() {
		for _, s := range w.all() {
			s.hosts.Refresh()
		}
	}
	eventually(t, 5*time.Second, func() bool { refresh(); return len(h.worker.list()) == 1 }, "the check")
	require.Equal(t, mine, h.worker.list()[0])

	h.agent.Result(model.Result{CheckID: mine.ID, Start: time.Now(), Success: true, Message: "200 OK", Region: "mars", Prober: "evil",
		Samples: []model.Sample{{Labels: labels.FromStrings("__name__", "probe_success"), T: time.Now().UnixMilli(), V: 1}}})
	eventually(t, 3*time.Second, func() bool {
		return len(w.store.series(map[string]string{"__name__": "probe_success", "check": "shop", "region": "eu", "prober": "web-1", "team": "web", "__check__": ""})) == 1
	}, "samples with the labels of the check")
	eventually(t, 3*time.Second, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.found) == 1
	}, "a vote")
	require.Equal(t, "eu", w.found[0].Region)
	require.Equal(t, "web-1", w.found[0].Prober)

	// A probe now, asked of either server; whatever the agent says of itself.
	for _, s := range w.all() {
		var r model.Result
		eventually(t, 3*time.Second, func() bool {
			var err error
			r, err = s.hosts.Probe(t.Context(), id, mine)
			return err == nil
		}, "probe now")
		require.True(t, r.Success && r.Confirm)
		require.Equal(t, []string{mine.ID, "eu", "web-1"}, []string{r.CheckID, r.Region, r.Prober})
	}

	mine.Revision, mine.Target = 2, "http://shop.example/new"
	w.mu.Lock()
	w.checks[id] = []model.Check{mine}
	w.mu.Unlock()
	refresh()
	eventually(t, time.Second, func() bool { l := h.worker.list(); return len(l) == 1 && l[0].Target == mine.Target }, "a changed check within a second")
	w.mu.Lock()
	w.checks[id] = nil
	w.mu.Unlock()
	refresh()
	eventually(t, time.Second, func() bool { return len(h.worker.list()) == 0 }, "a removed check within a second")
}

func TestAnAlertGetsASnapshot(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start()
	eventually(t, 5*time.Second, func() bool { return len(s.hosts.Connected()) == 1 }, "connected")
	for range 3 { // one alert of many about the same host is enough
		s.hosts.AlertFired(model.Event{ID: "x", Kind: model.EventAlert, Subject: "alert/abc", Name: "HighLoad", Labels: map[string]string{"instance": "web-1"}})
	}
	snapshots := func() (out []model.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if e.Code == "alert.snapshot" {
				out = append(out, e)
			}
		}
		return out
	}
	eventually(t, 3*time.Second, func() bool { return len(snapshots()) == 1 }, "snapshot")
	require.Equal(t, "alert/abc", snapshots()[0].Subject)
	require.JSONEq(t, `{"processes":["init"]}`, string(snapshots()[0].Data))
	b, err := s.hosts.Snapshot(t.Context(), h.pki.NodeID())
	require.NoError(t, err)
	require.True(t, json.Valid(b))
	_, err = s.hosts.Snapshot(t.Context(), "nobody")
	require.ErrorIs(t, err, model.ErrUnavailable)
}

func TestASeriesThatVanishesEnds(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	h := w.join("web-1").start(every(100 * time.Millisecond))
	eventually(t, 5*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) > 20 }, "samples")
	h.collect.mu.Lock()
	h.collect.series = 4
	h.collect.mu.Unlock()
	stale := func() int {
		w.store.mu.Lock()
		defer w.store.mu.Unlock()
		n := 0
		for _, samples := range w.store.samples {
			for _, v := range samples {
				if v != v {
					n++
				}
			}
		}
		return n
	}
	eventually(t, 3*time.Second, func() bool { return stale() == 1 }, "one marker")
}

// probes answers for other workers.
func (w *world) answer(f func(c model.Check) []model.Result) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probe = f
}

func from(region, prober, message string, ok bool) model.Result {
	return model.Result{Region: region, Prober: prober, Message: message, Success: ok, Start: time.Now()}
}

func TestASilentHostIsLookedAtBeforeItIsCalledDown(t *testing.T) {
	w := newWorld(t)
	cfg := hosts.Config{Grace: 300 * time.Millisecond, ProbeEvery: 100 * time.Millisecond, SilentDown: time.Hour}
	s := w.add("n1", cfg)
	w.answer(func(c model.Check) []model.Result { return []model.Result{from("us", "n2", "echo reply", true)} })
	h := w.join("web-1").start()
	id := h.pki.NodeID()
	host := func() model.Host { o, _ := s.hosts.Host(id); return o }
	eventually(t, 5*time.Second, func() bool { return host().Status == model.HostOnline && host().Reachable }, "others can reach it")

	// The agent is gone without a word: its host answers.
	_ = h.client.Close()
	eventually(t, 5*time.Second, func() bool { return host().Status == model.HostUnknown && host().Code == "host.agent_silent" }, "unknown")
	require.NotEmpty(t, host().Evidence)
	// Then the host does not answer either.
	w.answer(func(c model.Check) []model.Result {
		return []model.Result{from("us", "n2", "timed out", false), from("eu", "n3", "timed out", false)}
	})
	eventually(t, 5*time.Second, func() bool { return host().Status == model.HostDown }, "down")
	require.Contains(t, host().Message, "2 workers")
	// Where the machine stands still for longer than the grace, it is silent and back
	// before it is gone.
	codes := w.codes(id)
	require.Equal(t, "host.online", codes[0])
	require.Equal(t, []string{"host.silent", "host.agent_silent", "host.down"}, codes[max(0, len(codes)-3):])
	h.stop()

	// It comes back after a restart of the machine.
	h.start(func(_ *agent.Config, d *agent.Deps) {
		d.Facts = func() agent.Facts { return agent.Facts{Hostname: "web-1", Machine: "web-1", Boot: "boot-2"} }
	})
	eventually(t, 5*time.Second, func() bool { return host().Status == model.HostOnline }, "back")
	eventually(t, 5*time.Second, func() bool { return slices.Contains(w.codes(id), "host.rebooted") }, "a restart is an event")
}

func TestWhatProvesNothingCallsNobodyDown(t *testing.T) {
	for name, f := range map[string]func(model.Check) []model.Result{
		"no worker": nil,
		"refused by policy": func(model.Check) []model.Result {
			return []model.Result{from("us", "n2", "address 192.0.2.7 is refused: not allowed", false)}
		},
		"cut off": func(model.Check) []model.Result {
			r := from("us", "n2", "timed out", false)
			r.Abstain = true
			return []model.Result{r}
		},
		"never reachable": func(model.Check) []model.Result { return []model.Result{from("us", "n2", "timed out", false)} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.add("n1", hosts.Config{Grace: 200 * time.Millisecond, ProbeEvery: 50 * time.Millisecond, SilentDown: time.Hour})
			h := w.join("web-1").start()
			host := func() model.Host { o, _ := s.hosts.Host(h.pki.NodeID()); return o }
			eventually(t, 5*time.Second, func() bool { return host().Status == model.HostOnline }, "online")
			asked := make(chan struct{}, 100)
			w.answer(func(c model.Check) []model.Result {
				select {
				case asked <- struct{}{}:
				default:
				}
				if f == nil {
					return nil
				}
				return f(c)
			})
			_ = h.client.Close()
			eventually(t, 5*time.Second, func() bool { return host().Status == model.HostUnknown }, "unknown")
			for range 6 {
				<-asked
			}
			require.Equal(t, model.HostUnknown, host().Status)
		})
	}
}

func TestARegionThatIsCutOffIsNotManyHostsDown(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{Grace: 200 * time.Millisecond, ProbeEvery: 50 * time.Millisecond})
	w.answer(func(model.Check) []model.Result { return []model.Result{from("us", "n2", "echo reply", true)} })
	a, b := w.join("web-1").start(), w.join("web-2").start(func(_ *agent.Config, d *agent.Deps) {
		d.Facts = func() agent.Facts {
			return agent.Facts{Hostname: "web-2", Machine: "web-2", Boot: "boot-1", Addresses: []string{"192.0.2.8"}}
		}
	})
	code := func(h *host) string { o, _ := s.hosts.Host(h.pki.NodeID()); return o.Code }
	reachable := func(h *host) bool { o, _ := s.hosts.Host(h.pki.NodeID()); return o.Reachable }
	eventually(t, 5*time.Second, func() bool { return reachable(a) && reachable(b) }, "reachable")
	w.answer(func(model.Check) []model.Result { return []model.Result{from("us", "n2", "timed out", false)} })
	_, _ = a.client.Close(), b.client.Close()
	eventually(t, 5*time.Second, func() bool { return code(a) == "host.region" && code(b) == "host.region" }, "the region")
	// A worker of the region itself sees it better.
	w.answer(func(model.Check) []model.Result { return []model.Result{from("eu", "n3", "timed out", false)} })
	eventually(t, 5*time.Second, func() bool { return code(a) == "host.down" && code(b) == "host.down" }, "down")
}

func TestEventsOfAHostAreItsOwn(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start()
	eventually(t, 5*time.Second, func() bool { return len(s.hosts.Connected()) == 1 }, "connected")
	victim := model.NewID(time.Now())
	h.agent.Event(model.Event{ID: victim, Code: "host.unit_failed", Subject: "check/shop", Kind: model.EventAudit, Actor: "user/root", Severity: "warning", Message: "nginx failed", Labels: map[string]string{"host": "db-1", "team": "bank"}})
	h.agent.Event(model.Event{Code: "check.down", Message: "not mine"})
	find := func() (out []model.Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if e.Code == "host.unit_failed" || e.Code == "check.down" {
				out = append(out, e)
			}
		}
		return out
	}
	eventually(t, 3*time.Second, func() bool { return len(find()) == 1 }, "event")
	e := find()[0]
	require.Equal(t, []string{"node", "node/" + h.pki.NodeID(), "agent/web-1", "web-1"}, []string{string(e.Kind), e.Subject, e.Actor, e.Name})
	require.Equal(t, map[string]string{"host": "web-1", "region": "eu"}, e.Labels)
	require.NotEqual(t, victim, e.ID, "nobody can take the id of another event")
}

func TestAHostSaysThatItsClockIsWrong(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start(func(_ *agent.Config, d *agent.Deps) {
		d.Now = func() time.Time { return time.Now().Add(8 * time.Minute) }
	})
	id := h.pki.NodeID()
	eventually(t, 30*time.Second, func() bool {
		host, err := s.hosts.Host(id)
		return err == nil && host.Status == model.HostOnline && host.Code == "host.clock" && strings.Contains(host.Message, " ahead")
	}, "its clock is told of")
	eventually(t, 30*time.Second, func() bool { return slices.Contains(w.codes(id), "host.clock") }, "an event")
}
