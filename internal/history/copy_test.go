package history_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"panoptes/internal/history"
	"panoptes/internal/model"
)

// pages reads all pages between two instants.
func pages(t testing.TB, h *history.History, from, to time.Time, limit int) (out []model.Event) {
	t.Helper()
	cursor := ""
	for {
		events, next, err := h.Page(t.Context(), from, to, cursor, limit)
		require.NoError(t, err)
		out = append(out, events...)
		if cursor = next; cursor == "" {
			return out
		}
	}
}

func TestHistoryIsCopiedByPages(t *testing.T) {
	a, b := open(t, history.Config{}, history.Deps{}), open(t, history.Config{}, history.Deps{})
	var want []model.Event
	for i := range 2000 { // several in a millisecond, over several days
		e := event(t0.Add(time.Duration(i/3)*10*time.Minute), model.EventState, fmt.Sprintf("check/%d", i%7), "m")
		want = append(want, e)
	}
	require.NoError(t, a.Append(t.Context(), want...))
	told := 0
	defer b.Subscribe(func(model.Event) { told++ })()

	require.Len(t, pages(t, a, t0.Add(time.Hour), t0.Add(2*time.Hour), 5), 18)
	events := pages(t, a, time.Time{}, time.Time{}, 100)
	require.Len(t, events, 2000)
	n, err := b.Import(t.Context(), events...)
	require.NoError(t, err)
	require.Equal(t, 2000, n)
	n, err = b.Import(t.Context(), events[:700]...)
	require.NoError(t, err)
	require.Zero(t, n)
	require.Zero(t, told, "old events raise nothing")
	require.Empty(t, cmp.Diff(events, pages(t, b, time.Time{}, time.Time{}, 1000)))
	la, err := a.LastStates(t.Context())
	require.NoError(t, err)
	lb, err := b.LastStates(t.Context())
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(la, lb))
}

func TestDigestsFindTheDayThatDiffers(t *testing.T) {
	a, b := open(t, history.Config{}, history.Deps{}), open(t, history.Config{}, history.Deps{})
	for day := range 5 {
		e := event(t0.AddDate(0, 0, day), model.EventAudit, "check/1", "m")
		require.NoError(t, a.Append(t.Context(), e, event(t0.AddDate(0, 0, day).Add(time.Second), model.EventAudit, "check/2", "m")))
		if day != 3 {
			_, err := b.Import(t.Context(), pages(t, a, t0.AddDate(0, 0, day), t0.AddDate(0, 0, day).Add(time.Minute), 10)...)
			require.NoError(t, err)
		} else {
			require.NoError(t, b.Append(t.Context(), e))
		}
	}
	da, err := a.Digests(t.Context(), time.Time{}, time.Time{})
	require.NoError(t, err)
	db, err := b.Digests(t.Context(), time.Time{}, time.Time{})
	require.NoError(t, err)
	require.Len(t, da, 5)
	for i := range da {
		require.Equal(t, i == 3, da[i] != db[i], da[i].Day)
	}
	require.Equal(t, model.EventDigest{Day: "2026-03-04", Count: 1, Hash: db[3].Hash}, db[3])
	some, err := a.Digests(t.Context(), t0.AddDate(0, 0, 3), t0.AddDate(0, 0, 4))
	require.NoError(t, err)
	require.Equal(t, da[3:4], some)
}

func TestPagesAreBounded(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	for i := range 10 {
		require.NoError(t, h.Append(t.Context(), event(t0.Add(time.Duration(i)*time.Second), model.EventAudit, "a/1", strings.Repeat("x", 600<<10))))
	}
	events, next, err := h.Page(t.Context(), time.Time{}, time.Time{}, "", 1000)
	require.NoError(t, err)
	require.Len(t, events, 3)
	require.NotEmpty(t, next)
	require.Len(t, pages(t, h, time.Time{}, time.Time{}, 1000), 10)
	for _, cursor := range []string{"x", strings.Repeat("A", 100)} {
		_, _, err = h.Page(t.Context(), time.Time{}, time.Time{}, cursor, 10)
		require.ErrorAs(t, err, new(model.Invalid))
	}
	_, _, err = h.Page(t.Context(), time.Time{}, time.Time{}, "", 5000)
	require.ErrorAs(t, err, new(model.Invalid))
}

func TestImportAnswersLikeAppend(t *testing.T) {
	h := open(t, history.Config{Retention: 48 * time.Hour}, history.Deps{})
	require.WithinDuration(t, time.Now().Add(-48*time.Hour), h.Horizon(), time.Minute)
	_, err := h.Import(t.Context(), model.Event{ID: "x"})
	require.ErrorAs(t, err, new(model.Invalid))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err = h.Page(ctx, time.Time{}, time.Time{}, "", 10)
	require.ErrorIs(t, err, context.Canceled)
	h.Close()
	_, err = h.Import(t.Context(), event(t0, model.EventAudit, "a/1", "m"))
	require.ErrorIs(t, err, model.ErrUnavailable)
	_, _, err = h.Page(t.Context(), time.Time{}, time.Time{}, "", 10)
	require.ErrorIs(t, err, model.ErrUnavailable)

	low := open(t, history.Config{}, history.Deps{Free: func(string) (uint64, error) { return 1, nil }})
	_, err = low.Import(t.Context(), event(t0, model.EventAudit, "a/1", "m"))
	require.ErrorIs(t, err, model.ErrNoSpace)
}
