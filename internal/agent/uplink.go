package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/uplink"
)

// How long the answer of a server is waited for: little at first, so that the
// next one is asked soon; more when none has answered, for networks that are slow.
var patience = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second}

const (
	pauseFrom = 200 * time.Millisecond
	pauseTo   = 2 * time.Second
	refusedTo = time.Minute // after a refusal that waiting does not heal
)

// uplink keeps a stream to one server open until ctx ends: to the first of the
// list that answers, and to another within moments when that is gone.
func (a *Agent) uplink(ctx context.Context) {
	round, pause := 0, pauseFrom
	var avoid string // the server that was just lost, or sends us away
	for ctx.Err() == nil && (a.stopping.Load() == nil || !a.box.empty()) {
		var last error
		reached := false
		var wait time.Duration
		for i, s := range a.candidates(avoid) {
			began := time.Now()
			err := a.session(ctx, s, i == 0, patience[min(round, len(patience)-1)])
			if ctx.Err() != nil || a.stopping.Load() != nil {
				return
			}
			var ended *sessionEnd
			if errors.As(err, &ended) {
				reached = true
				avoid = ""
				if ended.leave {
					avoid = s.Addr
				}
				wait = ended.wait
				a.log.Info("connection to the server ended", "server", s.Addr, "after", time.Since(began).Round(time.Second), "err", err)
				break // begin again with the first of the list
			}
			last = err
			a.m.attempts.WithLabelValues("failed").Inc()
			a.log.Debug("server not reached", "server", s.Addr, "err", err)
		}
		if reached {
			round, pause = 0, pauseFrom
			if wait == 0 {
				continue
			}
		} else {
			round++
			avoid = ""
			wait = pause
			if errors.Is(last, model.ErrUnauthorized) || errors.Is(last, model.ErrForbidden) {
				pause = min(2*pause, refusedTo)
			} else {
				pause = min(2*pause, pauseTo)
			}
			if round == 1 || round%20 == 0 {
				a.log.Warn("no server takes what is measured; it is kept on disk", "err", last, "again_in", wait)
			}
		}
		wait += rand.N(wait/2 + 1)
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
	}
}

// candidates are the servers in the order in which they are tried, the one to
// be avoided last.
func (a *Agent) candidates(avoid string) []uplink.Server {
	all := a.servers.all()
	var out, last []uplink.Server
	for _, s := range all {
		if s.Addr == avoid {
			last = append(last, s)
			continue
		}
		out = append(out, s)
	}
	return append(out, last...)
}

// sessionEnd says that a stream which had begun has ended.
type sessionEnd struct {
	err   error
	leave bool          // another server should be tried first
	wait  time.Duration // before the next try
}

func (e *sessionEnd) Error() string { return e.err.Error() }
func (e *sessionEnd) Unwrap() error { return e.err }

// session talks to one server until the stream ends. The error is a
// *sessionEnd when it had begun.
func (a *Agent) session(ctx context.Context, to uplink.Server, first bool, patience time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(patience, func() {
		cancel(fmt.Errorf("%w: no answer within %s", model.ErrUnavailable, patience))
	})
	defer late.Stop()
	stream, err := a.deps.Dial(to.ID, to.Addr).Open(ctx, uplink.Method)
	if err != nil {
		return because(ctx, err)
	}
	hello, err := uplink.Encode(uplink.KindHello, a.hello())
	if err != nil {
		return err
	}
	if err := stream.Send(hello); err != nil {
		if _, rerr := stream.Recv(); rerr != nil {
			err = rerr // the reason
		}
		return because(ctx, err)
	}
	b, err := stream.Recv()
	if err != nil {
		return because(ctx, err)
	}
	kind, content, err := uplink.Split(b)
	if err != nil {
		return err
	}
	switch kind {
	case uplink.KindWelcome:
	case uplink.KindBye:
		return a.bye(content)
	default:
		return fmt.Errorf("%w: %q where the welcome should be", uplink.ErrMessage, byte(kind))
	}
	w, err := uplink.Decode[uplink.Welcome](content, maxControl)
	if err != nil {
		return err
	}
	late.Stop()
	return a.talk(ctx, cancel, stream, w, first)
}

// because prefers the reason why we ended a stream to what it looked like.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// maxControl bounds one message of a server.
const maxControl = 8 << 20

// bye is the end of a stream in words of the server.
func (a *Agent) bye(content []byte) error {
	b, err := uplink.Decode[uplink.Bye](content, uplink.MaxHello)
	if err != nil {
		return err
	}
	end := &sessionEnd{err: fmt.Errorf("the server says: %s (%s)", b.Text, b.Reason), wait: min(b.Wait.D(), 5*time.Minute)}
	switch b.Reason {
	case uplink.ByeMove:
		end.leave = true
	case uplink.ByeClone:
		a.log.Error("another machine runs with the identity of this one: empty the data directory of the copy and join it with a token of its own", "err", b.Text)
		end.wait = max(end.wait, time.Second)
	}
	return end
}
