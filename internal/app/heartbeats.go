package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

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
}

func newHeartbeats(path string) *heartbeats {
	return &heartbeats{path: path, receiver: push.NewReceiver()}
}

// Ping takes a ping and returns when it is on disk. The burst of a full minute
// shares a few writes: one serves all pings that came before it began.
func (h *heartbeats) Ping(token, status, msg string) error {
	if err := h.receiver.Ping(token, status, msg); err != nil {
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
	for id, p := range last {
		h.receiver.Observe(id, p)
	}
	return nil
}

// load takes over the pings from before; the receiver must know its checks.
func (h *heartbeats) load() error {
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
		h.receiver.Observe(id, p)
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
