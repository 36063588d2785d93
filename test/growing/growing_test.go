//go:build e2e

package growing

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/backup"
	"panoptes/internal/model"
	"panoptes/internal/relay"
	"panoptes/internal/remote"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
	"panoptes/internal/wire"
	"panoptes/test/harness"
)

const patience = time.Minute

type noEvents struct{}

func (noEvents) Append(context.Context, ...model.Event) error { return nil }

// server is a store, a relay and the way to an engine outside.
type server struct {
	relay  *relay.Relay
	engine *remote.Engine
	stop   func()
}

func newServer(t testing.TB, dir string, s *store.Store, cfg remote.Config) *server {
	t.Helper()
	engine, err := remote.New(cfg, remote.Deps{})
	require.NoError(t, err)
	r, err := relay.New(relay.Config{Dir: dir, NodeID: "n1", MinFreeBytes: -1}, relay.Deps{
		Store: s, Events: noEvents{}, Dial: func(string) (wire.Conn, error) { return nil, model.ErrUnavailable },
		Outside: map[string]relay.Outside{"engine": engine},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	ended := false
	v := &server{relay: r, engine: engine, stop: func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(t, <-done)
			engine.Close()
		}
	}}
	t.Cleanup(v.stop)
	return v
}

// write appends one instant of some series as soon as the log takes it.
func (v *server) write(t testing.TB, n int, at time.Time) {
	t.Helper()
	b := make(model.Batch, n)
	for i := range b {
		b[i] = model.Sample{Labels: labels.FromStrings("__name__", "growing", "i", fmt.Sprint(i)), T: at.UnixMilli(), V: 1}
	}
	require.Eventually(t, func() bool { return v.relay.Append(t.Context(), b) == nil }, patience, time.Millisecond)
}

// sent waits until the engine has everything.
func (v *server) sent(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return v.relay.Destinations()[0].Bytes == 0 }, patience, 20*time.Millisecond)
	require.Zero(t, v.engine.Status().Refused, v.engine.Status().Example)
}

const (
	seriesCount = 500
	instants    = 40
	total       = seriesCount * instants
	countAll    = "sum(count_over_time(growing[1h]))"
)

// exercise writes while the engine is there, while it is away, and across a
// restart of the server; then the engine has every sample once and answers
// through the server.
func exercise(t *testing.T, cfg remote.Config, away func() (back func())) {
	s := storetest.New(t, store.Config{})
	dir := t.TempDir()
	first := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	at := func(i int) time.Time { return first.Add(time.Duration(i) * 10 * time.Second) }
	v := newServer(t, dir, s, cfg)
	for i := range instants / 4 {
		v.write(t, seriesCount, at(i))
	}
	v.sent(t)
	back := away()
	for i := instants / 4; i < instants/2; i++ {
		v.write(t, seriesCount, at(i))
	}
	require.Eventually(t, func() bool { return v.engine.Err() != nil }, patience, 10*time.Millisecond)
	require.NotEmpty(t, v.relay.Destinations()[0].LastErr)
	v.stop()
	v = newServer(t, dir, s, cfg)
	for i := instants / 2; i < instants; i++ {
		v.write(t, seriesCount, at(i))
	}
	back()
	v.sent(t)

	front := httptest.NewServer(v.engine.Handler())
	defer front.Close()
	require.Eventually(t, func() bool {
		n, err := ask(front.URL, countAll, at(instants))
		return err == nil && n == total
	}, patience, 100*time.Millisecond)
	require.EqualValues(t, seriesCount, value(t, front.URL, "sum(growing)", at(instants-1)))
}

func TestPrometheusAsEngine(t *testing.T) {
	addr, dir := harness.FreeAddr(t, "127.0.0.1"), t.TempDir()
	base, stop := prometheus(t, addr, dir)
	exercise(t, remote.Config{WriteURL: base + "/api/v1/write", QueryURL: base}, func() func() {
		stop()
		return func() { prometheus(t, addr, dir) }
	})
}

func TestThanosAsEngine(t *testing.T) {
	dir := t.TempDir()
	grpc, web, write, queryWeb, queryGRPC := harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1")
	receive := func() func() {
		return start(t, "thanos", "http://"+web+"/-/ready", "receive", "--tsdb.path="+dir, "--grpc-address="+grpc, "--http-address="+web,
			"--remote-write.address="+write, "--label=receive=\"r1\"", "--tsdb.out-of-order.time-window=1h", "--receive.local-endpoint="+grpc)
	}
	stop := receive()
	start(t, "thanos", "http://"+queryWeb+"/-/ready", "query", "--http-address="+queryWeb, "--grpc-address="+queryGRPC, "--endpoint="+grpc, "--query.replica-label=replica")
	exercise(t, remote.Config{WriteURL: "http://" + write + "/api/v1/receive", QueryURL: "http://" + queryWeb, Headers: map[string]model.Secret{"THANOS-TENANT": "site"}}, func() func() {
		stop()
		return func() { receive() }
	})
}

// Blocks that were uploaded are read by Thanos' own store and query.
func TestThanosReadsUploadedBlocks(t *testing.T) {
	kinds := map[string]func(*testing.T) string{
		"filesystem": func(t *testing.T) string {
			return fmt.Sprintf("type: FILESYSTEM\nconfig:\n  directory: %s\n", t.TempDir())
		},
		"s3": func(t *testing.T) string {
			mem := s3mem.New()
			require.NoError(t, mem.CreateBucket("metrics"))
			srv := httptest.NewServer(gofakes3.New(mem).Server())
			t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
			return fmt.Sprintf("type: S3\nconfig:\n  bucket: metrics\n  endpoint: %s\n  insecure: true\n  access_key: a\n  secret_key: b\n  region: us-east-1\n  bucket_lookup_type: path\n",
				strings.TrimPrefix(srv.URL, "http://"))
		},
	}
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			conf := kind(t)
			bucket, err := backup.NewBucket([]byte(conf))
			require.NoError(t, err)
			defer bucket.Close()
			// Two servers with the same samples: readers join them by the label.
			end := time.Now().Truncate(time.Minute)
			var newest int64
			for _, replica := range []string{"n1", "n2"} {
				dir := t.TempDir()
				u, err := backup.NewUploader(backup.UploadConfig{StateFile: filepath.Join(dir, "upload.json"), Labels: map[string]string{"cluster": "c1", "replica": replica}},
					backup.UploadDeps{Bucket: bucket})
				require.NoError(t, err)
				s := storetest.NewWith(t, store.Config{Dir: filepath.Join(dir, "tsdb")}, store.Deps{HoldBlock: u.Hold})
				app := s.Appender(t.Context())
				for at := end.Add(-8 * time.Hour); !at.After(end); at = at.Add(time.Minute) {
					for i := range 10 {
						_, err := app.Append(0, labels.FromStrings("__name__", "growing", "i", fmt.Sprint(i)), at.UnixMilli(), float64(at.Unix()/60))
						require.NoError(t, err)
					}
				}
				require.NoError(t, app.Commit())
				require.NoError(t, s.Compact(t.Context()))
				u.Follow(s)
				require.NoError(t, u.Upload(t.Context()))
				blocks, err := s.Blocks()
				require.NoError(t, err)
				require.GreaterOrEqual(t, len(blocks), 2)
				for _, b := range blocks {
					newest = max(newest, b.MaxTime)
				}
			}
			file := filepath.Join(t.TempDir(), "bucket.yml")
			require.NoError(t, os.WriteFile(file, []byte(conf), 0o600))
			grpc, web, queryWeb, queryGRPC := harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1"), harness.FreeAddr(t, "127.0.0.1")
			start(t, "thanos", "http://"+web+"/-/ready", "store", "--data-dir="+t.TempDir(), "--objstore.config-file="+file, "--grpc-address="+grpc, "--http-address="+web,
				"--consistency-delay=0s", "--ignore-deletion-marks-delay=0s")
			start(t, "thanos", "http://"+queryWeb+"/-/ready", "query", "--http-address="+queryWeb, "--grpc-address="+queryGRPC, "--endpoint="+grpc, "--query.replica-label=replica")
			base := "http://" + queryWeb
			last := time.UnixMilli(newest).Add(-time.Minute)
			require.Eventually(t, func() bool {
				n, err := ask(base, "count(growing)", last)
				return err == nil && n == 10
			}, patience, 200*time.Millisecond, "two replicas count once")
			require.EqualValues(t, last.Unix()/60, value(t, base, `growing{i="3",cluster="c1"}`, last))
			require.EqualValues(t, 10*60, value(t, base, "sum(count_over_time(growing[1h]))", last))
			http.DefaultClient.CloseIdleConnections()
		})
	}
}
