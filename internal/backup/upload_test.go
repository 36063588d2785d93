package backup_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"
	"github.com/thanos-io/objstore"

	"panoptes/internal/backup"
	"panoptes/internal/model"
	"panoptes/internal/store"
)

// openStore runs a store until the test ends.
func openStore(t testing.TB, dir string, hold func(string, int) bool) *store.Store {
	t.Helper()
	s, err := store.New(store.Config{Dir: dir, MinFreeBytes: -1, ReserveBytes: -1, ScrubRate: -1}, store.Deps{HoldBlock: hold})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	<-s.Ready()
	return s
}

// fill writes some hours of samples up to now, a minute apart, and has blocks made of them.
func fill(t testing.TB, s *store.Store, hours int) (samples int) {
	t.Helper()
	app := s.Appender(t.Context())
	now := time.Now().Truncate(time.Minute)
	for at := now.Add(-time.Duration(hours) * time.Hour); !at.After(now); at = at.Add(time.Minute) {
		for _, host := range []string{"a", "b", "c"} {
			_, err := app.Append(0, labels.FromStrings("__name__", "up", "host", host), at.UnixMilli(), float64(at.Unix()%1000))
			require.NoError(t, err)
			samples++
		}
	}
	require.NoError(t, app.Commit())
	require.NoError(t, s.Compact(t.Context()))
	return samples
}

func newUploader(t testing.TB, b backup.Bucket, blocks backup.Blocks, state string) *backup.Uploader {
	t.Helper()
	u, err := backup.NewUploader(backup.UploadConfig{StateFile: state, Labels: map[string]string{"cluster": "c1", "replica": "n1"}},
		backup.UploadDeps{Bucket: b, Blocks: blocks})
	require.NoError(t, err)
	return u
}

// counting counts what is written.
type counting struct {
	backup.Bucket
	uploads atomic.Int64
	refuse  atomic.Pointer[string] // names with this suffix
	order   []string
}

var errRefused = errors.New("refused")

func (c *counting) Upload(ctx context.Context, name string, r io.Reader, o ...objstore.ObjectUploadOption) error {
	if s := c.refuse.Load(); s != nil && strings.HasSuffix(name, *s) {
		return errRefused
	}
	c.uploads.Add(1)
	c.order = append(c.order, name)
	return c.Bucket.Upload(ctx, name, r, o...)
}

func (c *counting) Delete(context.Context, string) error { panic("the uploader deletes nothing") }

func TestUpload(t *testing.T) {
	eachBucket(t, func(t *testing.T, b backup.Bucket) {
		dir := t.TempDir()
		bucket := &counting{Bucket: b}
		u := newUploader(t, bucket, nil, filepath.Join(dir, "upload.json"))
		s := openStore(t, filepath.Join(dir, "tsdb"), u.Hold)
		u.Follow(s)
		fill(t, s, 14)
		blocks, err := s.Blocks()
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(blocks), 5)
		for _, b := range blocks {
			require.Equal(t, 1, b.Level, "merged before it was uploaded")
		}

		require.NoError(t, u.Upload(t.Context()))
		for _, b := range blocks {
			checkBlock(t, bucket, b)
		}
		st := u.Status()
		require.Equal(t, len(blocks), st.Uploaded)
		require.Zero(t, st.Pending)
		require.Empty(t, st.LastErr)

		// Nothing is sent twice, by this uploader or the next.
		sent := bucket.uploads.Load()
		require.NoError(t, u.Upload(t.Context()))
		require.NoError(t, newUploader(t, bucket, s, filepath.Join(dir, "upload.json")).Upload(t.Context()))
		require.NoError(t, newUploader(t, bucket, s, filepath.Join(dir, "other.json")).Upload(t.Context()))
		require.Equal(t, sent, bucket.uploads.Load())

		// Merging may go on, and its result is not uploaded again.
		require.NoError(t, s.Compact(t.Context()))
		merged, err := s.Blocks()
		require.NoError(t, err)
		require.Less(t, len(merged), len(blocks))
		require.NoError(t, u.Upload(t.Context()))
		require.Equal(t, sent, bucket.uploads.Load())
	})
}

func checkBlock(t *testing.T, b backup.Bucket, want model.Block) {
	t.Helper()
	var meta struct {
		tsdb.BlockMeta
		Thanos struct {
			Version    int
			Labels     map[string]string
			Downsample struct{ Resolution *int64 }
			Source     string
			Files      []struct {
				RelPath   string `json:"rel_path"`
				SizeBytes int64  `json:"size_bytes"`
			}
			UploadTime time.Time `json:"upload_time"`
		}
	}
	require.NoError(t, json.Unmarshal([]byte(content(t, b, want.ID+"/meta.json")), &meta))
	require.Equal(t, want.ID, meta.ULID.String())
	require.Equal(t, want.Samples, meta.Stats.NumSamples)
	require.Equal(t, 1, meta.Version)
	require.Equal(t, 1, meta.Thanos.Version)
	require.Equal(t, map[string]string{"cluster": "c1", "replica": "n1"}, meta.Thanos.Labels)
	require.NotNil(t, meta.Thanos.Downsample.Resolution)
	require.Equal(t, "receive", meta.Thanos.Source)
	require.WithinDuration(t, time.Now(), meta.Thanos.UploadTime, time.Minute)
	var names []string
	for _, f := range meta.Thanos.Files {
		names = append(names, f.RelPath)
		if f.RelPath == "meta.json" {
			continue
		}
		at, err := b.Attributes(t.Context(), want.ID+"/"+f.RelPath)
		require.NoError(t, err)
		require.Equal(t, at.Size, f.SizeBytes, f.RelPath)
	}
	require.Equal(t, []string{"chunks/000001", "index", "meta.json"}, names)
}

func TestUploadGoesOnWhereItEnded(t *testing.T) {
	eachBucket(t, func(t *testing.T, b backup.Bucket) {
		dir := t.TempDir()
		s := openStore(t, filepath.Join(dir, "tsdb"), func(string, int) bool { return true })
		fill(t, s, 5)
		blocks, err := s.Blocks()
		require.NoError(t, err)
		bucket := &counting{Bucket: b}
		u := newUploader(t, bucket, s, filepath.Join(dir, "upload.json"))
		meta := "meta.json"
		bucket.refuse.Store(&meta)
		require.ErrorIs(t, u.Upload(t.Context()), errRefused)
		require.Contains(t, u.Status().LastErr, "refused")
		require.True(t, u.Hold(blocks[0].ID, 1))
		there, err := b.Exists(t.Context(), blocks[0].ID+"/meta.json")
		require.NoError(t, err)
		require.False(t, there, "a block is complete once it has its description")

		bucket.refuse.Store(nil)
		bucket.order = nil
		require.NoError(t, u.Upload(t.Context()))
		require.Equal(t, blocks[0].ID+"/meta.json", bucket.order[0], "files that are there are not sent again")
		require.False(t, u.Hold(blocks[0].ID, 1))
		for _, b := range blocks {
			checkBlock(t, bucket, b)
		}
	})
}

func TestUploadOfBlocksMergedBefore(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "tsdb"), nil)
	fill(t, s, 14)
	require.NoError(t, s.Compact(t.Context()))
	blocks, err := s.Blocks()
	require.NoError(t, err)
	top := 0
	for _, b := range blocks {
		top = max(top, b.Level)
	}
	require.Greater(t, top, 1)
	b := openBucket(t, directoryConf(t))
	u := newUploader(t, b, s, filepath.Join(dir, "upload.json"))
	require.NoError(t, u.Upload(t.Context()))
	for _, v := range blocks {
		checkBlock(t, b, v)
	}
}

func TestUploaderRuns(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, filepath.Join(dir, "tsdb"), nil)
	fill(t, s, 5)
	u := newUploader(t, openBucket(t, directoryConf(t)), s, filepath.Join(dir, "upload.json"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- u.Run(ctx) }()
	require.Eventually(t, func() bool { return !u.Status().LastSuccess.IsZero() }, 30*time.Second, 10*time.Millisecond)
	require.Positive(t, u.Status().Uploaded)
	cancel()
	require.NoError(t, <-done)
}

func TestUploadConfig(t *testing.T) {
	_, err := backup.NewUploader(backup.UploadConfig{Labels: map[string]string{"cluster": "c"}}, backup.UploadDeps{})
	var inv model.Invalid
	require.ErrorAs(t, err, &inv)
	require.ErrorContains(t, err, "state_file")
	require.ErrorContains(t, err, "labels.replica")
}
