package cluster

import (
	"fmt"
	"log"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what the library calls, partly with its locks held: nothing here
// waits or calls the library.
type delegate Cluster

// NodeMeta implements memberlist.Delegate.
func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	b, _ := encodeMeta(d.self)
	return b
}

// NotifyMsg implements memberlist.Delegate.
func (d *delegate) NotifyMsg(msg []byte) {
	c := (*Cluster)(d)
	if len(msg) == 0 {
		return
	}
	switch msg[0] {
	case kindBeat:
		c.heardBeat(msg[1:])
	case kindNews:
		c.heardNews(msg[1:])
	default:
		c.metrics.dropped.WithLabelValues(dropUnknown).Inc()
	}
}

// GetBroadcasts implements memberlist.Delegate.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.news.gossip.GetBroadcasts(overhead, limit)
}

// LocalState implements memberlist.Delegate.
func (d *delegate) LocalState(bool) []byte { return (*Cluster)(d).localState() }

// MergeRemoteState implements memberlist.Delegate.
func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	c := (*Cluster)(d)
	c.mergeState(b)
	c.settle()
}

// NotifyJoin implements memberlist.EventDelegate.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.joined(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.joined(n, false) }

func (d *delegate) joined(n *memberlist.Node, fresh bool) {
	if n.Name == d.cfg.NodeID || n.Name == "" || len(n.Name) > maxIDBytes {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.book.joined(n, time.Now(), fresh) {
		poke(d.changed)
	}
}

// NotifyLeave implements memberlist.EventDelegate. It does not tell the dead
// from those that left; the last beat does.
func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.book.peers[n.Name]; p != nil {
		p.gossiped = false
		d.book.judge(p, time.Now())
	}
}

// NotifyConflict implements memberlist.ConflictDelegate: two addresses claim one
// ID. A server that was moved looks like that until its old place is dead.
func (d *delegate) NotifyConflict(existing, other *memberlist.Node) {
	addr := net.JoinHostPort(other.Addr.String(), strconv.Itoa(int(other.Port)))
	d.metrics.conflicts.Inc()
	if existing.Name != d.cfg.NodeID {
		d.log.Debug("a member is announced at another address", "node", existing.Name, "address", addr)
		return
	}
	d.mu.Lock()
	known := d.conflict.addr == addr && time.Since(d.conflict.at) < time.Minute
	d.conflict = conflict{addr, time.Now()}
	d.mu.Unlock()
	if !known {
		d.log.Error("another process uses the node id of this server", "address", addr)
	}
}

// libraryLogger makes log records of the library's lines. They repeat a lot:
// each kind of complaint is logged once in a while, and counted.
func libraryLogger(to *slog.Logger, m *metrics) *log.Logger {
	return log.New(&lines{log: to, metrics: m, last: map[string]time.Time{}}, "", 0)
}

type lines struct {
	log     *slog.Logger
	metrics *metrics

	mu   sync.Mutex // guards last
	last map[string]time.Time
}

func (l *lines) Write(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	level, rest, ok := strings.Cut(strings.TrimPrefix(text, "["), "] ")
	if !ok {
		level, rest = "", text
	}
	rest = strings.TrimPrefix(rest, "memberlist: ")
	if level != "ERR" && level != "ERROR" && level != "WARN" {
		l.log.Debug("gossip", "message", rest)
		return len(b), nil
	}
	l.metrics.complaints.Inc()
	// What it failed to do is in front of the first colon, quote or digit.
	kind := rest
	if i := strings.IndexAny(rest, ":'\"0123456789"); i > 0 {
		kind = rest[:i]
	}
	const quiet, kinds = time.Minute, 64
	now := time.Now()
	l.mu.Lock()
	again := now.Sub(l.last[kind]) < quiet
	if !again {
		if len(l.last) >= kinds {
			clear(l.last)
		}
		l.last[kind] = now
	}
	l.mu.Unlock()
	if again {
		l.log.Debug("gossip", "message", rest)
	} else {
		l.log.Warn("gossip", "message", fmt.Sprintf("%.500s", rest))
	}
	return len(b), nil
}
