package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"panoptes/internal/catalog"
	"panoptes/internal/model"
)

// membersDelay gathers changes of membership that come together.
const membersDelay = 20 * time.Millisecond

// followMembers keeps this server's part of the work in step with who is alive.
func (a *App) followMembers(ctx context.Context) error {
	defer a.cluster.Subscribe(a.wakeMembers)()
	defer a.catalog.Subscribe(func(ch catalog.Change) {
		if ch.Kind == model.KindNode {
			a.wakeMembers()
		}
	})()
	states := map[string]model.MemberState{}
	tick := time.NewTicker(metaEvery)
	defer tick.Stop()
	read := a.catalog.Ready()
	lacked := time.Now() // when this server last lacked something
	for {
		a.takeNodes()
		if err := a.removal(); err != nil {
			return err
		}
		a.takeMembers(states)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			lacked = a.tellOfSelf(lacked)
		case <-read:
			read = nil
		case <-a.membersWake:
			select {
			case <-time.After(membersDelay):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// removal is an error once this server was removed from the cluster. It would
// watch and warn by an old configuration, and nobody takes what it stores: so
// it ends.
func (a *App) removal() error {
	removed := a.control != nil && a.control.Removed()
	if revoked := a.revoked.Load(); revoked != nil && slices.Contains(*revoked, a.pki.NodeID()) {
		removed = true
	}
	if !removed {
		return nil
	}
	return a.removedError()
}

func (a *App) removedError() error {
	return fmt.Errorf("%w: to use this machine again, join with a new token and an empty data directory instead of %s", errRemoved, a.cfg.DataDir)
}

var errRemoved = errors.New("this server was removed from the cluster")

// wakeMembers has who is alive looked at again.
func (a *App) wakeMembers() {
	select {
	case a.membersWake <- struct{}{}:
	default:
	}
}

// metaEvery is the time between two words about this server's own state.
const metaEvery = 2 * time.Second

func (a *App) takeMembers(states map[string]model.MemberState) {
	members := a.cluster.Members()
	if revoked := a.revoked.Load(); revoked != nil {
		// One that was removed and still runs is heard of, but nothing is left to it.
		members = slices.DeleteFunc(members, func(m model.Member) bool { return slices.Contains(*revoked, m.ID) })
	}
	changed := a.placement.take(members)
	a.relay.SetAlive(a.placement.others())
	a.sessions.setPeers(otherServers(members))
	if changed {
		a.fanout.setPeers(a.placement.others())
		if a.watching.Load() {
			a.place()
		}
		a.wakeAgents() // those of a server that is gone are somewhere else, or nowhere
		a.verdict.OwnersChanged()
		a.scrape.OwnersChanged()
		a.rules.OwnersChanged()
	}
	news := changed
	for _, m := range members {
		old, known := states[m.ID]
		if old == m.State {
			continue
		}
		news = true
		states[m.ID] = m.State
		if m.Self || !known && m.State == model.MemberAlive || old == model.MemberSuspect && m.State == model.MemberAlive && !known {
			continue
		}
		a.log.Info("server "+string(m.State), "server", m.Name, "id", m.ID, "was", old)
		if m.State == model.MemberAlive && a.control != nil && a.quorum.healed(time.Now()) {
			select {
			case a.rejoin <- struct{}{}:
			default: // it does so already
			}
		}
		if a.placement.owns("node/"+m.ID) && m.State != model.MemberSuspect && (old != model.MemberSuspect || m.State != model.MemberAlive) {
			a.events.record(nodeEvent(m))
		}
	}
	if news {
		a.api.PublishNodes()
	}
}

// nodeEvent tells of a server that came or went.
func nodeEvent(m model.Member) model.Event {
	now := time.Now().UTC()
	e := model.Event{
		ID: model.NewID(now), Time: now, Kind: model.EventNode, Subject: "node/" + m.ID, Name: m.Name, Severity: "info", Actor: "system",
		Code: "node." + string(m.State), Message: "server " + m.Name + " is " + string(m.State),
	}
	switch m.State {
	case model.MemberDead:
		e.Severity, e.Message = "warning", "server "+m.Name+" does not answer"
	case model.MemberLeft:
		e.Message = "server " + m.Name + " was stopped"
	case model.MemberAlive:
		e.Message = "server " + m.Name + " is back"
	case model.MemberSuspect:
		e.Severity = "warning"
	}
	return e
}

// tellOfSelf gossips how this server is. It counts as complete when it has lacked
// nothing for a while, so that rules do not move to and fro. It returns when it
// last lacked something.
func (a *App) tellOfSelf(lacked time.Time) time.Time {
	if a.behind() != "" {
		lacked = time.Now()
	}
	load := a.self.Machine().CPU
	lag := a.relay.Lag()
	behind := time.Since(lacked) < completeAfter
	a.cluster.Update(func(m *model.Member) { m.Load, m.Lag, m.Behind = load, lag, behind })
	return lacked
}

// completeAfter is for how long a server must lack nothing to count as complete.
const completeAfter = 10 * time.Second

// place hands this server's worker, and the agents that talk to it, the checks that
// are theirs.
func (a *App) place() {
	a.placeMu.Lock()
	defer a.placeMu.Unlock()
	plan := a.placement.plan(*a.results.list.Load())
	a.placement.given.take(*a.plan.Swap(&plan), plan, time.Now())
	mine := a.checksOf(plan[a.pki.NodeID()])
	a.placed.Store(int64(len(mine)))
	a.worker.Update(mine)
	a.fleet.Refresh()
}
