// Package run starts and stops the parts of a process in tiers.
package run

import (
	"context"
	"errors"
	"sync"
)

// Runner is the one lifecycle verb. Run returns nil on a clean stop, an error
// when it cannot go on, and only after every goroutine it began has ended.
type Runner interface {
	Run(ctx context.Context) error
}

// Func makes a Runner of a function.
type Func func(ctx context.Context) error

// Run calls f.
func (f Func) Run(ctx context.Context) error { return f(ctx) }

// Tiers starts the tiers top to bottom and stops them bottom to top, one tier
// at a time. The first runner that returns, cleanly or not, stops all others;
// the errors of all are joined. A nil Runner is skipped.
func Tiers(ctx context.Context, tiers [][]Runner) error {
	first := make(chan struct{})
	var once sync.Once
	var mu sync.Mutex
	var errs []error

	type tier struct {
		cancel context.CancelFunc
		wg     *sync.WaitGroup
	}
	started := make([]tier, 0, len(tiers))
	for _, runners := range tiers {
		// A tier outlives ctx until its turn to stop has come.
		tctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		wg := &sync.WaitGroup{}
		for _, r := range runners {
			if r == nil {
				continue
			}
			wg.Go(func() {
				err := r.Run(tctx)
				if err != nil && !(errors.Is(err, context.Canceled) && tctx.Err() != nil) {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
				once.Do(func() { close(first) })
			})
		}
		started = append(started, tier{cancel, wg})
	}
	select {
	case <-ctx.Done():
	case <-first:
	}
	for i := len(started) - 1; i >= 0; i-- {
		started[i].cancel()
		started[i].wg.Wait()
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(errs...)
}
