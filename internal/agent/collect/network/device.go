// Package network reads interfaces, protocols, sockets and connection tracking.
package network

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"regexp"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Tree is the net directory of /proc: the host's, even when /proc is mounted
// elsewhere, where "net" would be this process' own.
func Tree(proc source.Tree) source.Tree {
	if proc.Root != "/proc" {
		if t := (source.Tree{Root: proc.Path("1/net")}); exists(t.Path("dev")) {
			return t
		}
	}
	return source.Tree{Root: proc.Path("net")}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// filter leaves out interfaces by name and remembers its answers.
type filter struct {
	re *regexp.Regexp
	m  map[string]bool
}

func (f *filter) skip(dev string) bool {
	if f.re == nil {
		return false
	}
	skip, ok := f.m[dev]
	if !ok {
		if f.m == nil || len(f.m) > 10000 {
			f.m = map[string]bool{}
		}
		skip = f.re.MatchString(dev)
		f.m[dev] = skip
	}
	return skip
}

// Devices reads the counters of the interfaces.
type Devices struct {
	net    source.Tree
	sys    source.Tree
	r, r2  source.Reader
	names  source.Interner
	field  [17][]byte
	filter filter
}

// NewDevices makes the collector "netdev".
func NewDevices(net, sys source.Tree, exclude *regexp.Regexp) *Devices {
	return &Devices{net: net, sys: sys, filter: filter{re: exclude}}
}

// Name implements metric.Collector.
func (c *Devices) Name() string { return "netdev" }

// In the order of /proc/net/dev.
var devCounters = [...]string{
	"node_network_receive_bytes_total", "node_network_receive_packets_total", "node_network_receive_errs_total",
	"node_network_receive_drop_total", "node_network_receive_fifo_total", "node_network_receive_frame_total",
	"node_network_receive_compressed_total", "node_network_receive_multicast_total",
	"node_network_transmit_bytes_total", "node_network_transmit_packets_total", "node_network_transmit_errs_total",
	"node_network_transmit_drop_total", "node_network_transmit_fifo_total", "node_network_transmit_colls_total",
	"node_network_transmit_carrier_total", "node_network_transmit_compressed_total",
}

// Collect implements metric.Collector.
func (c *Devices) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.net.Path("dev"))
	if err != nil {
		return err
	}
	ok := false
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		i := bytes.LastIndexByte(line, ':')
		if i < 0 {
			continue
		}
		dev := c.names.Get(bytes.TrimSpace(line[:i]))
		f := source.Fields(line[i+1:], c.field[:0])
		if dev == "" || len(f) < len(devCounters) {
			continue
		}
		ok = true
		if c.filter.skip(dev) {
			continue
		}
		for j, name := range devCounters {
			if v, ok := source.Float(f[j]); ok {
				out.Add(name, v, "device", dev)
			}
		}
		if v, ok := c.r2.Number(c.sys.Path("class/net", dev, "statistics/rx_nohandler")); ok {
			out.Add("node_network_receive_nohandler_total", v, "device", dev)
		}
	}
	if !ok {
		return fmt.Errorf("%s names no interface", c.net.Path("dev"))
	}
	return nil
}
