// Package metric holds what a collector writes into: a batch of samples whose
// label sets are built once and found again by key in later rounds.
package metric

import (
	"context"
	"errors"
	"math"
	"sort"
	"strings"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
)

// ErrAbsent is returned by a collector whose subject does not exist on this
// host (no such hardware, kernel option or service). It is no fault: success
// is 0, as with node_exporter, and nothing is logged.
var ErrAbsent = errors.New("not present on this host")

// Collector reads one subject. Collect is never called twice at the same time
// on one collector, so a collector may keep buffers and state without locks.
// It adds what it could read even when it returns an error, and returns soon
// after ctx has ended wherever the system lets it.
type Collector interface {
	Name() string
	Collect(ctx context.Context, out *Batch) error
}

const (
	// MaxLabelValue is the longest label value in bytes; longer ones are cut.
	MaxLabelValue = 512
	// idleRounds is how many rounds an unused label set is kept.
	idleRounds = 20
)

type series struct {
	labels labels.Labels
	hash   uint64
	round  uint64 // the last round that used it
}

// Batch collects the samples of one collector over one round. Its label sets
// survive Reset. A Batch belongs to one goroutine at a time.
type Batch struct {
	limit   int
	round   uint64
	t       int64
	samples []model.Sample
	series  map[string]*series
	byHash  map[uint64]*series // two keys may clean to the same labels
	key     []byte
	scratch labels.ScratchBuilder
	built   uint64
	over    int
	twice   int
	pairs   []string
}

// NewBatch makes a batch that takes at most limit samples a round.
func NewBatch(limit int) *Batch {
	return &Batch{limit: limit, series: map[string]*series{}, byHash: map[uint64]*series{}, scratch: labels.NewScratchBuilder(8)}
}

// Reset begins a round at t (milliseconds since 1970). Samples handed out
// before are no longer valid.
func (b *Batch) Reset(t int64) {
	b.t = t
	b.round++
	b.samples = b.samples[:0]
	b.over, b.twice = 0, 0
	if b.round%idleRounds == 0 {
		for k, s := range b.series {
			if b.round-s.round > idleRounds {
				delete(b.series, k)
				delete(b.byHash, s.hash)
			}
		}
	}
}

// Add adds a sample: a metric name, a value, and names and values of labels in
// turn. Empty label values are left out, NaN is left out, and a series that was
// already added in this round is counted and left out.
func (b *Batch) Add(name string, v float64, kv ...string) {
	if math.IsNaN(v) {
		return
	}
	b.AddAny(name, v, kv...)
}

// AddAny is Add for values that may be NaN.
func (b *Batch) AddAny(name string, v float64, kv ...string) {
	if len(b.samples) >= b.limit {
		b.over++
		return
	}
	k := append(b.key[:0], name...)
	for _, s := range kv {
		k = append(k, 0xff)
		k = append(k, s...)
	}
	b.key = k
	s, ok := b.series[string(k)]
	if !ok {
		l := b.build(name, kv)
		h := l.Hash()
		if s = b.byHash[h]; s == nil {
			s = &series{labels: l, hash: h}
			b.byHash[h] = s
		}
		b.series[string(k)] = s
	}
	if s.round == b.round {
		b.twice++
		return
	}
	s.round = b.round
	b.samples = append(b.samples, model.Sample{Labels: s.labels, T: b.t, V: v})
}

// Bool adds 1 for true and 0 for false.
func (b *Batch) Bool(name string, v bool, kv ...string) {
	if v {
		b.Add(name, 1, kv...)
		return
	}
	b.Add(name, 0, kv...)
}

func (b *Batch) build(name string, kv []string) labels.Labels {
	b.built++
	b.scratch.Reset()
	b.scratch.Add(model.MetricName, name)
	b.pairs = b.pairs[:0]
	for i := 0; i+1 < len(kv); i += 2 {
		v := clean(kv[i+1])
		if v == "" || kv[i] == "" || b.has(kv[i]) {
			continue
		}
		b.pairs = append(b.pairs, kv[i])
		b.scratch.Add(strings.Clone(kv[i]), v)
	}
	b.scratch.Sort()
	return b.scratch.Labels()
}

func (b *Batch) has(name string) bool {
	for _, p := range b.pairs {
		if p == name {
			return true
		}
	}
	return false
}

// clean makes a label value of what the system said: valid UTF-8, bounded, its
// memory its own.
func clean(s string) string {
	s = strings.ToValidUTF8(s[:min(len(s), MaxLabelValue)], "")
	return strings.Clone(s)
}

// Samples returns what this round has so far; valid until Reset.
func (b *Batch) Samples() []model.Sample { return b.samples }

// Time returns the instant of the round in milliseconds since 1970.
func (b *Batch) Time() int64 { return b.t }

// Left says how many more samples fit into this round.
func (b *Batch) Left() int { return b.limit - len(b.samples) }

// Stats says how many samples of this round were left out because the limit
// was reached or because their series was there already, and how many label
// sets were built since NewBatch.
func (b *Batch) Stats() (over, twice int, built uint64) { return b.over, b.twice, b.built }

// ValidName says whether s may be a metric's or (without colons) a label's name.
func ValidName(s string, colons bool) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == ':' && colons:
		case c >= '0' && c <= '9' && i > 0:
		default:
			return false
		}
	}
	return true
}

// Sanitize makes a part of a metric's name of s: what is not a letter, a digit
// or an underscore becomes an underscore.
func Sanitize(s string) string {
	for i := range len(s) {
		if !nameByte(s[i]) {
			out := []byte(s)
			for j := i; j < len(out); j++ {
				if !nameByte(out[j]) {
					out[j] = '_'
				}
			}
			return string(out)
		}
	}
	return s
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
}

// SortedKeys returns the keys of m in order, so that a bound on series cuts
// the same ones in every round.
func SortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
