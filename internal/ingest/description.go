package ingest

import (
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/model"
)

const (
	maxDescriptions  = 20_000
	maxHelp          = 1024 // bytes; more is cut
	maxUnit          = 64
	keepDescriptions = 24 * time.Hour // after a sender named them last
)

// Description is what a sender says about a metric.
type Description struct {
	Type    string `json:"type"`
	Help    string `json:"help"`
	Unit    string `json:"unit"`
	Changed int64  `json:"changed,omitempty"` // milliseconds since 1970; the later one holds
}

// descriptions keep what is known of metrics by name.
type descriptions struct {
	mu     sync.RWMutex // guards byName
	byName map[string]*described
}

type described struct {
	Description
	seen time.Time
}

func (d *descriptions) put(name string, x Description, now time.Time) {
	if name == "" || len(name) > 200 || !utf8.ValidString(name) || x.Help == "" && x.Unit == "" && (x.Type == "" || x.Type == "unknown") {
		return
	}
	x.Help, x.Unit = cut(x.Help, maxHelp), cut(x.Unit, maxUnit)
	if x.Type == "" {
		x.Type = "unknown"
	}
	d.mu.RLock()
	have := d.byName[name]
	same := have != nil && have.Type == x.Type && have.Help == x.Help && have.Unit == x.Unit && now.Sub(have.seen) < time.Minute
	d.mu.RUnlock()
	if same {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	have = d.byName[name]
	switch {
	case have == nil:
		if !d.room(now) {
			return
		}
		have = &described{}
		d.byName[strings.Clone(name)] = have
	case have.Type == x.Type && have.Help == x.Help && have.Unit == x.Unit:
		have.seen = now
		return
	}
	x.Help, x.Unit = strings.Clone(x.Help), strings.Clone(x.Unit)
	x.Changed = max(have.Changed+1, now.UnixMilli())
	have.Description, have.seen = x, now
}

// room makes room for one more, if it can. d.mu is held.
func (d *descriptions) room(now time.Time) bool {
	if len(d.byName) < maxDescriptions {
		return true
	}
	for name, x := range d.byName {
		if now.Sub(x.seen) > keepDescriptions {
			delete(d.byName, name)
		}
	}
	return len(d.byName) < maxDescriptions
}

func (d *descriptions) all() map[string]Description {
	d.mu.RLock()
	defer d.mu.RUnlock()
	out := make(map[string]Description, len(d.byName))
	for name, x := range d.byName {
		out[name] = x.Description
	}
	return out
}

func (d *descriptions) merge(all map[string]Description, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, x := range all {
		have := d.byName[name]
		if have != nil && (have.Changed > x.Changed || have.Changed == x.Changed && have.Help >= x.Help) {
			continue
		}
		if len(name) > 200 || len(x.Help) > maxHelp+8 || len(x.Unit) > maxUnit+8 || len(x.Type) > 32 || have == nil && !d.room(now) {
			continue
		}
		d.byName[name] = &described{x, now}
	}
}

// Metadata returns what senders said about metrics, by name: all of them, or
// the one that is named.
func (g *Ingest) Metadata(metric string) map[string]Description {
	all := g.descriptions.all()
	if metric == "" {
		return all
	}
	if x, ok := all[metric]; ok {
		return map[string]Description{metric: x}
	}
	return map[string]Description{}
}

// describe keeps the metadata of a remote write 1 message.
func (g *Ingest) describe(m *prompb.MetricMetadata, now time.Time) {
	g.descriptions.put(m.MetricFamilyName, Description{Type: strings.ToLower(m.Type.String()), Help: m.Help, Unit: m.Unit}, now)
}

// familyOf is the name of the metric that a series is a part of.
func familyOf(name, kind string) string {
	switch kind {
	case "histogram", "gaugehistogram", "summary":
		for _, end := range []string{"_bucket", "_count", "_sum"} {
			if base, ok := strings.CutSuffix(name, end); ok {
				return base
			}
		}
	}
	return name
}

// describeSeries keeps what is said about a series' metric.
func (g *Ingest) describeSeries(ls labels.Labels, x Description, now time.Time) {
	g.descriptions.put(familyOf(ls.Get(model.MetricName), x.Type), x, now)
}

// UpdateMetadata keeps what OTLP says about a series' metric;
// it does not go to the storage.
func (a *guardedAppender) UpdateMetadata(ref storage.SeriesRef, ls labels.Labels, m metadata.Metadata) (storage.SeriesRef, error) {
	a.g.describeSeries(ls, Description{Type: string(m.Type), Help: m.Help, Unit: m.Unit}, time.Now())
	return ref, nil
}

func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}
