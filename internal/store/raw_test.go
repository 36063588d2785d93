package store

import (
	"math"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"github.com/stretchr/testify/require"
)

// FuzzRaw checks that what is taken can be sent on unchanged.
func FuzzRaw(f *testing.F) {
	good := appendEntry([]byte{rawVersion}, entry{labels.FromStrings("__name__", "m", "a", "b"), []sample{
		{t: -5, v: math.NaN()}, {t: 7, ih: tsdbutil.GenerateTestHistogram(3)}, {t: 1 << 41, fh: tsdbutil.GenerateTestFloatHistogram(4)},
	}})
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{1, 1, 1, 'a', 1, 'b', 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, m []byte) {
		entries, err := decodeRaw(m)
		if err != nil {
			require.ErrorIs(t, err, errRaw)
			return
		}
		again := []byte{rawVersion}
		for _, e := range entries {
			require.LessOrEqual(t, len(e.samples), rawEntry)
			again = appendEntry(again, e)
		}
		twice, err := decodeRaw(again)
		require.NoError(t, err)
		require.Len(t, twice, len(entries))
		for i, e := range entries {
			require.Zero(t, labels.Compare(e.ls, twice[i].ls))
			require.Len(t, twice[i].samples, len(e.samples))
			for k, s := range e.samples {
				require.Equal(t, s.t, twice[i].samples[k].t)
				require.True(t, equal(s, twice[i].samples[k]))
			}
		}
	})
}
