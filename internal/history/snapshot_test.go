package history_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"panoptes/internal/history"
	"panoptes/internal/model"
)

func TestSnapshot(t *testing.T) {
	dir := t.TempDir()
	h, err := history.New(history.Config{Path: filepath.Join(dir, "history.db"), MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	defer h.Close()
	add := func(n int) {
		for range n {
			require.NoError(t, h.Append(context.Background(), model.Event{ID: ulid.Make().String(), Time: time.Now(), Kind: model.EventAudit, Subject: "check/1"}))
		}
	}
	add(20)
	path := filepath.Join(dir, "copy with space.db")
	n, err := h.Snapshot(t.Context(), path)
	require.NoError(t, err)
	require.EqualValues(t, 20, n)
	add(5)

	c, err := history.New(history.Config{Path: path, MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Damaged())
	list, _, err := c.Query(context.Background(), model.EventQuery{Limit: 100})
	require.NoError(t, err)
	require.Len(t, list, 20)
	_, err = h.Snapshot(t.Context(), path)
	require.Error(t, err, "it replaces nothing")
}
