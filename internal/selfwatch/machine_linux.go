package selfwatch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machineReader reads /proc, the cgroup of this process, and the file system.
type machineReader struct {
	proc, cgroup, dir string

	total, busy uint64 // ticks of all CPUs
	used        uint64 // µs of the cgroup
	at          time.Time
}

func newMachineReader(proc, cgroup, dir string) *machineReader {
	return &machineReader{proc: proc, cgroup: cgroup, dir: dir}
}

func (r *machineReader) read(now time.Time) Machine {
	var m Machine
	r.cpu(&m, now)
	r.memory(&m)
	if r.dir != "" {
		var fs syscall.Statfs_t
		if err := syscall.Statfs(r.dir, &fs); err == nil {
			// As df counts: what only root may use is neither free nor used.
			if size := fs.Blocks - fs.Bfree + fs.Bavail; size > 0 && fs.Bfree <= fs.Blocks {
				m.DiskFree, m.hasDisk = float64(fs.Bavail)/float64(size), true
			}
		}
	}
	return m
}

func (r *machineReader) cpu(m *Machine, now time.Time) {
	total, busy, ok := cpuTicks(readFile(filepath.Join(r.proc, "stat")))
	if ok {
		if r.total > 0 && total > r.total && busy >= r.busy {
			m.CPU, m.hasCPU = float64(busy-r.busy)/float64(total-r.total), true
		}
		r.total, r.busy = total, busy
	}
	// The tightest limit above this process counts; use is counted where it is set.
	quota, dir := 0.0, ""
	for _, d := range r.cgroups() {
		f := strings.Fields(readFile(filepath.Join(d, "cpu.max")))
		if len(f) != 2 {
			continue
		}
		q, err1 := strconv.ParseFloat(f[0], 64)
		p, err2 := strconv.ParseFloat(f[1], 64)
		if err1 == nil && err2 == nil && q > 0 && p > 0 && (dir == "" || q/p < quota) {
			quota, dir = q/p, d
		}
	}
	if dir == "" {
		r.used, r.at = 0, time.Time{}
		return
	}
	used, ok := field(readFile(filepath.Join(dir, "cpu.stat")), "usage_usec")
	if !ok {
		return
	}
	if elapsed := now.Sub(r.at); !r.at.IsZero() && elapsed > 0 && used >= r.used {
		share := float64(used-r.used) / (quota * float64(elapsed.Microseconds()))
		m.CPU, m.hasCPU = max(m.CPU, min(share, 1)), true
	}
	r.used, r.at = used, now
}

func (r *machineReader) memory(m *Machine) {
	info := readFile(filepath.Join(r.proc, "meminfo"))
	total, ok1 := field(info, "MemTotal:")
	available, ok2 := field(info, "MemAvailable:")
	if ok1 && ok2 && total > 0 && available <= total {
		m.Memory, m.hasMemory = 1-float64(available)/float64(total), true
	}
	for _, d := range r.cgroups() {
		limit, err := strconv.ParseUint(strings.TrimSpace(readFile(filepath.Join(d, "memory.max"))), 10, 64)
		if err != nil || limit == 0 {
			continue // "max": no limit here
		}
		used, err := strconv.ParseUint(strings.TrimSpace(readFile(filepath.Join(d, "memory.current"))), 10, 64)
		if err != nil {
			continue
		}
		// File pages that are not in use are given back when memory is short.
		if cache, ok := field(readFile(filepath.Join(d, "memory.stat")), "inactive_file"); ok {
			used -= min(used, cache)
		}
		m.Memory, m.hasMemory = max(m.Memory, min(float64(used)/float64(limit), 1)), true
	}
}

// cgroups returns the directory of this process' control group (version 2) and
// those above it.
func (r *machineReader) cgroups() []string {
	for line := range strings.Lines(readFile(filepath.Join(r.proc, "self/cgroup"))) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		var out []string
		for path = filepath.Clean("/" + path); ; path = filepath.Dir(path) {
			out = append(out, filepath.Join(r.cgroup, path))
			if path == "/" {
				return out
			}
		}
	}
	return nil
}

// cpuTicks reads the first line of /proc/stat.
func cpuTicks(stat string) (total, busy uint64, ok bool) {
	line, _, _ := strings.Cut(stat, "\n")
	f := strings.Fields(line)
	if len(f) < 6 || f[0] != "cpu" {
		return 0, 0, false
	}
	// user nice system idle iowait irq softirq steal; guests are in user already.
	for i, s := range f[1:min(len(f), 9)] {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return 0, 0, false
		}
		total += v
		if i != 3 && i != 4 {
			busy += v
		}
	}
	return total, busy, true
}

// field returns the number after name at the beginning of a line.
func field(text, name string) (uint64, bool) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) >= 2 && f[0] == name {
			v, err := strconv.ParseUint(f[1], 10, 64)
			return v, err == nil
		}
	}
	return 0, false
}

// readFile returns what there is, at most 64 KiB; nothing when it cannot be read.
func readFile(name string) string {
	f, err := os.Open(name)
	if err != nil {
		return ""
	}
	defer f.Close()
	var b bytes.Buffer
	_, _ = io.Copy(&b, io.LimitReader(f, 64<<10))
	return b.String()
}
