package promql

import (
	"context"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/prometheus/prometheus/util/testutil"
	"github.com/stretchr/testify/require"

	"panoptes/internal/query"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// oneServer is a store and its HTTP API, which keeps answers.
func oneServer(t testing.TB) *pair {
	s, stop := storetest.Start(t, store.Config{ScrubRate: -1}, store.Deps{Sync: func(*os.File) error { return nil }}) // power stays on
	q, err := query.New(query.Config{CacheBytes: 8 << 20}, query.Deps{Storage: s, Versions: s})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	web := httptest.NewServer(q.Handler())
	p := &pair{Storage: teststorage.New(t), write: s.Appender}
	p.ask = append(p.ask, over(web.Client(), web.URL, ""))
	p.close = func() {
		web.Close()
		cancel()
		require.NoError(t, <-ended)
		stop()
	}
	return p
}

// TestScripts runs the scripts that come with Prometheus' engine. All of their
// queries are asked of a server over HTTP as well.
func TestScripts(t *testing.T) {
	c := newChecking()
	promqltest.RunBuiltinTestsWithStorage(t, c, func(testutil.T) storage.Storage { return oneServer(t) })
	t.Logf("%d queries over HTTP, of them %d judged with late removal of names", c.asked.Load(), c.byLate.Load())
	require.Greater(t, c.asked.Load(), int64(1000))
}
