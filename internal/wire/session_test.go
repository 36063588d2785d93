package wire_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// discard is a storage that takes everything.
type discard struct{}

func (discard) Append(ref storage.SeriesRef, _ labels.Labels, _ int64, _ float64) (storage.SeriesRef, error) {
	return max(ref, 1), nil
}
func (discard) AppendHistogram(ref storage.SeriesRef, _ labels.Labels, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return max(ref, 1), nil
}
func (discard) AppendExemplar(ref storage.SeriesRef, _ labels.Labels, _ exemplar.Exemplar) (storage.SeriesRef, error) {
	return ref, nil
}
func (discard) AppendSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64) (storage.SeriesRef, error) {
	return ref, nil
}
func (discard) AppendHistogramSTZeroSample(ref storage.SeriesRef, _ labels.Labels, _, _ int64, _ *histogram.Histogram, _ *histogram.FloatHistogram) (storage.SeriesRef, error) {
	return ref, nil
}
func (discard) UpdateMetadata(ref storage.SeriesRef, _ labels.Labels, _ metadata.Metadata) (storage.SeriesRef, error) {
	return ref, nil
}
func (discard) SetOptions(*storage.AppendOptions) {}
func (discard) Commit() error                     { return nil }
func (discard) Rollback() error                   { return nil }

// picky is a storage with a memory for references that it may lose.
type picky struct {
	discard
	refs    map[storage.SeriesRef]string
	looked  int // series found by their labels
	refuse  error
	samples map[string][]float64
}

func (p *picky) Append(ref storage.SeriesRef, l labels.Labels, _ int64, v float64) (storage.SeriesRef, error) {
	if p.refuse != nil {
		return 0, p.refuse
	}
	name, ok := p.refs[ref]
	if !ok {
		p.looked++
		name = l.String()
		ref = storage.SeriesRef(100*p.looked + 7)
		p.refs[ref] = name
	}
	p.samples[name] = append(p.samples[name], v)
	return ref, nil
}

func TestSeriesAreResolvedOnce(t *testing.T) {
	c := newCodec(t, wire.Limits{})
	p := &picky{refs: map[storage.SeriesRef]string{}, samples: map[string][]float64{}}
	send := func(f *wire.Frame) (wire.Refusals, error) {
		got, _ := c.travel(t, f)
		return c.dec.Append(p, got)
	}
	f := &wire.Frame{Series: []labels.Labels{host(0), host(1)}}
	for i := range 5 {
		f.IDs, f.Times, f.Values = []uint32{0, 1}, []int64{int64(i), int64(i)}, []float64{float64(i), 10 * float64(i)}
		_, err := send(f)
		require.NoError(t, err)
		f = &wire.Frame{}
	}
	require.Equal(t, 2, p.looked)
	clear(p.refs) // as after a storage was opened again
	f.IDs, f.Times, f.Values = []uint32{1}, []int64{9}, []float64{9}
	_, err := send(f)
	require.NoError(t, err)
	require.Equal(t, 3, p.looked)
	require.Equal(t, map[string][]float64{host(0).String(): {0, 1, 2, 3, 4}, host(1).String(): {0, 10, 20, 30, 40, 9}}, p.samples)

	// What is refused for good is counted, a storage that takes nothing is not.
	p.refuse = storage.ErrOutOfBounds
	refused, err := send(&wire.Frame{IDs: []uint32{0, 1}, Times: []int64{1, 1}, Values: []float64{1, 1}})
	require.NoError(t, err)
	require.Equal(t, 2, refused.Count)
	require.ErrorIs(t, refused.First, storage.ErrOutOfBounds)
	p.refuse = model.ErrNoSpace
	_, err = send(&wire.Frame{IDs: []uint32{0}, Times: []int64{1}, Values: []float64{1}})
	require.ErrorIs(t, err, model.ErrNoSpace)
}

func TestAcceptLooksAtSeriesOnce(t *testing.T) {
	enc, err := wire.NewEncoder()
	require.NoError(t, err)
	no := errors.New("not yours")
	dec, err := wire.NewDecoder(wire.Limits{}, func(l labels.Labels) (labels.Labels, error) {
		if l.Get("__name__") == "metric_1" {
			return l, no
		}
		return labels.NewBuilder(l).Set("agent", "x").Labels(), nil
	})
	require.NoError(t, err)
	defer dec.Close()
	b, err := enc.Encode(nil, &wire.Frame{Series: []labels.Labels{host(0), host(1)}, IDs: []uint32{0, 1}, Times: []int64{1, 1}, Values: []float64{1, 2}})
	require.NoError(t, err)
	var f wire.Frame
	require.NoError(t, dec.Decode(b, &f))
	p := &picky{refs: map[storage.SeriesRef]string{}, samples: map[string][]float64{}}
	refused, err := dec.Append(p, &f)
	require.NoError(t, err)
	require.Equal(t, 1, refused.Count)
	require.ErrorIs(t, refused.First, no)
	require.Equal(t, map[string][]float64{`{__name__="metric_0", agent="x", instance="web-1:9100", job="node"}`: {1}}, p.samples)
}

// exporter gives values as a host's exporter does: constants, sizes that move,
// counters of bytes and events, seconds of CPUs in hundredths, averages with
// two digits, and a few numbers with all digits.
type exporter struct {
	rnd    *rand.Rand
	series []labels.Labels
	values []float64
	step   []func(v float64) float64
}

func newExporter(instance string, seed uint64) *exporter {
	e := &exporter{rnd: rand.New(rand.NewPCG(seed, 1))}
	add := func(n int, name, label string, first float64, step func(float64) float64) {
		for i := range n {
			e.series = append(e.series, labels.FromStrings("__name__", name, label, fmt.Sprintf("%s%d", label, i), "instance", instance, "job", "node"))
			e.values = append(e.values, math.Round(first*(1+e.rnd.Float64())*100)/100)
			e.step = append(e.step, step)
		}
	}
	digits := func(v float64, n int) float64 { p := math.Pow10(n); return math.Round(v*p) / p }
	add(330, "node_filesystem_device_error", "mountpoint", 0, func(v float64) float64 { return v })
	add(60, "node_network_info", "device", 1, func(v float64) float64 { return v })
	add(130, "node_memory_bytes", "part", 1e9, func(v float64) float64 {
		if e.rnd.IntN(3) > 0 {
			return math.Trunc(v)
		}
		return math.Trunc(v) + float64(e.rnd.IntN(2000)-1000)*4096
	})
	add(64, "node_cpu_seconds_total", "mode", 5e5, func(v float64) float64 {
		if e.rnd.IntN(2) == 0 {
			return digits(v, 2)
		}
		return digits(v+e.rnd.Float64()*15, 2)
	})
	add(80, "node_disk_time_seconds_total", "device", 4e3, func(v float64) float64 { return digits(v+e.rnd.Float64()*0.5, 3) })
	add(120, "node_network_bytes_total", "device", 1e11, func(v float64) float64 {
		if e.rnd.IntN(3) == 0 {
			return math.Trunc(v)
		}
		return math.Trunc(v) + float64(e.rnd.IntN(3e6))
	})
	add(150, "node_netstat_total", "kind", 1e6, func(v float64) float64 { return math.Trunc(v) + float64(e.rnd.IntN(40)) })
	add(3, "node_load", "minutes", 1, func(v float64) float64 { return digits(math.Abs(v+e.rnd.Float64()-0.5), 2) })
	add(20, "node_pressure_seconds_total", "kind", 100, func(v float64) float64 { return digits(v+e.rnd.Float64()*0.01, 6) })
	add(10, "node_time_seconds", "kind", 1.7e9, func(v float64) float64 { return v + 15 + e.rnd.Float64()*1e-3 })
	return e
}

func (e *exporter) next() {
	for i, s := range e.step {
		e.values[i] = s(e.values[i])
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// rounds returns what a server gets from some hosts in n rounds, one frame a
// round, and the number of samples.
func rounds(hosts, n int) (frames []*wire.Frame, samples int) {
	list := make([]*exporter, hosts)
	for i := range list {
		list[i] = newExporter(fmt.Sprintf("web-%d:9100", i), uint64(i))
	}
	at := time.Now().Add(-time.Duration(n) * 15 * time.Second).UnixMilli()
	for round := range n {
		f := &wire.Frame{}
		id := uint32(0)
		for h, e := range list {
			if round == 0 {
				f.Series = append(f.Series, e.series...)
			}
			e.next()
			for i := range e.series {
				f.IDs, f.Times, f.Values = append(f.IDs, id), append(f.Times, at+int64(h*37)), append(f.Values, e.values[i])
				id++
			}
		}
		at += 15000
		samples += len(f.IDs)
		frames = append(frames, f)
	}
	return frames, samples
}

// A sample of a host costs at most three bytes, its description included.
func TestBytesPerSample(t *testing.T) {
	frames, samples := rounds(1, 240)
	enc, err := wire.NewEncoder()
	require.NoError(t, err)
	total := 0
	for _, f := range frames {
		b, err := enc.Encode(nil, f)
		require.NoError(t, err)
		total += len(b)
	}
	per := float64(total) / float64(samples)
	t.Logf("%.2f bytes per sample, one host of %d series for an hour", per, len(frames[0].IDs))
	require.Less(t, per, 3.0)
}

func BenchmarkEncode(b *testing.B) {
	frames, _ := rounds(10, 60)
	enc, err := wire.NewEncoder()
	require.NoError(b, err)
	var buf []byte
	bytes, samples := 0, 0
	b.ReportAllocs()
	used := cpuTime()
	for i := 0; b.Loop(); i++ {
		if i%len(frames) == 0 {
			enc.Reset()
		}
		f := frames[i%len(frames)]
		if buf, err = enc.Encode(buf[:0], f); err != nil {
			b.Fatal(err)
		}
		bytes += len(buf)
		samples += len(f.IDs)
	}
	report(b, samples, used)
	b.ReportMetric(float64(bytes)/float64(samples), "B/sample")
}

func BenchmarkDecode(b *testing.B) {
	frames, _ := rounds(10, 60)
	enc, err := wire.NewEncoder()
	require.NoError(b, err)
	encoded := make([][]byte, len(frames))
	for i, f := range frames {
		encoded[i], err = enc.Encode(nil, f)
		require.NoError(b, err)
	}
	dec, err := wire.NewDecoder(wire.Limits{}, nil)
	require.NoError(b, err)
	defer dec.Close()
	samples := 0
	var f wire.Frame
	b.ReportAllocs()
	used := cpuTime()
	for i := 0; b.Loop(); i++ {
		if i%len(frames) == 0 {
			dec.Reset()
		}
		f.Reset()
		if err := dec.Decode(encoded[i%len(frames)], &f); err != nil {
			b.Fatal(err)
		}
		samples += len(f.IDs)
	}
	report(b, samples, used)
}

func report(b *testing.B, samples int, used time.Duration) {
	b.ReportMetric(float64(samples)/(cpuTime()-used).Seconds()/1e6, "Msamples/cpu-s")
	b.ReportMetric(0, "ns/op")
}
