package cluster

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"panoptes/internal/model"
)

// beatLoop sends beats and judges what was heard.
func (c *Cluster) beatLoop(ctx context.Context) {
	// Judging is done more often than beating, so that silence is noticed on time.
	step := max(c.cfg.Probe/10, 5*time.Millisecond)
	tick := time.NewTicker(step)
	defer tick.Stop()
	last := time.Now()
	var next time.Time
	for {
		now := time.Now()
		// The process stood still, or had no CPU: it heard nobody meanwhile.
		if gap := now.Sub(last); gap > c.cfg.Probe {
			c.metrics.stalls.Inc()
			c.log.Warn("this process stood still", "for", gap.Round(time.Millisecond))
			c.mu.Lock()
			c.book.grace(gap)
			c.mu.Unlock()
		}
		last = now
		if !now.Before(next) {
			next = now.Add(c.cfg.Probe / 2)
			c.sendBeats(now, false)
		}
		c.mu.Lock()
		if c.book.judgeAll(now) {
			poke(c.changed)
		}
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// target is a beat for one member.
type target struct {
	id   string
	addr netip.AddrPort
	msg  []byte
	urge bool // UDP does not get through: also over TCP
}

func (t target) node() *memberlist.Node {
	return &memberlist.Node{Name: t.id, Addr: t.addr.Addr().AsSlice(), Port: t.addr.Port()}
}

func (c *Cluster) targets(now time.Time, leaving bool) []target {
	self := c.addr.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	seq := c.sent.next(now)
	heard := c.book.hearsay(now)
	out := make([]target, 0, len(c.book.peers))
	for id, p := range c.book.peers {
		if p.left || !p.addr.IsValid() {
			continue
		}
		// The dead hear from us now and then, so that a healed network is noticed at once.
		if p.m.State == model.MemberDead && seq%4 != 0 && !leaving {
			continue
		}
		b := beat{id: c.cfg.NodeID, addr: self.String(), seq: seq, wall: c.deps.Now().UnixNano(), leaving: leaving, heard: heard}
		if p.seq != 0 {
			b.echo, b.echoStream, b.held = p.seq, p.stream, now.Sub(p.at)
		}
		t := target{id: id, addr: p.addr}
		silentUDP := now.Sub(p.packet) > c.cfg.Probe*3/2 || now.Sub(p.echoedBy) > 2*c.cfg.Probe
		t.urge = !leaving && silentUDP && p.m.State != model.MemberDead
		t.msg = b.encode()
		out = append(out, t)
	}
	return out
}

func (c *Cluster) sendBeats(now time.Time, leaving bool) {
	ml := c.ml.Load()
	for _, t := range c.targets(now, leaving) {
		if err := ml.SendBestEffort(t.node(), t.msg); err != nil {
			c.metrics.failed.WithLabelValues("beat").Inc()
			c.log.Debug("a beat could not be sent", "node", t.id, "err", err)
		}
		if t.urge {
			t.msg[1] |= beatStream
			c.news.urge(t)
		}
	}
}

// heardBeat takes in a beat.
func (c *Cluster) heardBeat(msg []byte) {
	now := time.Now()
	b, err := decodeBeat(msg)
	if err != nil {
		c.metrics.dropped.WithLabelValues(dropDamaged).Inc()
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.book.peers[b.id]
	if p == nil || b.addr != p.addr.String() {
		// A stranger, or a namesake elsewhere: the library knows first.
		c.metrics.dropped.WithLabelValues(dropStranger).Inc()
		return
	}
	c.book.beat(p, b, &c.sent, now)
}

// stateChanged is called with the lock held.
func (c *Cluster) stateChanged(p *peer, from model.MemberState) {
	c.metrics.changes.WithLabelValues(string(p.m.State)).Inc()
	c.log.Info("member changed state", "node", p.m.ID, "name", p.m.Name, "from", string(from), "to", string(p.m.State))
	poke(c.changed)
}

// notifyLoop tells the subscribers. The first change is told at once; while
// changes keep coming the pause doubles, up to a second.
func (c *Cluster) notifyLoop(ctx context.Context) {
	const shortest, longest = 50 * time.Millisecond, time.Second
	pause := shortest
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		}
		c.mu.Lock()
		subs := make([]func(), 0, len(c.subs))
		for _, fn := range c.subs {
			subs = append(subs, fn)
		}
		c.mu.Unlock()
		for _, fn := range subs {
			fn()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		if len(c.changed) > 0 {
			pause = min(2*pause, longest)
		} else {
			pause = shortest
		}
	}
}

// announceLoop lets gossip carry what this server says of itself.
func (c *Cluster) announceLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.announce:
		}
		// It waits until somebody has it; a failure is made good by the next exchange.
		if err := c.ml.Load().UpdateNode(c.cfg.Probe); err != nil {
			c.log.Debug("what this server says of itself is not spread yet", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(c.cfg.Probe / 2):
		}
	}
}

// rejoinLoop looks for those that should be there: at first for all on record,
// later for those the library does not hold for alive.
func (c *Cluster) rejoinLoop(ctx context.Context) {
	const (
		settleWithin = 10 * time.Second
		parallel     = 8
		soon, late   = 1 * time.Second, 3 * time.Second
		eager        = time.Minute // how long an address is tried every second
	)
	type try struct {
		began, next time.Time
		flying      bool
		done        bool // at least once
	}
	tries := map[string]*try{}
	results := make(chan string)
	flying, first := 0, -1 // addresses of the first round that have not been tried yet
	timeout := time.After(settleWithin)
	tick := time.NewTicker(max(10*time.Millisecond, min(c.cfg.Probe, 250*time.Millisecond)))
	defer tick.Stop()
	for {
		now := time.Now()
		missing := c.missing()
		for _, a := range missing {
			t := tries[a]
			if t == nil {
				t = &try{began: now}
				tries[a] = t
			}
			if t.flying || now.Before(t.next) || flying >= parallel {
				continue
			}
			t.flying = true
			flying++
			go func() {
				c.join(ctx, a)
				results <- a
			}()
		}
		for a, t := range tries {
			if !t.flying && now.Sub(t.next) > eager {
				delete(tries, a) // not missing for long: the next time it is tried at once
			}
		}
		if first < 0 {
			first = len(tries)
		}
		if first == 0 {
			c.settle() // nobody there
		}
		select {
		case <-ctx.Done():
			for ; flying > 0; flying-- {
				<-results
			}
			c.settle()
			return
		case <-timeout:
			c.settle()
		case a := <-results:
			flying--
			t := tries[a]
			if !t.done && first > 0 {
				first--
			}
			t.flying, t.done = false, true
			t.next = time.Now().Add(soon)
			if time.Since(t.began) > eager {
				t.next = time.Now().Add(late)
			}
		case <-tick.C:
		}
	}
}

// missing returns the addresses of servers that should be members and are not.
func (c *Cluster) missing() []string {
	var seeds []string
	if c.deps.Seeds != nil {
		seeds = c.deps.Seeds()
	}
	self := c.addr.Load()
	c.mu.Lock()
	defer c.mu.Unlock()
	have := map[netip.AddrPort]bool{*self: true}
	var out []string
	for _, p := range c.book.peers {
		if p.gossiped {
			have[p.addr] = true
		} else if !p.left && p.addr.IsValid() && !have[p.addr] {
			out = append(out, p.addr.String())
		}
	}
	known := map[string]bool{}
	for _, s := range seeds {
		known[s] = true
		a, ok := c.seeds[s]
		if !ok {
			if ip, err := netip.ParseAddrPort(s); err == nil {
				a = netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port())
			}
			c.seeds[s] = a
		}
		if !a.IsValid() || !have[a] {
			out = append(out, s)
		}
	}
	for s := range c.seeds {
		if !known[s] {
			delete(c.seeds, s)
		}
	}
	return out
}

// join exchanges everything with the server at addr.
func (c *Cluster) join(ctx context.Context, addr string) {
	a, err := resolve(ctx, addr)
	if err != nil {
		c.log.Debug("the name of a server does not resolve", "address", addr, "err", err)
		return
	}
	c.mu.Lock()
	if _, ok := c.seeds[addr]; ok {
		c.seeds[addr] = a
	}
	c.mu.Unlock()
	if a == *c.addr.Load() || ctx.Err() != nil {
		return
	}
	if _, err := c.ml.Load().Join([]string{a.String()}); err != nil {
		c.metrics.failed.WithLabelValues("join").Inc()
		c.log.Debug("a server does not let itself be joined", "address", addr, "err", err)
	}
}
