package scrape_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
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
