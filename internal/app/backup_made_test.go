package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"panoptes/internal/backup"
	"panoptes/internal/model"
)

// A backup that has begun is finished although nobody waits for the answer, and
// ends with the server. The first one is made for somebody who sees its key.
func TestBackupNobodyWaitsFor(t *testing.T) {
	dir := t.TempDir()
	bucket, err := backup.NewBucket(fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", t.TempDir()))
	require.NoError(t, err)
	defer bucket.Close()
	during := func(context.Context) {}
	a := &App{bucket: bucket, events: newRecorder(func(context.Context, ...model.Event) error { return nil }, slog.New(slog.DiscardHandler), prometheus.NewRegistry())}
	b := &backups{app: a}
	b.life, b.end = context.WithCancel(context.Background())
	b.maker, err = backup.NewMaker(backup.Live{DataDir: dir, Bucket: bucket,
		Control: func(_ context.Context, w io.Writer) (int64, error) {
			_, err := io.WriteString(w, "x")
			return 1, err
		},
		Samples: func(string) error { return nil },
		Events: func(ctx context.Context, path string) (int64, error) {
			during(ctx)
			return 0, os.WriteFile(path, nil, 0o600)
		},
	})
	require.NoError(t, err)

	left, leave := context.WithCancel(t.Context())
	during = func(context.Context) { leave() }
	_, err = b.Make(left, "me")
	require.Error(t, err, "nobody would see the key")
	require.NoFileExists(t, filepath.Join(dir, backup.PublicKeyName))

	during = func(context.Context) {}
	made, err := b.Make(t.Context(), "me")
	require.NoError(t, err)
	require.NotEmpty(t, made.RecoveryKey)

	left, leave = context.WithCancel(t.Context())
	during = func(context.Context) { leave() }
	_, err = b.Make(left, "me")
	require.NoError(t, err)
	list, err := backup.List(t.Context(), bucket)
	require.NoError(t, err)
	require.Len(t, list, 2)

	during = func(ctx context.Context) {
		b.end()
		<-ctx.Done()
	}
	_, err = b.Make(t.Context(), "me")
	require.Error(t, err, "the server stops")
}
