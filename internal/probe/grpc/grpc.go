// Package grpc probes servers by gRPC's standard health service.
package grpc

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/tlsinfo"
)

// Config is the block "grpc".
type Config struct {
	Service        string                  `json:"service,omitempty"` // empty asks for the server as a whole
	Plaintext      bool                    `json:"plaintext,omitempty"`
	Metadata       map[string]string       `json:"metadata,omitempty"`
	SecretMetadata map[string]model.Secret `json:"secret_metadata,omitempty"`
	TLS            tlsinfo.Config          `json:"tls,omitzero"`
	IPFamily       string                  `json:"ip_family,omitempty"`
	DegradedAfter  model.Duration          `json:"degraded_after,omitempty"`
}

// Kind is the type "grpc".
type Kind struct{}

// Name implements probe.Kind.
func (Kind) Name() string { return "grpc" }

type grpcProbe struct {
	env  *probe.Env
	cfg  Config
	host string
	port uint16
	tls  *tls.Config
	md   metadata.MD
}

// Compile implements probe.Kind.
func (Kind) Compile(c *model.Check, env *probe.Env) (probe.Probe, error) {
	p := &grpcProbe{env: env, md: metadata.MD{}}
	if err := probe.Decode(c, &p.cfg); err != nil {
		return nil, err
	}
	var inv model.Invalid
	var err error
	p.host, p.port, err = probe.HostPort(c.Target, 0)
	inv.AddErr("", err)
	if len(p.cfg.Service) > 256 {
		inv.Add("grpc.service", "is longer than 256 bytes")
	}
	add := func(field, k, v string) {
		bad := k == "" || strings.HasPrefix(k, "grpc-") || strings.HasPrefix(k, ":")
		for _, r := range k {
			bad = bad || !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
		}
		for _, r := range v {
			bad = bad || r < ' ' || r > '~'
		}
		if bad {
			inv.Add(field+"."+k, "must have a name of small letters, digits, -, _ or ., not beginning with grpc-, and a value of printable ASCII")
		}
		p.md.Set(k, v)
	}
	for k, v := range p.cfg.Metadata {
		add("grpc.metadata", k, v)
	}
	for k, v := range p.cfg.SecretMetadata {
		add("grpc.secret_metadata", k, v.Reveal())
	}
	p.tls = p.cfg.TLS.Compile("grpc.tls", p.host, &inv)
	if p.cfg.IPFamily != "" && !slices.Contains(probe.Families, p.cfg.IPFamily) {
		inv.Add("grpc.ip_family", "must be auto, 4 or 6")
	}
	if p.cfg.DegradedAfter < 0 {
		inv.Add("grpc.degraded_after", "must not be negative")
	}
	if err := inv.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// dialed keeps what the first connection of a run found: gRPC dials in a
// goroutine of its own, and may dial again.
type dialed struct {
	mu    sync.Mutex // guards all below
	route probe.Route
	err   error
	conn  net.Conn // the newest
	over  bool     // the run has no time left
}

// keep notes a dial; it closes what comes too late.
func (d *dialed) keep(c net.Conn, r probe.Route, err error) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.route, d.err, d.conn = r, err, c
	if err == nil && d.over {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	return c, err
}

// abort cuts the connection off.
func (d *dialed) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.conn != nil {
		_ = d.conn.Close()
	}
}

// Run implements probe.Probe.
func (p *grpcProbe) Run(ctx context.Context) probe.Outcome {
	start := time.Now()
	if err := ctx.Err(); err != nil {
		return probe.Outcome{Message: probe.Reason(err)}
	}
	var d dialed
	creds := insecure.NewCredentials()
	if !p.cfg.Plaintext {
		creds = credentials.NewTLS(p.tls)
	}
	conn, err := ggrpc.NewClient("passthrough:///"+net.JoinHostPort(p.host, strconv.Itoa(int(p.port))),
		ggrpc.WithTransportCredentials(creds), ggrpc.WithNoProxy(), ggrpc.WithDisableServiceConfig(),
		ggrpc.WithUserAgent("Panoptes"), ggrpc.WithDefaultCallOptions(ggrpc.MaxCallRecvMsgSize(1<<20)),
		ggrpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c, r, err := p.env.Connect(ctx, "tcp", p.host, p.port, p.cfg.IPFamily)
			return d.keep(c, r, err)
		}))
	if err != nil {
		return probe.Outcome{Message: probe.Reason(err)}
	}
	// A target that does not read makes Close wait; it must not outlast ctx.
	stop := context.AfterFunc(ctx, d.abort)
	defer stop()
	defer conn.Close()
	var pr peer.Peer
	reply, err := healthpb.NewHealthClient(conn).Check(metadata.NewOutgoingContext(ctx, p.md), &healthpb.HealthCheckRequest{Service: p.cfg.Service}, ggrpc.Peer(&pr))
	took := time.Since(start)
	if cause := ctx.Err(); err != nil && cause != nil { // our own cut may be heard of first
		err = status.FromContextError(cause).Err()
	}
	d.mu.Lock()
	route, dialErr := d.route, d.err
	d.mu.Unlock()
	return p.judge(reply, err, dialErr, route, pr, took)
}

func (p *grpcProbe) judge(reply *healthpb.HealthCheckResponse, err, dialErr error, route probe.Route, pr peer.Peer, took time.Duration) probe.Outcome {
	out := probe.Outcome{Samples: route.Samples(make([]probe.Sample, 0, 16))}
	for _, ph := range []struct {
		name string
		d    time.Duration
	}{{"resolve", route.Resolve}, {"connect", route.Connect}, {"check", max(0, took-route.Resolve-route.Connect)}} {
		out.Samples = append(out.Samples, probe.Sample{Name: "probe_grpc_duration_seconds", Labels: []string{"phase", ph.name}, Value: ph.d.Seconds()})
	}
	var facts *tlsinfo.Facts
	if ti, ok := pr.AuthInfo.(credentials.TLSInfo); ok {
		facts = tlsinfo.FromState(&ti.State)
	}
	ssl := 0.0
	if facts != nil {
		ssl = 1
	}
	out.Samples = append(out.Samples,
		probe.Sample{Name: "probe_grpc_ssl", Value: ssl},
		probe.Sample{Name: "probe_grpc_status_code", Value: float64(status.Code(err))})
	serving := reply.GetStatus()
	for _, s := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_UNKNOWN, healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING, healthpb.HealthCheckResponse_SERVICE_UNKNOWN} {
		v := 0.0
		if err == nil && s == serving {
			v = 1
		}
		out.Samples = append(out.Samples, probe.Sample{Name: "probe_grpc_healthcheck_response", Labels: []string{"serving_status", s.String()}, Value: v})
	}
	out.Samples = facts.Samples(out.Samples)
	switch code := status.Code(err); {
	case dialErr != nil:
		out.Message, out.Untried = probe.Reason(dialErr), probe.Untried(dialErr)
	case code == codes.DeadlineExceeded:
		out.Message = "timed out"
	case code == codes.Canceled:
		out.Message = "cancelled"
	case code == codes.Unimplemented:
		out.Message = "the target has no health service (grpc.health.v1)"
	case code == codes.NotFound:
		out.Message = "the target does not know the service " + strconv.Quote(p.cfg.Service)
	case err != nil:
		out.Message = code.String() + ": " + probe.Line(status.Convert(err).Message())
	case serving != healthpb.HealthCheckResponse_SERVING:
		out.Message = "the service is " + serving.String()
	default:
		out.Success, out.Message = true, "SERVING in "+probe.Ms(took)
	}
	var rs []model.AssertionResult
	if r, _ := p.cfg.TLS.Assert(facts, time.Now()); r.Text != "" {
		rs = append(rs, r)
	}
	if dl := p.cfg.DegradedAfter.D(); dl > 0 {
		rs = append(rs, model.AssertionResult{Text: "response time <= " + p.cfg.DegradedAfter.String(), Found: probe.Ms(took), Passed: took <= dl})
	}
	for _, r := range rs {
		out.Assertions = append(out.Assertions, r)
		if !r.Passed && out.Success {
			out.Degraded, out.Message = true, "degraded: "+r.Text+", found "+r.Found
		}
	}
	if !out.Success || out.Degraded {
		out.Evidence = map[string]any{"code": status.Code(err).String(), "tls": facts, "error": out.Message}
	}
	return out
}

// About implements probe.Kind.
func (Kind) About() probe.About {
	return probe.About{Label: probe.T("gRPC health", "gRPC 健康检查"), Target: probe.T("Host and port", "主机和端口"), Placeholder: "api.example:443"}
}

// Schema implements probe.Kind.
func (Kind) Schema() []probe.Field {
	t := probe.T
	return append([]probe.Field{
		{Name: "service", Type: "string", Label: t("Service", "服务名"), Help: t("Empty asks for the server as a whole.", "留空表示检查整个服务器。")},
		{Name: "plaintext", Type: "bool", Default: "false", Label: t("Without TLS", "不使用 TLS")},
		{Name: "metadata", Type: "map", Advanced: true, Label: t("Metadata", "元数据")},
		{Name: "secret_metadata", Type: "map", Advanced: true, Label: t("Secret metadata", "机密元数据")},
		{Name: "secret_metadata.*", Type: "secret", Advanced: true, Label: t("Secret value", "机密值")},
		{Name: "degraded_after", Type: "duration", Label: t("Degraded when slower than", "慢于此值视为降级")},
		{Name: "ip_family", Type: "enum", Enum: probe.Families, Default: probe.FamilyAuto, Advanced: true, Label: t("IP family", "IP 协议族")},
	}, tlsinfo.Fields()...)
}
