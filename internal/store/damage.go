package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/wlog"
)

// The kinds of damage.
const (
	DamageBlock    = "block"    // a block that cannot be read; it was set aside
	DamageChunk    = "chunk"    // a block whose samples are damaged in part; it is still in use
	DamageWAL      = "wal"      // the log of recent samples was cut at a damaged record
	DamageWBL      = "wbl"      // the log of samples that came late was cut at a damaged record
	DamageDatabase = "database" // the log could not be replayed; it was set aside
)

// DamageReport says what was found damaged, and which samples another server
// should be asked for.
type DamageReport struct {
	Kind        string    `json:"kind"`
	Found       time.Time `json:"found"`
	Path        string    `json:"path"`                  // below the database's directory
	Quarantined string    `json:"quarantined,omitempty"` // where the damaged file or directory is now, as Path
	Err         string    `json:"error"`
	MinTime     int64     `json:"min_time"` // of the samples that may be missing, ms; 0: not known
	MaxTime     int64     `json:"max_time"` // ms; 0: not known
}

const quarantineName = "quarantine"

// Damage lists what was found since the start, the oldest first.
func (s *Store) Damage() []DamageReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damage)
}

func (s *Store) report(r DamageReport) {
	r.Found = time.Now()
	s.m.damaged.WithLabelValues(r.Kind).Inc()
	s.log.Error("damage found", "kind", r.Kind, "path", r.Path, "quarantined", r.Quarantined, "err", r.Err)
	s.mu.Lock()
	s.damage = append(s.damage, r)
	s.mu.Unlock()
	if r.Quarantined == "" {
		return
	}
	// The report stays beside what was set aside. Losing it loses no sample.
	if b, err := json.MarshalIndent(r, "", "  "); err == nil {
		if err := os.WriteFile(filepath.Join(s.cfg.Dir, r.Quarantined+".json"), append(b, '\n'), 0o600); err != nil {
			s.log.Warn("damage report not written", "err", err)
		}
	}
}

// inspect looks at a closed database and sets aside what would keep it from
// being opened, or make opening it lose more than is damaged.
func (s *Store) inspect() error {
	if err := s.inspectBlocks(); err != nil {
		return err
	}
	s.mu.Lock()
	torn := s.tornTail
	s.tornTail = false
	s.mu.Unlock()
	return s.inspectLogs(torn)
}

// quarantine moves path, relative to the database, aside and returns its new place.
func (s *Store) quarantine(path string) (string, error) {
	to, err := s.quarantinePlace(path)
	if err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(s.cfg.Dir, path), filepath.Join(s.cfg.Dir, to)); err != nil {
		return "", err
	}
	return to, nil
}

// quarantinePlace makes a name for what is set aside.
func (s *Store) quarantinePlace(path string) (string, error) {
	if err := os.MkdirAll(filepath.Join(s.cfg.Dir, quarantineName), 0o750); err != nil {
		return "", err
	}
	return filepath.Join(quarantineName, fmt.Sprintf("%s-%d", filepath.Base(path), time.Now().UnixNano())), nil
}

// setLogsAside moves everything but the blocks aside because of cause.
func (s *Store) setLogsAside(cause error) error {
	for _, name := range []string{"wal", wlog.WblDirName, "chunks_head"} {
		to, err := s.quarantine(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("set %s aside: %w", name, err)
		}
		s.report(DamageReport{Kind: DamageDatabase, Path: name, Quarantined: to, Err: cause.Error()})
	}
	return nil
}

// inspectBlocks opens every block once.
func (s *Store) inspectBlocks() error {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	bad := make(map[ulid.ULID]error)
	replaced := make(map[ulid.ULID]bool)
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		meta, err := openBlock(filepath.Join(s.cfg.Dir, e.Name()))
		if starved(err) {
			return fmt.Errorf("open block %s: %w", id, err)
		}
		if err != nil {
			bad[id] = err
			continue
		}
		for _, p := range meta.Compaction.Parents {
			replaced[p.ULID] = true
		}
	}
	for id, cause := range bad {
		if replaced[id] {
			continue // a sound block holds its samples; the TSDB deletes it
		}
		r := DamageReport{Kind: DamageBlock, Path: id.String(), Err: cause.Error()}
		r.MinTime, r.MaxTime = blockTimes(filepath.Join(s.cfg.Dir, id.String()))
		if r.Quarantined, err = s.quarantine(id.String()); err != nil {
			return fmt.Errorf("set block %s aside: %w", id, err)
		}
		s.report(r)
	}
	return nil
}

// openBlock reads the parts of a block that opening the database reads.
func openBlock(dir string) (meta tsdb.BlockMeta, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("read: %v", p)
		}
	}()
	b, err := tsdb.OpenBlock(nil, dir, nil, nil)
	if err != nil {
		return tsdb.BlockMeta{}, err
	}
	return b.Meta(), b.Close()
}

// starved reports whether err says something about this process or the disk,
// not about what a file contains. Trying again later may help.
func starved(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EACCES, syscall.EPERM, syscall.EROFS, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// blockTimes reads the times of a block whose other parts may be damaged.
func blockTimes(dir string) (mint, maxt int64) {
	var m struct{ MinTime, MaxTime int64 }
	b, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err != nil || json.Unmarshal(b, &m) != nil {
		return 0, 0
	}
	return m.MinTime, m.MaxTime
}
