package agentcli

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// releasePages drops the pages of the program itself that are in memory: most
// were needed once, to begin. They are never written; those that are needed
// come back from the file when they are.
func releasePages() {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // only read
	for sc := bufio.NewScanner(f); sc.Scan(); {
		// 00400000-00c8e000 r-xp 00000000 fd:01 123 /usr/bin/panoptes-agent
		fields := strings.Fields(sc.Text())
		if len(fields) < 6 || fields[5] != self || !strings.HasPrefix(fields[1], "r-") || fields[1][3] != 'p' {
			continue
		}
		from, to, ok := strings.Cut(fields[0], "-")
		a, aerr := strconv.ParseUint(from, 16, 64)
		b, berr := strconv.ParseUint(to, 16, 64)
		if ok && aerr == nil && berr == nil && b > a {
			_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, uintptr(a), uintptr(b-a), syscall.MADV_DONTNEED)
		}
	}
}
