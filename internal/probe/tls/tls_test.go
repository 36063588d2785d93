package tls_test

import (
	"encoding/json"
	"encoding/pem"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"panoptes/internal/probe/probetest"
	"panoptes/internal/probe/tls"
)

func TestSuite(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	up := func(*testing.T) string { return s.Listener.Addr().String() }
	probetest.Suite{
		Kind: tls.Kind{}, Block: `{"insecure_skip_verify":true}`, Up: up,
		Refused: probetest.Refused, Hole: probetest.Hole, Garbage: probetest.Garbage,
		Names: []string{"probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_info", "probe_tls_version_info", "probe_tls_cipher_info", "probe_ip_protocol"},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "a:b", Field: "target"}, {Block: `{"min_version":"1.9"}`, Field: "tls.min_version"},
			{Block: `{"min_version":"1.3","max_version":"1.2"}`, Field: "tls.max_version"}, {Block: `{"min_days_left":-1}`, Field: "tls.min_days_left"},
			{Block: `{"fail_days_left":-1}`, Field: "tls.fail_days_left"}, {Block: `{"ca":"x"}`, Field: "tls.ca"}, {Block: `{"ip_family":"7"}`, Field: "tls.ip_family"},
		},
	}.Test(t)

	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	require.NoError(t, err)
	f := func(block string, ok, degraded bool, message string) {
		t.Helper()
		out := probetest.Run(t, tls.Kind{}, up(t), block, 2*time.Second)
		require.Equal(t, ok, out.Success, out.Message)
		require.Equal(t, degraded, out.Degraded, out.Message)
		require.Contains(t, out.Message, message)
	}
	f(`{}`, false, false, "certificate")
	f(`{"ca":`+string(ca)+`}`, true, false, "certificate ends")
	f(`{"ca":`+string(ca)+`,"server_name":"other.example.net"}`, false, false, "other.example.net")
	days := time.Until(s.Certificate().NotAfter).Hours() / 24
	require.Greater(t, days, 3650.0)
	f(`{"ca":`+string(ca)+`,"max_version":"1.2"}`, true, false, "TLS 1.2")
}
