package query

import (
	"context"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/timestamp"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"
	"github.com/prometheus/prometheus/util/stats"
)

// split is a range query whose answer is put together from parts: pieces that
// were kept, and runs of the engine of a day at most, so that no run needs
// memory for all of a long time. Times are in milliseconds.
type split struct {
	q       *Query
	whole   *measured // the same query at once
	storage storage.Queryable
	opts    promql.QueryOpts
	text    string
	start   int64
	end     int64 // the last step
	step    int64
	width   int64
	hash    [32]byte

	stats *stats.Statistics // nil when whole was used
}

// section is what one window needs of the answer.
type section struct {
	key      pieceKey
	from, to int64
	kept     *piece // holds the answer from from on; nil when nothing is known
	wide     uint64 // version of all that the piece and the run after it read
	wideOK   bool
	version  uint64 // version of what the run reads for this window
	ok       bool
}

// missing is the first step that is not known.
func (s *section) missing(step int64) int64 {
	if s.kept == nil {
		return s.from
	}
	return s.kept.to + step
}

// day is the longest that one run covers, if windows are no longer.
const day = int64(24 * time.Hour / time.Millisecond)

// Exec implements promql.Query.
func (s *split) Exec(ctx context.Context) *promql.Result {
	v := s.q.deps.Versions
	settled := v.Settled()
	if s.start > settled && s.end-s.start <= day || s.q.store.incompleteNow() {
		return s.whole.Exec(ctx)
	}
	s.stats = &stats.Statistics{Timers: stats.NewQueryTimers(), Samples: stats.NewQuerySamples(false)}
	timer, _ := s.stats.Timers.GetSpanTimer(ctx, stats.ExecTotalTime)
	defer timer.Finish()
	sections := s.sections()
	s.look(sections)
	out := newJoin(s.q.cfg.MaxSamples)
	for i := 0; i < len(sections); {
		sec := &sections[i]
		if p := sec.kept; p != nil {
			to := min(p.to, sec.to)
			steps := (to-sec.from)/s.step + 1
			s.q.cache.hits.Add(float64(steps))
			costOf(ctx).cached.Add(steps)
			if err := out.add(p.series, sec.from, to); err != nil {
				return &promql.Result{Err: err}
			}
			out.notes.Merge(p.infos)
			if p.to >= sec.to {
				i++
				continue
			}
		}
		n := s.together(sections[i:])
		if res := s.run(ctx, sections[i:i+n], settled, out); res != nil {
			return res
		}
		i += n
	}
	return &promql.Result{Value: out.matrix(), Warnings: out.notes}
}

// sections divides the query by windows.
func (s *split) sections() []section {
	var out []section
	for t := s.start; t <= s.end; {
		w := floor(t, s.width)
		last := min(s.end, t+(w+s.width-1-t)/s.step*s.step)
		out = append(out, section{key: pieceKey{s.hash, w}, from: t, to: last})
		t = last + s.step
	}
	return out
}

// look finds the pieces that still hold.
func (s *split) look(sections []section) {
	for i := range sections {
		sec := &sections[i]
		p := s.q.cache.get(sec.key)
		if p == nil || p.from > sec.from || p.to < sec.from {
			continue
		}
		if v, ok := s.q.deps.Versions.Version(p.mint, p.to); !ok || v != p.version {
			s.q.cache.drop(sec.key, p)
			continue
		}
		sec.kept = p
	}
}

// together is the number of sections that one run covers: of which nothing is
// known, but for the begin of the first.
func (s *split) together(sections []section) int {
	n, begin := 1, sections[0].missing(s.step)
	for n < len(sections) && sections[n].kept == nil && sections[n].to-begin < max(day, s.width) {
		n++
	}
	return n
}

// run computes what is missing of sections, adds it to out and keeps what may
// be kept. It returns a result only when the query ends with it.
func (s *split) run(ctx context.Context, sections []section, settled int64, out *join) *promql.Result {
	from, to := sections[0].missing(s.step), sections[len(sections)-1].to
	r := &recorder{Queryable: s.storage, s: s, sections: sections, from: from, to: to, settled: settled}
	qry, err := s.q.engine.NewRangeQuery(ctx, r, s.opts, s.text, timestamp.Time(from), timestamp.Time(to), time.Duration(s.step)*time.Millisecond)
	if err != nil {
		return &promql.Result{Err: err}
	}
	defer qry.Close()
	res := qry.Exec(ctx)
	costOf(ctx).add(qry.Stats())
	if st := qry.Stats(); st != nil && st.Samples != nil {
		s.stats.Samples.TotalSamples += st.Samples.TotalSamples
		s.stats.Samples.PeakSamples = max(s.stats.Samples.PeakSamples, st.Samples.PeakSamples)
	}
	s.q.cache.misses.Add(float64(max(0, (min(to, settled)-from)/s.step+1)))
	m, err := res.Matrix()
	if err != nil {
		return &promql.Result{Err: err, Warnings: res.Warnings}
	}
	m = copied(m) // the engine takes its memory back
	if err := out.add(m, from, to); err != nil {
		return &promql.Result{Err: err}
	}
	out.notes.Merge(res.Warnings)
	if r.opened && infosOnly(res.Warnings) && !s.q.store.incompleteNow() {
		for i := range sections {
			s.keep(&sections[i], m, res.Warnings, r.reach, settled)
		}
	}
	return nil
}

// lastSettled is the last step of a section that may be kept; it lies before
// the first missing one when there is none.
func (s *split) lastSettled(sec *section, settled int64) int64 {
	begin := sec.missing(s.step)
	return min(sec.to, begin+floor(settled-begin, s.step))
}

// keep puts a window's part of m into the cache, behind what it held.
func (s *split) keep(sec *section, m promql.Matrix, infos annotations.Annotations, reach, settled int64) {
	begin := sec.missing(s.step)
	to := s.lastSettled(sec, settled)
	if to < begin {
		return
	}
	p := &piece{from: begin, to: to, mint: begin - reach, version: sec.version, series: cut(m, begin, to), infos: infos}
	if old := sec.kept; old != nil && sec.wideOK {
		// The old piece must have held when the version of both was taken.
		if v, ok := s.q.deps.Versions.Version(old.mint, old.to); ok && v == old.version {
			j := newJoin(s.q.cfg.MaxSamples)
			if j.add(old.series, old.from, old.to) != nil || j.add(p.series, begin, to) != nil {
				return
			}
			j.notes.Merge(old.infos)
			j.notes.Merge(infos)
			s.q.cache.put(sec.key, &piece{from: old.from, to: to, mint: old.mint, version: sec.wide, series: j.matrix(), infos: j.notes})
			return
		}
	}
	if sec.ok {
		s.q.cache.put(sec.key, p)
	}
}

// Statement implements promql.Query.
func (s *split) Statement() parser.Statement { return s.whole.Statement() }

// Close implements promql.Query.
func (s *split) Close() { s.whole.Close() }

// Cancel implements promql.Query. The parts end with the context of Exec.
func (s *split) Cancel() { s.whole.Cancel() }

// String implements promql.Query.
func (s *split) String() string { return s.text }

// Stats implements promql.Query.
func (s *split) Stats() *stats.Statistics {
	if s.stats != nil {
		return s.stats
	}
	return s.whole.Stats()
}

// recorder takes the versions of what a run is about to read, and learns from
// the engine how far back that reaches.
type recorder struct {
	storage.Queryable
	s        *split
	sections []section
	from, to int64
	settled  int64

	opened bool  // exactly one querier was opened, and nothing younger than its steps is read
	reach  int64 // how much older than a step the oldest sample is that counts for it
}

// Querier implements storage.Queryable.
func (r *recorder) Querier(mint, maxt int64) (storage.Querier, error) {
	r.reach = r.from - mint
	r.opened = !r.opened && r.reach >= 0 && maxt <= r.to
	for i := range r.sections {
		sec := &r.sections[i]
		to := r.s.lastSettled(sec, r.settled)
		versions := r.s.q.deps.Versions
		sec.version, sec.ok = versions.Version(sec.missing(r.s.step)-r.reach, to)
		if sec.kept != nil {
			sec.wide, sec.wideOK = versions.Version(sec.kept.mint, to)
		}
	}
	q, err := r.Queryable.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return inOrder{q}, nil
}

// inOrder selects series in the order of their labels, so that what depends on
// it (ties of topk, rounding of sums) is the same in all parts.
type inOrder struct{ storage.Querier }

// Select implements storage.Querier.
func (q inOrder) Select(ctx context.Context, _ bool, hints *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	return q.Querier.Select(ctx, true, hints, ms...)
}
