package relay_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/model"
)

// acked is the writers' own log of what was acknowledged to them.
type acked struct {
	mu      sync.Mutex
	samples map[string]map[point]bool // by series
	events  map[string]bool
}

func (a *acked) add(b model.Batch, e model.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range b {
		name := s.Labels.String()
		if a.samples[name] == nil {
			a.samples[name] = map[point]bool{}
		}
		a.samples[name][point{s.T, s.V}] = true
	}
	if e.ID != "" {
		a.events[e.ID] = true
	}
}

// Whatever happens to servers and the ways between them: what was acknowledged
// is on every server in the end, and nothing else but what somebody wrote.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		defer w.end()
		steps := rapid.IntRange(5, 15).Draw(rt, "steps")
		for i := range steps {
			<-time.After(time.Duration(rapid.IntRange(0, 40).Draw(rt, "pause")) * time.Millisecond)
			w.step(i, rapid.SampledFrom([]string{"write", "write", "write", "storm", "storm", "slow", "cut", "cut", "heal", "stop", "start", "crash", "relay", "alive", "gate", "full"}).Draw(rt, "fault"),
				rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "node"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "other"))
		}
		w.heal()
		w.check()
	})
}

type world struct {
	t     *testing.T
	c     *cluster
	acks  acked
	gates map[string]*gate
	clock int64
	wg    sync.WaitGroup
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, c: newCluster(t, "a", "b", "c"), gates: map[string]*gate{}, clock: now() - 600_000,
		acks: acked{samples: map[string]map[point]bool{}, events: map[string]bool{}}}
	for _, n := range w.c.nodes {
		n.cfg.SegmentBytes, n.cfg.TailBytes, n.cfg.WindowBytes = 3000, 5000, 4000
		n.cfg.AckTimeout, n.cfg.ConnectTimeout = 200*time.Millisecond, 200*time.Millisecond
		w.start(n)
	}
	w.alive()
	return w
}

func (w *world) start(n *node) {
	w.gates[n.id] = n.gate()
	n.start()
	n.relay.SetDestinations(w.c.ids())
}

// alive tells all who runs, as gossip would.
func (w *world) alive() {
	var ids []string
	for _, id := range w.c.ids() {
		if w.c.nodes[id].relay != nil {
			ids = append(ids, id)
		}
	}
	w.c.setAlive(ids...)
}

func (w *world) step(i int, fault, id, other string) {
	n := w.c.nodes[id]
	runs := n.relay != nil
	if !runs { // a fault of what does not run is none
		fault = "start"
	}
	switch {
	case fault == "write" && runs:
		w.write(n, fmt.Sprintf("m%d", i%3))
	case fault == "storm" && runs: // connections end while much is on the way
		for _, g := range w.gates {
			g.delay(20 * time.Millisecond)
		}
		w.write(n, fmt.Sprintf("m%d", i%3))
		<-time.After(40 * time.Millisecond)
		if o := w.c.nodes[other]; o.relay != nil {
			w.stop(o, true)
			w.start(o)
			w.alive()
		}
		for _, to := range w.c.ids() {
			w.c.link(id, to, false)
			w.c.link(id, to, true)
		}
	case fault == "cut" && id != other:
		w.c.link(id, other, false)
	case fault == "heal":
		w.c.link(id, other, true)
	case fault == "stop" && runs, fault == "crash" && runs:
		w.stop(n, fault == "crash")
	case fault == "start" && !runs:
		w.start(n)
		w.alive()
	case fault == "relay" && runs: // the process starts anew at once
		w.stop(n, true)
		w.start(n)
		w.alive()
	case fault == "alive" && runs:
		n.relay.SetAlive([]string{id, other})
	case fault == "gate" && runs:
		g := w.gates[id]
		g.close()
		time.AfterFunc(50*time.Millisecond, g.open)
	case fault == "slow" && runs:
		w.gates[id].delay(30 * time.Millisecond)
	case fault == "full" && runs:
		g := w.gates[id]
		g.fail(model.ErrNoSpace)
		time.AfterFunc(100*time.Millisecond, func() { g.fail(nil) })
	}
}

// stop ends a node; crashed has cursors that were saved some time before, and
// the beginning of a record at the end of its log.
func (w *world) stop(n *node, crashed bool) {
	path := filepath.Join(n.dir, "relay", "state.json")
	before, err := os.ReadFile(path)
	require.NoError(w.t, err)
	if crashed { // what it has received and not stored is gone
		w.gates[n.id].fail(model.ErrUnavailable)
	}
	w.gates[n.id].open()
	n.stop()
	w.alive()
	if !crashed {
		return
	}
	require.NoError(w.t, os.WriteFile(path, before, 0o600))
	if files := n.segments(); len(files) > 0 {
		f, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
		require.NoError(w.t, err)
		_, err = f.Write([]byte{200, 0, 0, 0, 1, 2, 3})
		require.NoError(w.t, err)
		require.NoError(w.t, f.Close())
	}
}

// write begins some writes that go on while the next faults happen.
func (w *world) write(n *node, name string) {
	r := n.relay
	for i := range 12 {
		w.clock += 10
		b, e := rough(name, 20, w.clock), event(name)
		for i := range b {
			b[i].Labels = series(name+n.id, i)
		}
		w.wg.Go(func() {
			<-time.After(time.Duration(i) * 5 * time.Millisecond)
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
			defer cancel()
			if r.Append(ctx, b) == nil {
				w.acks.add(b, model.Event{})
			}
			if r.AppendEvents(ctx, e) == nil {
				w.acks.add(nil, e)
			}
		})
	}
}

func (w *world) heal() {
	for _, n := range w.c.nodes {
		for _, o := range w.c.ids() {
			w.c.link(n.id, o, true)
		}
		if n.relay == nil {
			w.start(n)
		}
		w.gates[n.id].open()
		w.gates[n.id].fail(nil)
		w.gates[n.id].delay(0)
	}
	w.alive()
	w.wg.Wait()
}

func (w *world) check() {
	t := w.t
	for _, n := range w.c.nodes {
		require.Eventually(t, func() bool {
			for _, d := range n.relay.Destinations() {
				if d.Bytes > 0 || !d.Connected {
					return false
				}
			}
			return true
		}, patience, 5*time.Millisecond, "%s does not bring what it has: %+v", n.id, n.relay.Destinations())
	}
	for _, n := range w.c.nodes {
		got := map[string]map[point]bool{}
		for i := range 3 {
			for _, from := range w.c.ids() {
				for name, points := range n.read(fmt.Sprintf("m%d%s", i, from)) {
					got[name] = map[point]bool{}
					for _, p := range points {
						got[name][p] = true
					}
				}
			}
		}
		for name, points := range w.acks.samples {
			for p := range points {
				require.True(t, got[name][p], "%s lacks %s at %d, which was acknowledged", n.id, name, p.t)
			}
		}
		events := n.allEvents(t)
		for id := range w.acks.events {
			require.Contains(t, events, id, n.id)
		}
	}
}

func (w *world) end() {
	w.wg.Wait()
	for _, n := range w.c.nodes {
		if g := w.gates[n.id]; g != nil {
			g.open()
		}
		n.stop()
	}
}
