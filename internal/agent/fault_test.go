package agent_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// An agent away from all servers keeps what it measures, in memory and on disk,
// also over its own end; live samples do not wait for what is made up.
func TestALongOutage(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start(every(20 * time.Millisecond))
	eventually(t, 5*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) > 50 }, "connected")
	s.cut.Store(true)
	eventually(t, 20*time.Second, func() bool { return h.agent.Buffer().Waiting > 3000 }, "the buffer fills")
	h.stop() // and it is started anew while no server answers
	first := h.collect.rounds()
	h.start(every(20 * time.Millisecond))
	eventually(t, 20*time.Second, func() bool { return h.agent.Buffer().Waiting > 6000 }, "the buffer fills further")

	w.store.delay.Store(int64(20 * time.Millisecond)) // a store that takes its time
	back := time.Now()
	s.cut.Store(false)
	// Rounds are counted, not milliseconds: a machine that stands still makes none.
	behind := func() int {
		all, ts := h.collect.rounds(), w.store.times("node_test", "web-1")
		return len(all) - sort.Search(len(all), func(i int) bool { return all[i] > ts[len(ts)-1] })
	}
	eventually(t, 15*time.Second, func() bool { return behind() < 300/20 }, "live samples")
	t.Logf("live again after %s, %d samples still on disk", time.Since(back), h.agent.Buffer().Waiting)
	late := 0
	eventually(t, 60*time.Second, func() bool {
		late = max(late, behind())
		return h.agent.Buffer().Waiting == 0
	}, "all of it is made up for")
	t.Logf("made up after %s; live samples at most %d rounds late", time.Since(back), late)
	require.Less(t, late, 1500/20)
	require.Zero(t, h.agent.Buffer().Dropped)
	h.stop()
	if !complete(h) { // what could not be handed over before the end is on disk
		h.start(every(time.Second))
	}
	eventually(t, 5*time.Second, func() bool { return complete(h) }, "nothing is lost")
	got := w.store.times("node_test", "web-1")
	for _, at := range first {
		_, ok := slices.BinarySearch(got, at)
		require.True(t, ok, "a round from before the restart is missing")
	}
	require.Zero(t, w.store.differ)
	require.Zero(t, h.agent.Buffer().Dropped)
}

func TestAServerThatCanStoreNothingLosesNothing(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	h := w.join("web-1").start(every(50 * time.Millisecond))
	eventually(t, 5*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) > 20 }, "connected")
	full := error(model.ErrNoSpace)
	w.store.fail.Store(&full)
	eventually(t, 10*time.Second, func() bool { return h.agent.Buffer().Waiting > 500 }, "kept on disk")
	w.store.fail.Store(nil)
	eventually(t, 20*time.Second, func() bool { return h.agent.Buffer().Waiting == 0 && complete(h) }, "delivered")
	require.Zero(t, w.store.differ)
}

// proxy is an HTTP proxy that can do nothing but CONNECT.
func proxy(t *testing.T, want string) (addr string, used *atomic.Int64) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	used = &atomic.Int64{}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close() //nolint:errcheck // of a test
				defer context.AfterFunc(ctx, func() { _ = c.Close() })()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil || req.Method != http.MethodConnect {
					return
				}
				if req.Header.Get("Proxy-Authorization") != want {
					_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
					return
				}
				to, err := net.Dial("tcp", req.Host)
				if err != nil {
					return
				}
				defer to.Close() //nolint:errcheck // of a test
				used.Add(1)
				_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
				wg.Go(func() { _, _ = io.Copy(to, r); _ = to.Close() })
				_, _ = io.Copy(c, to)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); cancel(); wg.Wait() })
	return l.Addr().String(), used
}

func TestThroughAProxy(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	h := w.join("web-1")
	addr, used := proxy(t, "Basic dXNlcjpwYXNz")
	ask, err := agent.FixedProxy("http://user:pass@" + addr)
	require.NoError(t, err)
	dial := agent.Dialer(ask)
	client := wire.NewClient(wire.ClientConfig{TLS: h.pki.ClientTLS, Dial: dial}, wire.ClientDeps{})
	h.start(every(100*time.Millisecond), func(_ *agent.Config, d *agent.Deps) {
		d.Dial = func(id, to string) wire.Conn { return client.Conn(id, to) }
	})
	t.Cleanup(func() { h.stop(); _ = client.Close() })
	eventually(t, 5*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) > 10 }, "samples")
	require.Positive(t, used.Load())

	wrong, err := agent.FixedProxy("http://" + addr)
	require.NoError(t, err)
	_, err = agent.Dialer(wrong)(t.Context(), w.server[0].addr)
	require.ErrorContains(t, err, "407")
	_, err = agent.FixedProxy("socks5://x")
	require.ErrorContains(t, err, "HTTP proxy")
}

func TestARevokedAgentIsOut(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start(every(50 * time.Millisecond))
	eventually(t, 5*time.Second, func() bool { return len(s.hosts.Connected()) == 1 }, "connected")
	s.pki.SetRevoked([]string{h.pki.NodeID()})
	s.hosts.Revoke(h.pki.NodeID())
	s.wire.Disconnect(h.pki.NodeID())
	eventually(t, 3*time.Second, func() bool { return len(s.hosts.Connected()) == 0 }, "out")
	n := len(w.store.times("node_test", "web-1"))
	eventually(t, 5*time.Second, func() bool { return h.agent.Buffer().Waiting > 50 }, "it goes on measuring")
	require.Empty(t, s.hosts.Connected())
	require.InDelta(t, n, len(w.store.times("node_test", "web-1")), 30, "and nobody stores it")
}

func TestACopyOfAMachineIsFound(t *testing.T) {
	for _, servers := range []int{1, 2} {
		w := newWorld(t)
		for i := range servers {
			w.add([]string{"n1", "n2"}[i], hosts.Config{})
		}
		h := w.join("web-1").start(every(100 * time.Millisecond))
		id := h.pki.NodeID()
		eventually(t, 5*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) > 10 }, "the first one")
		clone := h.copyOf("web-1-copy")
		// The copy begins with the other server.
		clone.start(every(100*time.Millisecond), func(c *agent.Config, d *agent.Deps) {
			list := w.servers()
			var last uplink.Server
			for _, s := range w.all() {
				if len(s.hosts.Connected()) == 0 {
					last = uplink.Server{ID: s.id, Addr: s.addr}
				}
			}
			if last.Addr != "" {
				list = []uplink.Server{last}
			}
			c.Servers = list
		})
		eventually(t, 10*time.Second, func() bool { return slices.Contains(w.codes(id), "host.clone") }, "an event")
		eventually(t, 5*time.Second, func() bool {
			var runs int
			for _, s := range w.all() {
				runs += len(s.hosts.Connected())
			}
			return runs == 1 && h.agent.Connected() && !clone.agent.Connected()
		}, "the first one stays, the copy is out")
		clone.stop()
		h.stop()
		require.Equal(t, 1, count(w.codes(id), "host.clone"))
	}
}

func count(list []string, s string) (n int) {
	for _, v := range list {
		if v == s {
			n++
		}
	}
	return n
}

func TestAnAgentThatIsStartedAnewIsNoCopy(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start(every(50 * time.Millisecond))
	eventually(t, 5*time.Second, func() bool { return len(s.hosts.Connected()) == 1 }, "connected")
	// Its end is not heard of: the old stream hangs.
	s.cut.Store(true)
	h.stop()
	s.cut.Store(false)
	h.start(every(50 * time.Millisecond))
	eventually(t, 8*time.Second, func() bool { return h.agent.Connected() }, "let in")
	require.Zero(t, count(w.codes(h.pki.NodeID()), "host.clone"))
}

func TestAnAgentMayCallNothingElse(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1").start()
	for _, m := range []string{"hosts.look", "hosts.probe", "hosts.live"} {
		_, err := h.client.Conn(s.id, s.addr).Call(t.Context(), m, []byte(`{"node":"`+h.pki.NodeID()+`"}`))
		require.ErrorIs(t, err, model.ErrForbidden, m)
	}
	// Nor does anybody without a certificate begin a stream.
	stranger := wire.NewClient(wire.ClientConfig{TLS: insecure}, wire.ClientDeps{})
	t.Cleanup(func() { _ = stranger.Close() })
	st, err := stranger.Conn("", s.addr).Open(t.Context(), uplink.Method)
	if err == nil {
		_, err = st.Recv()
	}
	require.Error(t, err)
}

func TestTheAgentFindsItsServersAfterARestart(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	w.add("n2", hosts.Config{})
	h := w.join("web-1").start(func(c *agent.Config, _ *agent.Deps) { c.Servers = c.Servers[:1] })
	eventually(t, 5*time.Second, func() bool { return len(h.agent.ServerAddrs()) == 2 }, "a server tells of all")
	h.stop()
	w.server[0].stop()
	h.start(func(c *agent.Config, _ *agent.Deps) { c.Servers = nil })
	eventually(t, 8*time.Second, func() bool { return h.agent.Connected() }, "the other server")
}

func TestTheImportGraphStaysSmall(t *testing.T) {
	out := goList(t)
	for _, never := range []string{
		"go.etcd.io", "k8s.io/client", "k8s.io/api", "github.com/prometheus/alertmanager", "github.com/spf13/cobra", "modernc.org/sqlite",
		"github.com/hashicorp", "github.com/prometheus/prometheus/discovery", "github.com/prometheus/prometheus/scrape", "github.com/prometheus/prometheus/promql/parser/ast",
		"github.com/prometheus/node_exporter", "panoptes/internal/app", "panoptes/internal/cli", "panoptes/internal/config", "panoptes/internal/hosts", "panoptes/internal/store",
		"panoptes/internal/control", "panoptes/internal/cluster",
	} {
		for _, p := range out {
			require.False(t, p == never || strings.HasPrefix(p, never+"/"), "the agent must stay small, it imports %s", p)
		}
	}
	// Of the time series database there are types only.
	for _, p := range out {
		if rest, ok := strings.CutPrefix(p, "github.com/prometheus/prometheus/"); ok {
			require.NotEqual(t, "tsdb", rest)
			require.NotEqual(t, "promql", rest)
			require.NotContains(t, rest, "tsdb/wlog")
		}
	}
	require.Contains(t, out, "panoptes/internal/agent")
}
