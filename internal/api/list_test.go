package api_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/model"
)

func (b *bench) add(n int) {
	now := time.Now()
	for i := range n {
		typ := []string{"http", "tcp"}[i%2]
		name := fmt.Sprintf("check-%05d", i)
		spec := fmt.Sprintf(`{"name":%q,"type":%q,"target":"https://host%d.example/","regions":["eu"],"labels":{"team":"t%d"}}`, name, typ, i, i%3)
		b.cat.rev++
		rec := model.Record{Kind: model.KindCheck, ID: model.NewID(now), Name: name, Revision: b.cat.rev, Created: now, Updated: now, Spec: json.RawMessage(spec)}
		b.cat.records[model.KindCheck] = append(b.cat.records[model.KindCheck], rec)
	}
	states := map[string]model.CheckState{}
	for i, rec := range b.cat.records[model.KindCheck] {
		states[rec.ID] = model.CheckState{Status: model.Statuses[i%5], Since: now.Add(-time.Duration(i%7) * time.Minute), Regions: map[string]model.RegionState{"eu": {Duration: float64(i%4) / 10}}}
	}
	b.checks.states = states
}

type checkPage struct {
	Items []struct {
		Name, Type string
		State      model.CheckState
		Bars       []struct{ S string }
		Uptime     map[string]*float64
	}
	Next   string
	Total  int
	Counts map[string]int
}

func TestListOfChecks(t *testing.T) {
	b := setUp(t)
	b.add(30)
	list := func(q string) (p checkPage) {
		b.want(200, &p, b.call("viewer", "GET", "/v1/checks?"+q, nil))
		return p
	}
	p := list("limit=1000")
	require.Equal(t, 30, p.Total)
	require.Equal(t, 6, p.Counts["down"])
	p = list("status=down,degraded&type=http")
	require.Equal(t, 6, p.Total)
	require.Equal(t, 3, p.Counts["up"], "counts are of all states")
	require.Equal(t, 10, list("label=team:t1").Total)
	require.Zero(t, list("region=us").Total)
	require.Equal(t, 30, list("region=eu").Total)
	for q, n := range map[string]int{
		"check-00003": 1, "type:http": 15, "-type:http": 15, "type:http -team:t0": 10, `"host7.example"`: 1, "https://host7.example": 1,
		"status:down": 6, "CHECK-00001 type:tcp": 1, "nothing": 0, "": 30,
	} {
		require.Equal(t, n, list("q="+url.QueryEscape(q)).Total, q)
	}
	p = list("sort=status&limit=3")
	require.Equal(t, model.StatusDown, p.Items[0].State.Status)
	p = list("sort=-name&limit=1")
	require.Equal(t, "check-00029", p.Items[0].Name)
	p = list("bars=4&range=7d&limit=1")
	require.Len(t, p.Items[0].Bars, 4)
	require.Equal(t, 0.5, *p.Items[0].Uptime["7d"])
	for _, q := range []string{"sort=shoe", "limit=0", "limit=x", "status=shoe", "bars=1000", "range=1s", "cursor=%21", "label=x", "q=%22", "q=" + strings.Repeat("a+", 40)} {
		b.want(400, nil, b.call("viewer", "GET", "/v1/checks?"+q, nil))
	}
	b.want(400, nil, b.call("viewer", "GET", "/v1/checks?sort=since&cursor="+list("limit=3").Next, nil))
}

// TestPages walks through lists page by page, in any order and with any size,
// while entries come and go: what stays is seen exactly once, in order.
func TestPages(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := setUp(t)
		b.add(rapid.IntRange(0, 60).Draw(rt, "n"))
		sort := rapid.SampledFrom([]string{"name", "-name", "status", "-status", "since", "duration", "-duration"}).Draw(rt, "sort")
		limit := rapid.IntRange(1, 25).Draw(rt, "limit")
		gone := map[string]bool{}
		seen := map[string]int{}
		staying := map[string]bool{}
		for _, r := range b.cat.records[model.KindCheck] {
			staying[r.Name] = true
		}
		cursor := ""
		for {
			var p checkPage
			b.want(200, &p, b.call("viewer", "GET", fmt.Sprintf("/v1/checks?sort=%s&limit=%d&cursor=%s", sort, limit, cursor), nil))
			if len(p.Items) > limit {
				rt.Fatalf("%d entries on a page of %d", len(p.Items), limit)
			}
			for _, c := range p.Items {
				seen[c.Name]++
			}
			if cursor = p.Next; cursor == "" {
				break
			}
			if left := b.cat.records[model.KindCheck]; len(left) > 0 && rapid.Bool().Draw(rt, "delete") {
				i := rapid.IntRange(0, len(left)-1).Draw(rt, "which")
				gone[left[i].Name] = true
				require.NoError(t, b.cat.Delete(t.Context(), "", model.KindCheck, left[i].ID, 0))
			}
		}
		for name := range staying {
			if n := seen[name]; n > 1 || n == 0 && !gone[name] {
				rt.Fatalf("%s was seen %d times", name, n)
			}
		}
	})
}

// FuzzList sends any cursor, q and matcher: bad ones are 400, never worse.
func FuzzList(f *testing.F) {
	f.Add("eyJzIjoibmFtZSIsInQiOiJhIiwiaSI6ImIifQ", `a -b type:http "c d"`, `a=~"b"`)
	f.Add("e30", `-"`, `-a!="`)
	f.Add("", `: - -: "" a:""`, `{a="b"}`)
	b := &bench{}
	f.Fuzz(func(t *testing.T, cursor, q, matcher string) {
		if b.api == nil {
			b = setUp(t)
			b.add(5)
		}
		b.t = t
		for _, path := range []string{
			"/v1/checks?cursor=" + url.QueryEscape(cursor) + "&q=" + url.QueryEscape(q) + "&sort=status",
			"/v1/regions?cursor=" + url.QueryEscape(cursor) + "&q=" + url.QueryEscape(q),
			"/v1/alerts?q=" + url.QueryEscape(matcher),
		} {
			if w := b.call("viewer", "GET", path, nil); w.Code != 200 && w.Code != 400 {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	})
}

// FuzzNext looks for a next that leaves this server.
func FuzzNext(f *testing.F) {
	for _, s := range []string{"/", "//e", "/\\e", "/%2f/e", "/a?b#c", "https:e", "/\x00", "/a//b"} {
		f.Add(s)
	}
	b := &bench{}
	f.Fuzz(func(t *testing.T, next string) {
		if b.api == nil {
			b = setUp(t)
		}
		b.t = t
		to := b.form("/login", url.Values{"name": {"a"}, "password": {"right"}, "next": {next}}).Header().Get("Location")
		at, err := url.Parse("https://panoptes.example/login")
		require.NoError(t, err)
		u, err := at.Parse(to)
		if err != nil || u.Host != "panoptes.example" || u.Scheme != "https" || strings.ContainsAny(to, "\\\r\n\t") {
			t.Fatalf("next %q leads to %q", next, to)
		}
	})
}

func BenchmarkListOf10000(b *testing.B) {
	bb := setUp(&testing.T{})
	bb.add(10_000)
	r := httptest.NewRequest("GET", "/v1/checks?sort=status&limit=50&q=check", nil)
	r.Header.Set("Authorization", "Bearer viewer")
	for b.Loop() {
		w := httptest.NewRecorder()
		bb.handler.ServeHTTP(w, r)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}
