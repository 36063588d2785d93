package model

import (
	"path"
	"regexp"
	"strconv"
	"time"
)

// HostMesh has the agents of a group look at each other, so that a broken link
// between two hosts is seen and named.
type HostMesh struct {
	Peers    []string `json:"peers"`              // names of hosts with * and ?; "*" are all
	Interval Duration `json:"interval,omitempty"` // between two rounds; default 15s
	Port     int      `json:"port,omitempty"`     // asked by TCP where an agent may not send ICMP; default 22
}

// Bounds of the mesh.
const (
	MinMeshInterval = 5 * time.Second
	MaxMeshPeers    = 16 // of one host
)

// Validate names what is wrong.
func (m *HostMesh) Validate() error {
	var inv Invalid
	if len(m.Peers) == 0 || len(m.Peers) > 100 {
		inv.Add("peers", "must be 1 to 100 names of hosts, or \"*\" for all")
	}
	for i, p := range m.Peers {
		if _, err := path.Match(p, ""); err != nil || p == "" || len(p) > 128 {
			inv.Add(Index("peers", i), "must be the name of a host, * and ? stand for any letters and one letter")
		}
	}
	if m.Interval != 0 && (m.Interval.D() < MinMeshInterval || m.Interval.D() > MaxHostInterval) {
		inv.Add("interval", "must lie between %s and %s", Duration(MinMeshInterval), Duration(MaxHostInterval))
	}
	if m.Port < 0 || m.Port > 65535 {
		inv.Add("port", "must lie between 1 and 65535; leave it out for 22")
	}
	return inv.Err()
}

// Kinds of services that agents watch.
const (
	ServiceUnit      = "unit"      // a unit of systemd
	ServiceProcess   = "process"   // processes of a name, or whose command line matches
	ServicePort      = "port"      // somebody listens at a TCP port
	ServiceContainer = "container" // of Docker or Podman
)

// MaxServices is how many services of a host are watched.
const MaxServices = 100

// HostService is a service that the agents of a group watch.
type HostService struct {
	Kind  string `json:"kind"`            // unit, process, port, container
	Name  string `json:"name"`            // nginx.service, nginx, 443, shop-db
	Match string `json:"match,omitempty"` // of a process: regular expression over the command line, in place of the name
}

var (
	serviceName   = regexp.MustCompile(`^[A-Za-z0-9_.:@\\-]+$`)
	containerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
)

// Validate names what is wrong.
func (s *HostService) Validate() error {
	var inv Invalid
	if len(s.Name) > 200 || !serviceName.MatchString(s.Name) {
		inv.Add("name", "must be made of letters, digits and _.:@\\-, 200 at most")
	}
	switch s.Kind {
	case ServiceUnit:
		if n := path.Ext(s.Name); n == "" || n == "." {
			inv.Add("name", "must be the whole name of a unit, such as nginx.service")
		}
	case ServicePort:
		if p, err := strconv.Atoi(s.Name); err != nil || p < 1 || p > 65535 {
			inv.Add("name", "must be a TCP port between 1 and 65535")
		}
	case ServiceProcess:
		if _, err := regexp.Compile(s.Match); err != nil || len(s.Match) > 256 {
			inv.Add("match", "must be a regular expression of 256 bytes at most")
		}
	case ServiceContainer:
		if !containerName.MatchString(s.Name) {
			inv.Add("name", "must be the whole name of a container: letters, digits and _.-, beginning with a letter or digit")
		}
	default:
		inv.Add("kind", "must be unit, process, port or container")
	}
	if s.Match != "" && s.Kind != ServiceProcess {
		inv.Add("match", "is for processes only")
	}
	return inv.Err()
}

// validateWatch checks what a group has its agents watch.
func (g *HostGroup) validateWatch(inv *Invalid) {
	if g.Mesh != nil {
		inv.AddErr("mesh", g.Mesh.Validate())
	}
	if len(g.Services) > MaxServices {
		inv.Add("services", "has %d entries; %d are allowed", len(g.Services), MaxServices)
	}
	for i := range g.Services {
		inv.AddErr(Index("services", i), g.Services[i].Validate())
	}
}
