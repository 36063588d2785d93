package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// sources are the servers that send to this one.
type sources struct {
	mu   sync.Mutex // guards byID
	byID map[string]*source
}

// source is a server that sends. The stream that holds turn alone uses the
// fields below it.
type source struct {
	id   string
	turn chan struct{}

	logID   string
	decoder *wire.Decoder
	pos     position // of the next record the decoder understands; 0: it has no session
	skip    position // what is before is stored already

	mu      sync.Mutex // guards the fields below
	replace context.CancelCauseFunc
	heard   time.Time
	lag     lag
	lagAt   time.Time
}

// Source is a server that sends to this one.
type Source struct {
	NodeID    string
	LastHeard time.Time
	Lag       time.Duration // age of the oldest entry that it still holds for us
	Bytes     int64         // that it still holds for us
}

// Sources lists the servers that have sent something since the start.
func (r *Relay) Sources() []Source {
	r.sources.mu.Lock()
	defer r.sources.mu.Unlock()
	list := make([]Source, 0, len(r.sources.byID))
	for id, s := range r.sources.byID {
		s.mu.Lock()
		o := Source{NodeID: id, LastHeard: s.heard, Bytes: s.lag.Bytes}
		if s.lag.Bytes > 0 {
			o.Lag = time.Duration(s.lag.Millis)*time.Millisecond + time.Since(s.lagAt)
		}
		s.mu.Unlock()
		list = append(list, o)
	}
	sortSources(list)
	return list
}

func (s *sources) get(id string) *source {
	s.mu.Lock()
	defer s.mu.Unlock()
	src := s.byID[id]
	if src == nil {
		src = &source{id: id, turn: make(chan struct{}, 1)}
		s.byID[id] = src
	}
	return src
}

func (s *source) hear() {
	s.mu.Lock()
	s.heard = time.Now()
	s.mu.Unlock()
}

// setLag takes what the source says of itself.
func (s *source) setLag(b []byte) {
	var l lag
	if json.Unmarshal(b, &l) != nil {
		return
	}
	s.mu.Lock()
	s.lag, s.lagAt = l, time.Now()
	s.mu.Unlock()
}

var errReplaced = fmt.Errorf("the source has connected anew: %w", model.ErrUnavailable)

// take waits until an older stream of the same source has ended. The function
// it returns ends the turn.
func (s *source) take(ctx context.Context, cancel context.CancelCauseFunc) (func(), error) {
	s.mu.Lock()
	if s.replace != nil {
		s.replace(errReplaced)
	}
	s.replace = cancel
	s.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

const queuedMessages = 128

// receive serves the stream of a source: it stores what comes and acknowledges
// it, many records with one sync.
func (r *Relay) receive(from model.Peer, s wire.Stream) error {
	src := r.sources.get(from.NodeID)
	ctx, cancel := context.WithCancelCause(s.Context())
	defer cancel(nil)
	end, err := src.take(ctx, cancel)
	if err != nil {
		return err
	}
	defer end()
	if err := r.welcome(src, s); err != nil {
		return err
	}
	messages := make(chan []byte, queuedMessages)
	free := make(chan []byte, queuedMessages+8)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := &taker{r: r, src: src, stream: s}
		if err = t.run(ctx, messages, free); err != nil {
			src.pos = 0
			cancel(err)
		}
		// Whoever sends ends the stream: to wait for that keeps the reader
		// below the only one that reads.
		if ctx.Err() != nil && s.Send([]byte{msgClose}) == nil {
			r.log.Debug("stream of a source is to end", "node", src.id, "err", context.Cause(ctx))
		}
	})
	src.read(ctx, s, messages, free)
	close(messages)
	wg.Wait()
	return err
}

// read queues what comes until the stream ends.
func (s *source) read(ctx context.Context, stream wire.Stream, messages chan<- []byte, free <-chan []byte) {
	for {
		b, err := stream.Recv()
		if err != nil {
			return
		}
		s.hear()
		if len(b) > 0 && b[0] == msgLag { // not to wait behind records
			s.setLag(b[1:])
			continue
		}
		var own []byte
		select {
		case own = <-free:
		default:
		}
		select {
		case messages <- append(own[:0], b...):
		case <-ctx.Done():
		}
	}
}

func (r *Relay) welcome(src *source, s wire.Stream) error {
	b, err := s.Recv()
	if err != nil {
		return err
	}
	src.hear()
	var h hello
	if err := json.Unmarshal(b, &h); err != nil {
		return fmt.Errorf("decode hello: %w", model.DecodeError(err))
	}
	if src.decoder == nil {
		if src.decoder, err = wire.NewDecoder(wire.ServerLimits(), nil); err != nil {
			return err
		}
	}
	if h.Log != src.logID {
		src.logID, src.pos = h.Log, 0
	}
	if m := h.Missed; m != nil {
		r.log.Warn("a source has dropped entries that were meant for this server", "node", src.id, "from", time.UnixMilli(m.From), "to", time.UnixMilli(m.To))
		r.deps.Missed(src.id, time.UnixMilli(m.From), time.UnixMilli(m.To))
	}
	w := welcome{}
	if src.pos != 0 {
		w = welcome{Log: src.logID, Pos: src.pos}
	}
	b, err = json.Marshal(w)
	if err != nil {
		return err
	}
	return s.Send(b)
}

// taker stores what one stream brings.
type taker struct {
	r      *Relay
	src    *source
	stream wire.Stream
	frame  wire.Frame // what is to be stored
	past   wire.Frame // what was stored before
}

const (
	groupSamples = 50_000 // about as many are stored with one sync; more do not fit the caches
	groupEvents  = 4_000
)

// run stores what comes until the stream ends. An error says that the session
// of the decoder cannot go on.
func (t *taker) run(ctx context.Context, messages <-chan []byte, free chan<- []byte) error {
	var b []byte // the next message
	for {
		if b == nil {
			var ok bool
			select {
			case b, ok = <-messages:
			case <-ctx.Done():
			}
			if !ok {
				return nil
			}
		}
		t.frame.Reset()
		ack := false
		for b != nil {
			records, err := t.message(b)
			if err != nil {
				return t.tell(err)
			}
			ack = ack || records
			select {
			case free <- b:
			default:
			}
			b = nil
			if t.frame.Samples() >= groupSamples || len(t.frame.Events) >= groupEvents {
				break
			}
			select {
			case b = <-messages:
			default:
			}
			// A new session forgets the series of what is not stored yet.
			if ack && len(b) > 0 && b[0] == msgStart {
				break
			}
		}
		if !ack {
			continue
		}
		refused, err := t.store(ctx)
		if err != nil {
			return err
		}
		if err := t.stream.Send(appendPosition(appendPosition([]byte{msgAck}, t.src.pos), position(refused))); err != nil {
			return nil // stored all the same; the next stream will tell
		}
	}
}

// undecodable says that a record is whole and yet cannot be understood.
type undecodable struct {
	pos position
	err error
}

func (u *undecodable) Error() string { return fmt.Sprintf("record at %s: %s", u.pos, u.err) }
func (u *undecodable) Unwrap() error { return u.err }

// tell has the sender know which record is not understood.
func (t *taker) tell(err error) error {
	var u *undecodable
	if errors.As(err, &u) {
		t.r.log.Error("record of another server not understood", "node", t.src.id, "err", err)
		if b, jerr := encodeJSON(msgRefused, refusal{Damaged: u.pos, Text: err.Error()}); jerr == nil {
			return errors.Join(err, t.stream.Send(b))
		}
	}
	return err
}

// message decodes one message. What is to be stored is in the frame then.
func (t *taker) message(b []byte) (records bool, err error) {
	if len(b) == 0 {
		return false, errMessage
	}
	src := t.src
	kind, b := b[0], b[1:]
	switch kind {
	case msgStart:
		from, b, err := cutPosition(b)
		if err != nil {
			return false, err
		}
		skip, _, err := cutPosition(b)
		if err != nil {
			return false, err
		}
		src.decoder.Reset()
		src.pos, src.skip = from, skip
	case msgRecords:
		return true, t.records(b)
	}
	return false, nil // what is not known comes from a newer sender
}

func (t *taker) records(b []byte) error {
	src := t.src
	pos, b, err := cutPosition(b)
	if err != nil {
		return err
	}
	if src.pos == 0 || pos != src.pos {
		return fmt.Errorf("%w: records from %s, %s was expected", errMessage, pos, src.pos)
	}
	for len(b) > 0 {
		rec, err := parseRecord(b)
		if err != nil {
			return err
		}
		f := &t.frame
		if src.pos < src.skip {
			f = &t.past
			f.Reset()
		}
		if err := src.decoder.Decode(rec.frame, f); err != nil {
			return &undecodable{src.pos, err}
		}
		src.pos += position(rec.size)
		b = b[rec.size:]
	}
	return nil
}

// store makes everything decoded durable. While this server can store nothing
// it says so and tries again.
func (t *taker) store(ctx context.Context) (refused int, err error) {
	for wait := retryFrom; ; wait = min(2*wait, retryTo) {
		refused, err = t.tryStore(ctx)
		if err == nil {
			return refused, nil
		}
		text := refusal{Space: errors.Is(err, model.ErrNoSpace), Text: err.Error()}
		if b, err := encodeJSON(msgRefused, text); err == nil {
			if err := t.stream.Send(b); err != nil {
				return 0, err
			}
		}
		t.r.m.retries.Inc()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (t *taker) tryStore(ctx context.Context) (refused int, err error) {
	r, f := t.r, &t.frame
	if n := f.Samples() + len(f.Exemplars) + len(f.Metadata); n > 0 {
		app := r.deps.Store.Appender(context.WithoutCancel(ctx))
		x, err := t.src.decoder.Append(app, f)
		if err != nil {
			return 0, errors.Join(err, app.Rollback())
		}
		if err := app.Commit(); err != nil {
			return 0, err
		}
		if refused = x.Count; refused > 0 {
			r.log.Warn("samples of another server refused", "node", t.src.id, "samples", x.Count, "first", x.First)
		}
	}
	if len(f.Events) > 0 {
		n, err := r.storeEvents(context.WithoutCancel(ctx), f.Events)
		if err != nil {
			return 0, err
		}
		refused += n
	}
	r.m.received.WithLabelValues(t.src.id).Add(float64(f.Samples()))
	return refused, nil
}

// storeEvents stores all events, or all but those that are refused for good.
func (r *Relay) storeEvents(ctx context.Context, events []model.Event) (refused int, err error) {
	err = r.deps.Events.Append(ctx, events...)
	var inv model.Invalid
	if !errors.As(err, &inv) {
		return 0, err
	}
	for _, e := range events {
		switch err := r.deps.Events.Append(ctx, e); {
		case errors.As(err, &inv):
			refused++
			r.log.Warn("event of another server refused", "event", e.ID, "err", err)
		case err != nil:
			return refused, err
		}
	}
	return refused, nil
}
