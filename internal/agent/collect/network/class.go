package network

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Class reads the properties of interfaces from /sys/class/net. What seldom
// changes is read again every refresh rounds, and at once when the carrier
// came or went.
type Class struct {
	sys    source.Tree
	r      source.Reader
	filter filter
	round  int
	known  map[string]*iface
}

type iface struct {
	round                               int // of the last full look
	seen                                int
	changes                             float64
	address, broadcast, duplex, ifalias string
	fixed                               []property
}

type property struct {
	name string
	v    float64
}

const (
	refresh       = 20
	maxInterfaces = 4096
)

// NewClass makes the collector "netclass".
func NewClass(sys source.Tree, exclude *regexp.Regexp) *Class {
	return &Class{sys: sys, filter: filter{re: exclude}, known: map[string]*iface{}}
}

// Name implements metric.Collector.
func (c *Class) Name() string { return "netclass" }

var fixedProperties = [...]struct{ file, name string }{
	{"addr_assign_type", "node_network_address_assign_type"},
	{"dev_id", "node_network_device_id"},
	{"dormant", "node_network_dormant"},
	{"ifindex", "node_network_iface_id"},
	{"iflink", "node_network_iface_link"},
	{"link_mode", "node_network_iface_link_mode"},
	{"mtu", "node_network_mtu_bytes"},
	{"name_assign_type", "node_network_name_assign_type"},
	{"netdev_group", "node_network_net_dev_group"},
	{"tx_queue_len", "node_network_transmit_queue_length"},
	{"type", "node_network_protocol_type"},
}

var liveProperties = [...]struct{ file, name string }{
	{"carrier", "node_network_carrier"},
	{"carrier_changes", "node_network_carrier_changes_total"},
	{"carrier_up_count", "node_network_carrier_up_changes_total"},
	{"carrier_down_count", "node_network_carrier_down_changes_total"},
	{"flags", "node_network_flags"},
}

// Collect implements metric.Collector.
func (c *Class) Collect(ctx context.Context, out *metric.Batch) error {
	devices := source.Names(c.sys.Path("class/net"), maxInterfaces)
	if len(devices) == 0 {
		return metric.ErrAbsent
	}
	c.round++
	for _, dev := range devices {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if dev == "bonding_masters" || c.filter.skip(dev) {
			continue
		}
		c.device(out, dev)
	}
	for dev, i := range c.known {
		if i.seen != c.round {
			delete(c.known, dev)
		}
	}
	return nil
}

func (c *Class) device(out *metric.Batch, dev string) {
	i := c.known[dev]
	if i == nil {
		i = &iface{round: -refresh}
		c.known[dev] = i
	}
	i.seen = c.round
	admin, changed := "unknown", false
	for _, p := range liveProperties {
		v, ok := c.number(dev, p.file)
		if !ok {
			continue
		}
		out.Add(p.name, v, "device", dev)
		switch p.file {
		case "carrier_changes":
			changed, i.changes = v != i.changes, v
		case "flags":
			admin = "down"
			if int64(v)&1 != 0 {
				admin = "up"
			}
		}
	}
	if changed || c.round-i.round >= refresh {
		c.look(dev, i)
		i.round = c.round
	}
	for _, p := range i.fixed {
		out.Add(p.name, p.v, "device", dev)
	}
	state := c.r.Text(c.sys.Path("class/net", dev, "operstate"))
	out.Bool("node_network_up", state == "up", "device", dev)
	out.Add("node_network_info", 1, "device", dev, "address", i.address, "broadcast", i.broadcast, "duplex", i.duplex,
		"operstate", state, "adminstate", admin, "ifalias", i.ifalias)
}

// look reads what seldom changes.
func (c *Class) look(dev string, i *iface) {
	text := func(file string) string { return c.r.Text(c.sys.Path("class/net", dev, file)) }
	i.address, i.broadcast, i.duplex, i.ifalias = text("address"), text("broadcast"), text("duplex"), text("ifalias")
	i.fixed = i.fixed[:0]
	for _, p := range fixedProperties {
		if v, ok := c.number(dev, p.file); ok {
			i.fixed = append(i.fixed, property{p.name, v})
		}
	}
	if v, ok := c.number(dev, "speed"); ok {
		i.fixed = append(i.fixed, property{"node_network_speed_bytes", v * 1000 * 1000 / 8})
	}
}

// number reads decimal and 0x numbers.
func (c *Class) number(dev, file string) (float64, bool) {
	b, err := c.r.ReadMax(c.sys.Path("class/net", dev, file), 256)
	if err != nil {
		return 0, false // some properties cannot be read while the interface is down
	}
	v, err := strconv.ParseInt(strings.TrimSpace(string(b)), 0, 64)
	return float64(v), err == nil
}

// Bonding reads how many of the slaves of a bond work.
type Bonding struct {
	sys source.Tree
	r   source.Reader
}

// NewBonding makes the collector "bonding".
func NewBonding(sys source.Tree) *Bonding { return &Bonding{sys: sys} }

// Name implements metric.Collector.
func (c *Bonding) Name() string { return "bonding" }

// Collect implements metric.Collector.
func (c *Bonding) Collect(_ context.Context, out *metric.Batch) error {
	if !exists(c.sys.Path("class/net/bonding_masters")) {
		return metric.ErrAbsent
	}
	for master := range strings.FieldsSeq(c.r.Text(c.sys.Path("class/net/bonding_masters"))) {
		slaves, active := 0, 0
		for slave := range strings.FieldsSeq(c.r.Text(c.sys.Path("class/net", master, "bonding/slaves"))) {
			slaves++
			s := c.r.Text(c.sys.Path("class/net", master, "lower_"+slave, "bonding_slave/mii_status"))
			if s == "" {
				s = c.r.Text(c.sys.Path("class/net", master, "slave_"+slave, "bonding_slave/mii_status"))
			}
			if s == "up" {
				active++
			}
		}
		out.Add("node_bonding_slaves", float64(slaves), "master", master)
		out.Add("node_bonding_active", float64(active), "master", master)
	}
	return nil
}
