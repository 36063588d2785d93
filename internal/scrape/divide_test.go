package scrape_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

// live is a list of servers that all of them see alike.
type live struct {
	mu    sync.Mutex
	nodes []string
}

func (l *live) list() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.nodes)
}

func (l *live) set(nodes ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.nodes = nodes
}

func (l *live) owns(node string) func(string, scrape.Job) bool {
	return func(key string, _ scrape.Job) bool { return owner(key, l.list()) == node }
}

// manyTargets is n targets on one server, each with a path of its own.
func manyTargets(t testing.TB, n int) (groups string, hits func(path string) int) {
	var mu sync.Mutex
	seen := map[string]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.URL.Path]++
		mu.Unlock()
		w.Header().Set("Content-Type", textFormat)
		fmt.Fprintf(w, "x{path=%q} 1\n", r.URL.Path)
	}))
	t.Cleanup(srv.Close)
	addr := strings.TrimPrefix(srv.URL, "http://")
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	var gs []group
	for i := range n {
		gs = append(gs, group{[]string{addr}, map[string]string{"__metrics_path__": fmt.Sprintf("/t%d", i), "target": fmt.Sprint(i)}})
	}
	b, err := json.Marshal(gs)
	require.NoError(t, err)
	return string(b), func(path string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[path]
	}
}

func TestThreeServersDivideTargetsAndOneDies(t *testing.T) {
	const n, interval = 300, 2 * time.Second
	db := openDB(t)
	groups, _ := manyTargets(t, n)
	all := &live{nodes: []string{"n1", "n2", "n3"}}
	rec := record(t, "many", "{scrape_interval: 2s, static_configs: "+groups+"}")
	var servers []*scrape.Scraper
	var stops []func()
	for _, name := range all.list() {
		s, stop := start(t, scrape.Config{Node: name}, scrape.Deps{Appendable: db, Owns: all.owns(name)})
		s.Update([]model.Record{rec})
		servers, stops = append(servers, s), append(stops, stop)
	}
	heard := func() int {
		total := 0
		for _, s := range servers {
			for _, a := range s.Snapshot().Active {
				if a.Health != "unknown" {
					total++
				}
			}
		}
		return total
	}
	within(t, 60*time.Second, func() bool { return heard() == n }, "each target is scraped")
	for _, s := range servers {
		snap := s.Snapshot()
		require.InDelta(t, n/3, len(snap.Active), 50)
		require.Equal(t, n, snap.Jobs[0].Active)
		require.Equal(t, len(snap.Active), snap.Jobs[0].Owned)
	}
	stays := map[string]string{}
	for _, s := range servers[:2] {
		for _, a := range s.Snapshot().Active {
			stays[a.URL] = a.Node
		}
	}

	share := len(servers[2].Snapshot().Active)

	// The third vanishes, and the others hear of it.
	stops[2]()
	died := time.Now()
	servers = servers[:2]
	all.set("n1", "n2")
	for _, s := range servers {
		s.OwnersChanged()
	}
	within(t, 60*time.Second, func() bool { return heard() == n }, "the others take over")
	for _, s := range servers {
		for _, a := range s.Snapshot().Active {
			if was := stays[a.URL]; was != "" {
				require.Equal(t, was, a.Node, "only the targets of the dead server move")
			}
		}
	}

	// It comes back, and takes its targets from servers that live on.
	s3, _ := start(t, scrape.Config{Node: "n3"}, scrape.Deps{Appendable: db, Owns: all.owns("n3")})
	s3.Update([]model.Record{rec})
	all.set("n1", "n2", "n3")
	servers = append(servers, s3)
	for _, s := range servers {
		s.OwnersChanged()
	}
	within(t, 60*time.Second, func() bool { return len(s3.Snapshot().Active) == share && heard() == n }, "it takes its share again: %v", lazily(func() any {
		out := map[string]int{"heard": heard()}
		for i, s := range servers {
			snap := s.Snapshot()
			out[fmt.Sprintf("n%d active", i+1)], out[fmt.Sprintf("n%d owned", i+1)] = len(snap.Active), snap.Jobs[0].Owned
		}
		return out
	}))
	back := time.Now()
	// Stale markers would come after 2.1 intervals.
	within(t, 30*time.Second, func() bool { return time.Since(back) > 3*interval })

	// A machine that is busy with other things lets a scrape time out now and then.
	// That one has lasted as long as a scrape may, and is told by up at the same
	// instant. One that was broken off by the hand-over would have been shorter, and
	// a series that was ended because its target moved would have its up ended, too.
	type instant struct {
		target string
		at     int64
	}
	lasted := map[instant]float64{}
	for name, points := range stored(t, db, "__name__", "scrape_duration_seconds") {
		for _, p := range points {
			lasted[instant{strings.Replace(name, `"scrape_duration_seconds"`, `"x"`, 1), p.T}] = p.V
		}
	}
	failed := map[instant]bool{}
	for name, points := range stored(t, db, "__name__", "up") {
		for _, p := range points {
			require.False(t, p.Stale, "%s is marked stale at %d", name, p.T)
			if p.V != 1 {
				at := instant{strings.Replace(name, `"up"`, `"x"`, 1), p.T}
				require.GreaterOrEqual(t, lasted[at], interval.Seconds(), "%s is down at %d, and not because it was slow", name, p.T)
				failed[at] = true
			}
		}
	}
	series := stored(t, db, "__name__", "x")
	require.Len(t, series, n)
	stayed := map[string]bool{}
	for url := range stays {
		stayed[fmt.Sprintf(`, path=%q`, url[strings.LastIndex(url, "/"):])] = true
	}
	// Where targets that did not move were late as well the machine stood still.
	worst, late, calm := time.Duration(0), time.Duration(0), interval
	for name, points := range series {
		// The path is a label of x alone.
		up := pathLabel.ReplaceAllString(name, "")
		first := true
		for i, p := range points {
			if p.Stale {
				require.True(t, failed[instant{up, p.T}], "%s is marked stale at %d", name, p.T)
			}
			if i > 0 && p.T > died.UnixMilli() {
				gap := time.Duration(p.T-points[i-1].T) * time.Millisecond
				worst = max(worst, gap)
				if stayed[pathLabel.FindString(name)] && p.T < died.Add(5*interval).UnixMilli() {
					calm = max(calm, gap)
				}
				if first {
					late = max(late, time.Duration(p.T-died.UnixMilli())*time.Millisecond)
				}
				first = false
			}
		}
	}
	t.Logf("after the death every target was scraped within %s, with at most %s between two samples; the interval is %s; targets that stayed were late by %s; %d scrapes timed out", late, worst, interval, calm-interval, len(failed))
	require.Less(t, late, interval+calm)
}

var pathLabel = regexp.MustCompile(`, path="[^"]*"`)

func TestTargetsThatGoAreMarkedStaleByTheirOwner(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	var mu sync.Mutex
	answer := fmt.Sprintf(`[{"targets":[%q],"labels":{"a":"1"}},{"targets":[%q],"labels":{"a":"2"}}]`, addr, addr)
	sd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(sd.Close)
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
	s.Update([]model.Record{record(t, "j", "{http_sd_configs: [{url: '"+sd.URL+"', refresh_interval: 100ms}]}")})
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "x")) == 2 })
	mu.Lock()
	answer = fmt.Sprintf(`[{"targets":[%q],"labels":{"a":"2"}}]`, addr)
	mu.Unlock()
	within(t, 20*time.Second, func() bool {
		gone := stored(t, db, "__name__", "x", "a", "1")
		for _, ps := range gone {
			return ps[len(ps)-1].Stale
		}
		return false
	}, "the last sample of a target that is gone is a stale marker")
	for _, ps := range stored(t, db, "__name__", "x", "a", "2") {
		require.False(t, ps[len(ps)-1].Stale)
	}
}

func TestPerRegionAndTakes(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	rec := record(t, "j", "{static_configs: [{targets: ['"+addr+"']}]}", func(j *scrape.Job) {
		j.PerRegion, j.Regions = true, []string{"eu", "us"}
	})
	for _, region := range []string{"eu", "us", "asia"} {
		s, _ := start(t, scrape.Config{Node: "n-" + region, Region: region}, scrape.Deps{Appendable: db, Takes: func(j scrape.Job) bool {
			return slices.Contains(j.Regions, region)
		}})
		_, err := s.Share(nil, "a", []string{"a"})
		require.ErrorIs(t, err, model.ErrUnavailable, "an empty answer would take a collector's targets away")
		s.Update([]model.Record{rec})
		if region == "asia" {
			within(t, 10*time.Second, func() bool {
				_, err := s.Share([]string{"j"}, "a", []string{"a"})
				return errors.Is(err, model.ErrNotFound)
			})
		}
	}
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "x")) == 2 })
	require.NotEmpty(t, stored(t, db, "__name__", "x", "region", "eu"))
	require.NotEmpty(t, stored(t, db, "__name__", "x", "region", "us"))
}

func TestClusterShowsWhoScrapesWhat(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "# HELP x what it is\n# TYPE x gauge\nx 1\n")
	dead := "127.0.0.1:1"
	all := &live{nodes: []string{"n1", "n2"}}
	var gs []string
	for i := range 20 {
		gs = append(gs, fmt.Sprintf("{targets: ['%s', '%s'], labels: {i: '%d'}}", addr, dead, i))
	}
	rec := record(t, "j", "{scrape_interval: 3s, params: {a: [b]}, static_configs: ["+strings.Join(gs, ",")+"], relabel_configs: [{source_labels: [i], regex: '7', action: drop}]}")
	var servers []*scrape.Scraper
	for _, n := range all.list() {
		s, _ := start(t, scrape.Config{Node: n, Region: "r-" + n}, scrape.Deps{Appendable: db, Owns: all.owns(n), Registerer: prometheus.NewRegistry()})
		s.Update([]model.Record{rec})
		servers = append(servers, s)
	}
	var view *scrape.Cluster
	within(t, 60*time.Second, func() bool {
		b, err := json.Marshal(servers[1].Snapshot())
		require.NoError(t, err)
		var there scrape.Snapshot
		require.NoError(t, json.Unmarshal(b, &there))
		view = servers[0].Cluster(there)
		health := map[string]int{}
		for _, a := range view.TargetsActive()["j"] {
			health[string(a.Health())]++
		}
		return health["up"] == 19 && health["down"] == 19
	})
	var _ v1.TargetRetriever = view
	var _ v1.ScrapePoolsRetriever = view
	require.Equal(t, []string{"j"}, view.ScrapePools())
	require.Equal(t, map[string]int{"j": 2}, view.TargetsDroppedCounts())
	require.Len(t, view.TargetsDropped()["j"], 2)
	by := map[string]int{}
	for _, a := range view.TargetsActive()["j"] {
		by[a.GetValue("i")]++
		require.Contains(t, []string{"http://" + addr + "/metrics?a=b", "http://" + dead + "/metrics?a=b"}, a.URL().String())
		if a.Health() == "down" {
			require.ErrorContains(t, a.LastError(), "refused")
		} else {
			m, ok := a.GetMetadata("x")
			require.True(t, ok, "metadata of other servers' targets is there, too")
			require.Equal(t, "what it is", m.Help)
		}
	}
	require.Len(t, by, 19)
	_, err := view.ScrapePoolConfig("j")
	require.NoError(t, err)
	_, err = view.ScrapePoolConfig("no")
	require.Error(t, err)
}

func TestShareForOutsideCollectors(t *testing.T) {
	groups, _ := manyTargets(t, 300)
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: openDB(t), Owns: func(string, scrape.Job) bool { return false }})
	h := s.SD()
	get := func(query string) (int, []scrape.Group) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?"+query, nil))
		var out []scrape.Group
		if w.Code == http.StatusOK {
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &out))
		}
		return w.Code, out
	}
	s.Update([]model.Record{record(t, "j", "{scrape_interval: 30s, params: {m: [x]}, static_configs: "+groups+", relabel_configs: [{target_label: extra, replacement: e}]}")})
	within(t, 10*time.Second, func() bool {
		code, _ := get("host=a&hosts=a")
		return code == http.StatusOK && len(must(get("host=a&hosts=a"))) == 300
	})

	owners := map[string]string{}
	for _, host := range []string{"a", "b", "c"} {
		_, list := get("job=j&hosts=a,b,c&host=" + host)
		require.InDelta(t, 100, len(list), 50)
		for _, g := range list {
			require.Empty(t, owners[g.Labels["target"]], "no target is given twice")
			owners[g.Labels["target"]] = host
			require.Equal(t, "e", g.Labels["extra"])
			require.Equal(t, "j", g.Labels["job"])
			require.Equal(t, "30s", g.Labels["__scrape_interval__"])
			require.Equal(t, "x", g.Labels["__param_m"])
			require.Equal(t, "/t"+g.Labels["target"], g.Labels["__metrics_path__"])
		}
	}
	require.Len(t, owners, 300)
	_, list := get("hosts=b,a&host=a")
	for _, g := range list {
		require.NotEqual(t, "b", owners[g.Labels["target"]], "what a host has it keeps")
	}
	for query, want := range map[string]int{"": 400, "host=a": 400, "host=x&hosts=a,b": 400, "host=a&hosts=a&job=no": 404} {
		code, _ := get(query)
		require.Equal(t, want, code, query)
	}
	require.Empty(t, s.Snapshot().Active)
}

func must(_ int, g []scrape.Group) []scrape.Group { return g }

// lazily is printed as what f returns when it is printed.
type lazily func() any

func (f lazily) String() string { return fmt.Sprint(f()) }
