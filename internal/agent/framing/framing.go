// Package framing turns samples with labels into frames with a dictionary: a
// series is described where it first occurs and is a number from then on.
package framing

import (
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/model"
	"panoptes/internal/wire"
)

// What one dictionary has before it is to begin anew: those series that are gone
// would be remembered for ever otherwise, and receivers take four times the text.
const (
	maxSeries = 20_000
	maxText   = 8 << 20 // bytes of labels
)

// Encoder is one dictionary. It belongs to one goroutine.
type Encoder struct {
	wire   *wire.Encoder
	ids    map[uint64]uint32
	series []labels.Labels // by number, to tell equal hashes apart
	text   uint64          // bytes of the labels of series
	frame  wire.Frame
}

// New begins a dictionary.
func New() (*Encoder, error) {
	w, err := wire.NewEncoder()
	if err != nil {
		return nil, err
	}
	return &Encoder{wire: w, ids: map[uint64]uint32{}}, nil
}

// Restart begins another dictionary: the receiver must begin anew with the next frame.
func (e *Encoder) Restart() {
	e.wire.Reset()
	clear(e.ids)
	clear(e.series)
	e.series, e.text = e.series[:0], 0
}

// Full reports whether it is time to restart the dictionary.
func (e *Encoder) Full() bool { return len(e.series) > maxSeries || e.text > maxText }

// Append appends a frame of the samples and events to dst. After an error the
// dictionary is to be restarted.
func (e *Encoder) Append(dst []byte, samples []model.Sample, events []model.Event) ([]byte, error) {
	f := &e.frame
	f.Reset()
	for i := range samples {
		s := &samples[i]
		f.IDs = append(f.IDs, e.number(s.Labels))
		f.Times = append(f.Times, s.T)
		f.Values = append(f.Values, s.V)
	}
	f.Events = append(f.Events, events...)
	out, err := e.wire.Encode(dst, f)
	f.Reset()
	return out, err
}

func (e *Encoder) number(ls labels.Labels) uint32 {
	h := ls.Hash()
	for {
		id, ok := e.ids[h]
		if !ok {
			break
		}
		if labels.Equal(e.series[id], ls) {
			return id
		}
		h++ // another series has this hash
	}
	id := uint32(len(e.series))
	e.ids[h] = id
	e.series = append(e.series, ls)
	e.text += ls.ByteSize()
	e.frame.Series = append(e.frame.Series, ls)
	return id
}
