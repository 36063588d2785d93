package selfwatch

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTrend reaches inside: a disk cannot be filled for hours in a test.
func TestTrend(t *testing.T) {
	at := time.Now()
	fill := func(tr *trend, minutes int, free, perHour float64) float64 {
		for range minutes {
			tr.add(at, free)
			at = at.Add(time.Minute)
			free -= perHour / 60
		}
		return free
	}
	var tr trend
	free := fill(&tr, 59, 0.5, 0.03)
	_, ok := tr.fullIn()
	require.False(t, ok, "less than an hour says nothing")
	free = fill(&tr, 60, free, 0.03)
	left, ok := tr.fullIn()
	require.True(t, ok)
	require.InDelta(t, free/0.03, left.Hours(), 0.1)
	// Something was deleted: nothing is known any more.
	fill(&tr, 30, 0.9, 0)
	_, ok = tr.fullIn()
	require.False(t, ok)
	fill(&tr, 120, 0.9, 0)
	_, ok = tr.fullIn()
	require.False(t, ok, "it does not fill")
	fill(&tr, 24*60, 0.9, 0.0001)
	require.LessOrEqual(t, len(tr.points), 6*60+1)
}

func TestDiskFilling(t *testing.T) {
	w := &Watch{cfg: Config{Name: "n1"}}
	require.Empty(t, diskFilling(w, nil, 15), "nothing is known")
	w.machine = Machine{DiskFree: 0.16, hasDisk: true}
	require.Empty(t, diskFilling(w, nil, 15))
	w.machine.DiskFree = 0.149
	require.Contains(t, diskFilling(w, nil, 15)[0].detail.EN, "14.9 %")
	// Half of it is free, but not for long.
	at := time.Now()
	for i := range 90 {
		w.machine.DiskFree = 0.6 - float64(i)*0.001
		w.disk.add(at.Add(time.Duration(i)*time.Minute), w.machine.DiskFree)
	}
	require.Contains(t, diskFilling(w, nil, 15)[0].detail.EN, "full in 8h31m")
}
