package alert_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/alert"
	"panoptes/internal/model"
	"panoptes/internal/notify"
)

// open makes an alerting part that is not run.
func open(t *testing.T) *alert.Alerting {
	t.Helper()
	n, err := notify.New(notify.Config{}, notify.Deps{})
	require.NoError(t, err)
	a, err := alert.New(alert.Config{Dir: t.TempDir()}, alert.Deps{Receivers: n})
	require.NoError(t, err)
	t.Cleanup(a.Close)
	return a
}

func TestBadRecordsNameTheField(t *testing.T) {
	a := open(t)
	hook := []model.Receiver{webhook("hook", "http://x.example")}
	always := []model.Interval{{Name: "always", TimeIntervals: json.RawMessage(`[{"times":[{"start_time":"00:00","end_time":"24:00"}]}]`)}}
	f := func(receivers []model.Receiver, routes []model.Route, inhibitions []model.Inhibition, intervals []model.Interval, want ...string) {
		t.Helper()
		err := a.Validate(receivers, routes, inhibitions, intervals)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		var got []string
		for _, e := range inv {
			got = append(got, e.Field)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("fields (-want +got):\n%s\n%v", diff, err)
		}
		require.Equal(t, err, a.Validate(receivers, routes, inhibitions, intervals), "the same each time")
	}
	route := func(change func(*model.Route)) []model.Route {
		r := routeTo("hook")
		change(&r)
		return []model.Route{r}
	}
	f([]model.Receiver{webhook("hook", "nonsense")}, nil, nil, nil, `receiver "hook".webhook.url`)
	f([]model.Receiver{hook[0], hook[0]}, nil, nil, nil, `receiver "hook"`)
	f(hook, route(func(r *model.Route) { r.Receiver = "gone" }), nil, nil, `route "default".receiver`)
	f(hook, route(func(r *model.Route) { r.Receiver = "" }), nil, nil, `route "default".receiver`)
	f(hook, route(func(r *model.Route) { r.Receiver = "-" }), nil, nil, `route "default".receiver`)
	f(hook, route(func(r *model.Route) { r.Matchers = []string{`a="b"`, "nonsense"} }), nil, nil, `route "default".matchers[1]`)
	f(hook, route(func(r *model.Route) { r.Matchers = []string{`a=~"("`} }), nil, nil, `route "default".matchers[0]`)
	f(hook, route(func(r *model.Route) { r.GroupBy = []string{"a", "a", "b c"} }), nil, nil, `route "default".group_by[1]`, `route "default".group_by[2]`)
	f(hook, route(func(r *model.Route) { r.GroupBy = []string{"...", "a"} }), nil, nil, `route "default".group_by[0]`)
	f(hook, route(func(r *model.Route) { r.GroupWait, r.GroupInterval, r.RepeatInterval = "x", "0s", "400d" }), nil, nil,
		`route "default".group_wait`, `route "default".group_interval`, `route "default".repeat_interval`)
	f(hook, route(func(r *model.Route) { r.MuteTimes = []string{"gone"} }), nil, always, `route "default".mute_time_intervals[0]`)
	f(hook, route(func(r *model.Route) { r.Parent = "gone" }), nil, nil, `route "default".parent`)
	f(hook, route(func(r *model.Route) { r.Parent = "default" }), nil, nil, `route "default".parent`)
	f(hook, []model.Route{routeTo("hook"), routeTo("hook")}, nil, nil, `route "default"`)
	f(nil, nil, []model.Inhibition{{Name: "i"}}, nil, `inhibition "i".source_matchers`, `inhibition "i".target_matchers`)
	f(nil, nil, []model.Inhibition{{Name: "i", SourceMatchers: []string{"a=b"}, TargetMatchers: []string{"="}, Equal: []string{"b c"}}}, nil,
		`inhibition "i".target_matchers[0]`, `inhibition "i".equal[0]`)
	f(nil, nil, nil, []model.Interval{{Name: "x"}}, `interval "x".time_intervals`)
	f(nil, nil, nil, []model.Interval{{Name: "x", TimeIntervals: json.RawMessage(`[{"times":[{"start_time":"26:00","end_time":"27:00"}]}]`)}}, `interval "x".time_intervals`)
	f(nil, nil, nil, []model.Interval{{Name: "x", TimeIntervals: json.RawMessage(`[{"surprise":1}]`)}}, `interval "x".time_intervals`)
	f(nil, nil, nil, []model.Interval{always[0], always[0]}, `interval "always"`)
	require.NoError(t, a.Validate(nil, nil, nil, nil), "nothing at all is fine")
}

func TestRoutingTree(t *testing.T) {
	a := open(t)
	rec := []model.Receiver{webhook("a", "http://a.example"), webhook("b", "http://b.example"), webhook("c", "http://c.example")}
	routes := []model.Route{
		{ID: "01X", Name: "all", Receiver: "a"},
		{Name: "web", Receiver: "b", Matchers: []string{`team="web"`}},
		{Name: "night", Parent: "web", Receiver: "c", Matchers: []string{`severity=~"info|warning"`}, Position: 1},
		{Name: "by id", Parent: "01X", Receiver: "c", Matchers: []string{`x="y"`}, Continue: true},
	}
	require.NoError(t, a.Update(rec, routes, nil, nil))
	f := func(labels map[string]string, want ...string) {
		t.Helper()
		require.Equal(t, append([]string{}, want...), a.Receivers(labels))
	}
	f(map[string]string{"alertname": "A"}, "a")
	f(map[string]string{"team": "web"}, "b")
	f(map[string]string{"team": "web", "severity": "info"}, "c")
	f(map[string]string{"x": "y"}, "c")
	// Matchers at the top: what does not fit goes to nobody, without an error.
	routes = routes[1:3]
	require.NoError(t, a.Update(rec, routes, nil, nil))
	f(map[string]string{"alertname": "A"})
	// A bad change leaves the one in use.
	require.Error(t, a.Update(rec, []model.Route{{Name: "x", Receiver: "gone"}}, nil, nil))
	f(map[string]string{"team": "web"}, "b")
}

func TestFirstStartWithABadRecordStillWarns(t *testing.T) {
	h := newHook(t)
	r := start(t, t.TempDir())
	err := r.Update([]model.Receiver{webhook("hook", h.URL), webhook("bad", "nonsense")}, []model.Route{routeTo("hook"), {Name: "x", Receiver: "gone"}}, nil, nil)
	require.ErrorContains(t, err, `receiver "bad".webhook.url`)
	require.NoError(t, r.Put(t.Context(), firing("shop", time.Now().Add(-time.Second))))
	require.Eventually(t, func() bool { return len(h.messages()) == 1 }, soon, 5*time.Millisecond)
}

func TestPutRefusesWhatIsNotValid(t *testing.T) {
	a := open(t)
	many := map[string]string{"alertname": "A"}
	for i := range 1300 {
		many[fmt.Sprint("l", i)] = "v"
	}
	err := a.Put(t.Context(),
		alert.Alert{Labels: map[string]string{"alertname": "A"}},
		alert.Alert{},
		alert.Alert{Labels: many},
		alert.Alert{Labels: map[string]string{"alertname": "A", "b": strings.Repeat("x", 200<<10)}},
		alert.Alert{Labels: map[string]string{"alertname": ""}},
	)
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	require.Len(t, inv, 4)
	require.Equal(t, "alerts[1]", inv[0].Field)
	list, err := a.Alerts(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 1)
}

func TestSilences(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	require.NoError(t, r.Put(t.Context(), firing("shop", time.Now()), firing("blog", time.Now())))
	preview, err := r.PreviewSilence(t.Context(), []string{`check=~"sh.*"`})
	require.NoError(t, err)
	require.Len(t, preview, 1)
	s, err := r.SetSilence(t.Context(), alert.Silence{Matchers: []string{`check=~"sh.*"`, `severity!="info"`}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "alice", Comment: "works"})
	require.NoError(t, err)
	require.Equal(t, "active", s.Status)
	require.Equal(t, []string{`check=~"sh.*"`, `severity!="info"`}, s.Matchers)
	list, err := r.Alerts(t.Context())
	require.NoError(t, err)
	for _, al := range list {
		if al.Labels["check"] == "shop" {
			require.Equal(t, []string{s.ID}, al.SilencedBy)
		} else {
			require.Equal(t, "active", al.Status)
		}
	}
	// A silence is there after a kill: it was journalled at once.
	dead := t.TempDir()
	require.NoError(t, os.CopyFS(dead, os.DirFS(dir)))
	again := start(t, dead)
	got, err := again.Silences(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, s.ID, got[0].ID)
	again.stop()

	s.Comment = "longer"
	s.EndsAt = s.EndsAt.Add(time.Hour)
	changed, err := r.SetSilence(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, s.ID, changed.ID)
	require.NoError(t, r.ExpireSilence(t.Context(), s.ID))
	require.NoError(t, r.ExpireSilence(t.Context(), s.ID), "ending it twice is no error")
	s, err = r.Silence(t.Context(), s.ID)
	require.NoError(t, err)
	require.Equal(t, "expired", s.Status)
	require.ErrorIs(t, r.ExpireSilence(t.Context(), "gone"), model.ErrNotFound)
	_, err = r.SetSilence(t.Context(), alert.Silence{ID: "7d1b2c0e-0000-0000-0000-000000000000", Matchers: []string{"a=b"}, EndsAt: time.Now().Add(time.Hour), CreatedBy: "x", Comment: "x"})
	require.ErrorIs(t, err, model.ErrNotFound)

	f := func(s alert.Silence, fields ...string) {
		t.Helper()
		_, err := r.SetSilence(t.Context(), s)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		var got []string
		for _, e := range inv {
			got = append(got, e.Field)
		}
		require.Equal(t, fields, got)
	}
	f(alert.Silence{}, "matchers", "ends_at", "comment", "created_by")
	f(alert.Silence{Matchers: []string{`a=~".*"`}, EndsAt: time.Now().Add(time.Hour), Comment: "x", CreatedBy: "x"}, "matchers")
	f(alert.Silence{Matchers: []string{`a=b`}, EndsAt: time.Now().Add(-time.Hour), Comment: "x", CreatedBy: "x"}, "ends_at")
}

// TestAPI asks as amtool and Grafana do.
func TestAPI(t *testing.T) {
	r := start(t, t.TempDir())
	require.NoError(t, r.Update([]model.Receiver{webhook("hook", "http://127.0.0.1:1/secret-path?key=abc")}, []model.Route{routeTo("hook")}, nil, nil))
	srv := httptest.NewServer(r.Handler())
	defer srv.Close()
	do := func(method, path, body string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := srv.Client().Do(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		var b strings.Builder
		_, err = io.Copy(&b, resp.Body)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode, b.String())
		return b.String()
	}
	do("POST", "/api/v2/alerts", `[{"labels":{"alertname":"FromOutside","check":"x"}}]`, 200)
	require.Contains(t, do("GET", "/api/v2/alerts?filter=alertname%3D%22FromOutside%22", "", 200), `"name":"hook"`)
	require.Contains(t, do("GET", "/api/v2/receivers", "", 200), `"hook"`)
	status := do("GET", "/api/v2/status", "", 200)
	require.NotContains(t, status, "key=abc")
	require.Eventually(t, func() bool { return strings.Contains(do("GET", "/api/v2/alerts/groups", "", 200), "FromOutside") }, soon, 5*time.Millisecond)
	id := do("POST", "/api/v2/silences", `{"matchers":[{"name":"alertname","value":"FromOutside","isRegex":false,"isEqual":true}],"startsAt":"`+
		time.Now().UTC().Format(time.RFC3339)+`","endsAt":"`+time.Now().Add(time.Hour).UTC().Format(time.RFC3339)+`","createdBy":"me","comment":"c"}`, 200)
	var made struct {
		SilenceID string `json:"silenceID"`
	}
	require.NoError(t, json.Unmarshal([]byte(id), &made))
	require.Contains(t, do("GET", "/api/v2/silences", "", 200), made.SilenceID)
	require.Contains(t, do("GET", "/api/v2/alerts", "", 200), `"suppressed"`)
	do("DELETE", "/api/v2/silence/"+made.SilenceID, "", 200)
	do("POST", "/api/v2/alerts", `[`+strings.Repeat(" ", 9<<20)+`]`, 413)
}
