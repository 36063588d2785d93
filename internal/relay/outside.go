package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/storage"

	"panoptes/internal/wire"
)

// Outside takes what this server brings to something that is not a server, such
// as another time series engine. Events do not go there.
type Outside interface {
	// Appendable's appenders get what one stretch of the log holds, the samples
	// of each series in the order in which they were taken. Commit returns nil
	// when the other side has them, and an error otherwise: they come again. It
	// may take as long as it likes, until the context of the appender ends.
	storage.Appendable
	// Err says why nothing is taken at the moment; nil when it is.
	Err() error
}

const (
	outsideSamples = 16_000      // about as many are handed over at once
	outsideLinger  = time.Second // what is less waits so long for more
)

// addOutside gives those that have none a place at the end of the log. They
// count as destinations that are not alive: nobody waits for them.
func (r *Relay) addOutside() {
	for id := range r.deps.Outside {
		if r.dests[id] == nil {
			r.dests[id] = newDestination(id, cursor{Pos: r.journal.index.endPosition()})
			r.dirty = true
			r.log.Info("destination added", "node", id)
		}
	}
}

// pourer reads the log for one that is outside.
type pourer struct {
	r       *Relay
	d       *destination
	out     Outside
	decoder *wire.Decoder
	frame   wire.Frame // what is to be handed over
	past    wire.Frame // what was handed over before
	from    position   // of the next record
	skip    position   // what is before it was handed over
	since   time.Time  // when the first of frame was read
}

// pour brings the log to one that is outside, until ctx ends.
func (r *Relay) pour(ctx context.Context, d *destination) error {
	r.mu.Lock()
	told, acked := d.missed, d.acked
	r.mu.Unlock()
	if told != nil { // nobody can copy it from elsewhere
		r.log.Error("entries were dropped that were meant for another engine", "node", d.id, "from", time.UnixMilli(told.From), "to", time.UnixMilli(told.To))
	}
	decoder, err := wire.NewDecoder(wire.ServerLimits(), nil)
	if err != nil {
		return err
	}
	defer decoder.Close()
	r.linked(d, told, acked)
	p := &pourer{r: r, d: d, out: r.deps.Outside[d.id], decoder: decoder, from: r.journal.index.beginning(acked), skip: acked}
	for {
		if r.toTell(d) {
			return errTell
		}
		more, err := p.read(ctx)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		wait := lagEvery
		if p.pending() {
			wait = time.Until(p.since.Add(outsideLinger))
		}
		if !p.pending() || wait <= 0 { // also when there was nothing but events
			if err := p.hand(ctx); err != nil {
				return err
			}
			wait = lagEvery
		}
		select {
		case <-d.wake:
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read takes some records; false says that there are none at the moment.
func (p *pourer) read(ctx context.Context) (bool, error) {
	c, err := p.r.journal.index.read(p.from, chunkBytes)
	switch {
	case errors.Is(err, errNothing):
		return false, nil
	case err != nil:
		return true, p.r.unreadable(err)
	}
	if c.begins { // another session: its series have other numbers
		if err := p.hand(ctx); err != nil {
			return false, err
		}
		p.decoder.Reset()
		p.from = c.next
		return true, nil
	}
	for b := c.data; len(b) > 0; {
		rec, err := parseRecord(b)
		if err != nil {
			return false, p.r.unreadable(&damage{p.from, err})
		}
		f := &p.frame
		if p.from < p.skip {
			f = &p.past
			f.Reset()
		}
		if err := p.decoder.Decode(rec.frame, f); err != nil {
			return false, p.r.misunderstood(p.d, refusal{Damaged: p.from, Text: err.Error()})
		}
		if p.since.IsZero() && p.pending() {
			p.since = time.Now()
		}
		p.from += position(rec.size)
		b = b[rec.size:]
	}
	p.frame.Events = p.frame.Events[:0]
	if p.frame.Samples() >= outsideSamples {
		return true, p.hand(ctx)
	}
	return true, nil
}

func (p *pourer) pending() bool {
	return p.frame.Samples()+len(p.frame.Exemplars)+len(p.frame.Metadata) > 0
}

// hand gives what was read to the other side and notes that it has it.
func (p *pourer) hand(ctx context.Context) error {
	defer func() { p.since = time.Time{} }()
	if p.pending() {
		app := p.out.Appender(ctx)
		refused, err := p.decoder.Append(app, &p.frame)
		if err != nil {
			return errors.Join(err, app.Rollback())
		}
		if err := app.Commit(); err != nil {
			return fmt.Errorf("hand over to %s: %w", p.d.id, err)
		}
		if refused.Count > 0 {
			p.r.m.refused.WithLabelValues(p.d.id).Add(float64(refused.Count))
			p.r.log.Warn("samples refused", "node", p.d.id, "samples", refused.Count, "first", refused.First)
		}
	}
	if p.from > p.skip {
		p.r.m.sent.WithLabelValues(p.d.id).Add(float64(p.from - max(p.skip, at(p.from.segment(), headerSize))))
		p.skip = p.from
		p.r.acknowledged(p.d, p.from)
	}
	p.frame.Reset()
	return nil
}
