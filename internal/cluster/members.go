package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"panoptes/internal/model"
)

// peer is another member. Times are on the monotonic clock.
type peer struct {
	m        model.Member
	addr     netip.AddrPort
	gossiped bool // the library holds it for alive
	left     bool
	heard    time.Time // its last beat
	via      time.Time // its last beat that a third one has heard
	seq      uint64    // of its newest beat
	at       time.Time // when that came
	stream   bool      // it came over TCP
	packet   time.Time // its last beat over UDP
	echoed   time.Time // when we sent the newest beat of ours that it has answered
	echoedBy time.Time // the same over UDP alone
	forget   time.Time // when it is no longer listed; zero while it is not dead or left
	clock    offsets
}

// silent says for how long nobody has heard of p.
func (p *peer) silent(now time.Time) time.Duration {
	last := p.heard
	if p.via.After(last) {
		last = p.via
	}
	return now.Sub(last)
}

// book is what this server knows of the others. The caller guards it.
type book struct {
	suspectAfter, deadAfter, keep time.Duration
	wall                          func() time.Time
	peers                         map[string]*peer
	changed                       func(p *peer, from model.MemberState)
}

// judge gives p the state that follows from what was heard.
func (b *book) judge(p *peer, now time.Time) {
	var s model.MemberState
	switch silent := p.silent(now); {
	case p.left:
		s = model.MemberLeft
	case silent < b.suspectAfter:
		s = model.MemberAlive
	case silent >= b.deadAfter || !p.gossiped:
		s = model.MemberDead
	default:
		s = model.MemberSuspect
	}
	if s == p.m.State {
		return
	}
	from := p.m.State
	p.m.State, p.m.Since = s, b.wall()
	p.forget = time.Time{}
	if s == model.MemberDead || s == model.MemberLeft {
		p.forget = now.Add(b.keep)
	}
	b.changed(p, from)
}

func (b *book) judgeAll(now time.Time) (forgotten bool) {
	for id, p := range b.peers {
		b.judge(p, now)
		if !p.forget.IsZero() && now.After(p.forget) {
			delete(b.peers, id)
			forgotten = true
		}
	}
	return forgotten
}

// joined notes what the library has found out: a member is there, or is there
// again, or has changed what it says of itself.
func (b *book) joined(n *memberlist.Node, now time.Time, fresh bool) (changed bool) {
	p := b.peers[n.Name]
	if p == nil {
		p = &peer{}
		b.peers[n.Name] = p
		fresh = true
	}
	if fresh {
		// It has until suspectAfter to be heard, and to answer.
		p.gossiped, p.left, p.heard, p.echoed = true, false, now, now
	}
	if ip, ok := netip.AddrFromSlice(n.Addr); ok {
		addr := netip.AddrPortFrom(ip.Unmap(), n.Port)
		if addr != p.addr {
			p.seq, p.clock = 0, offsets{}
		}
		p.addr = addr
	}
	m, _ := decodeMeta(n.Meta)
	m.ID, m.State, m.Since = n.Name, p.m.State, p.m.Since
	changed = !sameMember(m, p.m)
	p.m = m
	b.judge(p, now)
	return changed
}

func sameMember(a, b model.Member) bool {
	la, lb := a.Labels, b.Labels
	a.Labels, b.Labels = nil, nil
	eq := a.ID == b.ID && a.Name == b.Name && a.Region == b.Region && a.Role == b.Role && a.Version == b.Version && a.Addresses == b.Addresses &&
		a.Load == b.Load && a.Lag == b.Lag && a.Behind == b.Behind && a.Draining == b.Draining && a.Serving == b.Serving && a.Started.Equal(b.Started)
	return eq && maps.Equal(la, lb)
}

// beat takes in what p said. sent says when our own beats were sent. It returns
// false when p's beat is an old one, repeated or late.
func (b *book) beat(p *peer, m beat, sent *sentBeats, now time.Time) bool {
	echoedAt, fresh := sent.when(m.echo)
	fresh = fresh && now.Sub(echoedAt) < b.deadAfter
	if m.seq <= p.seq && !fresh {
		return false
	}
	if m.leaving {
		p.left = true
	} else if m.seq > p.seq {
		p.left = false // a beat after the last one: it was started again
	}
	p.seq, p.at, p.stream = m.seq, now, m.stream
	p.heard = now
	if !m.stream {
		p.packet = now
	}
	if fresh {
		if echoedAt.After(p.echoed) {
			p.echoed = echoedAt
		}
		if !m.echoStream && echoedAt.After(p.echoedBy) {
			p.echoedBy = echoedAt
		}
		if rtt := now.Sub(echoedAt) - m.held; rtt >= 0 {
			theirs := time.Unix(0, m.wall).Add(rtt / 2)
			p.clock.add(theirs.Sub(b.wall()), rtt)
		}
	}
	for _, h := range m.heard {
		third := b.peers[h.id]
		if third == nil || third == p {
			continue
		}
		if at := now.Add(-h.age); at.After(third.via) && !third.left {
			third.via = at
		}
		if h.left && third.silent(now) >= b.suspectAfter {
			third.left = true
		}
		b.judge(third, now)
	}
	b.judge(p, now)
	return true
}

// hearsay is what this server tells the others about each other.
func (b *book) hearsay(now time.Time) []hearsay {
	out := make([]hearsay, 0, len(b.peers))
	for id, p := range b.peers {
		if p.left || p.m.State != model.MemberDead {
			out = append(out, hearsay{id: id, age: now.Sub(p.heard), left: p.left})
		}
	}
	// The living first: there may not be room for all.
	slices.SortFunc(out, func(x, y hearsay) int { return cmp.Compare(x.age, y.age) })
	return out
}

// grace makes up for a time in which this process did not run: what it did not
// hear then says nothing about the others.
func (b *book) grace(gap time.Duration) {
	for _, p := range b.peers {
		if p.m.State == model.MemberAlive || p.m.State == model.MemberSuspect {
			p.heard = p.heard.Add(gap)
		}
	}
}
