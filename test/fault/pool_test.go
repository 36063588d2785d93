//go:build fault && linux

package fault

import (
	"context"
	"time"
)

// pool is how a writer that knows all servers behaves: it prefers its own and
// goes to the next when that does not take what it sends.
type pool struct {
	c       *cluster
	home    int
	timeout time.Duration
	clients map[*node]*client
	failed  map[*node]time.Time
}

func newPool(c *cluster, home int, timeout time.Duration) *pool {
	return &pool{c: c, home: home, timeout: timeout, clients: map[*node]*client{}, failed: map[*node]time.Time{}}
}

// resting is how long a server that failed is not the first choice.
const resting = 3 * time.Second

// until tries the servers in turn until one accepts, one refuses for good, or
// ctx ends.
func (p *pool) until(ctx context.Context, try func(*node, *client) (done bool, refused string)) (ok bool, refused string) {
	for round := 0; ; round++ {
		nodes := p.c.members()
		for i := range nodes {
			n := nodes[(p.home+i)%len(nodes)]
			if round == 0 && i < len(nodes)-1 && time.Since(p.failed[n]) < resting {
				continue
			}
			cl := p.clients[n]
			if cl == nil {
				cl = newClient(n.url, p.timeout)
				p.clients[n] = cl
			}
			done, refused := try(n, cl)
			if done {
				delete(p.failed, n)
				return true, ""
			}
			if refused != "" {
				return false, refused
			}
			p.failed[n] = time.Now()
			if ctx.Err() != nil {
				return false, ""
			}
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return false, ""
		}
	}
}
