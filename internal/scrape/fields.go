package scrape

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/discovery"
	"go.yaml.in/yaml/v2"

	"panoptes/internal/model"
)

var (
	unknownField = regexp.MustCompile(`field (\S+) not found in type`)
	lineNumber   = regexp.MustCompile(`^line \d+: `)
	jobSuffix    = regexp.MustCompile(` (?:for|in) scrape config with job name "[^"]*"`)
)

// mechanisms lists the discovery blocks that this build knows.
func mechanisms() []string {
	out := []string{"static_configs"}
	for _, n := range discovery.RegisteredConfigNames() {
		if n != "static" {
			out = append(out, n+"_sd_configs")
		}
	}
	slices.Sort(out)
	return out
}

// clouds are the mechanisms that only a program built for them has.
var clouds = []string{"aws_sd_configs", "azure_sd_configs", "ec2_sd_configs", "ecs_sd_configs", "gce_sd_configs", "lightsail_sd_configs"}

func notBuiltIn(mechanism string) string {
	if slices.Contains(clouds, mechanism) {
		return "this discovery mechanism is not built in; a program built with -tags clouds has it"
	}
	return "this discovery mechanism is not built in"
}

// fieldErrors turns what the engine says about a configuration into errors
// that name the field.
func fieldErrors(err error, obj map[string]any) error {
	var te *yaml.TypeError
	texts := []string{err.Error()}
	if errors.As(err, &te) {
		texts = te.Errors
	}
	var inv model.Invalid
	for _, text := range texts {
		text = jobSuffix.ReplaceAllString(lineNumber.ReplaceAllString(strings.TrimPrefix(text, "yaml: "), ""), "")
		m := unknownField.FindStringSubmatch(text)
		switch {
		case m != nil && strings.HasSuffix(m[1], "_sd_configs"):
			inv.Add(m[1], "%s; there are %s", notBuiltIn(m[1]), strings.Join(mechanisms(), ", "))
		case m != nil:
			for _, at := range find(obj, nil, m[1]) {
				inv.Add(at, "there is no such field")
			}
		default:
			inv.Add(mentioned(text, obj), "%s", text)
		}
	}
	if len(inv) == 0 {
		inv.Add("", "%s", err)
	}
	return inv
}

// find returns the dotted paths of all fields of a name.
func find(v any, path []string, name string) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			at := append(slices.Clone(path), k)
			if k == name {
				out = append(out, dotted(at))
			}
			out = append(out, find(v[k], at, name)...)
		}
	case []any:
		for i, e := range v {
			out = append(out, find(e, append(slices.Clone(path), strconv.Itoa(i)), name)...)
		}
	}
	return out
}

// mentioned is the field that a message speaks of: of the names at the top of
// the configuration the one that occurs first in it, written with _ or with
// spaces.
func mentioned(text string, obj map[string]any) string {
	best, first := "", len(text)
	for k := range obj {
		at := strings.Index(text, k)
		if at < 0 && strings.Contains(k, "_") {
			at = strings.Index(text, strings.ReplaceAll(k, "_", " "))
		}
		if at >= 0 && (at < first || at == first && len(k) > len(best)) {
			best, first = k, at
		}
	}
	return best
}

// walk calls f with each text in v. The path is shared between calls.
func walk(v any, path []string, f func(path []string, v string)) {
	switch v := v.(type) {
	case string:
		f(path, v)
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			walk(v[k], append(path[:len(path):len(path)], k), f)
		}
	case []any:
		for i, e := range v {
			walk(e, append(path[:len(path):len(path)], strconv.Itoa(i)), f)
		}
	}
}

// dotted writes a path as people do: a.b[2].c.
func dotted(path []string) string {
	var b strings.Builder
	for _, p := range path {
		switch _, err := strconv.Atoi(p); {
		case err == nil && b.Len() > 0:
			fmt.Fprintf(&b, "[%s]", p)
		case b.Len() > 0:
			b.WriteString("." + p)
		default:
			b.WriteString(p)
		}
	}
	return b.String()
}

// inData reports whether a path lies in the parts where people choose the
// names: labels, parameters, relabelling.
func inData(path []string) bool {
	return slices.ContainsFunc(path, func(p string) bool {
		return p == "static_configs" || p == "params" || p == "relabel_configs" || p == "metric_relabel_configs"
	})
}

// isFile reports whether the value at path names a file to be read.
func isFile(path []string) bool {
	if inData(path) || len(path) == 0 {
		return false
	}
	key := path[len(path)-1]
	if _, err := strconv.Atoi(key); err == nil && len(path) > 1 {
		key = path[len(path)-2]
		return key == "files"
	}
	return strings.HasSuffix(key, "_file")
}

// isMetadata reports whether a field that names a place to ask names one where
// clouds give the credentials of a machine to whoever asks from it. Targets, and
// what answers name, are looked at when they are dialed.
func isMetadata(key, v string) bool {
	if !slices.Contains([]string{"server", "host", "api_server"}, key) && !strings.HasSuffix(key, "url") && !strings.HasSuffix(key, "endpoint") {
		return false
	}
	host := v
	if u, err := url.Parse(v); err == nil && u.Host != "" {
		host = u.Host
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "metadata" || host == "metadata.google.internal" || host == "instance-data" || strings.HasSuffix(host, ".metadata.google.internal") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	return ip.IsLinkLocalUnicast() || ip == netip.MustParseAddr("fd00:ec2::254") || ip == netip.MustParseAddr("100.100.100.200")
}
