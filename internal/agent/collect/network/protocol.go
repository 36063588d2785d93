package network

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Protocols reads the counters of IP, TCP, UDP and ICMP.
type Protocols struct {
	net   source.Tree
	r     source.Reader
	names source.Interner
	key   []byte
	field [2][]byte
}

// NewProtocols makes the collector "netstat".
func NewProtocols(net source.Tree) *Protocols { return &Protocols{net: net} }

// Name implements metric.Collector.
func (c *Protocols) Name() string { return "netstat" }

// wanted are the fields that node_exporter has by default.
var wanted = regexp.MustCompile(`^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|` +
	`TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|` +
	`Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|` +
	`Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$`)

// Collect implements metric.Collector.
func (c *Protocols) Collect(_ context.Context, out *metric.Batch) error {
	for _, file := range [...]string{"netstat", "snmp"} {
		b, err := c.r.Read(c.net.Path(file))
		if err != nil {
			return err
		}
		for len(b) > 0 {
			var head, values []byte
			head, b = source.Line(b)
			values, b = source.Line(b)
			if err := c.pair(out, head, values); err != nil {
				return fmt.Errorf("%s: %w", c.net.Path(file), err)
			}
		}
	}
	b, err := c.r.Read(c.net.Path("snmp6"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no IPv6
	}
	if err != nil {
		return err
	}
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		f := source.Fields(line, c.field[:0])
		if len(f) < 2 {
			continue
		}
		if six := bytes.IndexByte(f[0], '6'); six >= 0 {
			c.add(out, f[0][:six+1], f[0][six+1:], f[1])
		}
	}
	return nil
}

// pair reads "Tcp: Name Name" and "Tcp: 1 2".
func (c *Protocols) pair(out *metric.Batch, head, values []byte) error {
	i, j := bytes.IndexByte(head, ':'), bytes.IndexByte(values, ':')
	if i < 0 || j < 0 || !bytes.Equal(head[:i], values[:j]) {
		return errors.New("names and values do not go together")
	}
	proto := head[:i]
	head, values = head[i+1:], values[j+1:]
	for {
		var name, v []byte
		name, head = word(head)
		v, values = word(values)
		if len(name) == 0 || len(v) == 0 {
			return nil
		}
		c.add(out, proto, name, v)
	}
}

func (c *Protocols) add(out *metric.Batch, proto, name, value []byte) {
	c.key = append(append(append(c.key[:0], proto...), '_'), name...)
	full := c.names.Name(c.key, func(k string) string {
		if !wanted.MatchString(k) {
			return ""
		}
		return "node_netstat_" + metric.Sanitize(k)
	})
	if full == "" {
		return
	}
	if v, ok := source.Float(value); ok {
		out.Add(full, v)
	}
}

// word cuts the next word off b.
func word(b []byte) (w, rest []byte) {
	b = bytes.TrimLeft(b, " \t")
	if i := bytes.IndexByte(b, ' '); i >= 0 {
		return b[:i], b[i+1:]
	}
	return bytes.TrimSpace(b), nil
}

// Sockets reads how many sockets are in use.
type Sockets struct {
	net   source.Tree
	r     source.Reader
	names source.Interner
	key   []byte
}

// NewSockets makes the collector "sockstat".
func NewSockets(net source.Tree) *Sockets { return &Sockets{net: net} }

// Name implements metric.Collector.
func (c *Sockets) Name() string { return "sockstat" }

// Collect implements metric.Collector.
func (c *Sockets) Collect(_ context.Context, out *metric.Batch) error {
	for _, file := range [...]string{"sockstat", "sockstat6"} {
		b, err := c.r.Read(c.net.Path(file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for len(b) > 0 {
			var line []byte
			line, b = source.Line(b)
			proto, rest, ok := bytes.Cut(line, []byte(":"))
			if !ok {
				continue
			}
			c.line(out, proto, rest)
		}
	}
	return nil
}

func (c *Sockets) line(out *metric.Batch, proto, rest []byte) {
	for {
		var name, value []byte
		name, rest = word(rest)
		value, rest = word(rest)
		v, ok := source.Float(value)
		if len(name) == 0 || !ok {
			return
		}
		c.key = append(append(append(c.key[:0], proto...), '_'), name...)
		full := c.names.Name(c.key, func(k string) string { return "node_sockstat_" + metric.Sanitize(k) })
		out.Add(full, v)
		if string(name) == "mem" {
			c.key = append(c.key, "_bytes"...)
			full := c.names.Name(c.key, func(k string) string { return "node_sockstat_" + metric.Sanitize(k) })
			out.Add(full, v*float64(os.Getpagesize()))
		}
	}
}

// Softnet reads how each processor handles incoming packets.
type Softnet struct {
	net   source.Tree
	r     source.Reader
	names source.Interner
	field [16][]byte
}

// NewSoftnet makes the collector "softnet".
func NewSoftnet(net source.Tree) *Softnet { return &Softnet{net: net} }

// Name implements metric.Collector.
func (c *Softnet) Name() string { return "softnet" }

var softnetColumns = [...]struct {
	i    int
	name string
}{
	{0, "node_softnet_processed_total"}, {1, "node_softnet_dropped_total"}, {2, "node_softnet_times_squeezed_total"},
	{8, "node_softnet_cpu_collision_total"}, {9, "node_softnet_received_rps_total"},
	{10, "node_softnet_flow_limit_count_total"}, {11, "node_softnet_backlog_len"},
}

// Collect implements metric.Collector.
func (c *Softnet) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.net.Path("softnet_stat"))
	if err != nil {
		return err
	}
	for n := 0; len(b) > 0; n++ {
		var line []byte
		line, b = source.Line(b)
		f := source.Fields(line, c.field[:0])
		cpu := uint64(n)
		if len(f) > 12 {
			cpu, _ = hex(f[12])
		}
		var buf [20]byte
		id := c.names.Get(strconv.AppendUint(buf[:0], cpu, 10))
		for _, col := range softnetColumns {
			if col.i < len(f) {
				if v, ok := hex(f[col.i]); ok {
					out.Add(col.name, float64(v), "cpu", id)
				}
			}
		}
	}
	return nil
}

func hex(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | uint64(c-'0')
		case c >= 'a' && c <= 'f':
			n = n<<4 | uint64(c-'a'+10)
		case c >= 'A' && c <= 'F':
			n = n<<4 | uint64(c-'A'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// Conntrack reads the table of tracked connections.
type Conntrack struct {
	proc, net source.Tree
	r         source.Reader
}

// NewConntrack makes the collector "conntrack".
func NewConntrack(proc, net source.Tree) *Conntrack { return &Conntrack{proc: proc, net: net} }

// Name implements metric.Collector.
func (c *Conntrack) Name() string { return "conntrack" }

var conntrackStats = map[string]string{
	"found": "node_nf_conntrack_stat_found", "invalid": "node_nf_conntrack_stat_invalid", "ignore": "node_nf_conntrack_stat_ignore",
	"insert": "node_nf_conntrack_stat_insert", "insert_failed": "node_nf_conntrack_stat_insert_failed",
	"drop": "node_nf_conntrack_stat_drop", "early_drop": "node_nf_conntrack_stat_early_drop",
	"search_restart": "node_nf_conntrack_stat_search_restart",
}

// Collect implements metric.Collector.
func (c *Conntrack) Collect(_ context.Context, out *metric.Batch) error {
	n, ok := c.r.Number(c.proc.Path("sys/net/netfilter/nf_conntrack_count"))
	if !ok {
		return metric.ErrAbsent
	}
	out.Add("node_nf_conntrack_entries", n)
	if v, ok := c.r.Number(c.proc.Path("sys/net/netfilter/nf_conntrack_max")); ok {
		out.Add("node_nf_conntrack_entries_limit", v)
	}
	b, err := c.r.Read(c.net.Path("stat/nf_conntrack"))
	if err != nil {
		return nil // not compiled in
	}
	head, b := source.Line(b)
	columns := strings.Fields(string(head))
	sums := make([]uint64, len(columns))
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		for i, f := range source.Fields(line, nil) {
			if v, ok := hex(f); ok && i < len(sums) {
				sums[i] += v
			}
		}
	}
	for i, col := range columns {
		if name, ok := conntrackStats[col]; ok {
			out.Add(name, float64(sums[i]))
		}
	}
	return nil
}

// Neighbours counts the entries of the ARP table.
type Neighbours struct {
	net    source.Tree
	r      source.Reader
	names  source.Interner
	filter filter
	field  [6][]byte
	count  map[string]int
}

// NewNeighbours makes the collector "arp".
func NewNeighbours(net source.Tree, exclude *regexp.Regexp) *Neighbours {
	return &Neighbours{net: net, filter: filter{re: exclude}, count: map[string]int{}}
}

// Name implements metric.Collector.
func (c *Neighbours) Name() string { return "arp" }

// Collect implements metric.Collector.
func (c *Neighbours) Collect(_ context.Context, out *metric.Batch) error {
	b, err := c.r.Read(c.net.Path("arp"))
	if err != nil {
		return err
	}
	clear(c.count)
	_, b = source.Line(b)
	for len(b) > 0 {
		var line []byte
		line, b = source.Line(b)
		if f := source.Fields(line, c.field[:0]); len(f) == 6 {
			c.count[c.names.Get(f[5])]++
		}
	}
	for _, dev := range metric.SortedKeys(c.count) {
		if !c.filter.skip(dev) {
			out.Add("node_arp_entries", float64(c.count[dev]), "device", dev)
		}
	}
	return nil
}

// Queues sums the bytes that wait in UDP sockets.
type Queues struct {
	net   source.Tree
	r     source.Reader
	field [5][]byte
}

// NewQueues makes the collector "udp_queues".
func NewQueues(net source.Tree) *Queues { return &Queues{net: net} }

// Name implements metric.Collector.
func (c *Queues) Name() string { return "udp_queues" }

// Collect implements metric.Collector.
func (c *Queues) Collect(_ context.Context, out *metric.Batch) error {
	found := false
	for _, v := range [...]struct{ file, ip string }{{"udp", "v4"}, {"udp6", "v6"}} {
		b, err := c.r.Read(c.net.Path(v.file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		found = true
		var tx, rx uint64
		_, b = source.Line(b)
		for len(b) > 0 {
			var line []byte
			line, b = source.Line(b)
			f := source.Fields(line, c.field[:0])
			if len(f) < 5 {
				continue
			}
			t, r, _ := bytes.Cut(f[4], []byte(":"))
			n, _ := hex(t)
			m, _ := hex(r)
			tx, rx = tx+n, rx+m
		}
		out.Add("node_udp_queues", float64(tx), "queue", "tx", "ip", v.ip)
		out.Add("node_udp_queues", float64(rx), "queue", "rx", "ip", v.ip)
	}
	if !found {
		return metric.ErrAbsent
	}
	return nil
}
