package wire

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"panoptes/internal/model"
)

// Frame is what one message of a session of samples carries, in columns. A
// series is described once in a session, in Series; from then on its number
// stands for it: the first one described has 0.
type Frame struct {
	Series []labels.Labels // not described before in this session

	IDs    []uint32 // of the samples; as long as Times and Values
	Times  []int64  // milliseconds since 1970
	Values []float64

	Histograms []FrameHistogram
	Exemplars  []FrameExemplar
	Metadata   []FrameMetadata
	Events     []model.Event
}

// FrameHistogram is a native histogram; one of H and FH is set.
type FrameHistogram struct {
	ID uint32
	T  int64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

// FrameExemplar is an exemplar of a series.
type FrameExemplar struct {
	ID       uint32
	Exemplar exemplar.Exemplar
}

// FrameMetadata is what is known about the metric of a series.
type FrameMetadata struct {
	ID       uint32
	Metadata metadata.Metadata
}

// Reset empties the frame and keeps its memory.
func (f *Frame) Reset() {
	clear(f.Series)
	clear(f.Histograms)
	clear(f.Exemplars)
	clear(f.Metadata)
	clear(f.Events)
	f.Series = f.Series[:0]
	f.IDs, f.Times, f.Values = f.IDs[:0], f.Times[:0], f.Values[:0]
	f.Histograms, f.Exemplars, f.Metadata, f.Events = f.Histograms[:0], f.Exemplars[:0], f.Metadata[:0], f.Events[:0]
}

// Empty reports whether the frame carries nothing.
func (f *Frame) Empty() bool {
	return len(f.Series)+len(f.IDs)+len(f.Histograms)+len(f.Exemplars)+len(f.Metadata)+len(f.Events) == 0
}

// Samples counts samples and histograms.
func (f *Frame) Samples() int { return len(f.IDs) + len(f.Histograms) }

// Span returns the earliest and the latest time of the samples; ok is false
// when there are none.
func (f *Frame) Span() (from, to int64, ok bool) {
	for _, t := range f.Times {
		if !ok {
			from, to, ok = t, t, true
		}
		from, to = min(from, t), max(to, t)
	}
	for i := range f.Histograms {
		t := f.Histograms[i].T
		if !ok {
			from, to, ok = t, t, true
		}
		from, to = min(from, t), max(to, t)
	}
	return from, to, ok
}

// Limits bound what a decoder takes. The zero value of a field means its
// default, which is what agents are given.
type Limits struct {
	MaxFrame   int // bytes of a frame as it travels; default 1 MiB
	MaxDecoded int // bytes of it once it is decompressed; default 8 MiB
	MaxSamples int // samples of one frame; default 65,536
	MaxSeries  int // series of one session; default 100,000
	MaxLabels  int // labels of one series or exemplar; default 128
	MaxText    int // bytes of the labels of all series of one session; default 32 MiB
	MaxEvents  int // events of one frame, as of exemplars and descriptions of metrics; default 4,096
}

// ServerLimits returns the limits of sessions between servers, which carry
// what many sources sent.
func ServerLimits() Limits {
	return Limits{MaxFrame: 16 << 20, MaxDecoded: 64 << 20, MaxSamples: 1 << 20, MaxSeries: 1 << 26, MaxLabels: 1024, MaxText: 1 << 36, MaxEvents: 1 << 20}
}

func (l Limits) withDefaults() Limits {
	orDefault(&l.MaxFrame, 1<<20)
	orDefault(&l.MaxDecoded, 8<<20)
	orDefault(&l.MaxSamples, 1<<16)
	orDefault(&l.MaxSeries, 100_000)
	orDefault(&l.MaxLabels, 128)
	orDefault(&l.MaxText, 32<<20)
	orDefault(&l.MaxEvents, 4096)
	return l
}

// ErrFrame says that a frame is damaged, or was not made by an encoder of ours.
// The session cannot go on.
var ErrFrame = errors.New("damaged frame")

func frameError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFrame, fmt.Sprintf(format, args...))
}

// A frame is one byte of flags and the sections, each a kind, its length and
// its content. When flagZstd is set, the length of the sections and the
// sections compressed follow the flags.
const (
	flagVersion = 0x10 // of the format, in the upper half of the flags
	flagZstd    = 0x01

	sectionSeries     = 1
	sectionSamples    = 2
	sectionHistograms = 3
	sectionExemplars  = 4
	sectionMetadata   = 5
	sectionEvents     = 6

	compressFrom = 200 // bytes; below, zstd's own headers eat what it saves
)

func orDefault(v *int, def int) {
	if *v == 0 {
		*v = def
	}
}
