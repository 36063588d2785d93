package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"panoptes/internal/probe"
	"panoptes/internal/probe/push"
)

// heartbeats keeps the last ping of each push check in a file, so that a
// restart does not take everybody for silent.
type heartbeats struct {
	path     string
	receiver *push.Receiver
	dirty    chan struct{} // of size one
	log      *slog.Logger
}

func newHeartbeats(path string, log *slog.Logger) *heartbeats {
	h := &heartbeats{path: path, dirty: make(chan struct{}, 1), log: log}
	h.receiver = push.NewReceiver()
	h.receiver.OnPing(func(string, probe.Heartbeat) {
		select {
		case h.dirty <- struct{}{}:
		default:
		}
	})
	return h
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

// heartbeatDelay gathers the bursts of full minutes into one write.
const heartbeatDelay = 200 * time.Millisecond

// Run writes the file after pings until ctx ends.
func (h *heartbeats) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			select {
			case <-h.dirty:
				return h.write()
			default:
				return nil
			}
		case <-h.dirty:
		}
		select {
		case <-time.After(heartbeatDelay):
		case <-ctx.Done():
		}
		if err := h.write(); err != nil {
			h.log.Warn("heartbeats not kept, a restart would forget the newest", "err", err)
		}
	}
}

// write replaces the file atomically and durably.
func (h *heartbeats) write() error {
	data, err := json.Marshal(h.receiver.Snapshot())
	if err != nil {
		return fmt.Errorf("encode heartbeats: %w", err)
	}
	return writeFile(h.path, data)
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
