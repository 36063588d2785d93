package app

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"panoptes/internal/control"
	"panoptes/internal/model"
	"panoptes/internal/pki"
	"panoptes/internal/wire"
)

// welcome is what a server that joins gets beside its certificate.
type welcome struct {
	// Members of the configuration store, this server among them; empty for one
	// that is only to be a client of it.
	Members []control.Member `json:"members"`
	SealKey string           `json:"seal_key,omitempty"` // base64; opens the secrets of records
	Seeds   []string         `json:"seeds"`              // gossip addresses of the servers
	Clients []string         `json:"clients"`            // client addresses of the members
}

func (a *App) role() model.NodeRole {
	if a.cfg.Witness {
		return model.RoleWitness
	}
	return model.RoleServer
}

// openIdentity reads who this server is, or makes it the first of a cluster,
// or joins one.
func (a *App) openIdentity(ctx context.Context) error {
	addr := a.cfg.Addr(a.cfg.ClusterListen)
	var err error
	if a.wireListen, err = net.Listen("tcp", addr); err != nil {
		return fmt.Errorf("listen for other servers on %s: %w%s", addr, err, listenHelp(err, "cluster_listen"))
	}
	if !a.joined() {
		if err := a.othersFree(); err != nil {
			return err
		}
	}
	cfg := pki.Config{Dir: a.cfg.Path("pki"), Name: a.cfg.Node, Region: a.cfg.Region, Role: a.role(), Hosts: a.hosts()}
	deps := pki.Deps{Servers: a.liveAddresses, Logger: a.logger("pki"), Registerer: a.registry}
	a.pki, err = pki.Open(cfg, deps)
	switch {
	case err == nil && a.cfg.Join != "" && !a.joined():
		err = a.join(ctx, cfg, deps) // it ended in the middle of joining
	case err == nil && a.pki.Joined() && !a.joined():
		err = fmt.Errorf("%w: this server has not finished joining its cluster, and would make a configuration of its own: start it with --join HOST:9701 and its --token once more", model.ErrConflict)
	case err == nil && a.cfg.Join != "" && !a.welcomed():
		fmt.Fprintf(a.notice, "This server was begun as the first one of its cluster, so --join is ignored. To join another cluster, give an empty data directory.\n")
	case errors.Is(err, fs.ErrNotExist) && a.lostIdentity() != nil:
		err = a.lostIdentity()
	case errors.Is(err, fs.ErrNotExist) && a.cfg.Join != "":
		err = a.join(ctx, cfg, deps)
	case errors.Is(err, fs.ErrNotExist):
		if a.cfg.Witness {
			return model.Invalid{{Field: "witness", Msg: "a witness joins servers that exist; give --join HOST:9701 and --token"}}
		}
		a.pki, err = pki.Create(cfg, deps)
	}
	if err != nil {
		return err
	}
	if a.welcome, err = a.readWelcome(); err != nil {
		return err
	}
	if err := a.besideOthers(ctx); err != nil {
		return err
	}
	a.wireServer, err = wire.NewServer(wire.ServerConfig{Listener: a.wireListen, TLS: a.pki.ServerTLS()},
		wire.ServerDeps{Identify: a.pki.Identify, Logger: a.logger("wire"), Registerer: a.registry})
	if err != nil {
		return fmt.Errorf("open the cluster port: %w", err)
	}
	a.wireClient = wire.NewClient(wire.ClientConfig{TLS: a.pki.ClientTLS}, wire.ClientDeps{Logger: a.logger("wire"), Registerer: a.registry})
	return nil
}

// othersFree tries the ports that are opened once the server belongs to a cluster.
// The others would wait for a server that cannot take part.
func (a *App) othersFree() error {
	for field, addr := range map[string]string{"gossip_listen": a.cfg.GossipListen, "peer_listen": a.cfg.PeerListen, "client_listen": a.cfg.ClientListen} {
		addr = a.cfg.Addr(addr)
		l, err := net.Listen("tcp", addr)
		if err != nil {
			return fmt.Errorf("listen for other servers on %s: %w%s", addr, err, listenHelp(err, field))
		}
		if err := l.Close(); err != nil {
			return fmt.Errorf("listen for other servers on %s: %w", addr, err)
		}
	}
	return nil
}

// liveAddresses are where other servers answer, for a witness whose certificate
// is to be renewed.
func (a *App) liveAddresses() (out []string) {
	if a.cluster == nil {
		return nil
	}
	for _, m := range a.cluster.Members() {
		if !m.Self && m.Role == model.RoleServer && m.Addresses.Cluster != "" {
			out = append(out, m.Addresses.Cluster)
		}
	}
	return out
}

// hosts are the names and addresses in this server's certificate.
func (a *App) hosts() []string {
	out := []string{a.cfg.AdvertiseHost()}
	for _, h := range []string{a.cfg.Bind, a.cfg.Node} {
		if ip := net.ParseIP(h); ip == nil || !ip.IsUnspecified() {
			out = append(out, h)
		}
	}
	return out
}

// advertised is where others reach a listener of this server.
func (a *App) advertised(listen string) string {
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	return net.JoinHostPort(a.cfg.AdvertiseHost(), port)
}

func (a *App) addresses() model.Addresses {
	out := model.Addresses{
		Cluster: a.advertised(a.wireListen.Addr().String()),
		Gossip:  a.advertised(a.cfg.Addr(a.cfg.GossipListen)),
		Peer:    a.advertised(a.cfg.Addr(a.cfg.PeerListen)),
		Client:  a.advertised(a.cfg.Addr(a.cfg.ClientListen)),
	}
	if a.listen != nil {
		scheme := "http"
		if a.cfg.TLS.CertFile != "" {
			scheme = "https"
		}
		out.HTTP = scheme + "://" + a.advertised(a.listen.Addr().String())
	}
	return out
}

// lostIdentity is an error when the directory was used by a server whose
// identity is gone. A new identity would be another server of another cluster,
// over the data of the old one. A node.json that names no cluster is not lost:
// the first start ended before the identity was complete, and is done again.
func (a *App) lostIdentity() error {
	_, err := os.Stat(a.cfg.Path("pki", "roots.pem"))
	_, none := os.Stat(a.cfg.Path("pki", "node.json"))
	if (err != nil || none == nil) && !dataExists(a.cfg.Path("control", "member")) && len(a.fellows()) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s holds the data of a server, but %s, which says which one it is, is not there or not complete: put it back from a backup; or remove the server from its cluster and join with a new token and an empty data directory",
		model.ErrConflict, a.cfg.DataDir, a.cfg.Path("pki", "node.json"))
}

// welcomed reports whether this server joined others, rather than having been
// the first.
func (a *App) welcomed() bool {
	_, err := os.Stat(a.welcomeFile())
	return err == nil
}

func (a *App) welcomeFile() string { return a.cfg.Path("pki", "welcome.json") }

// joined reports whether joining was finished.
func (a *App) joined() bool {
	_, err := os.Stat(a.welcomeFile())
	return err == nil || dataExists(a.cfg.Path("control"))
}

// joinPatience is how long a server that nobody answers is tried again.
const joinPatience = 5 * time.Minute

const joinHelp = "--join names the cluster port of a server that runs, 9701 plus its port offset, not that of its pages; look at the address and at the firewalls between"

func (a *App) join(ctx context.Context, cfg pki.Config, deps pki.Deps) error {
	a.log.Info("joining", "server", a.cfg.Join)
	fmt.Fprintf(a.notice, "Joining the cluster of %s …\n", a.cfg.Join)
	ctx, cancel := context.WithTimeout(ctx, joinPatience)
	defer cancel()
	for wait := time.Second; ; wait = min(2*wait, 10*time.Second) {
		p, msg, err := pki.Join(ctx, cfg, pki.JoinRequest{
			Addr: a.cfg.Join, Token: a.cfg.Token.Reveal(), Version: a.opts.Version, Addresses: a.addresses(),
		}, deps)
		if err == nil {
			a.pki = p
			return a.keepWelcome(msg)
		}
		if !errors.Is(err, model.ErrUnavailable) {
			return fmt.Errorf("join the cluster of %s: %w", a.cfg.Join, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("join the cluster of %s: %w; %s", a.cfg.Join, err, joinHelp)
		}
		a.log.Warn("not joined yet, trying again", "server", a.cfg.Join, "err", err, "help", joinHelp)
		select {
		case <-ctx.Done():
			return fmt.Errorf("join the cluster of %s: %w; %s", a.cfg.Join, err, joinHelp)
		case <-time.After(wait):
		}
	}
}

func (a *App) keepWelcome(msg json.RawMessage) error {
	var w welcome
	if err := json.Unmarshal(msg, &w); err != nil {
		return fmt.Errorf("read the welcome of the cluster: %w", err)
	}
	if w.SealKey != "" {
		key, err := base64.StdEncoding.DecodeString(w.SealKey)
		if err != nil {
			return fmt.Errorf("read the key of sealed secrets: %w", err)
		}
		if err := writeFile(a.cfg.Path("seal.key"), key); err != nil {
			return fmt.Errorf("keep the key of sealed secrets: %w", err)
		}
	}
	w.SealKey = ""
	data, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := writeFile(a.welcomeFile(), data); err != nil {
		return fmt.Errorf("keep the welcome of the cluster: %w", err)
	}
	return nil
}

func (a *App) readWelcome() (w welcome, err error) {
	data, err := os.ReadFile(a.welcomeFile())
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &w)
	}
	if err != nil {
		return w, fmt.Errorf("read %s: %w", a.welcomeFile(), err)
	}
	return w, nil
}

// maxVoters is how many servers keep the configuration; further ones ask them.
const maxVoters = 5

// reachPatience is how long a server that joins has to take a connection.
const reachPatience = 3 * time.Second

// reach sees whether a server that joins can be reached where it says: one that
// cannot would be a member that does not answer. Its port is open already.
func reach(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: the other servers cannot reach this one at %s, where it says it is (%w): correct --bind or --advertise, or the firewall between them, and join again", model.ErrConflict, addr, err)
	}
	return conn.Close()
}

// greet makes a server or witness a member of the configuration store and tells
// it what it needs. It may be asked again by one that was cut off.
func (a *App) greet(ctx context.Context, n model.Node) (json.RawMessage, error) {
	if n.Role == model.RoleAgent {
		return json.Marshal(welcome{Seeds: a.clusterAddresses()})
	}
	if a.control == nil {
		return nil, fmt.Errorf("%w: the configuration store of this server is damaged; join another one", model.ErrUnavailable)
	}
	if err := reach(ctx, n.Addresses.Cluster); err != nil {
		return nil, err
	}
	if err := a.removeReplaced(ctx); err != nil {
		return nil, err
	}
	w := welcome{Seeds: append(a.seeds(), a.addresses().Gossip)}
	members, err := a.control.Members(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the members of the configuration store: %w", err)
	}
	known := false
	for _, m := range members {
		known = known || m.NodeID == n.ID
		if u, err := url.Parse(m.ClientURL); err == nil && u.Host != "" {
			w.Clients = append(w.Clients, u.Host)
		}
	}
	if known || len(members) < maxVoters || n.Role == model.RoleWitness {
		w.Members, err = a.control.AddLearner(ctx, n.ID, n.Addresses.Peer)
		if errors.Is(err, model.ErrLimit) { // passes: whoever joins is to ask again
			return nil, fmt.Errorf("%w: other servers are still on their way into the configuration store, %s follows them", model.ErrUnavailable, n.Name)
		}
		if err != nil {
			return nil, fmt.Errorf("add %s to the configuration store: %w", n.Name, err)
		}
	}
	if n.Role == model.RoleServer {
		key, err := os.ReadFile(a.cfg.Path("seal.key"))
		if err != nil {
			return nil, fmt.Errorf("read the key of sealed secrets: %w", err)
		}
		w.SealKey = base64.StdEncoding.EncodeToString(key)
	}
	return json.Marshal(w)
}

// controlConfig says how this server takes part in the configuration store.
func (a *App) controlConfig() control.Config {
	cert, key, ca := a.pki.Files()
	cfg := control.Config{
		Dir: a.cfg.Path("control"), NodeID: a.pki.NodeID(), ClusterID: a.pki.ClusterID(),
		PeerAddr: a.cfg.Addr(a.cfg.PeerListen), ClientAddr: a.cfg.Addr(a.cfg.ClientListen),
		PeerTLS: control.TLSFiles{Cert: cert, Key: key, CA: ca}, AllowedCN: "panoptes-server",
		MinFreeBytes: int64(a.cfg.Storage.MinFree) / 2, ReserveBytes: int64(a.cfg.Storage.ControlReserve),
	}
	cfg.PeerAdvertise, cfg.ClientAdvertise = a.advertised(cfg.PeerAddr), a.advertised(cfg.ClientAddr)
	switch {
	case len(a.welcome.Members) > 0:
		cfg.Initial, cfg.Join = a.welcome.Members, true
	case len(a.welcome.Clients) > 0 && !dataExists(a.cfg.Path("control", "member")): // a restored one has its own
		cfg.Endpoints = a.controlEndpoints
	}
	return cfg
}

// controlEndpoints are where the members of the configuration store answer
// servers that are none: those on record, and those known from joining.
func (a *App) controlEndpoints() []string {
	seen := map[string]bool{}
	var out []string
	add := func(addr string) {
		if addr != "" && !seen[addr] {
			seen[addr] = true
			out = append(out, addr)
		}
	}
	if a.catalog != nil {
		for _, n := range a.nodes() {
			if !n.Revoked && n.ID != a.pki.NodeID() {
				add(n.Addresses.Client)
			}
		}
	}
	for _, c := range a.welcome.Clients {
		add(c)
	}
	return out
}

// listenHelp says what to do about a listener that cannot be opened.
func listenHelp(err error, field string) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf(" (another program has the port: end it, or choose others with --port-offset or %s)", field)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Sprintf(" (this machine does not have the address: correct --bind or %s; what others reach from outside is --advertise)", field)
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf(" (ports below 1024 are not for everybody: choose others with --port-offset or %s)", field)
	}
	return fmt.Sprintf(" (look at --bind, --port-offset and %s)", field)
}

// portOf returns the port of an address, 0 when there is none.
func portOf(addr string) int {
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		return 0
	}
	return n
}

// verifyPeer refuses servers that were revoked at the client port of the
// configuration store.
func (a *App) verifyPeer(s tls.ConnectionState) error {
	_, err := a.pki.Identify(s)
	return err
}
