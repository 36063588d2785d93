package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"panoptes/internal/model"
)

// Blocks lists the blocks, the oldest first, without their files. A block that
// was found damaged in part is marked.
func (s *Store) Blocks() ([]model.Block, error) {
	damaged := s.damagedBlocks()
	var out []model.Block
	err := s.with(func(db *tsdb.DB) error {
		for _, b := range db.Blocks() {
			m := describe(b.Meta(), b.Size())
			m.Damaged = damaged[m.ID]
			out = append(out, m)
		}
		return nil
	})
	return out, err
}

func describe(m tsdb.BlockMeta, size int64) model.Block {
	b := model.Block{
		ID: m.ULID.String(), MinTime: m.MinTime, MaxTime: m.MaxTime, Bytes: size, Level: m.Compaction.Level,
		Series: m.Stats.NumSeries, Samples: m.Stats.NumSamples, Chunks: m.Stats.NumChunks,
	}
	for _, id := range m.Compaction.Sources {
		b.Sources = append(b.Sources, id.String())
	}
	return b
}

// CountBlocks adds up what the blocks in a directory, which need not be a
// store's, say of themselves.
func CountBlocks(dir string) (blocks, samples int64, err error) {
	metas, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	if err != nil {
		return 0, 0, fmt.Errorf("list the blocks in %s: %w", dir, err)
	}
	for _, path := range metas {
		data, err := os.ReadFile(path)
		if err != nil {
			return 0, 0, fmt.Errorf("read a block: %w", err)
		}
		var m tsdb.BlockMeta
		if err := json.Unmarshal(data, &m); err != nil {
			return 0, 0, fmt.Errorf("read %s: %w", path, err)
		}
		blocks++
		samples += int64(m.Stats.NumSamples)
	}
	return blocks, samples, nil
}

func (s *Store) damagedBlocks() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]bool)
	for _, r := range s.damage {
		if r.Kind == DamageChunk {
			out[r.Path] = true
		}
	}
	return out
}

// OpenBlock opens the files of a block for copying. They stay readable when the
// block is deleted meanwhile. The caller closes the block. The error is
// model.ErrNotFound when there is no such block (any more).
func (s *Store) OpenBlock(id string) (model.Block, error) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return model.Block{}, fmt.Errorf("open block %q: %w", clip(id), model.ErrNotFound)
	}
	var b *tsdb.Block
	err = s.with(func(db *tsdb.DB) error {
		for _, v := range db.Blocks() {
			if v.Meta().ULID == u {
				b = v
				return nil
			}
		}
		return model.ErrNotFound
	})
	if err != nil {
		return model.Block{}, fmt.Errorf("open block %s: %w", id, err)
	}
	out := describe(b.Meta(), 0)
	return out, openFiles(filepath.Join(s.cfg.Dir, id), &out)
}

// openFiles opens the files below dir: the index and the chunks, then what
// people deleted, and at last the description.
func openFiles(dir string, b *model.Block) error {
	names := []string{"index"}
	entries, err := os.ReadDir(filepath.Join(dir, "chunks"))
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, "chunks/"+e.Name())
		}
	}
	names = append(names, "tombstones", "meta.json")
	b.Bytes, b.Files = 0, nil
	for _, name := range names {
		var f *os.File
		if err == nil {
			f, err = os.Open(filepath.Join(dir, filepath.FromSlash(name)))
		}
		if errors.Is(err, fs.ErrNotExist) && name == "tombstones" {
			err = nil
			continue
		}
		var fi fs.FileInfo
		if err == nil {
			fi, err = f.Stat()
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("%w: it was deleted", model.ErrNotFound)
			}
			return errors.Join(fmt.Errorf("open block %s: %w", b.ID, err), b.Close())
		}
		b.Files = append(b.Files, model.BlockFile{Name: name, Size: fi.Size(), R: f})
		b.Bytes += fi.Size()
	}
	return nil
}

// BlockFileName reports whether name may be a file of a block: nothing else is
// written below a block's directory on behalf of others.
func BlockFileName(name string) bool {
	switch name {
	case "index", "tombstones", "meta.json":
		return true
	}
	n, ok := strings.CutPrefix(name, "chunks/")
	if !ok || len(n) != 6 {
		return false
	}
	return strings.Trim(n, "0123456789") == ""
}

// Free returns how many bytes may still be written before samples are refused.
func (s *Store) Free() (int64, error) {
	free, err := s.deps.Free(s.cfg.Dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", s.cfg.Dir, err)
	}
	return int64(min(free, 1<<62)) - max(s.cfg.MinFreeBytes, 0), nil
}

// Horizon returns the time, in milliseconds, before which blocks are deleted.
func (s *Store) Horizon() int64 {
	metas, err := s.BlockMetas()
	s.mu.Lock()
	keep := s.retention.time.Milliseconds()
	s.mu.Unlock()
	if err != nil || len(metas) == 0 {
		return nowMilli() - keep
	}
	newest := metas[0].MaxTime
	for _, m := range metas {
		newest = max(newest, m.MaxTime)
	}
	return max(newest, nowMilli()) - keep
}
