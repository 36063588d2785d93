package agentcli

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"panoptes/internal/agent"
	"panoptes/internal/agent/collect"
	"panoptes/internal/agent/scraper"
	"panoptes/internal/agent/service"
	"panoptes/internal/model"
)

// Config is the agent's own file. What it forbids no server can allow.
type Config struct {
	Node    string            `json:"node,omitempty"`   // name of this host; default its host name
	Region  string            `json:"region,omitempty"` // default "default"
	Labels  map[string]string `json:"labels,omitempty"`
	DataDir string            `json:"data_dir,omitempty"`
	Join    string            `json:"join,omitempty"`  // host:9701 of a server; only until it has joined
	Token   model.Secret      `json:"token,omitempty"` // only until it has joined
	Proxy   string            `json:"proxy,omitempty"` // http://host:port; default HTTPS_PROXY
	Log     string            `json:"log,omitempty"`   // debug, info, warn, error

	Interval model.Duration `json:"interval,omitempty"` // until a server says otherwise; default 15s
	Buffer   Buffer         `json:"buffer,omitzero"`
	Collect  collect.Config `json:"collect,omitzero"`
	Checks   Checks         `json:"checks,omitzero"`
	Update   Update         `json:"update,omitzero"`
	Scrape   scraper.Config `json:"scrape,omitzero"`
	Mesh     Mesh           `json:"mesh,omitzero"`

	Services []service.Service `json:"services,omitempty"` // that are watched, and may be restarted
	Actions  Actions           `json:"actions,omitzero"`
}

// Actions say whose requests to restart services are done.
type Actions struct {
	Keys        []string `json:"keys,omitempty"`         // public keys (ed25519, base64); empty: nobody's
	MaxRestarts int      `json:"max_restarts,omitempty"` // of a service in ten minutes; default 3
}

// Buffer bounds what is kept on disk while no server is there.
type Buffer struct {
	MaxBytes int64          `json:"max_bytes,omitempty"` // default 200 MB
	MaxAge   model.Duration `json:"max_age,omitempty"`   // default 48h
	MinFree  int64          `json:"min_free,omitempty"`  // bytes that stay free on the disk; default 64 MiB
}

// Checks says which checks may be run from this place.
type Checks struct {
	Enabled       bool     `json:"enabled,omitempty"`        // default false: none
	Allow         []string `json:"allow,omitempty"`          // addresses and networks that may be probed; empty: all that is not denied
	Deny          []string `json:"deny,omitempty"`           //
	AllowPrivate  bool     `json:"allow_private,omitempty"`  // private networks, when Allow is empty
	AllowLoopback bool     `json:"allow_loopback,omitempty"` // this host itself, when Allow is empty
	Types         []string `json:"types,omitempty"`          // kinds of check; empty: all
	References    []string `json:"references,omitempty"`     // host:port that answer as long as there is a network
}

func defaults() Config {
	dir := "/var/lib/panoptes-agent"
	switch runtime.GOOS {
	case "windows":
		dir = filepath.Join(cmp.Or(os.Getenv("ProgramData"), `C:\ProgramData`), "Panoptes Agent")
	case "darwin":
		dir = "/usr/local/var/panoptes-agent"
	}
	name, err := os.Hostname()
	if err != nil {
		name = ""
	}
	return Config{Node: name, Region: "default", DataDir: dir, Log: "info"}
}

// environment are the keys that may come from it as PANOPTES_<KEY>.
var environment = []struct {
	name string
	set  func(*Config, string) error
}{
	{"NODE", func(c *Config, v string) error { c.Node = v; return nil }},
	{"REGION", func(c *Config, v string) error { c.Region = v; return nil }},
	{"DATA_DIR", func(c *Config, v string) error { c.DataDir = v; return nil }},
	{"JOIN", func(c *Config, v string) error { c.Join = v; return nil }},
	{"TOKEN", func(c *Config, v string) error { c.Token = model.Secret(v); return nil }},
	{"PROXY", func(c *Config, v string) error { c.Proxy = v; return nil }},
	{"LOG", func(c *Config, v string) error { c.Log = v; return nil }},
	{"PROCFS", func(c *Config, v string) error { c.Collect.ProcFS = v; return nil }},
	{"SYSFS", func(c *Config, v string) error { c.Collect.SysFS = v; return nil }},
	{"ROOTFS", func(c *Config, v string) error { c.Collect.RootFS = v; return nil }},
	{"INTERVAL", func(c *Config, v string) error { return c.Interval.UnmarshalText([]byte(v)) }},
	{"CHECKS", func(c *Config, v string) error {
		on, err := strconv.ParseBool(v)
		c.Checks.Enabled = on
		return err
	}},
	{"MESH", func(c *Config, v string) error {
		on, err := strconv.ParseBool(v)
		c.Mesh.Enabled = on
		return err
	}},
}

func (c *Config) fromEnvironment(get func(string) string) error {
	var inv model.Invalid
	for _, e := range environment {
		if v := get("PANOPTES_" + e.name); v != "" {
			inv.AddErr("PANOPTES_"+e.name, e.set(c, v))
		}
	}
	return inv.Err()
}

func (c *Config) fromFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	j, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := model.DecodeStrict(j, c); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// validate names all faults.
func (c *Config) validate() error {
	var inv model.Invalid
	inv.AddErr("node", model.CheckName(c.Node))
	inv.AddErr("region", model.CheckName(c.Region))
	inv.AddErr("labels", model.ValidateLabels(c.Labels))
	if c.DataDir == "" {
		inv.Add("data_dir", "must name a directory")
	}
	if c.Interval != 0 && (c.Interval.D() < time.Second || c.Interval.D() > time.Hour) {
		inv.Add("interval", "must lie between 1s and 1h")
	}
	if c.Proxy != "" {
		if _, err := agent.FixedProxy(c.Proxy); err != nil {
			inv.Add("proxy", "%s", err)
		}
	}
	if c.Buffer.MaxBytes < 0 || c.Buffer.MaxAge < 0 || c.Buffer.MaxBytes > 0 && c.Buffer.MaxBytes < 1<<20 {
		inv.Add("buffer", "max_bytes must be 1 MiB or more, max_age must not be negative")
	}
	if _, err := level(c.Log); err != nil {
		inv.AddErr("log", err)
	}
	c.Update.validate(&inv)
	_, err := prefixes("checks.allow", c.Checks.Allow)
	inv.AddErr("", err)
	_, err = prefixes("checks.deny", c.Checks.Deny)
	inv.AddErr("", err)
	_, err = prefixes("scrape.allow", c.Scrape.Allow)
	inv.AddErr("", err)
	inv.AddErr("scrape", c.Scrape.Validate())
	sc := c.service()
	inv.AddErr("", sc.Validate())
	_, err = prefixes("mesh.allow", c.Mesh.Allow)
	inv.AddErr("", err)
	_, err = prefixes("mesh.deny", c.Mesh.Deny)
	inv.AddErr("", err)
	return inv.Err()
}

func level(s string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(s)); err != nil {
		return l, errors.New("must be debug, info, warn or error")
	}
	return l, nil
}

// prefixes reads networks and addresses.
func prefixes(field string, list []string) ([]netip.Prefix, error) {
	var inv model.Invalid
	var out []netip.Prefix
	for i, s := range list {
		if a, err := netip.ParseAddr(s); err == nil {
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			inv.Add(model.Index(field, i), "%q is not an address or network; write for example 192.0.2.7 or 10.0.0.0/8", s)
			continue
		}
		out = append(out, p.Masked())
	}
	return out, inv.Err()
}

// findConfig returns the file that is read when none is named.
func findConfig() string {
	const path = "/etc/panoptes/agent.yml"
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || runtime.GOOS == "windows" {
		return ""
	}
	return path
}

func joinList(s string) []string {
	var out []string
	for _, p := range strings.Split(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}
