package agent_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent"
	"panoptes/internal/agent/mesh"
	"panoptes/internal/agent/scraper"
	"panoptes/internal/agent/service"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// systemd restarts units of a test.
type systemd struct {
	mu   sync.Mutex
	done []string
}

func (s *systemd) Status(context.Context, model.HostService) (service.Status, error) {
	return service.Status{Up: true}, nil
}

func (s *systemd) Restart(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, name)
	return nil
}

func TestARestartFromAnyServer(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	w.add("n2", hosts.Config{})
	key, err := w.server[0].hosts.ActionKey()
	require.NoError(t, err)
	units := &systemd{}
	h := w.join("web-1")
	s, err := service.New(service.Config{Dir: h.dir, NodeID: h.pki.NodeID(), Keys: []string{key}, Services: []service.Service{
		{HostService: model.HostService{Kind: "unit", Name: "nginx.service"}, Restart: true}, {HostService: model.HostService{Kind: "unit", Name: "db.service"}},
	}}, service.Deps{Managers: map[string]service.Manager{"unit": units}, Event: func(e model.Event) { h.agent.Event(e) }})
	require.NoError(t, err)
	h.start(func(_ *agent.Config, d *agent.Deps) { d.Actor, d.Sources = s, []agent.Source{s} })
	off := w.join("web-2").start()
	eventually(t, 5*time.Second, func() bool { return len(w.all()[0].hosts.Sessions()) == 2 && len(w.all()[1].hosts.Sessions()) == 2 }, "both know who talks to whom")

	for _, srv := range w.all() { // one has the stream, the other one asks it
		result, message, err := srv.hosts.Restart(t.Context(), h.pki.NodeID(), "user/alice", "unit", "nginx.service")
		require.NoError(t, err)
		require.Equal(t, "done", result, message)
	}
	require.Equal(t, []string{"nginx.service", "nginx.service"}, units.done)
	srv := w.all()[0].hosts
	result, message, err := srv.Restart(t.Context(), h.pki.NodeID(), "user/alice", "unit", "db.service")
	require.ErrorIs(t, err, model.ErrForbidden)
	require.Equal(t, "refused", result)
	require.Contains(t, message, "switched off")
	_, _, err = srv.Restart(t.Context(), off.pki.NodeID(), "user/alice", "unit", "nginx.service")
	require.ErrorIs(t, err, model.ErrForbidden)
	_, _, err = srv.Restart(t.Context(), h.pki.NodeID(), "user/alice", "unit", "nginx.service")
	require.NoError(t, err)
	_, _, err = srv.Restart(t.Context(), h.pki.NodeID(), "user/alice", "unit", "nginx.service")
	require.ErrorIs(t, err, model.ErrLimit)
	var inv model.Invalid
	_, _, err = srv.Restart(t.Context(), h.pki.NodeID(), "user/alice", "process", "nginx")
	require.ErrorAs(t, err, &inv)
	_, _, err = srv.Restart(t.Context(), "nobody", "user/alice", "unit", "nginx.service")
	require.ErrorIs(t, err, model.ErrNotFound)
	require.Len(t, units.done, 3)

	// Written down by the server that was asked, and by the host.
	count := func(kind model.EventKind, code string) (n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, e := range w.events {
			if e.Kind == kind && e.Code == code && e.Subject == "node/"+h.pki.NodeID() {
				n++
			}
		}
		return n
	}
	eventually(t, 5*time.Second, func() bool { return count(model.EventAudit, "host.restart") == 5 }, "the servers' word")
	eventually(t, 5*time.Second, func() bool { return count(model.EventNode, "host.restart_request") == 5 }, "the host's own word")
	eventually(t, 5*time.Second, func() bool {
		return len(w.store.series(map[string]string{"__name__": "panoptes_service_up", "host": "web-1", "kind": "unit", "name": "db.service"})) == 1
	}, "what is watched")
}

func TestNeighboursAndTargetsNearTheHost(t *testing.T) {
	w := newWorld(t)
	w.groups = []model.HostGroup{{Name: "all", Mesh: &model.HostMesh{Peers: []string{"*"}, Interval: model.Duration(5 * time.Second)}}}
	w.add("n1", hosts.Config{})
	exporter := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write([]byte("pg_up{host=\"forged\"} 1\nALERTS{alertname=\"forged\"} 1\n"))
	}))
	t.Cleanup(exporter.Close)
	addr := strings.TrimPrefix(exporter.URL, "http://")
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	w.jobs, err = json.Marshal([]uplink.ScrapeJob{{Job: "pg", Targets: []string{addr}, Interval: model.Duration(time.Second)}})
	require.NoError(t, err)
	var mu sync.Mutex
	var pinged []string
	for i, name := range []string{"web-1", "web-2"} {
		m, err := mesh.New(mesh.Deps{Ping: func(_ context.Context, a netip.Addr, _ int) (mesh.Answer, error) {
			mu.Lock()
			defer mu.Unlock()
			pinged = append(pinged, a.String())
			return mesh.Answer{Sent: 3, Got: 2, RTT: time.Millisecond}, nil
		}})
		require.NoError(t, err)
		s, err := scraper.New(scraper.Config{}, scraper.Deps{DialServers: (&net.Dialer{}).DialContext})
		require.NoError(t, err)
		w.join(name).start(func(_ *agent.Config, d *agent.Deps) {
			d.Sources = []agent.Source{m, s}
			d.Facts = func() agent.Facts {
				return agent.Facts{Hostname: name, Machine: name, Boot: "b", Addresses: []string{"172.17.0.1", []string{"10.0.0.1", "10.0.0.2"}[i]}}
			}
		})
	}
	eventually(t, 5*time.Second, func() bool {
		return len(w.store.series(map[string]string{"__name__": "pg_up", "host": "web-1", "instance": "web-1:" + port, "job": "pg", "exported_host": "forged"})) == 1 &&
			len(w.store.series(map[string]string{"__name__": "up", "instance": "web-2:" + port})) == 1
	}, "a target near the host")
	require.Empty(t, w.store.series(map[string]string{"__name__": "ALERTS"}))
	// The second one comes into the list of the first one by itself.
	eventually(t, 25*time.Second, func() bool {
		return len(w.store.series(map[string]string{"__name__": "panoptes_mesh_lost_total", "host": "web-1", "peer": "web-2", "peer_region": "eu"})) == 1 &&
			len(w.store.series(map[string]string{"__name__": "panoptes_mesh_rtt_seconds", "host": "web-2", "peer": "web-1"})) == 1
	}, "they look at each other")
	mu.Lock()
	defer mu.Unlock()
	require.False(t, slices.Contains(pinged, "172.17.0.1"), "an address that both claim")
}
