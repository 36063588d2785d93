package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

type codec struct {
	enc *wire.Encoder
	dec *wire.Decoder
}

func newCodec(t testing.TB, l wire.Limits) codec {
	t.Helper()
	enc, err := wire.NewEncoder()
	require.NoError(t, err)
	dec, err := wire.NewDecoder(l, nil)
	require.NoError(t, err)
	t.Cleanup(dec.Close)
	return codec{enc, dec}
}

// travel encodes and decodes a frame.
func (c codec) travel(t testing.TB, f *wire.Frame) (*wire.Frame, []byte) {
	t.Helper()
	b, err := c.enc.Encode(nil, f)
	require.NoError(t, err)
	got := &wire.Frame{}
	require.NoError(t, c.dec.Decode(b, got))
	return got, b
}

// same compares frames: floats by their bits, so that stale markers and -0 count.
func same(t testing.TB, want, got *wire.Frame) {
	t.Helper()
	bits := cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
	ls := cmp.Comparer(labels.Equal)
	if d := cmp.Diff(want, got, bits, ls, cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("frame changed on its way (-sent +received):\n%s", d)
	}
}

func host(i int) labels.Labels {
	return labels.FromStrings("__name__", fmt.Sprintf("metric_%d", i), "instance", "web-1:9100", "job", "node")
}

func TestFrameKeepsEverything(t *testing.T) {
	c := newCodec(t, wire.Limits{})
	h := &histogram.Histogram{CounterResetHint: histogram.NotCounterReset, Schema: 3, ZeroThreshold: 1e-128, ZeroCount: 2, Count: 12, Sum: 18.4,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 1, Length: 2}}, PositiveBuckets: []int64{1, 1, -1, 0},
		NegativeSpans: []histogram.Span{{Offset: 0, Length: 1}}, NegativeBuckets: []int64{6}}
	custom := &histogram.Histogram{Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 2.5, PositiveSpans: []histogram.Span{{Offset: 0, Length: 2}},
		PositiveBuckets: []int64{1, 1}, CustomValues: []float64{0.5, 1}}
	f := &wire.Frame{
		Series: []labels.Labels{host(0), host(1), labels.EmptyLabels()},
		IDs:    []uint32{0, 1, 2, 0}, Times: []int64{1000, 1000, 1000, 16000}, Values: []float64{1, math.Float64frombits(value.StaleNaN), math.Inf(-1), -2.25},
		Histograms: []wire.FrameHistogram{{ID: 1, T: -5, H: h}, {ID: 2, T: 7, FH: h.ToFloat(nil)}, {ID: 0, T: 8, H: custom}},
		Exemplars: []wire.FrameExemplar{{ID: 0, Exemplar: exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "a1"), Value: 3, Ts: 12, HasTs: true}},
			{ID: 1, Exemplar: exemplar.Exemplar{Value: 4}}},
		Metadata: []wire.FrameMetadata{{ID: 2, Metadata: metadata.Metadata{Type: "counter", Unit: "seconds", Help: "Zeit – 时间"}}},
		Events:   []model.Event{{ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Time: time.Unix(5, 6).UTC(), Kind: model.EventState, Labels: map[string]string{"a": "b"}, Data: json.RawMessage(`{"x":1}`)}},
	}
	got, _ := c.travel(t, f)
	same(t, f, got)
	// The session goes on: nothing is described again.
	f = &wire.Frame{IDs: []uint32{2, 1, 0}, Times: []int64{31000, 31000, 31000}, Values: []float64{math.Inf(-1), 0, math.Copysign(0, -1)}}
	got, b := c.travel(t, f)
	same(t, f, got)
	require.Less(t, len(b), 40)
}

// Any frames of any session come out as they went in.
func TestFramesOfASession(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		enc, err := wire.NewEncoder()
		require.NoError(t, err)
		dec, err := wire.NewDecoder(wire.Limits{}, nil)
		require.NoError(t, err)
		defer dec.Close()
		values := rapid.OneOf(
			rapid.Float64(),
			rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.Int32().Draw(t, "whole")) }),
			rapid.Custom(func(t *rapid.T) float64 {
				return float64(rapid.Int32().Draw(t, "whole")) / math.Pow10(rapid.IntRange(0, 9).Draw(t, "digits"))
			}),
			rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(value.StaleNaN), math.Inf(1), math.MaxFloat64, 1 << 53, 1<<53 + 2, -(1 << 62)}),
		)
		described := 0
		for range rapid.IntRange(1, 5).Draw(t, "frames") {
			f := &wire.Frame{}
			for range rapid.IntRange(0, 5).Draw(t, "new") {
				f.Series = append(f.Series, host(described))
				described++
			}
			if described > 0 {
				at := rapid.Int64Range(-1e15, 1e15).Draw(t, "start")
				for range rapid.IntRange(0, 60).Draw(t, "samples") {
					f.IDs = append(f.IDs, uint32(rapid.IntRange(0, described-1).Draw(t, "id")))
					at += rapid.SampledFrom([]int64{0, 0, 0, 15000, -1, 3}).Draw(t, "step")
					f.Times = append(f.Times, at)
					f.Values = append(f.Values, values.Draw(t, "value"))
				}
			}
			b, err := enc.Encode(nil, f)
			require.NoError(t, err)
			got := &wire.Frame{}
			require.NoError(t, dec.Decode(b, got))
			bits := cmp.Comparer(func(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) })
			require.Empty(t, cmp.Diff(f, got, bits, cmp.Comparer(labels.Equal), cmpopts.EquateEmpty()))
		}
	})
}

func TestFrameLimits(t *testing.T) {
	many := &wire.Frame{}
	for i := range 200 {
		many.Series = append(many.Series, host(i))
		many.IDs, many.Times, many.Values = append(many.IDs, uint32(i)), append(many.Times, 1), append(many.Values, 1.5)
	}
	for name, l := range map[string]struct {
		limits wire.Limits
		want   error
	}{
		"frame":   {wire.Limits{MaxFrame: 100}, model.ErrTooLarge},
		"decoded": {wire.Limits{MaxDecoded: 1000}, model.ErrTooLarge},
		"series":  {wire.Limits{MaxSeries: 199}, model.ErrLimit},
		"samples": {wire.Limits{MaxSamples: 199}, model.ErrLimit},
		"labels":  {wire.Limits{MaxLabels: 2}, model.ErrLimit},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCodec(t, l.limits)
			b, err := c.enc.Encode(nil, many)
			require.NoError(t, err)
			require.ErrorIs(t, c.dec.Decode(b, &wire.Frame{}), l.want)
		})
	}
	// The announced length is looked at before anything is decompressed.
	c := newCodec(t, wire.Limits{})
	b, err := c.enc.Encode(nil, many)
	require.NoError(t, err)
	require.ErrorIs(t, c.dec.Decode(append([]byte{b[0], 0xff, 0xff, 0xff, 0xff, 0x7f}, b[3:]...), &wire.Frame{}), model.ErrTooLarge)
}

// section writes a part of a frame as an encoder of ours does.
func section(b []byte, kind byte, content []byte) []byte {
	b = append(b, kind)
	b = binary.AppendUvarint(b, uint64(len(content)))
	return append(b, content...)
}

// TestSmallFramesStaySmall decodes what a stranger would send to fill the memory
// of a server: a little that stands for much.
func TestSmallFramesStaySmall(t *testing.T) {
	z, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	defer z.Close()
	zipped := func(body []byte) []byte {
		return z.EncodeAll(body, binary.AppendUvarint([]byte{0x11}, uint64(len(body))))
	}
	repeated := func(kind byte, item []byte) []byte {
		n := (8<<20 - 20) / len(item)
		return zipped(section(nil, kind, append(binary.AppendUvarint(nil, uint64(n)), bytes.Repeat(item, n)...)))
	}
	// One text of 100 kB is the value of all labels of all series.
	words := binary.AppendUvarint(nil, 101)
	for i := range 100 {
		words = append(words, 4)
		words = fmt.Appendf(words, "l%03d", i)
	}
	words = binary.AppendUvarint(words, 100_000)
	words = append(words, bytes.Repeat([]byte("x"), 100_000)...)
	words = binary.AppendUvarint(words, 1000)
	for range 1000 {
		words = append(words, 100)
		for i := range 100 {
			words = append(words, byte(i), 100)
		}
	}
	for name, b := range map[string][]byte{
		"labels":    zipped(section(nil, 1, words)),
		"texts":     repeated(1, []byte{0}),
		"exemplars": zipped(section(nil, 4, append(binary.AppendUvarint(nil, 500_000), make([]byte, 12*500_000)...))),
		"metadata":  zipped(section(section(nil, 1, []byte{0, 1, 0}), 5, append(binary.AppendUvarint(nil, 2_000_000), make([]byte, 8_000_000)...))),
		"events":    repeated(6, []byte("\x02{}")),
	} {
		t.Run(name, func(t *testing.T) {
			require.Less(t, len(b), 50_000)
			dec, err := wire.NewDecoder(wire.Limits{MaxSeries: 30_000}, nil)
			require.NoError(t, err)
			defer dec.Close()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			require.ErrorIs(t, dec.Decode(b, &wire.Frame{}), model.ErrLimit)
			runtime.ReadMemStats(&after)
			require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(80<<20))
		})
	}
}

func TestEncoderRefusesUnknownSeries(t *testing.T) {
	enc, err := wire.NewEncoder()
	require.NoError(t, err)
	_, err = enc.Encode(nil, &wire.Frame{IDs: []uint32{0}, Times: []int64{1}, Values: []float64{1}})
	require.Error(t, err)
}

// FuzzFrame decodes two frames of strangers in one session: whatever they are,
// the decoder gives an error or a frame that is whole.
func FuzzFrame(f *testing.F) {
	enc, err := wire.NewEncoder()
	require.NoError(f, err)
	first := &wire.Frame{Series: []labels.Labels{host(0), host(1)}, IDs: []uint32{0, 1}, Times: []int64{1, 1}, Values: []float64{1, 0.1},
		Histograms: []wire.FrameHistogram{{ID: 1, H: &histogram.Histogram{Count: 1, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{1}}}},
		Exemplars:  []wire.FrameExemplar{{ID: 1, Exemplar: exemplar.Exemplar{Labels: labels.FromStrings("a", "b")}}},
		Metadata:   []wire.FrameMetadata{{Metadata: metadata.Metadata{Help: "x"}}}, Events: []model.Event{{ID: "x"}}}
	a, err := enc.Encode(nil, first)
	require.NoError(f, err)
	b, err := enc.Encode(nil, &wire.Frame{IDs: []uint32{1, 0}, Times: []int64{2, 5}, Values: []float64{math.Pi, math.NaN()}})
	require.NoError(f, err)
	f.Add(a, b)
	f.Add(b, a)
	f.Add([]byte{0x10, 2, 4, 1, 0, 0}, []byte{})
	f.Add([]byte{0x11, 8, 0x28, 0xb5, 0x2f, 0xfd}, []byte{0x10})
	limits := wire.Limits{MaxFrame: 1 << 16, MaxDecoded: 1 << 18, MaxSamples: 1000, MaxSeries: 100, MaxLabels: 8}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		dec, err := wire.NewDecoder(limits, nil)
		require.NoError(t, err)
		defer dec.Close()
		described := 0
		for _, in := range [][]byte{a, b} {
			var got wire.Frame
			if err := dec.Decode(in, &got); err != nil {
				return
			}
			described += len(got.Series)
			require.LessOrEqual(t, described, limits.MaxSeries)
			require.Len(t, got.Times, len(got.IDs))
			require.Len(t, got.Values, len(got.IDs))
			for _, id := range got.IDs {
				require.Less(t, int(id), described)
			}
			for _, h := range got.Histograms {
				require.Less(t, int(h.ID), described)
				require.True(t, (h.H == nil) != (h.FH == nil))
			}
			_, err := dec.Append(discard{}, &got)
			require.NoError(t, err)
		}
	})
}
