package hosts

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// What was refused for want of room is described again when there may be some: the
// agent has no reason to do so by itself, and its stream may last for months.
func TestSeriesThatWereRefusedComeWhenThereIsRoom(t *testing.T) {
	o := offer(t, &model.Node{ID: "a1", Name: "web-1", Role: model.RoleAgent, Region: "eu", Checks: true})
	o.h.series.mu.Lock()
	o.h.series.max = 3
	o.h.series.mu.Unlock()
	for i := range 3 {
		require.True(t, o.h.series.allow("a1", labels.FromStrings("__name__", "node_gone", "i", fmt.Sprint(i))))
	}
	require.Zero(t, o.sample(), "there is no room")
	now := time.Now()
	o.h.turn(now.Add(59 * time.Minute))
	o.settle()
	require.Empty(t, o.kinds[uplink.KindRestart])

	o.h.turn(now.Add(61 * time.Minute))
	o.hear(uplink.KindRestart)
	o.anew = true
	require.Zero(t, o.sample(), "the others were there an hour ago")
	o.h.turn(now.Add(122 * time.Minute))
	o.hear(uplink.KindRestart)
	o.anew = true
	require.Equal(t, 1, o.sample())

	o.h.turn(now.Add(183 * time.Minute))
	o.settle()
	require.Len(t, o.kinds[uplink.KindRestart], 2, "nothing was refused since")
}
