package verdict_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// world is three regions, a target that each of them sees in its own way, and
// the transitions that were recorded.
type world struct {
	t      *testing.T
	engine *verdict.Engine

	mu      sync.Mutex
	regions []string
	fails   map[string]string // region, or check/region: message
	hang    map[string]bool   // checks whose probes end with their context only
	gone    map[string]bool   // regions without workers
	asked   []string
	slow    time.Duration
	seen    []verdict.Transition
}

func (w *world) ProbeNow(ctx context.Context, id, region string) (model.Result, error) {
	w.mu.Lock()
	w.asked = append(w.asked, region)
	slow, gone, hang := w.slow, w.gone[region], w.hang[id]
	w.mu.Unlock()
	if gone {
		return model.Result{}, errors.New("no worker")
	}
	if hang {
		<-ctx.Done()
	}
	select {
	case <-ctx.Done():
		return model.Result{}, ctx.Err()
	case <-time.After(10*time.Millisecond + slow):
	}
	return w.result(id, region), nil
}

func (w *world) result(id, region string) model.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	msg, fails := w.fails[region]
	if m, ok := w.fails[id+"/"+region]; ok {
		msg, fails = m, true
	}
	if !fails {
		msg = "200 OK"
	}
	return model.Result{CheckID: id, Region: region, Prober: "w-" + region, Start: time.Now(), Success: !fails, Message: msg}
}

func (w *world) set(region, msg string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if msg == "" {
		delete(w.fails, region)
		return
	}
	w.fails[region] = msg
}

// report sends what the regions see, as their schedule would.
func (w *world) report(id string, regions ...string) {
	time.Sleep(time.Millisecond) // no two results of a prober begin at the same instant
	for _, r := range regions {
		w.engine.Observe(w.result(id, r))
	}
	synctest.Wait()
}

func (w *world) wait(d time.Duration) {
	time.Sleep(d) // fake time
	synctest.Wait()
}

// expect compares the transitions since the last call: "from>to", with + when
// people are to be told and s when suppressed.
func (w *world) expect(want ...string) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	var got []string
	for _, t := range w.seen {
		s := string(t.From) + ">" + string(t.To)
		if t.Notify {
			s += "+"
		}
		if t.Suppressed {
			s += "s"
		}
		got = append(got, s)
	}
	w.seen = nil
	require.Equal(w.t, want, got)
}

func (w *world) asks() (asked []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked, w.asked = w.asked, nil
	return asked
}

func check(mod ...func(*model.Check)) model.Check {
	c := model.Check{ID: "c1", Name: "shop", Type: "http", Target: "https://shop.example/", Interval: model.Duration(20 * time.Second), Timeout: model.Duration(5 * time.Second)}
	for _, m := range mod {
		m(&c)
	}
	c.Default()
	return c
}

// scene runs a script in fake time with an engine that knows the regions.
func scene(t *testing.T, regions []string, script func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, regions: regions, fails: map[string]string{}, gone: map[string]bool{}, hang: map[string]bool{}}
		e, err := verdict.New(verdict.Config{Node: "n1"}, verdict.Deps{
			Prober:  w,
			Regions: func() []string { w.mu.Lock(); defer w.mu.Unlock(); return w.regions },
			Record: func(tr verdict.Transition) {
				w.mu.Lock()
				defer w.mu.Unlock()
				w.seen = append(w.seen, tr)
			},
		})
		require.NoError(t, err)
		w.engine = e
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.Run(ctx) }()
		synctest.Wait()
		script(w)
		cancel()
		require.NoError(t, <-done)
	})
}

var three = []string{"ap", "eu", "us"}

func TestMajorityIsConfirmedWithinSeconds(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", three...)
		w.expect("pending>up")
		require.Empty(t, w.asks())

		w.set("eu", "connection refused")
		w.set("us", "timeout")
		w.wait(7 * time.Second)
		w.report("c1", "eu")
		w.wait(20 * time.Millisecond)
		require.ElementsMatch(t, []string{"ap", "us"}, w.asks(), "the others are asked at once")
		w.expect("up>down+")
		s, ok := w.engine.State("c1")
		require.True(t, ok)
		require.Equal(t, "2 of 3 regions fail (eu: connection refused; us: timeout)", s.Message)
		require.Equal(t, "check.down", s.Code)
		require.Equal(t, model.StatusUp, s.Regions["ap"].Status)

		w.set("eu", "")
		w.set("us", "")
		w.wait(13 * time.Second)
		w.report("c1", "us")
		w.wait(20 * time.Millisecond)
		s, _ = w.engine.State("c1")
		require.Equal(t, model.StatusUp, s.Status)
	})
}

func TestOneOfThreeIsDegradedAndNamed(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", three...)
		w.set("eu", "timeout")
		w.report("c1", "eu")
		w.expect("pending>up")
		w.wait(time.Second)
		w.expect("up>degraded+")
		s, _ := w.engine.State("c1")
		require.Equal(t, "1 of 3 regions fails (eu: timeout)", s.Message)
	})
}

func TestSingleRegionRetriesTwice(t *testing.T) {
	scene(t, []string{"eu"}, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", "eu")
		w.expect("pending>up")
		w.set("eu", "timeout")
		w.report("c1", "eu")
		w.wait(1500 * time.Millisecond)
		w.expect()
		w.wait(time.Second)
		require.Equal(t, []string{"eu", "eu"}, w.asks())
		w.expect("up>down+")
		s, _ := w.engine.State("c1")
		require.Equal(t, "eu: timeout (nobody else could confirm)", s.Message)

		// A blink is not told at all.
		w.set("eu", "")
		w.wait(time.Second)
		w.report("c1", "eu")
		w.expect("down>up+")
		w.set("eu", "timeout")
		w.wait(20 * time.Second)
		w.report("c1", "eu")
		w.set("eu", "")
		w.wait(5 * time.Second)
		w.expect()
	})
}

func TestSilenceIsUnknownNotDown(t *testing.T) {
	scene(t, three, func(w *world) {
		w.engine.Update([]model.Check{check()}, nil)
		w.report("c1", three...)
		w.expect("pending>up")
		w.wait(34 * time.Second)
		w.expect()
		w.wait(2 * time.Second) // 1.5 x 20s + 5s
		w.expect("up>unknown+")
		s, _ := w.engine.State("c1")
		require.Equal(t, "3 of 3 regions are silent (ap, eu, us)", s.Message)
	})
}

func TestTheDenominatorDoesNotShrink(t *testing.T) {
	scene(t, three, func(w *world) {
		w.gone["us"], w.gone["ap"] = true, true
		w.set("eu", "timeout")
		w.engine.Update([]model.Check{check()}, nil)
		for range 3 {
			w.report("c1", "eu")
			w.wait(20 * time.Second)
		}
		w.expect("pending>unknown+")
	})
}
