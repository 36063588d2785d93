package selfwatch_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/selfwatch"
)

// box is a machine made of files.
type box struct {
	t            *testing.T
	proc, cgroup string
	busy, idle   int
}

func newBox(t *testing.T) *box {
	b := &box{t: t, proc: t.TempDir(), cgroup: t.TempDir()}
	b.ticks(0, 100)
	return b
}

func (b *box) write(path, text string) {
	b.t.Helper()
	require.NoError(b.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(b.t, os.WriteFile(path, []byte(text), 0o644))
}

func (b *box) ticks(busy, idle int) {
	b.busy, b.idle = b.busy+busy, b.idle+idle
	b.write(filepath.Join(b.proc, "stat"), fmt.Sprintf("cpu  %d 0 0 %d 0 0 0 0 0 0\ncpu0 1 1 1 1\n", b.busy, b.idle))
}

func (b *box) memory(availablePercent int) {
	b.write(filepath.Join(b.proc, "meminfo"), fmt.Sprintf("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: %d kB\n", availablePercent*10))
}

func TestMachineRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newBox(t)
		m.memory(9)
		b := start(t, selfwatch.Config{ProcDir: m.proc, CgroupDir: m.cgroup, Dir: t.TempDir()}, selfwatch.Settings{}, three)
		run := func(d time.Duration, busy int) {
			for range d / (15 * time.Second) {
				m.ticks(busy, 100-busy)
				b.after(15 * time.Second)
			}
		}
		run(4*time.Minute+45*time.Second, 85)
		require.Empty(t, b.firing())
		run(2*time.Minute, 85)
		require.Equal(t, []string{"HighCPU n1", "HighMemory n1"}, b.firing())
		require.InDelta(t, 0.85, b.Machine().CPU, 1e-9)
		require.InDelta(t, 0.91, b.Machine().Memory, 1e-9)
		_, _, disk := b.Machine().Known()
		require.True(t, disk)
		require.Greater(t, b.Machine().DiskFree, 0.0)
		m.memory(50)
		run(2*time.Minute, 20)
		require.Empty(t, b.firing())
	})
}

func TestContainerLimitsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newBox(t)
		m.memory(90)
		m.write(filepath.Join(m.proc, "self/cgroup"), "0::/a/b\n")
		// The limit is set one level above, half a CPU and 1000 bytes.
		m.write(filepath.Join(m.cgroup, "a/cpu.max"), "50000 100000\n")
		m.write(filepath.Join(m.cgroup, "a/b/cpu.max"), "max 100000\n")
		m.write(filepath.Join(m.cgroup, "a/memory.max"), "1000\n")
		m.write(filepath.Join(m.cgroup, "a/b/memory.max"), "max\n")
		m.write(filepath.Join(m.cgroup, "a/memory.current"), "1000\n")
		m.write(filepath.Join(m.cgroup, "a/memory.stat"), "anon 1\ninactive_file 200\n")
		used := 0
		spend := func(d time.Duration) {
			used += int(d.Microseconds())
			m.write(filepath.Join(m.cgroup, "a/cpu.stat"), fmt.Sprintf("usage_usec %d\nuser_usec 1\n", used))
		}
		spend(time.Second)
		b := start(t, selfwatch.Config{ProcDir: m.proc, CgroupDir: m.cgroup}, selfwatch.Settings{}, three)
		m.ticks(1, 99)
		spend(6 * time.Second) // of 7.5 that it may use in 15 s
		b.after(15 * time.Second)
		require.InDelta(t, 0.8, b.Machine().CPU, 1e-6)
		require.InDelta(t, 0.8, b.Machine().Memory, 1e-9)
	})
}

func TestRealMachineIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, selfwatch.Config{ProcDir: "/proc", CgroupDir: "/sys/fs/cgroup", Dir: t.TempDir()}, selfwatch.Settings{}, three)
		_, memory, disk := b.Machine().Known()
		require.True(t, memory)
		require.True(t, disk)
		require.Greater(t, b.Machine().Memory, 0.0)
	})
}
