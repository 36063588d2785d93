package probe

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// IP families a check may ask for.
const (
	FamilyAuto = "auto"
	Family4    = "4"
	Family6    = "6"
)

// Families lists the values of an "ip_family" field.
var Families = []string{FamilyAuto, Family4, Family6}

// Route is how a target was reached.
type Route struct {
	Addr    netip.Addr // the address used last; invalid when the name did not resolve
	Resolve time.Duration
	Connect time.Duration
}

// Samples gives the samples that every kind which resolves a name reports.
func (r Route) Samples(dst []Sample) []Sample {
	dst = append(dst, Sample{Name: "probe_dns_lookup_time_seconds", Value: r.Resolve.Seconds()})
	if !r.Addr.IsValid() {
		return dst
	}
	proto := 6.0
	if r.Addr.Is4() {
		proto = 4
	}
	h := fnv.New32a()
	_, _ = h.Write(r.Addr.AsSlice())
	return append(dst,
		Sample{Name: "probe_ip_protocol", Value: proto},
		Sample{Name: "probe_ip_addr_hash", Value: float64(h.Sum32())})
}

// Resolve returns the addresses of host in the order in which they should be
// tried. Family is one of Families; "" is auto. A literal costs nothing.
func (e *Env) Resolve(ctx context.Context, host, family string) ([]netip.Addr, error) {
	network := "ip"
	switch family {
	case Family4:
		network = "ip4"
	case Family6:
		network = "ip6"
	}
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		a = a.Unmap()
		if network == "ip4" && !a.Is4() || network == "ip6" && a.Is4() {
			return nil, fmt.Errorf("%s is no IPv%s address", a, family)
		}
		return []netip.Addr{a}, nil
	}
	r := e.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	addrs, err := r.LookupNetIP(ctx, network, host)
	if err != nil {
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// maxAddrs bounds how many addresses of one name are tried.
const maxAddrs = 4

// Connect resolves host and connects to the first address that answers. Each
// address gets an equal share of the time that is left.
func (e *Env) Connect(ctx context.Context, network, host string, port uint16, family string) (net.Conn, Route, error) {
	var r Route
	start := time.Now()
	addrs, err := e.Resolve(ctx, host, family)
	r.Resolve = time.Since(start)
	if err != nil {
		return nil, r, err
	}
	if len(addrs) > maxAddrs {
		addrs = addrs[:maxAddrs]
	}
	start = time.Now()
	defer func() { r.Connect = time.Since(start) }()
	var first error
	for i, a := range addrs {
		r.Addr = a
		c, err := e.dialOne(ctx, network, netip.AddrPortFrom(a, port), len(addrs)-i)
		if err == nil {
			r.Connect = time.Since(start)
			return c, r, nil
		}
		// What a worker may not reach tells less than what did not answer.
		if first == nil || Untried(first) && !Untried(err) {
			first = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if first == nil {
		first = fmt.Errorf("%s has no address", host)
	}
	r.Connect = time.Since(start)
	return nil, r, first
}

func (e *Env) dialOne(ctx context.Context, network string, ap netip.AddrPort, left int) (net.Conn, error) {
	if dl, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(dl)/time.Duration(left))
		defer cancel()
	}
	return e.Dialer.DialContext(ctx, network, ap.String())
}

// untried marks an error that lies with this worker.
type untried struct{ error }

func (u untried) Unwrap() error { return u.error }

// NotTried marks err as the reason why this worker could not try at all.
func NotTried(err error) error { return untried{err} }

// Untried reports whether err says something about this worker and nothing
// about the target: policy refuses the address, a permission is missing, or the
// process may open no more connections.
func Untried(err error) bool {
	var refused *RefusedError
	var u untried
	return errors.As(err, &refused) || errors.As(err, &u) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// Reason says in a few words why a run failed, without the addresses that
// change from run to run.
func Reason(err error) string {
	var refused *RefusedError
	var dnsErr *net.DNSError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Error()
	case errors.As(err, &dnsErr):
		switch {
		case dnsErr.IsNotFound:
			return "name " + dnsErr.Name + " does not exist"
		case dnsErr.IsTimeout:
			return "resolving " + dnsErr.Name + " timed out"
		}
		return "resolving " + dnsErr.Name + ": " + dnsErr.Err
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.Is(err, syscall.EHOSTUNREACH):
		return "no route to host"
	case errors.Is(err, syscall.ENETUNREACH):
		return "network unreachable"
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		return "timed out"
	}
	return Line(err.Error())
}

// Line makes s fit for a message: one line, valid UTF-8, at most 300 bytes.
func Line(s string) string {
	s = strings.ToValidUTF8(s, "�")
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// Watch closes c, or moves its deadline into the past, when ctx ends, so that
// reads and writes return at once. Call the function it returns when done.
func Watch(ctx context.Context, c interface{ SetDeadline(time.Time) error }) (stop func() bool) {
	if dl, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(dl)
	}
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
}

// Ms writes a duration the way messages do: "32 ms", "1.25 s".
func Ms(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}
