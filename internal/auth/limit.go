package auth

import (
	"fmt"
	"sync"
	"time"

	"panoptes/internal/model"
)

// The limits of logging in: tries within limitWindow for one account from one
// address, for one address, and for one account.
const (
	limitWindow  = 10 * time.Minute
	limitPair    = 10
	limitAddress = 100
	limitAccount = 300
	limitEntries = 50_000
)

// LimitError says that there were too many tries, and when to try again. It is
// a model.ErrLimit.
type LimitError struct{ After time.Duration }

func (e *LimitError) Error() string {
	return fmt.Sprintf("too many attempts to log in; try again in %s", e.After.Round(time.Second))
}

// Unwrap makes it a model.ErrLimit.
func (e *LimitError) Unwrap() error { return model.ErrLimit }

// RetryAfter is what the header Retry-After says.
func (e *LimitError) RetryAfter() time.Duration { return e.After }

// limiter counts tries in fixed windows that begin with the first try.
type limiter struct {
	mu     sync.Mutex
	counts map[string]*window // guarded by mu
}

type window struct {
	ends time.Time
	n    int
}

func newLimiter() *limiter { return &limiter{counts: map[string]*window{}} }

// take notes a try before the password is looked at, so that many at once
// cannot slip through; the caller gives it back when the password was right.
func (l *limiter) take(account, address string, now time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.counts) > limitEntries {
		l.pruneLocked(now)
	}
	bounds := keysOf(account, address)
	for _, b := range bounds {
		if w := l.counts[b.key]; w != nil && now.Before(w.ends) && w.n >= b.max {
			return &LimitError{After: w.ends.Sub(now)}
		}
	}
	for _, b := range bounds {
		w := l.counts[b.key]
		if w == nil || !now.Before(w.ends) {
			w = &window{ends: now.Add(limitWindow)}
			l.counts[b.key] = w
		}
		w.n++
	}
	return nil
}

// giveBack forgets a try that was right, and with it those of the pair.
func (l *limiter) giveBack(account, address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range keysOf(account, address) {
		if w := l.counts[b.key]; w != nil {
			if w.n--; i == 0 || w.n <= 0 {
				delete(l.counts, b.key)
			}
		}
	}
}

type bound struct {
	key string
	max int
}

func keysOf(account, address string) []bound {
	account = clip(account, 128)
	return []bound{
		{"p\x00" + account + "\x00" + address, limitPair},
		{"a\x00" + address, limitAddress},
		{"u\x00" + account, limitAccount},
	}
}

func (l *limiter) prune(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pruneLocked(now)
}

// pruneLocked drops windows that are over; when strangers have filled the map
// with fresh ones, all go: a limit that is reset is better than a server
// without memory.
func (l *limiter) pruneLocked(now time.Time) {
	for k, w := range l.counts {
		if !now.Before(w.ends) {
			delete(l.counts, k)
		}
	}
	if len(l.counts) > limitEntries {
		clear(l.counts)
	}
}
