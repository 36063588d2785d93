package spool_test

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
)

// killed starts the writer and kills it when it has synced some more.
func killed(t *testing.T, dir string) {
	t.Helper()
	before := size(filepath.Join(dir, "synced"))
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "SPOOL_TEST_DIR="+dir)
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return size(filepath.Join(dir, "synced")) > before+40 }, 20*time.Second, time.Millisecond)
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// writer appends and syncs; each line of the file "synced" is a record that is durable.
func writer(dir string) {
	s, err := spool.Open(spool.Config{Dir: filepath.Join(dir, "spool"), SegmentBytes: 4 << 10}, spool.Deps{Now: func() time.Time { return time.UnixMilli(0) }})
	if err != nil {
		panic(err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "synced"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	b, err := os.ReadFile(log.Name())
	if err != nil {
		panic(err)
	}
	next := int64(1)
	for _, c := range b {
		if c == '\n' {
			next++
		}
	}
	// What was written and not logged when it was killed is there already.
	if n := s.Stats().Waiting / int64(len(series)); n >= next {
		for ; next <= n; next++ {
			_, _ = log.WriteString("\n")
		}
	}
	for ; ; next++ {
		if _, err := s.Append(batch(next), nil); err != nil {
			panic(err)
		}
		if err := s.Sync(); err != nil {
			panic(err)
		}
		if _, err := log.WriteString("\n"); err != nil {
			panic(err)
		}
	}
}

// host makes rounds as a host does: most series stand still, some count, some
// are gauges.
type host struct {
	labels []labels.Labels
	values []float64
	r      *rand.Rand
}

func newHost(n int) *host {
	h := &host{r: rand.New(rand.NewPCG(1, 2))}
	for i := range n {
		h.labels = append(h.labels, labels.FromStrings("__name__", "node_metric_"+strconv.Itoa(i/4)+"_total", "device", "dev"+strconv.Itoa(i%4)))
		h.values = append(h.values, float64(h.r.IntN(1e9)))
	}
	return h
}

func (h *host) round(t int64) []model.Sample {
	out := make([]model.Sample, len(h.labels))
	for i := range out {
		switch {
		case i%10 < 2: // counters
			h.values[i] += float64(h.r.IntN(100_000))
		case i%10 == 2: // seconds of a processor
			h.values[i] += float64(h.r.IntN(1500)) / 100
		}
		out[i] = model.Sample{Labels: h.labels[i], T: t, V: h.values[i]}
	}
	return out
}
