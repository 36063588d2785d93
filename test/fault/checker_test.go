//go:build fault && linux

package fault

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The checker finds what is missing: told of acknowledgements that never were,
// it names each.
func TestMechanismChecker(t *testing.T) {
	c := newCluster(t, setup{regions: []string{"eu"}, checks: 1})
	l := c.startLoad()
	n := c.nodes[0]
	l.stop()
	l.samples.wg.Wait()
	l.records.wg.Wait()
	lost, err := l.samples.lost(n)
	require.NoError(t, err)
	require.Zero(t, lost)
	records, events, err := l.records.lost(n)
	require.NoError(t, err)
	require.Zero(t, records+events)

	wr := &l.samples.writers[2]
	wr.batches = append(wr.batches, batch{seq: 100_000, first: time.Now().UnixMilli(), node: "n1"})
	lost, err = l.samples.lost(n)
	require.ErrorContains(t, err, "batch 100000")
	require.Equal(t, l.samples.perSeries*seriesPerWriter, lost)
	wr.batches = wr.batches[:len(wr.batches)-1]

	// A value that changed is found although the number of samples is right.
	wr.batches[3].seq++
	_, err = l.samples.lost(n)
	require.ErrorContains(t, err, "was acknowledged as")
	wr.batches[3].seq--
	_, err = l.samples.lost(n)
	require.NoError(t, err)

	rw := &l.records.writers[1]
	name := recordPrefix + "1-00"
	newest := rw.newest[name]
	rw.newest[name] = change{id: newest.id, revision: newest.revision + 1, text: "change 999999"}
	rw.acked[name+" change 999999"] = true
	records, events, err = l.records.lost(n)
	require.ErrorContains(t, err, "change 999999")
	require.Equal(t, 1, records)
	require.Equal(t, 1, events)
}
