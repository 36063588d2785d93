package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"panoptes/internal/agent/framing"
	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
	"panoptes/internal/wire"
	"panoptes/internal/wire/uplink"
)

// talk is one stream after its beginning. One goroutine sends, one receives, one
// answers questions.
type talk struct {
	a      *Agent
	stream wire.ClientStream
	cancel context.CancelCauseFunc
	enc    *framing.Encoder
	began  time.Time

	heard   atomic.Int64 // ns since began
	restart atomic.Bool  // the dictionary of the live lane begins anew
	start   bool         // the next frame of the live lane begins a dictionary
	seq     uint64       // of the live lane
	buf     []byte

	answers chan []byte
	asks    chan ask

	mu       sync.Mutex // guards what follows: frames of the backlog on their way
	backSeq  uint64
	flight   []sentRecord
	inFlight int
	hold     time.Time // until then the backlog rests
	burst    time.Time // when the first of those in flight was sent
}

type sentRecord struct {
	seq   uint64
	bytes int
	rec   spool.Record
}

// errMoved ends a stream so that the agent returns to its own server.
var errMoved = errors.New("returning to the server that is this agent's by hash")

func (a *Agent) talk(ctx context.Context, cancel context.CancelCauseFunc, stream wire.ClientStream, w uplink.Welcome, first bool) error {
	enc, err := framing.New()
	if err != nil {
		return err
	}
	t := &talk{
		a: a, stream: stream, cancel: cancel, enc: enc, began: time.Now(), start: true,
		answers: make(chan []byte, 16), asks: make(chan ask, 32),
	}
	a.m.attempts.WithLabelValues("ok").Inc()
	a.m.skew.Set(a.deps.Now().Sub(w.Time).Seconds())
	a.box.restart()
	a.disk.Rewind()
	a.connected.Store(true)
	a.apply(w.Settings)
	a.log.Info("connected", "server", w.Server)
	defer func() {
		a.connected.Store(false)
		a.box.restart()
		if a.settings.Load().Live {
			kick(a.changed)
		}
	}()
	var wg sync.WaitGroup
	received := make(chan struct{})
	wg.Go(func() { cancel(t.receive(ctx)); close(received) })
	wg.Go(func() { t.watch(ctx) })
	for range answerers {
		wg.Go(func() { t.answer(ctx) })
	}
	err = t.send(ctx, first)
	if err == nil { // our own leave: let the last words arrive
		_ = stream.CloseSend()
	}
	select { // what the server has said last is the reason
	case <-received:
	case <-time.After(300 * time.Millisecond):
	}
	cancel(err)
	wg.Wait()
	cause := context.Cause(ctx)
	if errors.Is(cause, model.ErrTooLarge) || errors.Is(cause, model.ErrLimit) {
		t.blame(cause)
	}
	var end *sessionEnd
	switch {
	case err == nil:
		return &sessionEnd{err: errMoved}
	case errors.As(cause, &end):
		return end
	case cause != nil && !errors.Is(cause, context.Canceled):
		err = cause
	}
	return &sessionEnd{err: err, leave: true}
}

// receive takes what the server says until the stream ends, and returns why.
func (t *talk) receive(ctx context.Context) error {
	a := t.a
	for {
		b, err := t.stream.Recv()
		if err != nil {
			if err == io.EOF {
				err = fmt.Errorf("%w: the server has ended the stream", model.ErrUnavailable)
			}
			return err
		}
		t.heard.Store(int64(time.Since(t.began)))
		kind, content, err := uplink.Split(b)
		if err != nil {
			return err
		}
		switch kind {
		case uplink.KindAck:
			ack, err := uplink.ParseAck(content)
			if err != nil {
				return err
			}
			t.acked(ack)
		case uplink.KindRestart:
			t.restart.Store(true)
		case uplink.KindSetting:
			s, err := uplink.Decode[uplink.Settings](content, maxControl)
			if err != nil {
				return err
			}
			a.apply(s)
		case uplink.KindChecks:
			c, err := uplink.Decode[uplink.Checks](content, maxControl)
			if err != nil {
				return err
			}
			a.takeChecks(c)
		case uplink.KindProbe, uplink.KindLook, uplink.KindAction:
			if err := t.ask(ctx, kind, content); err != nil {
				return err
			}
		case uplink.KindBye:
			return a.bye(content)
		case uplink.KindBeat:
		default: // of a newer server
		}
	}
}

// watch ends the stream when the server says nothing any more. It looks only
// when the silence may have become too long.
func (t *talk) watch(ctx context.Context) {
	look := time.NewTimer(uplink.Silence)
	defer look.Stop()
	for silent := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		left := uplink.Silence - (time.Since(t.began) - time.Duration(t.heard.Load()))
		look.Reset(max(left, uplink.Silence/8))
		// Twice, since this process may have been paused itself.
		if left > 0 {
			silent = 0
		} else if silent++; silent == 2 {
			t.cancel(&sessionEnd{err: fmt.Errorf("%w: the server is silent", model.ErrUnavailable), leave: true})
			return
		}
	}
}

// acked takes an acknowledgement.
func (t *talk) acked(ack uplink.Ack) {
	a := t.a
	if ack.Refused > 0 {
		a.m.refused.Add(float64(ack.Refused))
	}
	if ack.Lane == uplink.Live {
		a.renewal.acknowledged.Store(true)
		for _, m := range a.box.ack(ack.Seq) {
			a.disk.Forget(m)
		}
		a.wake()
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.flight) > 0 && t.flight[0].seq <= ack.Seq {
		s := t.flight[0]
		t.flight = t.flight[1:]
		t.inFlight -= s.bytes
		a.disk.Ack(s.rec)
		if !s.rec.Known {
			a.m.backfilled.Add(float64(s.rec.Count))
		}
	}
	if len(t.flight) == 0 && !t.burst.IsZero() {
		// Four fifths of what is left are the backlog's.
		t.hold = time.Now().Add(min(time.Since(t.burst)/4, time.Second))
		t.burst = time.Time{}
	}
	a.wake()
	kick(a.spoolNow)
}

// send sends what there is, the live lane first, until ctx ends or the agent
// leaves, which is no error.
func (t *talk) send(ctx context.Context, first bool) error {
	a := t.a
	beat := time.NewTicker(uplink.BeatEvery)
	defer beat.Stop()
	var back <-chan time.Time
	if !first {
		after := a.cfg.MoveBack
		if after == 0 {
			after = 5*time.Minute + rand.N(5*time.Minute)
		}
		timer := time.NewTimer(after)
		defer timer.Stop()
		back = timer.C
	}
	rest := time.NewTimer(time.Hour)
	defer rest.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		more, wait, err := t.one()
		if err != nil {
			return err
		}
		if r := a.stopping.Load(); r != nil && a.box.empty() {
			return t.leave(*r)
		}
		if more {
			select {
			case <-beat.C:
				if err := t.stream.Send(uplink.AppendBeat(nil, a.deps.Now())); err != nil {
					return err
				}
			default:
			}
			continue
		}
		rest.Reset(wait)
		select {
		case <-ctx.Done():
		case <-a.wakeUp:
		case <-rest.C:
		case b := <-t.answers:
			if err := t.stream.Send(b); err != nil {
				return err
			}
		case <-beat.C:
			if err := t.stream.Send(uplink.AppendBeat(nil, a.deps.Now())); err != nil {
				return err
			}
		case <-back:
			return t.leave(uplink.ByeMove)
		}
	}
}

func (t *talk) leave(reason string) error {
	b, err := uplink.Encode(uplink.KindBye, uplink.Bye{Reason: reason})
	if err != nil {
		return err
	}
	return t.stream.Send(b)
}

// one sends one message, if there is anything to send; wait is when to look again.
func (t *talk) one() (more bool, wait time.Duration, err error) {
	select {
	case b := <-t.answers:
		return true, 0, t.stream.Send(b)
	default:
	}
	if b := t.a.renewal.news.Swap(nil); b != nil {
		return true, 0, t.stream.Send(*b)
	}
	if b := t.a.results.take(); b != nil {
		return true, 0, t.stream.Send(b)
	}
	if !t.alone() {
		return false, idle, nil // an acknowledgement wakes us
	}
	if it := t.a.box.next(t.seq + 1); it != nil {
		return true, 0, t.live(it)
	}
	more, wait, err = t.backlog()
	if !more && wait == idle {
		t.a.careful = false // all there was has been taken
	}
	return more, wait, err
}

// idle is how long nothing is looked for unless somebody wakes us.
const idle = time.Hour

func (t *talk) live(it *item) error {
	if t.restart.Swap(false) || t.enc.Full() || t.a.careful {
		t.enc.Restart()
		t.start = true
	}
	t.seq++
	d := uplink.Data{Lane: uplink.Live, Start: t.start, Seq: t.seq}
	t.start = false
	t.buf = d.Append(t.buf[:0])
	var err error
	if t.buf, err = t.enc.Append(t.buf, it.samples, it.events); err != nil {
		t.a.giveUp(it, err)
		t.seq--
		t.start = true
		t.enc.Restart()
		return nil
	}
	t.a.m.sentSamples.Add(float64(len(it.samples)))
	t.a.m.sentBytes.Add(float64(len(t.buf)))
	err = t.stream.Send(t.buf)
	if cap(t.buf) > 256<<10 {
		t.buf = nil
	}
	return err
}

// backlog sends one record of the disk, unless the live lane needs the way or
// enough is under way.
func (t *talk) backlog() (more bool, wait time.Duration, err error) {
	a := t.a
	if a.stopping.Load() != nil {
		return false, idle, nil
	}
	if _, oldest := a.box.idle(); oldest > 1500*time.Millisecond {
		return false, 200 * time.Millisecond, nil
	}
	t.mu.Lock()
	hold := time.Until(t.hold)
	full := t.inFlight >= uplink.Window || len(t.flight) >= uplink.MaxInFlight
	t.mu.Unlock()
	switch {
	case hold > 0:
		return false, hold, nil
	case full:
		return false, idle, nil // an acknowledgement wakes us
	}
	rec, err := a.disk.Next()
	if err == io.EOF {
		return false, idle, nil
	}
	if err != nil {
		a.log.Warn("buffer not read", "err", err)
		return false, 10 * time.Second, nil
	}
	t.mu.Lock()
	t.backSeq++
	if t.burst.IsZero() {
		t.burst = time.Now()
	}
	t.flight = append(t.flight, sentRecord{seq: t.backSeq, bytes: len(rec.Frame), rec: rec})
	t.flight[len(t.flight)-1].rec.Frame = nil
	t.inFlight += len(rec.Frame)
	d := uplink.Data{Lane: uplink.Backlog, Start: rec.Start, Known: rec.Known, Seq: t.backSeq, Frame: rec.Frame}
	t.mu.Unlock()
	t.buf = d.Append(t.buf[:0])
	a.m.sentBytes.Add(float64(len(t.buf)))
	return true, 0, t.stream.Send(t.buf)
}
