package cluster

// Cut drops what this member sends to addresses for which f is true; nil lets
// everything through. Network is "udp" or "tcp".
func (c *Cluster) Cut(f func(network, to string) bool) {
	if f == nil {
		c.transport.blocked.Store(nil)
		return
	}
	c.transport.blocked.Store(&f)
}

// Crash ends the member's network without a word, as a kill does.
func (c *Cluster) Crash() { _ = c.transport.Shutdown() }

// Suspect and death, for tests that make messages by hand.
var (
	EncodeMeta = encodeMeta
	DecodeMeta = decodeMeta
)

// FuzzMessage gives c what the library would hand over.
func (c *Cluster) FuzzMessage(msg, state []byte) {
	(*delegate)(c).NotifyMsg(msg)
	(*delegate)(c).MergeRemoteState(state, false)
	for len(c.news.in) > 0 {
		b := <-c.news.in
		r := reader{b: b}
		if part := r.string(maxPartName); r.ok() {
			c.merge(part, r.b)
		}
	}
}

// ABeat is a beat as it travels.
func ABeat(id, addr string, seq uint64, heard ...string) []byte {
	b := beat{id: id, addr: addr, seq: seq}
	for _, h := range heard {
		b.heard = append(b.heard, hearsay{id: h})
	}
	return b.encode()
}
