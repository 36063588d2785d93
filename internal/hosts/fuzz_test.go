package hosts

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// script is the stream of an agent that says what a test wants.
type script struct {
	ctx      context.Context //nolint:containedctx // is the stream's life
	messages [][]byte
}

func (s *script) Context() context.Context { return s.ctx }
func (s *script) Send([]byte) error        { return nil }
func (s *script) Recv() ([]byte, error) {
	if len(s.messages) == 0 {
		<-time.After(time.Millisecond) // for what works beside the reader
		return nil, io.EOF
	}
	b := s.messages[0]
	s.messages = s.messages[1:]
	return b, nil
}

// foreign is a store that notes samples that are not those of the host.
type foreign struct{ found []string }

func (f *foreign) Appender(context.Context) storage.Appender { return f }
func (f *foreign) Append(ref storage.SeriesRef, l labels.Labels, _ int64, _ float64) (storage.SeriesRef, error) {
	if l.Get("host") != "evil" && l.Get("prober") != "evil" {
		f.found = append(f.found, l.String())
	}
	return max(ref, 1), nil
}
func (f *foreign) AppendHistogram(r storage.SeriesRef, l labels.Labels, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	f.found = append(f.found, "histogram "+l.String())
	return r, nil
}
func (f *foreign) AppendExemplar(r storage.SeriesRef, _ labels.Labels, _ exemplar.Exemplar) (storage.SeriesRef, error) {
	f.found = append(f.found, "exemplar")
	return r, nil
}
func (f *foreign) AppendSTZeroSample(r storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return r, nil
}
func (f *foreign) AppendHistogramSTZeroSample(r storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return r, nil
}
func (f *foreign) UpdateMetadata(r storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	f.found = append(f.found, "metadata")
	return r, nil
}
func (f *foreign) SetOptions(*storage.AppendOptions) {}
func (f *foreign) Commit() error                     { return nil }
func (f *foreign) Rollback() error                   { return nil }

// FuzzStream gives the server what a hostile agent may send after its hello:
// messages, each with its length in front.
func FuzzStream(f *testing.F) {
	enc, err := wire.NewEncoder()
	require.NoError(f, err)
	now := time.Now()
	frame, err := enc.Encode(nil, &wire.Frame{
		Series: []labels.Labels{labels.FromStrings("__name__", "node_load1", "host", "victim")}, IDs: []uint32{0}, Times: []int64{now.UnixMilli()}, Values: []float64{1},
		Events: []model.Event{{ID: "x", Code: "host.x", Time: now}},
	})
	require.NoError(f, err)
	pack := func(list ...[]byte) (out []byte) {
		for _, b := range list {
			out = append(append(out, byte(len(b))), b...)
		}
		return out
	}
	d := uplink.Data{Start: true, Seq: 1, Frame: frame}
	f.Add(pack(d.Append(nil)))
	f.Add(pack([]byte("h"), []byte(`R[{"CheckID":"mine"}]`), []byte(`P{"id":1}`), []byte(`X{"reason":"stop"}`)))
	hello, err := uplink.Encode(uplink.KindHello, uplink.Hello{Run: "r", Checks: true})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, b []byte) {
		store := &foreign{}
		h, err := New(Config{NodeID: "n1"}, Deps{
			Store: store,
			AppendEvents: func(_ context.Context, events ...model.Event) error {
				for _, e := range events {
					if e.Subject != "node/evil-id" || e.Kind != model.EventNode {
						store.found = append(store.found, "event "+e.Subject)
					}
				}
				return nil
			},
			Node: func(id string) (model.Node, bool) {
				return model.Node{ID: id, Name: "evil", Region: "eu", Role: model.RoleAgent, Checks: true}, true
			},
			Nodes:  func() []model.Node { return nil },
			Checks: func(string) []model.Check { return []model.Check{} },
			Check:  func(_, id string) (model.Check, bool) { return model.Check{ID: id, Name: "c"}, id == "mine" },
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		s := &script{ctx: ctx, messages: [][]byte{hello}}
		for len(b) > 0 {
			n := min(int(b[0]), len(b)-1)
			s.messages = append(s.messages, b[1:1+n])
			b = b[1+n:]
		}
		_ = h.serve(model.Peer{NodeID: "evil-id", Name: "evil", Region: "eu", Role: model.RoleAgent}, s)
		require.Empty(t, store.found)
		require.Empty(t, h.Connected())
	})
}

func TestTwoServersAgreeWhoTalksToWhom(t *testing.T) {
	make := func(id string) *Hosts {
		h, err := New(Config{NodeID: id}, Deps{
			Store: &foreign{}, Node: func(string) (model.Node, bool) { return model.Node{}, false }, Nodes: func() []model.Node { return nil },
			Checks: func(string) []model.Check { return []model.Check{} }, Check: func(_, _ string) (model.Check, bool) { return model.Check{}, false },
			Alive: func() []string { return []string{"n1", "n2"} },
		})
		require.NoError(t, err)
		return h
	}
	a, b := make("n1"), make("n2")
	merge := func(from, to *Hosts) {
		s, err := from.State()
		require.NoError(t, err)
		require.NoError(t, to.Merge(s))
		require.NoError(t, to.Merge(s), "twice is as good as once")
	}
	hello := &uplink.Hello{Run: "r", Checks: true}
	a.mu.Lock()
	a.sessions["h1"] = &session{h: a}
	a.word(entry{Node: "h1", Open: true, Run: "r", Since: time.Now(), Hello: hello})
	a.mu.Unlock()
	merge(a, b)
	require.Equal(t, "n1", b.Sessions()[0].Server)
	require.Empty(t, cmp.Diff(a.Sessions(), b.Sessions()))

	// n1 is started anew and hears what it said before: that is over.
	again := make("n1")
	merge(b, again)
	require.Empty(t, again.Sessions())
	merge(again, b)
	require.Empty(t, b.Sessions(), "and the others learn it")
	merge(a, b)
	require.Empty(t, b.Sessions(), "old news change nothing")
	require.Error(t, b.Merge([]byte("{")))
}
