// Package tlsinfo holds what all kinds share about TLS: their settings and the
// facts they report of a connection.
package tlsinfo

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/probe"
)

// Config is the object "tls" of a kind's block.
type Config struct {
	InsecureSkipVerify bool         `json:"insecure_skip_verify,omitempty"` // accept any certificate
	ServerName         string       `json:"server_name,omitempty"`          // asked for and verified; default the target's host
	CA                 string       `json:"ca,omitempty"`                   // PEM; trusted instead of the system's
	Cert               string       `json:"cert,omitempty"`                 // PEM of a client certificate
	Key                model.Secret `json:"key,omitempty"`                  // PEM of its key
	MinDaysLeft        float64      `json:"min_days_left,omitempty"`        // nearer expiry than this makes the check degraded
	MinVersion         string       `json:"min_version,omitempty"`          // 1.0, 1.1, 1.2 (default) or 1.3
	MaxVersion         string       `json:"max_version,omitempty"`
}

var versions = map[string]uint16{"1.0": tls.VersionTLS10, "1.1": tls.VersionTLS11, "1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// Compile makes the configuration for host; faults go to inv under prefix.
func (c *Config) Compile(prefix, host string, inv *model.Invalid) *tls.Config {
	out := &tls.Config{ServerName: host, InsecureSkipVerify: c.InsecureSkipVerify}
	if c.ServerName != "" {
		out.ServerName = c.ServerName
	}
	if len(c.ServerName) > 253 {
		inv.Add(prefix+".server_name", "is longer than 253 bytes")
	}
	if c.CA != "" {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM([]byte(c.CA)) {
			inv.Add(prefix+".ca", "holds no certificate in PEM form")
		}
	}
	if (c.Cert == "") != (c.Key == "") {
		field := ".cert"
		if c.Key == "" {
			field = ".key"
		}
		inv.Add(prefix+field, "must be given too: certificate and key belong together")
	} else if c.Cert != "" && c.Key.Reveal() != model.Redacted {
		pair, err := tls.X509KeyPair([]byte(c.Cert), []byte(c.Key.Reveal()))
		if err != nil {
			inv.Add(prefix+".cert", "certificate and key do not fit: %s", strings.TrimPrefix(err.Error(), "tls: "))
		}
		out.Certificates = []tls.Certificate{pair}
	}
	if c.MinDaysLeft < 0 || c.MinDaysLeft > 3650 || math.IsNaN(c.MinDaysLeft) {
		inv.Add(prefix+".min_days_left", "must lie between 0 (do not look) and 3650")
	}
	for _, v := range []struct {
		name, text string
		dst        *uint16
	}{{"min_version", c.MinVersion, &out.MinVersion}, {"max_version", c.MaxVersion, &out.MaxVersion}} {
		n, ok := versions[v.text]
		if !ok && v.text != "" {
			inv.Add(prefix+"."+v.name, "must be 1.0, 1.1, 1.2 or 1.3")
		}
		*v.dst = n
	}
	if out.MaxVersion != 0 && out.MaxVersion < max(out.MinVersion, versions["1.0"]) {
		inv.Add(prefix+".max_version", "is below min_version")
	}
	return out
}

// Facts is what a connection, or a failed handshake, told.
type Facts struct {
	Version  string    `json:"version,omitempty"`
	Cipher   string    `json:"cipher,omitempty"`
	Subject  string    `json:"subject,omitempty"`
	Issuer   string    `json:"issuer,omitempty"`
	Names    []string  `json:"names,omitempty"`
	Expiry   time.Time `json:"expiry,omitzero"` // of the presented certificate that ends first
	SHA256   string    `json:"sha256,omitempty"`
	chainEnd time.Time // when the last chain that was verified ends
	serial   string
}

// FromState reads the facts of a connection; nil without certificates.
func FromState(s *tls.ConnectionState) *Facts {
	if s == nil || len(s.PeerCertificates) == 0 {
		return nil
	}
	f := fromCerts(s.PeerCertificates)
	f.Version, f.Cipher = tls.VersionName(s.Version), tls.CipherSuiteName(s.CipherSuite)
	for _, chain := range s.VerifiedChains {
		end := earliest(chain)
		if end.After(f.chainEnd) {
			f.chainEnd = end
		}
	}
	return f
}

// FromError reads the certificate out of the error of a handshake; nil when
// there is none in it.
func FromError(err error) *Facts {
	var ve *tls.CertificateVerificationError
	if errors.As(err, &ve) && len(ve.UnverifiedCertificates) > 0 {
		return fromCerts(ve.UnverifiedCertificates)
	}
	return nil
}

func fromCerts(certs []*x509.Certificate) *Facts {
	leaf := certs[0]
	sum := sha256.Sum256(leaf.Raw)
	return &Facts{
		Subject: probe.Line(leaf.Subject.String()), Issuer: probe.Line(leaf.Issuer.String()),
		Names: leaf.DNSNames, Expiry: earliest(certs), SHA256: hex.EncodeToString(sum[:]),
		serial: leaf.SerialNumber.Text(16),
	}
}

func earliest(certs []*x509.Certificate) time.Time {
	t := certs[0].NotAfter
	for _, c := range certs[1:] {
		if c.NotAfter.Before(t) {
			t = c.NotAfter
		}
	}
	return t
}

// Samples adds the facts under blackbox_exporter's names. A nil f adds nothing.
func (f *Facts) Samples(dst []probe.Sample) []probe.Sample {
	if f == nil {
		return dst
	}
	dst = append(dst, probe.Sample{Name: "probe_ssl_earliest_cert_expiry", Value: float64(f.Expiry.Unix())})
	if !f.chainEnd.IsZero() {
		dst = append(dst, probe.Sample{Name: "probe_ssl_last_chain_expiry_timestamp_seconds", Value: float64(f.chainEnd.Unix())})
	}
	dst = append(dst, probe.Sample{Name: "probe_ssl_last_chain_info", Value: 1, Labels: []string{
		"fingerprint_sha256", f.SHA256, "subject", f.Subject, "issuer", f.Issuer,
		"subjectalternative", strings.Join(f.Names, ","), "serialnumber", f.serial}})
	if f.Version != "" {
		dst = append(dst,
			probe.Sample{Name: "probe_tls_version_info", Value: 1, Labels: []string{"version", f.Version}},
			probe.Sample{Name: "probe_tls_cipher_info", Value: 1, Labels: []string{"cipher", f.Cipher}})
	}
	return dst
}

// End is when clients begin to refuse the certificate: the end of the last chain
// that was verified. A server may present more than that takes, for example an old
// cross-signed authority, and nobody minds that it has ended. Without a verified
// chain all that was presented counts.
func (f *Facts) End() time.Time {
	if !f.chainEnd.IsZero() {
		return f.chainEnd
	}
	return f.Expiry
}

// Left is the time until End; nil without a certificate.
func (f *Facts) Left(now time.Time) *time.Duration {
	if f == nil {
		return nil
	}
	d := f.End().Sub(now)
	return &d
}

// Assert looks at min_days_left. ok is true when there is nothing to look at.
func (c *Config) Assert(f *Facts, now time.Time) (r model.AssertionResult, ok bool) {
	if c.MinDaysLeft == 0 || f == nil {
		return r, true
	}
	days := f.End().Sub(now).Hours() / 24
	r = model.AssertionResult{
		Text:  fmt.Sprintf("certificate days left >= %g", c.MinDaysLeft),
		Found: fmt.Sprintf("%.1f", days), Passed: days >= c.MinDaysLeft,
	}
	return r, r.Passed
}

// Reason explains the error of a handshake.
func Reason(err error) string {
	var ve *tls.CertificateVerificationError
	if errors.As(err, &ve) {
		return "certificate: " + probe.Line(strings.TrimPrefix(ve.Err.Error(), "x509: "))
	}
	var re tls.RecordHeaderError
	if errors.As(err, &re) {
		return "the target does not speak TLS"
	}
	return "TLS: " + strings.TrimPrefix(probe.Reason(err), "tls: ")
}

// Fields describes the object "tls" for a kind's schema.
func Fields() []probe.Field {
	v := []string{"1.0", "1.1", "1.2", "1.3"}
	return []probe.Field{
		{Name: "tls.insecure_skip_verify", Type: "bool", Default: "false", Advanced: true, Label: probe.T("Ignore certificate errors", "忽略证书错误")},
		{Name: "tls.min_days_left", Type: "float", Default: "0", Label: probe.T("Warn when the certificate ends within (days)", "证书剩余天数少于此值时告警"), Help: probe.T("The check becomes degraded. 0 does not look.", "检查状态变为降级；0 表示不检查。")},
		{Name: "tls.server_name", Type: "string", Advanced: true, Label: probe.T("Server name (SNI)", "服务器名称（SNI）")},
		{Name: "tls.ca", Type: "text", Advanced: true, Label: probe.T("Trusted CA (PEM)", "受信任的 CA（PEM）")},
		{Name: "tls.cert", Type: "text", Advanced: true, Label: probe.T("Client certificate (PEM)", "客户端证书（PEM）")},
		{Name: "tls.key", Type: "secret", Advanced: true, Label: probe.T("Client key (PEM)", "客户端私钥（PEM）")},
		{Name: "tls.min_version", Type: "enum", Enum: v, Default: "1.2", Advanced: true, Label: probe.T("Lowest TLS version", "最低 TLS 版本")},
		{Name: "tls.max_version", Type: "enum", Enum: v, Default: "1.3", Advanced: true, Label: probe.T("Highest TLS version", "最高 TLS 版本")},
	}
}
