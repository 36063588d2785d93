package store_test

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/testutil"

	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// closable is a store as the scripts of PromQL want it.
type closable struct {
	*store.Store
	stop func()
}

func (c closable) Close() error {
	c.stop()
	return nil
}

func TestPromQLScripts(t *testing.T) {
	engine := promqltest.NewTestEngineWithOpts(t, promql.EngineOpts{
		MaxSamples:               promqltest.DefaultMaxSamplesPerQuery,
		Timeout:                  100 * time.Minute,
		NoStepSubqueryIntervalFn: func(int64) int64 { return time.Minute.Milliseconds() },
		EnableAtModifier:         true,
		EnableNegativeOffset:     true,
		EnableDelayedNameRemoval: true,
	})
	promqltest.RunBuiltinTestsWithStorage(t, engine, func(tt testutil.T) storage.Storage {
		s, stop := storetest.Start(t, store.Config{}, store.Deps{})
		return closable{s, stop}
	})
}
