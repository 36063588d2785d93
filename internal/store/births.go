package store

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
)

// births are the series that appenders have made and that are not in the log
// yet. Left to itself the TSDB logs a series with the commit of the appender that
// met it first, while others see it at once: when one of those commits before,
// the log holds samples of a series that it does not know yet, and a replay
// drops them. Here each commit first has those series logged that it met.
//
// An appender makes its series by a second one, whose rollback logs the series
// and nothing else. That rollback takes from the series what keeps the TSDB from
// forgetting one without samples; see young for what is done about it. A series
// that the TSDB has forgotten while somebody kept its reference is made and
// logged by the appender itself.
type births struct {
	db     *tsdb.DB
	logged atomic.Uint64 // every series up to this reference is in the log

	mu   sync.Mutex // guards what follows, and all births
	open map[*birth]struct{}
	last storage.SeriesRef // that was made
}

// birth is what one appender has made. The zero value is nothing.
type birth struct {
	bore  bool              // of the appender alone: it has made something
	app   storage.Appender  // nil: all is in the log
	after storage.SeriesRef // what was made before
}

// bear returns the reference of a series, which it makes for x when there is
// none, and whether it has made it. The sample is only looked at, it is not stored.
func (b *births) bear(x *birth, l labels.Labels, t int64, v float64) (ref storage.SeriesRef, made bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	x.bore = true
	if x.app == nil {
		x.app, x.after = b.db.Appender(context.Background()), b.last
		b.open[x] = struct{}{}
	}
	ref, err = x.app.Append(0, l, t, v)
	made = ref > b.last
	b.last = max(b.last, ref)
	return ref, made, err
}

// log returns when all that x has made and all series up to met are in the log.
func (b *births) log(x *birth, met storage.SeriesRef) error {
	if !x.bore && uint64(met) <= b.logged.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = max(b.last, met) // nobody has made it since the opening: it is older
	first := b.last
	for y := range b.open {
		if y != x && y.after >= met {
			first = min(first, y.after)
			continue
		}
		delete(b.open, y)
		err := y.app.Rollback()
		y.app = nil
		if err != nil {
			return err
		}
	}
	b.logged.Store(uint64(first))
	return nil
}
