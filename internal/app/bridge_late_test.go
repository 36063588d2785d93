package app

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/verdict"
)

// story is the past of one check, as a bridge sees it.
type story struct {
	b     *bridge
	fires book
	past  []verdict.Transition
	err   error // of reading the past
	reads int
}

var shop = model.Check{ID: "1", Name: "shop", Severity: "critical"}

func newStory() *story {
	s := &story{b: newBridge(nil, slog.New(slog.DiscardHandler)), fires: book{}}
	s.b.put = s.fires.put
	s.b.seen = func(t verdict.Transition) { s.past = append(s.past, t) }
	s.b.lookup = func(string) (model.Check, bool) { return shop, true }
	s.b.past = func(context.Context, string) ([]verdict.Transition, error) { s.reads++; return s.past, s.err }
	return s
}

func state(id string, from, to model.Status, at time.Time) verdict.Transition {
	return verdict.Transition{ID: id, Check: shop, From: from, To: to, At: at, Code: "check." + string(to), Notify: true}
}

// A server that was away says nothing that the others know to be over, neither
// from its own history nor from the backlog that it works off.
func TestWhatOthersKnowIsTheLastWord(t *testing.T) {
	const up, down = model.StatusUp, model.StatusDown
	now := time.Now()
	fell := state("a", up, down, now.Add(-4*time.Hour))
	rose := state("b", down, up, now.Add(-3*time.Hour))
	fellAgain := state("c", up, down, now.Add(-2*time.Hour))
	roseAgain := state("d", down, up, now.Add(-time.Hour))
	last := func(tr verdict.Transition) map[string]model.Event {
		e, err := verdict.Event(tr, shop)
		require.NoError(t, err)
		return map[string]model.Event{"check/1": e}
	}

	require.Empty(t, news(last(roseAgain), map[string]verdict.Transition{"1": fell}))
	require.Empty(t, news(last(roseAgain), map[string]verdict.Transition{"1": roseAgain}))
	require.Len(t, news(nil, map[string]verdict.Transition{"1": fell}), 1)
	s := newStory()
	s.past = []verdict.Transition{fell}
	s.b.hear(news(last(fell), map[string]verdict.Transition{"1": roseAgain}))
	s.b.restore(shop, s.past)
	require.Empty(t, s.fires)
	s.b.follow("b", rose)
	s.b.follow("c", fellAgain)
	s.b.settleLate(t.Context(), now.Add(time.Minute))
	require.Empty(t, s.fires, "the backlog is half worked off")
	s.b.follow("d", roseAgain)
	s.b.settleLate(t.Context(), now.Add(time.Minute))
	require.Empty(t, s.fires)
	s.b.follow("e", state("e", up, down, now))
	require.Equal(t, book{"CheckDown": true}, s.fires)

	s = newStory()
	s.b.hear(news(last(rose), map[string]verdict.Transition{"1": fellAgain}))
	s.b.restore(shop, []verdict.Transition{fell, rose})
	require.Equal(t, book{"CheckDown": true}, s.fires, "it fell while this server was away")
}

// One that comes after a newer one counts in its place.
func TestStatesOutOfOrder(t *testing.T) {
	s := newStory()
	now := time.Now()
	fell := state("a", model.StatusUp, model.StatusDown, now.Add(-10*time.Second))
	lost := state("b", model.StatusDown, model.StatusUnknown, now.Add(-5*time.Second))
	s.b.follow("b", lost)
	require.Equal(t, book{"CheckUnknown": true}, s.fires)
	s.b.follow("a", fell)
	s.past = []verdict.Transition{fell, lost}
	s.b.settleLate(t.Context(), now.Add(time.Minute))
	require.Equal(t, book{"CheckDown": true}, s.fires)
}

// A past that cannot be read is read once more.
func TestLateStatesWaitForTheHistory(t *testing.T) {
	s := newStory()
	now := time.Now()
	s.err = errors.New("disk")
	s.b.follow("a", state("a", model.StatusUp, model.StatusDown, now.Add(-time.Hour)))
	s.b.settleLate(t.Context(), now.Add(time.Minute))
	require.Empty(t, s.fires)
	s.err = nil
	s.b.settleLate(t.Context(), now.Add(2*time.Minute))
	require.Equal(t, book{"CheckDown": true}, s.fires)
}

// What is copied from the history of another server ends an alert that is over,
// and raises none while half of it is here.
func TestCopiedStates(t *testing.T) {
	const up, down = model.StatusUp, model.StatusDown
	h, err := history.New(history.Config{Path: filepath.Join(t.TempDir(), "history.db"), MinFreeBytes: -1}, history.Deps{})
	require.NoError(t, err)
	defer h.Close()
	s := newStory()
	a := &App{history: h, bridge: s.b}
	a.checks = newChecks(a)
	s.b.past = func(ctx context.Context, id string) ([]verdict.Transition, error) {
		s.reads++
		return a.checks.transitions(ctx, id)
	}
	more := true
	from := copies{h, func(events []model.Event) { a.copied(events); s.b.more = func() bool { return more } }}
	bring := func(list ...verdict.Transition) {
		t.Helper()
		for _, tr := range list {
			tr.ID = model.NewID(tr.At)
			e, err := verdict.Event(tr, shop)
			require.NoError(t, err)
			_, err = from.Import(t.Context(), e)
			require.NoError(t, err)
		}
	}
	now := time.Now()
	soon := now.Add(time.Minute)
	bring(state("", model.StatusPending, up, now.Add(-9*time.Hour)), state("", up, down, now.Add(-8*time.Hour)))
	s.b.settleLate(t.Context(), soon)
	require.Empty(t, s.fires, "more is to come")
	bring(state("", down, up, now.Add(-7*time.Hour)))
	more = false
	s.b.settleLate(t.Context(), soon)
	require.Empty(t, s.fires)
	require.Zero(t, s.reads, "nothing is wrong with it")

	bring(state("", up, down, now.Add(-6*time.Hour)))
	s.b.settleLate(t.Context(), now)
	require.Empty(t, s.fires, "it has only just come")
	s.b.settleLate(t.Context(), soon)
	require.Equal(t, book{"CheckDown": true}, s.fires)

	more = true
	bring(state("", down, up, now.Add(-5*time.Hour)))
	s.b.settleLate(t.Context(), soon)
	require.Equal(t, book{"CheckDown": true}, s.fires)
	s.b.settleLate(t.Context(), now.Add(time.Hour))
	require.Empty(t, s.fires, "nobody sends any more")
}
