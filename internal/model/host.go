package model

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"time"
)

// KindHostGroup is the record "hostgroup": settings of agents.
const KindHostGroup = "hostgroup"

// HostGroup says what the agents of some hosts do. Groups are applied in the
// order of Priority, then name: later ones override earlier ones.
type HostGroup struct {
	ID       string `json:"-"`
	Revision int64  `json:"-"`

	Name       string            `json:"name"`
	Hosts      []string          `json:"hosts,omitempty"`      // names with * and ?; all when Hosts, Regions and Matchers are empty
	Regions    []string          `json:"regions,omitempty"`    //
	Matchers   map[string]string `json:"matchers,omitempty"`   // labels of the host that must be equal
	Priority   int               `json:"priority,omitempty"`   //
	Interval   Duration          `json:"interval,omitempty"`   // between two rounds of the collectors
	Collectors map[string]bool   `json:"collectors,omitempty"` // switched on or off
	Processes  []string          `json:"processes,omitempty"`  // patterns of processes to watch
	Labels     map[string]string `json:"labels,omitempty"`     // of all series of the hosts
	Mesh       *HostMesh         `json:"mesh,omitempty"`       // the hosts look at these
	Services   []HostService     `json:"services,omitempty"`   // that the hosts watch
}

// Bounds of the interval of agents.
const (
	MinHostInterval = time.Second
	MaxHostInterval = time.Hour
)

// Validate names what is wrong.
func (g *HostGroup) Validate() error {
	var inv Invalid
	inv.AddErr("", CheckName(g.Name))
	for i, h := range g.Hosts {
		if _, err := path.Match(h, ""); err != nil || h == "" || len(h) > 128 {
			inv.Add(Index("hosts", i), "must be the name of a host, * and ? stand for any letters and one letter")
		}
	}
	for i, r := range g.Regions {
		if r == "" || len(r) > 128 {
			inv.Add(Index("regions", i), "must be the name of a region")
		}
	}
	if g.Interval != 0 && (g.Interval.D() < MinHostInterval || g.Interval.D() > MaxHostInterval) {
		inv.Add("interval", "must lie between %s and %s", Duration(MinHostInterval), Duration(MaxHostInterval))
	}
	if len(g.Hosts) > 1000 || len(g.Regions) > 100 || len(g.Matchers) > MaxCheckLabels || len(g.Collectors) > 200 {
		inv.Add("hosts", "or regions, matchers or collectors have too many entries; make another group")
	}
	for _, n := range slices.Sorted(maps.Keys(g.Collectors)) {
		if n == "" || len(n) > 64 {
			inv.Add("collectors", "%s is not the name of a collector", strconv.Quote(n))
		}
	}
	if len(g.Processes) > 100 {
		inv.Add("processes", "has %d entries; 100 are allowed", len(g.Processes))
	}
	for i, p := range g.Processes {
		if p == "" || len(p) > 256 {
			inv.Add(Index("processes", i), "must be a pattern of 1 to 256 bytes")
		}
	}
	g.validateWatch(&inv)
	inv.AddErr("labels", ValidateLabels(g.Labels))
	for _, l := range []string{"host", "instance", "job"} {
		if _, ok := g.Labels[l]; ok {
			inv.Add("labels."+l, "is set by the system; choose another name")
		}
	}
	return inv.Err()
}

// Covers reports whether a host belongs to the group.
func (g *HostGroup) Covers(n Node) bool {
	if len(g.Regions) > 0 && !slices.Contains(g.Regions, n.Region) {
		return false
	}
	for k, v := range g.Matchers {
		if n.Labels[k] != v {
			return false
		}
	}
	if len(g.Hosts) == 0 {
		return true
	}
	return slices.ContainsFunc(g.Hosts, func(h string) bool {
		ok, err := path.Match(h, n.Name)
		return ok && err == nil
	})
}

// HostStatus is what is known of a host with an agent.
type HostStatus string

// The states of hosts.
const (
	HostOnline  HostStatus = "online"  // its agent sends
	HostUnknown HostStatus = "unknown" // its agent is silent, and nothing proves that the host is gone
	HostDown    HostStatus = "down"    // its agent is silent and others cannot reach the host
	HostStopped HostStatus = "stopped" // its agent has taken leave
)

// Host is a machine with an agent, as the servers see it.
type Host struct {
	ID        string            `json:"id"` // of the node
	Name      string            `json:"name"`
	Region    string            `json:"region"`
	Labels    map[string]string `json:"labels,omitempty"`
	Status    HostStatus        `json:"status"`
	Since     time.Time         `json:"since"`
	Message   string            `json:"message,omitempty"`
	Code      string            `json:"code,omitempty"` // stable code of the message
	Evidence  []HostEvidence    `json:"evidence,omitempty"`
	Server    string            `json:"server,omitempty"` // id of the server that its agent talks to
	LastSeen  time.Time         `json:"last_seen,omitzero"`
	Connected time.Time         `json:"connected,omitzero"` // since when
	Version   string            `json:"version,omitempty"`
	OS        string            `json:"os,omitempty"`
	Arch      string            `json:"arch,omitempty"`
	Hostname  string            `json:"hostname,omitempty"`
	Addresses []string          `json:"addresses,omitempty"`
	BootTime  time.Time         `json:"boot_time,omitzero"`
	Checks    bool              `json:"checks,omitempty"`    // it runs checks: the servers allow it and its agent offers it
	Reachable bool              `json:"reachable,omitempty"` // others could reach it while its agent was there

	ChecksAllowed bool `json:"checks_allowed,omitempty"` // the servers allow that it is given checks, and votes
	ChecksOffered bool `json:"checks_offered,omitempty"` // its agent's own file lets it run checks
}

// HostUsage is how busy a host is. Shares are from 0 to 1; what is not known is
// left out.
type HostUsage struct {
	CPU         *float64  `json:"cpu,omitempty"`
	Memory      *float64  `json:"memory,omitempty"`
	Disk        *float64  `json:"disk,omitempty"` // of the fullest file system
	Swap        *float64  `json:"swap,omitempty"`
	Load1       *float64  `json:"load1,omitempty"`
	Cores       int       `json:"cores,omitempty"`
	MemoryBytes float64   `json:"memory_bytes,omitempty"`
	RxBytes     *float64  `json:"rx_bytes_per_second,omitempty"`
	TxBytes     *float64  `json:"tx_bytes_per_second,omitempty"`
	At          time.Time `json:"at"`
}

// HostEvidence is what a worker found that tried to reach a silent host.
type HostEvidence struct {
	Region  string    `json:"region"`
	Prober  string    `json:"prober"`
	Target  string    `json:"target"`
	Answers bool      `json:"answers"`
	Message string    `json:"message"`
	At      time.Time `json:"at"`
}
