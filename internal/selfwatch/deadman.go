package selfwatch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// callTimeout is how long the dead man's switch may take to answer.
const callTimeout = 10 * time.Second

// deadMan is the state of the dead man's switch.
type deadMan struct {
	changed chan struct{} // size 1

	mu      sync.Mutex // guards the rest
	on      bool
	success time.Time
	err     error // of the last call; nil when it was answered
	silent  error // why it is not called
}

// runDeadMan calls the address outside as long as this server is well.
func (w *Watch) runDeadMan(ctx context.Context) {
	for {
		set := w.Settings().DeadMan
		on := set.URL != "" && w.deps.HTTP != nil
		w.deadMan.mu.Lock()
		w.deadMan.on = on
		w.deadMan.mu.Unlock()
		var next <-chan time.Time
		if on {
			pause := set.interval()
			if !w.callDeadMan(ctx, set) {
				pause = time.Second // there was no look yet
			}
			next = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-w.deadMan.changed:
		case <-next:
		}
	}
}

// callDeadMan returns false when nothing is known of this server yet.
func (w *Watch) callDeadMan(ctx context.Context, set DeadMan) bool {
	w.mu.Lock()
	unwell, looked := w.unwell, w.looked
	w.mu.Unlock()
	if looked.IsZero() {
		return false
	}
	if age := time.Since(looked); age > 4*w.cfg.Interval {
		unwell = fmt.Errorf("this server has not looked at itself for %s", age.Round(time.Second))
	}
	var err error
	if unwell == nil {
		err = w.get(ctx, strings.ReplaceAll(set.URL, "{server}", url.PathEscape(w.cfg.Name)))
	}
	if ctx.Err() != nil {
		return true
	}
	d := &w.deadMan
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent = unwell
	switch {
	case unwell != nil:
		w.log.Warn("the dead man's switch is not called", "err", unwell)
	case err != nil:
		if d.err == nil {
			w.log.Warn("the dead man's switch does not answer", "err", err)
		}
		w.metrics.deadManFailed.Inc()
		d.err = err
	default:
		d.err, d.success = nil, time.Now()
	}
	return true
}

func (w *Watch) get(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("its address cannot be called")
	}
	req.Header.Set("User-Agent", "Panoptes")
	resp, err := w.deps.HTTP.Do(req)
	if err != nil {
		// The address is a secret of sorts: it stays out of logs and pages.
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("it answered with status %d", resp.StatusCode)
	}
	return nil
}
