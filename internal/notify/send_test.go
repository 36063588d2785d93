package notify_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	amnotify "github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	pm "github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/notify"
)

type recorder struct {
	mu  sync.Mutex
	got []notify.Delivery
	ev  []model.Event
}

func (r *recorder) record(ev model.Event) {
	var d notify.Delivery
	_ = json.Unmarshal(ev.Data, &d)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got, r.ev = append(r.got, d), append(r.ev, ev)
}

func pipeline(ctx context.Context, key string) context.Context {
	ctx = amnotify.WithReceiverName(ctx, "r")
	ctx = amnotify.WithGroupKey(ctx, key)
	ctx = amnotify.WithGroupLabels(ctx, pm.LabelSet{"alertname": "A"})
	return amnotify.WithNotificationReason(ctx, amnotify.ReasonFirstNotification)
}

func anAlert(starts time.Time) *amalert.Alert {
	return &amalert.Alert{Alert: pm.Alert{Labels: pm.LabelSet{"alertname": "A"}, StartsAt: starts, EndsAt: time.Now().Add(time.Hour)}}
}

func TestAttemptsAreRecorded(t *testing.T) {
	var mu sync.Mutex
	var keys []string
	fail := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		keys = append(keys, r.Header.Get("Idempotency-Key"))
		if fail {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "busy, token=hunter22 is fine")
		}
	}))
	defer srv.Close()
	rec := &recorder{}
	reg := prometheus.NewRegistry()
	n := newNotify(t, notify.Deps{Record: rec.record, Registerer: reg})
	_, built, err := n.Build(receiver(t, "webhook", `{"url":"`+srv.URL+`/x?token=hunter22"}`))
	require.NoError(t, err)
	starts := time.Now().Add(-time.Minute)
	ctx := pipeline(t.Context(), "g1")
	for range 20 {
		retry, err := built[0].Notify(ctx, anAlert(starts))
		require.True(t, retry)
		require.ErrorContains(t, err, "503")
		require.NotContains(t, err.Error(), "hunter22")
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	_, err = built[0].Notify(ctx, anAlert(starts))
	require.NoError(t, err)
	// Five failures, then one a minute, then the success that tells of the rest.
	require.Len(t, rec.got, 6)
	require.Equal(t, 5, rec.got[4].Attempt)
	require.False(t, rec.got[4].OK)
	last := rec.got[5]
	require.True(t, last.OK)
	require.Equal(t, 21, last.Attempt)
	require.Equal(t, 15, last.Skipped)
	require.Equal(t, "delivery.failed", rec.ev[0].Code)
	require.Equal(t, "receiver/r", rec.ev[0].Subject)
	require.NotContains(t, string(rec.ev[0].Data), "hunter22")

	for _, k := range keys {
		require.Equal(t, keys[0], k, "one notification, one id")
	}
	_, err = built[0].Notify(ctx, anAlert(starts.Add(time.Second)))
	require.NoError(t, err)
	require.NotEqual(t, keys[0], keys[len(keys)-1], "another outbreak, another id")
	require.Equal(t, 3, testutil.CollectAndCount(reg, "panoptes_notify_attempts_total", "panoptes_notify_last_success_timestamp_seconds"))
}

func TestAttemptOutlivesItsGroupForAMoment(t *testing.T) {
	reached, answer := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		close(reached)
		<-answer
	}))
	defer srv.Close()
	n := newNotify(t, notify.Deps{})
	_, built, err := n.Build(receiver(t, "webhook", `{"url":"`+srv.URL+`"}`))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(pipeline(t.Context(), "g"))
	done := make(chan error, 1)
	go func() { _, err := built[0].Notify(ctx, anAlert(time.Now())); done <- err }()
	<-reached
	cancel()
	close(answer)
	require.NoError(t, <-done)
}

func TestHungAttemptEnds(t *testing.T) {
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		select {
		case <-r.Context().Done():
		case <-stop:
		}
	}))
	defer srv.Close()
	defer close(stop)
	n, err := notify.New(notify.Config{Timeout: 100 * time.Millisecond}, notify.Deps{})
	require.NoError(t, err)
	for _, typ := range []string{"webhook", "discord"} {
		field := map[string]string{"webhook": "url", "discord": "webhook_url"}[typ]
		err := n.Test(t.Context(), receiver(t, typ, `{"`+field+`":"`+srv.URL+`/key-of-the-channel"}`))
		require.ErrorContains(t, err, "no answer within 100ms")
		if typ == "discord" {
			require.NotContains(t, err.Error(), "key-of-the-channel")
		}
	}
}

func TestReceiverErrorsAreReal(t *testing.T) {
	n := newNotify(t, notify.Deps{Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("address 169.254.169.254 is refused by policy")
	}})
	for _, typ := range notify.Types {
		if typ == "sns" {
			continue // its library retries by itself for long
		}
		err := n.Test(t.Context(), receiver(t, typ, minimal[typ]))
		require.ErrorContains(t, err, "refused by policy", typ)
		require.NotContains(t, err.Error(), "secret", typ)
	}
	require.ErrorAs(t, n.Test(t.Context(), receiver(t, "webhook", `{}`)), new(model.Invalid))
}

func TestLanguage(t *testing.T) {
	got := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- string(b)
	}))
	defer srv.Close()
	n, err := notify.New(notify.Config{Language: "zh-CN"}, notify.Deps{})
	require.NoError(t, err)
	require.NoError(t, n.Test(t.Context(), receiver(t, "discord", `{"webhook_url":"`+srv.URL+`"}`)))
	require.Contains(t, <-got, "[告警]")
	_, err = notify.New(notify.Config{Language: "tlh"}, notify.Deps{})
	require.ErrorContains(t, err, "en and zh-CN")
}
