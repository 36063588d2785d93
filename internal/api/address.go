package api

import (
	"net/http"
	"net/netip"
	"regexp"
	"strings"
)

// fromProxy reports whether r comes from a proxy whose headers are believed.
func (a *API) fromProxy(r *http.Request) bool {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && a.trusted(ap.Addr())
}

func (a *API) trusted(ip netip.Addr) bool {
	for _, p := range a.cfg.TrustedProxies {
		if p.Contains(ip.Unmap()) {
			return true
		}
	}
	return false
}

// clientAddress is the address nearest to us that is not a trusted proxy.
func (a *API) clientAddress(r *http.Request) string {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := ap.Addr().Unmap()
	if !a.trusted(ip) {
		return ip.String()
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		if ip = hop.Unmap(); !a.trusted(ip) {
			break
		}
	}
	return ip.String()
}

// isTLS reports whether the browser's side is encrypted.
func (a *API) isTLS(r *http.Request) bool {
	return r.TLS != nil || a.fromProxy(r) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

var prefixRE = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*){1,8}$`)

func validPrefix(p string) bool { return len(p) <= 128 && prefixRE.MatchString(p) }

// clientPrefix is the path under which the browser sees us: what a proxy says
// it has stripped, else the configured one.
func (a *API) clientPrefix(r *http.Request) string {
	if a.fromProxy(r) {
		if p := strings.TrimRight(r.Header.Get("X-Forwarded-Prefix"), "/"); validPrefix(p) {
			return p
		}
	}
	return a.cfg.BasePath
}

// securityHeaders are on every answer; pages set their own policy.
func securityHeaders(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=()")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}
