package alert_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
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

	failing atomic.Bool  // answers that it is not available
	failed  atomic.Int64 // requests answered so
}

func newHook(t testing.TB) *hook {
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
		if h.failing.Load() {
			h.failed.Add(1)
			w.WriteHeader(http.StatusServiceUnavailable)
			return
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
	return startWith(t, alert.Config{Dir: dir})
}

func startWith(t *testing.T, cfg alert.Config) *rig {
	t.Helper()
	ev := &events{}
	n, err := notify.New(notify.Config{ExternalURL: "http://panoptes.example"}, notify.Deps{Record: ev.record})
	require.NoError(t, err)
	a, err := alert.New(cfg, alert.Deps{Receivers: n, Record: ev.record})
	require.NoError(t, err)
	return &rig{a, ev, run(t, a)}
}

// run runs a until the test ends or what it returns is called.
func run(t *testing.T, a *alert.Alerting) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			require.NoError(t, <-done)
		})
	}
	t.Cleanup(stop)
	return stop
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

const soon = 30 * time.Second

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

func TestKilledServerNotifiesNobodyAgain(t *testing.T) {
	h := newHook(t)
	dir := t.TempDir()
	r := start(t, dir)
	conf := func(r *rig) {
		require.NoError(t, r.Update([]model.Receiver{webhook("hook", h.URL)}, []model.Route{routeTo("hook")}, nil, nil))
	}
	conf(r)
	since := time.Now().Add(-time.Second)
	require.NoError(t, r.Put(t.Context(), firing("shop", since), firing("blog", since)))
	// The event is recorded before the log is written: wait for the log.
	require.Eventually(t, func() bool { return len(h.messages()) == 2 && journalled(t, dir) >= 2 }, soon, 5*time.Millisecond)

	// What a kill -9 leaves behind: the directory as it is now, nothing more.
	dead := t.TempDir()
	require.NoError(t, os.CopyFS(dead, os.DirFS(dir)))
	// The last write may be torn.
	f, err := os.OpenFile(filepath.Join(dead, "nflog.journal"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write([]byte{40, 0, 0, 0, 1, 2, 3})
	require.NoError(t, err)
	require.NoError(t, f.Close())
	r.stop()

	again := start(t, dead)
	conf(again)
	require.NoError(t, again.Put(t.Context(), firing("shop", since), firing("blog", since)))
	// The recovery of the one arrives, once, and nothing else does.
	require.NoError(t, again.Put(t.Context(), resolved("blog", since)))
	require.Eventually(t, func() bool { return len(h.messages()) == 3 }, soon, 5*time.Millisecond)
	require.Equal(t, "resolved", h.messages()[2].Status)
	require.Equal(t, "blog", h.messages()[2].Alerts[0].Labels["check"])
	again.stop()

	// After a clean stop as well.
	third := start(t, dead)
	conf(third)
	require.NoError(t, third.Put(t.Context(), firing("shop", since), resolved("blog", since), firing("new", since)))
	require.Eventually(t, func() bool { return len(h.messages()) == 4 }, soon, 5*time.Millisecond)
	require.Equal(t, "new", h.messages()[3].Alerts[0].Labels["check"])
	third.stop()
	require.Len(t, h.messages(), 4)
}

// journalled counts the entries of the notification log's journal.
func journalled(t *testing.T, dir string) int {
	b, err := os.ReadFile(filepath.Join(dir, "nflog.journal"))
	require.NoError(t, err)
	n := 0
	for len(b) >= 8 {
		size := 8 + int(binary.LittleEndian.Uint32(b))
		if size > len(b) {
			break
		}
		b = b[size:]
		n++
	}
	return n
}

func TestAlertThatNobodySendsAfterRestartResolves(t *testing.T) {
	h := newHook(t)
	dir := t.TempDir()
	r := start(t, dir)
	rec, routes := []model.Receiver{webhook("hook", h.URL)}, []model.Route{routeTo("hook")}
	require.NoError(t, r.Update(rec, routes, nil, nil))
	require.NoError(t, r.Put(t.Context(), firing("gone", time.Now().Add(-time.Second))))
	require.Eventually(t, func() bool { return len(h.messages()) == 1 }, soon, 5*time.Millisecond)
	r.stop()
	// Its end lies in the past by the time the server is back.
	file := filepath.Join(dir, "alerts.json")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	var list []map[string]any
	require.NoError(t, json.Unmarshal(b, &list))
	require.Len(t, list, 1)
	list[0]["endsAt"] = time.Now().Add(-time.Hour)
	list[0]["startsAt"] = time.Now().Add(-2 * time.Hour)
	b, _ = json.Marshal(list)
	require.NoError(t, os.WriteFile(file, b, 0o600))

	again := startWith(t, alert.Config{Dir: dir, RestoreGrace: 2 * time.Second})
	require.NoError(t, again.Update(rec, routes, nil, nil))
	require.Eventually(t, func() bool { return len(h.messages()) == 2 }, soon, 5*time.Millisecond)
	require.Equal(t, "resolved", h.messages()[1].Status)
}

func TestSilenceInhibitionAndIntervalMute(t *testing.T) {
	for _, c := range []struct {
		name string
		mute func(*testing.T, *rig, model.Receiver)
	}{
		{"silence", func(t *testing.T, r *rig, rec model.Receiver) {
			require.NoError(t, r.Update([]model.Receiver{rec}, []model.Route{routeTo(rec.Name)}, nil, nil))
			_, err := r.SetSilence(t.Context(), alert.Silence{
				Matchers: []string{`check="shop"`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "alice", Comment: "works",
			})
			require.NoError(t, err)
		}},
		{"inhibition", func(t *testing.T, r *rig, rec model.Receiver) {
			require.NoError(t, r.Update([]model.Receiver{rec}, []model.Route{routeTo(rec.Name)}, []model.Inhibition{{
				Name: "uplink", SourceMatchers: []string{`alertname="UplinkDown"`}, TargetMatchers: []string{`check="shop"`},
			}}, nil))
			require.NoError(t, r.Put(t.Context(), alert.Alert{Labels: map[string]string{"alertname": "UplinkDown", "check": "other"}}))
			// The rules know of it soon after it is routed itself.
			require.Eventually(t, func() bool { return len(r.events.of(model.EventDelivery)) == 1 }, soon, 5*time.Millisecond)
		}},
		{"interval", func(t *testing.T, r *rig, rec model.Receiver) {
			other := routeTo(rec.Name)
			mute := routeTo(rec.Name)
			mute.Name, mute.Matchers, mute.MuteTimes = "night", []string{`check="shop"`}, []string{"always"}
			require.NoError(t, r.Update([]model.Receiver{rec}, []model.Route{other, mute}, nil, []model.Interval{{
				Name: "always", TimeIntervals: json.RawMessage(`[{"times":[{"start_time":"00:00","end_time":"24:00"}]}]`),
			}}))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHook(t)
			r := start(t, t.TempDir())
			c.mute(t, r, webhook("hook", h.URL))
			since := time.Now().Add(-time.Second)
			require.NoError(t, r.Put(t.Context(), firing("shop", since)))
			list, err := r.Alerts(t.Context(), `check="shop"`)
			require.NoError(t, err)
			require.Len(t, list, 1)
			require.Equal(t, "suppressed", list[0].Status)
			require.Equal(t, []string{"hook"}, list[0].Receivers)
			// The one that is not muted arrives after it.
			require.NoError(t, r.Put(t.Context(), firing("blog", since)))
			require.Eventually(t, func() bool {
				for _, m := range h.messages() {
					if m.Alerts[0].Labels["check"] == "blog" {
						return true
					}
				}
				return false
			}, soon, 5*time.Millisecond)
			r.stop()
			for _, m := range h.messages() {
				require.NotEqual(t, "shop", m.Alerts[0].Labels["check"])
			}
		})
	}
}

func TestHungReceiverBlocksNobodyElse(t *testing.T) {
	slow, quick := newHook(t), newHook(t)
	slow.hold = make(chan struct{})
	r := start(t, t.TempDir())
	first, second := routeTo("slow"), routeTo("quick")
	first.Name, first.Continue = "a", true
	second.Name = "b"
	rec := []model.Receiver{webhook("slow", slow.URL), webhook("quick", quick.URL)}
	require.NoError(t, r.Update(rec, []model.Route{first, second}, nil, nil))
	since := time.Now().Add(-time.Second)
	begun := time.Now()
	require.NoError(t, r.Put(t.Context(), firing("shop", since)))
	require.Eventually(t, func() bool { return len(quick.messages()) == 1 }, soon, 5*time.Millisecond)
	require.Less(t, time.Since(begun), 9*time.Second)
	// A reload does not wait for it for long, and the log is kept.
	first.GroupInterval = "2s"
	begun = time.Now()
	require.NoError(t, r.Update(rec, []model.Route{first, second}, nil, nil))
	require.Less(t, time.Since(begun), 9*time.Second)
	close(slow.hold)
	// The request that was given up may be answered as well, if its server has
	// not noticed yet.
	require.Eventually(t, func() bool { return len(slow.messages()) >= 1 }, soon, 5*time.Millisecond)
	require.NoError(t, r.Put(t.Context(), firing("blog", since)))
	require.Eventually(t, func() bool { return len(quick.messages()) == 2 }, soon, 5*time.Millisecond)
	r.stop()
	require.Len(t, quick.messages(), 2)
}
