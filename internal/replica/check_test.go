package replica_test

import (
	"context"
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/model"
	"panoptes/internal/replica"
)

// two is two running servers with nothing in them.
func two(t *testing.T) (c *cluster, a, b *server) {
	t.Helper()
	c = newCluster(t)
	return c, c.add("a").start(), c.add("b").start()
}

func (s *server) check() replica.Report {
	s.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	rep, err := s.replica.CheckNow(ctx)
	require.NoError(s.c.t, err)
	return rep
}

func TestSplitHeals(t *testing.T) {
	_, a, b := two(t)
	start := hoursAgo(5)
	for at := start; at < hoursAgo(0.2); at += 60_000 {
		for _, s := range []*server{a, b} {
			s.put(series("both", 1), at, 1)
		}
	}
	a.fill(3, hoursAgo(2), hoursAgo(0.1))
	a.happen(20, hoursAgo(1))
	b.put(series("b", 1), hoursAgo(3), math.Float64frombits(value.StaleNaN))
	b.happen(10, hoursAgo(30))

	rep := b.check()
	require.Equal(t, []string{"a"}, rep.Peers)
	require.Equal(t, 20, rep.Events)
	require.NotZero(t, rep.Mismatch)
	require.Equal(t, rep.Missing, rep.Repaired)
	require.Equal(t, 1, rep.Extra)
	require.Zero(t, rep.Conflicts)
	rep = a.check()
	require.Equal(t, 1, rep.Repaired)
	require.Equal(t, 10, rep.Events)
	require.Equal(t, a.contents(0, hoursAgo(-1)), b.contents(0, hoursAgo(-1)))
	require.Equal(t, "warning", b.event("store.repaired").Severity)
	require.Less(t, rep.Seconds, 20.0)

	for _, s := range []*server{a, b} { // nothing is found twice
		rep = s.check()
		require.Zero(t, rep.Different)
		require.NotZero(t, rep.Windows)
		require.NotZero(t, rep.Days)
		require.Equal(t, rep.At, s.replica.Status().LastCheck)
	}
}

func TestConflictsAreReportedOnly(t *testing.T) {
	_, a, b := two(t)
	at := hoursAgo(3)
	a.put(series("c", 1), at, 1)
	b.put(series("c", 1), at, 2)
	for range 2 {
		rep := b.check()
		require.Equal(t, 1, rep.Conflicts)
		require.Equal(t, 1, rep.Different)
		require.Zero(t, rep.Mismatch+rep.Repaired)
		require.Contains(t, rep.Examples[0], series("c", 1).String())
	}
	require.Equal(t, "store.conflict", b.event("store.conflict").Code)
	require.Empty(t, b.events, "told once")
	require.EqualValues(t, 1, b.replica.Status().Conflicting)
}

func TestRandomGapsAreRepaired(t *testing.T) {
	c := newCluster(t)
	servers := []*server{c.add("a").start(), c.add("b").start(), c.add("c").start()}
	base := hoursAgo(5)
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		if run++; run > 15 { // each compares three stores
			return
		}
		for i := range rapid.IntRange(1, 80).Draw(rt, "samples") {
			at := base + rapid.Int64Range(0, 4*3600_000).Draw(rt, "t")
			who := rapid.IntRange(1, 7).Draw(rt, "who")
			l := series(fmt.Sprintf("r%d", run), i%5)
			for k, s := range servers {
				if who&(1<<k) != 0 {
					s.put(l, at, float64(at%1000))
				}
			}
		}
		if rapid.Bool().Draw(rt, "compact") {
			servers[0].compact()
		}
		for _, s := range servers {
			s.check()
		}
		want := servers[0].contents(0, hoursAgo(-1))
		require.Equal(t, want, servers[1].contents(0, hoursAgo(-1)))
		require.Equal(t, want, servers[2].contents(0, hoursAgo(-1)))
	})
}

// Samples reach the other server a little later all the time; late ones too.
func TestNoFalseAlarmWhileDataFlow(t *testing.T) {
	c := newCluster(t)
	a, b := c.add("a"), c.add("b")
	b.cfg.Confirm = 500 * time.Millisecond
	b.deps.Lag = func() time.Duration { return 500 * time.Millisecond }
	a.start()
	b.start()
	ctx, cancel := context.WithCancel(context.Background())
	lag := make(chan model.Batch, 5) // between the two, full all the time
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	wg.Go(func() {
		defer close(lag)
		for i := 0; ctx.Err() == nil; i++ {
			at := time.Now().UnixMilli() - int64(i%4)*3600_000
			batch := model.Batch{{Labels: series("live", i%10), T: at, V: float64(at)}}
			if err := a.store.Append(context.Background(), batch); err != nil {
				errs <- err
				return
			}
			lag <- batch
		}
	})
	wg.Go(func() {
		var held []model.Batch
		for batch := range lag {
			if held = append(held, batch); len(held) < 10 {
				continue
			}
			if err := b.store.Append(context.Background(), held[0]); err != nil {
				errs <- err
				return
			}
			held = held[1:]
		}
	})
	different := 0
	for end := time.Now().Add(20 * time.Second); different < 3 && time.Now().Before(end); {
		rep := b.check()
		require.Zero(t, rep.Missing, "%+v", rep)
		require.Zero(t, rep.Mismatch)
		different += rep.Different
	}
	cancel()
	wg.Wait()
	require.Empty(t, errs)
	require.NotZero(t, different, "the test has shown nothing: no sample was ever under way")
	require.Empty(t, b.events)
}

func TestNothingToCompareWith(t *testing.T) {
	c := newCluster(t)
	a := c.add("a").start()
	_, err := a.replica.CheckNow(context.Background())
	require.ErrorIs(t, err, model.ErrUnavailable)
	b := c.add("b").start()
	b.c.mu.Lock()
	delete(c.addrs, "b") // it does not answer
	b.c.mu.Unlock()
	_, err = a.replica.CheckNow(context.Background())
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.NotEmpty(t, a.replica.Status().LastReport.Err)
	a.replica.Need(time.Time{}, time.Time{}, "joined")
	_, err = a.replica.CheckNow(context.Background())
	require.ErrorContains(t, err, "being filled")
}

func TestPeriodicCheckLooksAtOldTimes(t *testing.T) {
	c := newCluster(t)
	a, b := c.add("a"), c.add("b")
	b.cfg.CheckEvery, b.cfg.CheckBack = 50*time.Millisecond, 2*time.Hour
	a.start()
	a.fill(2, hoursAgo(30), hoursAgo(0))
	a.compact()
	b.start()
	b.put(series("m", 0), hoursAgo(30), float64(hoursAgo(30)%999_983)) // the same beginning
	require.Eventually(t, func() bool { return b.replica.Status().Mismatches >= 10 }, 30*time.Second, 10*time.Millisecond)
}
