package hosts

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// agentStream is the stream of an agent whose messages a test reads and writes.
type agentStream struct {
	ctx     context.Context //nolint:containedctx // is the stream's life
	in, out chan []byte
}

func (s *agentStream) Context() context.Context { return s.ctx }

func (s *agentStream) Send(b []byte) error {
	select {
	case s.out <- append([]byte(nil), b...):
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

func (s *agentStream) Recv() ([]byte, error) {
	select {
	case b := <-s.in:
		return b, nil
	case <-s.ctx.Done():
		return nil, io.EOF
	}
}

// probed is a store that counts the samples of checks.
type probed struct {
	foreign
	mu sync.Mutex
	n  int // guarded by mu
}

func (p *probed) Appender(context.Context) storage.Appender { return p }

func (p *probed) Append(ref storage.SeriesRef, l labels.Labels, _ int64, _ float64) (storage.SeriesRef, error) {
	if l.Get(model.LabelCheck) == "shop" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.n++
	}
	return max(ref, 1), nil
}

// offering is an agent that offers to run checks, and the server that it talks to.
type offering struct {
	t      *testing.T
	h      *Hosts
	stream *agentStream
	store  *probed
	enc    *wire.Encoder
	seq    uint64
	anew   bool                     // the next frame begins a dictionary
	kinds  map[uplink.Kind][][]byte // what it was told

	mu    sync.Mutex // guards what follows
	node  *model.Node
	votes []model.Result
}

const secretTarget = "http://user:secret@shop.example/"

// offer connects an agent that is on record as node says; nil: not yet.
func offer(t *testing.T, node *model.Node) *offering {
	t.Helper()
	o := &offering{t: t, node: node, store: &probed{}, kinds: map[uplink.Kind][][]byte{}}
	check := model.Check{ID: "c1", Revision: 1, Name: "shop", Type: "http", Target: secretTarget, Interval: model.Duration(time.Minute)}
	record := func() (model.Node, bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.node == nil {
			return model.Node{}, false
		}
		return *o.node, true
	}
	var err error
	o.h, err = New(Config{NodeID: "n1"}, Deps{
		Store: o.store,
		Node:  func(string) (model.Node, bool) { return record() },
		Nodes: func() []model.Node {
			if n, ok := record(); ok {
				return []model.Node{n}
			}
			return nil
		},
		Checks: func(string) []model.Check { return []model.Check{check} },
		Check:  func(_, id string) (model.Check, bool) { return check, id == check.ID },
		Result: func(r model.Result) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.votes = append(o.votes, r)
		},
	})
	require.NoError(t, err)
	o.enc, err = wire.NewEncoder()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	o.stream = &agentStream{ctx: ctx, in: make(chan []byte), out: make(chan []byte, 100)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = o.h.serve(model.Peer{NodeID: "a1", Name: "web-1", Region: "eu", Role: model.RoleAgent}, o.stream)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		o.h.wg.Wait()
	})
	o.say(uplink.KindHello, uplink.Hello{Run: "r", Checks: true})
	o.hear(uplink.KindWelcome)
	o.settle()
	return o
}

func (o *offering) say(k uplink.Kind, v any) {
	o.t.Helper()
	b, err := uplink.Encode(k, v)
	require.NoError(o.t, err)
	o.send(b)
}

func (o *offering) send(b []byte) {
	o.t.Helper()
	select {
	case o.stream.in <- b:
	case <-time.After(30 * time.Second):
		require.Fail(o.t, "the server does not read")
	}
}

// hear waits a second for a message.
func (o *offering) hear(want uplink.Kind) []byte {
	o.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case b := <-o.stream.out:
			k, content, err := uplink.Split(b)
			require.NoError(o.t, err)
			o.kinds[k] = append(o.kinds[k], content)
			if k == want {
				return content
			}
		case <-limit:
			require.Failf(o.t, "not told", "%q within half a minute", byte(want))
			return nil
		}
	}
}

// settle waits until everything before was taken, and everything that there is
// to tell was told.
func (o *offering) settle() {
	o.t.Helper()
	require.Eventually(o.t, func() bool { return len(o.h.here("a1").news) == 0 }, 30*time.Second, time.Millisecond)
	o.send([]byte{byte(uplink.KindBeat)})
	o.hear(uplink.KindBeat)
}

// decide changes the record.
func (o *offering) decide(f func(*model.Node)) {
	o.mu.Lock()
	n := model.Node{ID: "a1", Name: "web-1", Role: model.RoleAgent, Region: "eu"}
	if o.node != nil {
		n = *o.node
	}
	f(&n)
	o.node = &n
	o.mu.Unlock()
	o.h.Refresh()
}

func (o *offering) checks(content []byte) (c uplink.Checks) {
	o.t.Helper()
	require.NoError(o.t, json.Unmarshal(content, &c))
	return c
}

// result says what a check found and returns how many votes there are.
func (o *offering) result() int {
	o.t.Helper()
	o.say(uplink.KindResults, []model.Result{{CheckID: "c1", Start: time.Now(), Success: true}})
	o.settle()
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.votes)
}

// sample sends one of the check, in the dictionary that began first, and returns
// how many are stored.
func (o *offering) sample() int {
	o.t.Helper()
	f := wire.Frame{IDs: []uint32{0}, Times: []int64{time.Now().UnixMilli()}, Values: []float64{1}}
	o.seq++
	start := o.seq == 1 || o.anew
	if o.anew = false; start {
		o.enc.Reset()
		f.Series = []labels.Labels{labels.FromStrings(model.MetricName, "probe_success", uplink.CheckLabel, uplink.CheckKey("c1", 1))}
	}
	b, err := o.enc.Encode(nil, &f)
	require.NoError(o.t, err)
	d := uplink.Data{Start: start, Seq: o.seq, Frame: b}
	o.send(d.Append(nil))
	o.hear(uplink.KindAck)
	o.store.mu.Lock()
	defer o.store.mu.Unlock()
	return o.store.n
}

// asked reports whether a probe request reaches the agent.
func (o *offering) asked() error {
	ctx, cancel := context.WithCancel(o.t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := o.h.Probe(ctx, "a1", model.Check{ID: "c1", Target: secretTarget})
		done <- err
	}()
	for {
		select {
		case err := <-done:
			return err
		case b := <-o.stream.out:
			if uplink.Kind(b[0]) == uplink.KindProbe {
				cancel()
				<-done
				return nil
			}
		}
	}
}

// checkers is who makes a region, and who is given work.
func (o *offering) checkers() (region []string, working bool) {
	o.h.tick(o.t.Context())
	sessions := o.h.Sessions()
	require.Len(o.t, sessions, 1)
	host, err := o.h.Host("a1")
	if err == nil {
		require.True(o.t, host.ChecksOffered)
		require.Equal(o.t, sessions[0].Checks, host.Checks)
	}
	return o.h.Checkers(), sessions[0].Checks
}

func TestAnAgentWithoutConsentIsGivenNothing(t *testing.T) {
	record := func(f func(*model.Node)) *model.Node {
		n := &model.Node{ID: "a1", Name: "web-1", Role: model.RoleAgent, Region: "eu"}
		f(n)
		return n
	}
	for name, c := range map[string]struct {
		node    *model.Node
		allowed bool
	}{
		"not on record here yet": {nil, false},
		"from before consent":    {record(func(*model.Node) {}), false},
		"no region":              {record(func(n *model.Node) { n.Checks, n.Region = true, "" }), false},
		"no agent":               {record(func(n *model.Node) { n.Checks, n.Role = true, model.RoleServer }), false},
		"removed":                {record(func(n *model.Node) { n.Checks, n.Revoked = true, true }), false},
		"allowed":                {record(func(n *model.Node) { n.Checks = true }), true},
	} {
		t.Run(name, func(t *testing.T) {
			o := offer(t, c.node)
			region, working := o.checkers()
			require.Equal(t, c.allowed, working)
			if c.allowed {
				require.Equal(t, []string{"a1"}, region)
				require.Equal(t, 1, o.result())
				require.Equal(t, 1, o.sample())
				require.NoError(t, o.asked())
				put := o.checks(o.kinds[uplink.KindChecks][0])
				require.Equal(t, secretTarget, put.Put[0].Unwrap().Target)
				return
			}
			require.Empty(t, region, "no region of its own")
			require.Zero(t, o.result(), "no vote")
			require.Zero(t, o.sample(), "no samples of checks")
			require.ErrorIs(t, o.asked(), model.ErrForbidden)
			require.Empty(t, o.kinds[uplink.KindProbe])
			for _, told := range o.kinds[uplink.KindChecks] {
				require.Equal(t, uplink.Checks{Reset: true}, o.checks(told), "nothing but that there is nothing")
			}
			for kind, list := range o.kinds {
				for _, content := range list {
					require.NotContains(t, string(content), "secret", "%q", byte(kind))
				}
			}
		})
	}
}

func TestConsentIsGivenAndTakenOnALiveStream(t *testing.T) {
	o := offer(t, nil)
	require.Empty(t, o.kinds[uplink.KindChecks], "it goes on with what it has until the record says whether it may")
	require.Zero(t, o.result(), "what comes before the record waits")

	// The record arrives, and does not allow it: what it has from before is taken away.
	o.decide(func(*model.Node) {})
	require.Equal(t, uplink.Checks{Reset: true}, o.checks(o.hear(uplink.KindChecks)))
	require.Zero(t, o.result())
	require.Zero(t, o.sample(), "and its series are refused")

	// Allowed: it is told to describe the series anew and gets the check.
	o.decide(func(n *model.Node) { n.Checks = true })
	o.hear(uplink.KindRestart)
	require.Equal(t, "c1", o.checks(o.hear(uplink.KindChecks)).Put[0].ID)
	require.Equal(t, 1, o.result())
	o.anew = true
	require.Equal(t, 1, o.sample())
	region, working := o.checkers()
	require.True(t, working)
	require.Equal(t, []string{"a1"}, region)
	require.NoError(t, o.asked())

	// Taken away: within a second it has none, and what it says all the same, also of
	// series that were taken before, counts for nothing.
	o.decide(func(n *model.Node) { n.Checks = false })
	require.Equal(t, []string{"c1"}, o.checks(o.hear(uplink.KindChecks)).Remove)
	require.Equal(t, 1, o.result())
	require.Equal(t, 1, o.sample())
	require.ErrorIs(t, o.asked(), model.ErrForbidden)
	region, working = o.checkers()
	require.False(t, working)
	require.Empty(t, region)

	// And given again.
	o.decide(func(n *model.Node) { n.Checks = true })
	require.Equal(t, "c1", o.checks(o.hear(uplink.KindChecks)).Put[0].ID)
	require.Equal(t, 2, o.result())
	require.Equal(t, 2, o.sample())
}

func TestResultsWaitForTheRecord(t *testing.T) {
	o := offer(t, nil)
	require.Zero(t, o.result())
	o.decide(func(n *model.Node) { n.Checks = true })
	o.hear(uplink.KindChecks)
	o.settle()
	require.Len(t, o.votes, 1, "a server that just began loses none")
}
