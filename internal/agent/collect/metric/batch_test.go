package metric

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLabelSetsAreBuiltOnceAndForgotten(t *testing.T) {
	b := NewBatch(1000)
	b.Reset(1)
	b.Add("m", 1, "b", "2", "a", "1", "empty", "")
	b.Add("m", math.NaN(), "a", "nan")
	b.Add("m", 2, "b", "2", "a", "1", "empty", "")
	require.Equal(t, `{__name__="m", a="1", b="2"}`, b.Samples()[0].Labels.String())
	require.Len(t, b.Samples(), 1)
	over, twice, built := b.Stats()
	require.Equal(t, []any{0, 1, uint64(1)}, []any{over, twice, built})
	for i := range 100 {
		b.Reset(int64(i))
		b.Add("other", 1, "i", fmt.Sprint(i))
	}
	require.Less(t, len(b.series), 3*idleRounds, "what is gone is forgotten")
	require.Equal(t, len(b.series), len(b.byHash))
	_, _, built = b.Stats()
	require.EqualValues(t, 101, built)
}

// Hostile strings become valid, bounded label values, and two that become the
// same are one series.
func TestHostileLabelValues(t *testing.T) {
	b := NewBatch(1000)
	b.Reset(1)
	b.Add("m", 1, "a", strings.Repeat("é", 1000)+"1")
	b.Add("m", 2, "a", strings.Repeat("é", 1000)+"2")
	b.Add("m", 3, "a", "x\xffy", "a", "twice")
	b.Add("m", 4, "a", "odd", "b")
	require.Len(t, b.Samples(), 3)
	require.Len(t, b.Samples()[0].Labels.Get("a"), MaxLabelValue)
	require.Equal(t, "xy", b.Samples()[1].Labels.Get("a"))
	require.Equal(t, "odd", b.Samples()[2].Labels.Get("a"))
}

func TestAddDoesNotAllocate(t *testing.T) {
	b := NewBatch(1000)
	n := testing.AllocsPerRun(1000, func() {
		b.Reset(1)
		b.Add("node_cpu_seconds_total", 1, "cpu", "0", "mode", "user")
		b.Add("node_load1", 1)
	})
	require.Zero(t, n)
}
