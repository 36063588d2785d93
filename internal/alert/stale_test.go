package alert_test

import (
	"bytes"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/notify"
)

// lines is a log that is read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// While the end of one alert is tried again, the other alert of its group ends:
// the notification is outdated, and both ends are told all the same.
func TestAnEndIsToldThoughItsNotificationIsOutdated(t *testing.T) {
	h := newHook(t)
	n, err := notify.New(notify.Config{}, notify.Deps{})
	require.NoError(t, err)
	var log lines
	a, err := alert.New(alert.Config{Dir: t.TempDir()}, alert.Deps{Receivers: n, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	run(t, a)
	both := routeTo("hook")
	both.GroupBy = []string{"alertname"}
	require.NoError(t, a.Update([]model.Receiver{webhook("hook", h.URL)}, []model.Route{both}, nil, nil))
	since := time.Now().Add(-time.Second)
	require.NoError(t, a.Put(t.Context(), firing("shop", since), firing("blog", since)))
	told := func(check, status string) bool {
		for _, m := range h.messages() {
			for _, al := range m.Alerts {
				if al.Labels["check"] == check && al.Status == status {
					return true
				}
			}
		}
		return false
	}
	require.Eventually(t, func() bool { return told("shop", "firing") && told("blog", "firing") }, soon, 5*time.Millisecond)
	h.failing.Store(true)
	require.NoError(t, a.Put(t.Context(), resolved("shop", since)))
	require.Eventually(t, func() bool { return h.failed.Load() > 0 }, soon, time.Millisecond)
	require.NoError(t, a.Put(t.Context(), resolved("blog", since)))
	h.failing.Store(false)
	require.Eventually(t, func() bool { return told("blog", "resolved") }, soon, 5*time.Millisecond)
	require.True(t, told("shop", "resolved"), "its end was dropped with the notification")
	require.NotContains(t, log.String(), "Notify for alerts failed", "nothing failed that anybody could mend")
}
