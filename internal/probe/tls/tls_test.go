package tls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	stdtls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
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
		Slow: func(t *testing.T) string {
			return probetest.Listen(t, func(c net.Conn) {
				<-time.After(300 * time.Millisecond)
				_ = stdtls.Server(c, s.TLS).Handshake()
			})
		},
		// A hello of 16 MiB that never comes to its end.
		Endless: func(t *testing.T) string {
			chunk := make([]byte, 5+16384)
			copy(chunk, []byte{22, 3, 3, 0x40, 0, 2, 0xff, 0xff, 0xff})
			return probetest.Endless(t, chunk)
		},
		Names: []string{"probe_ssl_earliest_cert_expiry", "probe_ssl_last_chain_info", "probe_tls_version_info", "probe_tls_cipher_info", "probe_ip_protocol"},
		Faults: []probetest.Fault{
			{Target: "-", Field: "target"}, {Target: "a:b", Field: "target"}, {Block: `{"min_version":"1.9"}`, Field: "tls.min_version"},
			{Block: `{"min_version":"1.3","max_version":"1.2"}`, Field: "tls.max_version"}, {Block: `{"min_days_left":-1}`, Field: "tls.min_days_left"},
			{Block: `{"fail_days_left":-1}`, Field: "tls.fail_days_left"}, {Block: `{"ca":"x"}`, Field: "tls.ca"}, {Block: `{"ip_family":"7"}`, Field: "tls.ip_family"},
			{Block: `{"degraded_after":-1}`, Field: "tls.degraded_after"},
		},
	}.Test(t)

	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
	require.NoError(t, err)
	f := func(block string, ok, degraded bool, message string) {
		t.Helper()
		out := probetest.Run(t, tls.Kind{}, up(t), block, 20*time.Second)
		require.Equal(t, ok, out.Success, out.Message)
		require.Equal(t, degraded, out.Degraded, out.Message)
		require.Contains(t, out.Message, message)
	}
	f(`{}`, false, false, "certificate")
	f(`{"ca":`+string(ca)+`}`, true, false, "certificate ends")
	f(`{"ca":`+string(ca)+`,"server_name":"other.example.net"}`, false, false, "other.example.net")
	f(`{"ca":`+string(ca)+`,"max_version":"1.2"}`, true, false, "TLS 1.2")
	// The certificate of httptest ends in many years; what counts is the line
	// it is measured against, so a clock close to its end looks at it.
	env := probetest.Env()
	env.Now = func() time.Time { return s.Certificate().NotAfter.Add(-10*24*time.Hour - time.Minute) }
	at := func(block string, ok, degraded bool, message string) {
		t.Helper()
		p, err := tls.Kind{}.Compile(probetest.Check("tls", up(t), `{"insecure_skip_verify":true`+block+`}`), env)
		require.NoError(t, err)
		out := p.Run(t.Context())
		require.Equal(t, ok, out.Success, out.Message)
		require.Equal(t, degraded, out.Degraded, out.Message)
		require.Contains(t, out.Message, message)
	}
	at(``, true, true, fmt.Sprintf("degraded: certificate days left >= %d, found 10.0", tls.DefaultDays))
	at(`,"min_days_left":10`, true, false, "certificate ends")
	at(`,"min_days_left":11`, true, true, "certificate days left >= 11")
	at(`,"min_days_left":0`, true, false, "certificate ends")
	at(`,"fail_days_left":11`, false, true, "certificate days left >= 11, found 10.0")
}

// A server may present more than the chain that clients verify: that a
// cross-signed authority in it has ended is no fault.
func TestWhatIsVerifiedCounts(t *testing.T) {
	issue := func(name string, end time.Time, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-1000 * time.Hour), NotAfter: end,
			IsCA: name != "leaf", BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		}
		if parent == nil {
			parent, by = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
		require.NoError(t, err)
		c, err = x509.ParseCertificate(der)
		require.NoError(t, err)
		return c, key
	}
	month, ended := time.Now().Add(30*24*time.Hour), time.Now().Add(-time.Hour)
	root, rootKey := issue("root", time.Now().Add(1000*24*time.Hour), nil, nil)
	old, oldKey := issue("old root", ended, nil, nil)
	cross, _ := issue("root", ended, old, oldKey)
	leaf, leafKey := issue("leaf", month, root, rootKey)
	served := stdtls.Certificate{Certificate: [][]byte{leaf.Raw, cross.Raw}, PrivateKey: leafKey}
	addr := probetest.Listen(t, func(c net.Conn) {
		tc := stdtls.Server(c, &stdtls.Config{Certificates: []stdtls.Certificate{served}})
		_ = tc.Handshake()
		_, _ = tc.Read(make([]byte, 1))
	})
	ca, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})))
	require.NoError(t, err)
	run := func(block string, ok, degraded bool) {
		t.Helper()
		out := probetest.Run(t, tls.Kind{}, addr, `{"ca":`+string(ca)+block+`}`, 20*time.Second)
		require.Equal(t, ok, out.Success, out.Message)
		require.Equal(t, degraded, out.Degraded, out.Message)
		values := map[string]float64{}
		for _, s := range out.Samples {
			values[s.Name] = s.Value
		}
		require.EqualValues(t, cross.NotAfter.Unix(), values["probe_ssl_earliest_cert_expiry"])
		require.EqualValues(t, leaf.NotAfter.Unix(), values["probe_ssl_last_chain_expiry_timestamp_seconds"])
	}
	run(``, true, false)
	run(`,"fail_days_left":3`, true, false)
	run(`,"min_days_left":40`, true, true)
	run(`,"fail_days_left":40`, false, false)
}
