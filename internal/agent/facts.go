package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Facts are what a machine says of itself.
type Facts struct {
	Hostname  string
	Machine   string    // hash of its id: the same machine under another name is still the same
	Boot      string    // made anew at each start of the machine
	BootTime  time.Time //
	OS, Arch  string
	Addresses []string // without loopback and link-local ones
}

func facts() Facts {
	f := Facts{OS: runtime.GOOS, Arch: runtime.GOARCH, Addresses: addresses()}
	if h, err := os.Hostname(); err == nil {
		f.Hostname = h[:min(len(h), 255)]
	}
	if id := machineID(); id != "" {
		sum := sha256.Sum256([]byte("panoptes machine " + id))
		f.Machine = hex.EncodeToString(sum[:16])
	}
	f.Boot, f.BootTime = boot()
	return f
}

func addresses() (out []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ok && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && len(out) < 16 {
			out = append(out, ip.String())
		}
	}
	return out
}

// scanTwo reads two numbers and returns how many there were.
func scanTwo(s string, a, b *int64) int {
	fields := strings.Fields(s)
	n := 0
	for i, p := range []*int64{a, b} {
		if i >= len(fields) {
			break
		}
		v, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			break
		}
		*p = v
		n++
	}
	return n
}
