package alert_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/notify"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Started by a library of Alertmanager's API when it is linked.
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}

// message is what a webhook got.
type message struct {
	Status string `json:"status"`
	Alerts []struct {
		Status string            `json:"status"`
		Labels map[string]string `json:"labels"`
	} `json:"alerts"`
	GroupKey string `json:"groupKey"`

	path        string
	idempotency string
}

// hook is a real webhook receiver.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	got  []message
	hold chan struct{} // when not nil, requests wait for it
}

func newHook(t *testing.T) *hook {
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var m message
		if json.Unmarshal(b, &m) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if h.hold != nil {
			select {
			case <-h.hold:
			case <-r.Context().Done():
				return
			}
		}
		m.path, m.idempotency = r.URL.Path, r.Header.Get("Idempotency-Key")
		h.mu.Lock()
		defer h.mu.Unlock()
		h.got = append(h.got, m)
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hook) messages() []message {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]message(nil), h.got...)
}

// events collects events.
type events struct {
	mu  sync.Mutex
	got []model.Event
}

func (e *events) record(ev model.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.got = append(e.got, ev)
}

func (e *events) of(kind model.EventKind) []model.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []model.Event
	for _, ev := range e.got {
		if ev.Kind == kind {
			out = append(out, ev)
		}
	}
	return out
}

type rig struct {
	*alert.Alerting
	events *events
	stop   func()
}

// start runs the alerting part on dir.
func start(t *testing.T, dir string) *rig {
	t.Helper()
	ev := &events{}
	n, err := notify.New(notify.Config{ExternalURL: "http://panoptes.example"}, notify.Deps{Record: ev.record})
	require.NoError(t, err)
	a, err := alert.New(alert.Config{Dir: dir}, alert.Deps{Receivers: n, Record: ev.record})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop := func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return &rig{a, ev, stop}
}

func webhook(name, url string) model.Receiver {
	block, _ := json.Marshal(map[string]any{"url": url})
	return model.Receiver{Name: name, Type: "webhook", Block: block}
}

func routeTo(receiver string) model.Route {
	return model.Route{Name: "default", Receiver: receiver, GroupBy: []string{"alertname", "check"}, GroupInterval: "1s", RepeatInterval: "4h"}
}

func firing(check string, since time.Time) alert.Alert {
	return alert.Alert{
		Labels:      map[string]string{"alertname": "CheckDown", "check": check, "severity": "critical"},
		Annotations: map[string]string{"summary": check + " is down"},
		StartsAt:    since, EndsAt: time.Now().Add(4 * time.Minute),
	}
}

func resolved(check string, since time.Time) alert.Alert {
	a := firing(check, since)
	a.EndsAt = time.Now()
	return a
}

const soon = 15 * time.Second

func TestFiringAndResolvedOnce(t *testing.T) {
	h := newHook(t)
	r := start(t, t.TempDir())
	require.NoError(t, r.Update([]model.Receiver{webhook("hook", h.URL+"/x")}, []model.Route{routeTo("hook")}, nil, nil))
	since := time.Now().Add(-time.Second)
	for range 3 {
		require.NoError(t, r.Put(t.Context(), firing("shop", since)))
	}
	require.Eventually(t, func() bool { return len(h.messages()) == 1 }, soon, 5*time.Millisecond)
	require.NoError(t, r.Put(t.Context(), resolved("shop", since)))
	require.Eventually(t, func() bool { return len(h.messages()) == 2 }, soon, 5*time.Millisecond)
	got := h.messages()
	require.Equal(t, "firing", got[0].Status)
	require.Equal(t, "resolved", got[1].Status)
	require.NotEmpty(t, got[0].idempotency)
	require.NotEqual(t, got[0].idempotency, got[1].idempotency)
	r.stop()
	require.Len(t, h.messages(), 2)

	require.Len(t, r.events.of(model.EventAlert), 2)
	del := r.events.of(model.EventDelivery)
	require.Len(t, del, 2)
	var d notify.Delivery
	require.NoError(t, json.Unmarshal(del[0].Data, &d))
	require.Equal(t, "receiver/hook", del[0].Subject)
	require.True(t, d.OK)
	require.Equal(t, got[0].idempotency, d.Idempotency)
	require.Equal(t, "first notification", d.Reason)
}
