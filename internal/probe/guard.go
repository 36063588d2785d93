package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"panoptes/internal/model"
)

// The guard's limits. They are about one worker's view, where nothing can be
// proven: it may hold a vote back for a while, never for good.
const (
	guardWindow  = 15 * time.Second // "within seconds"
	guardHosts   = 5                // different hosts that must have turned red
	guardHold    = time.Minute      // longest abstention without references
	referenceAge = 2 * time.Second  // how long an answer of the references counts
	referenceMax = 1500 * time.Millisecond
)

// guard decides whether this worker is cut off. With references it asks them
// when a check fails; without, it looks whether most checks turned red at once.
type guard struct {
	env        *Env
	references func() []string

	asking sync.Mutex // one question to the references at a time; guards asked and dead
	asked  time.Time
	dead   bool

	mu    sync.Mutex // guards what follows
	last  map[string]sight
	since time.Time // when the abstention without references began; zero means none
	alone time.Time // since when no reference answers; zero while one does
}

// sight is the last result of a check.
type sight struct {
	host string
	good bool
	at   time.Time // of the result
	red  time.Time // when it turned from good to bad; zero when it never was good
}

func newGuard(env *Env, references func() []string) *guard {
	return &guard{env: env, references: references, last: map[string]sight{}}
}

// forget drops the checks that are no longer on the list.
func (g *guard) forget(keep map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.last {
		if !keep[id] {
			delete(g.last, id)
		}
	}
}

// observe notes a result and reports whether it should abstain.
func (g *guard) observe(ctx context.Context, c *model.Check, good bool) bool {
	if c.Type == "push" || c.ID == "" {
		return false // says nothing about our own network
	}
	now := time.Now()
	g.mu.Lock()
	s := g.last[c.ID]
	switch {
	case s.host == "":
		s.host = hostOf(c.Target)
	case s.good && !good:
		s.red = now
	}
	if good {
		s.red = time.Time{}
	}
	s.good, s.at = good, now
	g.last[c.ID] = s
	g.mu.Unlock()
	if good {
		return false
	}
	if g.references != nil {
		if refs := g.references(); len(refs) > 0 {
			return g.referencesDead(ctx, refs) && !g.reaches()
		}
	}
	return g.mostTurnedRed(now)
}

// reaches reports whether, though no reference answers, most targets do: then
// it is the references that are gone. What was seen before they were silent
// proves nothing.
func (g *guard) reaches() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	red, green := 0, 0
	for _, s := range g.last {
		switch {
		case s.at.Before(g.alone):
		case s.good:
			green++
		default:
			red++
		}
	}
	return green > 0 && green >= red
}

// mostTurnedRed reports whether, of the checks seen in the window, at least
// four in five were good before and failed in it.
func (g *guard) mostTurnedRed(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	hosts := map[string]bool{}
	red, green := 0, 0
	for _, s := range g.last {
		switch {
		case now.Sub(s.at) > guardWindow:
		case s.good:
			green++
		case !s.red.IsZero() && (now.Sub(s.red) <= guardWindow || !g.since.IsZero() && !s.red.Before(g.since.Add(-guardWindow))):
			red++
			hosts[s.host] = true
		}
	}
	if len(hosts) < guardHosts || red < 4*green {
		g.since = time.Time{}
		return false
	}
	if g.since.IsZero() {
		g.since = now
	}
	return now.Sub(g.since) < guardHold
}

// referencesDead reports whether none of the references can be reached.
func (g *guard) referencesDead(ctx context.Context, refs []string) bool {
	g.asking.Lock()
	defer g.asking.Unlock()
	if !g.asked.IsZero() && time.Since(g.asked) < referenceAge {
		return g.dead
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), referenceMax)
	defer cancel()
	alive := make(chan bool, len(refs))
	var wg sync.WaitGroup
	for _, r := range refs {
		wg.Go(func() {
			// References are the operator's own list; the policy for targets
			// would refuse the ports of our other servers.
			c, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, "tcp", r)
			if err == nil {
				_ = c.Close()
				cancel()
			}
			alive <- err == nil || answers(err, r)
		})
	}
	wg.Wait()
	close(alive)
	g.dead = true
	for a := range alive {
		g.dead = g.dead && !a
	}
	g.asked = time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.dead {
		g.alone = time.Time{}
	} else if g.alone.IsZero() {
		g.alone = g.asked
	}
	return g.dead
}

// answers reports whether a failed connection shows that there is a network:
// a machine whose server is gone refuses. This machine itself shows nothing.
func answers(err error, addr string) bool {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return false
	}
	host, _, splitErr := net.SplitHostPort(addr)
	ip, ipErr := netip.ParseAddr(host)
	return splitErr == nil && host != "localhost" && !(ipErr == nil && ip.IsLoopback())
}

// hostOf finds the host in any form of target.
func hostOf(target string) string {
	if u, err := url.Parse(target); err == nil && u.Host != "" {
		return u.Hostname()
	}
	if h, _, err := net.SplitHostPort(target); err == nil {
		return h
	}
	return strings.ToLower(target)
}
