package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// inspectLogs reads both logs. The TSDB's own repair deletes every segment
// after a damaged record, or all of them when the checkpoint is damaged. Here
// only the damaged segment is cut, after a copy was set aside: records never
// cross segments, so the later ones can be replayed. With torn, a torn end is
// expected, and no copy is made.
func (s *Store) inspectLogs(torn bool) error {
	for _, name := range []string{"wal", wlog.WblDirName} {
		dir := filepath.Join(s.cfg.Dir, name)
		dirs := []string{dir}
		checkpoints, err := filepath.Glob(filepath.Join(dir, "checkpoint.*"))
		if err != nil {
			return err
		}
		for _, c := range checkpoints {
			if !strings.HasSuffix(c, ".tmp") {
				dirs = append(dirs, c)
			}
		}
		for _, d := range dirs {
			if err := s.inspectSegments(name, d, torn); err != nil {
				return fmt.Errorf("read %s: %w", name, err)
			}
		}
	}
	return nil
}

// inspectSegments reads the segments of one directory.
func (s *Store) inspectSegments(kind, dir string, torn bool) error {
	names, err := segmentNames(dir)
	if err != nil {
		return err
	}
	if err := s.fillGaps(kind, dir, names); err != nil {
		return err
	}
	found := make([]*segmentDamage, len(names))
	errs := make([]error, len(names))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, name := range names {
		slots <- struct{}{}
		wg.Go(func() {
			found[i], errs[i] = scanSegment(filepath.Join(dir, name))
			<-slots
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for i, d := range found {
		if d == nil {
			continue
		}
		expected := d.tail && lastWritten(dir, names[i+1:]) || torn && i >= len(names)-3
		if err := s.cutSegment(kind, filepath.Join(dir, names[i]), d, expected); err != nil {
			return err
		}
	}
	return nil
}

// fillGaps puts an empty segment where one is missing: the TSDB refuses to
// open a log whose numbers do not follow each other.
func (s *Store) fillGaps(kind, dir string, names []string) error {
	const most = 1000 // a larger gap is no lost file
	for i := 1; i < len(names); i++ {
		before, _ := strconv.Atoi(names[i-1])
		after, _ := strconv.Atoi(names[i])
		if after-before > most {
			return fmt.Errorf("segment %d of %s is followed by %d", before, filepath.Base(dir), after)
		}
		for n := before + 1; n < after; n++ {
			path := wlog.SegmentName(dir, n)
			if err := os.WriteFile(path, nil, 0o640); err != nil {
				return err
			}
			rel, err := filepath.Rel(s.cfg.Dir, path)
			if err != nil {
				return err
			}
			s.report(DamageReport{Kind: kind, Path: rel, Err: "the segment is missing"})
		}
	}
	return nil
}

func segmentNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil && e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// lastWritten reports whether the segments that follow are empty.
func lastWritten(dir string, following []string) bool {
	for _, n := range following {
		if fi, err := os.Stat(filepath.Join(dir, n)); err == nil && fi.Size() > 0 {
			return false
		}
	}
	return true
}

// segmentDamage is what is wrong with a segment.
type segmentDamage struct {
	err  error
	good int64 // bytes before the damaged record
	tail bool  // nothing or only zeros follow the record: a write that a crash cut off
	maxT int64 // time of the last sample before the damage, 0: none
}

// scanSegment reads a segment to its end; nil means that it is sound.
func scanSegment(path string) (*segmentDamage, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	src := &diskReader{r: bufio.NewReaderSize(f, 1<<20)}
	// A short last page counts as filled with zeros, as it does for the TSDB.
	pad := (pageSize - fi.Size()%pageSize) % pageSize
	r := wlog.NewReader(io.MultiReader(src, io.LimitReader(zeros{}, pad)))
	var good int64
	var last []byte
	dec := record.NewDecoder(labels.NewSymbolTable(), nil)
	for r.Next() {
		good = r.Offset()
		if t := dec.Type(r.Record()); t == record.Samples {
			last = append(last[:0], r.Record()...)
		}
	}
	if src.err != nil {
		return nil, src.err // the disk, not its content
	}
	if r.Err() == nil {
		return nil, nil
	}
	d := &segmentDamage{err: r.Err(), good: min(good, fi.Size())}
	if d.tail, err = onlyZeros(src.r); err != nil {
		return nil, err
	}
	if samples, err := dec.Samples(last, nil); len(last) > 0 && err == nil {
		for _, v := range samples {
			d.maxT = max(d.maxT, v.T)
		}
	}
	return d, nil
}

// onlyZeros reads to the end; a file that a power cut left may end in zeros.
func onlyZeros(r io.Reader) (bool, error) {
	buf := make([]byte, pageSize)
	for {
		n, err := r.Read(buf)
		for _, b := range buf[:n] {
			if b != 0 {
				return false, nil
			}
		}
		if err == io.EOF {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

const pageSize = 32 << 10 // of the log

// cutSegment removes the damaged end of a segment.
func (s *Store) cutSegment(kind, path string, d *segmentDamage, expected bool) error {
	rel, err := filepath.Rel(s.cfg.Dir, path)
	if err != nil {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	rep := DamageReport{Kind: kind, Path: rel, Err: d.err.Error(), MinTime: d.maxT, MaxTime: fi.ModTime().UnixMilli()}
	if !expected {
		if rep.Quarantined, err = s.quarantinePlace(kind + "-" + filepath.Base(path)); err != nil {
			return err
		}
		if err := copyFile(path, filepath.Join(s.cfg.Dir, rep.Quarantined)); err != nil {
			return fmt.Errorf("copy %s: %w", rel, err)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = errors.Join(f.Truncate(d.good), s.deps.Sync(f), f.Close())
	if err != nil {
		return fmt.Errorf("cut %s at %d: %w", rel, d.good, err)
	}
	if expected {
		s.log.Warn("unfinished record at the end of the log removed", "path", rel, "bytes", fi.Size()-d.good)
		return nil
	}
	s.report(rep)
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	if err = errors.Join(err, dst.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// diskReader keeps the disk's errors apart from those of the content.
type diskReader struct {
	r   io.Reader
	err error
}

func (c *diskReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// zeros reads as zeros without end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
