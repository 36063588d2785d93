package grpc_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	ggrpc "google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"panoptes/internal/probe/grpc"
	"panoptes/internal/probe/probetest"
)

func server(t *testing.T, wait time.Duration, opts ...ggrpc.ServerOption) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := health.NewServer()
	h.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	opts = append(opts, ggrpc.UnaryInterceptor(func(ctx context.Context, req any, _ *ggrpc.UnaryServerInfo, next ggrpc.UnaryHandler) (any, error) {
		<-time.After(wait)
		return next(ctx, req)
	}))
	s := ggrpc.NewServer(opts...)
	healthpb.RegisterHealthServer(s, h)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

func TestSuite(t *testing.T) {
	probetest.Suite{
		Kind: grpc.Kind{}, Block: `{"plaintext":true}`,
		Up:      func(t *testing.T) string { return server(t, 0) },
		Slow:    func(t *testing.T) string { return server(t, 300*time.Millisecond) },
		Refused: probetest.Refused, Hole: probetest.Hole, Garbage: probetest.Garbage,
		// Frames of settings (type 4, empty) without end.
		Endless: func(t *testing.T) string { return probetest.Endless(t, []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}) },
		Names:   []string{"probe_grpc_duration_seconds", "probe_grpc_ssl", "probe_grpc_status_code", "probe_grpc_healthcheck_response"},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "host", Field: "target"}, {Block: `{"metadata":{"A":"b"}}`, Field: "grpc.metadata.A"},
			{Block: `{"tls":{"ca":"x"}}`, Field: "grpc.tls.ca"}, {Block: `{"ip_family":"x"}`, Field: "grpc.ip_family"},
		},
	}.Test(t)
	out := probetest.Run(t, grpc.Kind{}, server(t, 0), `{"plaintext":true,"service":"bad"}`, 20*time.Second)
	require.Equal(t, "the service is NOT_SERVING", out.Message)
	out = probetest.Run(t, grpc.Kind{}, server(t, 0), `{"plaintext":true,"service":"none"}`, 20*time.Second)
	require.Contains(t, out.Message, "does not know the service")

	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	secure := server(t, 0, ggrpc.Creds(credentials.NewTLS(&tls.Config{Certificates: cert.TLS.Certificates})))
	out = probetest.Run(t, grpc.Kind{}, secure, `{"tls":{"insecure_skip_verify":true}}`, 20*time.Second)
	require.True(t, out.Success, out.Message)
	out = probetest.Run(t, grpc.Kind{}, secure, ``, 20*time.Second)
	require.False(t, out.Success)
	require.Contains(t, out.Message, "certificate")
}
