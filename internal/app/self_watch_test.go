package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/client_golang/prometheus"
	pm "github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/notify"
	"panoptes/internal/selfwatch"
)

// A receiver that is tried out, perhaps before it is stored, is no channel that
// fails.
func TestTestsOfReceiversAreNoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &App{events: newRecorder(nil, slog.New(slog.DiscardHandler), prometheus.NewRegistry())}
		var err error
		a.self, err = selfwatch.New(selfwatch.Config{NodeID: "1", Name: "n1"}, selfwatch.Settings{}, selfwatch.Deps{
			Facts: func(context.Context) selfwatch.Facts { return selfwatch.Facts{} },
			Put:   func(context.Context, []selfwatch.Alert) error { return nil },
		})
		require.NoError(t, err)
		n, err := notify.New(notify.Config{}, notify.Deps{Record: a.delivery})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = a.self.Run(ctx) }()
		defer synctest.Wait()
		defer cancel()

		// Port 0 refuses at once.
		draft := model.Receiver{Name: "draft", Type: "webhook", Block: json.RawMessage(`{"url":"http://127.0.0.1:0/"}`)}
		for range 5 {
			require.Error(t, n.Test(ctx, draft))
		}
		time.Sleep(time.Minute)
		require.Empty(t, a.self.Firing())
		require.Len(t, a.events.queue, 5, "they are shown all the same")

		_, places, err := n.Build(draft)
		require.NoError(t, err)
		now := time.Now()
		for range 5 {
			_, err = places[0].Notify(ctx, &amalert.Alert{Alert: pm.Alert{Labels: pm.LabelSet{"alertname": "x"}, StartsAt: now, EndsAt: now.Add(time.Hour)}})
			require.Error(t, err)
		}
		time.Sleep(time.Minute)
		require.Len(t, a.self.Firing(), 1)
	})
}
