package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"panoptes/internal/model"
)

// PublicKeyName is the file of a server with the public half of its recovery key.
const PublicKeyName = "recovery.pub"

// Live is a running server.
type Live struct {
	DataDir string
	Info    Info // without counts and revision

	Control func(ctx context.Context, w io.Writer) (revision int64, err error)
	Samples func(dir string) error // links or writes blocks of all samples into dir
	Events  func(ctx context.Context, path string) (events int64, err error)
	// State writes what only the memory has, by the path of its file.
	State map[string]func() ([]byte, error)
	// Count tells what is in a directory of blocks; nil: nobody counts.
	Count func(dir string) (Counts, error)

	Bucket     Bucket
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// copied from the directory as they are: each is replaced at once, never
// changes, or is a journal whose torn end is left out when it is read.
func copied() []string {
	return []string{"catalog.json", "heartbeats.json", "seal.key", "pki", "alert", "hosts", "push", "rules", "sd"}
}

// Maker makes backups of a running server, one at a time.
type Maker struct {
	l       Live
	log     *slog.Logger
	working sync.Mutex
	last    prometheus.Gauge
	failed  prometheus.Counter
}

// NewMaker checks that nothing is missing. It starts nothing.
func NewMaker(l Live) (*Maker, error) {
	if l.DataDir == "" || l.Control == nil || l.Samples == nil || l.Events == nil || l.Bucket == nil {
		return nil, errors.New("backups need a directory, a bucket, a configuration store, samples and events")
	}
	if l.Logger == nil {
		l.Logger = slog.New(slog.DiscardHandler)
	}
	f := promauto.With(l.Registerer)
	return &Maker{l: l, log: l.Logger,
		last:   f.NewGauge(prometheus.GaugeOpts{Name: "panoptes_backup_last_success_timestamp_seconds", Help: "When the newest backup of this server was made."}),
		failed: f.NewCounter(prometheus.CounterOpts{Name: "panoptes_backup_failures_total", Help: "Backups that were not made."}),
	}, nil
}

// KeyKnown reports whether somebody has been shown the recovery key.
func (m *Maker) KeyKnown() bool {
	_, err := os.Stat(filepath.Join(m.l.DataDir, PublicKeyName))
	return err == nil
}

// Make makes a backup. The first one of a server also returns its recovery key,
// which is kept nowhere: show it. Its ctx must end when there is nobody left whom
// to show it. While another one is being made the answer is model.ErrConflict.
func (m *Maker) Make(ctx context.Context) (out Created, shown model.Secret, err error) {
	if !m.working.TryLock() {
		return out, "", fmt.Errorf("%w: a backup is being made already", model.ErrConflict)
	}
	defer m.working.Unlock()
	defer func() {
		if err != nil {
			m.failed.Inc()
			m.log.Error("backup not made", "err", err)
		}
	}()
	keyFile := filepath.Join(m.l.DataDir, PublicKeyName)
	public, shown, err := LoadPublicKey(keyFile)
	if err != nil {
		return out, "", fmt.Errorf("recovery key: %w", err)
	}
	staging := filepath.Join(m.l.DataDir, StagingName)
	if err := os.RemoveAll(staging); err != nil { // of a process that was killed
		return out, "", err
	}
	if err := os.Mkdir(staging, 0o700); err != nil {
		return out, "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(staging)) }()
	src, err := m.stage(ctx, staging, public)
	if err != nil {
		return out, "", err
	}
	if out, err = Create(ctx, m.l.Bucket, src, m.log); err != nil {
		return out, "", err
	}
	if shown != "" {
		if err := ctx.Err(); err != nil {
			return out, "", fmt.Errorf("%w: nobody is there any more to see the recovery key; the next backup makes another one", err)
		}
		if err := SavePublicKey(keyFile, public); err != nil {
			return out, "", fmt.Errorf("keep the public half of the recovery key: %w", err)
		}
	}
	m.last.SetToCurrentTime()
	return out, shown, nil
}

// stage gathers everything below dir. What is decided comes first, so that
// samples and events of what is configured are never missing.
func (m *Maker) stage(ctx context.Context, dir, public string) (Source, error) {
	src := Source{Dir: dir, Info: m.l.Info, Time: time.Now(), PublicKey: public}
	src.Info.Live = true
	src.Info.Counts = Counts{-1, -1, -1, -1, -1}
	f, err := os.OpenFile(filepath.Join(dir, ControlName), os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return src, err
	}
	src.Info.Revision, err = m.l.Control(ctx, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return src, fmt.Errorf("copy the configuration store: %w", err)
	}
	blocks := filepath.Join(dir, "tsdb")
	if err := m.l.Samples(blocks); err != nil {
		return src, fmt.Errorf("copy the samples: %w", err)
	}
	if m.l.Count != nil {
		if src.Info.Counts, err = m.l.Count(blocks); err != nil {
			return src, fmt.Errorf("count the samples: %w", err)
		}
	}
	if src.Info.Counts.Events, err = m.l.Events(ctx, filepath.Join(dir, "history.db")); err != nil {
		return src, err
	}
	for path, state := range m.l.State {
		data, err := state()
		if err != nil {
			return src, fmt.Errorf("copy %s: %w", path, err)
		}
		to := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			return src, err
		}
		if err := os.WriteFile(to, data, 0o600); err != nil {
			return src, err
		}
	}
	for _, name := range copied() {
		if err := copyTree(filepath.Join(m.l.DataDir, name), filepath.Join(dir, name)); err != nil {
			return src, fmt.Errorf("copy %s: %w", name, err)
		}
	}
	return src, nil
}

// copyTree copies a file or a directory; what does not exist is left out.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if d.IsDir() {
			return os.MkdirAll(dst, 0o700)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // replaced meanwhile; its successor has another name
		}
		if err != nil {
			return err
		}
		return os.WriteFile(dst, data, 0o600)
	})
}
