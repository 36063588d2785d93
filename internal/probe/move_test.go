package probe_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/test/harness"
)

// lastRun is what all servers know of a check in one region.
func (s *sink) lastRun(id string) (last time.Time) {
	for _, r := range s.of(id) {
		if r.Start.After(last) {
			last = r.Start
		}
	}
	return last
}

func workerOn(t *testing.T, node string, k fake, s *sink) *probe.Worker {
	w, err := probe.NewWorker(probe.WorkerConfig{Node: node, Region: "eu"}, probe.WorkerDeps{Kinds: []probe.Kind{k}, Sink: s, LastRun: s.lastRun})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return w
}

// Checks that move between two workers at any moment, also while they run, run
// once in every turn and miss none.
func TestChecksThatMoveRunOnceATurn(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			synctest.Test(t, func(t *testing.T) {
				s := &sink{}
				a, b := workerOn(t, "a", fake{}, s), workerOn(t, "b", fake{}, s)
				var list []model.Check
				for i := range 30 {
					list = append(list, check(fmt.Sprint("c", i), "300ms", 10*time.Second))
				}
				a.Update(list)
				b.Update(nil)
				time.Sleep(10*time.Second + 500*time.Millisecond)
				begin := time.Now()
				for range 40 {
					time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
					var mine, yours []model.Check
					for _, c := range list {
						if r.IntN(2) == 0 {
							mine = append(mine, c)
						} else {
							yours = append(yours, c)
						}
					}
					if r.IntN(2) == 0 {
						a.Update(mine)
						b.Update(yours)
					} else {
						b.Update(yours)
						a.Update(mine)
					}
				}
				time.Sleep(time.Second)
				turns := int(time.Since(begin) / (10 * time.Second))
				for _, c := range list {
					n := 0
					var before time.Time
					for _, x := range s.of(c.ID) {
						if gap := x.Start.Sub(before); !before.IsZero() {
							require.Greater(t, gap, 8*time.Second, "%s ran twice in a turn", c.ID)
							require.Less(t, gap, 12*time.Second, "%s missed a turn", c.ID)
						}
						before = x.Start
						if x.Start.After(begin) {
							n++
						}
					}
					require.InDelta(t, turns, n, 1)
				}
			})
		})
	}
}

func TestOverdueChecksRunWithinASecond(t *testing.T) {
	f := func(n int, within time.Duration) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			s := &sink{}
			w := workerOn(t, "b", fake{}, s)
			w.Update(nil)
			var list []model.Check
			now := time.Now()
			for i := range n {
				c := check(fmt.Sprintf("c%05d", i), "", time.Minute)
				list = append(list, c)
				s.Result(model.Result{CheckID: c.ID, Prober: "a", Start: now})
			}
			fresh := check("fresh", "", time.Minute)
			time.Sleep(70 * time.Second) // its worker has died
			s.Result(model.Result{CheckID: fresh.ID, Prober: "a", Start: time.Now()})
			old := len(s.all())
			taken := time.Now()
			w.Update(append(list, fresh))
			time.Sleep(within)
			synctest.Wait()
			require.Len(t, s.all(), old+n)
			perSecond := map[int]int{}
			for _, r := range s.all()[old:] {
				perSecond[int(r.Start.Sub(taken)/time.Second)]++
			}
			for sec, k := range perSecond {
				require.LessOrEqual(t, k, 1200, "second %d", sec)
			}
			require.Len(t, s.of("fresh"), 1)
			time.Sleep(time.Minute)
			synctest.Wait()
			require.Len(t, s.of("fresh"), 2)
		})
	}
	f(20, time.Second)
	f(800, time.Second)
	f(3000, 3*time.Second)
}

// When the references are gone for good and the targets are not, the worker
// votes: it is the last one that can.
func TestDeadReferencesDoNotSilenceTheLastWorker(t *testing.T) {
	dead := harness.FreeAddr(t, "127.0.0.1")
	var fail sync.Map
	w, err := probe.NewWorker(probe.WorkerConfig{Node: "n"}, probe.WorkerDeps{
		Kinds: []probe.Kind{fake{fail: &fail}}, Sink: &sink{}, References: func() []string { return []string{dead} }})
	require.NoError(t, err)
	w.Update([]model.Check{check("a", "host-a", time.Minute), check("b", "host-b", time.Minute), check("c", "host-c", time.Minute)})
	run := func(id string) model.Result {
		t.Helper()
		r, err := w.RunNow(t.Context(), id)
		require.NoError(t, err)
		return r
	}
	for _, id := range []string{"a", "b", "c"} {
		require.True(t, run(id).Success)
	}
	fail.Store("a", true)
	require.True(t, run("a").Abstain, "that the others were well before proves nothing")
	run("b")
	require.False(t, run("a").Abstain)
	fail.Store("b", true)
	fail.Store("c", true)
	require.True(t, run("b").Abstain)
	require.True(t, run("c").Abstain)
}
