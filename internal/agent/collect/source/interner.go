package source

// Interner keeps strings that come again in every round, so that a key read into
// a buffer becomes a string once. It is emptied when it grows beyond reason.
type Interner struct {
	m map[string]string
}

const maxInterned = 20000

// Get returns the string with the bytes of b.
func (n *Interner) Get(b []byte) string {
	if s, ok := n.m[string(b)]; ok {
		return s
	}
	return n.put(b, string(b))
}

// Name returns what build makes of b, remembered for the next time.
func (n *Interner) Name(b []byte, build func(string) string) string {
	if s, ok := n.m[string(b)]; ok {
		return s
	}
	return n.put(b, build(string(b)))
}

func (n *Interner) put(b []byte, s string) string {
	if n.m == nil || len(n.m) >= maxInterned {
		n.m = map[string]string{}
	}
	n.m[string(b)] = s
	return s
}
