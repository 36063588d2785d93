package control_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/control"
	"panoptes/internal/model"
)

func TestFullDiskRefusesWritesAndRecovers(t *testing.T) {
	dir := t.TempDir()
	var free atomic.Int64
	free.Store(1 << 40)
	c, _ := start(t, config(dir), control.Deps{FreeSpace: func(string) (int64, error) { return free.Load(), nil }})
	ctx := t.Context()
	reserve := filepath.Join(dir, "reserve")
	st, err := os.Stat(reserve)
	require.NoError(t, err)
	require.EqualValues(t, 1<<20, st.Size())
	_, err = c.Put(ctx, "a", []byte("1"), model.KVAny)
	require.NoError(t, err)

	free.Store(1<<20 - 1)
	_, err = c.Put(ctx, "a", []byte("2"), model.KVAny)
	require.ErrorIs(t, err, model.ErrNoSpace)
	require.ErrorIs(t, c.Writable(), model.ErrNoSpace)
	require.NotEmpty(t, c.Status(ctx).Err)
	kv, err := c.Get(ctx, "a")
	require.NoError(t, err, "reads go on")
	require.Equal(t, "1", string(kv.Value))
	require.FileExists(t, reserve, "the reserve is for etcd, not for the first shortage")

	free.Store(100)
	require.Eventually(t, func() bool {
		_, err := os.Stat(reserve)
		return os.IsNotExist(err)
	}, 30*time.Second, 20*time.Millisecond, "the reserve is given up")
	free.Store(1<<20 + 100) // what giving it up freed is not for new configuration
	require.ErrorIs(t, c.Writable(), model.ErrNoSpace)

	free.Store(1 << 40)
	_, err = c.Put(ctx, "a", []byte("3"), model.KVAny)
	require.NoError(t, err, "no restart is needed")
	require.Eventually(t, func() bool {
		_, err := os.Stat(reserve)
		return err == nil
	}, 30*time.Second, 20*time.Millisecond, "the reserve is taken again")
}

func TestQuotaAlarmIsLifted(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.QuotaBytes = 16 << 20
	c, _ := start(t, cfg, control.Deps{})
	ctx := t.Context()
	value := make([]byte, 1<<20)
	var err error
	for range 64 {
		if _, err = c.Put(ctx, "k", value, model.KVAny); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, model.ErrNoSpace, "history fills the quota")
	require.Eventually(t, func() bool {
		_, err := c.Put(ctx, "k", []byte("small"), model.KVAny)
		return err == nil
	}, 20*time.Second, 50*time.Millisecond, "compacted, defragmented, disarmed")
	require.NoError(t, c.Writable())
}
