// Package ingest takes samples from strangers: remote write 1 and 2 and OTLP.
// Remote write has a path of its own that finds a known series by the bytes of
// its labels; OTLP goes through Prometheus' handler. Everything is
// bounded before it is decoded.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"

	"panoptes/internal/model"
)

// Config bounds what a request may cost. Zero values mean the default.
type Config struct {
	MaxBody            int           // bytes of a request as sent; default 8 MiB
	MaxDecoded         int           // bytes after decompression; default 32 MiB
	MaxRatio           int           // decompressed bytes per byte sent; default 100
	MaxInFlight        int64         // bytes of all requests being read and stored; default 256 MiB
	MaxLabels          int           // labels of a series, the name included; default 64
	MaxLabelName       int           // bytes; default 200
	MaxLabelValue      int           // bytes; default 2,048
	MaxSeriesPerSource int           // series that one source may have active; default 50,000
	MaxKnownSeries     int           // series remembered between requests, for all sources; half of it is sure to be while in use; default 4 million
	ActiveWindow       time.Duration // a series not written for one to two of these is no longer active; default 30 min
	MaxAhead           time.Duration // how far a sample's time may lie in the future; default 10 min
	MaxNewPerMinute    int           // series that the storage does not know, from one source; default 30,000, or 3/5 of MaxSeriesPerSource
	MaxSampleRate      int           // samples per second of one source, averaged over 10 s; 0 = no limit
	ClusterLabel       string        // names what several replicas measure; default "cluster"
	ReplicaLabel       string        // tells those replicas apart and is not stored; default "__replica__"
	ReplicaSilence     time.Duration // after which another replica is stored; default 30 s
	OTLP               OTLP
}

// OTLP is how OpenTelemetry's names and resources become labels; the fields
// mean what they mean in Prometheus' configuration.
type OTLP struct {
	PromoteAttributes    []string // attributes of the resource that become labels of each of its series
	KeepIdentifying      bool     // service.name, service.namespace and service.instance.id stay in target_info, too
	PromoteScopeMetadata bool     // name, version and attributes of the scope become labels
	Translation          string   // default UnderscoreEscapingWithSuffixes
}

// config makes Prometheus' own of it.
func (o *OTLP) config() (config.Config, error) {
	c := config.DefaultConfig
	x := &c.OTLPConfig
	x.KeepIdentifyingResourceAttributes, x.PromoteScopeMetadata = o.KeepIdentifying, o.PromoteScopeMetadata
	for i, name := range o.PromoteAttributes {
		name = strings.TrimSpace(name)
		if name == "" || slices.Contains(x.PromoteResourceAttributes, name) {
			return c, model.Invalid{{Field: model.Index("otlp.promote_attributes", i), Msg: "must be the name of an attribute, each once"}}
		}
		x.PromoteResourceAttributes = append(x.PromoteResourceAttributes, name)
	}
	switch o.Translation {
	case "":
		return c, nil
	case "UnderscoreEscapingWithSuffixes", "UnderscoreEscapingWithoutSuffixes", "NoUTF8EscapingWithSuffixes", "NoTranslation":
		setText(&x.TranslationStrategy, o.Translation)
		return c, nil
	}
	return c, model.Invalid{{Field: "otlp.translation", Msg: "must be UnderscoreEscapingWithSuffixes, UnderscoreEscapingWithoutSuffixes, NoUTF8EscapingWithSuffixes or NoTranslation"}}
}

func (c *Config) setDefaults() {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&c.MaxBody, 8 << 20}, {&c.MaxDecoded, 32 << 20}, {&c.MaxRatio, 100}, {&c.MaxLabels, 64}, {&c.MaxLabelName, 200},
		{&c.MaxLabelValue, 2048}, {&c.MaxSeriesPerSource, 50_000}, {&c.MaxKnownSeries, 4_000_000},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 256 << 20
	}
	if c.ActiveWindow == 0 {
		c.ActiveWindow = 30 * time.Minute
	}
	if c.MaxAhead == 0 {
		c.MaxAhead = 10 * time.Minute
	}
	if c.MaxNewPerMinute == 0 {
		c.MaxNewPerMinute = max(30_000, c.MaxSeriesPerSource/5*3)
	}
	if c.ClusterLabel == "" {
		c.ClusterLabel = "cluster"
	}
	if c.ReplicaLabel == "" {
		c.ReplicaLabel = "__replica__"
	}
	if c.ReplicaSilence == 0 {
		c.ReplicaSilence = 30 * time.Second
	}
}

func (c *Config) validate() error {
	var inv model.Invalid
	for name, v := range map[string]int64{
		"max_body": int64(c.MaxBody), "max_decoded": int64(c.MaxDecoded), "max_ratio": int64(c.MaxRatio), "max_in_flight": c.MaxInFlight,
		"max_labels": int64(c.MaxLabels), "max_label_name": int64(c.MaxLabelName), "max_label_value": int64(c.MaxLabelValue),
		"max_series_per_source": int64(c.MaxSeriesPerSource), "max_known_series": int64(c.MaxKnownSeries),
		"active_window": int64(c.ActiveWindow), "max_ahead": int64(c.MaxAhead), "max_new_per_minute": int64(c.MaxNewPerMinute),
		"max_sample_rate": int64(c.MaxSampleRate), "replica_silence": int64(c.ReplicaSilence),
	} {
		if v < 0 {
			inv.Add(name, "must not be negative; leave it out for the default")
		}
	}
	if c.ClusterLabel == c.ReplicaLabel {
		inv.Add("replica_label", "must not be the label that names the cluster")
	}
	return inv.Err()
}

func setText[T ~string](to *T, text string) { *to = T(text) }

// Deps are the collaborators of an Ingest. All but Appendable may be nil.
type Deps struct {
	// Appendable stores the samples; its Commit returns when they are safe.
	// Errors that wrap model.ErrNoSpace are answered with 507, ErrUnavailable
	// with 503. A reference it hands out must never come to mean another series.
	Appendable storage.Appendable
	Source     func(context.Context) string // who writes, for the limit per source; nil = all are one
	// Bound returns the labels that who writes is bound to: every series gets
	// them, and one that has other values is refused. nil = none.
	Bound      func(context.Context) labels.Labels
	Broadcast  func([]byte)          // brings news to Merge of the other servers; must not block; nil = there are none
	Registerer prometheus.Registerer // must be the ingest's own, wrapped or not
	Logger     *slog.Logger
}

// Ingest answers the write endpoints.
type Ingest struct {
	cfg          Config
	deps         Deps
	log          *slog.Logger
	metrics      *metrics
	known        *cache // of those who are bound to nothing
	tenants      tenants
	budget       *budget
	sources      *sources
	shared       *shared
	elections    *elections
	descriptions *descriptions
	writers      writerPool
	buffers      bufferPool
	otlp         http.Handler
}

// New makes an Ingest.
func New(cfg Config, deps Deps) (*Ingest, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("ingest limits: %w", err)
	}
	otlp, err := cfg.OTLP.config()
	if err != nil {
		return nil, fmt.Errorf("ingest limits: %w", err)
	}
	if deps.Appendable == nil {
		return nil, errors.New("ingest: nothing given to store samples in")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Source == nil {
		deps.Source = func(context.Context) string { return "" }
	}
	if deps.Bound == nil {
		deps.Bound = func(context.Context) labels.Labels { return labels.EmptyLabels() }
	}
	g := &Ingest{
		cfg: cfg, deps: deps, log: deps.Logger,
		known:        newCache(cfg.MaxKnownSeries, cfg.ActiveWindow),
		tenants:      tenants{byLabels: map[string]*cache{}},
		budget:       &budget{max: cfg.MaxInFlight},
		shared:       &shared{byName: map[tallyKey]*tally{}},
		elections:    newElections(cfg.ReplicaSilence, deps.Broadcast),
		descriptions: &descriptions{byName: map[string]*described{}},
	}
	g.sources = &sources{cfg: &g.cfg, byName: map[string]*source{}}
	g.metrics = newMetrics(deps.Registerer, g.known, g.budget)
	// The handlers' own log lines tell each client's fault as an error; those
	// go to the client and into the counters instead.
	quiet := slog.New(slog.DiscardHandler)
	guarded := &guard{g: g}
	g.otlp = remote.NewOTLPWriteHandler(quiet, deps.Registerer, guarded, func() config.Config { return otlp }, remote.OTLPOptions{LookbackDelta: 5 * time.Minute, IngestSTZeroSample: true, AppendMetadata: true})
	return g, nil
}

// Handler serves POST /api/v1/write and POST /api/v1/otlp/v1/metrics. Who may
// write is checked in front of it: nothing is read before.
func (g *Ingest) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1/write", g.serveWrite)
	mux.HandleFunc("POST /api/v1/otlp/v1/metrics", g.serveOTLP)
	return mux
}
