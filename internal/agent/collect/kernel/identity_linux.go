package kernel

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"panoptes/internal/agent/collect/metric"
	"panoptes/internal/agent/collect/source"
)

// Uname says which kernel runs.
type Uname struct{}

// NewUname makes the collector "uname".
func NewUname() Uname { return Uname{} }

// Name implements metric.Collector.
func (Uname) Name() string { return "uname" }

// Collect implements metric.Collector.
func (Uname) Collect(_ context.Context, out *metric.Batch) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fmt.Errorf("uname: %w", err)
	}
	s := unix.ByteSliceToString
	out.Add("node_uname_info", 1, "sysname", s(u.Sysname[:]), "release", s(u.Release[:]), "version", s(u.Version[:]),
		"machine", s(u.Machine[:]), "nodename", s(u.Nodename[:]), "domainname", s(u.Domainname[:]))
	return nil
}

// OS reads os-release, the distribution's name and version.
type OS struct {
	root source.Tree
	r    source.Reader
	m    map[string]string
	age  int
}

// NewOS makes the collector "os".
func NewOS(root source.Tree) *OS { return &OS{root: root} }

// Name implements metric.Collector.
func (c *OS) Name() string { return "os" }

// Collect implements metric.Collector.
func (c *OS) Collect(_ context.Context, out *metric.Batch) error {
	// An upgrade is seen after 20 rounds; between them nothing is read.
	if c.age%20 == 0 {
		m, err := c.read()
		if err != nil {
			return err
		}
		c.m = m
	}
	c.age++
	m := c.m
	out.Add("node_os_info", 1, "build_id", m["BUILD_ID"], "id", m["ID"], "id_like", m["ID_LIKE"], "image_id", m["IMAGE_ID"],
		"image_version", m["IMAGE_VERSION"], "name", m["NAME"], "pretty_name", m["PRETTY_NAME"], "variant", m["VARIANT"],
		"variant_id", m["VARIANT_ID"], "version", m["VERSION"], "version_codename", m["VERSION_CODENAME"], "version_id", m["VERSION_ID"])
	if v, ok := majorMinor(m["VERSION_ID"]); ok {
		out.Add("node_os_version", v, "id", m["ID"], "id_like", m["ID_LIKE"], "name", m["NAME"])
	}
	return nil
}

func (c *OS) read() (map[string]string, error) {
	var err error
	for _, p := range [...]string{"etc/os-release", "usr/lib/os-release"} {
		var b []byte
		if b, err = c.r.ReadMax(c.root.Path(p), 64<<10); err == nil {
			return parseRelease(b), nil
		}
	}
	return nil, err
}

func parseRelease(b []byte) map[string]string {
	m := map[string]string{}
	for len(b) > 0 && len(m) < 100 {
		var line []byte
		line, b = source.Line(b)
		k, v, ok := strings.Cut(string(bytes.TrimSpace(line)), "=")
		if !ok || strings.HasPrefix(k, "#") {
			continue
		}
		if n := len(v); n >= 2 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] {
			v = v[1 : n-1]
		}
		m[k] = v
	}
	return m
}

// majorMinor makes 12.4 of "12.4.1".
func majorMinor(s string) (float64, bool) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) > 2 {
		parts = parts[:2]
	}
	v, err := strconv.ParseFloat(strings.Join(parts, "."), 64)
	return v, err == nil && strings.Trim(s, "0123456789.") == ""
}
