package cluster

import (
	"encoding/binary"
	"time"
)

// A beat is what members tell each other several times a second: that they are
// there, what they have heard of the others, and what time it is. The gossip
// library looks for the dead as well, but it tells nobody whom it suspects, asks
// one member after the other, and so needs longer the more of them are silent.
//
// It travels encrypted as a message of the library; who has the key is believed.
type beat struct {
	id      string
	addr    string // host:port it advertises: tells a namesake from the member
	seq     uint64 // rises from a start that depends on the time, so that a restart does not repeat it
	wall    int64  // ns since 1970 at the sender
	leaving bool   // the last one, sent on purpose
	stream  bool   // came over TCP: its way says nothing about UDP

	echo       uint64        // seq of the receiver's newest beat; 0 for none
	echoStream bool          // which had come over TCP
	held       time.Duration // how long ago that was
	heard      []hearsay
}

// hearsay is what the sender of a beat has itself heard of a third member.
type hearsay struct {
	id   string
	age  time.Duration // since its last beat
	left bool
}

const (
	beatLeaving    = 1
	beatStream     = 2
	beatEchoStream = 4

	maxHearsay   = 255
	maxBeatBytes = 1100 // leaves room for the encryption in one packet
	noAge        = 1<<32 - 1
)

// The kinds of messages among members, their first byte.
const (
	kindBeat byte = 1 + iota
	kindNews
)

func (b beat) encode() []byte {
	out := make([]byte, 0, 256)
	var flags byte
	if b.leaving {
		flags |= beatLeaving
	}
	if b.stream {
		flags |= beatStream
	}
	if b.echoStream {
		flags |= beatEchoStream
	}
	out = append(out, kindBeat, flags)
	out = putString(out, b.id)
	out = putString(out, b.addr)
	out = binary.BigEndian.AppendUint64(out, b.seq)
	out = binary.BigEndian.AppendUint64(out, uint64(b.wall))
	out = binary.BigEndian.AppendUint64(out, b.echo)
	out = binary.BigEndian.AppendUint32(out, uint32(min(b.held.Microseconds(), noAge)))
	count := len(out)
	out = append(out, 0)
	for _, h := range b.heard[:min(len(b.heard), maxHearsay)] {
		if len(out)+len(h.id)+6 > maxBeatBytes {
			break
		}
		out = putString(out, h.id)
		out = binary.BigEndian.AppendUint32(out, uint32(min(max(0, h.age.Milliseconds()), noAge)))
		var f byte
		if h.left {
			f = beatLeaving
		}
		out = append(out, f)
		out[count]++
	}
	return out
}

// decodeBeat reads what encode wrote; the kind has been read.
func decodeBeat(msg []byte) (beat, error) {
	r := reader{b: msg}
	flags := r.byte()
	b := beat{
		leaving: flags&beatLeaving != 0, stream: flags&beatStream != 0, echoStream: flags&beatEchoStream != 0,
		id: r.string(maxIDBytes), addr: r.string(maxAddrBytes), seq: r.uint64(), wall: int64(r.uint64()), echo: r.uint64(),
		held: time.Duration(r.uint32()) * time.Microsecond,
	}
	for n := r.byte(); n > 0 && r.ok(); n-- {
		h := hearsay{id: r.string(maxIDBytes), age: time.Duration(r.uint32()) * time.Millisecond}
		h.left = r.byte()&beatLeaving != 0
		b.heard = append(b.heard, h)
	}
	if !r.ok() || b.id == "" || b.seq == 0 {
		return beat{}, errDamaged
	}
	return b, nil
}

// sentBeats remembers when the newest beats were sent, on the monotonic clock.
type sentBeats struct {
	last uint64
	at   [64]time.Time // of seq, at seq mod 64
}

func (s *sentBeats) next(now time.Time) uint64 {
	s.last++
	s.at[s.last%uint64(len(s.at))] = now
	return s.last
}

// when returns when seq was sent, false when that was not done or is long ago.
func (s *sentBeats) when(seq uint64) (time.Time, bool) {
	if seq > s.last || s.last-seq >= uint64(len(s.at)) {
		return time.Time{}, false
	}
	t := s.at[seq%uint64(len(s.at))]
	return t, !t.IsZero()
}

// offsets keeps the newest measurements of how far another clock is ahead. The
// one with the shortest round trip is the most exact.
type offsets struct {
	n    int
	ring [8]struct{ ahead, rtt time.Duration }
}

func (o *offsets) add(ahead, rtt time.Duration) {
	o.ring[o.n%len(o.ring)] = struct{ ahead, rtt time.Duration }{ahead, rtt}
	o.n++
}

func (o *offsets) best() (ahead, rtt time.Duration, ok bool) {
	for i := range min(o.n, len(o.ring)) {
		if e := o.ring[i]; !ok || e.rtt < rtt {
			ahead, rtt, ok = e.ahead, e.rtt, true
		}
	}
	return ahead, rtt, ok
}
