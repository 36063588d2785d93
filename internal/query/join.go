package query

import (
	"cmp"
	"errors"
	"slices"
	"sort"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/util/annotations"
)

// join puts an answer together from parts in the order of time.
type join struct {
	limit  int // points
	points int
	series promql.Matrix
	byHash map[uint64][]int
	notes  annotations.Annotations
}

func newJoin(limit int) *join {
	return &join{limit: limit, byHash: map[uint64][]int{}, notes: annotations.Annotations{}}
}

// add appends the points of m between two times. It fails as the engine does
// when there are too many in all.
func (j *join) add(m promql.Matrix, from, to int64) error {
	for i := range m {
		floats, histograms := between(m[i], from, to)
		if len(floats)+len(histograms) == 0 {
			continue
		}
		if j.points += len(floats) + len(histograms); j.points > j.limit {
			return promql.ErrTooManySamples("the answer of a range query")
		}
		s := j.find(m[i].Metric)
		s.Floats = append(s.Floats, floats...)
		s.Histograms = append(s.Histograms, histograms...)
	}
	return nil
}

func (j *join) find(ls labels.Labels) *promql.Series {
	h := ls.Hash()
	for _, i := range j.byHash[h] {
		if labels.Equal(j.series[i].Metric, ls) {
			return &j.series[i]
		}
	}
	j.byHash[h] = append(j.byHash[h], len(j.series))
	j.series = append(j.series, promql.Series{Metric: ls})
	return &j.series[len(j.series)-1]
}

// matrix is the answer, in the engine's order. The join must not be used after.
func (j *join) matrix() promql.Matrix {
	if j.series == nil {
		return promql.Matrix{}
	}
	sort.Sort(j.series)
	return j.series
}

// between are the points of a series between two times, both inclusive.
func between(s promql.Series, from, to int64) ([]promql.FPoint, []promql.HPoint) {
	a, _ := slices.BinarySearchFunc(s.Floats, from, func(p promql.FPoint, t int64) int { return cmp.Compare(p.T, t) })
	b, _ := slices.BinarySearchFunc(s.Floats, to+1, func(p promql.FPoint, t int64) int { return cmp.Compare(p.T, t) })
	c, _ := slices.BinarySearchFunc(s.Histograms, from, func(p promql.HPoint, t int64) int { return cmp.Compare(p.T, t) })
	d, _ := slices.BinarySearchFunc(s.Histograms, to+1, func(p promql.HPoint, t int64) int { return cmp.Compare(p.T, t) })
	return s.Floats[a:b], s.Histograms[c:d]
}

// cut copies the part of m between two times, as short as it is.
func cut(m promql.Matrix, from, to int64) promql.Matrix {
	out := promql.Matrix{}
	for i := range m {
		floats, histograms := between(m[i], from, to)
		if len(floats)+len(histograms) > 0 {
			out = append(out, promql.Series{Metric: m[i].Metric, Floats: slices.Clone(floats), Histograms: slices.Clone(histograms)})
		}
	}
	return slices.Clip(out)
}

// copied is m in memory of its own.
func copied(m promql.Matrix) promql.Matrix {
	out := make(promql.Matrix, len(m))
	for i := range m {
		out[i] = promql.Series{Metric: m[i].Metric, Floats: slices.Clone(m[i].Floats), Histograms: slices.Clone(m[i].Histograms)}
		for j := range out[i].Histograms {
			out[i].Histograms[j].H = out[i].Histograms[j].H.Copy()
		}
	}
	return out
}

// infosOnly reports whether nothing but remarks about the query itself is noted.
func infosOnly(notes annotations.Annotations) bool {
	for _, err := range notes {
		if !errors.Is(err, annotations.PromQLInfo) {
			return false
		}
	}
	return true
}
