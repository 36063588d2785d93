package agent

import (
	"slices"
	"sync"
	"time"

	"panoptes/internal/agent/spool"
	"panoptes/internal/model"
)

// item is what goes into one frame.
type item struct {
	samples []model.Sample
	events  []model.Event
	at      time.Time // when it came
	seq     uint64    // in the stream by which it went; 0: not sent
	saved   *spool.Mark
}

func (i *item) size() int { return len(i.samples) + 4*len(i.events) }

const (
	itemSamples  = 5_000     // of one frame at most
	itemText     = 512 << 10 // bytes of their labels, or of an event; servers take a frame of 1 MiB
	outboxLimit  = 40_000    // samples in memory; more goes to disk at once
	outboxFinal  = 80_000    // and beyond that the oldest is lost, when the disk takes nothing
	saveAfter    = 700 * time.Millisecond
	saveTick     = 150 * time.Millisecond
	forgetLength = 256 // items on disk that are still watched for a late acknowledgement
)

// outbox holds what no server has acknowledged, in order.
type outbox struct {
	mu      sync.Mutex // guards what follows
	items   []*item    // neither acknowledged nor on disk
	saved   []*item    // on disk, but on their way as well
	samples int
	dropped uint64
}

func newOutbox() *outbox { return &outbox{} }

func (o *outbox) put(samples []model.Sample, events []model.Event) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range events {
		if len(events[i].Message)+len(events[i].Data) > itemText {
			o.dropped += uint64(len(events)) // servers take a small part of that
			events = nil
			break
		}
	}
	for len(samples) > 0 || len(events) > 0 {
		n := first(samples)
		if n == 0 && len(samples) > 0 {
			o.dropped++
			samples = samples[1:]
			continue
		}
		it := &item{samples: samples[:n:n], events: events, at: now}
		samples, events = samples[n:], nil
		o.items = append(o.items, it)
		o.samples += it.size()
	}
	for o.samples > outboxFinal && len(o.items) > 1 {
		o.dropped += uint64(o.items[0].size())
		o.remove(0)
	}
}

// first is how many of the samples go into one item; 0 when not even one does.
func first(samples []model.Sample) int {
	text := uint64(0)
	for i := range samples[:min(len(samples), itemSamples)] {
		if text += samples[i].Labels.ByteSize(); text > itemText {
			return i
		}
	}
	return min(len(samples), itemSamples)
}

// drop gives up an item that can be brought nowhere, and returns what was in it.
func (o *outbox) drop(it *item) (lost int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.Index(o.items, it)
	if i < 0 {
		return 0 // it is safe already
	}
	o.remove(i)
	lost = len(it.samples) + len(it.events)
	o.dropped += uint64(lost)
	return lost
}

// underway returns the oldest item that was sent and is not on disk; any says
// whether there is something at all that was sent and not acknowledged.
func (o *outbox) underway() (it *item, any bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range o.items {
		if it.seq != 0 {
			return it, true
		}
	}
	return nil, len(o.saved) > 0
}

func (o *outbox) remove(i int) *item {
	it := o.items[i]
	o.samples -= it.size()
	o.items = append(o.items[:i], o.items[i+1:]...)
	return it
}

func (o *outbox) full() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.samples > outboxLimit
}

// next returns what is to be sent next and gives it its number.
func (o *outbox) next(seq uint64) *item {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range o.items {
		if it.seq == 0 {
			it.seq = seq
			return it
		}
	}
	return nil
}

// ack forgets what is safe and returns what of it is on disk as well.
func (o *outbox) ack(seq uint64) (marks []spool.Mark) {
	o.mu.Lock()
	defer o.mu.Unlock()
	keep := o.items[:0]
	for _, it := range o.items {
		if it.seq != 0 && it.seq <= seq {
			o.samples -= it.size()
			continue
		}
		keep = append(keep, it)
	}
	clear(o.items[len(keep):])
	o.items = keep
	rest := o.saved[:0]
	for _, it := range o.saved {
		if it.seq != 0 && it.seq <= seq {
			marks = append(marks, *it.saved)
			continue
		}
		rest = append(rest, it)
	}
	clear(o.saved[len(rest):])
	o.saved = rest
	return marks
}

// restart forgets what was sent: the stream has ended.
func (o *outbox) restart() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range o.items {
		it.seq = 0
	}
	clear(o.saved)
	o.saved = o.saved[:0]
}

// idle reports whether nothing waits to be sent, and since when the oldest
// waits for its acknowledgement.
func (o *outbox) idle() (unsent bool, oldest time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, it := range o.items {
		unsent = unsent || it.seq == 0
	}
	if len(o.items) > 0 {
		oldest = time.Since(o.items[0].at)
	}
	return unsent, oldest
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.items) == 0
}

// due lists what has waited longer than age, or all when there is too much.
func (o *outbox) due(age time.Duration) []*item {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []*item
	for _, it := range o.items {
		if o.samples > outboxLimit || time.Since(it.at) >= age {
			out = append(out, it)
		}
	}
	return out
}

// stored notes that an item is on disk.
func (o *outbox) stored(it *item, m spool.Mark) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.items {
		if o.items[i] != it {
			continue
		}
		o.remove(i)
		if it.seq != 0 && len(o.saved) < forgetLength {
			o.saved = append(o.saved, &item{seq: it.seq, saved: &m})
		}
		return
	}
}

func (o *outbox) lost() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dropped
}
