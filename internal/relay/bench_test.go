package relay_test

import (
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/stretchr/testify/require"

	"panoptes/internal/relay"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
	"panoptes/internal/wire"
)

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load appends one sample of each of many series by reference, again and again.
type load struct {
	labels []labels.Labels
	refs   []storage.SeriesRef
	at     int64
}

func newLoad(n int) *load {
	l := &load{at: time.Now().Add(-time.Hour).UnixMilli()}
	for i := range n {
		l.labels = append(l.labels, series("bench_requests_total", i))
	}
	l.refs = make([]storage.SeriesRef, n)
	return l
}

func (l *load) append(b testing.TB, to storage.Appendable) {
	app := to.Appender(context.Background())
	for i := range l.labels {
		ref, err := app.Append(l.refs[i], l.labels[i], l.at, float64(l.at%1000+int64(i)))
		if err != nil {
			b.Fatal(err)
		}
		l.refs[i] = ref
	}
	if err := app.Commit(); err != nil {
		b.Fatal(err)
	}
	l.at += 15
}

func benchAppend(b *testing.B, to storage.Appendable) {
	l := newLoad(10_000)
	l.append(b, to)
	b.ReportAllocs()
	used := cpuTime()
	n := 0
	for b.Loop() {
		l.append(b, to)
		n += len(l.labels)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds()/1e6, "Msamples/s")
	b.ReportMetric(float64(n)/(cpuTime()-used).Seconds()/1e6, "Msamples/cpu-s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkPlainStore(b *testing.B) { benchAppend(b, storetest.New(b, store.Config{})) }

// BenchmarkAlone is a relay without destinations.
func BenchmarkAlone(b *testing.B) {
	c := newCluster(b, "a")
	c.startAll()
	benchAppend(b, c.nodes["a"].relay)
}

// BenchmarkAway is the sending side alone: the log, and a destination that is
// away.
func BenchmarkAway(b *testing.B) {
	c := newCluster(b, "a")
	n := c.nodes["a"].start()
	n.relay.SetDestinations([]string{"gone"})
	benchAppend(b, n.relay)
	reportLog(b, n)
}

// BenchmarkTwoDestinations is three servers in this process: each sample is
// stored three times.
func BenchmarkTwoDestinations(b *testing.B) {
	c := newCluster(b, "a", "b", "c")
	c.startAll()
	benchAppend(b, c.nodes["a"].relay)
}

func reportLog(b *testing.B, n *node) {
	files, err := filepath.Glob(filepath.Join(n.dir, "relay", "*.seg"))
	require.NoError(b, err)
	total := int64(0)
	for _, f := range files {
		fi, err := os.Stat(f)
		require.NoError(b, err)
		total += fi.Size()
	}
	b.ReportMetric(float64(total)/float64(10_000*(b.N+1)), "log-B/sample")
}

// BenchmarkReceive is the receiving side without the network: frames of a
// session into a real store, one commit for 50,000 samples.
func BenchmarkReceive(b *testing.B) {
	s := storetest.New(b, store.Config{})
	enc, err := wire.NewEncoder()
	require.NoError(b, err)
	dec, err := wire.NewDecoder(wire.ServerLimits(), nil)
	require.NoError(b, err)
	defer dec.Close()
	l := newLoad(10_000)
	f := &wire.Frame{Series: l.labels}
	for i := range l.labels {
		f.IDs, f.Times, f.Values = append(f.IDs, uint32(i)), append(f.Times, l.at), append(f.Values, float64(i))
	}
	var got wire.Frame
	var buf []byte
	n := 0
	var encoding time.Duration
	b.ReportAllocs()
	used := cpuTime()
	for b.Loop() {
		got.Reset()
		for range 5 {
			l.at += 15
			for i := range f.Times {
				f.Times[i], f.Values[i] = l.at, float64(l.at%1000+int64(i))
			}
			before := cpuTime()
			if buf, err = enc.Encode(buf[:0], f); err != nil {
				b.Fatal(err)
			}
			encoding += cpuTime() - before
			f.Series = nil
			if err := dec.Decode(buf, &got); err != nil {
				b.Fatal(err)
			}
		}
		app := s.Appender(context.Background())
		if _, err := dec.Append(app, &got); err != nil {
			b.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			b.Fatal(err)
		}
		n += got.Samples()
	}
	b.ReportMetric(float64(n)/(cpuTime()-used-encoding).Seconds()/1e6, "Msamples/cpu-s")
	b.ReportMetric(0, "ns/op")
}

var _ storage.Appendable = (*relay.Relay)(nil)
