package app

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
)

// A host whose clock is wrong is online and has an alert, since no rule about it
// can find its samples; the alert begins when the clock is found to be wrong.
func TestAWrongClockIsAnAlert(t *testing.T) {
	var said []alert.Alert
	x := newHostAlerts(func(_ context.Context, list ...alert.Alert) error {
		said = append(said, list...)
		return nil
	}, "http://x", slog.New(slog.DiscardHandler))
	began := time.Now()
	host := model.Host{ID: "a1", Name: "web-1", Region: "eu", Labels: map[string]string{"team": "shop"}, Status: model.HostOnline, Code: "host.online", Since: began.Add(-time.Hour)}
	x.changed(host)
	require.Empty(t, said)

	wrong := host
	wrong.Code, wrong.Message = "host.clock", "its clock is 8m0s ahead"
	x.changed(wrong)
	x.changed(wrong) // it is said again and again
	require.Len(t, said, 2)
	require.Equal(t, map[string]string{"alertname": "HostClockWrong", "host": "web-1", "instance": "web-1", "region": "eu", "severity": "warning", "team": "shop"}, said[0].Labels)
	require.Contains(t, said[0].Annotations["summary"], "8m0s ahead")
	require.False(t, said[0].StartsAt.Before(began))
	require.Equal(t, said[0].StartsAt, said[1].StartsAt)

	x.changed(host)
	require.Len(t, said, 3)
	require.Equal(t, said[0].Labels, said[2].Labels)
	require.False(t, said[2].EndsAt.After(time.Now()), "it is over")
}
