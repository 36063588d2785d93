package harness

import (
	"net/http"
	"strconv"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
)

// RemoteWrite sends one sample of each of n series by remote write 1 and
// returns the status, 0 when there was no answer.
func RemoteWrite(s *Server, name string, n int, at time.Time, value float64) int {
	req := prompb.WriteRequest{Timeseries: make([]prompb.TimeSeries, n)}
	for i := range n {
		req.Timeseries[i] = prompb.TimeSeries{
			Labels:  []prompb.Label{{Name: "__name__", Value: name}, {Name: "i", Value: strconv.Itoa(i)}},
			Samples: []prompb.Sample{{Timestamp: at.UnixMilli(), Value: value}},
		}
	}
	data, err := req.Marshal()
	if err != nil {
		return 0
	}
	code, _, err := s.Do(http.MethodPost, "/api/v1/write", snappy.Encode(nil, data),
		"Content-Type", "application/x-protobuf", "Content-Encoding", "snappy", "X-Prometheus-Remote-Write-Version", "0.1.0")
	if err != nil {
		return 0
	}
	return code
}
