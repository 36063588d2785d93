package hosts

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/oklog/ulid/v2"
	pm "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	maxLabelName  = 200
	maxLabelValue = 2048
	maxSeriesText = 8 << 10
	maxEventData  = 16 << 10
	maxEvidence   = 64 << 10
)

// accept looks at a series once. It belongs to the host whatever the agent says.
func (s *session) accept(ls labels.Labels) (labels.Labels, error) {
	if err := checkLabels(ls); err != nil {
		return ls, err
	}
	var out labels.Labels
	var err error
	if key := ls.Get(uplink.CheckLabel); key != "" {
		out, err = s.acceptCheck(ls, key)
	} else {
		out, err = s.acceptHost(ls)
	}
	if err != nil {
		return ls, err
	}
	if !s.h.series.allow(s.peer.NodeID, out) {
		s.h.m.seriesLimit.Inc()
		s.full.Store(true)
		return ls, fmt.Errorf("%w: more than %d series of one host in an hour", model.ErrLimit, s.h.cfg.MaxSeries)
	}
	return out, nil
}

func checkLabels(ls labels.Labels) error {
	total := 0
	var bad error
	ls.Range(func(l labels.Label) {
		total += len(l.Name) + len(l.Value)
		switch {
		case len(l.Name) > maxLabelName || len(l.Value) > maxLabelValue:
			bad = fmt.Errorf("%w: label %.40q has up to %d bytes of name and %d of value", model.ErrTooLarge, l.Name, maxLabelName, maxLabelValue)
		case strings.HasPrefix(l.Name, "__") && l.Name != model.MetricName && l.Name != uplink.CheckLabel:
			bad = model.Invalid{{Field: l.Name[:min(len(l.Name), 40)], Msg: "is a label of the system"}}
		case l.Name == "" || l.Value == "" || !utf8.ValidString(l.Name) || !utf8.ValidString(l.Value):
			bad = model.Invalid{{Field: "labels", Msg: "must have names and values in valid UTF-8"}}
		}
	})
	switch {
	case bad != nil:
		return bad
	case total > maxSeriesText:
		return fmt.Errorf("%w: labels of %d bytes, %d are allowed", model.ErrTooLarge, total, maxSeriesText)
	case !pm.LegacyValidation.IsValidMetricName(ls.Get(model.MetricName)):
		return model.Invalid{{Field: model.MetricName, Msg: "must be the name of a metric"}}
	}
	return nil
}

// ownMetric are our own metrics that an agent may write.
var ownMetric = regexp.MustCompile(`^panoptes_(agent|mesh|service)_`)

// acceptHost sets who it is: the labels that name a host are not the agent's to
// choose.
func (s *session) acceptHost(ls labels.Labels) (labels.Labels, error) {
	name := ls.Get(model.MetricName)
	switch {
	case name == "ALERTS", name == "ALERTS_FOR_STATE", strings.HasPrefix(name, "probe_"),
		strings.HasPrefix(name, "panoptes_") && !ownMetric.MatchString(name):
		return ls, fmt.Errorf("%w: %s is not an agent's to write", model.ErrForbidden, name)
	}
	host := s.called()
	b := labels.NewBuilder(ls)
	b.Del(model.LabelCheck, "check_id", model.LabelProber, "alertname", "severity")
	for k, v := range *s.labels.Load() {
		b.Set(k, v)
	}
	switch inst := ls.Get("instance"); {
	case inst == "" || inst == host:
		b.Set("instance", host)
	case strings.HasPrefix(inst, ":") && len(inst) <= 6: // a port of the host
		b.Set("instance", host+inst)
	case strings.HasPrefix(inst, host+":"):
		// A target near the host, named after it.
	default:
		b.Set("instance", host)
		b.Set("exported_instance", inst)
	}
	b.Set("host", host)
	b.Set(model.LabelRegion, s.peer.Region)
	if ls.Get("job") == "" {
		b.Set("job", "node")
	}
	return b.Labels(), nil
}

// acceptCheck puts the labels of a check in the place of its key, as the
// servers' own workers do.
func (s *session) acceptCheck(ls labels.Labels, key string) (labels.Labels, error) {
	name := ls.Get(model.MetricName)
	if !strings.HasPrefix(name, "probe_") {
		return ls, fmt.Errorf("%w: %s is not a sample of a check", model.ErrForbidden, name)
	}
	if runs, _ := s.runsChecks(); !runs {
		s.barred.Store(true)
		return ls, fmt.Errorf("%w: this agent is not allowed to run checks", model.ErrForbidden)
	}
	c, ok := s.h.deps.Check(s.peer.NodeID, uplink.SplitCheckKey(key))
	if !ok {
		return ls, fmt.Errorf("%w: not a check of this agent", model.ErrForbidden)
	}
	b := labels.NewBuilder(ls)
	b.Del(uplink.CheckLabel)
	// What says whose a series is comes from the record alone.
	b.Del("host", "instance", "job", "check_id", "alertname", "severity")
	for k, v := range c.Labels {
		if model.IsProbeLabel(k) && ls.Has(k) {
			continue // it tells the series of the check apart
		}
		b.Set(k, v)
	}
	b.Set(model.LabelCheck, c.Name)
	b.Set(model.LabelRegion, s.peer.Region)
	b.Set(model.LabelProber, s.called())
	return b.Labels(), nil
}

// own makes an event the host's own: of its kind, about itself, under an id
// that nobody else's event can have.
func (s *session) own(e model.Event, from, to int64) (model.Event, bool) {
	if t := e.Time.UnixMilli(); t < from || t > to || !strings.HasPrefix(e.Code, "host.") || len(e.Code) > 64 || len(e.Message) > 1024 || len(e.Data) > maxEventData || len(e.Labels) > 32 {
		return e, false
	}
	if len(e.Data) > 0 && !json.Valid(e.Data) {
		return e, false
	}
	switch e.Severity {
	case "info", "warning", "critical":
	default:
		e.Severity = "info"
	}
	host := s.called()
	e.ID = ownID(s.peer.NodeID, e.ID, e.Time)
	e.Time = e.Time.UTC()
	e.Kind, e.Subject, e.Name, e.Actor = model.EventNode, "node/"+s.peer.NodeID, host, "agent/"+host
	e.Labels = map[string]string{"host": host, model.LabelRegion: s.peer.Region} // whose it is says nobody but the servers
	e.Message = strings.ToValidUTF8(e.Message, "�")
	return e, true
}

// ownID makes the same id of the same event each time it is sent.
func ownID(node, id string, at time.Time) string {
	sum := sha256.Sum256([]byte(node + "\x00" + id))
	var u ulid.ULID
	_ = u.SetTime(uint64(max(at.UnixMilli(), 0)))
	_ = u.SetEntropy(sum[:10])
	return u.String()
}

// claim sets who found a result, and bounds it.
func (s *session) claim(r *model.Result) {
	r.Prober, r.Region = s.called(), s.peer.Region
	r.Message = clip(r.Message, 300)
	r.Duration = min(max(r.Duration, 0), time.Hour)
	if len(r.Evidence) > maxEvidence || len(r.Evidence) > 0 && !json.Valid(r.Evidence) {
		r.Evidence = nil
	}
	if len(r.Assertion) > 100 {
		r.Assertion = r.Assertion[:100]
	}
	for i := range r.Assertion {
		r.Assertion[i].Text, r.Assertion[i].Found = clip(r.Assertion[i].Text, 300), clip(r.Assertion[i].Found, 300)
	}
	samples := r.Samples[:0]
	for _, x := range r.Samples {
		if len(samples) < 500 && checkLabels(x.Labels) == nil && strings.HasPrefix(x.Labels.Get(model.MetricName), "probe_") && !x.Labels.Has(uplink.CheckLabel) {
			samples = append(samples, x)
		}
	}
	r.Samples = samples
}

func clip(text string, n int) string {
	text = strings.ToValidUTF8(text, "�")
	if len(text) > n {
		text = strings.ToValidUTF8(text[:n], "")
	}
	return text
}

// seriesLimit counts the different series of each host over the last hour or
// two, across its streams. One with long labels counts as several: memory is what
// they cost.
type seriesLimit struct {
	max int

	mu     sync.Mutex // guards what follows
	hosts  map[string]*[2]seriesSet
	turned time.Time
}

// seriesSet holds what each series counts, by hash, and the sum of it.
type seriesSet struct {
	cost map[uint64]int
	sum  int
}

func (s *seriesSet) put(hash uint64, cost int) {
	if s.cost == nil {
		s.cost = map[uint64]int{}
	}
	s.cost[hash] = cost
	s.sum += cost
}

func (s *seriesSet) drop(hash uint64) {
	s.sum -= s.cost[hash]
	delete(s.cost, hash)
}

func newSeriesLimit(n int) *seriesLimit {
	return &seriesLimit{max: n, hosts: map[string]*[2]seriesSet{}, turned: time.Now()}
}

// seriesUnit is how many bytes of labels count as one series.
const seriesUnit = 1 << 10

func (l *seriesLimit) allow(node string, ls labels.Labels) bool {
	hash, size := ls.Hash(), 0
	ls.Range(func(x labels.Label) { size += len(x.Name) + len(x.Value) })
	cost := 1 + size/seriesUnit
	l.mu.Lock()
	defer l.mu.Unlock()
	g := l.hosts[node]
	if g == nil {
		g = &[2]seriesSet{}
		l.hosts[node] = g
	}
	if _, ok := g[0].cost[hash]; ok {
		return true
	}
	_, before := g[1].cost[hash]
	if !before && g[0].sum+g[1].sum+cost > l.max || before && g[0].sum+cost > l.max {
		return false
	}
	g[1].drop(hash)
	g[0].put(hash, cost)
	return true
}

// turn forgets series that were not seen for an hour. Agents of which some were
// refused describe all anew: there may be room now.
func (h *Hosts) turn(now time.Time) {
	if !h.series.turn(now) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if s.full.Swap(false) {
			s.again.Store(true)
			s.kick()
		}
	}
}

// turn forgets what was not seen for an hour, and reports whether it was time to.
func (l *seriesLimit) turn(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.turned) < time.Hour {
		return false
	}
	l.turned = now
	for n, g := range l.hosts {
		g[1], g[0] = g[0], seriesSet{}
		if len(g[1].cost) == 0 {
			delete(l.hosts, n)
		}
	}
	return true
}
