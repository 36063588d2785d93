package store_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func series(name string, i int) labels.Labels {
	return labels.FromStrings("__name__", name, "i", fmt.Sprint(i))
}

// read returns the samples of all series of a name, by series.
func read(t testing.TB, s *store.Store, name string) map[string][]float64 {
	t.Helper()
	q, err := s.Querier(math.MinInt64/4, math.MaxInt64/4)
	require.NoError(t, err)
	defer q.Close()
	out := make(map[string][]float64)
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", name))
	for set.Next() {
		it := set.At().Iterator(nil)
		for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
			v := math.Inf(1)
			if typ == chunkenc.ValFloat {
				_, v = it.At()
			}
			out[set.At().Labels().String()] = append(out[set.At().Labels().String()], v)
		}
		require.NoError(t, it.Err())
	}
	require.NoError(t, set.Err())
	return out
}

func count(m map[string][]float64) (n int) {
	for _, v := range m {
		n += len(v)
	}
	return n
}

func appendOne(s *store.Store, l labels.Labels, at time.Time, v float64) error {
	return s.Append(context.Background(), model.Batch{{Labels: l, T: at.UnixMilli(), V: v}})
}

func TestRestartKeepsSamples(t *testing.T) {
	dir := t.TempDir()
	s, stop := storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	now := time.Now()
	require.NoError(t, appendOne(s, series("up", 1), now, 1))
	require.NoError(t, appendOne(s, series("up", 1), now.Add(-time.Hour), 2), "a late sample")
	app := s.Appender(context.Background())
	ref, err := app.AppendHistogram(0, series("h", 1), now.UnixMilli(), tsdbutil.GenerateTestHistogram(1), nil)
	require.NoError(t, err)
	_, err = app.AppendExemplar(ref, series("h", 1), exemplar.Exemplar{Labels: labels.FromStrings("trace", "x"), Value: 1, Ts: now.UnixMilli(), HasTs: true})
	require.NoError(t, err)
	require.NoError(t, app.Commit())
	stop()
	require.ErrorIs(t, appendOne(s, series("up", 1), now, 1), model.ErrUnavailable)

	s, stop = storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	defer stop()
	require.Equal(t, []float64{2, 1}, read(t, s, "up")[series("up", 1).String()])
	require.Equal(t, 1, count(read(t, s, "h")))
	eq, err := s.ExemplarQuerier(context.Background())
	require.NoError(t, err)
	res, err := eq.Select(0, math.MaxInt64, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "__name__", "h")})
	require.NoError(t, err)
	require.Len(t, res, 1)
	require.Empty(t, s.Damage())
}

func TestBeforeReadyEverythingIsUnavailable(t *testing.T) {
	s, err := store.New(store.Config{Dir: t.TempDir()}, store.Deps{})
	require.NoError(t, err)
	require.ErrorIs(t, s.Health(), model.ErrUnavailable)
	require.ErrorIs(t, appendOne(s, series("up", 1), time.Now(), 1), model.ErrUnavailable)
	_, err = s.Querier(0, 1)
	require.ErrorIs(t, err, model.ErrUnavailable)
	_, err = s.BlockMetas()
	require.ErrorIs(t, err, model.ErrUnavailable)
	_, err = s.WALReplayStatus()
	require.NoError(t, err)
}

func TestConfigNamesTheField(t *testing.T) {
	_, err := store.New(store.Config{RetentionTime: time.Minute, SegmentBytes: 5}, store.Deps{})
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	var fields []string
	for _, f := range inv {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{"dir", "retention_time", "segment_bytes"}, fields)
}

func TestRefusals(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := storetest.NewWith(t, store.Config{MaxLabels: 64, MaxNameBytes: 200, MaxValueBytes: 2048}, store.Deps{Registerer: reg})
	now := time.Now()
	many := labels.NewBuilder(series("many", 1))
	for i := range 64 {
		many.Set(fmt.Sprintf("l%d", i), "v")
	}
	f := func(l labels.Labels, at time.Time, want error) {
		t.Helper()
		err := appendOne(s, l, at, 1)
		if want == nil {
			require.NoError(t, err)
			return
		}
		require.ErrorIs(t, err, want)
		var r *store.Refused
		require.ErrorAs(t, err, &r)
	}
	invalid := func(l labels.Labels) {
		t.Helper()
		var inv model.Invalid
		require.ErrorAs(t, appendOne(s, l, now, 1), &inv)
	}
	f(series("ok", 1), now, nil)
	f(series("ok", 1), now.Add(9*time.Minute), nil)
	f(series("ok", 1), now.Add(11*time.Minute), store.ErrTooFarInFuture)
	f(series("ok", 2), now.Add(11*time.Minute), storage.ErrOutOfBounds)
	f(series("ok", 1), now.Add(-50*time.Hour), storage.ErrTooOldSample)
	f(series("ok", 3), time.UnixMilli(math.MinInt64), storage.ErrOutOfBounds)
	invalid(labels.FromStrings("__name__", "bad", "l", "\xff"))
	invalid(labels.FromStrings("__name__", "bad", "l\xff", "v"))
	invalid(labels.FromStrings("__name__", "", "l", "v"))
	invalid(labels.FromStrings("l", "v"))
	invalid(labels.EmptyLabels())
	f(many.Labels(), now, model.ErrLimit)
	f(labels.FromStrings("__name__", strings.Repeat("n", 201)), now, model.ErrLimit)
	f(labels.FromStrings("__name__", "x", strings.Repeat("n", 201), "v"), now, model.ErrLimit)
	f(labels.FromStrings("__name__", "x", "l", strings.Repeat("n", 2049)), now, model.ErrLimit)
	f(labels.FromStrings("__name__", "x", "l", strings.Repeat("n", 2048)), now, nil)

	app := s.Appender(context.Background())
	future := now.Add(time.Hour).UnixMilli()
	_, err := app.AppendHistogram(0, series("h", 1), future, tsdbutil.GenerateTestHistogram(1), nil)
	require.ErrorIs(t, err, store.ErrTooFarInFuture)
	_, err = app.AppendSTZeroSample(0, series("h", 1), future, now.UnixMilli())
	require.ErrorIs(t, err, store.ErrTooFarInFuture)
	_, err = app.AppendHistogramSTZeroSample(0, series("h", 1), future, now.UnixMilli(), &histogram.Histogram{}, nil)
	require.ErrorIs(t, err, store.ErrTooFarInFuture)
	_, err = app.AppendExemplar(0, series("ok", 1), exemplar.Exemplar{Ts: future})
	require.ErrorIs(t, err, store.ErrTooFarInFuture)
	var inv model.Invalid
	_, err = app.AppendExemplar(0, series("ok", 1), exemplar.Exemplar{Ts: now.UnixMilli(), Labels: labels.FromStrings("a", "\xff")})
	require.ErrorAs(t, err, &inv)
	require.NoError(t, app.Rollback())
	require.Error(t, app.Commit(), "ended")

	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP panoptes_store_samples_refused_total Samples that were not stored, by reason.
# TYPE panoptes_store_samples_refused_total counter
panoptes_store_samples_refused_total{reason="invalid_labels"} 6
panoptes_store_samples_refused_total{reason="label_limit"} 4
panoptes_store_samples_refused_total{reason="too_far_in_future"} 7
panoptes_store_samples_refused_total{reason="too_old"} 1
`), "panoptes_store_samples_refused_total"))
}

func TestValuesThatAreNoNumbers(t *testing.T) {
	s := storetest.New(t, store.Config{})
	now := time.Now()
	for i, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Float64frombits(value.StaleNaN)} {
		require.NoError(t, appendOne(s, series("odd", 1), now.Add(time.Duration(i)*time.Second), v))
	}
	got := read(t, s, "odd")[series("odd", 1).String()]
	require.Len(t, got, 4)
	require.True(t, math.IsNaN(got[0]) && !value.IsStaleNaN(got[0]))
	require.True(t, value.IsStaleNaN(got[3]))
}

func TestDuplicateIsNoErrorAndTheFirstStays(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := storetest.NewWith(t, store.Config{}, store.Deps{Registerer: reg})
	now := time.Now()
	for _, v := range []float64{1, 1, 2} {
		require.NoError(t, appendOne(s, series("d", 1), now, v))
	}
	require.Equal(t, []float64{1}, read(t, s, "d")[series("d", 1).String()])
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP panoptes_store_samples_duplicate_total Samples for an instant that already has another value; the first one stays.
# TYPE panoptes_store_samples_duplicate_total counter
panoptes_store_samples_duplicate_total 1
`), "panoptes_store_samples_duplicate_total"))
}

func TestDiscardOutOfOrderIsHonoured(t *testing.T) {
	s := storetest.New(t, store.Config{})
	now := time.Now()
	// The first appender of an empty database, and a later one.
	for i := range 2 {
		app := s.Appender(context.Background())
		app.SetOptions(&storage.AppendOptions{DiscardOutOfOrder: true})
		at := now.Add(time.Duration(i) * time.Minute)
		ref, err := app.Append(0, series("s", 1), at.UnixMilli(), 1)
		require.NoError(t, err)
		require.NoError(t, app.Commit())
		app = s.Appender(context.Background())
		app.SetOptions(&storage.AppendOptions{DiscardOutOfOrder: true})
		_, err = app.Append(ref, series("s", 1), at.Add(-time.Second).UnixMilli(), 2)
		require.ErrorIs(t, err, storage.ErrOutOfOrderSample)
		require.NoError(t, app.Rollback())
	}
	require.NoError(t, appendOne(s, series("s", 1), now.Add(-time.Second), 2), "without the option it is taken")
}

func TestReferencesEndWithTheOpening(t *testing.T) {
	dir := t.TempDir()
	s, stop := storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	app := s.Appender(context.Background())
	ref, err := app.Append(0, series("a", 1), time.Now().UnixMilli(), 1)
	require.NoError(t, err)
	require.NotZero(t, ref)
	again, err := app.Append(ref, labels.EmptyLabels(), time.Now().Add(time.Second).UnixMilli(), 1)
	require.NoError(t, err, "a known reference needs no labels")
	require.Equal(t, ref, again)
	_, err = app.Append(ref+1<<48, labels.EmptyLabels(), time.Now().UnixMilli(), 1)
	require.Error(t, err, "a reference of another opening is unknown")
	require.NoError(t, app.Commit())
	stop()
}

func TestOneSyncServesManyCommits(t *testing.T) {
	var mu sync.Mutex
	synced := make(map[string]int)
	release := make(chan struct{}, 1000)
	blocking := false
	deps := store.Deps{Sync: func(f *os.File) error {
		mu.Lock()
		b := blocking
		synced[f.Name()]++
		mu.Unlock()
		if b {
			<-release
		}
		return f.Sync()
	}}
	s := storetest.NewWith(t, store.Config{}, deps)
	now := time.Now()
	const n = 200
	// The series exist before: the TSDB's index of new ones is not free of
	// races with readers.
	var b model.Batch
	for i := range n {
		b = append(b, model.Sample{Labels: series("g", i), T: now.Add(-time.Minute).UnixMilli(), V: 1})
	}
	require.NoError(t, s.Append(context.Background(), b))
	mu.Lock()
	clear(synced)
	blocking = true
	mu.Unlock()

	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() { errs <- appendOne(s, series("g", i), now, 1) })
	}
	require.Eventually(t, func() bool { return count(read(t, s, "g")) == 2*n }, 30*time.Second, time.Millisecond)
	require.Empty(t, errs, "a commit returned before its sync ended")
	mu.Lock()
	blocking = false
	mu.Unlock()
	close(release)
	wg.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	total := 0
	mu.Lock()
	defer mu.Unlock()
	for _, c := range synced {
		total += c
	}
	require.LessOrEqual(t, total, 4, "%v", synced)
}

func TestCommitSyncsBothLogsEverySegmentAndTheDirectory(t *testing.T) {
	var mu sync.Mutex
	var log []string
	deps := store.Deps{Sync: func(f *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, f.Name()[strings.Index(f.Name(), "/w")+1:])
		return f.Sync()
	}}
	dir := t.TempDir()
	s := storetest.NewWith(t, store.Config{Dir: dir, SegmentBytes: 32 << 10}, deps)
	took := func() []string {
		mu.Lock()
		defer mu.Unlock()
		l := log
		log = nil
		for i := range l {
			l[i] = strings.TrimPrefix(l[i], strings.TrimPrefix(dir, "/")+"/")
			l[i] = l[i][strings.LastIndex(l[i], "/w")+1:]
		}
		return l
	}
	now := time.Now()
	require.NoError(t, appendOne(s, series("a", 0), now, 1))
	require.Equal(t, []string{"wal", "wal/00000000", "wbl", "wbl/00000000"}, took())
	require.NoError(t, appendOne(s, series("a", 0), now.Add(time.Second), 1))
	require.Equal(t, []string{"wal/00000000"}, took(), "only what has grown")
	require.NoError(t, appendOne(s, series("a", 0), now.Add(-time.Minute), 1))
	require.Equal(t, []string{"wal/00000000", "wbl/00000000"}, took(), "late samples live in the second log")
	var b model.Batch
	for i := range 6000 { // more than a segment
		b = append(b, model.Sample{Labels: labels.FromStrings("__name__", "b", "x", fmt.Sprintf("%x", i*2654435761)), T: now.UnixMilli(), V: float64(i)})
	}
	for len(b) > 0 {
		require.NoError(t, s.Append(context.Background(), b[:500]))
		b = b[500:]
	}
	seen := strings.Join(took(), " ")
	require.Contains(t, seen, "wal/00000001")
	require.Contains(t, seen, "wal wal/00000001", "the directory is synced for a new name")
}

func TestFailedSyncIsNotAcknowledgedAndHeals(t *testing.T) {
	var mu sync.Mutex
	broken := false
	deps := store.Deps{Sync: func(f *os.File) error {
		mu.Lock()
		defer mu.Unlock()
		if broken {
			return fmt.Errorf("sync: input/output error")
		}
		return f.Sync()
	}}
	reg := prometheus.NewRegistry()
	deps.Registerer = reg
	s := storetest.NewWith(t, store.Config{CheckInterval: 5 * time.Millisecond}, deps)
	now := time.Now()
	require.NoError(t, appendOne(s, series("a", 0), now, 1))
	q, err := s.Querier(0, math.MaxInt64)
	require.NoError(t, err)
	mu.Lock()
	broken = true
	mu.Unlock()
	require.ErrorIs(t, appendOne(s, series("a", 0), now.Add(time.Second), 2), model.ErrUnavailable)
	require.ErrorIs(t, s.Health(), model.ErrUnavailable)
	mu.Lock()
	broken = false
	mu.Unlock()
	require.NoError(t, q.Close(), "the database is opened again when the last query has ended")
	require.Eventually(t, func() bool { return s.Health() == nil }, 30*time.Second, time.Millisecond)
	require.NoError(t, appendOne(s, series("a", 0), now.Add(2*time.Second), 3))
	got := read(t, s, "a")[series("a", 0).String()]
	require.Equal(t, 1.0, got[0])
	require.Equal(t, 3.0, got[len(got)-1])
}

func TestRetentionChangesAtRunTime(t *testing.T) {
	reg := prometheus.NewRegistry()
	s := storetest.NewWith(t, store.Config{}, store.Deps{Registerer: reg})
	require.NoError(t, s.ApplyRetention(48*time.Hour, 1<<30))
	require.NoError(t, testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP prometheus_tsdb_retention_limit_seconds How long to retain samples in storage.
# TYPE prometheus_tsdb_retention_limit_seconds gauge
prometheus_tsdb_retention_limit_seconds 172800
# HELP prometheus_tsdb_retention_limit_bytes Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled
# TYPE prometheus_tsdb_retention_limit_bytes gauge
prometheus_tsdb_retention_limit_bytes 1.073741824e+09
`), "prometheus_tsdb_retention_limit_seconds", "prometheus_tsdb_retention_limit_bytes"))
	var inv model.Invalid
	require.ErrorAs(t, s.ApplyRetention(time.Second, 0), &inv)
}
