package cluster

import (
	"cmp"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config says who this server is and where it gossips.
type Config struct {
	NodeID    string // unique among all members, at most 64 bytes
	ClusterID string // members of another cluster are not listened to, at most 128 bytes
	Bind      string // host:port, UDP and TCP; port 0 takes a free one
	Advertise string // host:port at which others reach it; default Bind. Port 0 is that of Bind.
	Key       []byte // of the encryption: 16, 24 or 32 bytes

	// Probe is the measure of patience, 500 ms unless given: beats are sent twice
	// as often, a member is suspect after 3 and dead after 8 times of silence.
	Probe time.Duration
	// Exchange is the time between two exchanges of whole parts with a random
	// member, 30 s unless given.
	Exchange time.Duration
	// Keep is how long the dead and those that left are listed, 1 h unless given.
	Keep time.Duration
}

func (c *Config) validate() error {
	var inv model.Invalid
	if c.NodeID == "" || len(c.NodeID) > maxIDBytes {
		inv.Add("node_id", "must have 1 to %d bytes", maxIDBytes)
	}
	if len(c.ClusterID) > 128 {
		inv.Add("cluster_id", "must have at most 128 bytes")
	}
	if n := len(c.Key); n != 16 && n != 24 && n != 32 {
		inv.Add("key", "must have 16, 24 or 32 bytes, it has %d", n)
	}
	host, _, err := splitAddr(c.Bind)
	if err != nil {
		inv.Add("gossip_listen", "write host:port (%s)", err)
	}
	if c.Advertise == "" {
		c.Advertise = c.Bind
		if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
			inv.Add("advertise", "must be given when listening on all addresses: others have to know where to reach this server")
		}
	} else if host, _, err := splitAddr(c.Advertise); err != nil || host == "" {
		inv.Add("advertise", "write host:port, as others reach this server")
	}
	for _, d := range []*time.Duration{&c.Probe, &c.Exchange, &c.Keep} {
		if *d < 0 {
			inv.Add("probe", "durations must not be negative")
		}
	}
	c.Probe = cmp.Or(c.Probe, 500*time.Millisecond)
	c.Exchange = cmp.Or(c.Exchange, 30*time.Second)
	c.Keep = cmp.Or(c.Keep, time.Hour)
	return inv.Err()
}

// Deps are the collaborators; all may be left out.
type Deps struct {
	// Seeds returns the gossip addresses (host:port) of the servers on record,
	// this one may be among them. Those that are not alive are tried again and
	// again. It must not block.
	Seeds      func() []string
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // the clock whose skew is measured; nil means time.Now
}
