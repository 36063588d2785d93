//go:build e2e

package remotewrite

import (
	"fmt"
	"math"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/stretchr/testify/require"

	"panoptes/internal/remote"
)

// We send to the receiver of a real Prometheus, in both versions: floats,
// native histograms, exemplars, stale markers, the same once more, and a part
// that it refuses.
func TestWeWriteToPrometheus(t *testing.T) {
	for version := 1; version <= 2; version++ {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			base := startPrometheus(t, map[string]any{"storage": map[string]any{"tsdb": map[string]any{"out_of_order_time_window": "1h"}}}, "--web.enable-remote-write-receiver")
			e, err := remote.New(remote.Config{WriteURL: base + "/api/v1/write", QueryURL: base, Version: version}, remote.Deps{})
			require.NoError(t, err)
			defer e.Close()
			end := time.Now().Truncate(time.Second)
			const instants = 30
			send := func() {
				app := e.Appender(t.Context())
				for i := range instants {
					at := end.Add(time.Duration(i-instants) * time.Second).UnixMilli()
					for s := range 10 {
						l := labels.FromStrings("__name__", "sent_total", "s", fmt.Sprint(s))
						ref, err := app.Append(0, l, at, float64(i*s))
						require.NoError(t, err)
						_, err = app.AppendExemplar(ref, l, exemplar.Exemplar{Labels: labels.FromStrings("trace_id", fmt.Sprint(i)), Value: 1, Ts: at, HasTs: true})
						require.NoError(t, err)
						_, err = app.UpdateMetadata(ref, l, metadata.Metadata{Type: model.MetricTypeCounter, Help: "What was sent."})
						require.NoError(t, err)
					}
					_, err := app.AppendHistogram(0, labels.FromStrings("__name__", "sent_histogram"), at, &histogram.Histogram{
						Schema: 1, Count: uint64(2 * (i + 1)), Sum: 5, PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{int64(2 * (i + 1))},
					}, nil)
					require.NoError(t, err)
				}
				_, err := app.Append(0, labels.FromStrings("__name__", "sent_total", "s", "0"), end.UnixMilli(), math.Float64frombits(value.StaleNaN))
				require.NoError(t, err)
				require.NoError(t, app.Commit())
			}
			send()
			require.EqualValues(t, 10*instants, number(t, base, "sum(count_over_time(sent_total[5m]))"))
			require.EqualValues(t, instants, number(t, base, "count_over_time(sent_histogram[5m])"))
			require.EqualValues(t, 9, number(t, base, "count(sent_total)"), "one is stale")
			got, err := ask(base, "/api/v1/query_exemplars", url.Values{"query": {"sent_total"}, "start": {fmt.Sprint(end.Add(-time.Hour).Unix())}, "end": {fmt.Sprint(end.Unix())}})
			require.NoError(t, err)
			require.Contains(t, got, "trace_id")
			require.Zero(t, e.Status().Refused, e.Status().Example)

			send() // as after a crash before the cursor was saved
			require.EqualValues(t, 10*instants, number(t, base, "sum(count_over_time(sent_total[5m]))"), "nothing is there twice")

			app := e.Appender(t.Context())
			for i, at := range []time.Time{end.Add(-3 * time.Second), end.Add(-10 * time.Hour), end.Add(-2 * time.Second)} {
				_, err := app.Append(0, labels.FromStrings("__name__", "partly", "i", fmt.Sprint(i)), at.UnixMilli(), 1)
				require.NoError(t, err)
			}
			require.NoError(t, app.Commit(), "what is refused for good must not keep the rest waiting")
			st := e.Status()
			require.EqualValues(t, 1, st.Refused, st.Example)
			require.Contains(t, st.Example, `i="1"`)
			require.EqualValues(t, 2, number(t, base, `sum(count_over_time(partly[5m]))`))
		})
	}
}
