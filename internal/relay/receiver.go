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
	src.clock = clock{told: h.Clock, at: time.Now(), end: h.End}
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
	newest int64      // time of the newest sample in frame that its source would still take
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
		t.newest = 0
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
		before := t.frame.Samples()
		if err := src.decoder.Decode(rec.frame, f); err != nil {
			return &undecodable{src.pos, err}
		}
		if t.frame.Samples() > before && !src.clock.disowns(src.pos, rec.to, t.r.cfg.FutureLimit) {
			t.newest = max(t.newest, rec.to)
		}
		src.pos += position(rec.size)
		b = b[rec.size:]
	}
	return nil
}

// store makes everything decoded durable. While this server can store nothing
// it says so and tries again.
func (t *taker) store(ctx context.Context) (refused int, err error) {
	begun := time.Now()
	for wait := retryFrom; ; wait = min(2*wait, retryTo) {
		refused, err = t.tryStore(ctx)
		if err == nil {
			return refused, nil
		}
		if errors.Is(err, errAhead) && time.Since(begun) > 3*t.r.cfg.AckTimeout {
			t.r.log.Warn("samples of another server wait", "node", t.src.id, "err", err)
			return 0, err // the next stream says how late it is there now
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
	if err := t.ahead(); err != nil {
		return 0, err
	}
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
