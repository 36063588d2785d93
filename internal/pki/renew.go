package pki

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

const renewTimeout = 20 * time.Second

// Run renews the certificate at half its life; a node that is no authority asks
// the servers. What fails is tried again, and logged.
func (p *PKI) Run(ctx context.Context) error {
	failed := 0
	for {
		wait := p.cfg.CheckEvery
		if p.due() {
			err := p.Renew(ctx)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				failed++
				// Hours are left at first. One that has ended is urgent, and many may
				// come back at once: not all in the same second.
				wait = min(time.Duration(1<<min(failed, 6))*time.Second, time.Minute)
				wait += rand.N(wait/2 + 1)
				p.log.Warn("certificate not renewed, trying again", "err", err, "ends", p.ends(), "again_in", wait)
			} else if failed = 0; p.due() {
				// Another one would be no better: the clocks differ.
				wait = 10 * time.Minute
				p.log.Warn("the new certificate does not fit this machine; is its clock right?", "begins", p.current().cert.NotBefore, "now", p.now())
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-p.wake:
			t.Stop()
		case <-t.C:
		}
	}
}

// due says whether the certificate should be renewed: it has lived half its
// life, is from a clock that was ahead, from an authority that is being
// replaced, or lacks an address.
func (p *PKI) due() bool {
	p.mu.RLock()
	l, t := p.leaf, p.trust
	p.mu.RUnlock()
	if l == nil {
		return true
	}
	now := p.now()
	half := l.cert.NotBefore.Add(l.cert.NotAfter.Sub(l.cert.NotBefore) / 2)
	switch {
	case now.After(half), now.Before(l.cert.NotBefore):
		return true
	case p.signs():
		if l.cert.CheckSignatureFrom(t.cas[0].cert) != nil || len(l.chain.Certificate)-1 != len(t.cross) {
			return true
		}
		who, _, err := identity(l.cert)
		if err != nil || who.Region != p.node.Region {
			return true
		}
	}
	return p.node.Role != model.RoleAgent && !covers(l.cert, p.cfg.Hosts)
}

func (p *PKI) ends() time.Time {
	if l := p.current(); l != nil {
		return l.cert.NotAfter
	}
	return time.Time{}
}

// Renew gets a new certificate now.
func (p *PKI) Renew(ctx context.Context) (err error) {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	defer func() {
		result := "ok"
		if err != nil {
			result = "failed"
		}
		p.metrics.renewals.WithLabelValues(result).Inc()
	}()
	if p.signs() {
		return p.sign()
	}
	return p.askServers(ctx)
}

// sign makes this server's certificate itself.
func (p *PKI) sign() error {
	me := model.Node{ID: p.node.ID, Name: p.node.Name, Role: p.node.Role, Region: p.node.Region}
	chain, err := p.trusted().issue(p.node.ClusterID, me, p.key.Public(), p.cfg.Hosts, p.now())
	if err != nil {
		return err
	}
	if err := p.setLeaf(chain); err != nil {
		return fmt.Errorf("renew the certificate: %w", err)
	}
	p.log.Info("certificate renewed", "ends", chain[0].NotAfter)
	return nil
}

// askServers tries one server after the other, beginning anywhere.
func (p *PKI) askServers(ctx context.Context) error {
	servers := p.deps.Servers()
	if len(servers) == 0 {
		return fmt.Errorf("renew the certificate: %w: no address of a server is known", model.ErrUnavailable)
	}
	csr, err := p.request()
	if err != nil {
		return err
	}
	var errs []error
	for _, i := range rand.Perm(len(servers)) {
		if err = p.askServer(ctx, servers[i], csr); err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("ask %s: %w", servers[i], err))
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("renew the certificate: %w", errors.Join(errs...))
}

func (p *PKI) askServer(ctx context.Context, addr string, csr []byte) error {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	// A connection of its own: the old certificate must not linger in a pool.
	client := wire.NewClient(wire.ClientConfig{TLS: p.ClientTLS, Dial: p.deps.Dial}, wire.ClientDeps{})
	defer client.Close() //nolint:errcheck // nothing is lost
	a, err := wire.Call[renewAnswer](ctx, client.Conn("", addr), methodRenew, renewRequest{Request: csr, Hosts: p.cfg.Hosts})
	if err != nil {
		return err
	}
	roots, err := decodeCerts(a.Roots)
	if err != nil || len(roots) == 0 {
		return fmt.Errorf("read the authorities: %w", errors.Join(err, errorIf(len(roots) == 0, "there are none")))
	}
	chain, err := decodeCerts(a.Chain)
	if err != nil {
		return fmt.Errorf("read the certificate: %w", err)
	}
	// The roots first: a certificate that nobody here believes would be of no use.
	if err := p.setTrust(newTrust(roots, nil, nil)); err != nil {
		return err
	}
	if err := p.setLeaf(chain); err != nil {
		return err
	}
	p.log.Info("certificate renewed", "ends", chain[0].NotAfter, "server", addr)
	return nil
}

// setTrust puts authorities on disk and into use and tells those who read them.
func (p *PKI) setTrust(t *trust) error {
	old := p.trusted()
	if old.equal(t) {
		return nil
	}
	if err := p.writeTrust(t); err != nil {
		return fmt.Errorf("keep the authorities: %w", err)
	}
	p.mu.Lock()
	p.trust = t
	fns := p.changed
	p.mu.Unlock()
	if string(encodeCerts(old.roots...)) != string(encodeCerts(t.roots...)) {
		p.log.Info("authorities changed", "roots", len(t.roots))
		for _, fn := range fns {
			fn()
		}
	}
	return nil
}
