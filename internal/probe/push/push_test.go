package push_test

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/probetest"
	"panoptes/internal/probe/push"
)

// clock moves on by an hour whenever it is read.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(time.Hour)
	return c.at
}

// Last knows four jobs by the first letters of their tokens.
func (c *clock) Last(token string) (probe.Heartbeat, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case strings.HasPrefix(token, "fine"):
		return probe.Heartbeat{At: c.at, Status: push.StatusUp, Duration: time.Second}, true
	case strings.HasPrefix(token, "late"):
		return probe.Heartbeat{At: c.at.Add(-time.Hour), Status: push.StatusUp}, true
	case strings.HasPrefix(token, "fail"):
		return probe.Heartbeat{At: c.at, Status: push.StatusDown, Message: "a\nb\x00\xff"}, true
	}
	return probe.Heartbeat{}, false
}

func TestSuite(t *testing.T) {
	env := probetest.Env()
	c := &clock{at: time.Now()}
	env.Now, env.Heartbeats = c.now, c
	job := func(name string) func(*testing.T) string {
		return func(*testing.T) string { return name + strings.Repeat("x", 28) }
	}
	probetest.Suite{Kind: push.Kind{}, Passive: true, Env: env,
		// A job that is late, one that never called, one that says it failed.
		Up: job("fine"), Refused: job("late"), Hole: job("none"), Garbage: job("fail"),
		Aim: func(token string) (string, string) {
			return "", `{"token":"` + token + `","every":"30m","grace":"1m"}`
		},
		Names: []string{"probe_push_last_ping_timestamp_seconds", "probe_push_job_duration_seconds"}, Faults: []probetest.Fault{
			{Target: "x", Field: "target"}, {Target: "-", Block: `{"token":"short"}`, Field: "push.token"}, {Target: "-", Block: `{"grace":"100d"}`, Field: "push.grace"},
		}}.Test(t)
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := model.Check{ID: "c1", Name: "job", Type: "push", Interval: model.Duration(time.Minute), Block: json.RawMessage(`{"grace":"30s"}`)}
		require.NoError(t, probe.Normalize([]probe.Kind{push.Kind{}}, &c))
		token := push.TokenOf(&c)
		require.Len(t, token, 32)
		require.NoError(t, probe.Normalize([]probe.Kind{push.Kind{}}, &c))
		require.Equal(t, token, push.TokenOf(&c), "a token stays")

		r := push.NewReceiver()
		var told []string
		r.OnPing(func(id string, h probe.Heartbeat) { told = append(told, id+" "+h.Status) })
		r.Update([]model.Check{c})
		p, err := push.Kind{}.Compile(&c, &probe.Env{Heartbeats: r, Now: time.Now})
		require.NoError(t, err)
		f := func(ok bool, message string) {
			t.Helper()
			out := p.Run(t.Context())
			require.Equal(t, ok, out.Success, out.Message)
			require.Contains(t, out.Message, message)
		}
		f(true, "waiting")
		time.Sleep(91 * time.Second)
		f(false, "no ping")
		require.NoError(t, r.Ping(token, "", "done\nwell"))
		f(true, "done well")
		time.Sleep(91 * time.Second)
		f(false, "no ping for")
		require.NoError(t, r.Ping(token, "start", ""))
		time.Sleep(7 * time.Second)
		require.NoError(t, r.Ping(token, "2", "disk full"))
		f(false, "disk full")
		require.ErrorIs(t, r.Ping("nobody", "", ""), model.ErrNotFound)
		require.ErrorIs(t, r.Ping("nobody", "nonsense", ""), model.ErrNotFound)
		require.True(t, probe.IsInvalid(r.Ping(token, "nonsense", "")))
		require.Equal(t, []string{"c1 up", "c1 start", "c1 down"}, told)

		snap := r.Snapshot()
		require.Equal(t, 7*time.Second, snap["c1"].Duration)
		other := push.NewReceiver()
		other.Update([]model.Check{c})
		other.Observe("c1", snap["c1"])
		h, ok := other.Last(token)
		require.True(t, ok)
		require.Equal(t, "disk full", h.Message)
		require.Equal(t, snap["c1"].At, h.At)
		require.Equal(t, snap["c1"].Started, h.Started)
		other.Observe("c1", probe.Heartbeat{At: h.At.Add(-time.Hour), Status: "up"})
		h, _ = other.Last(token)
		require.Equal(t, "down", h.Status, "an older ping changes nothing")

		r.Update([]model.Check{c})
		_, ok = r.Last(token)
		require.True(t, ok, "an update keeps pings")
		r.Update(nil)
		require.ErrorIs(t, r.Ping(token, "", ""), model.ErrNotFound)
	})
}

// A ping is as old as it is since it came, whatever the clock of the server says
// that took it; and the last is the one that came last.
func TestPingsByWrongClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := model.Check{ID: "c1", Name: "job", Type: "push", Interval: model.Duration(time.Minute), Block: json.RawMessage(`{"grace":"30s"}`)}
		require.NoError(t, probe.Normalize([]probe.Kind{push.Kind{}}, &c))
		token := push.TokenOf(&c)
		for _, off := range []time.Duration{-10 * time.Minute, 10 * time.Minute} {
			here := push.NewReceiver()
			here.Update([]model.Check{c})
			p, err := push.Kind{}.Compile(&c, &probe.Env{Heartbeats: here, Now: time.Now})
			require.NoError(t, err)
			// What another server says whose clock is wrong.
			there := func(status, msg string, age time.Duration) probe.Heartbeat {
				return probe.Heartbeat{At: time.Now().Add(off - age).Round(0), Status: status, Message: msg, Age: age + 1}
			}
			require.NoError(t, here.Ping(token, "down", "first"))
			time.Sleep(time.Minute)
			second := there("up", "second", 0)
			here.Observe("c1", second)
			out := p.Run(t.Context())
			require.True(t, out.Success, out.Message)
			require.Contains(t, out.Message, "second")
			time.Sleep(time.Minute)
			second.Age = time.Minute + time.Second // told again, on a way that was slower at first
			here.Observe("c1", second)
			second.Age = time.Second // and by somebody who heard it late
			here.Observe("c1", second)
			out = p.Run(t.Context())
			require.True(t, out.Success, out.Message)
			require.Contains(t, out.Message, "last ping 1m1s ago")
			time.Sleep(30 * time.Second)
			out = p.Run(t.Context())
			require.False(t, out.Success, out.Message)
			require.Contains(t, out.Message, "no ping for 1m31s")

			here.Observe("c1", there("start", "", 0))
			time.Sleep(20 * time.Second)
			require.NoError(t, here.Ping(token, "", "third"))
			last, _ := here.Last(token)
			require.Equal(t, 20*time.Second, last.Duration)
			require.Equal(t, "third", last.Message)
			time.Sleep(time.Second)
			again := push.NewReceiver()
			again.Update([]model.Check{c})
			again.Restore("c1", here.Snapshot()["c1"])
			kept, _ := again.Last(token)
			require.Equal(t, last, kept)
		}
	})
}

func FuzzSplitPath(f *testing.F) {
	for _, s := range []string{"abcdefghijklmnopqrstuvwxyz234567", "abcdefghijklmnopqrst/start", "abcdefghijklmnopqrst/0/", "a/../b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		token, status, ok := push.SplitPath(s)
		if ok && (len(token) < 16 || len(token) > 64 || len(status) > 8) {
			t.Fatalf("%q gave %q %q", s, token, status)
		}
	})
}
