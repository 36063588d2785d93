package app

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// machine measures how busy this machine is.
type machine struct {
	mu         sync.Mutex // guards what follows
	busy, idle float64    // seconds of all CPUs, when it was asked last
	share      float64
}

// CPU returns the share of the CPUs in use since it was asked last, 0 to 1; 0
// where /proc does not tell.
func (m *machine) CPU() float64 {
	if runtime.GOOS != "linux" {
		return 0
	}
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line)
	if len(fields) < 6 || fields[0] != "cpu" {
		return 0
	}
	var busy, idle float64
	for i, f := range fields[1:min(len(fields), 9)] { // guest time is part of user time
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0
		}
		if i == 3 || i == 4 { // idle, iowait
			idle += v
		} else {
			busy += v
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if total := busy + idle - m.busy - m.idle; total > 0 {
		m.share = (busy - m.busy) / total
	}
	m.busy, m.idle = busy, idle
	return m.share
}
