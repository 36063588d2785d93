package ingest

import (
	"net/http"

	"encoding/binary"
)

// The tags of io.prometheus.write.v2.Request that matter here.
const (
	tagSymbols   = 4<<3 | 2 // Request.symbols
	tagSeriesV2  = 5<<3 | 2 // Request.timeseries
	tagRefs      = 1<<3 | 2 // TimeSeries.labels_refs and Exemplar.labels_refs, packed
	tagExemplar2 = 4<<3 | 2 // TimeSeries.exemplars
)

// expand bounds what the references of a version 2 message may unfold to,
// relative to the largest message: a symbol is sent once and used at will.
const expand = 4

// checkV2 adds up how large the labels of a version 2 message become. Syntax is
// left to the decoder behind it.
func (g *Ingest) checkV2(b []byte) error {
	var sizes []int
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		if next < 0 {
			return nil
		}
		end, err := skip(b, next, tag)
		if err != nil {
			return nil
		}
		if tag == tagSymbols {
			s, _ := block(b, next)
			sizes = append(sizes, len(s))
		}
		i = end
	}
	left := expand * g.cfg.MaxDecoded
	for i := 0; i < len(b); {
		tag, next := uvarint(b, i)
		end, err := skip(b, next, tag)
		if err != nil {
			return nil
		}
		if tag == tagSeriesV2 {
			ts, _ := block(b, next)
			if left = spend(ts, sizes, left); left < 0 {
				return answer(http.StatusRequestEntityTooLarge, "expanded_size", "the labels unfold to more than %d bytes; send smaller requests", expand*g.cfg.MaxDecoded)
			}
		}
		i = end
	}
	return nil
}

// spend subtracts the sizes of what a series, or an exemplar in it, refers to.
func spend(b []byte, sizes []int, left int) int {
	for i := 0; i < len(b) && left >= 0; {
		tag, next := uvarint(b, i)
		if next < 0 {
			return left
		}
		end, err := skip(b, next, tag)
		if err != nil {
			return left
		}
		switch {
		case tag == tagRefs:
			refs, _ := block(b, next)
			for len(refs) > 0 && left >= 0 {
				ref, n := binary.Uvarint(refs)
				if n <= 0 {
					return left
				}
				left = charge(left, ref, sizes)
				refs = refs[n:]
			}
		case tag == 1<<3: // labels_refs that are not packed
			ref, _ := uvarint(b, next)
			left = charge(left, ref, sizes)
		case tag == tagExemplar2:
			x, _ := block(b, next)
			left = spend(x, sizes, left)
		}
		i = end
	}
	return left
}

func charge(left int, ref uint64, sizes []int) int {
	if ref < uint64(len(sizes)) {
		return left - sizes[ref]
	}
	return left
}
