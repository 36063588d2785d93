//go:build e2e && linux

package agents

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/test/harness"
)

// target answers at an address of the world and counts who asks.
func target(t *testing.T, addr string) *atomic.Int64 {
	t.Helper()
	l, err := net.Listen("tcp4", addr)
	require.NoError(t, err)
	var n atomic.Int64
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n.Add(1)
		io.WriteString(w, "ok\n")
	})}
	var wg sync.WaitGroup
	wg.Go(func() {
		// It ends when it is closed.
		_ = srv.Serve(l)
	})
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	return &n
}

// agent is a machine with an agent.
type agent struct {
	host *harness.Host
	proc *harness.Process
	dir  string
}

func (c *cluster) agent(name, region string, args ...string) *agent {
	c.t.Helper()
	h := c.net.Host(name)
	a := &agent{host: h, dir: filepath.Join(c.t.TempDir(), "agent"), proc: h.Program(harness.AgentBinary(c.t))}
	a.proc.Start(append([]string{"--join", c.servers[0].host.IP + ":9701", "--token", c.token(map[string]any{"role": "agent", "region": region, "checks": true}), "--node", name, "--region", region, "--data-dir", a.dir, "--interval", "1s"}, args...)...)
	return a
}

func (a *agent) again() {
	a.proc.Start("--node", a.host.Name, "--region", "edge", "--data-dir", a.dir, "--interval", "1s", "--checks")
}

// whole waits until all servers have the same samples of a series, none more
// than gap apart, over a time that ended just now.
func (c *cluster) whole(selector string, from time.Time, gap time.Duration) (samples int) {
	c.t.Helper()
	eventually(c.t, 45*time.Second, "samples are missing or differ", func() error {
		var first []int64
		until := time.Now().Add(-3 * time.Second).UnixMilli()
		for _, s := range c.servers {
			list, err := s.times(fmt.Sprintf("%s[%ds]", selector, int(time.Since(from).Seconds())+1))
			if err != nil {
				return fmt.Errorf("%s: %w", s.host.Name, err)
			}
			list = slices.DeleteFunc(list, func(t int64) bool { return t < from.UnixMilli() || t > until })
			if len(list) == 0 || list[0] > from.Add(2*gap).UnixMilli() {
				return fmt.Errorf("%s has nothing of the beginning", s.host.Name)
			}
			if last := list[len(list)-1]; last < until-gap.Milliseconds() {
				return fmt.Errorf("%s has nothing of the last %d s", s.host.Name, (until-last)/1000)
			}
			for i := 1; i < len(list); i++ {
				if d := list[i] - list[i-1]; d <= 0 || d > gap.Milliseconds()+c.still.Between(time.UnixMilli(list[i-1]), time.UnixMilli(list[i])).Milliseconds() {
					return fmt.Errorf("%s: %d ms between two samples, %d s before the end", s.host.Name, d, (until-list[i])/1000)
				}
			}
			if first == nil {
				first = list
			}
			// What is on its way just now may be here and not there.
			n := min(len(first), len(list))
			if !slices.Equal(first[:n], list[:n]) || max(len(first), len(list))-n > 2 {
				return fmt.Errorf("%s has %d samples, %s has %d", c.servers[0].host.Name, len(first), s.host.Name, len(list))
			}
			samples = n
		}
		return nil
	})
	return samples
}

// An agent joins with a token, outlives every server in turn and a cut network,
// and loses nothing; its host is told apart by what really happened to it.
func TestAgentOutlivesServersAndNetwork(t *testing.T) {
	c := newCluster(t, "eu", "eu", "us")
	asked := target(t, harness.WorldAddr(1)+":8080")
	a := c.agent("web-1", "edge", "--checks", "--allow", "10.77.0.0/16", "--labels", "team=web")
	other := c.servers[1]
	h := other.is("web-1", "online", 30*time.Second)

	// What it measures is on all servers, under its own name.
	for _, s := range c.servers {
		eventually(t, 20*time.Second, "no samples on "+s.host.Name, func() error {
			n, err := s.scalar(`count(node_cpu_seconds_total{host="web-1",instance="web-1",region="edge",job="node"})`)
			if err == nil && n == 0 {
				err = fmt.Errorf("none")
			}
			return err
		})
	}
	began := time.Now()

	// Checks run from where it is, and from there alone.
	require.NoError(t, other.do(http.MethodPost, "/v1/checks", map[string]any{
		"name": "shop", "type": "http", "target": "http://" + harness.WorldAddr(1) + ":8080/", "interval": "1s", "timeout": "900ms", "regions": []string{"edge"},
	}, nil))
	eventually(t, 20*time.Second, "the check is not run", func() error {
		var check struct {
			State struct {
				Status  string
				Regions map[string]struct{ Status, Prober string }
			}
		}
		if err := other.get("/v1/checks/shop", &check); err != nil {
			return err
		}
		n, err := c.servers[0].scalar(`probe_success{check="shop",region="edge",prober="web-1"}`)
		if err != nil || n != 1 || check.State.Status != "up" || len(check.State.Regions) != 1 || asked.Load() == 0 {
			return fmt.Errorf("%+v, %v samples, asked %d times: %w", check.State, n, asked.Load(), err)
		}
		return nil
	})
	// When an administrator takes the right away, it has none within a moment and its
	// place votes no more; given back, it goes on.
	require.True(t, h.Checks)
	require.NoError(t, other.do(http.MethodPatch, "/v1/hosts/web-1", map[string]any{"checks": false}, nil))
	quiet := func() error {
		before := asked.Load()
		<-time.After(2500 * time.Millisecond) // it was asked each second
		if n := asked.Load() - before; n > 0 {
			return fmt.Errorf("asked %d times", n)
		}
		return nil
	}
	eventually(t, 15*time.Second, "it runs checks all the same", quiet)
	require.NoError(t, other.do(http.MethodPatch, "/v1/hosts/web-1", map[string]any{"checks": true}, nil))
	eventually(t, 15*time.Second, "the check is not run again", func() error {
		if quiet() == nil {
			return fmt.Errorf("nobody asks")
		}
		return nil
	})
	// Groups reach it.
	require.NoError(t, other.do(http.MethodPost, "/v1/hostgroups", map[string]any{"name": "fronts", "hosts": []string{"web-*"}, "labels": map[string]string{"tier": "front"}}, nil))
	eventually(t, 10*time.Second, "the label of the group is missing", func() error {
		n, err := other.scalar(`count(node_load1{host="web-1",tier="front"})`)
		if err == nil && n != 1 {
			err = fmt.Errorf("%v series", n)
		}
		return err
	})

	// Its server is killed, and the next one.
	eventually(t, 40*time.Second, "nobody knows whether others reach the host", func() (err error) {
		if h, err = other.machine("web-1"); err == nil && !h.Reachable {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
	grouped := time.Now()
	witness := c.servers[2]
	for range 2 {
		var holder *server
		eventually(t, 10*time.Second, "it talks to nobody", func() (err error) {
			holder, err = c.holding(witness, "web-1")
			return err
		})
		if holder == witness {
			witness = c.servers[(slices.Index(c.servers, holder)+1)%len(c.servers)]
		}
		holder.proc.Kill()
		killed := time.Now()
		eventually(t, 15*time.Second, "it did not move on", func() error {
			next, err := c.holding(witness, "web-1")
			if err == nil && next == holder {
				err = fmt.Errorf("still %s", holder.host.Name)
			}
			return err
		})
		t.Logf("moved on from %s within %s", holder.host.Name, time.Since(killed).Round(time.Millisecond))
		h, err := witness.machine("web-1")
		require.NoError(t, err)
		require.Equal(t, "online", h.Status, "a server that dies is not a host that dies")
		holder.start()
	}

	// The machine's network is cut: nobody reaches it, which is what down means.
	all := c.addresses()
	c.net.Cut([]string{a.host.IP}, all)
	cut := time.Now()
	h = other.is("web-1", "unknown", 30*time.Second)
	require.Equal(t, "host.silent", h.Code)
	h = other.is("web-1", "down", 45*time.Second)
	require.NotEmpty(t, h.Evidence)
	require.Contains(t, h.Message, "does not answer")
	t.Logf("down %s after the cut: %s", time.Since(cut).Round(time.Second), h.Message)
	eventually(t, 10*time.Second, "no alert", func() error {
		x, err := witness.machine("web-1")
		if err == nil && x.Alerts != 1 {
			err = fmt.Errorf("%d alerts", x.Alerts)
		}
		return err
	})
	held, err := a.proc.Resident()
	require.NoError(t, err)
	t.Logf("the agent holds %.1f MB after %s without servers", float64(held)/1e6, time.Since(cut).Round(time.Second))
	require.Less(t, held, int64(60<<20), "memory of an agent whose data wait on disk")
	c.net.HealAll()
	other.is("web-1", "online", 20*time.Second)
	n := c.whole(`node_load1{host="web-1",tier="front"}`, grouped, 2500*time.Millisecond)
	t.Logf("%d samples in %s, the same on all servers", n, time.Since(grouped).Round(time.Second))
	require.Greater(t, float64(n), time.Since(began).Seconds()/3)

	// Killed, while the machine goes on: unknown, with what was found.
	a.proc.Kill()
	eventually(t, 45*time.Second, "nobody found out", func() (err error) {
		if h, err = other.machine("web-1"); err == nil && h.Code != "host.agent_silent" {
			err = fmt.Errorf("%+v", h)
		}
		return err
	})
	require.Equal(t, "unknown", h.Status)
	a.again()
	other.is("web-1", "online", 20*time.Second)

	// Stopped on purpose: no alarm.
	a.proc.Stop()
	other.is("web-1", "stopped", 10*time.Second)
	eventually(t, 10*time.Second, "alerts are left", func() error {
		x, err := other.machine("web-1")
		if err == nil && x.Alerts != 0 {
			err = fmt.Errorf("%d alerts", x.Alerts)
		}
		return err
	})

	// Removed: what it has is worth nothing any more.
	require.NoError(t, other.do(http.MethodDelete, "/v1/hosts/web-1", nil, nil))
	a.again()
	removed := time.Now()
	eventually(t, 20*time.Second, "it was not refused", func() error {
		if !strings.Contains(a.proc.Log(), "removed from the cluster") {
			return fmt.Errorf("%s", a.proc.Log())
		}
		return nil
	})
	for _, s := range c.servers {
		_, err := s.machine("web-1")
		require.ErrorContains(t, err, "404")
		list, err := s.times(`node_load1{host="web-1",tier="front"}[1m]`)
		require.NoError(t, err)
		require.Less(t, slices.Max(list), removed.UnixMilli(), "%s took samples of a host that is removed", s.host.Name)
	}
}
