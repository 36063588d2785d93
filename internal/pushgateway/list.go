package pushgateway

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"google.golang.org/protobuf/proto"

	"panoptes/internal/model"
)

// Group describes one group for people.
type Group struct {
	Key        string            `json:"key"`
	Labels     map[string]string `json:"labels"`
	Path       string            `json:"path"`                 // under which it is pushed and deleted
	Pushed     *time.Time        `json:"pushed,omitempty"`     // the last push that was taken
	Failed     *time.Time        `json:"failed,omitempty"`     // the last push that was refused
	Successful bool              `json:"last_push_successful"` // whether the last push was taken
	Series     int               `json:"series"`               // without the two times
	Bytes      int               `json:"bytes"`
	Metrics    []Metric          `json:"metrics"`
}

// Metric describes one metric of a group.
type Metric struct {
	Name   string    `json:"name"`
	Type   string    `json:"type"`
	Help   string    `json:"help,omitempty"`
	Series int       `json:"series"`
	Pushed time.Time `json:"pushed"`
}

// Groups returns the groups that have the bound labels and whose key contains q,
// by key, from the one behind after on, at most limit; next is the after of the
// following page, empty when there is none.
func (p *Pushgateway) Groups(bound labels.Labels, q, after string, limit int) (page []Group, total int, next string) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var keys []string
	for key, g := range p.groups {
		if g.exists() && g.within(bound) && strings.Contains(strings.ToLower(key), strings.ToLower(q)) {
			keys = append(keys, key)
		}
	}
	total = len(keys)
	slices.Sort(keys)
	from, found := slices.BinarySearch(keys, after)
	if found {
		from++
	}
	page = []Group{}
	for _, key := range keys[from:] {
		if len(page) == limit {
			return page, total, page[limit-1].Key
		}
		page = append(page, p.groups[key].describe())
	}
	return page, total, ""
}

func (g *group) describe() Group {
	out := Group{
		Key: g.key, Labels: g.labels.Map(), Path: groupPath(g.labels), Pushed: g.pushed.time(), Failed: g.failed.time(),
		Successful: g.pushed.Version > g.failed.Version, Series: g.seriesCount(), Metrics: []Metric{},
	}
	for _, f := range g.sorted() {
		out.Bytes += len(f.data)
		out.Metrics = append(out.Metrics, Metric{Name: f.name, Type: lower(f.kind), Help: f.help, Series: len(f.series), Pushed: time.Unix(0, f.version).UTC()})
	}
	return out
}

func (g *group) sorted() []*family {
	out := make([]*family, 0, len(g.families))
	for _, f := range g.families {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b *family) int { return strings.Compare(a.name, b.name) })
	return out
}

func (m moment) time() *time.Time {
	if m.Version == 0 {
		return nil
	}
	t := time.UnixMilli(m.At).UTC()
	return &t
}

// serveList answers GET /v1/push-groups?q=&limit=&cursor=.
func (p *Pushgateway) serveList(w http.ResponseWriter, r *http.Request) {
	limit := 50
	if s := r.FormValue("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil || limit < 1 || limit > 1000 {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			p.encode(w, map[string]any{"error": map[string]string{"code": "invalid", "field": "limit", "message": "must be a number from 1 to 1000"}})
			return
		}
	}
	page, total, next := p.Groups(p.deps.Bound(r.Context()), r.FormValue("q"), r.FormValue("cursor"), limit)
	w.Header().Set("Content-Type", "application/json")
	p.encode(w, map[string]any{"items": page, "total": total, "next": next})
}

// serveMetrics answers GET /api/v1/metrics in the form of the original.
func (p *Pushgateway) serveMetrics(w http.ResponseWriter, r *http.Request) {
	bound := p.deps.Bound(r.Context())
	p.mu.RLock()
	var groups []map[string]any
	for _, g := range p.groups {
		if g.exists() && g.within(bound) {
			groups = append(groups, g.plain())
		}
	}
	p.mu.RUnlock()
	if groups == nil {
		groups = []map[string]any{}
	}
	slices.SortFunc(groups, func(a, b map[string]any) int { return strings.Compare(a["key"].(string), b["key"].(string)) })
	for _, g := range groups { // decoding does not hold up who pushes
		for name, m := range g {
			if f, ok := m.(*family); ok {
				g[name] = p.plain(f, g["labels"].(map[string]string))
			}
		}
		delete(g, "key")
	}
	w.Header().Set("Content-Type", "application/json")
	p.encode(w, map[string]any{"status": "success", "data": groups})
}

// plain returns a group as the original shows it, families yet to be decoded.
func (g *group) plain() map[string]any {
	out := map[string]any{}
	for name, f := range g.families {
		out[name] = f
	}
	out["key"], out["labels"], out["last_push_successful"] = g.key, g.labels.Map(), g.pushed.Version > g.failed.Version
	for _, s := range g.times {
		name, m, how := s.labels.Get(model.MetricName), g.pushed, "succeeded"
		if name == failureTime {
			m, how = g.failed, "failed"
		}
		at := time.Time{}
		if t := m.time(); t != nil {
			at = *t
		}
		out[name] = map[string]any{
			"time_stamp": at, "type": "GAUGE", "help": "Last Unix time when changing this group in the Pushgateway " + how + ".",
			"metrics": []any{map[string]any{"labels": shown(nil, g.labels.Map()), "value": number(s.v)}},
		}
	}
	return out
}

// shown are the labels of a metric as the original shows them: those of its
// group win, and who has no instance has an empty one.
func shown(own []*dto.LabelPair, group map[string]string) map[string]string {
	out := map[string]string{"instance": ""}
	for _, l := range own {
		out[l.GetName()] = l.GetValue()
	}
	maps.Copy(out, group)
	return out
}

func (p *Pushgateway) plain(f *family, group map[string]string) map[string]any {
	out := map[string]any{"time_stamp": time.Unix(0, f.version).UTC(), "type": f.kind.String()}
	if f.help != "" {
		out["help"] = f.help
	}
	var mf dto.MetricFamily
	if err := proto.Unmarshal(f.data, &mf); err != nil {
		p.log.Warn("a kept metric cannot be decoded", "metric", f.name, "err", err)
		return out
	}
	metrics := []any{}
	for _, m := range mf.Metric {
		x := map[string]any{"labels": shown(m.Label, group)}
		switch f.kind {
		case dto.MetricType_COUNTER:
			x["value"] = number(m.Counter.GetValue())
		case dto.MetricType_GAUGE:
			x["value"] = number(m.Gauge.GetValue())
		case dto.MetricType_UNTYPED:
			x["value"] = number(m.Untyped.GetValue())
		case dto.MetricType_SUMMARY:
			quantiles := map[string]string{}
			for _, q := range m.Summary.GetQuantile() {
				quantiles[number(q.GetQuantile())] = number(q.GetValue())
			}
			x["quantiles"], x["sum"], x["count"] = quantiles, number(m.Summary.GetSampleSum()), number(float64(m.Summary.GetSampleCount()))
		default:
			buckets := map[string]string{}
			for _, b := range m.Histogram.GetBucket() {
				buckets[number(b.GetUpperBound())] = number(float64(b.GetCumulativeCount()))
			}
			x["buckets"], x["sum"], x["count"] = buckets, number(m.Histogram.GetSampleSum()), number(float64(m.Histogram.GetSampleCount()))
		}
		metrics = append(metrics, x)
	}
	out["metrics"] = metrics
	return out
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (p *Pushgateway) encode(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.log.Debug("client left before its answer", "err", err)
	}
}
