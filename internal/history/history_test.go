package history_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"panoptes/internal/history"
	"panoptes/internal/model"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func event(at time.Time, kind model.EventKind, subject, message string) model.Event {
	return model.Event{ID: model.NewID(at), Time: at, Kind: kind, Subject: subject, Message: message}
}

func open(t testing.TB, cfg history.Config, deps history.Deps) *history.History {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "history.db")
	}
	h, err := history.New(cfg, deps)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

func TestAppendedEventComesBackWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd name?%23#.db")
	h := open(t, history.Config{Path: path}, history.Deps{})
	want := model.Event{
		ID: model.NewID(t0), Time: t0, Kind: model.EventState, Subject: "check/1", Name: "shop", Severity: "critical",
		Actor: "system", Message: "2 of 3 regions fail", Code: "check.down", Labels: map[string]string{"team": "web"},
		Data: json.RawMessage(`{"to":"down"}`),
	}
	require.NoError(t, h.Append(t.Context(), want))
	h.Close()
	require.FileExists(t, path)

	h = open(t, history.Config{Path: path}, history.Deps{})
	require.NoError(t, h.Damaged())
	got, next, err := h.Query(t.Context(), model.EventQuery{})
	require.NoError(t, err)
	require.Empty(t, next)
	require.Empty(t, cmp.Diff([]model.Event{want}, got))
}

func TestAppendTwiceStoresAndTellsOnce(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	var told []string
	cancel := h.Subscribe(func(e model.Event) { told = append(told, e.ID) })
	a, b := event(t0, model.EventState, "check/1", "a"), event(t0, model.EventState, "check/1", "b")
	require.NoError(t, h.Append(t.Context(), a, b, a))
	require.NoError(t, h.Append(t.Context(), b))
	cancel()
	require.NoError(t, h.Append(t.Context(), event(t0, model.EventState, "check/1", "c")))
	require.Equal(t, []string{a.ID, b.ID}, told)
	got, _, err := h.Query(t.Context(), model.EventQuery{})
	require.NoError(t, err)
	require.Len(t, got, 3)
}

func TestAppendRefusesWhatIsNoEvent(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	f := func(field string, spoil func(*model.Event)) {
		t.Helper()
		e := event(t0, model.EventAudit, "check/1", "m")
		spoil(&e)
		err := h.Append(t.Context(), event(t0, model.EventAudit, "good/1", "m"), e)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, field, inv[0].Field)
	}
	f("events[1].id", func(e *model.Event) { e.ID = "x" })
	f("events[1].kind", func(e *model.Event) { e.Kind = "" })
	f("events[1].time", func(e *model.Event) { e.Time = time.Time{} })
	f("events[1].data", func(e *model.Event) { e.Data = []byte("{") })
	f("events[1]", func(e *model.Event) { e.Message = strings.Repeat("x", 1<<20) })
	got, _, err := h.Query(t.Context(), model.EventQuery{})
	require.NoError(t, err)
	require.Empty(t, got, "a refused call stores nothing")
}

func TestConcurrentAppendsAllArrive(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	var told atomic.Int64
	h.Subscribe(func(model.Event) { told.Add(1) })
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := range 20 {
				if err := h.Append(t.Context(), event(t0.Add(time.Duration(i)*time.Second), model.EventState, fmt.Sprintf("check/%d", g), "m")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 320, told.Load())
	states, err := h.LastStates(t.Context())
	require.NoError(t, err)
	require.Len(t, states, 16)
	for _, e := range states {
		require.Equal(t, t0.Add(19*time.Second), e.Time)
	}
}

func TestQueryFilters(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	add := func(offset time.Duration, kind model.EventKind, subject, severity, name, message, actor string) {
		t.Helper()
		e := event(t0.Add(offset), kind, subject, message)
		e.Severity, e.Name, e.Actor = severity, name, actor
		require.NoError(t, h.Append(t.Context(), e))
	}
	add(0, model.EventState, "check/1", "critical", "Shop", "connection REFUSED", "system")
	add(time.Second, model.EventAudit, "check/1", "info", "Shop", "changed interval", "user/alice")
	add(2*time.Second, model.EventState, "check/12", "info", "Büro", "up again 100%", "system")
	add(3*time.Second, model.EventNode, "node/a", "warning", "a", "left", "")
	add(4*time.Second, model.EventDelivery, "receiver/hook", "info", "hook", "200 OK", "")

	f := func(q model.EventQuery, want ...string) {
		t.Helper()
		got, _, err := h.Query(t.Context(), q)
		require.NoError(t, err)
		var messages []string
		for _, e := range got {
			messages = append(messages, e.Message)
		}
		require.Equal(t, want, messages)
	}
	f(model.EventQuery{}, "200 OK", "left", "up again 100%", "changed interval", "connection REFUSED")
	f(model.EventQuery{Kinds: []model.EventKind{"state"}}, "up again 100%", "connection REFUSED")
	f(model.EventQuery{Kinds: []model.EventKind{"node", "state", "node"}}, "left", "up again 100%", "connection REFUSED")
	f(model.EventQuery{Kinds: []model.EventKind{"none"}})
	f(model.EventQuery{Subject: "check/1"}, "changed interval", "connection REFUSED")
	f(model.EventQuery{Subject: "check/1", Kinds: []model.EventKind{"state", "node"}}, "connection REFUSED")
	f(model.EventQuery{Subject: "check/"}, "up again 100%", "changed interval", "connection REFUSED")
	f(model.EventQuery{Subject: "check/", Kinds: []model.EventKind{"state", "node"}}, "up again 100%", "connection REFUSED")
	f(model.EventQuery{Severity: "critical"}, "connection REFUSED")
	f(model.EventQuery{Text: "refused SHOP"}, "connection REFUSED")
	f(model.EventQuery{Text: "BÜRO"}, "up again 100%")
	f(model.EventQuery{Text: "100%"}, "up again 100%")
	f(model.EventQuery{Text: "_"})
	f(model.EventQuery{Text: "alice shop"}, "changed interval")
	f(model.EventQuery{From: t0.Add(time.Second), To: t0.Add(3 * time.Second)}, "up again 100%", "changed interval")
	f(model.EventQuery{From: t0.Add(time.Second + 1), To: t0.Add(3*time.Second + 1)}, "left", "up again 100%")
}

func TestPagesDoNotShiftWhenEventsArrive(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	for i := range 25 { // several share a millisecond
		require.NoError(t, h.Append(t.Context(), event(t0.Add(time.Duration(i/4)*time.Millisecond), model.EventState, "check/1", fmt.Sprint(i))))
	}
	for _, q := range []model.EventQuery{{Limit: 10}, {Limit: 10, Kinds: []model.EventKind{"state", "audit"}}, {Limit: 10, Subject: "check/1"}} {
		var got []string
		for {
			page, next, err := h.Query(t.Context(), q)
			require.NoError(t, err)
			for _, e := range page {
				got = append(got, e.Message)
			}
			require.NoError(t, h.Append(t.Context(), event(t0.Add(time.Hour), model.EventNode, "node/x", "new")))
			if next == "" {
				break
			}
			q.Cursor = next
		}
		want := make([]string, 0, 25)
		for i := 24; i >= 0; i-- {
			want = append(want, fmt.Sprint(i))
		}
		// The first question also sees what the loops before it added.
		for len(got) > 0 && got[0] == "new" {
			got = got[1:]
		}
		require.Equal(t, want, got)
	}
}

func TestQueryRefusesNonsense(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	f := func(field string, q model.EventQuery) {
		t.Helper()
		_, _, err := h.Query(t.Context(), q)
		var inv model.Invalid
		require.ErrorAs(t, err, &inv)
		require.Equal(t, field, inv[0].Field)
	}
	f("limit", model.EventQuery{Limit: 1001})
	f("limit", model.EventQuery{Limit: -1})
	f("cursor", model.EventQuery{Cursor: "garbage"})
	f("q", model.EventQuery{Text: strings.Repeat("x", 600)})
	f("q", model.EventQuery{Text: strings.Repeat("x ", 17)})
}

func TestTransitionsBeginWithTheStateBefore(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	for i, m := range []string{"a", "b", "c", "d"} {
		require.NoError(t, h.Append(t.Context(),
			event(t0.Add(time.Duration(i)*time.Hour), model.EventState, "check/1", m),
			event(t0.Add(time.Duration(i)*time.Hour), model.EventAudit, "check/1", "noise")))
	}
	got, err := h.Transitions(t.Context(), "check/1", t0.Add(2*time.Hour))
	require.NoError(t, err)
	require.Len(t, got, 3)
	require.Equal(t, []string{"b", "c", "d"}, []string{got[0].Message, got[1].Message, got[2].Message})

	last, ok, err := h.Last(t.Context(), model.EventState, "check/1")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, "d", last.Message)
	_, ok, err = h.Last(t.Context(), model.EventState, "check/2")
	require.NoError(t, err)
	require.False(t, ok)
}

func TestLastStatesIgnoreWhatArrivesLate(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	require.NoError(t, h.Append(t.Context(), event(t0.Add(time.Hour), model.EventState, "check/1", "newer")))
	require.NoError(t, h.Append(t.Context(), event(t0, model.EventState, "check/1", "late")))
	got, err := h.LastStates(t.Context())
	require.NoError(t, err)
	require.Equal(t, "newer", got["check/1"].Message)
}

func TestPruneKeepsTheStateAtTheHorizon(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	var events []model.Event
	for i := range 1200 {
		events = append(events, event(t0.Add(time.Duration(i)*time.Second), model.EventState, "check/1", fmt.Sprint(i)))
		events = append(events, event(t0.Add(time.Duration(i)*time.Second), model.EventAudit, "check/1", "noise"))
	}
	require.NoError(t, h.Append(t.Context(), events...))
	removed, err := h.Prune(t.Context(), t0.Add(1000*time.Second))
	require.NoError(t, err)
	require.EqualValues(t, 1999, removed)
	got, err := h.Transitions(t.Context(), "check/1", t0)
	require.NoError(t, err)
	require.Len(t, got, 201)
	require.Equal(t, "999", got[0].Message)
	states, err := h.LastStates(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1199", states["check/1"].Message)
}

func TestRunRemovesOldEventsAndClosesAtTheEnd(t *testing.T) {
	reg := prometheus.NewRegistry()
	h := open(t, history.Config{Retention: time.Hour}, history.Deps{Registerer: reg})
	require.NoError(t, h.Append(t.Context(), event(time.Now().Add(-2*time.Hour), model.EventAudit, "a/1", "old"), event(time.Now(), model.EventAudit, "a/1", "new")))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	require.Eventually(t, func() bool {
		got, _, err := h.Query(t.Context(), model.EventQuery{})
		return err == nil && len(got) == 1 && got[0].Message == "new"
	}, 30*time.Second, 10*time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.ErrorIs(t, h.Append(t.Context(), event(t0, model.EventAudit, "a/1", "m")), model.ErrUnavailable)
	_, _, err := h.Query(t.Context(), model.EventQuery{})
	require.ErrorIs(t, err, model.ErrUnavailable)
}

func TestDamagedFileIsSetAside(t *testing.T) {
	f := func(name string, damage func(t *testing.T, path string)) {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "history.db")
			h := open(t, history.Config{Path: path}, history.Deps{})
			var events []model.Event
			for i := range 2000 {
				events = append(events, event(t0.Add(time.Duration(i)*time.Second), model.EventState, "check/1", strings.Repeat("x", 100)))
			}
			require.NoError(t, h.Append(t.Context(), events...))
			h.Close()
			damage(t, path)

			h = open(t, history.Config{Path: path}, history.Deps{})
			require.ErrorContains(t, h.Damaged(), "set aside")
			require.NoError(t, h.Append(t.Context(), event(t0, model.EventAudit, "a/1", "after")))
			got, _, err := h.Query(t.Context(), model.EventQuery{})
			require.NoError(t, err)
			require.Len(t, got, 1)
			aside, err := filepath.Glob(path + ".damaged-*")
			require.NoError(t, err)
			require.NotEmpty(t, aside, "what is left of the old file stays for inspection")
			h.Close()

			h = open(t, history.Config{Path: path}, history.Deps{})
			require.NoError(t, h.Damaged(), "the fresh file is sound")
			require.Equal(t, filepath.Base(aside[0]), h.Aside(), "what is missing is known for as long as the old file is there")
		})
	}
	f("no database at all", func(t *testing.T, path string) {
		require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("this is not a database ", 500)), 0o600))
	})
	f("pages overwritten", func(t *testing.T, path string) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		for i := 8192; i < len(b)-8192; i++ {
			b[i] = byte(i * 7)
		}
		require.NoError(t, os.WriteFile(path, b, 0o600))
	})
	f("cut short", func(t *testing.T, path string) {
		require.NoError(t, os.Truncate(path, 20000))
	})
}

// Damage that is met while the file is open is told, and the next process finds
// an empty file.
func TestDamageMetLaterIsSetAsideAtTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.db")
	h := open(t, history.Config{Path: path}, history.Deps{})
	var events []model.Event
	for i := range 2000 {
		events = append(events, event(t0.Add(time.Duration(i)*time.Second), model.EventState, fmt.Sprint("check/", i), strings.Repeat("x", 100)))
	}
	require.NoError(t, h.Append(t.Context(), events...))
	h.Close()

	h = open(t, history.Config{Path: path}, history.Deps{})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	fi, err := f.Stat()
	require.NoError(t, err)
	for at := int64(8 * 4096); at < fi.Size(); at += 4096 {
		_, err := f.WriteAt([]byte(strings.Repeat("no page ", 512)), at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	select {
	case <-h.Broken():
		t.Fatal("nobody has read it")
	default:
	}
	_, _, err = h.Query(t.Context(), model.EventQuery{Limit: 1000})
	require.Error(t, err)
	<-h.Broken()
	require.Error(t, h.Damaged())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, h.Run(ctx))

	h = open(t, history.Config{Path: path}, history.Deps{})
	require.NoError(t, h.Damaged())
	require.NotEmpty(t, h.Aside())
	require.NoError(t, h.Append(t.Context(), events...))
	h.Close()
	h = open(t, history.Config{Path: path}, history.Deps{})
	require.NoError(t, h.Damaged())
}

func TestFullDiskRefusesAndRecovers(t *testing.T) {
	var free atomic.Uint64
	free.Store(1 << 30)
	h := open(t, history.Config{MinFreeBytes: 1 << 20}, history.Deps{Free: func(string) (uint64, error) { return free.Load(), nil }})
	free.Store(1000)
	require.ErrorIs(t, h.Append(t.Context(), event(t0, model.EventAudit, "a/1", "m")), model.ErrNoSpace)
	_, _, err := h.Query(t.Context(), model.EventQuery{})
	require.NoError(t, err, "reading goes on")
	free.Store(1 << 30)
	require.NoError(t, h.Append(t.Context(), event(t0, model.EventAudit, "a/1", "m")))
}

func TestTwoInstancesShareNothing(t *testing.T) {
	a, b := open(t, history.Config{}, history.Deps{}), open(t, history.Config{}, history.Deps{})
	require.NoError(t, a.Append(t.Context(), event(t0, model.EventAudit, "a/1", "m")))
	got, _, err := b.Query(t.Context(), model.EventQuery{})
	require.NoError(t, err)
	require.Empty(t, got)
}

func TestAnEndedContextEndsTheCall(t *testing.T) {
	h := open(t, history.Config{}, history.Deps{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := h.Query(ctx, model.EventQuery{})
	require.ErrorIs(t, err, context.Canceled)
}
