package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

func histograms(t testing.TB, s *store.Store, at int64) {
	t.Helper()
	app := s.Appender(context.Background())
	for i := range 20 {
		h := tsdbutil.GenerateTestHistogram(int64(i))
		if i == 15 {
			h = &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		}
		_, err := app.AppendHistogram(0, series("h", 1), at+int64(i)*1000, h, nil)
		require.NoError(t, err)
		_, err = app.AppendHistogram(0, series("f", 1), at+int64(i)*1000, nil, tsdbutil.GenerateTestFloatHistogram(int64(i)))
		require.NoError(t, err)
	}
	require.NoError(t, app.Commit())
}

func TestRepairMakesDigestsEqual(t *testing.T) {
	w := hoursAgo(3) / twoHours * twoHours
	r := all(w, w+twoHours)
	a, b := storetest.New(t, store.Config{}), storetest.New(t, store.Config{})
	histograms(t, a, w+1000)
	require.NoError(t, appendOne(a, series("gone", 1), time.UnixMilli(w+5), math.Float64frombits(value.StaleNaN)))
	require.NoError(t, appendOne(b, series("gone", 1), time.UnixMilli(w+5), math.NaN()))
	d := digest(t, a, r)
	require.NotEqual(t, d, digest(t, b, r))
	res := repair(t, a, b, r)
	require.Equal(t, 40, res.Added)
	require.Equal(t, 1, res.Conflicts, "a stale marker is not any NaN")
	require.Len(t, res.Examples, 1)

	// The same histograms, appended one at a time in another order, are equal.
	c := storetest.New(t, store.Config{})
	require.NoError(t, appendOne(c, series("gone", 1), time.UnixMilli(w+5), math.Float64frombits(value.StaleNaN)))
	require.NoError(t, appendOne(c, series("x", 1), time.Now(), 1))
	require.Equal(t, 40, repair(t, b, c, r).Added)
	require.Equal(t, d, digest(t, c, r))
	require.Zero(t, repair(t, a, c, r).Missing)
}

func TestRepairOfOldSamplesMakesABlock(t *testing.T) {
	w := hoursAgo(100) / twoHours * twoHours
	r := all(w, w+twoHours)
	a, b := storetest.New(t, store.Config{}), storetest.New(t, store.Config{})
	fill(t, a, 4, w, w+twoHours)
	require.NoError(t, appendOne(b, series("now", 1), time.Now(), 1))
	res := repair(t, a, b, r)
	require.Equal(t, model.SampleRepair{Series: 4, Missing: 480, Added: 480}, res)
	require.Equal(t, digest(t, a, r), digest(t, b, r))
	blocks, err := b.Blocks()
	require.NoError(t, err)
	require.Len(t, blocks, 1)
}

func TestRepairWaitsForWhatIsUnderWay(t *testing.T) {
	w := hoursAgo(3) / twoHours * twoHours
	r := all(w, w+twoHours)
	a, b := storetest.New(t, store.Config{}), storetest.New(t, store.Config{})
	fill(t, a, 3, w, w+twoHours)
	res, err := b.Repair(context.Background(), r, raw(t, a, r), func(context.Context) error {
		fill(t, b, 2, w, w+twoHours) // it arrives by another way
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 120, res.Missing)
	require.Equal(t, 120, res.Added)
}

func TestRandomGapsAreRepaired(t *testing.T) {
	a, b := storetest.New(t, store.Config{}), storetest.New(t, store.Config{})
	now := hoursAgo(0)
	w := (now - 4*twoHours) / twoHours * twoHours
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		name := fmt.Sprintf("r%d", run)
		n := rapid.IntRange(1, 60).Draw(rt, "samples")
		for i := range n {
			at := time.UnixMilli(w + rapid.Int64Range(0, twoHours-1).Draw(rt, "t"))
			l := series(name, rapid.IntRange(0, 3).Draw(rt, "series"))
			where := rapid.IntRange(0, 2).Draw(rt, "where")
			v := float64(at.UnixMilli()*7 + int64(l.Hash()%100))
			if where != 1 {
				require.NoError(t, appendOne(a, l, at, v))
			}
			if where != 0 {
				require.NoError(t, appendOne(b, l, at, v))
			}
			if i == n/2 && rapid.Bool().Draw(rt, "compact") {
				require.NoError(t, a.Compact(context.Background()))
			}
		}
		r := all(w, w+twoHours)
		repair(t, a, b, r)
		repair(t, b, a, r)
		require.Equal(t, digest(t, a, r), digest(t, b, r))
		require.Zero(t, repair(t, a, b, r).Missing+repair(t, b, a, r).Conflicts)
	})
}

func TestRepairRefusesWhatIsNotInOrder(t *testing.T) {
	w := hoursAgo(3) / twoHours * twoHours
	a, b := storetest.New(t, store.Config{}), storetest.New(t, store.Config{})
	fill(t, a, 3, w, w+twoHours)
	r := model.SampleRange{From: w, To: w + twoHours, Shards: 1}
	next := raw(t, a, r)
	m, err := next()
	require.NoError(t, err)
	twice := func() ([]byte, error) { return m, nil }
	_, err = b.Repair(context.Background(), r, twice, nil)
	require.ErrorContains(t, err, "not in order")
	broken := errors.New("the connection ended")
	_, err = b.Repair(context.Background(), r, func() ([]byte, error) { return nil, broken }, nil)
	require.ErrorIs(t, err, broken)
	r.To += twoHours
	_, err = b.Repair(context.Background(), r, raw(t, a, r), nil)
	require.ErrorContains(t, err, "2h")
}

func FuzzRepair(f *testing.F) {
	w := hoursAgo(3) / twoHours * twoHours
	a := storetest.New(f, store.Config{})
	fill(f, a, 2, w, w+10*60_000)
	histograms(f, a, w)
	r := model.SampleRange{From: w, To: w + twoHours, Shards: 1}
	m, err := raw(f, a, r)()
	require.NoError(f, err)
	f.Add(m)
	f.Add([]byte{1, 1, 1, 'a', 1, 'b', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	b := storetest.New(f, store.Config{})
	f.Fuzz(func(_ *testing.T, m []byte) {
		done := false
		_, _ = b.Repair(context.Background(), r, func() ([]byte, error) { // only a panic is a fault
			if done {
				return nil, io.EOF
			}
			done = true
			return m, nil
		}, nil)
	})
}

func BenchmarkDigest(b *testing.B) {
	for _, late := range []int{0, 10} { // one batch in so many comes late
		b.Run(fmt.Sprintf("late=%d", late), func(b *testing.B) { benchDigest(b, late) })
	}
}

func benchDigest(b *testing.B, late int) {
	s := storetest.New(b, store.Config{})
	const n = 2000
	from := hoursAgo(2) / twoHours * twoHours
	ls := make([]labels.Labels, n)
	for i := range ls {
		ls[i] = series("bench", i)
	}
	total := 0
	write := func(t int64) {
		app := s.Appender(context.Background())
		for i := range ls {
			_, err := app.Append(0, ls[i], t, float64(t%60_000)+float64(i))
			require.NoError(b, err)
			total++
		}
		require.NoError(b, app.Commit())
	}
	var kept []int64
	for t, i := from, 0; t < from+twoHours; t, i = t+15_000, i+1 {
		if late > 0 && i%late == late/2 {
			kept = append(kept, t)
			continue
		}
		write(t)
	}
	for _, t := range kept {
		write(t)
	}
	used := cpu()
	for b.Loop() {
		_, err := s.Digest(context.Background(), model.SampleRange{From: from, To: from + twoHours, Shards: 256})
		require.NoError(b, err)
	}
	b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
	b.ReportMetric(float64(total)*float64(b.N)/(cpu()-used).Seconds(), "samples/cpu-s")
}
