package control

import (
	"fmt"
	"net"
	"net/url"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
)

// maxOps is the largest number of conditions, and of operations, of one transaction.
const maxOps = 1024

// engine is one run of etcd.
type engine struct {
	etcd    *embed.Etcd
	client  *clientv3.Client
	peer    string
	started time.Time
}

// startEngine starts etcd; it does not wait until it is ready.
func startEngine(cfg Config, lg *zap.Logger) (*engine, error) {
	var err error
	for range 3 { // a port that was free a moment ago may be taken
		var eng *engine
		if eng, err = tryEngine(cfg, lg); err == nil {
			return eng, nil
		}
		if _, port, _ := net.SplitHostPort(cfg.PeerAddr); port != "0" || !isAddrInUse(err) {
			break
		}
	}
	return nil, err
}

func tryEngine(cfg Config, lg *zap.Logger) (*engine, error) {
	addr, err := resolveAddr(cfg.PeerAddr)
	if err != nil {
		return nil, err
	}
	ec := embed.NewConfig()
	ec.Dir = cfg.Dir
	ec.Name = cfg.NodeID
	ec.InitialClusterToken = cfg.ClusterID
	scheme := "http"
	if t := cfg.PeerTLS; t.Cert != "" {
		scheme = "https"
		ec.PeerTLSInfo.CertFile, ec.PeerTLSInfo.KeyFile, ec.PeerTLSInfo.TrustedCAFile = t.Cert, t.Key, t.CA
		ec.PeerTLSInfo.ClientCertAuth = true
	}
	peer := url.URL{Scheme: scheme, Host: addr}
	ec.ListenPeerUrls = []url.URL{peer}
	ec.AdvertisePeerUrls = []url.URL{peer}
	ec.ListenClientUrls, ec.AdvertiseClientUrls = nil, nil // callers are in this process
	ec.InitialCluster = cfg.NodeID + "=" + peer.String()
	for _, m := range cfg.Initial {
		if m.NodeID != cfg.NodeID {
			ec.InitialCluster += "," + m.NodeID + "=" + scheme + "://" + m.Addr
		}
	}
	if cfg.Join {
		ec.ClusterState = embed.ClusterStateFlagExisting
	}
	ec.EnableGRPCGateway = false
	ec.EnablePprof = false
	ec.AutoCompactionMode = embed.CompactorModePeriodic
	ec.AutoCompactionRetention = "1h"
	ec.QuotaBackendBytes = cfg.QuotaBytes
	ec.TickMs = uint(cfg.Heart.Milliseconds())
	ec.ElectionMs = 10 * ec.TickMs
	ec.MaxLearners = 2
	ec.MaxTxnOps = maxOps
	ec.ZapLoggerBuilder = embed.NewZapLoggerBuilder(lg)

	// etcd panics on some damaged files, and its fatal errors end the goroutine
	// that meets them: both must not be ours.
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	done := make(chan result, 1)
	go func() {
		res := result{err: fmt.Errorf("etcd gave up while starting")}
		defer func() {
			if p := recover(); p != nil {
				res.err = fmt.Errorf("etcd panicked while starting: %v", p)
			}
			done <- res
		}()
		res.etcd, res.err = embed.StartEtcd(ec)
	}()
	started := time.Now()
	res := <-done
	if res.err != nil {
		return nil, res.err
	}
	return &engine{etcd: res.etcd, client: v3client.New(res.etcd.Server), peer: addr, started: started}, nil
}

// close stops etcd. One that has died may never finish; after the limit it is left behind.
func (e *engine) close(limit time.Duration) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.client.Close() // ends its watch goroutines; the server is closed next
		e.etcd.Close()
	}()
	select {
	case <-done:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("close configuration store: etcd did not stop within %s", limit)
	}
}

// resolveAddr replaces port 0 by one that is free now: etcd tells other
// members its address before it listens.
func resolveAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if port != "0" {
		return addr, nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", fmt.Errorf("find a free port on %s: %w", host, err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}
