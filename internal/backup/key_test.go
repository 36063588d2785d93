package backup_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/backup"
	"panoptes/internal/model"
)

// emptyServer is a running server without anything; during is called while it is
// copied.
func emptyServer(dir string, b backup.Bucket, during func()) backup.Live {
	return backup.Live{DataDir: dir, Bucket: b,
		Control: func(_ context.Context, w io.Writer) (int64, error) {
			_, err := io.WriteString(w, "x")
			return 1, err
		},
		Samples: func(string) error { during(); return nil },
		Events:  func(_ context.Context, path string) (int64, error) { return 0, os.WriteFile(path, nil, 0o600) }}
}

// A process that is killed during its first backup, or whose backup nobody waits
// for any more, leaves no key behind that nobody has seen.
func TestKeyIsKeptOnceItIsShown(t *testing.T) {
	dir := tree(t, map[string]string{"seal.key": "k", "pki/node.key": "p"})
	b := openBucket(t, directoryConf(t))
	keyFile := filepath.Join(dir, backup.PublicKeyName)
	ctx, leave := context.WithCancel(t.Context())
	leaves := false
	m, err := backup.NewMaker(emptyServer(dir, b, func() {
		require.NoFileExists(t, keyFile, "it may be killed now")
		if leaves {
			leave()
		}
	}))
	require.NoError(t, err)
	leaves = true
	_, key, err := m.Make(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, key)
	require.False(t, m.KeyKnown())

	leaves = false
	made, key, err := m.Make(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, key)
	require.True(t, m.KeyKnown())
	to := filepath.Join(t.TempDir(), "restored")
	_, err = backup.Restore(t.Context(), b, made.ID, backup.RestoreOptions{Dir: to, RecoveryKey: key, Control: func(context.Context, string, string) error { return nil }})
	require.NoError(t, err)
	public, err := os.ReadFile(keyFile)
	require.NoError(t, err)
	require.Equal(t, string(public), files(t, to)[backup.PublicKeyName], "the restored server goes on with the key")
}

// Who asks for a backup is told what is wrong with where it should go.
func TestFaultsOfTheBucketAreTold(t *testing.T) {
	conf := "type: S3\nconfig: {bucket: xy, endpoint: \"127.0.0.1:1\", insecure: true, access_key: a, secret_key: b, region: us-east-1}\n"
	_, public := newKey(t)
	_, err := backup.Create(t.Context(), openBucket(t, conf), backup.Source{Dir: tree(t, stopped()), Time: time.Now(), PublicKey: public}, nil)
	require.ErrorIs(t, err, model.ErrUnavailable)
	require.ErrorContains(t, err, "the bucket: Bucket name cannot be shorter than 3 characters")
}
