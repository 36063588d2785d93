package hosts

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// load reads the states that were kept.
func (h *Hosts) load() error {
	path := h.stateFile()
	if path == "" {
		return nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var list []*state
	if err := json.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, s := range list {
		if s != nil && s.ID != "" {
			h.states[s.ID] = s
		}
	}
	return nil
}

// save keeps the states, so that a start of all servers does not forget who was there.
func (h *Hosts) save() error {
	path := h.stateFile()
	if path == "" {
		return nil
	}
	h.mu.Lock()
	list := make([]*state, 0, len(h.states))
	for _, s := range h.states {
		list = append(list, s)
	}
	b, err := json.Marshal(list)
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(h.cfg.Dir, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}
