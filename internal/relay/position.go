package relay

import "fmt"

// position is a place in the log: the number of a segment in the upper bits,
// the offset in its file in the lower ones. Segment numbers are never used
// again, so a position means the same bytes for ever, or none.
type position uint64

const offsetBits = 36

func at(seg uint64, off int64) position { return position(seg<<offsetBits | uint64(off)) }

func (p position) segment() uint64 { return uint64(p) >> offsetBits }
func (p position) offset() int64   { return int64(p & (1<<offsetBits - 1)) }
func (p position) String() string  { return fmt.Sprintf("%d/%d", p.segment(), p.offset()) }
