package schedule_test

import (
	"fmt"
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
