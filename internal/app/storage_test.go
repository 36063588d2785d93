package app

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/history"
	"panoptes/internal/model"
)

// A server whose history met damage begins anew, with an empty one.
func TestDamagedHistoryBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	h, err := history.New(history.Config{Path: path, MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	for range 100 {
		require.NoError(t, h.Append(t.Context(), model.Event{ID: model.NewID(time.Now()), Time: time.Now(), Kind: model.EventAudit, Subject: "a/1", Message: strings.Repeat("x", 1000)}))
	}
	h.Close()
	h, err = history.New(history.Config{Path: path, MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	defer h.Close()
	a := &App{history: h, log: slog.New(slog.DiscardHandler), began: time.Now().Add(-time.Hour)}
	ended, end := context.WithCancel(t.Context())
	end()
	require.NoError(t, a.lookAtHistory(ended), "nothing is wrong")

	b, err := os.ReadFile(path)
	require.NoError(t, err)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("no page "), (len(b)-8*4096)/8), 8*4096)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, _, err = h.Query(t.Context(), model.EventQuery{Limit: 1000})
	require.Error(t, err)
	require.ErrorIs(t, a.lookAtHistory(t.Context()), ErrBeginAnew)
}
