package store

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"runtime"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"panoptes/internal/model"
)

// maxShards bounds what a digest keeps in memory.
const maxShards = 4096

// Digest returns one digest for each shard, computed over what a query would
// see; shards that r does not name stay zero. It takes a part of one processor
// only and ends with ctx.
func (s *Store) Digest(ctx context.Context, r model.SampleRange) ([]model.Digest, error) {
	out := make([]model.Digest, max(0, min(r.Shards, maxShards)))
	err := s.scan(ctx, r, false, func(_ labels.Labels, hash uint64, it chunkenc.Iterator, p *pace) error {
		h, n, err := digestSeries(hash, it, p)
		if err != nil || n == 0 {
			return err
		}
		d := &out[hash%uint64(len(out))]
		d.Series++
		d.Samples += n
		d.Hash += h // the order of series does not matter
		return nil
	})
	return out, err
}

// scan calls f for every series of r that may have samples.
func (s *Store) scan(ctx context.Context, r model.SampleRange, sorted bool, f func(ls labels.Labels, hash uint64, it chunkenc.Iterator, p *pace) error) error {
	which, err := shardsOf(r)
	if err != nil {
		return err
	}
	return s.withQuerier(ctx, r, func(ctx context.Context, q storage.Querier) error {
		p := &pace{ctx: ctx, since: time.Now()}
		set := q.Select(ctx, sorted, nil, everything)
		var it chunkenc.Iterator
		for set.Next() {
			if err := p.step(1); err != nil {
				return err
			}
			ls := set.At().Labels()
			hash := labels.StableHash(ls)
			if !which[hash%uint64(r.Shards)] {
				continue
			}
			it = set.At().Iterator(it)
			if err := f(ls, hash, it, p); err != nil {
				return fmt.Errorf("read %s: %w", clip(ls.String()), err)
			}
		}
		return set.Err()
	})
}

// everything selects all series.
var everything = labels.MustNewMatcher(labels.MatchEqual, "", "")

// withQuerier gives up when the database is to be opened again.
func (s *Store) withQuerier(ctx context.Context, r model.SampleRange, f func(context.Context, storage.Querier) error) error {
	h, err := s.acquireRead()
	if err != nil {
		return err
	}
	defer s.release(h)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(h.leaving, func() { cancel(errOpening) })()
	return h.first.scan(func() error {
		q, err := h.db.Querier(r.From, r.To-1)
		if err != nil {
			return err
		}
		defer q.Close()
		if err := f(ctx, q); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		return context.Cause(ctx)
	})
}

func shardsOf(r model.SampleRange) ([]bool, error) {
	var inv model.Invalid
	if r.Shards < 1 || r.Shards > maxShards {
		inv.Add("shards", "must lie between 1 and %d", maxShards)
	}
	if r.From >= r.To || r.From < minTime {
		inv.Add("from", "must lie before to")
	}
	for i, w := range r.Which {
		if w < 0 || w >= r.Shards {
			inv.Add(model.Index("which", i), "must lie between 0 and %d", r.Shards-1)
			break
		}
	}
	if len(inv) > 0 {
		return nil, inv
	}
	out := make([]bool, r.Shards)
	for i := range out {
		out[i] = len(r.Which) == 0
	}
	for _, w := range r.Which {
		out[w] = true
	}
	return out, nil
}

// pace lets others work: a scan is never urgent.
type pace struct {
	ctx   context.Context
	n     int
	since time.Time
}

const (
	paceWork  = 20 * time.Millisecond
	paceRest  = 5 * time.Millisecond
	paceCheck = 16 << 10 // samples between two looks at the clock
)

// step is called for every n samples or series.
func (p *pace) step(n int) error {
	if p.n += n; p.n < paceCheck {
		return nil
	}
	p.n = 0
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if time.Since(p.since) < paceWork {
		runtime.Gosched()
		return nil
	}
	t := time.NewTimer(paceRest)
	defer t.Stop()
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-t.C:
	}
	p.since = time.Now()
	return nil
}

// digestSeries hashes the samples of one series, the oldest first.
func digestSeries(h uint64, it chunkenc.Iterator, p *pace) (uint64, uint64, error) {
	var n uint64
	var ih *histogram.Histogram
	var fh *histogram.FloatHistogram
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		n++
		switch typ {
		case chunkenc.ValFloat:
			t, v := it.At()
			h = mix(mix(h, uint64(t)), math.Float64bits(v))
		case chunkenc.ValHistogram:
			var t int64
			t, ih = it.AtHistogram(ih)
			h = mix(mix(h, uint64(t)), hashHistogram(ih, nil))
		case chunkenc.ValFloatHistogram:
			var t int64
			t, fh = it.AtFloatHistogram(fh)
			h = mix(mix(h, uint64(t)), hashHistogram(nil, fh))
		}
		if n%1024 == 0 {
			if err := p.step(1024); err != nil {
				return 0, 0, err
			}
		}
	}
	p.n += int(n % 1024)
	return avalanche(mix(h, n)), n, it.Err()
}

// hashHistogram hashes what a histogram says, not how it is laid out: chunks
// add empty buckets, and the hint of a reset depends on the neighbours.
func hashHistogram(ih *histogram.Histogram, fh *histogram.FloatHistogram) uint64 {
	h := uint64(2)
	if fh == nil {
		if value.IsStaleNaN(ih.Sum) {
			return mix(1, value.StaleNaN)
		}
		h, fh = 1, ih.ToFloat(nil)
	}
	if value.IsStaleNaN(fh.Sum) {
		return mix(h, value.StaleNaN)
	}
	h = mix(h, uint64(uint32(fh.Schema)))
	if fh.CounterResetHint == histogram.GaugeType {
		h = mix(h, 1)
	}
	for _, v := range []float64{fh.ZeroThreshold, fh.ZeroCount, fh.Count, fh.Sum} {
		h = mix(h, math.Float64bits(v))
	}
	for _, v := range fh.CustomValues {
		h = mix(h, math.Float64bits(v))
	}
	for i, it := range []histogram.BucketIterator[float64]{fh.PositiveBucketIterator(), fh.NegativeBucketIterator()} {
		h = mix(h, uint64(i))
		for it.Next() {
			if b := it.At(); b.Count != 0 {
				h = mix(mix(h, uint64(uint32(b.Index))), math.Float64bits(b.Count))
			}
		}
	}
	return h
}

// The rounds and constants of XXH64.
const (
	prime1 = 11400714785074694791
	prime2 = 14029467366897019727
	prime3 = 1609587929392839161
	prime4 = 9650029242287828579
)

func mix(h, v uint64) uint64 {
	h ^= bits.RotateLeft64(v*prime2, 31) * prime1
	return bits.RotateLeft64(h, 27)*prime1 + prime4
}

func avalanche(h uint64) uint64 {
	h ^= h >> 33
	h *= prime2
	h ^= h >> 29
	h *= prime3
	return h ^ h>>32
}
