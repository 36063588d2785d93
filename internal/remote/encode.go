package remote

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"

	"panoptes/internal/model"
)

// The versions of remote write.
const (
	version1 = 1
	version2 = 2
)

const (
	typeV1 = "application/x-protobuf"
	typeV2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
)

// maxDescribed is how many metrics' metadata are kept for version 2, which
// sends it with the samples.
const maxDescribed = 20_000

// described is the metadata of metrics by their names.
type described struct {
	mu     sync.Mutex // guards byName
	byName map[string]metadata.Metadata
}

func (d *described) put(name string, m metadata.Metadata) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, known := d.byName[name]; !known && len(d.byName) >= maxDescribed {
		return
	}
	if d.byName == nil {
		d.byName = map[string]metadata.Metadata{}
	}
	d.byName[strings.Clone(name)] = m
}

func (d *described) get(name string) (metadata.Metadata, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m, ok := d.byName[name]
	for _, end := range []string{"_bucket", "_count", "_sum"} {
		if base, cut := strings.CutSuffix(name, end); !ok && cut {
			m, ok = d.byName[base]
		}
	}
	return m, ok
}

// encode makes the body of a request in the version that the engine is sent.
func (e *Engine) encode(req *prompb.WriteRequest) ([]byte, error) {
	if e.cfg.Version != version2 {
		return req.Marshal()
	}
	symbols := writev2.NewSymbolTable()
	refs := func(list []prompb.Label) []uint32 {
		out := make([]uint32, 0, 2*len(list))
		for _, l := range list {
			out = append(out, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
		}
		return out
	}
	out := &writev2.Request{Timeseries: make([]writev2.TimeSeries, 0, len(req.Timeseries))}
	for _, ts := range req.Timeseries {
		x := writev2.TimeSeries{LabelsRefs: refs(ts.Labels)}
		for _, s := range ts.Samples {
			x.Samples = append(x.Samples, writev2.Sample{Timestamp: s.Timestamp, Value: s.Value})
		}
		for _, h := range ts.Histograms {
			if h.IsFloatHistogram() {
				x.Histograms = append(x.Histograms, writev2.FromFloatHistogram(h.Timestamp, h.ToFloatHistogram()))
			} else {
				x.Histograms = append(x.Histograms, writev2.FromIntHistogram(h.Timestamp, h.ToIntHistogram()))
			}
		}
		for _, s := range ts.Exemplars {
			x.Exemplars = append(x.Exemplars, writev2.Exemplar{LabelsRefs: refs(s.Labels), Value: s.Value, Timestamp: s.Timestamp})
		}
		for _, l := range ts.Labels {
			if l.Name != model.MetricName {
				continue
			}
			if m, ok := e.metadata.get(l.Value); ok {
				x.Metadata = writev2.Metadata{Type: writev2.FromMetadataType(m.Type), HelpRef: symbols.Symbolize(m.Help), UnitRef: symbols.Symbolize(m.Unit)}
			}
		}
		if len(x.Samples)+len(x.Histograms) > 0 { // an exemplar alone is no series of version 2
			out.Timeseries = append(out.Timeseries, x)
		}
	}
	out.Symbols = symbols.Symbols()
	return out.Marshal()
}

// mark names the version in the head of a request.
func (e *Engine) mark(h http.Header) {
	if e.cfg.Version == version2 {
		h.Set("Content-Type", typeV2)
		h.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
		return
	}
	h.Set("Content-Type", typeV1)
	h.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
}

// understood looks whether an engine that says that all is well has stored
// anything: one that does not know version 2 takes the message for an empty one.
func (e *Engine) understood(h http.Header) error {
	if e.cfg.Version != version2 {
		return nil
	}
	if _, err := strconv.ParseUint(h.Get("X-Prometheus-Remote-Write-Samples-Written"), 10, 64); err != nil {
		return fmt.Errorf("the engine does not say how many samples it has stored: it does not understand remote write 2; send version 1")
	}
	return nil
}
