package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// Config says where the store lives and how it guards itself. The zero value
// of an optional field is its default.
type Config struct {
	Dir       string // etcd's data directory; made when it does not exist
	NodeID    string // name of this member; never the same on two servers
	ClusterID string // token of the cluster

	PeerAddr        string   // host:port on which other members are heard; default 127.0.0.1:0 (any free port of loopback)
	PeerAdvertise   string   // host:port under which other members reach this one; port 0 is that of PeerAddr. Default PeerAddr
	ClientAddr      string   // host:port for servers that are no members; empty for none. Needs PeerTLS
	ClientAdvertise string   // host:port under which those reach this member; default ClientAddr
	PeerTLS         TLSFiles // mutual TLS towards members and clients; required unless PeerAddr is loopback
	AllowedCN       string   // common name that certificates of others must have; empty allows all that the CA signed

	// Initial are the members of the cluster. A first start without Join founds
	// a cluster of them, this one included; default this one alone. With Join
	// they are asked for the members there are now.
	Initial []Member
	// Join says that this server was added to a running cluster (AddLearner).
	// It counts at the first start of a directory only.
	Join bool
	// Endpoints makes this a client: it has no files and no vote, and speaks to
	// the members at the client addresses that Endpoints returns.
	Endpoints func() []string

	Heart time.Duration // heartbeat; an election takes ten of them. Default 100ms

	QuotaBytes   int64 // largest size of etcd's database; default 512 MiB
	MinFreeBytes int64 // writes are refused when less than this is free on the disk; default 128 MiB
	ReserveBytes int64 // size of the file that is given up when something else fills the disk; default 256 MiB

	Timeout      time.Duration // limit of one call; default 5s
	StartTimeout time.Duration // after this without being ready Status says so; default 60s
}

// TLSFiles names PEM files. Certificate and key are read again at each
// handshake; for the CA of peers see Restart.
type TLSFiles struct{ Cert, Key, CA string }

// Member is one member of the cluster; Addr is its advertised peer address.
type Member struct{ NodeID, Addr string }

// Deps are the collaborators of a Control. All may be left out.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// FreeSpace reports the bytes that a process may still write below dir.
	// Default: what the file system says.
	FreeSpace func(dir string) (int64, error)
	// NodeName turns a node id into the name that people know; "" when it is
	// unknown. Default: the id. It must not call this package.
	NodeName func(nodeID string) string
	// Verify refuses a client connection although its certificate is in order,
	// as that of a revoked node is. Default: none is refused.
	Verify func(tls.ConnectionState) error
}

func (c *Config) setDefaults() {
	if c.PeerAddr == "" {
		c.PeerAddr = "127.0.0.1:0"
	}
	if c.PeerAdvertise == "" {
		c.PeerAdvertise = c.PeerAddr
	}
	if c.ClientAdvertise == "" {
		c.ClientAdvertise = c.ClientAddr
	}
	if c.Heart == 0 {
		c.Heart = 100 * time.Millisecond
	}
	if c.QuotaBytes == 0 {
		c.QuotaBytes = 512 << 20
	}
	if c.MinFreeBytes == 0 {
		c.MinFreeBytes = 128 << 20
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = 256 << 20
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = time.Minute
	}
}

func (c *Config) validate() error {
	var inv model.Invalid
	if c.Dir == "" && c.Endpoints == nil {
		inv.Add("dir", "must name a directory")
	}
	if c.NodeID == "" {
		inv.Add("node_id", "must be given: two members with the same name are taken for one")
	}
	if c.ClusterID == "" {
		inv.Add("cluster_id", "must be given")
	}
	secure := c.PeerTLS != (TLSFiles{})
	host, _, err := net.SplitHostPort(c.PeerAddr)
	if err != nil {
		inv.Add("peer_addr", "must be host:port: %s", err)
	} else if ip := net.ParseIP(host); !secure && (ip == nil || !ip.IsLoopback()) {
		inv.Add("peer_addr", "must be a loopback address such as 127.0.0.1:0 unless peer TLS is set")
	}
	checkAdvertised(&inv, "peer_advertise", c.PeerAdvertise)
	if c.ClientAddr != "" {
		if _, _, err := net.SplitHostPort(c.ClientAddr); err != nil {
			inv.Add("client_addr", "must be host:port: %s", err)
		}
		if !secure {
			inv.Add("client_addr", "needs peer TLS: clients are known by their certificates")
		}
		checkAdvertised(&inv, "client_advertise", c.ClientAdvertise)
	}
	if t := c.PeerTLS; secure && (t.Cert == "" || t.Key == "" || t.CA == "") {
		inv.Add("peer_tls", "needs all three of cert, key and CA")
	}
	if c.Endpoints != nil && !secure {
		inv.Add("peer_tls", "must be set: members know their clients by certificates")
	}
	if c.Join && len(c.Initial) == 0 {
		inv.Add("initial", "must name the members of the cluster to join")
	}
	if c.QuotaBytes < 16<<20 {
		inv.Add("quota_bytes", "must be at least 16 MiB")
	}
	if c.MinFreeBytes < 0 || c.ReserveBytes < 0 {
		inv.Add("min_free_bytes", "and reserve_bytes must not be negative")
	}
	return inv.Err()
}

func checkAdvertised(inv *model.Invalid, field, addr string) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		inv.Add(field, "must be host:port: %s", err)
	} else if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		inv.Add(field, "must be given when all addresses are listened on: others cannot connect to %s", addr)
	}
}

// scheme of the URLs of members.
func (c *Config) scheme() string {
	if c.PeerTLS.Cert != "" {
		return "https"
	}
	return "http"
}

// bind replaces port 0 by ports that are free now and fills the advertised
// ones: etcd tells other members its address before it listens.
func (c *Config) bind() error {
	for _, a := range []struct{ listen, advertise *string }{{&c.PeerAddr, &c.PeerAdvertise}, {&c.ClientAddr, &c.ClientAdvertise}} {
		if *a.listen == "" {
			continue
		}
		addr, err := resolveAddr(*a.listen)
		if err != nil {
			return err
		}
		*a.listen = addr
		host, port, err := net.SplitHostPort(*a.advertise)
		if err != nil {
			return err
		}
		if port == "0" {
			_, port, _ = net.SplitHostPort(addr)
			*a.advertise = net.JoinHostPort(host, port)
		}
	}
	return nil
}

func resolveAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if port != "0" {
		return addr, nil
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return "", fmt.Errorf("find a free port on %s: %w", host, err)
	}
	defer ln.Close()
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return net.JoinHostPort(host, port), nil
}
