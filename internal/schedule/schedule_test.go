package schedule_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"panoptes/internal/schedule"
)

var drawWorkers = rapid.Custom(func(t *rapid.T) []schedule.Worker {
	ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9]{1,8}`), 2, 12, rapid.ID[string]).Draw(t, "ids")
	out := make([]schedule.Worker, len(ids))
	for i, id := range ids {
		out[i] = schedule.Worker{ID: id, Region: rapid.SampledFrom([]string{"eu", "us", "ap"}).Draw(t, "region"), Weight: rapid.Float64Range(0.1, 10).Draw(t, "weight")}
	}
	return out
})

func TestTopDoesNotDependOnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ws := drawWorkers.Draw(t, "workers")
		key := rapid.String().Draw(t, "key")
		n := rapid.IntRange(1, 14).Draw(t, "n")
		want := schedule.Top(key, ws, n)
		require.Len(t, want, min(n, len(ws)))
		require.Equal(t, want, schedule.Top(key, rapid.Permutation(ws).Draw(t, "order"), n))
		owner, ok := schedule.Owner(key, ws)
		require.True(t, ok)
		require.Equal(t, want[0], owner)
	})
}

func TestOnlyWhatMustMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ws := drawWorkers.Draw(t, "workers")
		gone := rapid.IntRange(0, len(ws)-1).Draw(t, "gone")
		rest := slices.Delete(slices.Clone(ws), gone, gone+1)
		for i := range 50 {
			key := fmt.Sprint("check-", i)
			n := 1 + i%3
			before, after := schedule.Top(key, ws, n), schedule.Top(key, rest, n)
			// Read forwards a worker leaves, read backwards one joins: in both
			// cases those that stay keep their places relative to each other.
			kept := slices.DeleteFunc(slices.Clone(before), func(w schedule.Worker) bool { return w.ID == ws[gone].ID })
			require.Equal(t, kept, after[:len(kept)])
		}
	})
}

func TestSharesFollowWeights(t *testing.T) {
	ws := []schedule.Worker{{ID: "n1"}, {ID: "n2", Weight: 1}, {ID: "n3", Weight: 2}, {ID: "off", Weight: -1}}
	got := map[string]int{}
	const keys = 40_000
	for i := range keys {
		w, ok := schedule.Owner(fmt.Sprint("check/", i), ws)
		require.True(t, ok)
		got[w.ID]++
	}
	require.InDelta(t, keys/4, got["n1"], keys/100)
	require.InDelta(t, keys/4, got["n2"], keys/100)
	require.InDelta(t, keys/2, got["n3"], keys/100)
	require.Zero(t, got["off"])
}

func TestPlaceKeepsToRegionsLabelsAndRoles(t *testing.T) {
	ws := []schedule.Worker{
		{ID: "a", Region: "eu", Roles: []string{"probe"}}, {ID: "b", Region: "eu", Roles: []string{"probe"}, Labels: map[string]string{"net": "dmz"}},
		{ID: "c", Region: "us", Roles: []string{"probe"}}, {ID: "d", Region: "ap", Roles: []string{"store"}},
	}
	ids := func(m map[string][]schedule.Worker) map[string]int {
		out := map[string]int{}
		for r, w := range m {
			out[r] = len(w)
		}
		return out
	}
	require.Equal(t, map[string]int{"eu": 2, "us": 1}, ids(schedule.Place("k", ws, schedule.Constraint{Regions: []string{"*"}, Role: "probe"}, 2)))
	require.Equal(t, map[string]int{"eu": 1}, ids(schedule.Place("k", ws, schedule.Constraint{Regions: []string{"eu"}, Role: "probe"}, 0)))
	require.Equal(t, "b", schedule.Place("k", ws, schedule.Constraint{Labels: map[string]string{"net": "dmz"}}, 3)["eu"][0].ID)
	require.Empty(t, schedule.Place("k", ws, schedule.Constraint{Regions: []string{"mars"}}, 1))
	_, ok := schedule.Owner("k", nil)
	require.False(t, ok)
}

// A worker that joins takes its share and nothing else moves; one that drains
// gives up what it had and nothing else moves.
func TestPlanMovesNoMoreThanTheShare(t *testing.T) {
	const checks = 600
	work := make([]schedule.Work, checks)
	for i := range work {
		work[i] = schedule.Work{Key: fmt.Sprint("01JCHECK", i), Constraint: schedule.Constraint{Regions: []string{"*"}, Role: "probe"}}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 9).Draw(t, "workers")
		var before []schedule.Worker
		for i := range n {
			before = append(before, schedule.Worker{ID: fmt.Sprint(rapid.StringMatching(`[A-Z0-9]{4}`).Draw(t, "id"), i), Region: "eu", Roles: []string{"probe"}})
		}
		joined := schedule.Worker{ID: "new", Region: "eu", Roles: []string{"probe"}}
		after := append(slices.Clone(before), joined)
		at := func(workers []schedule.Worker) map[string]string {
			out := map[string]string{}
			for id, keys := range schedule.Plan(work, workers) {
				for _, k := range keys {
					require.Empty(t, out[k])
					out[k] = id
				}
			}
			require.Len(t, out, checks)
			return out
		}
		old, now := at(before), at(after)
		moved := 0
		for k := range old {
			if old[k] != now[k] {
				require.Equal(t, joined.ID, now[k])
				moved++
			}
		}
		share := float64(checks) / float64(n+1)
		require.InDelta(t, share, moved, 6*math.Sqrt(share))

		// The plan with a worker that drains is the one without it.
		out := rapid.IntRange(0, n).Draw(t, "drains")
		drains := slices.Clone(after)
		drains[out].Weight = -1
		if n > 0 {
			require.Equal(t, at(slices.Delete(slices.Clone(after), out, out+1)), at(drains))
		}
		for k, id := range at(drains) {
			if now[k] != after[out].ID {
				require.Equal(t, now[k], id)
			}
		}
	})
}

func TestPlanKeepsCopiesApartAndPrivateNetworks(t *testing.T) {
	ws := []schedule.Worker{
		{ID: "a", Region: "eu"}, {ID: "b", Region: "eu"}, {ID: "c", Region: "eu", Labels: map[string]string{"net": "dmz"}},
		{ID: "d", Region: "us"}, {ID: "e", Region: "us", Weight: -1},
	}
	list := []schedule.Work{
		{Key: "twice", Copies: 2},
		{Key: "inside", Constraint: schedule.Constraint{Labels: map[string]string{"net": "dmz"}}, Copies: 2},
		{Key: "us", Constraint: schedule.Constraint{Regions: []string{"us"}}, Copies: 3},
	}
	got := schedule.Plan(list, ws)
	for _, w := range list {
		for _, chosen := range schedule.Place(w.Key, ws, w.Constraint, w.Copies) {
			for _, c := range chosen {
				require.Contains(t, got[c.ID], w.Key)
			}
		}
	}
	count := map[string]int{}
	for _, keys := range got {
		for _, k := range keys {
			count[k]++
		}
		require.Equal(t, len(keys), len(slices.Compact(slices.Sorted(slices.Values(keys)))))
	}
	require.Equal(t, map[string]int{"twice": 3, "inside": 1, "us": 1}, count)
	require.Contains(t, got["c"], "inside")
	require.Empty(t, got["e"])
}

func BenchmarkPlan(b *testing.B) {
	work := make([]schedule.Work, 10_000)
	for i := range work {
		work[i].Key = fmt.Sprint("01JCHECK", i)
	}
	ws := make([]schedule.Worker, 9)
	for i := range ws {
		ws[i] = schedule.Worker{ID: fmt.Sprint("01KNODE", i), Region: []string{"eu", "us", "ap"}[i%3]}
	}
	for b.Loop() {
		schedule.Plan(work, ws)
	}
}

func TestPhasesSpreadEvenly(t *testing.T) {
	const n, slots = 20_000, 20
	var got [slots]int
	for i := range n {
		p := schedule.Phase(fmt.Sprint("01J", i), 20*time.Second)
		require.True(t, p >= 0 && p < 20*time.Second)
		got[p/time.Second]++
	}
	for _, c := range got {
		require.InDelta(t, n/slots, c, 0.15*n/slots)
	}
	require.Zero(t, schedule.Phase("x", 0))
}

func BenchmarkOwner(b *testing.B) {
	ws := make([]schedule.Worker, 5)
	for i := range ws {
		ws[i].ID = fmt.Sprint("01KNODE", i)
	}
	for b.Loop() {
		schedule.Owner("01JCHECK", ws)
	}
}
