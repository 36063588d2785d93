package app

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"panoptes/internal/schedule"
)

// gapsOf makes servers that hear each other.
func gapsOf(ids ...string) map[string]*jobGaps {
	all := map[string]*jobGaps{}
	for _, id := range ids {
		all[id] = newJobGaps(id, func(b []byte) {
			for _, other := range all {
				_ = other.merge(b)
			}
		})
	}
	for _, g := range all {
		g.tell()
	}
	return all
}

func TestTargetsAreForServersThatKnowThem(t *testing.T) {
	workers := []schedule.Worker{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}}
	all := gapsOf("n1", "n2", "n3")
	// shares is who scrapes the targets of a job; all servers must say the same.
	shares := func(job string, workers ...schedule.Worker) map[string]int {
		out := map[string]int{}
		for i := range 60 {
			for self, g := range all {
				if w, ok := g.owner(fmt.Sprint(job, i), job, workers); ok && w.ID == self {
					out[self]++
				}
			}
		}
		return out
	}
	require.Len(t, shares("shop", workers...), 3, "nobody knows anything: each does what it finds")
	all["n1"].lacking(nil)
	require.Equal(t, map[string]int{"n1": 60}, shares("shop", workers...))
	all["n2"].lacking(nil)
	all["n3"].lacking([]string{"shop"})
	got := shares("shop", workers...)
	require.Zero(t, got["n3"])
	require.Equal(t, 60, got["n1"]+got["n2"], "what one does not know the others scrape")
	require.Len(t, shares("web", workers...), 3, "it concerns that job only")
	all["n3"].lacking(nil)
	require.Len(t, shares("shop", workers...), 3, "and returns")

	all["n2"].lacking([]string{"shop"})
	all["n3"].lacking([]string{"shop"})
	leaving := []schedule.Worker{{ID: "n1", Weight: -1}, {ID: "n2"}, {ID: "n3"}}
	require.Equal(t, map[string]int{"n1": 60}, shares("shop", leaving...), "the one that leaves does it as long as nobody else can")

	// A server that begins anew has forgotten what it knew; what it said before,
	// arriving late, does not count.
	before, err := all["n1"].state()
	require.NoError(t, err)
	all["n2"].lacking(nil)
	all["n1"] = newJobGaps("n1", all["n1"].broadcast)
	all["n1"].tell()
	require.Equal(t, map[string]int{"n2": 60}, shares("shop", workers...))
	again, err := all["n1"].state()
	require.NoError(t, err)
	require.NoError(t, all["n2"].merge(before))
	require.NoError(t, all["n2"].merge(again))
	require.Equal(t, map[string]int{"n2": 60}, shares("shop", workers...))

	old := append(workers, schedule.Worker{ID: "n0"})
	require.NotEqual(t, map[string]int{"n2": 60}, shares("shop", old...), "one that says nothing counts as knowing all")
}

func TestJobGapsAreBounded(t *testing.T) {
	g := newJobGaps("n1", func([]byte) {})
	g.lacking(strings.Split(strings.Repeat("j,", maxGapJobs+1), ","))
	require.False(t, g.can("n1", "other"), "more than can be told: all of them")
	b, err := g.state()
	require.NoError(t, err)
	require.Less(t, len(b), 1000)

	news := 0
	g.changed = func() { news++ }
	say := func(gap jobGap) error {
		b, err := json.Marshal(gap)
		require.NoError(t, err)
		return g.merge(b)
	}
	require.NoError(t, say(jobGap{Node: "n2", Life: "a", Seq: 2, Jobs: []string{"shop"}}))
	require.NoError(t, say(jobGap{Node: "n2", Life: "a", Seq: 1}))
	require.NoError(t, say(jobGap{Node: "n1", Life: "b", Seq: 9}))
	require.Equal(t, 1, news)
	require.False(t, g.can("n2", "shop"))
	require.False(t, g.can("n1", "shop"), "nobody speaks for this server")
	for _, bad := range []string{"", "[]", "{", `{"node":""}`, `{"node":"` + strings.Repeat("n", 1000) + `"}`, strings.Repeat(" ", maxGapBytes) + "{}"} {
		require.Error(t, g.merge([]byte(bad)))
	}
	for i := range 10 * maxGapNodes {
		require.NoError(t, say(jobGap{Node: fmt.Sprint("x", i), All: true}))
	}
	require.LessOrEqual(t, len(g.told), maxGapNodes)
	require.False(t, g.can("n1", "shop"))
}
