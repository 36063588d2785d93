package scrape_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/scrape"
)

// lateList is HTTP discovery that does not answer before it is given something
// to say.
func lateList(t *testing.T) (url string, say func(string)) {
	var answer atomic.Pointer[string]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		a := answer.Load()
		if a == nil {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, *a)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, func(s string) { answer.Store(&s) }
}

func TestSharesWaitUntilDiscoveryOfTheJobHasAnswered(t *testing.T) {
	url, say := lateList(t)
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: openDB(t)})
	share := func(jobs ...string) (int, error) {
		list, err := s.Share(jobs, "x", []string{"x"})
		return len(list), err
	}
	list := "http_sd_configs: [{url: '" + url + "', refresh_interval: 100ms}]"
	records := []model.Record{
		record(t, "late", "{"+list+"}"),
		record(t, "both", "{"+list+", static_configs: [{targets: ['127.0.0.1:2']}]}"),
	}
	for i := range 3 { // each change has the manager hand over its lists
		name := fmt.Sprint("quick", i)
		records = append(records, record(t, name, "{static_configs: [{targets: ['127.0.0.1:1']}]}"))
		s.Update(records)
		within(t, 20*time.Second, func() bool {
			n, err := share(name)
			return n == 1 && err == nil
		}, "a job that is known does not wait for others")
		for _, jobs := range [][]string{{"late"}, {"both"}, nil} {
			_, err := share(jobs...)
			require.ErrorIs(t, err, model.ErrUnavailable, jobs)
		}
	}
	within(t, 20*time.Second, func() bool {
		for _, j := range s.Snapshot().Jobs {
			if j.Job == "both" {
				return j.Owned == 1
			}
		}
		return false
	}, "what is known of a job is scraped")

	say("[]")
	within(t, 20*time.Second, func() bool {
		late, err := share("late")
		both, err2 := share("both")
		return err == nil && err2 == nil && late == 0 && both == 1
	}, "nothing is an answer, too")
	say(`[{"targets":["127.0.0.1:3"]}]`)
	within(t, 20*time.Second, func() bool {
		n, err := share()
		return err == nil && n == 3+1+2
	})
}

func TestTargetsStayWhileDiscoveryOfAChangedJobIsSilent(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	quick, sayQuick := lateList(t)
	late, say := lateList(t)
	sayQuick(fmt.Sprintf(`[{"targets":[%q]}]`, addr))
	s, _ := start(t, scrape.Config{}, scrape.Deps{Appendable: db})
	with := func(url string) model.Record {
		return record(t, "j", "{http_sd_configs: [{url: '"+url+"', refresh_interval: 100ms}]}")
	}
	s.Update([]model.Record{with(quick)})
	within(t, 20*time.Second, func() bool { return len(stored(t, db, "__name__", "x")) == 1 })
	s.Update([]model.Record{with(late)})
	within(t, 20*time.Second, func() bool {
		_, err := s.Share([]string{"j"}, "x", []string{"x"})
		return err != nil
	}, "the change is taken over")
	// Other jobs come, and their answers.
	s.Update([]model.Record{with(late), record(t, "k", "{static_configs: [{targets: ['127.0.0.1:1']}]}")})
	within(t, 20*time.Second, func() bool {
		_, err := s.Share([]string{"k"}, "x", []string{"x"})
		return err == nil
	})
	samples := func() (n int) {
		for _, ps := range stored(t, db, "__name__", "x") {
			for _, p := range ps {
				if !p.Stale { // a busy machine lets a scrape time out
					n++
				}
			}
		}
		return n
	}
	before := samples()
	within(t, 20*time.Second, func() bool { return samples() > before+5 })
	say("[]")
	within(t, 20*time.Second, func() bool {
		for _, ps := range stored(t, db, "__name__", "x") {
			return ps[len(ps)-1].Stale
		}
		return false
	}, "it has said that there is none")
}

func TestOneThatDoesNotKnowTheTargetsLeavesThemToOthers(t *testing.T) {
	db := openDB(t)
	addr := serve(t, textFormat, "x 1\n")
	url, say := lateList(t)
	quick, sayQuick := lateList(t)
	var groups []string
	for i := range 40 {
		groups = append(groups, fmt.Sprintf(`{"targets":[%q],"labels":{"i":"%d"}}`, addr, i))
	}
	sayQuick("[" + strings.Join(groups, ",") + "]")
	var mu sync.Mutex
	lacks := map[string][]string{"n1": {"j"}, "n2": {"j"}}
	var servers []*scrape.Scraper
	both := &live{nodes: []string{"n1", "n2"}}
	for _, node := range both.list() {
		s, _ := start(t, scrape.Config{Node: node}, scrape.Deps{Appendable: db,
			Lacking: func(jobs []string) {
				mu.Lock()
				defer mu.Unlock()
				lacks[node] = jobs
				for _, s := range servers {
					s.OwnersChanged()
				}
			},
			Owns: func(key string, j scrape.Job) bool {
				mu.Lock()
				defer mu.Unlock()
				able := slices.DeleteFunc(both.list(), func(n string) bool { return slices.Contains(lacks[n], j.Name) })
				return owner(key, able) == node
			}})
		mu.Lock()
		servers = append(servers, s)
		mu.Unlock()
	}
	job := func(url string, more string) model.Record {
		return record(t, "j", "{scrape_interval: 1s, "+more+"http_sd_configs: [{url: '"+url+"', refresh_interval: 100ms}]}")
	}
	servers[0].Update([]model.Record{job(quick, "")})
	servers[1].Update([]model.Record{job(url, "")})
	count := func() (int, int) { return len(servers[0].Snapshot().Active), len(servers[1].Snapshot().Active) }
	within(t, 20*time.Second, func() bool { n1, n2 := count(); return n1 == 40 && n2 == 0 }, "one knows them")
	say("[" + strings.Join(groups, ",") + "]")
	within(t, 20*time.Second, func() bool { n1, n2 := count(); return n1+n2 == 40 && n2 > 5 }, "both do")
	// The job does not run any more on one: it lacks a file.
	servers[0].Update([]model.Record{job(quick, "tls_config: {ca_file: /nowhere/ca.pem}, ")})
	within(t, 20*time.Second, func() bool { n1, n2 := count(); return n1 == 0 && n2 == 40 }, "the other does its part")
	// Stale markers would come after 2.1 intervals.
	gone := time.Now()
	within(t, 30*time.Second, func() bool { return time.Since(gone) > 4*time.Second })
	for name, points := range stored(t, db, "__name__", "up") {
		for _, p := range points {
			require.False(t, p.Stale, name)
		}
	}
}
