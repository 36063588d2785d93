package agent

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"time"
)

func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line[:min(len(line), 64)])
}

func machineID() string {
	if id := firstLine("/etc/machine-id"); id != "" {
		return id
	}
	return firstLine("/var/lib/dbus/machine-id")
}

func boot() (string, time.Time) {
	id := firstLine("/proc/sys/kernel/random/boot_id")
	f, err := os.Open("/proc/stat")
	if err != nil {
		return id, time.Time{}
	}
	defer f.Close() //nolint:errcheck // only read
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if s, ok := strings.CutPrefix(sc.Text(), "btime "); ok {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil {
				return id, time.Unix(n, 0).UTC()
			}
		}
	}
	return id, time.Time{}
}
