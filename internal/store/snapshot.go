package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// removeStaleSnapshots removes the snapshot of the memory that a stop has written
// when a checkpoint of the log is younger: the database was started since, cut its
// memory, and ended otherwise. With both of them the TSDB takes each series of the
// checkpoint for one that comes a second time and forgets which chunks in files
// are its; samples that came late and stood in those would be gone, since their
// own log is read only from there on.
func removeStaleSnapshots(dir string) error {
	_, from, _, err := tsdb.LastChunkSnapshot(dir)
	if errors.Is(err, record.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a snapshot of the memory: %w", err)
	}
	_, upTo, err := wlog.LastCheckpoint(filepath.Join(dir, "wal"))
	if errors.Is(err, record.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a checkpoint of the log: %w", err)
	}
	if upTo < from {
		return nil
	}
	return removeSnapshots(dir)
}

func removeSnapshots(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "chunk_snapshot.*"))
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := os.RemoveAll(n); err != nil {
			return err
		}
	}
	return nil
}
