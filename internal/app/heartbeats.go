package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/probe"
	"panoptes/internal/probe/push"
)

// heartbeats keeps the last ping of each push check in a file, so that a
// restart does not take everybody for silent. A ping is answered when it is safe.
type heartbeats struct {
	path     string
	receiver *push.Receiver

	pings atomic.Int64 // accepted so far

	mu   sync.Mutex // guards the file and the fields below
	safe int64      // pings that the file holds
	err  error      // of the last write

	merged atomic.Bool // something came from other servers that the file lacks

	earlyMu sync.Mutex                 // guards early
	early   map[string]probe.Heartbeat // from other servers before the checks were known; nil once they are
}

func newHeartbeats(path string) *heartbeats {
	return &heartbeats{path: path, receiver: push.NewReceiver(), early: map[string]probe.Heartbeat{}}
}

// Ping takes a ping and returns when it is on disk. The burst of a full minute
// shares a few writes: one serves all pings that came before it began.
func (h *heartbeats) Ping(token, status, msg string) error {
	if err := h.receiver.Ping(token, status, msg); err != nil {
		if errors.Is(err, model.ErrNotFound) && h.starting() {
			return fmt.Errorf("%w: the server is starting and does not know its checks yet; try again", model.ErrUnavailable)
		}
		return err
	}
	mine := h.pings.Add(1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.safe >= mine {
		return h.err
	}
	all := h.pings.Load()
	h.err = h.write()
	h.safe = all
	return h.err
}

// share has each ping told to the other servers, who pass it to merge.
func (h *heartbeats) share(broadcast func([]byte)) {
	h.receiver.OnPing(func(id string, p probe.Heartbeat) {
		if b, err := json.Marshal(map[string]probe.Heartbeat{id: p}); err == nil {
			broadcast(b)
		}
	})
}

// state returns the last pings for another server.
func (h *heartbeats) state() ([]byte, error) { return json.Marshal(h.receiver.Snapshot()) }

// merge takes pings that other servers accepted.
func (h *heartbeats) merge(b []byte) error {
	var last map[string]probe.Heartbeat
	if err := json.Unmarshal(b, &last); err != nil {
		return fmt.Errorf("read heartbeats of another server: %w", err)
	}
	h.earlyMu.Lock()
	if h.early != nil { // the receiver would not know what they are about
		now := time.Now()
		for id, p := range last {
			p = push.Heard(p, now)
			if held, ok := h.early[id]; ok && push.Newer(p, held) || !ok && len(h.early) < maxEarlyPings {
				h.early[id] = p
			}
		}
	}
	early := h.early != nil
	h.earlyMu.Unlock()
	if !early {
		for id, p := range last {
			h.receiver.Observe(id, p)
		}
	}
	h.merged.Store(true)
	return nil
}

// maxEarlyPings bounds what is kept for checks that are not known yet.
const maxEarlyPings = 100_000

// keepMergedEvery is the time between two writes of what other servers told.
const keepMergedEvery = 15 * time.Second

// Run keeps the pings that other servers accepted until ctx ends: they are safe
// there, and should that one be lost, here as well.
func (h *heartbeats) Run(ctx context.Context) error {
	t := time.NewTicker(keepMergedEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return h.keepMerged()
		case <-t.C:
			_ = h.keepMerged() // tried again
		}
	}
}

// starting reports whether the checks are not known yet.
func (h *heartbeats) starting() bool {
	h.earlyMu.Lock()
	defer h.earlyMu.Unlock()
	return h.early != nil
}

func (h *heartbeats) keepMerged() error {
	if h.starting() || !h.merged.Swap(false) {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.write(); err != nil {
		h.merged.Store(true)
	}
	return nil
}

// load takes over the pings from before, and those that other servers told of
// meanwhile; the receiver must know its checks.
func (h *heartbeats) load() error {
	defer func() {
		h.earlyMu.Lock()
		early := h.early
		h.early = nil
		h.earlyMu.Unlock()
		for id, p := range early {
			h.receiver.Restore(id, p)
		}
	}()
	data, err := os.ReadFile(h.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read heartbeats: %w", err)
	}
	var last map[string]probe.Heartbeat
	if err := json.Unmarshal(data, &last); err != nil {
		return fmt.Errorf("read heartbeats %s: %w", h.path, err)
	}
	for id, p := range last {
		h.receiver.Restore(id, p)
	}
	return nil
}

// write replaces the file atomically and durably.
func (h *heartbeats) write() error {
	data, err := json.Marshal(h.receiver.Snapshot())
	if err != nil {
		return fmt.Errorf("encode heartbeats: %w", err)
	}
	if err := writeFile(h.path, data); err != nil {
		if errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("%w: the heartbeat counts, but a restart would forget it", model.ErrNoSpace)
		}
		return fmt.Errorf("keep heartbeats: %w", err)
	}
	return nil
}

func writeFile(path string, data []byte) (err error) {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
