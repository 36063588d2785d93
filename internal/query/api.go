package query

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"time"

	"github.com/grafana/regexp"
	"github.com/prometheus/common/route"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
	v1 "github.com/prometheus/prometheus/web/api/v1"

	"panoptes/internal/model"
)

// engineVersion is the Prometheus whose engine and API this is (module v0.309.1):
// data sources look at it to know what they may ask.
const engineVersion = "3.9.1"

// prometheusAPI makes the library's API. Which of its routes are reachable is
// decided in routes.
func (q *Query) prometheusAPI(registry features.Collector) http.Handler {
	empty := none{}
	d := q.deps
	if d.ScrapePools == nil {
		d.ScrapePools = func(context.Context) v1.ScrapePoolsRetriever { return empty }
	}
	if d.Targets == nil {
		d.Targets = func(context.Context) v1.TargetRetriever { return empty }
	}
	if d.Alertmanagers == nil {
		d.Alertmanagers = func(context.Context) v1.AlertmanagerRetriever { return empty }
	}
	if d.Rules == nil {
		d.Rules = func(context.Context) v1.RulesRetriever { return empty }
	}
	if d.RuntimeInfo == nil {
		started := time.Now()
		d.RuntimeInfo = func() (v1.RuntimeInfo, error) { return runtimeInfo(started), nil }
	}
	if d.BuildInfo == nil {
		d.BuildInfo = &v1.PrometheusVersion{Version: engineVersion, GoVersion: runtime.Version()}
	}
	if d.Flags == nil {
		d.Flags = map[string]string{}
	}
	api := v1.NewAPI(
		&front{q},
		q.store,
		nil, // appendable: package ingest writes
		q.store,
		d.ScrapePools,
		d.Targets,
		d.Alertmanagers,
		q.config,
		d.Flags,
		v1.GlobalURLOptions{ListenAddress: "localhost:0", Host: "localhost", Scheme: "http"}, // a target on localhost stays what it is: it is the host of whoever scrapes it
		func(f http.HandlerFunc) http.HandlerFunc { return f },                               // routes asks whether we are ready
		d.Stats,
		"",    // directory, for admin calls only
		false, // admin calls
		q.log,
		d.Rules,
		q.cfg.MaxSamples,         // remote read: samples
		q.cfg.MaxConcurrent,      // remote read: concurrent
		1<<20,                    // remote read: bytes in a frame
		false,                    // agent mode
		regexp.MustCompile("^$"), // origins that may read across sites: none
		d.RuntimeInfo,
		d.BuildInfo,
		func() []notifications.Notification { return []notifications.Notification{} },
		func() (<-chan notifications.Notification, func(), bool) { return nil, func() {}, false },
		d.Gatherer,
		nil,   // registerer of the remote read handler: routes makes its own
		nil,   // statistics renderer: the default
		false, // remote write
		nil,   // its messages
		false, // OTLP
		false, // OTLP: delta to cumulative
		false, // OTLP: native delta
		false, // start timestamps as zero samples
		q.cfg.Lookback,
		false, // type and unit labels
		false, // metadata
		errorCode,
		registry,
	)
	r := route.New().WithPrefix("/api/v1")
	api.Register(r)
	return r
}

// config is the part of Prometheus' configuration that its handlers look at.
func (q *Query) config() config.Config {
	c := config.DefaultConfig
	c.GlobalConfig.ExternalLabels = q.cfg.ExternalLabels
	return c
}

// errorCode maps our own kinds of error; all others keep Prometheus' codes. The
// type parameter stands for the library's unexported number of the error.
func errorCode[N any](_ N, err error) (int, bool) {
	switch {
	case errors.Is(err, model.ErrUnavailable):
		return http.StatusServiceUnavailable, true
	case errors.Is(err, model.ErrLimit):
		return http.StatusUnprocessableEntity, true
	}
	return 0, false
}

func runtimeInfo(started time.Time) v1.RuntimeInfo {
	host, _ := os.Hostname() // only shown
	return v1.RuntimeInfo{
		StartTime:           started,
		Hostname:            host,
		ServerTime:          time.Now().UTC(),
		ReloadConfigSuccess: true,
		LastConfigTime:      started,
		GoroutineCount:      runtime.NumGoroutine(),
		GOMAXPROCS:          runtime.GOMAXPROCS(0),
	}
}

// none answers for parts that this process does not have.
type none struct{}

func (none) ScrapePools() []string                       { return []string{} }
func (none) TargetsActive() map[string][]*scrape.Target  { return nil }
func (none) TargetsDropped() map[string][]*scrape.Target { return nil }
func (none) TargetsDroppedCounts() map[string]int        { return map[string]int{} }
func (none) Alertmanagers() []*url.URL                   { return nil }
func (none) DroppedAlertmanagers() []*url.URL            { return nil }
func (none) RuleGroups() []*rules.Group                  { return nil }
func (none) AlertingRules() []*rules.AlertingRule        { return nil }
func (none) ScrapePoolConfig(string) (*config.ScrapeConfig, error) {
	return nil, errors.New("there are no scrape pools")
}
