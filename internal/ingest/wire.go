package ingest

import (
	"encoding/binary"
	"errors"
	"math"
)

// The tags of prometheus.WriteRequest and what is in it: field number and wire type.
const (
	tagTimeSeries = 1<<3 | 2 // WriteRequest.timeseries
	tagMetadata   = 3<<3 | 2 // WriteRequest.metadata
	tagLabel      = 1<<3 | 2 // TimeSeries.labels
	tagSample     = 2<<3 | 2 // TimeSeries.samples
	tagExemplar   = 3<<3 | 2 // TimeSeries.exemplars
	tagHistogram  = 4<<3 | 2 // TimeSeries.histograms
	tagName       = 1<<3 | 2 // Label.name
	tagText       = 2<<3 | 2 // Label.value
	tagValue      = 1<<3 | 1 // Sample.value
	tagTimestamp  = 2 << 3   // Sample.timestamp
)

var (
	errTruncated = errors.New("the message ends in the middle of a field")
	errWireType  = errors.New("a field has a wire type that does not belong there")
)

// uvarint reads a varint at b[i]. A next of -1 means that there is none.
func uvarint(b []byte, i int) (v uint64, next int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	if i >= len(b) {
		return 0, -1
	}
	v, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// block reads a length and that many bytes at b[i].
func block(b []byte, i int) (content []byte, next int) {
	n, j := uvarint(b, i)
	if j < 0 || n > uint64(len(b)-j) {
		return nil, -1
	}
	return b[j : j+int(n)], j + int(n)
}

// skip passes over the content of a field with this tag.
func skip(b []byte, i int, tag uint64) (next int, err error) {
	if tag>>3 == 0 {
		return 0, errWireType
	}
	switch tag & 7 {
	case 0:
		_, i = uvarint(b, i)
	case 1:
		i += 8
	case 2:
		_, i = block(b, i)
	case 5:
		i += 4
	default:
		return 0, errWireType
	}
	if i < 0 || i > len(b) {
		return 0, errTruncated
	}
	return i, nil
}

// unknown passes over a field that is not one of the message's own, whose
// numbers end at last: those must have their proper wire type.
func unknown(b []byte, i int, tag uint64, last uint64) (next int, err error) {
	if tag>>3 <= last {
		return 0, errWireType
	}
	return skip(b, i, tag)
}

// splitLabels cuts a TimeSeries behind its leading labels. Encoders write all
// labels first; where one does not, rest holds more of them.
func splitLabels(ts []byte) (labels, rest []byte, err error) {
	i := 0
	for i < len(ts) && ts[i] == tagLabel {
		if _, i = block(ts, i+1); i < 0 {
			return nil, nil, errTruncated
		}
	}
	return ts[:i], ts[i:], nil
}

// decodeSample reads one Sample. What is absent is zero, what comes twice counts last.
func decodeSample(b []byte) (t int64, v float64, err error) {
	for i := 0; i < len(b); {
		switch b[i] {
		case tagValue:
			if len(b)-i < 9 {
				return 0, 0, errTruncated
			}
			v = math.Float64frombits(binary.LittleEndian.Uint64(b[i+1:]))
			i += 9
		case tagTimestamp:
			u, next := uvarint(b, i+1)
			if next < 0 {
				return 0, 0, errTruncated
			}
			t, i = int64(u), next
		default:
			tag, next := uvarint(b, i)
			if next < 0 {
				return 0, 0, errTruncated
			}
			if i, err = unknown(b, next, tag, 2); err != nil {
				return 0, 0, err
			}
		}
	}
	return t, v, nil
}

// decodeLabel reads one Label; name and value are parts of b and end at nameTo
// and valueTo.
func decodeLabel(b []byte) (nameTo int, name []byte, valueTo int, value []byte, err error) {
	for i := 0; i < len(b); {
		switch b[i] {
		case tagName:
			name, i = block(b, i+1)
			nameTo = i
		case tagText:
			value, i = block(b, i+1)
			valueTo = i
		default:
			tag, next := uvarint(b, i)
			if next < 0 {
				return 0, nil, 0, nil, errTruncated
			}
			if i, err = unknown(b, next, tag, 2); err != nil {
				return 0, nil, 0, nil, err
			}
		}
		if i < 0 {
			return 0, nil, 0, nil, errTruncated
		}
	}
	return nameTo, name, valueTo, value, nil
}

// oneSample says that there is a sample and nothing behind it, as a rule.
func oneSample(rest []byte) bool {
	return len(rest) > 1 && rest[0] == tagSample && rest[1] < 0x80 && int(rest[1])+2 == len(rest)
}

// onlyData walks what follows the labels: true when there are no more labels.
func onlyData(rest []byte) (bool, error) {
	whole := true
	for i := 0; i < len(rest); {
		tag, next := uvarint(rest, i)
		if next < 0 {
			return false, errTruncated
		}
		whole = whole && tag != tagLabel
		var err error
		if i, err = skip(rest, next, tag); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// gatherLabels copies the labels of a well-formed series that are scattered
// over it.
func gatherLabels(ts []byte) []byte {
	var out []byte
	for i := 0; i < len(ts); {
		tag, next := uvarint(ts, i)
		end, err := skip(ts, next, tag)
		if err != nil {
			return out
		}
		if tag == tagLabel {
			out = append(append(out, tagLabel), ts[next:end]...)
		}
		i = end
	}
	return out
}
