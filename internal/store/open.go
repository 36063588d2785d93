package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	cmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/alecthomas/units"

	"panoptes/internal/model"
)

// handle is one opening of the database.
type handle struct {
	db     *tsdb.DB
	gen    uint16
	reg    *registry
	wal    segments
	wbl    segments
	group  group
	first  *firstChunk
	order  sync.Mutex // held by commits: see write
	births births
	cuts   bool                  // the database cuts by itself; used by Run alone
	due    time.Time             // since when there is something to cut; used by Run alone
	cause  atomic.Pointer[error] // why nothing more may be written

	leaving context.Context // ends when the handle is to be closed
	leave   context.CancelFunc

	users   int           // guarded by Store.mu
	drained chan struct{} // guarded by Store.mu; closed when users is 0
}

// write commits, one commit after another. The database itself lets commits pass
// each other between its log and its memory. When two of them bring samples of
// one series, the log may then hold them in the other order, and a replay drops
// a sample that comes after a later one, or one that is said to be in a chunk
// that was full before it came.
func (h *handle) write(commit func() error) error {
	return h.first.commit(func() error {
		h.order.Lock()
		defer h.order.Unlock()
		return commit()
	})
}

// failed returns why the handle takes no more samples, nil when it does.
func (h *handle) failed() error {
	if p := h.cause.Load(); p != nil {
		return *p
	}
	return nil
}

type retention struct {
	time time.Duration
	size int64
}

// bytes is the retention by size as the TSDB wants it: it takes 0 for "as before".
func (r retention) bytes() int64 {
	if r.size <= 0 {
		return 1<<63 - 1
	}
	return r.size
}

// open checks the directory, sets damage aside, and opens the database.
func (s *Store) open() (h *handle, err error) {
	// A damaged index may make the TSDB panic, as do metrics that are
	// registered twice.
	defer func() {
		if p := recover(); p != nil {
			h, err = nil, fmt.Errorf("open %s: %v", s.cfg.Dir, p)
		}
	}()
	if err := os.MkdirAll(s.cfg.Dir, 0o750); err != nil {
		return nil, err
	}
	guard := &guard{cfg: s.cfg}
	var db *tsdb.DB
	var reg *registry
	first, err := newFirstChunk(s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	err = errors.Join(s.removeTemp(), removeSnapshots(s.cfg.Dir), s.inspect())
	if err == nil {
		if err = s.removeMarks(); full(err) { // they do harm only after a crash, and queries shall be answered
			s.log.Warn("log of late samples left as it is", "err", err)
			err = nil
		}
	}
	if err == nil {
		db, reg, err = s.openTSDB(guard)
	}
	if err != nil && !starved(err) && !full(err) {
		// What cannot be mended must not keep the blocks from being read.
		s.log.Error("time series database not opened, its log is set aside", "err", err)
		if err := s.setLogsAside(err); err != nil {
			return nil, err
		}
		db, reg, err = s.openTSDB(guard)
	}
	if err != nil {
		return nil, err
	}
	db.DisableCompactions() // until allowCuts
	guard.on.Store(true)
	s.loader.db.Store(db)
	s.mu.Lock()
	s.gen++
	if s.gen == 0 {
		s.gen = 1
	}
	h = &handle{db: db, gen: s.gen, reg: reg, first: first, births: births{db: db, open: map[*birth]struct{}{}}}
	h.leaving, h.leave = context.WithCancel(context.Background())
	s.mu.Unlock()
	h.wal = segments{dir: filepath.Join(s.cfg.Dir, "wal"), fsync: s.deps.Sync}
	h.wbl = segments{dir: filepath.Join(s.cfg.Dir, wlog.WblDirName), fsync: s.deps.Sync}
	h.group.sync = func() error { return s.syncHandle(h) }
	return h, nil
}

func (s *Store) openTSDB(guard *guard) (*tsdb.DB, *registry, error) {
	reg := &registry{next: s.deps.Registerer}
	opened := false
	defer func() { // also when it panics
		if !opened {
			reg.close()
		}
	}()
	s.mu.Lock()
	ret := s.retention
	s.mu.Unlock()
	db, err := tsdb.Open(s.cfg.Dir, s.log.With("part", "tsdb"), reg, s.options(ret, guard), s.stats)
	opened = err == nil
	return db, reg, err
}

func (s *Store) options(ret retention, guard *guard) *tsdb.Options {
	o := tsdb.DefaultOptions()
	o.WALSegmentSize = s.cfg.SegmentBytes
	o.NoLockfile = true
	o.RetentionDuration = ret.time.Milliseconds()
	o.MaxBytes = ret.bytes()
	o.MinBlockDuration = (2 * time.Hour).Milliseconds()
	o.MaxBlockDuration = max(o.MinBlockDuration, min(s.cfg.RetentionTime/10, 31*24*time.Hour).Milliseconds())
	o.WALCompression = compression.Snappy
	o.OutOfOrderTimeWindow = max(0, s.cfg.OutOfOrderWindow.Milliseconds())
	o.OutOfOrderCapMax = 32
	o.EnableExemplarStorage = true
	o.MaxExemplars = s.cfg.MaxExemplars
	// A snapshot of the memory at a stop would make the next start shorter. But
	// what is in chunks of files is then found by the numbers that series have in
	// the snapshot, and lost where the log had merged two numbers of a series, or
	// where a checkpoint names the series again.
	o.EnableMemorySnapshotOnShutdown = false
	o.WALReplayConcurrency = s.cfg.ReplayConcurrency
	o.SeriesLifecycleCallback = guard
	o.NewCompactorFunc = s.loader.newCompactor
	o.BlocksToDelete = s.loader.toDelete
	o.BlockCompactionExcludeFunc = func(m *tsdb.BlockMeta) bool {
		return s.loader.hold(m) || s.deps.HoldBlock != nil && s.deps.HoldBlock(m.ULID.String(), m.Compaction.Level)
	}
	return o
}

// closeHandle closes a database that nobody uses any more.
func (s *Store) closeHandle(h *handle) error {
	h.wal.close()
	h.wbl.close()
	s.loader.db.Store(nil)
	err := h.db.Close()
	h.reg.close()
	if h.failed() != nil {
		s.mu.Lock()
		s.tornTail = true
		s.mu.Unlock()
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", s.cfg.Dir, err)
	}
	return nil
}

// removeSnapshots removes the snapshots of the memory that earlier versions wrote.
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

// syncHandle makes durable what was committed. Any failure ends the handle:
// after a torn record nothing that follows would survive a replay.
func (s *Store) syncHandle(h *handle) error {
	if err := h.failed(); err != nil {
		return err
	}
	start := time.Now()
	err := errors.Join(h.wal.sync(), h.wbl.sync())
	if n := h.reg.failedWrites(); n > 0 {
		err = errors.Join(err, errors.New("the TSDB counted a failed write to its logs"))
	}
	if err != nil {
		return s.fail(h, err)
	}
	s.m.syncs.Inc()
	s.m.syncTime.Observe(time.Since(start).Seconds())
	if start.UnixNano()-s.spaceAt.Load() > int64(200*time.Millisecond) {
		s.checkSpace()
	}
	return nil
}

// full reports whether err says that the disk is full.
func full(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// fail ends the handle because of err and returns what appenders are told.
func (s *Store) fail(h *handle, err error) error {
	kind := model.ErrUnavailable
	if full(err) || !s.hasRoom() {
		kind = model.ErrNoSpace
	}
	cause := fmt.Errorf("write the log of the time series: %w (%w)", kind, err)
	if h.cause.CompareAndSwap(nil, &cause) {
		s.m.failures.Inc()
		s.log.Error("write to the log failed; the database will be opened again", "dir", s.cfg.Dir, "err", err)
		s.notify()
	}
	return h.failed()
}

// ApplyRetention changes how long and how much is kept, at once and for later
// openings. A size of 0 means no limit.
func (s *Store) ApplyRetention(d time.Duration, size int64) error {
	c := s.cfg
	c.RetentionTime, c.RetentionSize = d, size
	if err := c.Validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retention = retention{d, size}
	if s.h == nil {
		return nil
	}
	return s.h.db.ApplyConfig(&config.Config{StorageConfig: config.StorageConfig{
		ExemplarsConfig: &config.ExemplarsConfig{MaxExemplars: s.cfg.MaxExemplars},
		TSDBConfig: &config.TSDBConfig{
			OutOfOrderTimeWindow: max(0, s.cfg.OutOfOrderWindow.Milliseconds()),
			Retention: &config.TSDBRetentionConfig{
				Time: cmodel.Duration(d.Milliseconds()), // the TSDB reads it as milliseconds
				Size: units.Base2Bytes(s.retention.bytes()),
			},
		},
	}})
}
