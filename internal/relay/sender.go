package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"panoptes/internal/wire"
)

const (
	chunkBytes = 64 << 10 // of records in one message, when there are several
	lagEvery   = time.Second
	retryFrom  = 50 * time.Millisecond
	retryTo    = time.Second
)

// senders has one goroutine for each destination.
type senders struct {
	r   *Relay
	all map[*destination]*sending
}

type sending struct {
	cancel context.CancelFunc
	done   chan struct{}
}

func newSenders(r *Relay) *senders { return &senders{r: r, all: map[*destination]*sending{}} }

// match begins what is missing and ends what is not wanted any more.
func (s *senders) match(ctx context.Context) {
	s.r.mu.Lock()
	wanted := make(map[*destination]bool, len(s.r.dests))
	for _, d := range s.r.dests {
		wanted[d] = true
	}
	s.r.mu.Unlock()
	for d, g := range s.all {
		if !wanted[d] {
			g.cancel()
			<-g.done
			delete(s.all, d)
		}
	}
	for d := range wanted {
		if s.all[d] == nil && ctx.Err() == nil {
			sctx, cancel := context.WithCancel(ctx)
			g := &sending{cancel: cancel, done: make(chan struct{})}
			s.all[d] = g
			go func() {
				defer close(g.done)
				s.r.feed(sctx, d)
			}()
		}
	}
}

func (s *senders) stop() {
	for _, g := range s.all {
		g.cancel()
	}
	for _, g := range s.all {
		<-g.done
	}
}

// feed keeps a destination connected and up to date until ctx ends.
func (r *Relay) feed(ctx context.Context, d *destination) {
	for wait := retryFrom; ctx.Err() == nil; {
		begun := time.Now()
		push := r.push
		if r.deps.Outside[d.id] != nil {
			push = r.pour
		}
		err := push(ctx, d)
		r.unlinked(d, err)
		if ctx.Err() != nil {
			return
		}
		r.log.Debug("connection for sending ended", "node", d.id, "err", err)
		if time.Since(begun) > 2*retryTo || errors.Is(err, errTell) {
			wait = retryFrom
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
		wait = min(2*wait, retryTo)
	}
}

// push serves one connection until it fails.
func (r *Relay) push(ctx context.Context, d *destination) error {
	ctx, cancel := context.WithCancel(ctx)
	conn, err := r.deps.Dial(d.id)
	if err != nil {
		cancel()
		return err
	}
	stream, err := conn.Open(ctx, pushMethod)
	if err != nil {
		cancel()
		return err
	}
	p := &pusher{r: r, d: d, stream: stream}
	from, skip, err := p.greet()
	if err != nil {
		cancel()
		return fmt.Errorf("begin sending: %w", err)
	}
	var wg sync.WaitGroup
	var ackErr error
	wg.Go(func() {
		ackErr = p.acks()
		cancel()
	})
	err = p.send(ctx, from, skip)
	cancel()
	wg.Wait()
	if ackErr != nil && !errors.Is(ackErr, context.Canceled) {
		return ackErr
	}
	return err
}

// pusher is one connection to a destination.
type pusher struct {
	r      *Relay
	d      *destination
	stream wire.ClientStream

	mu     sync.Mutex // guards the fields below
	flight []position // ends of what was sent and is not acknowledged
	sizes  []int64
	bytes  int64
}

// greet learns where the destination is. Records are sent from the beginning
// of a segment, unless the destination remembers the session that the segment
// is; what is before skip it has already.
func (p *pusher) greet() (from, skip position, err error) {
	r, d := p.r, p.d
	r.mu.Lock()
	told := d.missed
	acked := d.acked
	r.mu.Unlock()
	h := hello{Log: r.journal.logID, Missed: told, End: r.journal.index.endPosition()}
	h.Clock = r.deps.Now().UnixMilli()
	b, err := json.Marshal(h)
	if err != nil {
		return 0, 0, err
	}
	if err := p.stream.Send(b); err != nil {
		return 0, 0, err
	}
	if b, err = p.stream.Recv(); err != nil {
		return 0, 0, err
	}
	var w welcome
	if err := json.Unmarshal(b, &w); err != nil {
		return 0, 0, fmt.Errorf("decode welcome: %w", err)
	}
	from, skip = r.journal.index.beginning(acked), acked
	if w.Log == r.journal.logID && w.Pos >= acked {
		from, skip = w.Pos, w.Pos
	}
	r.linked(d, told, skip)
	return from, skip, nil
}

// send brings the log to the destination, from on, as fast as it acknowledges.
func (p *pusher) send(ctx context.Context, from, skip position) error {
	x := &p.r.journal.index
	beat := time.NewTicker(lagEvery)
	defer beat.Stop()
	var buf []byte
	if from != skip {
		if err := p.stream.Send(start(from, skip)); err != nil {
			return err
		}
	}
	for {
		if p.r.toTell(p.d) {
			return errTell
		}
		if p.room() {
			c, err := x.read(from, chunkBytes)
			switch {
			case err == nil:
				if buf, err = p.chunk(buf, c, skip); err != nil {
					return err
				}
				from = c.next
				continue
			case !errors.Is(err, errNothing):
				if err := p.r.unreadable(err); err != nil {
					return err
				}
				continue
			}
		}
		select {
		case <-p.d.wake:
		case <-beat.C:
			if err := p.lag(); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errClosed = errors.New("the other side begins anew")

// errTell ends a stream so that the next one tells what was dropped.
var errTell = errors.New("entries were dropped meanwhile")

func start(from, skip position) []byte {
	return appendPosition(appendPosition([]byte{msgStart}, from), skip)
}

func (p *pusher) chunk(buf []byte, c chunk, skip position) ([]byte, error) {
	if c.begins {
		return buf, p.stream.Send(start(c.start, max(skip, c.start)))
	}
	p.mu.Lock()
	p.flight = append(p.flight, c.next)
	p.sizes = append(p.sizes, int64(len(c.data)))
	p.bytes += int64(len(c.data))
	p.mu.Unlock()
	buf = appendPosition(append(buf[:0], msgRecords), c.start)
	buf = append(buf, c.data...)
	p.r.m.sent.WithLabelValues(p.d.id).Add(float64(len(c.data)))
	return buf, p.stream.Send(buf)
}

func (p *pusher) lag() error {
	o := lag{}
	p.r.mu.Lock()
	o.Bytes = p.r.journal.index.behind(p.d.acked)
	if ms, ok := p.r.journal.index.since(p.d.acked); ok {
		o.Millis = max(0, time.Now().UnixMilli()-ms)
	}
	p.r.mu.Unlock()
	b, err := encodeJSON(msgLag, o)
	if err != nil {
		return err
	}
	return p.stream.Send(b)
}

// room reports whether more may be on the way.
func (p *pusher) room() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes < p.r.cfg.WindowBytes
}

// acks reads what the destination answers.
func (p *pusher) acks() error {
	for {
		b, err := p.stream.Recv()
		if err != nil {
			return err
		}
		if len(b) == 0 {
			return errMessage
		}
		switch b[0] {
		case msgClose:
			return errClosed
		case msgAck:
			pos, rest, err := cutPosition(b[1:])
			if err != nil {
				return err
			}
			refused, _, err := cutPosition(rest)
			if err != nil {
				return err
			}
			p.landed(pos)
			if refused > 0 {
				p.r.m.refused.WithLabelValues(p.d.id).Add(float64(refused))
			}
			p.r.acknowledged(p.d, pos)
		case msgRefused:
			var e refusal
			if err := json.Unmarshal(b[1:], &e); err != nil {
				return fmt.Errorf("decode refusal: %w", err)
			}
			if e.Damaged != 0 {
				return p.r.misunderstood(p.d, e)
			}
			p.r.refused(p.d, e.err())
		}
		p.d.notify()
	}
}

func (p *pusher) landed(pos position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for n < len(p.flight) && p.flight[n] <= pos {
		p.bytes -= p.sizes[n]
		n++
	}
	p.flight, p.sizes = p.flight[n:], p.sizes[n:]
}
