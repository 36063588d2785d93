package store

import (
	"context"
	"errors"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
)

// young is a sample of a series that was not known to be in the log when the
// sample was appended. The TSDB keeps a series without samples for as long as an
// appender has one for it, but it is a single mark that keeps it: whoever logs
// the births of others, or takes his own sample of the series back, wipes it out
// for all. A cut of the memory may then forget the series, and the commit puts
// the sample where nobody finds it.
type young struct {
	ref    storage.SeriesRef // as the database knows it
	labels labels.Labels
	hash   uint64
	t      int64
	v      float64
	h      *histogram.Histogram
	fh     *histogram.FloatHistogram
}

// isYoung reports whether a series may be forgotten before the commit. It is asked
// for every sample.
func (a *appender) isYoung(ref storage.SeriesRef) bool { return uint64(ref) > a.h.births.logged.Load() }

// remember keeps a sample of a young series until the commit.
func (a *appender) remember(y young) {
	if y.labels.IsEmpty() { // its series could not be made again
		return
	}
	y.hash = y.labels.Hash()
	a.young = append(a.young, y)
}

// restore stores again what was committed into series that had been forgotten.
// It is called where no other commit can come between: the series that it makes
// need no birth.
func (a *appender) restore() error {
	if len(a.young) == 0 {
		return nil
	}
	g, ok := a.app.(storage.GetRef)
	if !ok {
		return nil
	}
	var app storage.Appender
	var met storage.SeriesRef // the newest series among them, which another may have made
	for i := range a.young {
		y := &a.young[i]
		if ref, _ := g.GetRef(y.labels, y.hash); ref == y.ref {
			continue
		}
		if app == nil {
			app = a.h.db.Appender(context.Background())
		}
		var ref storage.SeriesRef
		var err error
		if y.h != nil || y.fh != nil {
			ref, err = app.AppendHistogram(0, y.labels, y.t, y.h, y.fh)
		} else {
			ref, err = app.Append(0, y.labels, y.t, y.v)
		}
		// Only what is wrong with the sample by now is left out, as the commit
		// would have done.
		if reason, _ := classify(err); err != nil && reason == reasonOther && !errors.Is(err, storage.ErrDuplicateSampleForTimestamp) {
			return errors.Join(err, app.Rollback())
		}
		met = max(met, ref)
	}
	if app == nil {
		return nil
	}
	if err := a.h.births.log(&a.born, met); err != nil {
		return errors.Join(err, app.Rollback())
	}
	return app.Commit()
}
