package rules_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/rules"
)

// last is the newest word about an alert; the zero value when there is none.
func (w *world) last(name string) (a told) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range w.told {
		if x.Labels["alertname"] == name {
			a = x
		}
	}
	return a
}

// A group with query_offset looks at samples of the past and writes at their
// time; 0s takes the server's own offset back.
func TestQueryOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		up.Store(1)
		w.feed(&up, "__name__", "up", "job", "a")
		group := func(name, more string) string {
			return fmt.Sprintf(`{"name":%q,"interval":"10s",%s"rules":[{"record":"up:%[1]s","expr":"up"},{"alert":"Down_%[1]s","expr":"up == 0"}]}`, name, more)
		}
		s := w.start("n1", rules.Config{QueryOffset: 40 * time.Second}, record(t, "r", "["+group("own", `"query_offset":"2m",`)+","+group("none", `"query_offset":"0s",`)+","+group("server", "")+"]"))
		time.Sleep(5 * time.Minute)
		up.Store(0)
		went := time.Now()
		told := map[string]time.Duration{}
		for range 60 {
			time.Sleep(3 * time.Second)
			for _, name := range []string{"own", "none", "server"} {
				if a := w.last("Down_" + name); told[name] == 0 && !a.at.IsZero() {
					told[name] = a.at.Sub(went)
				}
			}
		}
		// The next sample, and the next evaluation after it.
		const slack = 20 * time.Second
		require.LessOrEqual(t, told["none"], slack)
		require.Greater(t, told["server"], 40*time.Second)
		require.LessOrEqual(t, told["server"], 40*time.Second+slack)
		require.Greater(t, told["own"], 2*time.Minute)
		require.LessOrEqual(t, told["own"], 2*time.Minute+slack)
		for _, g := range s.Groups() {
			require.Equal(t, map[string]time.Duration{"own": 2 * time.Minute, "none": 0, "server": 40 * time.Second}[g.Name], g.QueryOffset.D())
			list, err := w.query.Instant(context.Background(), "timestamp(up:"+g.Name+")", g.Evaluated)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.InDelta(t, g.QueryOffset.D().Seconds(), float64(g.Evaluated.UnixMilli())/1000-list[0].V, 10.1, g.Name)
		}
	})
}

// An alert fires on for keep_firing_for after its condition has ended, is told
// as ended then and not before, and does not begin anew when the condition comes
// back meanwhile.
func TestKeepFiringFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var up atomic.Int64
		w.feed(&up, "__name__", "up", "job", "a")
		w.start("n1", rules.Config{}, record(t, "r", `[{"name":"g","interval":"10s","rules":[
			{"alert":"Kept","expr":"up == 0","for":"30s","keep_firing_for":"2m"},
			{"alert":"Plain","expr":"up == 0","for":"30s"}]}]`))
		time.Sleep(time.Minute)
		require.Len(t, w.firings("Kept"), 1)
		up.Store(1)
		time.Sleep(30 * time.Second)
		require.False(t, w.last("Plain").EndsAt.After(time.Now()), "without it the alert has ended")
		require.True(t, w.last("Kept").EndsAt.After(time.Now()))
		require.Contains(t, w.samples("ALERTS"), `{__name__="ALERTS", alertname="Kept", alertstate="firing", job="a"}`)
		time.Sleep(70 * time.Second)
		require.True(t, w.last("Kept").EndsAt.After(time.Now()))

		up.Store(0) // and again
		time.Sleep(time.Minute)
		require.Len(t, w.firings("Kept"), 1, "the same alert goes on")
		require.Len(t, w.firings("Plain"), 2)

		up.Store(1)
		ended := time.Now()
		var after time.Duration
		for range 60 {
			time.Sleep(3 * time.Second)
			if after == 0 && !w.last("Kept").EndsAt.After(time.Now()) {
				after = time.Since(ended)
			}
		}
		require.Greater(t, after, 2*time.Minute, "counted anew from the last time")
		require.LessOrEqual(t, after, 2*time.Minute+25*time.Second)
		require.Empty(t, w.samples("ALERTS"))
	})
}

// A rule above the limit of its group writes and raises nothing, alone; below
// the limit it goes on.
func TestLimitOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var one, two atomic.Int64
		w.feed(&one, "__name__", "load", "job", "a")
		two.Store(-1)
		w.feed(&two, "__name__", "load", "job", "b")
		s := w.start("n1", rules.Config{}, record(t, "r", `[{"name":"g","interval":"10s","limit":1,"rules":[
			{"record":"load:high","expr":"load >= 0"},{"record":"load:count","expr":"count(load)"},{"alert":"High","expr":"load >= 0"}]}]`))
		health := func() (out []string) {
			for _, r := range s.Groups()[0].Rules {
				out = append(out, r.Health)
			}
			return out
		}
		time.Sleep(30 * time.Second)
		require.Equal(t, []string{"ok", "ok", "ok"}, health())
		require.Len(t, w.samples("load:high"), 1)
		require.Len(t, w.firings("High"), 1)

		two.Store(1)
		over := time.Now()
		time.Sleep(30 * time.Second)
		require.Equal(t, []string{"err", "ok", "err"}, health())
		require.Contains(t, s.Groups()[0].Rules[0].Error, "exceeded limit of 1 with 2 series")
		newest := func(series string) time.Duration {
			v := w.samples("timestamp(" + series + ")")
			require.LessOrEqual(t, len(v), 1, series)
			for _, at := range v {
				return time.UnixMilli(int64(at * 1000)).Sub(over)
			}
			return -time.Hour
		}
		require.Less(t, newest("load:high"), 10*time.Second, "not one of two either")
		require.Less(t, newest("ALERTS"), 10*time.Second)
		require.Greater(t, newest("load:count"), 10*time.Second, "the rule beside it goes on")
		require.Len(t, w.firings("High"), 1, "nothing new is raised")

		two.Store(-1)
		time.Sleep(30 * time.Second)
		require.Equal(t, []string{"ok", "ok", "ok"}, health())
		require.Greater(t, newest("load:high"), 40*time.Second)
		require.Greater(t, newest(`ALERTS{alertstate="firing"}`), 40*time.Second)
	})
}
