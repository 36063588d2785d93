package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// uploaded is the file that remembers which blocks are in the bucket, because
// the compactor of the bucket deletes those that it has merged.
type uploaded struct {
	Version int      `json:"version"`
	Blocks  []string `json:"uploaded"`
}

func loadUploaded(path string) (map[string]bool, error) {
	done := map[string]bool{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, err
	}
	var f uploaded
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("%s has version %d, this program reads 1", path, f.Version)
	}
	for _, id := range f.Blocks {
		done[id] = true
	}
	return done, nil
}

func saveUploaded(path string, done map[string]bool) error {
	data, err := json.Marshal(uploaded{Version: 1, Blocks: slices.Sorted(maps.Keys(done))})
	if err != nil {
		return err
	}
	if err := writeFile(path, data, 0o600); err != nil {
		return fmt.Errorf("remember what was uploaded: %w", err)
	}
	return nil
}

// writeFile replaces a file so that either the old or the new one is found.
func writeFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
