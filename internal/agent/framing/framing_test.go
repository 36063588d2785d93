package framing_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/framing"
	"panoptes/internal/model"
)

// A dictionary is restarted before a server has too much of it.
func TestADictionaryIsBounded(t *testing.T) {
	for name, c := range map[string]struct{ value, most int }{"series": {1, 21_000}, "text": {2000, 4200}} {
		t.Run(name, func(t *testing.T) {
			e, err := framing.New()
			require.NoError(t, err)
			pad, n := strings.Repeat("x", c.value), 0
			var buf []byte
			for ; !e.Full(); n += 100 {
				require.Less(t, n, c.most)
				var samples []model.Sample
				for i := range 100 {
					samples = append(samples, model.Sample{Labels: labels.FromStrings("__name__", "a", "v", fmt.Sprint(pad, n+i)), T: 1})
				}
				buf, err = e.Append(buf[:0], samples, nil)
				require.NoError(t, err)
			}
			require.Greater(t, n, c.most/2)
			e.Restart()
			require.False(t, e.Full())
		})
	}
}
