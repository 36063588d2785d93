package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/backup"
	"panoptes/internal/control"
	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/store"
	"panoptes/internal/store/storetest"
)

// tree writes files below a new directory.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return dir
}

// files reads a tree, without the note that it was restored.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == backup.QuietName {
			return err
		}
		data, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		got[filepath.ToSlash(rel)] = string(data)
		return err
	}))
	return got
}

func stopped() map[string]string {
	return map[string]string{
		"catalog.json": "{}", "seal.key": "a secret", "pki/node.key": "another secret", "tsdb/wal/00000001": strings.Repeat("x", 100_000),
		"control/member/snap/db": "etcd", "history.db": "rows", "history.db-wal": "more rows", "alert/nflog": "",
	}
}

func newKey(t testing.TB) (model.Secret, string) {
	t.Helper()
	private, public, err := backup.NewRecoveryKey()
	require.NoError(t, err)
	return private, public
}

func TestBackupAndRestore(t *testing.T) {
	eachBucket(t, func(t *testing.T, b backup.Bucket) {
		private, public := newKey(t)
		want := stopped()
		dir := tree(t, want)
		for _, name := range []string{"lock", "sessions", "queries.active", "history.db-shm", "control/reserve", "x.tmp", "replica/state"} {
			path := filepath.Join(dir, name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
			require.NoError(t, os.WriteFile(path, []byte("not to come back"), 0o600))
		}
		src := backup.Source{Dir: dir, Info: backup.Info{Node: "n1", Program: "v1"}, Time: time.Now(), PublicKey: public}
		first, err := backup.Create(t.Context(), b, src, nil)
		require.NoError(t, err)
		want[backup.PublicKeyName] = public + "\n"
		require.Equal(t, len(want), first.Files)

		m, err := backup.Verify(t.Context(), b, "", backup.VerifyOptions{})
		require.NoError(t, err)
		require.Equal(t, first.ID, m.ID)
		require.Equal(t, "n1", m.Info.Node)

		to := filepath.Join(t.TempDir(), "restored")
		_, err = backup.Restore(t.Context(), b, first.ID, backup.RestoreOptions{Dir: to, RecoveryKey: private})
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(want, files(t, to)))
		var quiet backup.Quiet
		data, err := os.ReadFile(filepath.Join(to, backup.QuietName))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(data, &quiet))
		require.Equal(t, first.ID, quiet.Backup)

		// Only what is new is sent; the older backup stays as it was.
		require.NoError(t, os.WriteFile(filepath.Join(dir, "history.db"), []byte("other rows"), 0o600))
		second, err := backup.Create(t.Context(), b, src, nil)
		require.NoError(t, err)
		require.Less(t, second.Uploaded, int64(1000))
		list, err := backup.List(t.Context(), b)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, second.ID, list[0].ID)
		again := filepath.Join(t.TempDir(), "again")
		_, err = backup.Restore(t.Context(), b, first.ID, backup.RestoreOptions{Dir: again, RecoveryKey: private})
		require.NoError(t, err)
		require.Equal(t, "rows", files(t, again)["history.db"])

		_, err = backup.Restore(t.Context(), b, first.ID, backup.RestoreOptions{Dir: again, RecoveryKey: private})
		require.ErrorIs(t, err, model.ErrConflict, "the directory is not empty")
	})
}

func TestSecretsAreSealed(t *testing.T) {
	dir := t.TempDir()
	b := openBucket(t, fmt.Sprintf("type: FILESYSTEM\nconfig: {directory: %s}\n", dir))
	private, public := newKey(t)
	other, _ := newKey(t)
	_, err := backup.Create(t.Context(), b, backup.Source{Dir: tree(t, stopped()), PublicKey: public}, nil)
	require.NoError(t, err)
	for name, text := range files(t, dir) {
		require.NotContains(t, text, "secret", name)
		require.NotContains(t, text, private.Reveal(), name)
	}
	for _, key := range []model.Secret{"", other, "nonsense", model.Secret(public)} {
		_, err = backup.Restore(t.Context(), b, "", backup.RestoreOptions{Dir: t.TempDir(), RecoveryKey: key})
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, "recovery_key", inv[0].Field)
	}
}

// Whatever is changed in the bucket is found.
func TestDamageIsFound(t *testing.T) {
	private, public := newKey(t)
	bucketDir := t.TempDir()
	b := openBucket(t, fmt.Sprintf("type: FILESYSTEM\nconfig: {directory: %s}\n", bucketDir))
	_, err := backup.Create(t.Context(), b, backup.Source{Dir: tree(t, stopped()), PublicKey: public}, nil)
	require.NoError(t, err)
	for name, text := range files(t, bucketDir) {
		path := filepath.Join(bucketDir, name)
		harm := [][]byte{append([]byte(text), 'x'), nil}
		if text != "" {
			harm = append(harm, append([]byte{text[0] ^ 1}, text[1:]...), []byte(text[:len(text)-1]))
		}
		for _, bad := range harm {
			if string(bad) == text {
				continue
			}
			require.NoError(t, os.WriteFile(path, bad, 0o600))
			_, err := backup.Verify(t.Context(), b, "", backup.VerifyOptions{})
			require.ErrorIs(t, err, model.ErrDamaged, name)
			to := filepath.Join(t.TempDir(), "r")
			_, err = backup.Restore(t.Context(), b, "", backup.RestoreOptions{Dir: to, RecoveryKey: private})
			require.ErrorIs(t, err, model.ErrDamaged, name)
		}
		require.NoError(t, os.Remove(path))
		_, err := backup.Verify(t.Context(), b, "", backup.VerifyOptions{})
		require.Error(t, err, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	_, err = backup.Verify(t.Context(), b, "", backup.VerifyOptions{Scratch: filepath.Join(t.TempDir(), "s"), RecoveryKey: private})
	require.NoError(t, err)
}

func TestNoBackup(t *testing.T) {
	b := openBucket(t, directoryConf(t))
	_, err := backup.Read(t.Context(), b, "")
	require.ErrorIs(t, err, model.ErrNotFound)
	_, err = backup.Read(t.Context(), b, "../x")
	require.ErrorIs(t, err, model.ErrNotFound)
	_, err = backup.Read(t.Context(), b, ulid.Make().String())
	require.ErrorIs(t, err, model.ErrNotFound)
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"sha256":"","body":{}}`))
	f.Add([]byte(`{"sha256":"44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","body":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := backup.DecodeManifest(data)
		if err != nil {
			return
		}
		for _, v := range m.Files {
			require.True(t, filepath.IsLocal(v.Path))
		}
	})
}

// A running server is backed up, restored, and answers the same.
func TestLiveServer(t *testing.T) {
	eachBucket(t, func(t *testing.T, b backup.Bucket) {
		dir := tree(t, map[string]string{"catalog.json": "{}", "seal.key": "k", "pki/node.key": "p"})
		s := storetest.New(t, store.Config{Dir: filepath.Join(dir, "tsdb")})
		samples := fill(t, s, 9)
		h, err := history.New(history.Config{Path: filepath.Join(dir, "history.db"), MinFreeBytes: -1}, history.Deps{})
		require.NoError(t, err)
		defer h.Close()
		require.NoError(t, h.Append(t.Context(), model.Event{ID: ulid.Make().String(), Time: time.Now(), Kind: model.EventAudit, Subject: "check/1"}))
		c, stop := startControl(t, filepath.Join(dir, "control"))
		_, err = c.Put(t.Context(), "checks/shop", []byte("{}"), 0)
		require.NoError(t, err)

		maker, err := backup.NewMaker(backup.Live{
			DataDir: dir, Info: backup.Info{Node: "n1", Program: "test"}, Bucket: b,
			Control: c.Snapshot, Samples: func(to string) error { return s.Snapshot(to, true) }, Events: h.Snapshot,
			State: map[string]func() ([]byte, error){"alert/nflog": func() ([]byte, error) { return []byte("told"), nil }},
		})
		require.NoError(t, err)
		made, key, err := maker.Make(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, key)
		require.Positive(t, made.Manifest.Info.Revision)
		require.EqualValues(t, 1, made.Manifest.Info.Counts.Events)
		require.NoDirExists(t, filepath.Join(dir, backup.StagingName))
		_, shown, err := maker.Make(t.Context())
		require.NoError(t, err)
		require.Empty(t, shown, "the key is shown once")
		stop()

		to := filepath.Join(t.TempDir(), "restored")
		_, err = backup.Restore(t.Context(), b, made.ID, backup.RestoreOptions{Dir: to, RecoveryKey: key,
			Control: func(ctx context.Context, snapshot, dir string) error {
				_, err := control.Restore(ctx, controlConfig(dir), snapshot, nil)
				return err
			},
			Check: func(ctx context.Context, dir string, m *backup.Manifest) error {
				if n := countSamples(t, filepath.Join(dir, "tsdb")); n != samples {
					return fmt.Errorf("%d samples, %d were written", n, samples)
				}
				return nil
			}})
		require.NoError(t, err)
		require.NoFileExists(t, filepath.Join(to, backup.ControlName))
		got := files(t, to)
		require.Equal(t, "told", got["alert/nflog"])
		require.Equal(t, "p", got["pki/node.key"])
		require.Equal(t, "k", got["seal.key"])
		n, _ := startControl(t, filepath.Join(to, "control"))
		kv, err := n.Get(t.Context(), "checks/shop")
		require.NoError(t, err)
		require.Equal(t, "{}", string(kv.Value))
		restored, err := history.New(history.Config{Path: filepath.Join(to, "history.db"), MinFreeBytes: -1}, history.Deps{})
		require.NoError(t, err)
		defer restored.Close()
		events, _, err := restored.Query(t.Context(), model.EventQuery{Limit: 10})
		require.NoError(t, err)
		require.Len(t, events, 1)
	})
}

func TestMakeFailsWithoutTraces(t *testing.T) {
	dir := t.TempDir()
	boom := errors.New("boom")
	m, err := backup.NewMaker(backup.Live{DataDir: dir, Bucket: openBucket(t, directoryConf(t)),
		Control: func(_ context.Context, w io.Writer) (int64, error) {
			_, err := io.Copy(w, bytes.NewReader([]byte("x")))
			return 1, err
		},
		Samples: func(string) error { return boom }, Events: func(context.Context, string) (int64, error) { return 0, nil }})
	require.NoError(t, err)
	_, key, err := m.Make(t.Context())
	require.ErrorIs(t, err, boom)
	require.Empty(t, key)
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func controlConfig(dir string) control.Config {
	return control.Config{Dir: dir, NodeID: "n1", ClusterID: "c1", ReserveBytes: 1 << 20, MinFreeBytes: 1 << 20}
}

func startControl(t testing.TB, dir string) (*control.Control, func()) {
	t.Helper()
	c, err := control.New(controlConfig(dir), control.Deps{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	<-c.Ready()
	ended := false
	stop := func() {
		if !ended {
			ended = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(stop)
	return c, stop
}

func countSamples(t testing.TB, dir string) (n int) {
	t.Helper()
	s, stop := storetest.Start(t, store.Config{Dir: dir}, store.Deps{})
	defer stop()
	q, err := s.Querier(0, time.Now().Add(time.Hour).UnixMilli())
	require.NoError(t, err)
	defer q.Close()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, "__name__", "up"))
	for set.Next() {
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
			n++
		}
	}
	require.NoError(t, set.Err())
	return n
}
