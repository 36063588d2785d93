//go:build e2e

package promql

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/storage"
)

// sender writes by remote write, version 1, what is appended.
type sender struct {
	storage.Appender
	url    string
	key    string // "" = none is sent
	series map[string]*prompb.TimeSeries
}

func (s *sender) of(l labels.Labels) *prompb.TimeSeries {
	if s.series == nil {
		s.series = map[string]*prompb.TimeSeries{}
	}
	ts := s.series[l.String()]
	if ts == nil {
		ts = &prompb.TimeSeries{Labels: prompb.FromLabels(l, nil)}
		s.series[l.String()] = ts
	}
	return ts
}

func (s *sender) Append(_ storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	ts := s.of(l)
	ts.Samples = append(ts.Samples, prompb.Sample{Timestamp: t, Value: v})
	return 0, nil
}

func (s *sender) AppendHistogram(_ storage.SeriesRef, l labels.Labels, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) (storage.SeriesRef, error) {
	ts := s.of(l)
	var out prompb.Histogram // its makers leave the bounds out
	if h != nil {
		out = prompb.FromIntHistogram(t, h)
		out.CustomValues = h.CustomValues
	} else {
		out = prompb.FromFloatHistogram(t, fh)
		out.CustomValues = fh.CustomValues
	}
	ts.Histograms = append(ts.Histograms, out)
	return 0, nil
}

func (s *sender) Rollback() error { return nil }

func (s *sender) Commit() error {
	var req prompb.WriteRequest
	for _, ts := range s.series {
		req.Timeseries = append(req.Timeseries, *ts)
	}
	raw, err := req.Marshal()
	if err != nil {
		return err
	}
	post, err := http.NewRequest(http.MethodPost, s.url, bytes.NewReader(snappy.Encode(nil, raw)))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/x-protobuf")
	post.Header.Set("Content-Encoding", "snappy")
	post.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if s.key != "" {
		post.Header.Set("Authorization", "Bearer "+s.key)
	}
	res, err := http.DefaultClient.Do(post)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	if res.StatusCode/100 != 2 {
		err = errors.Join(err, fmt.Errorf("remote write: %d %s", res.StatusCode, body))
	}
	return errors.Join(err, res.Body.Close())
}
