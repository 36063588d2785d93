package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"panoptes/internal/model"
)

// maxConflicts bounds the conflicts that are named.
const maxConflicts = 10

// source gives the entries of another store in order; nil at the end.
type source func() (*entry, error)

// decoding makes a source of raw messages; next answers io.EOF at the end.
func decoding(next func() ([]byte, error)) source {
	var entries []entry
	return func() (*entry, error) {
		for len(entries) == 0 {
			b, err := next()
			if errors.Is(err, io.EOF) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			if entries, err = decodeRaw(b); err != nil {
				return nil, err
			}
		}
		e := &entries[0]
		entries = entries[1:]
		return e, nil
	}
}

// diff walks through r here and in src side by side and calls missing for the
// samples that are there only. res counts; its Missing is left to the caller.
func (s *Store) diff(ctx context.Context, r model.SampleRange, src source, res *model.SampleRepair, missing func(labels.Labels, sample) error) error {
	which, err := shardsOf(r)
	if err != nil {
		return err
	}
	return s.withQuerier(ctx, r, func(ctx context.Context, q storage.Querier) error {
		p := &pace{ctx: ctx, since: time.Now()}
		own := &walker{set: q.Select(ctx, true, nil, everything), which: which, pace: p}
		var before entry
		for {
			e, err := src()
			if err != nil {
				return err
			}
			if e == nil {
				res.Extra += own.rest(nil)
				return own.err
			}
			if err := inOrder(r, which, before, e); err != nil {
				return err
			}
			if before.samples == nil || labels.Compare(before.ls, e.ls) != 0 {
				res.Series++
				res.Extra += own.rest(&e.ls)
			}
			before = *e
			for _, theirs := range e.samples {
				if err := p.step(1); err != nil {
					return err
				}
				mine, extra, ok := own.at(e.ls, theirs.t)
				res.Extra += extra
				switch {
				case !ok:
					if err := missing(e.ls, theirs); err != nil {
						return err
					}
				case !equal(mine, theirs):
					if res.Conflicts++; len(res.Examples) < maxConflicts {
						res.Examples = append(res.Examples, fmt.Sprintf("%s at %s", e.ls, time.UnixMilli(theirs.t).UTC().Format(time.RFC3339Nano)))
					}
				}
			}
			if own.err != nil {
				return own.err
			}
		}
	})
}

// inOrder refuses what would make the walk go wrong.
func inOrder(r model.SampleRange, which []bool, before entry, e *entry) error {
	if len(e.samples) == 0 {
		return fmt.Errorf("%w: series without samples", errRaw)
	}
	first, last := e.samples[0].t, e.samples[len(e.samples)-1].t
	if first < r.From || last >= r.To || !which[labels.StableHash(e.ls)%uint64(r.Shards)] {
		return fmt.Errorf("%w: samples outside what was asked for", errRaw)
	}
	if before.samples == nil {
		return nil
	}
	c := labels.Compare(before.ls, e.ls)
	if c > 0 || c == 0 && before.samples[len(before.samples)-1].t >= first {
		return fmt.Errorf("%w: not in order", errRaw)
	}
	return nil
}

// walker goes through the own series in order of labels and time.
type walker struct {
	set   storage.SeriesSet
	which []bool
	pace  *pace
	err   error

	open bool // ls and it are the present series
	done bool // no more series
	ls   labels.Labels
	it   chunkenc.Iterator
	typ  chunkenc.ValueType // of the sample at which it stands
}

// rest goes on to the first series that is not before to, nil for the end, and
// returns how many samples were passed.
func (w *walker) rest(to *labels.Labels) (passed int) {
	for w.err == nil {
		if !w.open {
			w.next()
		}
		if w.done || w.err != nil || to != nil && labels.Compare(w.ls, *to) >= 0 {
			return passed
		}
		for ; w.typ != chunkenc.ValNone && w.err == nil; w.advance() {
			passed++
		}
		w.open = false
	}
	return passed
}

func (w *walker) next() {
	for w.err == nil && !w.done {
		if !w.set.Next() {
			w.err, w.done = w.set.Err(), true
			return
		}
		w.ls = w.set.At().Labels()
		if w.err = w.pace.step(1); w.which[labels.StableHash(w.ls)%uint64(len(w.which))] {
			w.open = true
			w.it = w.set.At().Iterator(w.it)
			w.advance()
			return
		}
	}
}

func (w *walker) advance() {
	if w.typ = w.it.Next(); w.typ == chunkenc.ValNone {
		w.err = w.it.Err()
	}
	if w.err == nil {
		w.err = w.pace.step(1)
	}
}

// at returns the own sample of a series at t, and how many were passed.
func (w *walker) at(ls labels.Labels, t int64) (got sample, passed int, ok bool) {
	if !w.open || labels.Compare(w.ls, ls) != 0 {
		return got, 0, false
	}
	for w.err == nil && w.typ != chunkenc.ValNone && w.it.AtT() < t {
		passed++
		w.advance()
	}
	if w.err != nil || w.typ == chunkenc.ValNone || w.it.AtT() != t {
		return got, passed, false
	}
	got = readSample(w.typ, w.it)
	w.advance()
	return got, passed, true
}

func equal(a, b sample) bool {
	if a.ih == nil && a.fh == nil && b.ih == nil && b.fh == nil {
		return math.Float64bits(a.v) == math.Float64bits(b.v)
	}
	if (a.ih != nil || a.fh != nil) != (b.ih != nil || b.fh != nil) {
		return false
	}
	return hashHistogram(a.ih, a.fh) == hashHistogram(b.ih, b.fh)
}
