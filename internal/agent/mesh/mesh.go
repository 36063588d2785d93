// Package mesh looks at other hosts with an agent: how long they take to
// answer, and how often they do not. A link that is broken is seen from both
// its ends, and named.
//
// Whom to look at is the servers' to say; which addresses may be reached at all
// is said by the host's own file.
package mesh

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

const (
	defaultInterval = 15 * time.Second
	defaultPort     = 22
	atOnce          = 4 // peers that are looked at side by side
	patience        = 3 * time.Second
)

// Answer is what one look at a peer found.
type Answer struct {
	Sent, Got int
	RTT       time.Duration // mean of those that came back
}

// Ping looks at an address once; port is asked when ICMP cannot be used. An
// error means that it could not look, which says nothing about the peer.
type Ping func(ctx context.Context, addr netip.Addr, port int) (Answer, error)

// Deps are the collaborators of a Mesh. Ping is required.
type Deps struct {
	Ping Ping
	// Allowed returns an error for an address that may not be reached.
	Allowed func(netip.Addr) error
	// Own lists the addresses of this host, which lead to no peer.
	Own    func() []netip.Addr
	Logger *slog.Logger
}

// Mesh looks at peers until its Run ends.
type Mesh struct {
	deps   Deps
	log    *slog.Logger
	change chan struct{}

	mu     sync.Mutex // guards wanted
	wanted uplink.Mesh
}

// New makes a mesh without peers.
func New(deps Deps) (*Mesh, error) {
	if deps.Ping == nil {
		return nil, errors.New("mesh: Ping is missing")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Allowed == nil {
		deps.Allowed = func(netip.Addr) error { return nil }
	}
	if deps.Own == nil {
		deps.Own = func() []netip.Addr { return nil }
	}
	return &Mesh{deps: deps, log: deps.Logger, change: make(chan struct{}, 1)}, nil
}

// Configure takes the peers of the servers.
func (m *Mesh) Configure(s uplink.Settings) error {
	var w uplink.Mesh
	if s.Mesh != nil {
		w = *s.Mesh
	}
	if len(w.Peers) > model.MaxMeshPeers {
		w.Peers = w.Peers[:model.MaxMeshPeers]
	}
	m.mu.Lock()
	m.wanted = w
	m.mu.Unlock()
	select {
	case m.change <- struct{}{}:
	default:
	}
	return nil
}

// peer is one host and what was found.
type peer struct {
	uplink.Peer
	addrs      []netip.Addr
	at         int  // of addrs, the one that is used
	proven     bool // it has answered
	sent, lost float64
	rtt        time.Duration
	answered   bool // in the last round
	looked     bool
	told       bool // a round-trip time was reported, and its end was not
	failing    bool // could not be looked at
	labels     [3]labels.Labels
}

// The series of a peer.
var names = [3]string{"panoptes_mesh_rtt_seconds", "panoptes_mesh_sent_total", "panoptes_mesh_lost_total"}

func newPeer(p uplink.Peer) *peer {
	out := &peer{Peer: p}
	for i, n := range names {
		ls := []string{model.MetricName, n, "peer", p.Name}
		if p.Region != "" {
			ls = append(ls, "peer_region", p.Region)
		}
		out.labels[i] = labels.FromStrings(ls...)
	}
	return out
}

// Run looks until ctx ends.
func (m *Mesh) Run(ctx context.Context, emit func(model.Batch)) error {
	var peers []*peer
	var interval time.Duration
	var port int
	wait := time.Hour
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-m.change:
			timer.Stop()
			before := len(peers)
			var gone model.Batch
			peers, gone, interval, port = m.take(peers)
			if len(gone) > 0 {
				emit(gone)
			}
			switch {
			case len(peers) == 0:
				wait = time.Hour
			case before == 0: // not all hosts at once
				wait = rand.N(min(interval, 5*time.Second))
			default:
				wait = min(wait, interval)
			}
			continue
		case <-timer.C:
		}
		if len(peers) == 0 {
			continue
		}
		began := time.Now()
		m.round(ctx, peers, port)
		if ctx.Err() != nil {
			return nil
		}
		emit(samples(peers, began.UnixMilli()))
		wait = max(interval-time.Since(began), interval/20)
	}
}

// take changes the list of peers; those that stay keep their counts.
func (m *Mesh) take(old []*peer) (peers []*peer, gone model.Batch, interval time.Duration, port int) {
	m.mu.Lock()
	w := m.wanted
	m.mu.Unlock()
	if interval = w.Interval.D(); interval == 0 {
		interval = defaultInterval
	}
	interval = min(max(interval, model.MinMeshInterval), model.MaxHostInterval)
	if port = w.Port; port < 1 || port > 65535 {
		port = defaultPort
	}
	own := m.deps.Own()
	for _, p := range w.Peers {
		if p.Name == "" || len(p.Name) > 128 || len(p.Region) > 128 || slices.ContainsFunc(peers, func(o *peer) bool { return o.Name == p.Name }) {
			continue
		}
		addrs := m.usable(p, own)
		if len(addrs) == 0 {
			continue
		}
		i := slices.IndexFunc(old, func(o *peer) bool { return o.Name == p.Name && o.Region == p.Region })
		if i < 0 {
			n := newPeer(p)
			n.addrs = addrs
			peers = append(peers, n)
			continue
		}
		o := old[i]
		if !slices.Equal(o.addrs, addrs) {
			o.addrs, o.at, o.proven = addrs, 0, false
		}
		peers = append(peers, o)
	}
	at := time.Now().UnixMilli()
	for _, o := range old {
		if slices.Contains(peers, o) {
			continue
		}
		for i, l := range o.labels {
			if o.looked && (i > 0 || o.told) {
				gone = append(gone, ended(l, at))
			}
		}
	}
	return peers, gone, interval, port
}

// usable are the addresses of a peer that this host may reach.
func (m *Mesh) usable(p uplink.Peer, own []netip.Addr) (out []netip.Addr) {
	var refused error
	for _, s := range p.Addresses[:min(len(p.Addresses), uplink.MaxPeerAddresses)] {
		a, err := netip.ParseAddr(s)
		if err != nil || slices.Contains(own, a.Unmap()) {
			continue
		}
		if err := m.deps.Allowed(a.Unmap()); err != nil {
			refused = err
			continue
		}
		out = append(out, a.Unmap())
	}
	if len(out) == 0 && refused != nil {
		m.log.Info("peer not looked at", "peer", p.Name, "err", refused)
	}
	return out
}

// round looks at each peer once.
func (m *Mesh) round(ctx context.Context, peers []*peer, port int) {
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for _, p := range peers {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			pctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			a, err := m.deps.Ping(pctx, p.addrs[p.at], port)
			if ctx.Err() == nil {
				m.found(p, a, err)
			}
		})
	}
	wg.Wait()
}

// found notes what a look at a peer brought. Until one of its addresses has
// answered they are tried in turn.
func (m *Mesh) found(p *peer, a Answer, err error) {
	if err != nil {
		if !p.failing {
			m.log.Warn("peer cannot be looked at", "peer", p.Name, "address", p.addrs[p.at], "err", err)
		}
		p.failing, p.answered = true, false
		return
	}
	p.failing, p.looked = false, true
	p.sent += float64(a.Sent)
	p.lost += float64(a.Sent - a.Got)
	p.rtt, p.answered = a.RTT, a.Got > 0
	switch {
	case a.Got > 0:
		p.proven = true
	case !p.proven:
		p.at = (p.at + 1) % len(p.addrs)
	}
}

// samples are those of a round, all at the same instant.
func samples(peers []*peer, at int64) model.Batch {
	out := make(model.Batch, 0, 3*len(peers))
	for _, p := range peers {
		if !p.looked {
			continue
		}
		switch {
		case p.answered:
			out = append(out, model.Sample{Labels: p.labels[0], T: at, V: p.rtt.Seconds()})
		case p.told:
			out = append(out, ended(p.labels[0], at))
		}
		p.told = p.answered
		if p.failing {
			continue // the counts say nothing new
		}
		out = append(out, model.Sample{Labels: p.labels[1], T: at, V: p.sent}, model.Sample{Labels: p.labels[2], T: at, V: p.lost})
	}
	return out
}

func ended(l labels.Labels, at int64) model.Sample {
	return model.Sample{Labels: l, T: at, V: math.Float64frombits(value.StaleNaN)}
}
