package query

import (
	"context"
	"fmt"
	"sync"

	"panoptes/internal/model"
)

// gate lets a bounded number of requests of each user through at once; a
// bounded number waits its turn, in order.
type gate struct {
	limit   int
	waiting int

	mu    sync.Mutex // guards users
	users map[string]*turnstile
}

type turnstile struct {
	slots chan struct{}
	inUse int // requests inside or waiting
}

func newGate(limit, waiting int) *gate {
	return &gate{limit: limit, waiting: waiting, users: map[string]*turnstile{}}
}

// enter waits for a slot of user. The returned function gives it back.
func (g *gate) enter(ctx context.Context, user string) (leave func(), err error) {
	g.mu.Lock()
	t := g.users[user]
	if t == nil {
		t = &turnstile{slots: make(chan struct{}, g.limit)}
		g.users[user] = t
	}
	if t.inUse >= g.limit+g.waiting {
		g.mu.Unlock()
		return nil, fmt.Errorf("%w: %d queries of this user are running and %d wait; try again later", model.ErrLimit, g.limit, g.waiting)
	}
	t.inUse++
	g.mu.Unlock()
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots; g.release(user, t) }, nil
	case <-ctx.Done():
		g.release(user, t)
		return nil, ctx.Err()
	}
}

func (g *gate) release(user string, t *turnstile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.inUse--; t.inUse == 0 {
		delete(g.users, user)
	}
}
