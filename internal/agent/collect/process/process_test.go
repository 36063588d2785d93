package process

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// host is a /proc of our making.
type host struct {
	t   *testing.T
	dir string
}

func newHost(t *testing.T) host {
	h := host{t, t.TempDir()}
	require.NoError(t, os.WriteFile(h.dir+"/stat", []byte("cpu 1\nbtime 1700000000\n"), 0o644))
	return h
}

func (h host) process(pid int, name string, start, ticks, pages int, written int) {
	d := filepath.Join(h.dir, strconv.Itoa(pid))
	require.NoError(h.t, os.MkdirAll(d, 0o755))
	stat := fmt.Sprintf("%d (%s) S 1 1 1 0 -1 0 0 0 0 0 %d 0 0 0 20 0 1 0 %d 4096 %d 0\n", pid, name, ticks, start, pages)
	require.NoError(h.t, os.WriteFile(d+"/stat", []byte(stat), 0o644))
	require.NoError(h.t, os.WriteFile(d+"/io", fmt.Appendf(nil, "rchar: 1\nread_bytes: 0\nwrite_bytes: %d\n", written), 0o644))
	require.NoError(h.t, os.WriteFile(d+"/cmdline", []byte(name+"\x00--password=geheim\x00"), 0o644))
}

func (h host) collect(c *Processes) map[string]float64 {
	c.next = time.Time{}
	b := metric.NewBatch(5000)
	b.Reset(1)
	require.NoError(h.t, c.Collect(h.t.Context(), b))
	m := map[string]float64{}
	for _, s := range b.Samples() {
		m[s.Labels.String()] = s.V
	}
	return m
}

func TestUseOfNamesOnlyGrows(t *testing.T) {
	h := newHost(t)
	c := New(source.Tree{Root: h.dir}, []Group{{"web", regexp.MustCompile("^nginx")}}, 3)
	h.process(10, "nginx", 5, 1000, 100, 500)
	h.process(11, "nginx", 6, 1000, 100, 500)
	h.collect(c)

	h.process(10, "nginx", 5, 1100, 100, 1500)
	m := h.collect(c)
	cpu, written := `{__name__="panoptes_agent_process_cpu_seconds_total", name="nginx"}`, `{__name__="panoptes_agent_process_written_bytes_total", name="nginx"}`
	require.Equal(t, 1., m[cpu])
	require.Equal(t, 1000., m[written])
	require.Equal(t, 2., m[`{__name__="namedprocess_namegroup_num_procs", groupname="web"}`])
	require.Equal(t, 1700000000.05, m[`{__name__="namedprocess_namegroup_oldest_start_time_seconds", groupname="web"}`])

	// One ends, its pid comes again as another process that used 0.2 s.
	h.process(10, "nginx", 900, 20, 100, 70)
	require.NoError(t, os.RemoveAll(h.dir+"/11"))
	m = h.collect(c)
	require.InDelta(t, 1.2, m[cpu], 1e-9)
	require.Equal(t, 1070., m[written])
	require.InDelta(t, 1.2, m[`{__name__="namedprocess_namegroup_cpu_seconds_total", groupname="web"}`], 1e-9)
	require.Equal(t, 1., m[`{__name__="namedprocess_namegroup_num_procs", groupname="web"}`])
}

// A walk that is cut, or that cannot read a process, makes nobody new: what a
// process used before is not counted once more.
func TestAWalkThatIsCutCountsNothingTwice(t *testing.T) {
	const cpu, written, group = `{__name__="panoptes_agent_process_cpu_seconds_total", name="nginx"}`, `{__name__="panoptes_agent_process_written_bytes_total", name="nginx"}`,
		`{__name__="namedprocess_namegroup_cpu_seconds_total", groupname="web"}`
	newTable := func() (host, *Processes) {
		h := newHost(t)
		for pid := 10; pid < 20; pid++ {
			h.process(pid, "nginx", pid, 100_000, 100, 1<<30)
		}
		return h, New(source.Tree{Root: h.dir}, []Group{{"web", regexp.MustCompile("^nginx")}}, 3)
	}
	cut := func(c *Processes, after int) {
		require.NoError(t, c.t.update(func() bool { after--; return after < 0 }))
	}
	t.Run("later", func(t *testing.T) {
		h, c := newTable()
		h.collect(c)
		for pid := 10; pid < 20; pid++ {
			h.process(pid, "nginx", pid, 100_100, 100, 1<<30+10)
		}
		cut(c, 3)
		cut(c, 0)
		m := h.collect(c)
		require.InDelta(t, 10, m[cpu], 1e-9, "a second each")
		require.EqualValues(t, 100, m[written])
		require.InDelta(t, 10, m[group], 1e-9)
	})
	t.Run("the first", func(t *testing.T) {
		h, c := newTable()
		cut(c, 3)
		m := h.collect(c)
		require.Zero(t, m[cpu], "it was used before")
		require.Zero(t, m[written])
		require.Zero(t, m[group])
	})
	t.Run("no file left", func(t *testing.T) {
		h, c := newTable()
		h.collect(c)
		stat := h.dir + "/15/stat"
		require.NoError(t, os.Rename(stat, stat+".away"))
		require.NoError(t, os.Mkdir(stat, 0o755)) // there, and not to be read
		h.collect(c)
		require.NoError(t, os.Remove(stat))
		require.NoError(t, os.Rename(stat+".away", stat))
		m := h.collect(c)
		require.Zero(t, m[cpu])
		require.Zero(t, m[written])

		// One that is gone is forgotten all the same.
		require.NoError(t, os.RemoveAll(h.dir+"/16"))
		cut(c, 3)
		require.NotContains(t, c.t.procs, 16)
		require.Contains(t, c.t.procs, 17)
	})
}

// A fork bomb with a new name for each process does not become series.
func TestNamesAreBounded(t *testing.T) {
	h := newHost(t)
	c := New(source.Tree{Root: h.dir}, nil, 5)
	for round := range 4 {
		for i := range 40 {
			h.process(100+i, fmt.Sprintf("n%d-%d", round, i), round*1000+i+1, round*10+i, 100+i, i)
		}
		names := map[string]bool{}
		for k := range h.collect(c) {
			if m := regexp.MustCompile(`panoptes_agent_process_count", name="([^"]+)"`).FindStringSubmatch(k); m != nil {
				names[m[1]] = true
			}
		}
		require.NotEmpty(t, names)
		require.LessOrEqual(t, len(names), 20, "four times the top")
	}
}

func TestSnapshotHasNoArguments(t *testing.T) {
	h := newHost(t)
	c := New(source.Tree{Root: h.dir}, nil, 5)
	h.process(10, "db", 100, 1000, 100, 0)
	h.collect(c)
	h.process(10, "db", 100, 1100, 100, 0)
	top, err := c.Top(t.Context(), 5)
	require.NoError(t, err)
	require.Len(t, top, 1)
	require.Equal(t, "db", top[0].Program)
	require.NotContains(t, fmt.Sprintf("%+v", top), "geheim")
	require.Greater(t, top[0].CPU, 0.)
	require.Equal(t, int64(1700000001), top[0].Started.Unix())
	// The round's own counters are not disturbed.
	require.Equal(t, 1., h.collect(c)[`{__name__="panoptes_agent_process_cpu_seconds_total", name="db"}`])
}
