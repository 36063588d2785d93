package hosts

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// Samples of a host whose clock is wrong are refused, or too old for everything
// that asks for now: the host is online, and says what is wrong with it.
func TestAWrongClockIsToldOfAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := offer(t, &model.Node{ID: "a1", Name: "web-1", Role: model.RoleAgent, Region: "eu"})
		var mu sync.Mutex
		var codes []string
		o.h.deps.AppendEvents = func(_ context.Context, events ...model.Event) error {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range events {
				codes = append(codes, e.Code)
			}
			return nil
		}
		beats := func(n int, ahead time.Duration) model.Host {
			for range n {
				time.Sleep(time.Second)
				o.send(uplink.AppendBeat(nil, time.Now().Add(ahead)))
				o.hear(uplink.KindBeat)
				o.h.tick(t.Context())
				o.h.wg.Wait()
			}
			h, err := o.h.Host("a1")
			require.NoError(t, err)
			require.Equal(t, model.HostOnline, h.Status)
			return h
		}
		h := beats(2, 30*time.Second)
		require.Empty(t, h.Message, "little is nothing")
		since := h.Since
		h = beats(1, 8*time.Minute)
		require.Equal(t, "host.clock", h.Code)
		require.Contains(t, h.Message, "8m0s ahead")
		h = beats(30, 0)
		require.Equal(t, "host.clock", h.Code, "not each moment")
		h = beats(31, 0)
		require.Equal(t, "host.online", h.Code)
		require.Empty(t, h.Message)
		h = beats(61, -time.Hour)
		require.Contains(t, h.Message, "1h0m0s behind")
		h = beats(61, -65*time.Minute)
		require.Contains(t, h.Message, "1h0m0s behind", "a little more is nothing new")
		h = beats(61, -48*time.Hour)
		require.Contains(t, h.Message, "48h0m0s behind")
		require.Equal(t, since, h.Since)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, []string{"host.online", "host.clock", "host.clock_right", "host.clock", "host.clock"}, codes)
	})
}

func TestSkew(t *testing.T) {
	from := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	to := from.Add(10 * time.Minute) // it had to wait
	for want, at := range map[time.Duration]time.Time{
		0: {}, -2 * time.Minute: from.Add(-2 * time.Minute), 3 * time.Minute: to.Add(3 * time.Minute),
	} {
		require.Equal(t, want, skew(at, from, to))
	}
	require.Zero(t, skew(from.Add(5*time.Minute), from, to))
	require.Zero(t, skew(to.Add(clockOff), from, to))
	require.NotPanics(t, func() { (&Hosts{}).clockWord(skew(time.UnixMilli(-1<<63), from, to)) })
}
