package probe

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"panoptes/internal/model"
)

// Normalizer is a kind that completes a check before it is stored, for
// example with a generated token.
type Normalizer interface {
	Normalize(c *model.Check) error
}

// Find returns the kind of that name.
func Find(kinds []Kind, name string) (Kind, bool) {
	for _, k := range kinds {
		if k.Name() == name {
			return k, true
		}
	}
	return nil, false
}

// Compile makes the probe of a check that has its defaults. Faults of target
// and block are named in one model.Invalid.
func Compile(kinds []Kind, c *model.Check, env *Env) (Probe, error) {
	k, ok := Find(kinds, c.Type)
	if !ok {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.Name()
		}
		return nil, model.Invalid{{Field: "type", Msg: "there is no type " + strconv.Quote(c.Type) + "; choose one of " + strings.Join(names, ", ")}}
	}
	return k.Compile(c, env)
}

// Normalize completes c for storing: defaults, the kind's own additions, and
// everything that can be wrong with it in one model.Invalid. Kinds never
// dial while they compile.
func Normalize(kinds []Kind, c *model.Check) error {
	c.Default()
	var inv model.Invalid
	inv.AddErr("", c.Validate())
	if c.Type != "" {
		if k, ok := Find(kinds, c.Type); ok {
			if n, ok := k.(Normalizer); ok {
				if err := n.Normalize(c); err != nil {
					inv.AddErr("", err)
					return inv.Err()
				}
			}
		}
		_, err := Compile(kinds, c, &Env{Dialer: NewDialer(Policy{})})
		inv.AddErr("", err)
	}
	return inv.Err()
}

// Decode reads the block of c strictly into v. Field names in the error begin
// with the type: "http.method". A missing block leaves v as it is.
func Decode(c *model.Check, v any) error {
	b := bytes.TrimSpace(c.Block)
	if len(b) == 0 || string(b) == "null" {
		return nil
	}
	if err := model.DecodeStrict(b, v); err != nil {
		var inv model.Invalid
		inv.AddErr(c.Type, err)
		return inv.Err()
	}
	return nil
}

// HostPort splits a target "host:port", with defaultPort when it has none
// (0 means that a port must be given). Faults are of the field "target".
func HostPort(target string, defaultPort uint16) (host string, port uint16, err error) {
	fault := func(format string, args ...any) error {
		var inv model.Invalid
		inv.Add("target", format, args...)
		return inv
	}
	if target == "" {
		return "", 0, fault("must be given, for example db.example:5432")
	}
	host, ps, err := net.SplitHostPort(target)
	if err != nil {
		bare := strings.TrimSuffix(strings.TrimPrefix(target, "["), "]")
		if _, aerr := netip.ParseAddr(bare); defaultPort != 0 && (aerr == nil || !strings.Contains(target, ":")) {
			return bare, defaultPort, Host(bare)
		}
		return "", 0, fault("%q is not host:port; write for example db.example:5432 or [2001:db8::1]:5432", target)
	}
	n, err := strconv.ParseUint(ps, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fault("port %q must be a number from 1 to 65535", ps)
	}
	return host, uint16(n), Host(host)
}

// Host checks a host name or address; faults are of the field "target".
func Host(h string) error {
	if _, err := netip.ParseAddr(h); err == nil {
		return nil
	}
	bad := h == "" || len(h) > 253 || strings.HasPrefix(h, "-") || strings.HasPrefix(h, ".") || strings.Contains(h, "..")
	for _, r := range h {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' || r >= 0x80) {
			bad = true
		}
	}
	if bad {
		return model.Invalid{{Field: "target", Msg: strconv.Quote(h) + " is not a host name or address; write for example www.example.com or 192.0.2.7"}}
	}
	return nil
}

// SecretPaths lists the secret fields of a kind as dotted paths of the check:
// "http.basic_auth.password", "http.secret_headers.*".
func SecretPaths(k Kind) []string {
	var out []string
	for _, f := range k.Schema() {
		if f.Type == "secret" {
			out = append(out, k.Name()+"."+f.Name)
		}
	}
	return out
}

// T makes the texts of a label or help in the languages of the pages.
func T(en, zh string) map[string]string { return map[string]string{"en": en, "zh-CN": zh} }

// IsInvalid reports whether err names faults of a record.
func IsInvalid(err error) bool {
	var inv model.Invalid
	return errors.As(err, &inv)
}
