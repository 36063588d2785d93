package app

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"panoptes/internal/model"
	"panoptes/internal/schedule"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// methodTry runs a check now that is nowhere on record.
const methodTry = "probe.try"

// Who is asked to reach a silent host.
const (
	tryNear = 3 // workers of its region
	tryFar  = 3 // workers of other regions, one of each
)

// tryElsewhere has some workers run a check now: near the agent except, and in
// other regions.
func (a *App) tryElsewhere(ctx context.Context, c model.Check, except string) []model.Result {
	home := ""
	if n, ok := a.agent(except); ok {
		home = n.Region
	}
	byRegion := map[string][]schedule.Worker{}
	for _, w := range a.placement.all() {
		if w.ID != except && slices.Contains(w.Roles, roleProbe) {
			byRegion[w.Region] = append(byRegion[w.Region], w)
		}
	}
	key := "host/" + except
	asked := schedule.Top(key, byRegion[home], tryNear)
	delete(byRegion, home)
	var far []schedule.Worker
	for _, ws := range byRegion {
		far = append(far, schedule.Top(key, ws, 1)...)
	}
	asked = append(asked, schedule.Top(key, far, tryFar)...)
	answers := make(chan *model.Result, len(asked))
	for _, w := range asked {
		go func() {
			r, err := a.try(ctx, w.ID, c)
			if err != nil {
				a.log.Debug("host not tried", "check", c.Name, "target", c.Target, "worker", w.ID, "err", err)
				answers <- nil
				return
			}
			answers <- &r
		}()
	}
	var out []model.Result
	for range asked {
		if r := <-answers; r != nil {
			out = append(out, *r)
		}
	}
	return out
}

// try has one worker run a check now that is nowhere on record.
func (a *App) try(ctx context.Context, nodeID string, c model.Check) (model.Result, error) {
	switch _, agent := a.placement.agent(nodeID); {
	case nodeID == a.pki.NodeID():
		return a.tryHere(ctx, c)
	case agent:
		if hello, _ := a.fleet.Hello(nodeID); slices.Contains(hello.Addresses, targetAddr(c).String()) {
			return model.Result{}, errOwnAddress
		}
		return a.fleet.Probe(ctx, nodeID, c)
	}
	conn, err := a.dialNode(nodeID)
	if err != nil {
		return model.Result{}, err
	}
	return wire.Call[model.Result](ctx, conn, methodTry, uplink.Of(c))
}

// errOwnAddress is why a worker does not try a check: it would answer itself.
// Machines have addresses in common, those of bridges of containers.
var errOwnAddress = fmt.Errorf("%w: the target is an address of the worker itself", model.ErrForbidden)

func (a *App) tryHere(ctx context.Context, c model.Check) (model.Result, error) {
	if a.ownAddr(targetAddr(c)) {
		return model.Result{}, errOwnAddress
	}
	return a.worker.Test(ctx, c)
}

// targetAddr is the address that a check goes to which has no name for a target.
func targetAddr(c model.Check) netip.Addr {
	host, _, err := net.SplitHostPort(c.Target)
	if err != nil {
		host = c.Target
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return ip.WithZone("").Unmap()
}
