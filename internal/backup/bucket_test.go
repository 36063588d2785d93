package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/stretchr/testify/require"

	"panoptes/internal/backup"
	"panoptes/internal/model"
)

// kinds of buckets that everything has to work with.
var kinds = map[string]func(testing.TB) string{"filesystem": directoryConf, "s3": s3Conf}

func directoryConf(t testing.TB) string {
	return fmt.Sprintf("type: FILESYSTEM\nconfig:\n  directory: %s\n", t.TempDir())
}

// s3Conf starts an S3 server.
func s3Conf(t testing.TB) string {
	t.Helper()
	mem := s3mem.New()
	require.NoError(t, mem.CreateBucket("metrics"))
	srv := httptest.NewServer(gofakes3.New(mem).Server())
	t.Cleanup(func() {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		srv.CloseClientConnections()
		srv.Close()
	})
	return fmt.Sprintf("type: S3\nprefix: site\nconfig:\n  bucket: metrics\n  endpoint: %s\n  insecure: true\n  access_key: a\n  secret_key: b\n  region: us-east-1\n  bucket_lookup_type: path\n",
		strings.TrimPrefix(srv.URL, "http://"))
}

func openBucket(t testing.TB, conf string) backup.Bucket {
	t.Helper()
	b, err := backup.NewBucket([]byte(conf))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

// eachBucket runs a test with every kind of bucket.
func eachBucket(t *testing.T, f func(t *testing.T, b backup.Bucket)) {
	for name, conf := range kinds {
		t.Run(name, func(t *testing.T) { f(t, openBucket(t, conf(t))) })
	}
}

func content(t testing.TB, b backup.Bucket, name string) string {
	t.Helper()
	rc, err := b.Get(context.Background(), name)
	require.NoError(t, err)
	data, err := io.ReadAll(rc)
	require.NoError(t, err)
	require.NoError(t, rc.Close())
	return string(data)
}

func TestBucket(t *testing.T) {
	eachBucket(t, func(t *testing.T, b backup.Bucket) {
		ctx := context.Background()
		there, err := b.Exists(ctx, "a/b/c")
		require.NoError(t, err)
		require.False(t, there)
		_, err = b.Attributes(ctx, "a/b/c")
		require.True(t, b.IsObjNotFoundErr(err), "%v", err)
		_, err = b.Get(ctx, "a/b/c")
		require.True(t, b.IsObjNotFoundErr(err), "%v", err)

		require.NoError(t, b.Upload(ctx, "a/b/c", strings.NewReader("first")))
		require.NoError(t, b.Upload(ctx, "a/d", strings.NewReader("other")))
		require.NoError(t, b.Upload(ctx, "a/b/c", strings.NewReader("second one")))
		require.Equal(t, "second one", content(t, b, "a/b/c"))
		at, err := b.Attributes(ctx, "a/b/c")
		require.NoError(t, err)
		require.EqualValues(t, 10, at.Size)
		rc, err := b.GetRange(ctx, "a/b/c", 7, 3)
		require.NoError(t, err)
		part, err := io.ReadAll(rc)
		require.NoError(t, err)
		require.NoError(t, rc.Close())
		require.Equal(t, "one", string(part))

		var names []string
		require.NoError(t, b.Iter(ctx, "a/", func(n string) error { names = append(names, n); return nil }))
		require.ElementsMatch(t, []string{"a/b/", "a/d"}, names)

		require.NoError(t, b.Delete(ctx, "a/b/c"))
		there, err = b.Exists(ctx, "a/b/c")
		require.NoError(t, err)
		require.False(t, there)

		large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		require.NoError(t, b.Upload(ctx, "large", bytes.NewReader(large)))
		require.Equal(t, string(large), content(t, b, "large"))
	})
}

type failing struct{ n int }

func (f *failing) Read(b []byte) (int, error) {
	if f.n -= len(b); f.n < 0 {
		return 0, io.ErrUnexpectedEOF
	}
	return len(b), nil
}

func TestDirectoryShowsNoPartOfAnObject(t *testing.T) {
	b := openBucket(t, directoryConf(t))
	require.ErrorIs(t, b.Upload(t.Context(), "a/b", &failing{100_000}), io.ErrUnexpectedEOF)
	there, err := b.Exists(t.Context(), "a/b")
	require.NoError(t, err)
	require.False(t, there)
	require.NoError(t, b.Iter(t.Context(), "", func(n string) error { return fmt.Errorf("left behind: %s", n) }))
	require.Error(t, b.Upload(t.Context(), "../outside", strings.NewReader("x")))
}

func TestBucketConfiguration(t *testing.T) {
	f := func(conf, field, says string) {
		t.Helper()
		_, err := backup.NewBucket([]byte(conf))
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, field, inv[0].Field)
		require.Contains(t, inv[0].Msg, says)
		require.NotContains(t, err.Error(), "hush")
	}
	f("", "bucket", "is empty")
	f("type: [hush]", "bucket", "type, config and prefix")
	f("type: S3\nsecret_key: hush\n", "bucket", "type, config and prefix")
	f("config: {secret_key: hush}", "bucket.type", "is missing")
	f("type: TAPE\nconfig: {}", "bucket.type", "FILESYSTEM or S3")
	f("type: FILESYSTEM\nconfig: {}", "bucket.config.directory", "must name")
	f("type: S3\nconfig: {secret_key: hush}", "bucket.config", "S3")
}
