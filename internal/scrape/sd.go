package scrape

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	engine "github.com/prometheus/prometheus/scrape"

	"panoptes/internal/model"
)

// maxHosts bounds among how many outside collectors targets are shared.
const maxHosts = 1000

// Group is one entry of an answer to Prometheus' http_sd_configs.
type Group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// Share returns those targets of jobs that fall to host when hosts share them,
// after relabelling. No jobs means all. When a host is added or taken away, only
// the targets that must move do. It is model.ErrUnavailable before the jobs are
// known and all their discovery has answered, so that who asks keeps what it has.
func (s *Scraper) Share(jobs []string, host string, hosts []string) ([]Group, error) {
	if err := checkHosts(host, hosts); err != nil {
		return nil, err
	}
	s.mu.RLock()
	all, finds := s.jobs, s.found
	s.mu.RUnlock()
	if all == nil {
		return nil, fmt.Errorf("%w: the server is starting, its scrape jobs are not known yet", model.ErrUnavailable)
	}
	if len(jobs) == 0 {
		jobs = slices.Sorted(maps.Keys(all))
	}
	out := []Group{}
	for _, name := range jobs {
		j := all[name]
		if j == nil {
			return nil, fmt.Errorf("scrape job %q does not run on this server: %w", name, model.ErrNotFound)
		}
		found := finds[name]
		if !found.whole {
			return nil, fmt.Errorf("%w: the targets of scrape job %q are not known yet", model.ErrUnavailable, name)
		}
		seen := keySet{}
		j.each(found.groups, s.cfg.Interval, func(g *targetgroup.Group, tl pm.LabelSet, t *engine.Target, k string, err error) {
			if err != nil || t == nil || seen.has(k) {
				return
			}
			seen[k] = struct{}{}
			if choose(k, hosts) == host {
				out = append(out, outside(t))
			}
		})
	}
	return out, nil
}

func checkHosts(host string, hosts []string) error {
	var inv model.Invalid
	if host == "" {
		inv.Add("shard", "must be given: the name of the collector that asks, for example its host name")
	}
	if len(hosts) == 0 || len(hosts) > maxHosts {
		inv.Add("shards", "must name all collectors that share the targets, separated by commas, at most %d", maxHosts)
	} else if !slices.Contains(hosts, host) && host != "" {
		inv.Add("shard", "%q is not among shards; every collector must be given the same list, itself included", host)
	}
	return inv.Err()
}

// choose is rendezvous hashing over names.
func choose(key string, names []string) string {
	best, top := "", uint64(0)
	for _, n := range names {
		if h := xxhash.Sum64String(n + "\x00" + key); best == "" || h > top || h == top && n < best {
			best, top = n, h
		}
	}
	return best
}

// outside describes a target to a collector that knows nothing of the job.
func outside(t *engine.Target) Group {
	out := Group{Targets: []string{t.GetValue(pm.AddressLabel)}, Labels: map[string]string{}}
	t.LabelsRange(func(l labels.Label) { out.Labels[l.Name] = l.Value })
	for _, name := range []string{pm.SchemeLabel, pm.MetricsPathLabel, pm.ScrapeIntervalLabel, pm.ScrapeTimeoutLabel} {
		out.Labels[name] = t.GetValue(name)
	}
	for name, values := range t.URL().Query() {
		out.Labels[pm.ParamLabelPrefix+name] = values[0]
	}
	return out
}

// SD answers GET ?shard=NAME&shards=NAME,NAME,…[&job=NAME…] in the form of
// Prometheus' http_sd_configs with the share of one of several collectors.
func (s *Scraper) SD() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		groups, err := s.Share(q["job"], cmp.Or(q.Get("shard"), q.Get("host")), splitHosts(append(q["shards"], q["hosts"]...)))
		if err != nil {
			status := http.StatusBadRequest
			switch {
			case errors.Is(err, model.ErrNotFound):
				status = http.StatusNotFound
			case errors.Is(err, model.ErrUnavailable):
				status = http.StatusServiceUnavailable
			}
			http.Error(w, err.Error(), status)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)) // not all writers have one
		_ = json.NewEncoder(w).Encode(groups)                                           // the client went away
	})
}

func splitHosts(values []string) []string {
	var out []string
	for _, v := range values {
		for h := range strings.SplitSeq(v, ",") {
			if h = strings.TrimSpace(h); h != "" {
				out = append(out, h)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
