package cluster

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"panoptes/internal/model"
)

// Part is state that all servers share. News may arrive twice, late, in any
// order or only with the next whole exchange: Merge must come to the same end.
// Both may be called by several goroutines at once.
type Part struct {
	State func() ([]byte, error) // all of it
	Merge func([]byte) error     // the state of another member, or news of one; the slice must not be kept
}

// Bounds of parts.
const (
	maxPartName = 64
	maxParts    = 64
	maxState    = 16 << 20 // of all parts together; the library refuses 20 MiB
	maxNews     = 8 << 20  // of one Broadcast
	smallNews   = 1000     // up to here news fit into a packet with its overhead
	queuedNews  = 4096
	queuedLarge = 64 << 20 // bytes that wait for TCP, all members together
	inboxBytes  = 64 << 20
	remembered  = 8192 // news that are known, so that they are merged once
)

// Part adds a part; before Run.
func (c *Cluster) Part(name string, p Part) {
	if name == "" || len(name) > maxPartName || p.State == nil || p.Merge == nil || c.ml.Load() != nil {
		panic("cluster: a part needs a name, State and Merge, and comes before Run")
	}
	c.parts[name] = p
}

// Broadcast sends news of a part to all live members: in a packet when it is
// small, over a stream to each when it is large. It never blocks; what does not
// fit into the queue is counted and arrives with the next whole exchange. b is copied.
func (c *Cluster) Broadcast(part string, b []byte) {
	if len(part) > maxPartName || len(b) > maxNews {
		c.metrics.dropped.WithLabelValues(dropTooLarge).Inc()
		return
	}
	msg := make([]byte, 0, len(b)+len(part)+16)
	msg = append(msg, kindNews)
	msg = binary.BigEndian.AppendUint64(msg, c.news.nextID(c.cfg.NodeID))
	msg = putString(msg, part)
	msg = append(msg, b...)
	select {
	case c.news.out <- msg:
		c.metrics.news.WithLabelValues(part, "sent").Inc()
	default:
		c.metrics.dropped.WithLabelValues(dropQueue).Inc()
	}
}

// news are what is on its way in and out.
type news struct {
	out      chan []byte
	in       chan []byte
	inBytes  atomic.Int64
	outBytes atomic.Int64
	counter  atomic.Uint64
	seed     maphash.Seed
	gossip   memberlist.TransmitLimitedQueue // small ones, once more, for those whom the first packet missed
	urges    chan target

	mu   sync.Mutex // guards the rest
	seen map[uint64]struct{}
	ring []uint64
	pos  int
}

func (n *news) init() {
	n.out = make(chan []byte, queuedNews)
	n.in = make(chan []byte, queuedNews)
	n.urges = make(chan target, 16)
	n.seed = maphash.MakeSeed()
	n.counter.Store(uint64(time.Now().UnixNano()))
	n.seen = make(map[uint64]struct{}, remembered)
	n.ring = make([]uint64, remembered)
	n.gossip.RetransmitMult = 2
}

func (n *news) nextID(node string) uint64 {
	var h maphash.Hash
	h.SetSeed(n.seed)
	_, _ = h.WriteString(node)
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], n.counter.Add(1))
	_, _ = h.Write(b[:])
	return h.Sum64()
}

// first says whether id is new, and remembers it.
func (n *news) first(id uint64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.seen[id]; ok {
		return false
	}
	delete(n.seen, n.ring[n.pos])
	n.ring[n.pos] = id
	n.seen[id] = struct{}{}
	n.pos = (n.pos + 1) % len(n.ring)
	return true
}

// urge sends a beat over TCP when there is room; the next one comes soon.
func (n *news) urge(t target) {
	select {
	case n.urges <- t:
	default:
	}
}

// smallItem is small news in the library's queue.
type smallItem []byte

func (smallItem) Invalidates(memberlist.Broadcast) bool { return false }
func (s smallItem) Message() []byte                     { return s }
func (smallItem) Finished()                             {}
func (smallItem) UniqueBroadcast()                      {}

// sendLoop sends news: small ones at once in packets, and by gossip in case a
// packet is lost; large ones by a worker for each member.
func (c *Cluster) sendLoop(ctx context.Context) {
	workers := map[string]chan []byte{}
	var wg sync.WaitGroup
	defer wg.Wait()
	stream := func(t target, msg []byte) {
		ch := workers[t.id]
		if ch == nil {
			ch = make(chan []byte, 256)
			workers[t.id] = ch
			wg.Go(func() { c.streamLoop(ctx, t.id, ch) })
		}
		if c.news.outBytes.Add(int64(len(msg))) > queuedLarge {
			c.news.outBytes.Add(-int64(len(msg)))
			c.metrics.dropped.WithLabelValues(dropQueue).Inc()
			return
		}
		select {
		case ch <- msg:
		default:
			c.news.outBytes.Add(-int64(len(msg)))
			c.metrics.dropped.WithLabelValues(dropQueue).Inc()
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case t := <-c.news.urges:
			stream(t, t.msg)
		case msg := <-c.news.out:
			for _, t := range c.living() {
				if len(msg) > smallNews {
					stream(t, msg)
				} else if err := c.ml.Load().SendBestEffort(t.node(), msg); err != nil {
					c.metrics.failed.WithLabelValues("news").Inc()
				}
			}
			if len(msg) <= smallNews {
				c.news.gossip.QueueBroadcast(smallItem(msg))
				if c.news.gossip.NumQueued() > queuedNews {
					c.news.gossip.Prune(queuedNews)
				}
			}
		}
	}
}

// living returns whom news are sent to.
func (c *Cluster) living() []target {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []target
	for id, p := range c.book.peers {
		if p.addr.IsValid() && (p.m.State == model.MemberAlive || p.m.State == model.MemberSuspect) {
			out = append(out, target{id: id, addr: p.addr})
		}
	}
	return out
}

// streamLoop sends to one member over TCP, in order. What fails is tried again
// while the member is there.
func (c *Cluster) streamLoop(ctx context.Context, id string, ch <-chan []byte) {
	const attempts = 3
	for {
		var msg []byte
		select {
		case <-ctx.Done():
			return
		case msg = <-ch:
		}
		for i := range attempts {
			t := c.target(id)
			if t == nil {
				break
			}
			err := c.ml.Load().SendReliable(t.node(), msg)
			if err == nil {
				break
			}
			c.metrics.failed.WithLabelValues("stream").Inc()
			c.log.Debug("news did not get through", "node", id, "err", err)
			if msg[0] == kindBeat || i == attempts-1 {
				break
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(c.cfg.Probe):
			}
		}
		c.news.outBytes.Add(-int64(len(msg)))
	}
}

// target returns where a member is, nil when it is dead or has left.
func (c *Cluster) target(id string) *target {
	for _, t := range c.living() {
		if t.id == id {
			return &t
		}
	}
	return nil
}

// heardNews queues news for mergeLoop: the library's own loop must not wait. msg
// is reused by the library.
func (c *Cluster) heardNews(msg []byte) {
	r := reader{b: msg}
	id := r.uint64()
	if !r.ok() {
		c.metrics.dropped.WithLabelValues(dropDamaged).Inc()
		return
	}
	if !c.news.first(id) {
		return
	}
	if c.news.inBytes.Add(int64(len(r.b))) > inboxBytes {
		c.news.inBytes.Add(-int64(len(r.b)))
		c.metrics.dropped.WithLabelValues(dropQueue).Inc()
		return
	}
	select {
	case c.news.in <- append([]byte(nil), r.b...):
	default:
		c.news.inBytes.Add(-int64(len(r.b)))
		c.metrics.dropped.WithLabelValues(dropQueue).Inc()
	}
}

func (c *Cluster) mergeLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case msg := <-c.news.in:
			c.news.inBytes.Add(-int64(len(msg)))
			r := reader{b: msg}
			part := r.string(maxPartName)
			if !r.ok() {
				c.metrics.dropped.WithLabelValues(dropDamaged).Inc()
				continue
			}
			c.merge(part, r.b)
		}
	}
}

func (c *Cluster) merge(part string, b []byte) {
	p, ok := c.parts[part]
	if !ok {
		// Of a newer version, say.
		c.metrics.dropped.WithLabelValues(dropUnknown).Inc()
		return
	}
	if err := guard(p.Merge, b); err != nil {
		c.metrics.dropped.WithLabelValues(dropRefused).Inc()
		c.log.Warn("shared state of another server was refused", "part", part, "bytes", len(b), "err", err)
		return
	}
	c.metrics.news.WithLabelValues(part, "merged").Inc()
}

// guard makes an error of a panic: one damaged message must not end all servers at once.
func guard(merge func([]byte) error, b []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("merging panicked: %v", p)
		}
	}()
	return merge(b)
}

// exchangeVersion is the first byte of an exchange.
const exchangeVersion = 1

// localState is everything this server has, for one exchange.
func (c *Cluster) localState() []byte {
	out := []byte{exchangeVersion}
	for _, name := range slices.Sorted(maps.Keys(c.parts)) {
		b, err := c.parts[name].State()
		if err != nil {
			c.log.Warn("shared state cannot be given to another server", "part", name, "err", err)
			continue
		}
		if len(out)+len(b)+maxPartName+16 > maxState {
			c.metrics.dropped.WithLabelValues(dropTooLarge).Inc()
			c.log.Warn("shared state is too large to be exchanged", "part", name, "bytes", len(b), "limit_bytes", maxState)
			continue
		}
		out = putString(out, name)
		out = putString(out, string(b))
	}
	return out
}

func (c *Cluster) mergeState(b []byte) {
	r := reader{b: b}
	if r.byte() != exchangeVersion {
		c.metrics.dropped.WithLabelValues(dropDamaged).Inc()
		return
	}
	for n := 0; len(r.b) > 0; n++ {
		name := r.string(maxPartName)
		state := r.bytes(maxState)
		if !r.ok() || n >= maxParts {
			c.metrics.dropped.WithLabelValues(dropDamaged).Inc()
			return
		}
		c.merge(name, state)
	}
	c.metrics.exchanges.Inc()
}
