package app

import (
	"context"
	"log/slog"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// methodSessions takes sessions of people that began or ended on another server.
// They say who is logged in, so they come from servers that have proved who they
// are. Gossip would be no way for them: its key is that of the witnesses and of
// everybody who was removed, too.
const methodSessions = "auth.sessions"

// sessionNews tells all live servers of sessions: of each change at once, and of
// all when a server comes, when one may have missed something, and now and then.
type sessionNews struct {
	ways[[]byte]
	dial  func(nodeID string) (wire.Conn, error)
	state func() ([][]byte, error)
	log   *slog.Logger
}

const (
	maxWaitingSessions = 4096
	allSessionsEvery   = 5 * time.Minute
	sessionsPatience   = 5 * time.Second // for the answer to one message
	sessionsRetry      = time.Second
	sessionsRetryMax   = 15 * time.Second
)

func newSessionNews(dial func(string) (wire.Conn, error), log *slog.Logger) *sessionNews {
	n := &sessionNews{dial: dial, log: log}
	n.ways.room, n.ways.feed, n.ways.full = maxWaitingSessions, n.feed, func() {} // all is told again after what made it wait
	return n
}

func (n *sessionNews) feed(ctx context.Context, id string, queue <-chan []byte) {
	tick := time.NewTicker(allSessionsEvery)
	defer tick.Stop()
	for {
		n.tellAll(ctx, id, queue)
		for told := true; told; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				told = false
			case b := <-queue:
				// As many as fit may have been thrown away meanwhile.
				told = n.tell(ctx, id, b) == nil && len(queue) < maxWaitingSessions-1
			}
		}
	}
}

// tellAll tells a server of all sessions, until it has taken them or ctx ends.
func (n *sessionNews) tellAll(ctx context.Context, id string, queue <-chan []byte) {
	for wait := sessionsRetry; ; wait = min(2*wait, sessionsRetryMax) {
		for len(queue) > 0 {
			<-queue // it is in what follows
		}
		all, err := n.state()
		for _, b := range all {
			if err == nil {
				err = n.tell(ctx, id, b)
			}
		}
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		n.log.Debug("sessions not told", "to", id, "err", err)
	}
}

func (n *sessionNews) tell(ctx context.Context, id string, b []byte) error {
	conn, err := n.dial(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsPatience)
	defer cancel()
	_, err = conn.Call(ctx, methodSessions, b)
	return err
}

// otherServers are those that run, whether they serve yet or not, as far as gossip
// knows. Who they are they have to prove when they are called.
func otherServers(members []model.Member) (out []string) {
	for _, m := range members {
		if !m.Self && m.Role == model.RoleServer && (m.State == model.MemberAlive || m.State == model.MemberSuspect) {
			out = append(out, m.ID)
		}
	}
	return out
}
