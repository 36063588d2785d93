package alert

import (
	"context"
	"errors"
	"sync"
	"time"

	amalert "github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
)

// The gate keeps a server that knows too little from notifying: one that has
// just started, until it knows what the others have told, and one that stood
// still, whose alerts and log are those of a while ago.

const (
	settleWithin = 10 * time.Second // the others' state comes within, or there is none
	stallAfter   = 5 * time.Second  // the gate looks at the clock every second
	gateTick     = time.Second
)

var errQuiet = errors.New("nobody is notified at the moment")

var errStoodStill = errors.New("this server stood still; it listens to the others before it notifies")

type gate struct {
	peer    notify.Peer
	quiet   func() bool
	settled <-chan struct{}
	started chan struct{} // closed when notifying may begin

	mu     sync.Mutex // guards what follows
	epoch  uint64     // rises with each standstill; a notification of an earlier one is not sent
	ticked time.Time
	open   time.Time // when it opens again after a standstill
}

func newGate(settled <-chan struct{}, peer notify.Peer, quiet func() bool) *gate {
	if quiet == nil {
		quiet = func() bool { return false }
	}
	return &gate{peer: peer, quiet: quiet, settled: settled, started: make(chan struct{})}
}

// stalled looks at both clocks: the monotonic one stands still while a machine
// sleeps, the wall clock jumps when it is set.
func stalled(before, now time.Time) bool {
	wall := now.Round(0).Sub(before.Round(0))
	return !before.IsZero() && (now.Sub(before) > stallAfter || wall > stallAfter)
}

// tick notes that the process runs; since is when it stood still last, zero
// when it did not.
func (g *gate) tick(now time.Time) (since time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if stalled(g.ticked, now) {
		since = g.ticked
		g.epoch++
		g.open = now.Add(settleWithin)
	}
	g.ticked = now
	return since
}

// closed reports whether nothing may be sent, and for how long at most.
func (g *gate) closed(now time.Time) (time.Duration, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if stalled(g.ticked, now) {
		return settleWithin, true // the next tick will say so
	}
	return g.open.Sub(now), now.Before(g.open)
}

func (g *gate) now() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.epoch
}

// patience is how much longer a group may take because of the gate.
func (g *gate) patience() time.Duration {
	select {
	case <-g.started:
		return 0
	default:
		return settleWithin
	}
}

// start opens the gate for the first time, when the others' state is there and
// prepare has looked at it.
func (g *gate) start(ctx context.Context, prepare func()) {
	t := time.NewTimer(settleWithin)
	defer t.Stop()
	if g.settled != nil {
		select {
		case <-g.settled:
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
	prepare()
	close(g.started)
}

// WaitReady implements Alertmanager's Peer.
func (g *gate) WaitReady(ctx context.Context) error {
	select {
	case <-g.started:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := g.passes(ctx); err != nil {
		// The group is looked at anew when the gate opens; until then there is
		// no use in trying.
		<-ctx.Done()
		return ctx.Err()
	}
	if g.peer != nil {
		return g.peer.WaitReady(ctx)
	}
	return nil
}

type epochKey struct{}

// enter notes in ctx when a notification began.
func (g *gate) enter(ctx context.Context) context.Context {
	return context.WithValue(ctx, epochKey{}, g.now())
}

// passes reports whether what ctx belongs to may be sent.
func (g *gate) passes(ctx context.Context) error {
	if g.quiet() {
		return errQuiet
	}
	began, ok := ctx.Value(epochKey{}).(uint64)
	if _, closed := g.closed(time.Now()); closed || ok && began != g.now() {
		return errStoodStill
	}
	return nil
}

// watchClock finds out when the process stood still, until ctx ends.
func (a *Alerting) watchClock(ctx context.Context) {
	t := time.NewTicker(gateTick)
	defer t.Stop()
	var again <-chan time.Time
	for {
		if since := a.gate.tick(time.Now()); !since.IsZero() {
			a.log.Warn("this server stood still; it listens to the others before it notifies", "since", since, "pause", settleWithin)
			a.revive(ctx, since)
			if a.deps.Resettle != nil {
				a.deps.Resettle()
			}
			again = time.After(settleWithin)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-again:
			again = nil
			a.restart()
		}
	}
}

// revive keeps alerts that ended only because nobody could send them again
// while the process stood still. Their owners' next word rules.
func (a *Alerting) revive(ctx context.Context, since time.Time) {
	now := time.Now()
	var list []*amalert.Alert
	it := a.alerts.GetPending()
	for e := range it.Next() {
		if al := e.Data; al.ResolvedAt(now) && !al.ResolvedAt(since) {
			c := *al
			c.EndsAt, c.UpdatedAt, c.Timeout = now.Add(a.cfg.RestoreGrace), now, true
			list = append(list, &c)
		}
	}
	it.Close()
	if err := a.alerts.Put(ctx, list...); err != nil {
		a.log.Error("alerts not kept over a standstill", "alerts", len(list), "err", err)
	}
}

// restart has all groups looked at anew.
func (a *Alerting) restart() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running {
		a.halt()
		a.start(a.plan.Load())
	}
}
