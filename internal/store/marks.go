package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
)

// removeMarks takes the marks of chunks out of the log of late samples. The TSDB
// marks there that the samples of a series so far are in a chunk of a file, and a
// replay forgets them at the mark when any later chunk is in a file. But the mark
// is on the disk with the commit, and the chunk waits in memory for its file: after
// a crash, or two, it may have been in none. The log has everything that is in no
// block yet, so that the samples are read from it; those that are in chunks as
// well are stored twice until the next block.
func (s *Store) removeMarks() error {
	dir := filepath.Join(s.cfg.Dir, wlog.WblDirName)
	left, err := filepath.Glob(filepath.Join(dir, marksTemp)) // by an earlier process
	if err != nil {
		return err
	}
	for _, d := range left {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
	}
	names, err := segmentNames(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := s.unmark(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("remove the marks of chunks from segment %s of the log of late samples: %w", name, err)
		}
	}
	return nil
}

// marksTemp is where segments are written anew: beside the old ones, since the log
// may be a file system of its own.
const marksTemp = "marks-*.tmp"

// unmark writes a segment anew when it has marks.
func (s *Store) unmark(path string) (err error) {
	marked := errors.New("it has marks")
	err = records(path, func(t record.Type, _ []byte) error {
		if t == record.MmapMarkers {
			return marked
		}
		return nil
	})
	if !errors.Is(err, marked) {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), marksTemp)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	size := 2 * (int(fi.Size())/pageSize + 1) * pageSize // one segment, however its records pack
	w, err := wlog.NewSize(s.log, nil, tmp, size, compression.Snappy)
	if err != nil {
		return err
	}
	err = records(path, func(t record.Type, rec []byte) error {
		if t == record.MmapMarkers {
			return nil
		}
		return w.Log(rec)
	})
	made := wlog.SegmentName(tmp, 0)
	if closed := w.Close(); closed != nil {
		// It stays open, with its room on the disk, while it cannot write its last page.
		err = errors.Join(err, closed, os.Truncate(made, 0), w.Close())
	}
	if err != nil {
		return err
	}
	f, err := os.OpenFile(made, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(s.deps.Sync(f), f.Close(), os.Rename(made, path)); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// records calls f for each record of a segment until it is damaged or f fails.
func records(path string, f func(record.Type, []byte) error) error {
	seg, err := wlog.OpenReadSegment(path)
	if err != nil {
		return err
	}
	src := wlog.NewSegmentBufReader(seg)
	defer src.Close()
	r := wlog.NewReader(src)
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	for r.Next() {
		if err := f(dec.Type(r.Record()), r.Record()); err != nil {
			return err
		}
	}
	var corrupt *wlog.CorruptionErr
	if err := r.Err(); err != nil && !errors.As(err, &corrupt) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	return nil // what is damaged has been cut before
}
