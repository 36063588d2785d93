package hosts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

const (
	laneQueue   = uplink.MaxInFlight + 8
	laneBytes   = 2 << 20 // that wait in one lane
	storeFor    = 3 * time.Second
	storeTry    = 30 * time.Second
	groupFrames = 16 // of one lane that are stored at once
)

// lane stores the frames of one lane, in order.
type lane struct {
	s     *session
	kind  int
	queue chan uplink.Data
	room  chan int // bytes that were taken from the queue
	bytes int      // in the queue; of the reader
	dec   *wire.Decoder
	begun bool
	seq   uint64
	frame wire.Frame
	probe []bool // by series of the dictionary: it is one of a check
}

func newLane(s *session, kind int) *lane {
	return &lane{s: s, kind: kind, queue: make(chan uplink.Data, laneQueue), room: make(chan int, laneQueue)}
}

// put queues a frame. The live lane waits for room, which slows the agent down;
// one that sends more backlog than it may is not ours.
func (l *lane) put(ctx context.Context, d uplink.Data) error {
	if len(d.Frame) > uplink.MaxFrame {
		return fmt.Errorf("a frame of %d bytes, %d are allowed: %w", len(d.Frame), uplink.MaxFrame, model.ErrTooLarge)
	}
	for {
		select {
		case n := <-l.room:
			l.bytes -= n
			continue
		default:
		}
		if l.bytes == 0 || l.bytes+len(d.Frame) <= laneBytes && len(l.queue) < cap(l.queue)-1 {
			break
		}
		if l.kind == uplink.Backlog {
			return fmt.Errorf("%w: more backlog on the way than is allowed", uplink.ErrMessage)
		}
		select {
		case n := <-l.room:
			l.bytes -= n
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	l.bytes += len(d.Frame)
	d.Frame = append([]byte(nil), d.Frame...)
	select {
	case l.queue <- d:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run stores until ctx ends. An error ends the stream.
func (l *lane) run(ctx context.Context) error {
	defer func() {
		if l.dec != nil {
			l.dec.Close()
		}
	}()
	for {
		var d uplink.Data
		select {
		case <-ctx.Done():
			return nil
		case d = <-l.queue:
		}
		l.frame.Reset()
		refused := 0
		for n := 0; ; {
			known, err := l.decode(d)
			if err != nil {
				return err
			}
			_ = known
			select {
			case l.room <- len(d.Frame):
			case <-ctx.Done():
				return nil
			}
			if n++; n == groupFrames || l.frame.Samples() > 20_000 || len(l.frame.Events)+len(l.frame.Exemplars)+len(l.frame.Metadata) > 1000 {
				break
			}
			var more bool
			select {
			case d = <-l.queue:
				more = true
			default:
			}
			if !more {
				break
			}
			if d.Start { // what is decoded refers to the dictionary that ends
				r, err := l.store(ctx)
				if err != nil {
					return err
				}
				refused += r
				l.frame.Reset()
			}
		}
		r, err := l.store(ctx)
		if err != nil {
			return err
		}
		refused += r
		l.s.put(uplink.Ack{Lane: l.kind, Seq: l.seq, Refused: uint64(refused)}.Encode())
	}
}

// decode adds a frame to those that are to be stored, unless it is known.
func (l *lane) decode(d uplink.Data) (known bool, err error) {
	if d.Seq != l.seq+1 {
		return false, fmt.Errorf("%w: frame %d after %d", uplink.ErrMessage, d.Seq, l.seq)
	}
	if !d.Start && !l.begun {
		return false, fmt.Errorf("%w: a frame before the dictionary began", uplink.ErrMessage)
	}
	if l.dec == nil {
		if l.dec, err = wire.NewDecoder(wire.Limits{MaxFrame: uplink.MaxFrame, MaxSeries: l.s.h.cfg.MaxSeries + 10_000}, l.accept); err != nil {
			return false, err
		}
	}
	if d.Start && l.begun {
		l.dec.Reset()
		l.probe = l.probe[:0]
	}
	l.begun, l.seq = true, d.Seq
	if !d.Known {
		return false, l.dec.Decode(d.Frame, &l.frame)
	}
	// Only its dictionary is of use.
	var past wire.Frame
	if err := l.dec.Decode(d.Frame, &past); err != nil {
		return false, err
	}
	return true, nil
}

// accept notes which series are those of checks.
func (l *lane) accept(ls labels.Labels) (labels.Labels, error) {
	l.probe = append(l.probe, ls.Has(uplink.CheckLabel))
	return l.s.accept(ls)
}

// store makes what was decoded durable. While that cannot be done it is tried
// again for a while, then the agent is sent to another server.
func (l *lane) store(ctx context.Context) (refused int, err error) {
	f := &l.frame
	if f.Empty() {
		return 0, nil
	}
	s := l.s
	refused = l.filter(f)
	if err := s.rate.WaitN(ctx, min(f.Samples()+len(f.Series), s.rate.Burst())); err != nil {
		return 0, context.Cause(ctx)
	}
	until := time.Now().Add(storeFor)
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		n, err := l.try(ctx)
		if err == nil {
			s.h.m.samples.WithLabelValues(laneName(l.kind)).Add(float64(f.Samples() - n))
			s.h.m.refusedSamples.Add(float64(n + refused))
			return n + refused, nil
		}
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		s.h.m.storeErrors.Inc()
		if time.Now().After(until) {
			return 0, fmt.Errorf("%w (%w)", errStore, err)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func laneName(kind int) string {
	if kind == uplink.Live {
		return "live"
	}
	return "backlog"
}

func (l *lane) try(ctx context.Context) (refused int, err error) {
	f := &l.frame
	h := l.s.h
	// What has come is stored even when the stream ends now.
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTry)
	defer cancel()
	if len(f.IDs) > 0 {
		app := h.deps.Store.Appender(sctx)
		x, err := l.dec.Append(app, f)
		if err != nil {
			return 0, errors.Join(err, app.Rollback())
		}
		if err := app.Commit(); err != nil {
			return 0, err
		}
		if refused = x.Count; refused > 0 {
			h.log.Debug("samples of an agent refused", "node", l.s.peer.NodeID, "samples", x.Count, "first", x.First)
		}
	}
	if len(f.Events) > 0 {
		if err := h.deps.AppendEvents(sctx, f.Events...); err != nil {
			var inv model.Invalid
			if !errors.As(err, &inv) {
				return 0, err
			}
			refused += len(f.Events)
		}
	}
	return refused, nil
}

// filter takes out what an agent may not send: samples too far from now, those
// of checks that it is not allowed to run any more, kinds of data that hosts do not
// have, and too many events. It returns how many.
func (l *lane) filter(f *wire.Frame) int {
	h := l.s.h
	now := h.deps.Now()
	from, to := now.Add(-h.cfg.MaxAge).UnixMilli(), now.Add(h.cfg.MaxAhead).UnixMilli()
	runs, _ := l.s.runsChecks()
	n, bad := 0, 0
	for i, t := range f.Times {
		if t < from || t > to {
			bad++
			continue
		}
		if !runs && l.probe[f.IDs[i]] { // the series was described while it was allowed
			continue
		}
		f.IDs[n], f.Times[n], f.Values[n] = f.IDs[i], t, f.Values[i]
		n++
	}
	refused := len(f.Times) - n
	if bad > 0 {
		h.m.badTimes.Add(float64(bad))
	}
	f.IDs, f.Times, f.Values = f.IDs[:n], f.Times[:n], f.Values[:n]
	refused += len(f.Histograms)
	f.Histograms, f.Exemplars, f.Metadata = nil, nil, nil
	events := f.Events[:0]
	for _, e := range f.Events {
		if !l.s.events.Allow() {
			refused++
			continue
		}
		if e, ok := l.s.own(e, from, to); ok {
			events = append(events, e)
		} else {
			refused++
		}
	}
	f.Events = events
	return refused
}
