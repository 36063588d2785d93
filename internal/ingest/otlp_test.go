package ingest_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/pmetric"
	"go.opentelemetry.io/collector/pdata/pmetric/pmetricotlp"

	"panoptes/internal/ingest"
	"panoptes/internal/model"
)

const otlpPath = "/api/v1/otlp/v1/metrics"

// shop is what a program sends: all kinds of metrics of one resource.
func shop(at time.Time, delta bool) pmetric.Metrics {
	md := pmetric.NewMetrics()
	rm := md.ResourceMetrics().AppendEmpty()
	for k, v := range map[string]string{"service.name": "shop", "service.namespace": "eu", "service.instance.id": "i-1", "k8s.pod.name": "shop-7", "os.type": "linux"} {
		rm.Resource().Attributes().PutStr(k, v)
	}
	sm := rm.ScopeMetrics().AppendEmpty()
	sm.Scope().SetName("library")
	now, start := pcommon.NewTimestampFromTime(at), pcommon.NewTimestampFromTime(at.Add(-time.Minute))
	add := func(name, unit string) pmetric.Metric {
		m := sm.Metrics().AppendEmpty()
		m.SetName(name)
		m.SetUnit(unit)
		m.SetDescription("About " + name)
		return m
	}
	sum := add("http.requests", "1").SetEmptySum()
	sum.SetIsMonotonic(true)
	sum.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	p := sum.DataPoints().AppendEmpty()
	p.SetIntValue(7)
	p.SetTimestamp(now)
	p.SetStartTimestamp(start)
	p.Attributes().PutStr("http.method", "GET")
	x := p.Exemplars().AppendEmpty()
	x.SetTimestamp(now)
	x.SetDoubleValue(1)
	x.SetTraceID(pcommon.TraceID{1})
	g := add("room.temperature", "Cel").SetEmptyGauge().DataPoints().AppendEmpty()
	g.SetDoubleValue(21.5)
	g.SetTimestamp(now)
	h := add("http.duration", "s").SetEmptyHistogram()
	h.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	hp := h.DataPoints().AppendEmpty()
	hp.SetTimestamp(now)
	hp.SetStartTimestamp(start)
	hp.SetCount(3)
	hp.SetSum(4)
	hp.ExplicitBounds().FromRaw([]float64{1, 2})
	hp.BucketCounts().FromRaw([]uint64{1, 1, 1})
	e := add("http.size", "By").SetEmptyExponentialHistogram()
	e.SetAggregationTemporality(pmetric.AggregationTemporalityCumulative)
	ep := e.DataPoints().AppendEmpty()
	ep.SetTimestamp(now)
	ep.SetScale(2)
	ep.SetCount(2)
	ep.SetSum(3)
	ep.Positive().BucketCounts().FromRaw([]uint64{1, 1})
	if delta {
		d := add("delta.jobs", "1").SetEmptySum()
		d.SetAggregationTemporality(pmetric.AggregationTemporalityDelta)
		dp := d.DataPoints().AppendEmpty()
		dp.SetTimestamp(now)
		dp.SetIntValue(3)
	}
	return md
}

func otlpBodies(t testing.TB, md pmetric.Metrics) map[string][]byte {
	t.Helper()
	req := pmetricotlp.NewExportRequestFromMetrics(md)
	binary, err := req.MarshalProto()
	require.NoError(t, err)
	text, err := req.MarshalJSON()
	require.NoError(t, err)
	return map[string][]byte{"application/x-protobuf": binary, "application/json": text}
}

func setText[T ~string](to *T, text string) { *to = T(text) }

// What OTLP stores is what Prometheus' own handler does with the same settings.
func TestOTLPStoresWhatPrometheusStores(t *testing.T) {
	at := time.Now()
	for kind, body := range otlpBodies(t, shop(at, false)) {
		for name, o := range map[string]ingest.OTLP{
			"default": {}, "promoted": {PromoteAttributes: []string{"k8s.pod.name", "service.name"}, KeepIdentifying: true},
			"scope": {PromoteScopeMetadata: true}, "untranslated": {Translation: "NoTranslation"}, "no suffixes": {Translation: "UnderscoreEscapingWithoutSuffixes"},
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				theirDB, ourDB := openDB(t), openDB(t)
				conf := config.DefaultConfig
				conf.OTLPConfig.PromoteResourceAttributes, conf.OTLPConfig.KeepIdentifyingResourceAttributes = o.PromoteAttributes, o.KeepIdentifying
				conf.OTLPConfig.PromoteScopeMetadata = o.PromoteScopeMetadata
				if o.Translation != "" {
					setText(&conf.OTLPConfig.TranslationStrategy, o.Translation)
				}
				theirs := remote.NewOTLPWriteHandler(slog.New(slog.DiscardHandler), nil, theirDB, func() config.Config { return conf },
					remote.OTLPOptions{LookbackDelta: 5 * time.Minute, IngestSTZeroSample: true})
				ours, _ := newHandler(t, ingest.Config{OTLP: o}, ourDB)
				for _, h := range []http.Handler{theirs, ours} {
					w := post(h, otlpPath, kind, body)
					require.Equal(t, 200, w.Code, w.Body)
				}
				want := dump(t, theirDB)
				if diff := cmp.Diff(want, dump(t, ourDB)); diff != "" {
					t.Fatalf("stored data differ (-theirs +ours):\n%s", diff)
				}
				require.Contains(t, strings.Join(want, "\n"), "target_info")
				require.Greater(t, len(want), 10)
			})
		}
	}
}

// Deltas are refused: servers that take turns would each see a part of them.
// The rest of the message is stored, and the answer names them.
func TestOTLPDeltas(t *testing.T) {
	for kind, body := range otlpBodies(t, shop(time.Now(), true)) {
		db := openDB(t)
		h, _ := newHandler(t, ingest.Config{}, db)
		w := post(h, otlpPath, kind, body)
		require.Equal(t, 400, w.Code, w.Body)
		require.Contains(t, w.Body.String(), "delta.jobs")
		stored := strings.Join(dump(t, db), "\n")
		require.Contains(t, stored, "http_requests_total")
		require.NotContains(t, stored, "delta_jobs")
	}
	h, _ := newHandler(t, ingest.Config{}, failing{openDB(t), model.ErrNoSpace})
	for kind, body := range otlpBodies(t, shop(time.Now(), true)) {
		require.Equal(t, 507, post(h, otlpPath, kind, body).Code, "the storage's own fault comes first")
	}
}

func TestOTLPSettings(t *testing.T) {
	for _, o := range []ingest.OTLP{{Translation: "Esperanto"}, {PromoteAttributes: []string{""}}, {PromoteAttributes: []string{"a", "a"}}} {
		_, err := ingest.New(ingest.Config{OTLP: o}, ingest.Deps{Appendable: openDB(t)})
		require.ErrorContains(t, err, "otlp.")
	}
}
