package hosts

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// session is the stream of one agent.
type session struct {
	h      *Hosts
	peer   model.Peer
	name   string // by its record
	hello  uplink.Hello
	stream wire.Stream
	cancel context.CancelCauseFunc
	since  time.Time

	heard  atomic.Int64 // ns since since
	out    chan []byte
	news   chan struct{} // settings or checks may have changed
	labels atomic.Pointer[map[string]string]
	*allowance
	goodby atomic.Pointer[string]
	barred atomic.Bool // series of checks were refused, since it was not allowed to run any
	full   atomic.Bool // series were refused, since there were too many
	again  atomic.Bool // there may be room for them: it is to describe its series anew

	mu      sync.Mutex // guards what follows
	next    uint64
	waiting map[uint64]chan uplink.Answer
	decided bool           // which checks the agent runs
	held    []model.Result // until then

	// Of the goroutine that receives.
	skew   time.Duration // of the agent's clock, as the others were told
	skewed time.Time     // when they were told; zero: with the hello

	// Of the goroutine that sends.
	sent     []byte // settings
	revision map[string]int64
	told     bool // of checks
}

var (
	errReplaced = errors.New("the agent has another stream")
	errStopping = fmt.Errorf("%w: this server is stopping", model.ErrUnavailable)
	errRevoked  = fmt.Errorf("%w: this node was removed from the cluster", model.ErrUnauthorized)
	errLeft     = errors.New("the agent has taken leave")
	errClone    = errors.New("another machine runs with the same identity: one is a copy of the other; empty the data directory of the copy and join it with a token of its own")
	errStore    = fmt.Errorf("this server can store nothing: %w", model.ErrUnavailable)
)

const (
	helloTimeout = 10 * time.Second
	outQueue     = 128
	deadAfter    = 3 * uplink.Silence // without a word from an agent
	cloneWait    = time.Minute        // before a copy may ask again
	arrivalRate  = 0.5                // streams a second of one agent
	arrivalBurst = 30
)

// refusedError is a stream that is not let in.
type refusedError struct{ bye uplink.Bye }

func (e *refusedError) Error() string { return e.bye.Text }

// serve is the life of a stream.
func (h *Hosts) serve(from model.Peer, stream wire.Stream) error {
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	s := &session{
		h: h, peer: from, stream: stream, cancel: cancel, since: time.Now(), out: make(chan []byte, outQueue), news: make(chan struct{}, 1),
		allowance: h.allowanceOf(from.NodeID),
		waiting:   map[uint64]chan uplink.Answer{}, revision: map[string]int64{},
	}
	opened := h.deps.Now()
	// One that comes and goes all the time waits: each stream is news for all servers.
	if err := s.streams.Wait(ctx); err != nil {
		return fmt.Errorf("%w: this agent begins too many streams", model.ErrUnavailable)
	}
	late := time.AfterFunc(helloTimeout, func() { cancel(fmt.Errorf("%w: no hello", uplink.ErrMessage)) })
	err := s.begin()
	late.Stop()
	if err != nil {
		return h.ended(s, err)
	}
	s.skew = skew(s.hello.Time, opened, h.deps.Now())
	if err := h.admit(ctx, s); err != nil {
		var no *refusedError
		if errors.As(err, &no) {
			h.m.refused.WithLabelValues(no.bye.Reason).Inc()
			b, eerr := uplink.Encode(uplink.KindBye, no.bye)
			if eerr != nil {
				return eerr
			}
			return stream.Send(b)
		}
		return err
	}
	err = s.run(ctx)
	h.release(s, err)
	return h.ended(s, err)
}

// allowance is what one agent may do, in all its streams together.
type allowance struct {
	streams *rate.Limiter
	rate    *rate.Limiter // samples
	events  *rate.Limiter
	found   *rate.Limiter // results of checks
}

func (h *Hosts) allowanceOf(node string) *allowance {
	h.mu.Lock()
	defer h.mu.Unlock()
	a := h.allowed[node]
	if a == nil {
		a = &allowance{
			streams: rate.NewLimiter(arrivalRate, arrivalBurst), rate: rate.NewLimiter(rate.Limit(h.cfg.MaxRate), max(uplink.MaxFrame/8, int(h.cfg.MaxRate))),
			events: rate.NewLimiter(20, 200), found: rate.NewLimiter(1000, 5000),
		}
		h.allowed[node] = a
	}
	return a
}

// rested reports whether nothing of it is used: another one would be the same.
func (a *allowance) rested() bool {
	for _, l := range []*rate.Limiter{a.streams, a.rate, a.events, a.found} {
		if l.Tokens() < float64(l.Burst()) {
			return false
		}
	}
	return true
}

// ended counts why a stream ended, and returns what the agent is told.
func (h *Hosts) ended(s *session, err error) error {
	switch {
	case err == nil || errors.Is(err, errLeft):
		return nil
	case isMalformed(err):
		h.m.malformed.Inc()
		h.log.Warn("an agent sent what it should not; its stream is closed", "node", s.peer.NodeID, "name", s.peer.Name, "err", err)
	}
	return err
}

func isMalformed(err error) bool {
	var inv model.Invalid
	return errors.Is(err, uplink.ErrMessage) || errors.Is(err, wire.ErrFrame) || errors.Is(err, model.ErrTooLarge) || errors.Is(err, model.ErrLimit) || errors.As(err, &inv)
}

func (s *session) begin() error {
	b, err := s.stream.Recv()
	if err != nil {
		return err
	}
	kind, content, err := uplink.Split(b)
	if err != nil {
		return err
	}
	if kind != uplink.KindHello {
		return fmt.Errorf("%w: %q where the hello should be", uplink.ErrMessage, byte(kind))
	}
	if s.hello, err = uplink.Decode[uplink.Hello](content, uplink.MaxHello); err != nil {
		return err
	}
	// Others are told to look there: names and the own addresses of who looks are
	// nothing that a host has.
	s.hello.Addresses = slices.DeleteFunc(s.hello.Addresses, func(a string) bool {
		ip, err := netip.ParseAddr(a)
		return err != nil || ip.Unmap().IsLoopback() || ip.IsUnspecified() || ip.IsMulticast()
	})
	return s.hello.Validate()
}

// run serves the stream until it ends, and returns why.
func (s *session) run(ctx context.Context) error {
	settings := s.settings()
	w, err := uplink.Encode(uplink.KindWelcome, uplink.Welcome{Server: s.h.cfg.NodeID, Time: s.h.deps.Now().UTC(), Settings: settings})
	if err != nil {
		return err
	}
	s.remember(settings)
	if err := s.stream.Send(w); err != nil {
		return err
	}
	live, backlog := newLane(s, uplink.Live), newLane(s, uplink.Backlog)
	var wg sync.WaitGroup
	wg.Go(func() { s.send(ctx) })
	wg.Go(func() { s.watch(ctx) })
	wg.Go(func() { s.cancel(live.run(ctx)) })
	wg.Go(func() { s.cancel(backlog.run(ctx)) })
	s.kick() // the checks
	ended := make(chan struct{})
	wg.Go(func() { s.force(ctx, ended) })
	err = s.receive(ctx, live, backlog)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // the reason why it was ended, not what that looked like
	}
	s.cancel(err)
	close(ended)
	wg.Wait()
	return err
}

// force closes the connection of a stream whose agent has been told to go and
// does not: nothing else ends a read. It may have come back by another one.
func (s *session) force(ctx context.Context, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	select {
	case <-ended:
	case <-time.After(uplink.Silence):
		wire.HangUp(s.stream)
	}
}

// farewell tells the agent why, if it reads.
func (s *session) farewell(err error) {
	bye := uplink.Bye{Reason: uplink.ByeMove, Text: "this server is stopping"}
	switch {
	case errors.Is(err, errReplaced):
		bye = uplink.Bye{Reason: uplink.ByeReplaced, Text: err.Error()}
	case errors.Is(err, errClone):
		bye = uplink.Bye{Reason: uplink.ByeClone, Text: err.Error(), Wait: model.Duration(cloneWait)}
	case errors.Is(err, errStopping):
	case errors.Is(err, errStore):
		bye.Text, bye.Wait = err.Error(), model.Duration(time.Second)
	case s.stream.Context().Err() == nil:
		return // its end says it
	}
	if b, err := uplink.Encode(uplink.KindBye, bye); err == nil {
		_ = s.stream.Send(b)
	}
}

func (s *session) kick() { kick(s.news) }

// put queues a message. An agent that does not read loses its stream.
func (s *session) put(b []byte) {
	select {
	case s.out <- b:
	default:
		s.cancel(fmt.Errorf("%w: the agent does not read", model.ErrUnavailable))
	}
}

func (s *session) send(ctx context.Context) {
	for {
		var err error
		select {
		case <-ctx.Done():
			s.farewell(context.Cause(ctx))
			return
		case b := <-s.out:
			err = s.stream.Send(b)
		case <-s.news:
			err = s.tell()
		}
		if err != nil {
			s.cancel(err)
			return
		}
	}
}

// watch ends a stream whose agent says nothing.
func (s *session) watch(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if time.Since(s.lastHeard()) > deadAfter {
				s.cancel(fmt.Errorf("%w: the agent is silent", model.ErrUnavailable))
				return
			}
		}
	}
}

func (s *session) lastHeard() time.Time { return s.since.Add(time.Duration(s.heard.Load())) }

// receive takes what the agent says. It never waits for the backlog, so that
// live data do not either.
func (s *session) receive(ctx context.Context, live, backlog *lane) error {
	beat := []byte{byte(uplink.KindBeat)}
	for {
		b, err := s.stream.Recv()
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.heard.Store(int64(time.Since(s.since)))
		kind, content, err := uplink.Split(b)
		if err != nil {
			return err
		}
		switch kind {
		case uplink.KindBeat:
			if at, ok := uplink.BeatTime(content); ok {
				now := s.h.deps.Now()
				s.clock(skew(at, now, now))
			}
			s.put(beat)
		case uplink.KindData:
			d, err := uplink.ParseData(content)
			if err != nil {
				return err
			}
			l := live
			if d.Lane == uplink.Backlog {
				l = backlog
			}
			if err := l.put(ctx, d); err != nil {
				return err
			}
		case uplink.KindResults:
			if err := s.results(content); err != nil {
				return err
			}
		case uplink.KindProbe, uplink.KindLook, uplink.KindAction:
			a, err := uplink.Decode[uplink.Answer](content, uplink.MaxAnswer+1024)
			if err != nil {
				return err
			}
			s.answered(a)
		case uplink.KindUpdate:
			if err := s.programSays(content); err != nil {
				return err
			}
		case uplink.KindBye:
			bye, err := uplink.Decode[uplink.Bye](content, uplink.MaxHello)
			if err != nil {
				return err
			}
			s.goodby.Store(&bye.Reason)
			return errLeft
		default: // of a newer agent
		}
	}
}
