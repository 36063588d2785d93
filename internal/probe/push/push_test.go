package push_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/probetest"
	"panoptes/internal/probe/push"
)

func TestFaults(t *testing.T) {
	probetest.Suite{Kind: push.Kind{}, Faults: []probetest.Fault{
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
		require.Equal(t, snap["c1"], h)
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
