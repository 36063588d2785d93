package agent_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent"
	"panoptes/internal/agent/spool"
	"panoptes/internal/hosts"
	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// lengthy are samples of n series whose labels have 2 KB each.
func lengthy(n int, value func(i int) string) (out model.Batch) {
	for i := range n {
		out = append(out, model.Sample{Labels: labels.FromStrings("__name__", "node_long", "v", value(i)), T: time.Now().UnixMilli(), V: 1})
	}
	return out
}

func (m *memory) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.samples)
}

// More text than one frame may have goes in several.
func TestLongLabelsArrive(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{MaxSeries: 60_000})
	h := w.join("web-1")
	const n = 5000
	random := rand.NewChaCha8([32]byte{1})
	h.collect.extra = lengthy(n, func(int) string {
		b := make([]byte, 1000)
		_, _ = random.Read(b)
		return hex.EncodeToString(b)
	})
	// One that is longer than any frame.
	h.collect.extra = append(h.collect.extra, model.Sample{Labels: labels.FromStrings("__name__", "node_long", "v", strings.Repeat("x", 9<<20)), T: 1, V: 1})
	h.start()
	eventually(t, 30*time.Second, func() bool { return w.store.size() > n }, "all series arrive")
	eventually(t, 10*time.Second, func() bool { return h.agent.Buffer().Waiting == 0 }, "and nothing is left")
	require.Len(t, w.store.series(map[string]string{"__name__": "node_long"}), n)
}

// What can be neither sent nor kept does not hold up what comes after it.
func TestWhatNobodyTakesIsGivenUp(t *testing.T) {
	for name, data := range map[string][]byte{
		"not to be encoded": []byte("{"),
		"too large":         append(append([]byte{'"'}, bytes.Repeat([]byte("x"), 9<<20)...), '"'),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.add("n1", hosts.Config{})
			h := w.join("web-1").start(every(100 * time.Millisecond))
			eventually(t, 10*time.Second, func() bool { return len(w.store.times("node_test", "web-1")) > 0 }, "connected")
			h.agent.Event(model.Event{Code: "host.test", Data: json.RawMessage(data)})
			after := time.Now().UnixMilli()
			eventually(t, 30*time.Second, func() bool {
				n := w.store.times("node_test", "web-1")
				return n[len(n)-1] > after+500 && complete(h) && h.agent.Buffer().Waiting == 0
			}, "the samples after it arrive, each of them")

			// The same without a server.
			s.stop()
			h.agent.Event(model.Event{Code: "host.test", Data: json.RawMessage(data)})
			eventually(t, 10*time.Second, func() bool { return h.agent.Buffer().Waiting > 20 }, "what comes after it is kept on disk")
		})
	}
}

// strict is a server of another kind: it takes small frames only.
type strict struct{ limit int }

func (s strict) Call(context.Context, string, []byte) ([]byte, error) {
	return nil, model.ErrUnavailable
}

func (s strict) Open(ctx context.Context, _ string) (wire.ClientStream, error) {
	return &strictStream{s, ctx, make(chan []byte, 1000), make(chan error, 1)}, nil
}

type strictStream struct {
	strict
	ctx     context.Context
	answers chan []byte
	ended   chan error
}

func (s *strictStream) Context() context.Context { return s.ctx }
func (s *strictStream) CloseSend() error         { return nil }

func (s *strictStream) Send(b []byte) error {
	kind, content, err := uplink.Split(b)
	if err != nil {
		return err
	}
	switch kind {
	case uplink.KindHello:
		w, err := uplink.Encode(uplink.KindWelcome, uplink.Welcome{Server: "strict", Time: time.Now()})
		s.answers <- w
		return err
	case uplink.KindBeat:
		s.answers <- []byte{byte(uplink.KindBeat)}
	case uplink.KindData:
		d, err := uplink.ParseData(content)
		if err != nil {
			return err
		}
		if len(d.Frame) > s.limit {
			s.ended <- fmt.Errorf("a frame of %d bytes: %w", len(d.Frame), model.ErrTooLarge)
			return io.EOF
		}
		s.answers <- uplink.Ack{Lane: d.Lane, Seq: d.Seq}.Encode()
	}
	return nil
}

func (s *strictStream) Recv() ([]byte, error) {
	select {
	case b := <-s.answers:
		return b, nil
	case err := <-s.ended:
		return nil, err
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// What a server of another version refuses for its size costs nothing else.
func TestWhatAServerRefusesForItsSizeIsGivenUp(t *testing.T) {
	reg := prometheus.NewRegistry()
	a, err := agent.New(agent.Config{Dir: t.TempDir(), NodeID: "n", Servers: []uplink.Server{{Addr: "strict:1"}}, Interval: 50 * time.Millisecond, MinInterval: 50 * time.Millisecond},
		agent.Deps{Dial: func(string, string) wire.Conn { return strict{16 << 10} }, Collectors: newCollectors(), Registerer: reg})
	require.NoError(t, err)
	background(t, a.Run)
	eventually(t, 5*time.Second, a.Connected, "connected")
	random := make([]byte, 32<<10)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(random)
	a.Event(model.Event{Code: "host.test", Data: json.RawMessage(`"` + hex.EncodeToString(random) + `"`)})
	value := func(name string) float64 {
		families, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range families {
			if f.GetName() == name {
				return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		return -1
	}
	eventually(t, 10*time.Second, func() bool { return value("panoptes_agent_dropped_samples_total") == 1 }, "given up, and nothing but it")
	sent := value("panoptes_agent_sent_samples_total")
	eventually(t, 10*time.Second, func() bool {
		return value("panoptes_agent_sent_samples_total") > sent+100 && value("panoptes_agent_buffer_waiting_samples") == 0
	}, "the rest goes on")
	require.EqualValues(t, 1, value("panoptes_agent_dropped_samples_total"))
}

// A record on disk that a server does not take, as an older agent may have left.
func TestARecordThatNoServerTakesIsGivenUp(t *testing.T) {
	w := newWorld(t)
	w.add("n1", hosts.Config{MaxSeries: 60_000})
	h := w.join("web-1")
	disk, err := spool.Open(spool.Config{Dir: filepath.Join(h.dir, "buffer")}, spool.Deps{})
	require.NoError(t, err)
	_, err = disk.Append(lengthy(5000, func(i int) string { return fmt.Sprint(strings.Repeat("x", 2000), i) }), nil)
	require.NoError(t, err)
	require.NoError(t, disk.Close()) // another segment follows
	disk, err = spool.Open(spool.Config{Dir: filepath.Join(h.dir, "buffer")}, spool.Deps{})
	require.NoError(t, err)
	at := time.Now().Add(-time.Minute)
	_, err = disk.Append([]model.Sample{{Labels: labels.FromStrings("__name__", "node_behind"), T: at.UnixMilli(), V: 1}}, nil)
	require.NoError(t, err)
	require.NoError(t, disk.Close())
	h.start(every(200 * time.Millisecond))
	eventually(t, 30*time.Second, func() bool { return len(w.store.times("node_behind", "web-1")) == 1 && h.agent.Buffer().Waiting == 0 }, "what was behind it arrives")
	require.EqualValues(t, 5000, h.agent.Buffer().Dropped)
	eventually(t, 30*time.Second, func() bool { return complete(h) }, "nothing else is lost")
}
