package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/api"
	"panoptes/internal/model"
)

// memRules has five groups and tries whatever it is given.
type memRules struct{}

func (memRules) Groups(context.Context) ([]api.RuleGroup, error) {
	rule := func(name, expr string) []api.RuleWithState {
		return []api.RuleWithState{{Type: "alerting", Name: name, Expr: expr, State: "firing", Health: "ok", Alerts: []api.RuleAlert{{State: "firing", Labels: map[string]string{"a": "b"}, Value: "NaN"}}}}
	}
	return []api.RuleGroup{
		{Name: "errors", Source: "web", Server: "n1", State: "firing", Alerts: 1, Evaluated: time.Now(), Rules: rule("ManyErrors", "rate(errors_total[5m]) > 1")},
		{Name: "latency", Source: "web", Server: "n2", State: "inactive", Rules: rule("Slow", "slow > 1")},
		{Name: "disks", Source: "hosts", Server: "n2", State: "pending", Rules: rule("Full", "full > 1")},
		{Name: "mixed", Source: "web", Server: "n1", State: "broken", Counts: map[string]int{"broken": 1, "firing": 2, "inactive": 3}, Rules: []api.RuleWithState{}},
		{Source: "/var/rules/x.yml", File: true, State: "broken", Error: "not valid YAML", Rules: []api.RuleWithState{}},
	}, nil
}

func (memRules) Try(_ context.Context, t api.Try) ([]api.Trial, error) {
	var out []api.Trial
	for i, g := range t.Groups {
		var named struct{ Name string }
		if json.Unmarshal(g, &named) != nil || named.Name == "" {
			return nil, model.Invalid{{Field: model.Index("groups", i) + ".rules[1].expr", Msg: "is no PromQL"}}
		}
		fired := api.Firing{Labels: map[string]string{"alertname": "A"}, Value: "0.5", ActiveAt: t.From, FiredAt: t.From, ResolvedAt: t.To}
		out = append(out, api.Trial{Name: named.Name, From: t.From, To: t.To, Evaluations: 2, Rules: []api.RuleTrial{{Name: "A", Type: "alerting", Firings: []api.Firing{fired}}}})
	}
	return out, nil
}

// memScrapes has two targets.
type memScrapes struct{}

func (memScrapes) Targets(context.Context) (api.ScrapeTargets, error) {
	return api.ScrapeTargets{
		Targets: []api.ScrapeTarget{
			{Job: "node", Labels: map[string]string{"instance": "db1:9100", "team": "db"}, URL: "http://db1:9100/metrics", Health: "up", LastScrape: time.Now(), Duration: 0.1, Server: "n1"},
			{Job: "node", Labels: map[string]string{"instance": "web1:9100"}, URL: "http://web1:9100/metrics", Health: "down", LastError: "connection refused", Server: "n2"},
			{Job: "app", Labels: map[string]string{"instance": "app:80"}, URL: "http://app/metrics", Health: "unknown", Server: "n2"},
		},
		Jobs:     []api.ScrapeJob{{Job: "app", Active: 1}, {Job: "node", Active: 2}},
		Problems: []api.ScrapeProblem{{Job: "bad", Message: "certificate cannot be read", Server: "n1"}},
	}, nil
}

func (memScrapes) SD() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "[]") })
}

func (memScrapes) Import(yml []byte, files map[string][]byte) ([]api.Doc, []string, error) {
	switch {
	case strings.HasPrefix(string(yml), "- "):
		return nil, nil, model.Invalid{{Msg: "not a prometheus.yml"}}
	case strings.HasPrefix(string(yml), "huge"):
		return nil, nil, fmt.Errorf("%w: too long", model.ErrTooLarge)
	}
	docs := []api.Doc{{Kind: model.KindScrape, Name: "node", Spec: json.RawMessage(`{"name":"node","config":{}}`)}}
	for name, b := range files {
		docs = append(docs, api.Doc{Kind: model.KindRules, Name: name, Spec: json.RawMessage(`{"name":"` + name + `","text":"` + string(b) + `"}`)})
	}
	return docs, []string{"remote_write[0]: not taken over"}, nil
}

func TestTryRules(t *testing.T) {
	b := setUp(t)
	group := obj{"name": "g", "rules": []obj{}}
	var one api.Trial
	b.want(200, &one, b.call("viewer", "POST", "/v1/rules/try", obj{"group": group}))
	require.Equal(t, 7*24*time.Hour, one.To.Sub(one.From))
	require.WithinDuration(t, time.Now(), one.To, time.Minute)
	require.Equal(t, "0.5", one.Rules[0].Firings[0].Value)
	var many struct{ Groups []api.Trial }
	b.want(200, &many, b.call("viewer", "POST", "/v1/rules/try", obj{"groups": []obj{group, {"name": "h"}}, "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}))
	require.Len(t, many.Groups, 2)
	require.Equal(t, 24*time.Hour, many.Groups[1].To.Sub(many.Groups[1].From))

	for _, c := range []struct {
		body  obj
		field string
	}{
		{obj{}, "group"},
		{obj{"group": group, "groups": []obj{group}}, "groups"},
		{obj{"group": group, "range": "soon"}, "range"},
		{obj{"group": group, "range": "1d", "from": "2026-01-01T00:00:00Z"}, "range"},
		{obj{"group": obj{"name": ""}}, "group.rules[1].expr"},
		{obj{"groups": []obj{group, {"name": ""}}}, "groups[1].rules[1].expr"},
		{obj{"group": group, "shoe": 1}, "shoe"},
	} {
		var f failure
		b.want(400, &f, b.call("viewer", "POST", "/v1/rules/try", c.body))
		require.Equal(t, c.field, f.Error.Field, "%v: %s", c.body, f.Error.Message)
	}
}

func TestRuleGroups(t *testing.T) {
	b := setUp(t)
	type page struct {
		Items  []api.RuleGroup
		Next   string
		Total  int
		Counts map[string]int
	}
	get := func(query string) (p page) {
		b.want(200, &p, b.call("viewer", "GET", "/v1/rule-groups"+query, nil))
		return p
	}
	all := get("")
	require.Equal(t, 5, all.Total)
	require.Equal(t, map[string]int{"firing": 2, "pending": 1, "inactive": 1, "broken": 2}, all.Counts, "a broken group that fires is both")
	require.Equal(t, "/var/rules/x.yml", all.Items[0].Source)
	require.Len(t, get("?state=firing,broken").Items, 3)
	require.Equal(t, 2, get("?state=firing").Total)
	require.Equal(t, "latency", get("?state=inactive").Items[0].Name)
	require.Equal(t, 3, get("?q=source:web").Total)
	require.Equal(t, "errors", get("?q=errors_total").Items[0].Name)
	require.Equal(t, 1, get("?source=hosts").Total)
	first := get("?limit=3")
	require.Len(t, first.Items, 3)
	require.Equal(t, "latency", get("?limit=3&cursor=" + url.QueryEscape(first.Next)).Items[0].Name)
	b.want(400, nil, b.call("viewer", "GET", "/v1/rule-groups?state=burning", nil))
}

func TestScrapeTargets(t *testing.T) {
	b := setUp(t)
	type page struct {
		Items    []api.ScrapeTarget
		Next     string
		Total    int
		Counts   map[string]int
		Jobs     []api.ScrapeJob
		Problems []api.ScrapeProblem
	}
	get := func(query string) (p page) {
		b.want(200, &p, b.call("viewer", "GET", "/v1/scrape-targets"+query, nil))
		return p
	}
	all := get("")
	require.Equal(t, map[string]int{"up": 1, "down": 1, "unknown": 1}, all.Counts)
	require.Len(t, all.Problems, 1)
	require.Equal(t, "app", all.Items[0].Job)
	require.Equal(t, 1, get("?state=down").Total)
	require.Equal(t, "web1:9100", get("?q=refused").Items[0].Labels["instance"])
	require.Equal(t, 1, get("?q=team:db").Total)
	node := get("?job=node&limit=1")
	require.Equal(t, 2, node.Total)
	require.Len(t, node.Jobs, 1)
	require.Empty(t, node.Problems)
	require.Equal(t, "http://web1:9100/metrics", get("?job=node&limit=1&cursor=" + url.QueryEscape(node.Next)).Items[0].URL)
	b.want(400, nil, b.call("viewer", "GET", "/v1/scrape-targets?state=ill", nil))
}

func TestVersions(t *testing.T) {
	b := setUp(t)
	b.cat.records[model.KindRules] = []model.Record{{Kind: model.KindRules, ID: "01R", Name: "web", Spec: json.RawMessage(`{}`)}}
	b.events.list = []model.Event{
		{ID: "2", Time: time.Now(), Kind: model.EventAudit, Subject: "rules/01R", Actor: "user/bob", Code: "record.updated", Name: "web", Data: json.RawMessage(`{"before":{"a":1},"after":{"a":2}}`)},
		{ID: "3", Time: time.Now(), Kind: model.EventAudit, Subject: "rules/01R", Code: "something.else"},
		{ID: "1", Time: time.Now(), Kind: model.EventAudit, Subject: "rules/01R", Actor: "user/alice", Code: "record.created", Name: "web", Data: json.RawMessage(`{"after":{"a":1}}`)},
	}
	var list struct {
		Items []struct {
			Actor, Op     string
			Before, After map[string]int
		}
	}
	b.want(200, &list, b.call("viewer", "GET", "/v1/rules/web/versions", nil))
	require.Len(t, list.Items, 2)
	require.Equal(t, "update", list.Items[0].Op)
	require.Equal(t, 1, list.Items[0].Before["a"])
	require.Equal(t, 2, list.Items[0].After["a"])
	require.Equal(t, "create", list.Items[1].Op)
	require.Nil(t, list.Items[1].Before)
	b.want(200, nil, b.call("viewer", "GET", "/v1/rules/01GONE/versions", nil))
	b.events.list = nil
	b.want(404, nil, b.call("viewer", "GET", "/v1/rules/nobody/versions", nil))
}

func TestImportPrometheus(t *testing.T) {
	b := setUp(t)
	var got struct {
		Changes []api.Change
		Notes   []string
	}
	b.want(200, &got, b.call("admin", "POST", "/v1/import/prometheus?dry_run=true", "scrape_configs: []"))
	require.Equal(t, "create", got.Changes[0].Op)
	require.Len(t, got.Notes, 1)
	b.want(404, nil, b.call("viewer", "GET", "/v1/scrapes/node", nil))
	body := obj{"config": "scrape_configs: []", "files": obj{"r": "groups"}}
	b.want(200, &got, b.call("admin", "POST", "/v1/import/prometheus", body, "Content-Type", "application/json; charset=utf-8"))
	require.Len(t, got.Changes, 2)
	b.want(200, nil, b.call("viewer", "GET", "/v1/scrapes/node", nil))
	b.want(403, nil, b.call("editor", "POST", "/v1/import/prometheus", "x"))
	b.want(400, nil, b.call("admin", "POST", "/v1/import/prometheus", " "))
	b.want(413, nil, b.call("admin", "POST", "/v1/import/prometheus", "huge"))
	var f failure
	b.want(400, &f, b.call("admin", "POST", "/v1/import/prometheus", "- x"))
	require.Equal(t, "config", f.Error.Field)
}
