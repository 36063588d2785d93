package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"panoptes/internal/model"
)

const (
	repairKeep   = 100_000 // missing samples that are looked at a second time
	repairCommit = 5_000   // samples in one commit
)

// Repair compares r with what another store sent by ReadRaw and stores what is
// missing here. next answers io.EOF when all was received.
//
// What is missing may be under way. Therefore settle is called when the
// comparison is done, and only what is still missing after it is counted and
// stored; when very much is missing it does not matter. settle may be nil.
//
// Samples that are too old to be appended become a block. A sample of the same
// series and time with another value stays as it is on both sides and is counted
// as a conflict. r must lie within two hours.
func (s *Store) Repair(ctx context.Context, r model.SampleRange, next func() ([]byte, error), settle func(context.Context) error) (res model.SampleRepair, err error) {
	if r.To-r.From > blockRange {
		return res, model.Invalid{{Field: "to", Msg: "must be at most 2h after from"}}
	}
	f := &filler{s: s, ctx: ctx, res: &res}
	defer func() { err = errors.Join(err, f.close()) }()
	var kept []entry
	n := 0
	err = s.diff(ctx, r, decoding(next), &res, func(ls labels.Labels, v sample) error {
		if n++; n > repairKeep || settle == nil {
			return f.add(ls, v)
		}
		if len(kept) == 0 || labels.Compare(kept[len(kept)-1].ls, ls) != 0 {
			kept = append(kept, entry{ls: ls})
		}
		e := &kept[len(kept)-1]
		e.samples = append(e.samples, v)
		return nil
	})
	if err != nil {
		return res, err
	}
	if len(kept) > 0 {
		if err := f.commit(); err != nil { // nothing is left open while it waits
			return res, err
		}
		if err := settle(ctx); err != nil {
			return res, err
		}
		var again model.SampleRepair
		err = s.diff(ctx, r, func() (*entry, error) {
			if len(kept) == 0 {
				return nil, nil
			}
			e := &kept[0]
			kept = kept[1:]
			return e, nil
		}, &again, f.add)
		res.Conflicts += again.Conflicts
		if err != nil {
			return res, err
		}
	}
	return res, f.finish()
}

// filler stores samples that are missing.
type filler struct {
	s   *Store
	ctx context.Context
	res *model.SampleRepair

	app     storage.Appender // nil: none is begun
	pending int              // samples in app

	dir    string // of the block of old samples
	old    *tsdb.BlockWriter
	oldApp storage.Appender
	oldN   int
	oldAll int
}

func (f *filler) add(ls labels.Labels, v sample) error {
	f.res.Missing++
	if f.app == nil {
		f.app = f.s.Appender(f.ctx)
	}
	err := appendSample(f.app, ls, v)
	switch {
	case err == nil:
		if f.pending++; f.pending >= repairCommit {
			return f.commit()
		}
		return nil
	case errors.Is(err, storage.ErrTooOldSample), errors.Is(err, storage.ErrOutOfOrderSample),
		errors.Is(err, storage.ErrOutOfBounds) && !errors.Is(err, ErrTooFarInFuture):
		return f.addOld(ls, v)
	case errors.Is(err, model.ErrNoSpace), errors.Is(err, model.ErrUnavailable):
		return err
	}
	f.refused(ls, err)
	return nil
}

func (f *filler) refused(ls labels.Labels, err error) {
	if f.res.Refused++; f.res.FirstErr == "" {
		f.res.FirstErr = fmt.Sprintf("%s: %v", clip(ls.String()), err)
	}
}

func appendSample(app storage.Appender, ls labels.Labels, v sample) (err error) {
	switch {
	case v.ih != nil:
		_, err = app.AppendHistogram(0, ls, v.t, hinted(v.ih), nil)
	case v.fh != nil:
		h := *v.fh
		if h.CounterResetHint != histogram.GaugeType {
			h.CounterResetHint = histogram.UnknownCounterReset
		}
		_, err = app.AppendHistogram(0, ls, v.t, nil, &h)
	default:
		_, err = app.Append(0, ls, v.t, v.v)
	}
	return err
}

// hinted forgets what the neighbours of a histogram in another store were.
func hinted(h *histogram.Histogram) *histogram.Histogram {
	out := *h
	if out.CounterResetHint != histogram.GaugeType {
		out.CounterResetHint = histogram.UnknownCounterReset
	}
	return &out
}

// addOld puts a sample into a block of its own.
func (f *filler) addOld(ls labels.Labels, v sample) (err error) {
	if err := checkLabels(ls, f.s.cfg); err != nil {
		f.refused(ls, err)
		return nil
	}
	if f.old == nil {
		if f.dir, err = f.s.tempDir("repair-"); err != nil {
			return err
		}
		// The writer takes samples up to half its range older than the newest.
		if f.old, err = tsdb.NewBlockWriter(f.s.log, f.dir, 2*blockRange); err != nil {
			return fmt.Errorf("begin a block of old samples: %w", err)
		}
	}
	if f.oldApp == nil {
		f.oldApp = f.old.Appender(f.ctx)
	}
	if err := appendSample(f.oldApp, ls, v); err != nil {
		f.refused(ls, err)
		return nil
	}
	if f.oldN++; f.oldN < repairCommit {
		return nil
	}
	return f.commitOld()
}

func (f *filler) commit() error {
	if f.app == nil {
		return nil
	}
	app, n := f.app, f.pending
	f.app, f.pending = nil, 0
	if err := app.Commit(); err != nil {
		return err
	}
	f.res.Added += n
	return nil
}

func (f *filler) commitOld() error {
	if f.oldApp == nil {
		return nil
	}
	app := f.oldApp
	f.oldAll += f.oldN
	f.oldApp, f.oldN = nil, 0
	return app.Commit()
}

// finish makes what was added durable and visible.
func (f *filler) finish() error {
	if err := errors.Join(f.commit(), f.commitOld()); err != nil {
		return err
	}
	if f.oldAll == 0 {
		return nil
	}
	id, err := f.old.Flush(f.ctx)
	if err != nil {
		return fmt.Errorf("write a block of old samples: %w", err)
	}
	if _, err := f.s.Import(f.ctx, filepath.Join(f.dir, id.String()), model.Block{}); err != nil {
		return err
	}
	if err := f.s.Reload(f.ctx); err != nil {
		return err
	}
	f.res.Added += f.oldAll
	return nil
}

func (f *filler) close() (err error) {
	if f.app != nil {
		err = errors.Join(err, f.app.Rollback())
	}
	if f.oldApp != nil {
		err = errors.Join(err, f.oldApp.Rollback())
	}
	if f.old != nil {
		err = errors.Join(err, f.old.Close())
	}
	if f.dir != "" {
		err = errors.Join(err, os.RemoveAll(f.dir))
	}
	return err
}
