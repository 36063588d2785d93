// Package config holds the one file format: what a process needs before it can
// read the catalog. Everything else is a record.
package config

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"panoptes/internal/model"
)

// Config is a server's configuration file. Every key may also be given as an
// environment variable: storage.retention_time is PANOPTES_STORAGE_RETENTION_TIME.
type Config struct {
	Node    string `yaml:"node"`     // name of this server; default: the host's name
	Region  string `yaml:"region"`   // place from which this server checks; default "default"
	DataDir string `yaml:"data_dir"` // one server may use it at a time; default "data"

	Bind          string `yaml:"bind"`           // address of this machine that all listeners use; default 127.0.0.1
	Advertise     string `yaml:"advertise"`      // host by which other servers reach this one; default bind, or the first address of this machine
	Listen        string `yaml:"listen"`         // web, API and Prometheus endpoints; default BIND:9700
	ClusterListen string `yaml:"cluster_listen"` // other servers and agents; default BIND:9701
	GossipListen  string `yaml:"gossip_listen"`  // membership, TCP and UDP; default BIND:9702
	PeerListen    string `yaml:"peer_listen"`    // configuration store, its members; default BIND:9703
	ClientListen  string `yaml:"client_listen"`  // configuration store, servers that are no members; default BIND:9704
	PortOffset    int    `yaml:"port_offset"`    // added to every port, so that several servers share a machine

	Join    string       `yaml:"join"`    // HOST:9701 of a server whose cluster this one joins when it first starts
	Token   model.Secret `yaml:"token"`   // from "panoptes token create"; needed to join
	Witness bool         `yaml:"witness"` // only vote in the configuration store

	ExternalURL string `yaml:"external_url"` // how people reach the pages; used in messages
	BasePath    string `yaml:"base_path"`    // when a proxy serves the pages below a path; default "/"

	TLS     TLS     `yaml:"tls"`
	Log     Log     `yaml:"log"`
	Storage Storage `yaml:"storage"`
	Relay   Relay   `yaml:"relay"`
	History History `yaml:"history"`
	Backup  Backup  `yaml:"backup"`
	Probe   Probe   `yaml:"probe"`
	Query   Query   `yaml:"query"`
	Ingest  Ingest  `yaml:"ingest"`
	Scrape  Scrape  `yaml:"scrape"`
	Rules   Rules   `yaml:"rules"`
	Access  Access  `yaml:"access"`
	Agents  Agents  `yaml:"agents"`

	Apply []string `yaml:"apply"` // files of records that are applied at every start
}

// TLS makes the web port speak HTTPS.
type TLS struct {
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error; default info
	Format string `yaml:"format"` // text or json; default text
}

// Storage is about samples.
type Storage struct {
	RetentionTime    model.Duration `yaml:"retention_time"`      // default 30d
	RetentionSize    Bytes          `yaml:"retention_size"`      // 0: no limit
	OutOfOrderWindow model.Duration `yaml:"out_of_order_window"` // default 48h
	MinFree          Bytes          `yaml:"min_free"`            // below it writes are refused with 507; default 512MB
	ControlReserve   Bytes          `yaml:"control_reserve"`     // kept back for the configuration store; default 256MB

	Engine       string                  `yaml:"engine"`        // local, or remote: an engine outside keeps the samples as well and answers queries; default local
	WriteURL     string                  `yaml:"write_url"`     // of the engine outside: takes remote write
	WriteVersion int                     `yaml:"write_version"` // of remote write that it is sent: 1, or 2 when it understands that; default 1
	QueryURL     string                  `yaml:"query_url"`     // and has /api/v1/query below it
	Headers      map[string]model.Secret `yaml:"headers"`       // sent with every request to it
}

// Backup says where copies go.
type Backup struct {
	Bucket string `yaml:"bucket"` // file that describes the bucket, as Thanos does; empty: no backups by the server
	Upload bool   `yaml:"upload"` // bring finished blocks there in Thanos' format
}

// Relay is about what other servers have not taken yet.
type Relay struct {
	MaxBytes Bytes          `yaml:"max_bytes"` // kept for servers that are away; default 10GB
	MaxAge   model.Duration `yaml:"max_age"`   // default 48h, never above storage.out_of_order_window
}

// History is about events.
type History struct {
	Retention model.Duration `yaml:"retention"` // default 400d
}

// Probe is about the checks that this server runs.
type Probe struct {
	AllowLoopback bool     `yaml:"allow_loopback"` // may checks and webhooks reach this machine itself? default no
	DenyPrivate   bool     `yaml:"deny_private"`   // refuse RFC 1918 and unique local addresses
	References    []string `yaml:"references"`     // host:port that are reachable while this server has a network
}

// Query bounds what one query may cost.
type Query struct {
	MaxSamples    int            `yaml:"max_samples"`    // default 50 million
	MaxConcurrent int            `yaml:"max_concurrent"` // default 20
	MaxSeries     int            `yaml:"max_series"`     // default 100,000
	Timeout       model.Duration `yaml:"timeout"`        // default 2m
	CacheBytes    Bytes          `yaml:"cache_bytes"`    // memory for answers that are kept; 0: none are; default 64MB
	LogSlow       model.Duration `yaml:"log_slow"`       // queries that take longer are logged; default 2s
	Experimental  bool           `yaml:"experimental"`   // PromQL's experimental functions, computed durations, anchored and smoothed ranges; all servers alike
}

// Ingest bounds what writers may send.
type Ingest struct {
	SeriesPerSource int  `yaml:"series_per_source"` // active series of one key or user; default 50,000
	OTLP            OTLP `yaml:"otlp"`
}

// OTLP is how OpenTelemetry's names and resources become labels.
type OTLP struct {
	PromoteAttributes    []string `yaml:"promote_attributes"`     // of the resource, that become labels of each of its series
	KeepIdentifying      bool     `yaml:"keep_identifying"`       // service.name and its like stay in target_info, too
	PromoteScopeMetadata bool     `yaml:"promote_scope_metadata"` // name, version and attributes of the scope become labels
	Translation          string   `yaml:"translation"`            // default UnderscoreEscapingWithSuffixes
}

// Scrape is about the scrape jobs that this server runs.
type Scrape struct {
	// FilesDirs are the directories below which jobs may name files: of file
	// discovery, certificates, passwords. Whoever may edit a job can have such a
	// file sent to a target of theirs. Default sd in the data directory.
	FilesDirs []string `yaml:"files_dirs"`
}

// Rules is about the rules that this server evaluates.
type Rules struct {
	Dir string `yaml:"dir"` // of rule files; default rules in the data directory
}

// Access is about who gets in.
type Access struct {
	AdminPassword model.Secret `yaml:"-"` // PANOPTES_ADMIN_PASSWORD
	APIKey        model.Secret `yaml:"-"` // PANOPTES_API_KEY
	PublicMetrics bool         `yaml:"public_metrics"`
}

// Agents is about the programs of agents that this server offers.
type Agents struct {
	Dir string `yaml:"dir"` // default: agents, beside this program
}

// Default returns the configuration of a server that was given no file.
func Default() Config {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "panoptes"
	}
	return Config{
		Node:     host,
		Region:   "default",
		DataDir:  "data",
		Bind:     "127.0.0.1",
		BasePath: "/",
		Log:      Log{Level: "info", Format: "text"},
		Storage: Storage{
			RetentionTime:    model.Duration(30 * 24 * time.Hour),
			OutOfOrderWindow: model.Duration(48 * time.Hour),
			MinFree:          512 << 20,
			ControlReserve:   256 << 20,
			Engine:           EngineLocal,
		},
		Relay:   Relay{MaxBytes: 10 << 30, MaxAge: model.Duration(48 * time.Hour)},
		History: History{Retention: model.Duration(400 * 24 * time.Hour)},
		Query:   Query{MaxSamples: 50_000_000, MaxConcurrent: 20, MaxSeries: 100_000, Timeout: model.Duration(2 * time.Minute), CacheBytes: 64 << 20, LogSlow: model.Duration(2 * time.Second)},
		Ingest:  Ingest{SeriesPerSource: 50_000},
	}
}

// listeners returns the address of each listener by its key.
func (c *Config) listeners() map[string]*string {
	return map[string]*string{"listen": &c.Listen, "cluster_listen": &c.ClusterListen, "gossip_listen": &c.GossipListen, "peer_listen": &c.PeerListen, "client_listen": &c.ClientListen}
}

// Validate completes what was left out and reports all faults as a model.Invalid.
func (c *Config) Validate() error {
	var inv model.Invalid
	if c.Bind == "" || strings.ContainsAny(c.Bind, "/ ") || strings.Contains(c.Bind, ":") && net.ParseIP(c.Bind) == nil {
		inv.Add("bind", "must be an address of this machine without a port, such as 10.0.0.1, or 0.0.0.0 for all")
	}
	for key, port := range map[string]int{"listen": 9700, "cluster_listen": 9701, "gossip_listen": 9702, "peer_listen": 9703, "client_listen": 9704} {
		if addr := c.listeners()[key]; *addr == "" {
			*addr = net.JoinHostPort(c.Bind, strconv.Itoa(port))
		}
	}
	if strings.ContainsAny(c.Advertise, "/ ") || strings.Contains(c.Advertise, ":") && net.ParseIP(c.Advertise) == nil {
		inv.Add("advertise", "must be a host name or address without a port")
	}
	if c.Join != "" {
		if _, port, err := SplitPort(c.Join); err != nil || port == 0 {
			inv.Add("join", "%q is not HOST:PORT; write for example 10.0.0.1:9701", c.Join)
		}
	}
	if c.Join == "" && c.Token != "" {
		inv.Add("token", "is used to join a cluster; say which server with --join HOST:9701")
	}
	if c.Relay.MaxBytes < 64<<20 {
		inv.Add("relay.max_bytes", "must be at least 64MB")
	}
	if d := c.Relay.MaxAge.D(); d < time.Minute {
		inv.Add("relay.max_age", "must be at least 1m")
	}
	if err := model.CheckName(c.Node); err != nil {
		inv.Add("node", "must be 1 to 128 letters, digits, or any of . _ - and begin with a letter or digit")
	}
	if err := model.CheckName(c.Region); err != nil {
		inv.Add("region", "must be 1 to 64 letters, digits, or any of . _ - and begin with a letter or digit")
	}
	if c.DataDir == "" {
		inv.Add("data_dir", "must name a directory")
	}
	listeners := c.listeners()
	fields := slices.Sorted(maps.Keys(listeners))
	for i, field := range fields {
		addr := *listeners[field]
		if _, _, err := SplitPort(addr); err != nil {
			inv.Add(field, "%q is not HOST:PORT; write for example 127.0.0.1:9700 or :9700", addr)
		}
		for _, other := range fields[:i] {
			if collide(addr, *listeners[other]) {
				inv.Add(field, "has the port of %s; each needs its own", other)
			}
		}
	}
	for i, dir := range c.Scrape.FilesDirs {
		if !filepath.IsAbs(dir) || filepath.Clean(dir) == "/" {
			inv.Add(model.Index("scrape.files_dirs", i), "must be the absolute path of a directory, such as /etc/panoptes/sd")
		}
	}
	if c.PortOffset < 0 || c.PortOffset > 50000 {
		inv.Add("port_offset", "must lie between 0 and 50000")
	}
	if !strings.HasPrefix(c.BasePath, "/") {
		inv.Add("base_path", "must begin with /")
	}
	if c.ExternalURL != "" && !strings.HasPrefix(c.ExternalURL, "http://") && !strings.HasPrefix(c.ExternalURL, "https://") {
		inv.Add("external_url", "must begin with http:// or https://")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		inv.Add("tls", "needs both cert_file and key_file")
	}
	for field, file := range map[string]string{"tls.cert_file": c.TLS.CertFile, "tls.key_file": c.TLS.KeyFile} {
		if file != "" {
			if _, err := os.Stat(file); err != nil {
				inv.Add(field, "cannot be read: %s", err)
			}
		}
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		inv.Add("log.level", "must be debug, info, warn or error")
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		inv.Add("log.format", "must be text or json")
	}
	if c.Storage.RetentionTime.D() < 2*time.Hour {
		inv.Add("storage.retention_time", "must be at least 2h")
	}
	if d := c.Storage.OutOfOrderWindow.D(); d < 0 || d > c.Storage.RetentionTime.D() {
		inv.Add("storage.out_of_order_window", "must lie between 0s and storage.retention_time")
	}
	for field, b := range map[string]Bytes{"storage.retention_size": c.Storage.RetentionSize, "storage.min_free": c.Storage.MinFree, "storage.control_reserve": c.Storage.ControlReserve} {
		if b < 0 {
			inv.Add(field, "must not be negative")
		}
	}
	c.checkEngine(&inv)
	if f := c.Backup.Bucket; f != "" {
		if _, err := os.Stat(f); err != nil {
			inv.Add("backup.bucket", "cannot be read: %s", err)
		}
	}
	if c.Backup.Upload && c.Backup.Bucket == "" {
		inv.Add("backup.upload", "needs backup.bucket, a file that describes where to")
	}
	if c.History.Retention.D() < 24*time.Hour {
		inv.Add("history.retention", "must be at least 1d")
	}
	for i, r := range c.Probe.References {
		if _, _, err := net.SplitHostPort(r); err != nil {
			inv.Add(model.Index("probe.references", i), "%q is not HOST:PORT", r)
		}
	}
	if c.Query.MaxSamples < 1000 {
		inv.Add("query.max_samples", "must be at least 1000")
	}
	if c.Query.MaxConcurrent < 1 || c.Query.MaxConcurrent > 1000 {
		inv.Add("query.max_concurrent", "must lie between 1 and 1000")
	}
	if c.Query.MaxSeries < 1 {
		inv.Add("query.max_series", "must be at least 1")
	}
	if c.Query.Timeout.D() < time.Second {
		inv.Add("query.timeout", "must be at least 1s")
	}
	if c.Query.CacheBytes < 0 {
		inv.Add("query.cache_bytes", "must not be negative; 0 keeps no answers")
	}
	if c.Query.LogSlow.D() <= 0 {
		inv.Add("query.log_slow", "must be more than 0s")
	}
	if c.Ingest.SeriesPerSource < 1 {
		inv.Add("ingest.series_per_source", "must be at least 1")
	}
	for i, f := range c.Apply {
		if _, err := os.Stat(f); err != nil {
			inv.Add(model.Index("apply", i), "cannot be read: %s", err)
		}
	}
	return inv.Err()
}

// The engines that keep samples.
const (
	EngineLocal  = "local"
	EngineRemote = "remote"
)

func (c *Config) checkEngine(inv *model.Invalid) {
	s := &c.Storage
	if s.WriteVersion < 0 || s.WriteVersion > 2 {
		inv.Add("storage.write_version", "must be 1 or 2")
	}
	switch s.Engine {
	case EngineLocal:
		if s.WriteURL != "" || s.QueryURL != "" || len(s.Headers) > 0 {
			inv.Add("storage.engine", "must be remote for write_url, query_url and headers to mean something")
		}
	case EngineRemote:
		if s.WriteURL == "" {
			inv.Add("storage.write_url", "must be given for the engine remote, for example http://prometheus:9090/api/v1/write")
		}
		if s.QueryURL == "" {
			inv.Add("storage.query_url", "must be given for the engine remote, for example http://prometheus:9090")
		}
	default:
		inv.Add("storage.engine", "must be local or remote")
	}
}

// Path returns a path inside the data directory.
func (c *Config) Path(parts ...string) string {
	return filepath.Join(append([]string{c.DataDir}, parts...)...)
}

// collide reports whether one program cannot listen on both addresses.
func collide(a, b string) bool {
	aHost, aPort, aErr := SplitPort(a)
	bHost, bPort, bErr := SplitPort(b)
	if aErr != nil || bErr != nil || aPort != bPort || aPort == 0 {
		return false
	}
	all := func(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }
	return aHost == bHost || all(aHost) || all(bHost)
}

// Addr returns addr with PortOffset added; port 0 stays 0.
func (c *Config) Addr(addr string) string {
	host, port, err := SplitPort(addr)
	if err != nil || port == 0 {
		return addr
	}
	return net.JoinHostPort(host, strconv.Itoa(port+c.PortOffset))
}

// SplitPort splits "host:port" with a numeric port.
func SplitPort(addr string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(p, 10, 16)
	return host, int(n), err
}

// AdvertiseHost is the host by which other servers reach this one: what was
// given, else the bind address, else the first address of this machine that is
// not loopback.
func (c *Config) AdvertiseHost() string {
	if c.Advertise != "" {
		return c.Advertise
	}
	ip := net.ParseIP(c.Bind)
	if ip == nil || !ip.IsUnspecified() {
		return c.Bind
	}
	addrs, err := net.InterfaceAddrs()
	if err == nil {
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && (n.IP.To4() != nil || ip.To4() == nil) {
				return n.IP.String()
			}
		}
	}
	return "127.0.0.1"
}
