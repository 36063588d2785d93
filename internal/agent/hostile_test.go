package agent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent"
	"panoptes/internal/agent/framing"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/all"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// raw is an agent that says whatever a test wants.
type raw struct {
	t      *testing.T
	stream wire.ClientStream
	enc    *framing.Encoder
	seq    uint64
	end    context.CancelFunc
}

func (h *host) raw() *raw {
	h.w.t.Helper()
	if h.client == nil {
		h.client = wire.NewClient(wire.ClientConfig{TLS: h.pki.ClientTLS}, wire.ClientDeps{})
		h.w.t.Cleanup(func() { _ = h.client.Close() })
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	h.w.t.Cleanup(cancel)
	s := h.w.server[0]
	st, err := h.client.Conn(s.id, s.addr).Open(ctx, uplink.Method)
	require.NoError(h.w.t, err)
	enc, err := framing.New()
	require.NoError(h.w.t, err)
	return &raw{t: h.w.t, stream: st, enc: enc, end: cancel}
}

func (r *raw) hello() *raw {
	r.t.Helper()
	r.json(uplink.KindHello, uplink.Hello{Run: model.NewID(time.Now()), Time: time.Now(), Checks: true})
	k, _ := r.next()
	require.Equal(r.t, uplink.KindWelcome, k)
	return r
}

func (r *raw) json(k uplink.Kind, v any) {
	b, err := uplink.Encode(k, v)
	require.NoError(r.t, err)
	_ = r.stream.Send(b)
}

func (r *raw) next() (uplink.Kind, []byte) {
	r.t.Helper()
	b, err := r.stream.Recv()
	require.NoError(r.t, err)
	k, c, err := uplink.Split(b)
	require.NoError(r.t, err)
	return k, c
}

// ended waits for the end of the stream and returns why. Meanwhile it beats, as
// agents do: a server that has seen enough says so at the next word.
func (r *raw) ended() error {
	done := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		for {
			_ = r.stream.Send([]byte{byte(uplink.KindBeat)})
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	defer beating.Wait()
	defer close(done)
	for {
		if _, err := r.stream.Recv(); err != nil {
			return err
		}
	}
}

func (r *raw) data(lane int, samples ...model.Sample) {
	r.t.Helper()
	r.seq++
	d := uplink.Data{Lane: lane, Start: r.seq == 1, Seq: r.seq}
	b, err := r.enc.Append(d.Append(nil), samples, nil)
	require.NoError(r.t, err)
	require.NoError(r.t, r.stream.Send(b))
}

func (r *raw) ack() uplink.Ack {
	r.t.Helper()
	for {
		if k, c := r.next(); k == uplink.KindAck {
			a, err := uplink.ParseAck(c)
			require.NoError(r.t, err)
			return a
		}
	}
}

func sample(at time.Time, pairs ...string) model.Sample {
	return model.Sample{Labels: labels.FromStrings(pairs...), T: at.UnixMilli(), V: 1}
}

func TestMalformedMessagesEndTheStreamWithAReason(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{})
	h := w.join("evil")
	frame := func(d uplink.Data) []byte { return d.Append(nil) }
	for name, c := range map[string]struct {
		send func(r *raw)
		why  string
	}{
		"no hello":   {func(r *raw) { _ = r.stream.Send([]byte("D\x00\x01x")) }, "hello"},
		"empty":      {func(r *raw) { _ = r.hello().stream.Send(nil) }, "empty"},
		"bad hello":  {func(r *raw) { _ = r.stream.Send([]byte("H{")) }, "not valid JSON"},
		"long hello": {func(r *raw) { r.json(uplink.KindHello, uplink.Hello{Run: strings.Repeat("x", 20_000)}) }, "too large"},
		"labels of others": {func(r *raw) {
			r.json(uplink.KindHello, uplink.Hello{Run: "x", Labels: map[string]string{"prober": "n1"}})
		}, "prober"},
		"no frame": {func(r *raw) { _ = r.hello().stream.Send(frame(uplink.Data{Seq: 1, Start: true})) }, "damaged frame"},
		"garbage frame": {func(r *raw) {
			_ = r.hello().stream.Send(frame(uplink.Data{Seq: 1, Start: true, Frame: []byte("\x11\xff\xff\xff\xff\x0fgarbage")}))
		}, "too large"},
		"no beginning": {func(r *raw) { _ = r.hello().stream.Send(frame(uplink.Data{Seq: 1, Frame: []byte{0x10}})) }, "dictionary"},
		"a gap":        {func(r *raw) { _ = r.hello().stream.Send(frame(uplink.Data{Seq: 7, Start: true, Frame: []byte{0x10}})) }, "frame 7"},
		"a huge frame": {func(r *raw) {
			_ = r.hello().stream.Send(frame(uplink.Data{Seq: 1, Start: true, Frame: make([]byte, uplink.MaxFrame+1)}))
		}, "too large"},
		"bad results": {func(r *raw) { _ = r.hello().stream.Send([]byte("R[{]")) }, "not valid JSON"},
		"a flood of backlog": {func(r *raw) {
			r.hello()
			for i := range 5000 {
				if r.stream.Send(frame(uplink.Data{Lane: uplink.Backlog, Seq: uint64(i + 1), Start: i == 0, Frame: make([]byte, 100_000)})) != nil {
					return
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.raw()
			c.send(r)
			err := r.ended()
			require.ErrorContains(t, err, c.why)
		})
	}
	// The server lives on.
	r := h.raw().hello()
	r.data(uplink.Live, sample(time.Now(), "__name__", "node_load1"))
	require.EqualValues(t, 1, r.ack().Seq)
}

func TestAnAgentWritesAsItselfOnly(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{MaxSeries: 1000})
	h := w.join("evil")
	w.checks[h.pki.NodeID()] = []model.Check{{ID: "mine", Revision: 1, Name: "shop", Labels: map[string]string{"team": "web", "version": "2"}, Interval: model.Duration(time.Minute)}}
	w.checks["other"] = []model.Check{{ID: "theirs", Revision: 1, Name: "bank"}}
	w.may = []model.Check{{ID: "near", Revision: 1, Name: "near", Interval: model.Duration(time.Minute)}}
	r := h.raw().hello()
	now := time.Now()
	r.data(uplink.Live,
		sample(now, "__name__", "node_load1", "host", "victim", "instance", "victim:9100", "region", "us", "job", "other"),
		sample(now, "__name__", "node_load5", "check", "bank", "prober", "n1", "alertname", "x"),
		sample(now, "__name__", "up", "instance", "evil:8080", "job", "app"),
		sample(now, "__name__", "probe_success", "__check__", "mine@1", "check", "bank", "region", "us", "prober", "n1", "host", "victim", "instance", "victim", "job", "x", "alertname", "x", "team", "bank", "phase", "tls"),
		// What tells series of a check apart is theirs to say.
		sample(now, "__name__", "probe_tls_version_info", "__check__", "mine@1", "version", "TLS 1.2"),
		sample(now, "__name__", "probe_tls_version_info", "__check__", "mine@1", "version", "TLS 1.3"),
		// From here on nothing is stored.
		sample(now, "__name__", "probe_success", "__check__", "theirs@1"),
		sample(now, "__name__", "node_load1", "__check__", "mine@1"),
		sample(now, "__name__", "probe_success", "check", "bank"),
		sample(now, "__name__", "ALERTS", "alertname", "x"),
		sample(now, "__name__", "panoptes_check_status", "check", "bank"),
		sample(now, "__name__", "node_x", "__address__", "x"),
		sample(now, "__name__", "not a name"),
		sample(now, "no", "name"),
		sample(now, "__name__", "node_long", "l", strings.Repeat("x", 5000)),
		sample(now.Add(time.Hour), "__name__", "node_future"),
		sample(now.Add(-72*time.Hour), "__name__", "node_past"),
		sample(time.UnixMilli(math.MinInt64), "__name__", "node_never"),
	)
	require.EqualValues(t, 12, r.ack().Refused)
	var got []string
	for _, s := range w.store.series(nil) {
		var l map[string]string
		require.NoError(t, json.Unmarshal([]byte(s), &l))
		got = append(got, labels.FromMap(l).String())
	}
	require.ElementsMatch(t, []string{
		`{__name__="node_load1", exported_instance="victim:9100", host="evil", instance="evil", job="other", region="eu"}`,
		`{__name__="node_load5", host="evil", instance="evil", job="node", region="eu"}`,
		`{__name__="up", host="evil", instance="evil:8080", job="app", region="eu"}`,
		`{__name__="probe_success", check="shop", phase="tls", prober="evil", region="eu", team="web", version="2"}`,
		`{__name__="probe_tls_version_info", check="shop", prober="evil", region="eu", team="web", version="TLS 1.2"}`,
		`{__name__="probe_tls_version_info", check="shop", prober="evil", region="eu", team="web", version="TLS 1.3"}`,
	}, got)

	// A vote about somebody else's check, one from the past, one of its own.
	r.json(uplink.KindResults, []model.Result{
		{CheckID: "theirs", Start: now, Prober: "n1"}, {CheckID: "near", Start: now}, {CheckID: "mine", Start: now.Add(-time.Hour)},
		{CheckID: "mine", Start: now, Prober: "n1", Region: "us", Message: strings.Repeat("m", 5000), Evidence: make([]byte, 100), Confirm: true},
	})
	eventually(t, 3*time.Second, func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.found) > 0 }, "a vote")
	require.Len(t, w.found, 1)
	v := w.found[0]
	require.Equal(t, []string{"mine", "evil", "eu"}, []string{v.CheckID, v.Prober, v.Region})
	require.True(t, len(v.Message) <= 300 && v.Evidence == nil && !v.Confirm)

	// One that runs no checks has nothing to say about them.
	r.end()
	eventually(t, 3*time.Second, func() bool { return len(w.server[0].hosts.Connected()) == 0 }, "the stream before has ended")
	r = h.raw()
	r.json(uplink.KindHello, uplink.Hello{Run: model.NewID(time.Now()), Time: time.Now()})
	r.json(uplink.KindResults, []model.Result{{CheckID: "mine", Start: now}})
	r.data(uplink.Live, sample(now, "__name__", "node_last"))
	r.ack()
	require.Len(t, w.found, 1)
	// A message of many empty results is no message.
	r.json(uplink.KindResults, make([]struct{}, 100_000))
	require.ErrorContains(t, r.ended(), "results")

	// Series without end: over all its streams there are not more than the limit.
	for round := range 3 {
		r.end()
		eventually(t, 3*time.Second, func() bool { return len(w.server[0].hosts.Connected()) == 0 }, "the stream before has ended")
		r = h.raw().hello()
		var many []model.Sample
		for i := range 800 {
			many = append(many, sample(now, "__name__", "node_many", "i", fmt.Sprintf("%d-%d", round, i)))
		}
		r.data(uplink.Live, many...)
		r.ack()
	}
	require.LessOrEqual(t, len(w.store.series(nil)), 1000)

	// Those with long labels are fewer: each is several.
	h = w.join("long")
	r = h.raw().hello()
	var long []model.Sample
	for i := range 500 {
		v := strings.Repeat(fmt.Sprint(i%10), 2000)
		long = append(long, sample(now, "__name__", "node_long", "a", v, "b", v, "c", v, "i", fmt.Sprint(i)))
	}
	r.data(uplink.Live, long...)
	r.ack()
	require.LessOrEqual(t, len(w.store.series(map[string]string{"host": "long"})), 1000/6)
}

// TestComingAndGoingIsBounded: each stream is an event, or news for all servers.
func TestComingAndGoingIsBounded(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("evil")
	first := h.raw().hello()
	stop := make(chan struct{})
	var beating sync.WaitGroup
	beating.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				_ = first.stream.Send([]byte{byte(uplink.KindBeat)})
			}
		}
	})
	defer func() { close(stop); beating.Wait() }()
	// Copies, each another one.
	for range 3 {
		r := h.raw()
		r.json(uplink.KindHello, uplink.Hello{Run: model.NewID(time.Now()), Time: time.Now(), Addresses: []string{"db.example", "127.0.0.1", "192.0.2.9"}})
		k, _ := r.next()
		require.Equal(t, uplink.KindBye, k)
		r.end()
	}
	require.Equal(t, 1, count(w.codes(h.pki.NodeID()), "host.clone"))
	// What a host says of where it is are addresses, and not those of who looks.
	first.json(uplink.KindBye, uplink.Bye{Reason: uplink.ByeStop})
	began, n := time.Now(), 0
	for ; time.Since(began) < 2*time.Second; n++ {
		r := h.raw()
		r.json(uplink.KindHello, uplink.Hello{Run: model.NewID(time.Now()), Time: time.Now(), Addresses: []string{"db.example", "127.0.0.1", "192.0.2.9"}})
		_, _ = r.next()
		r.json(uplink.KindBye, uplink.Bye{Reason: uplink.ByeStop})
		r.end()
	}
	require.LessOrEqual(t, n, 35)
	hello, ok := s.hosts.Hello(h.pki.NodeID())
	require.True(t, ok)
	require.Equal(t, []string{"192.0.2.9"}, hello.Addresses)
}

// TestAnotherStreamIsNoOtherAllowance: what one agent may send in a second it may
// send in all its streams together.
func TestAnotherStreamIsNoOtherAllowance(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("evil")
	for range 3 {
		r := h.raw().hello()
		var events []model.Event
		for i := range 200 {
			events = append(events, model.Event{ID: fmt.Sprint(i, time.Now()), Time: time.Now(), Code: "host.flood"})
		}
		r.seq++
		d := uplink.Data{Start: true, Seq: r.seq}
		b, err := r.enc.Append(d.Append(nil), nil, events)
		require.NoError(t, err)
		require.NoError(t, r.stream.Send(b))
		r.ack()
		r.json(uplink.KindBye, uplink.Bye{Reason: uplink.ByeStop})
		eventually(t, 3*time.Second, func() bool { return len(s.hosts.Connected()) == 0 }, "the stream has ended")
	}
	require.LessOrEqual(t, count(w.codes(h.pki.NodeID()), "host.flood"), 300)
}

// TestALyingServer has an agent with a real worker talk to a server that does
// not mean well.
func TestALyingServer(t *testing.T) {
	w := newWorld(t)
	s := w.add("n1", hosts.Config{})
	h := w.join("web-1")
	victim, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = victim.Close() })
	touched := make(chan struct{})
	go func() {
		if c, err := victim.Accept(); err == nil {
			_ = c.Close()
			close(touched)
		}
	}()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	lies := func(st wire.Stream) (answers []uplink.Answer, err error) {
		send := func(k uplink.Kind, v any) {
			b, err := uplink.Encode(k, v)
			if err == nil {
				_ = st.Send(b)
			}
		}
		if _, err := st.Recv(); err != nil {
			return nil, err
		}
		var many []uplink.Check
		for i := range 6000 {
			many = append(many, uplink.Check{ID: fmt.Sprint("c", i), Check: model.Check{Name: "c", Type: "tcp", Target: victim.Addr().String(), Interval: model.Duration(time.Hour), Timeout: model.Duration(time.Second)}})
		}
		send(uplink.KindWelcome, uplink.Welcome{Server: "evil", Settings: uplink.Settings{Interval: 1, Processes: []string{"("}, Collectors: map[string]bool{"/etc/shadow": true}, Servers: []uplink.Server{{Addr: "no port"}, {Addr: strings.Repeat("x", 600) + ":1"}}}})
		send(uplink.KindChecks, uplink.Checks{Put: many[:3000], More: true})
		send(uplink.KindChecks, uplink.Checks{Put: many[3000:]})
		send('Z', map[string]string{"run": "rm -rf /"}) // nothing of the kind exists
		for i := range 200 {
			send(uplink.KindProbe, uplink.ProbeRequest{Request: uplink.Request{ID: uint64(i)}, Check: many[0]})
		}
		send(uplink.KindProbe, uplink.ProbeRequest{Request: uplink.Request{ID: 1000}, Check: uplink.Check{ID: "f", Check: model.Check{Name: "f", Type: "http", Target: "file:///etc/passwd"}}})
		for {
			b, err := st.Recv()
			if err != nil {
				return answers, err
			}
			k, c, _ := uplink.Split(b)
			if k == uplink.KindBeat { // or the agent leaves before it has answered
				send(uplink.KindBeat, nil)
			}
			if k == uplink.KindProbe {
				a, _ := uplink.Decode[uplink.Answer](c, 1<<20)
				if answers = append(answers, a); len(answers) >= 201 {
					_ = st.Send([]byte("S{")) // malformed: the agent leaves
				}
			}
		}
	}
	ws, err := wire.NewServer(wire.ServerConfig{Listener: l, TLS: s.pki.ServerTLS()}, wire.ServerDeps{Identify: s.pki.Identify})
	require.NoError(t, err)
	left := make(chan []uplink.Answer, 1)
	ws.HandleStream(uplink.Method, []model.NodeRole{model.RoleAgent}, func(_ model.Peer, st wire.Stream) error {
		answers, err := lies(st)
		if len(answers) >= 201 { // else a slow machine has given up its first try
			select {
			case left <- answers:
			default:
			}
		}
		return err
	})
	background(t, ws.Run)

	reg := prometheus.NewRegistry()
	sink := &lateSink{}
	worker, err := probe.NewWorker(probe.WorkerConfig{Node: "web-1", Region: "eu"}, probe.WorkerDeps{
		Kinds: all.Kinds(), Sink: sink, Registerer: reg,
		Env: &probe.Env{Now: time.Now, Dialer: probe.NewDialer(probe.Policy{})}, // loopback is not allowed here
	})
	require.NoError(t, err)
	h.start(func(c *agent.Config, d *agent.Deps) {
		c.Servers = []uplink.Server{{Addr: l.Addr().String()}}
		c.Interval = time.Hour
		d.Worker = worker
	})
	sink.set(h.agent)
	background(t, worker.Run)
	var answers []uplink.Answer
	select {
	case answers = <-left:
	case <-time.After(60 * time.Second):
		t.Fatal("the agent does not leave a server that it does not understand")
	}
	refused, busy, other := 0, 0, 0
	for _, a := range answers {
		switch {
		case strings.Contains(string(a.Value), "is refused"):
			refused++
		case strings.Contains(a.Error, "too much"):
			busy++
		default:
			require.NotContains(t, string(a.Value), "root:")
			require.Equal(t, uint64(1000), a.ID)
			other++
		}
	}
	require.Positive(t, refused)
	require.Equal(t, 201, refused+busy+other)
	select {
	case <-touched:
		t.Fatal("an address outside the agent's own list was reached")
	default:
	}
	require.LessOrEqual(t, testutil.ToFloat64(gauge(t, reg, "panoptes_probe_checks")), 5000.0)
	require.Equal(t, []string{l.Addr().String()}, h.agent.ServerAddrs(), "addresses that are none are not taken")
	require.Len(t, h.collect.rounds(), 1, "an interval of nothing is not an interval")
}

type lateSink struct {
	mu sync.Mutex
	a  *agent.Agent
}

func (s *lateSink) set(a *agent.Agent) { s.mu.Lock(); defer s.mu.Unlock(); s.a = a }
func (s *lateSink) Result(r model.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.a != nil {
		s.a.Result(r)
	}
}

// gauge finds a metric of a registry by its name.
func gauge(t *testing.T, reg *prometheus.Registry, name string) prometheus.Collector {
	t.Helper()
	families, err := reg.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name})
			g.Set(f.GetMetric()[0].GetGauge().GetValue())
			return g
		}
	}
	t.Fatalf("no metric %s", name)
	return nil
}
