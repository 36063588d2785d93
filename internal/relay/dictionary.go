package relay

import (
	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/wire"
)

// dictionary gives the series of the open segment their numbers.
type dictionary struct {
	pages   map[uint64]*page
	last    *page
	lastKey uint64
	labels  map[string]uint32 // of series without a reference
	next    uint32
	buf     []byte
}

type page [1024]uint32 // the number plus one; 0: none

func (d *dictionary) reset() {
	clear(d.pages)
	clear(d.labels)
	d.last, d.next = nil, 0
}

// number returns the number of a series, which is described in f at first sight.
func (s *stager) number(ref uint64, ls labels.Labels) (id uint32, f *wire.Frame) {
	d := &s.j.dict
	if ref == 0 {
		return s.numberByLabels(ls)
	}
	p := d.last
	if key := ref >> 10; p == nil || d.lastKey != key {
		p = d.pages[key]
		if p == nil {
			p = &page{}
			d.pages[key] = p
		}
		d.last, d.lastKey = p, key
	}
	if id := p[ref&1023]; id != 0 {
		return id - 1, s.frame(0)
	}
	d.next++
	p[ref&1023] = d.next
	return d.next - 1, s.describe(ls)
}

func (s *stager) numberByLabels(ls labels.Labels) (uint32, *wire.Frame) {
	d := &s.j.dict
	d.buf = ls.Bytes(d.buf)
	if id, ok := d.labels[string(d.buf)]; ok {
		return id, s.frame(0)
	}
	d.next++
	d.labels[string(d.buf)] = d.next - 1
	return d.next - 1, s.describe(ls)
}

func (s *stager) describe(ls labels.Labels) *wire.Frame {
	f := s.frame(int(ls.ByteSize()))
	f.Series = append(f.Series, ls.WithoutEmpty())
	return f
}
