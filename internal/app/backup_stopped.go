package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"panoptes/internal/backup"
	"panoptes/internal/control"
	"panoptes/internal/history"
	"panoptes/internal/model"
	"panoptes/internal/store"
)

// BackupStopped copies the directory of a server that does not run; version is
// that of this program. show tells somebody what was made, and of the first backup
// the recovery key, whose public half is kept only then.
func BackupStopped(ctx context.Context, version, dir string, bucket backup.Bucket, show func(backup.Created, model.Secret) error, log *slog.Logger) (err error) {
	if _, err := os.Stat(filepath.Join(dir, "pki")); err != nil {
		return fmt.Errorf("%s is no data directory of a server: %w", dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return fmt.Errorf("%w; stop the server, or back it up without --stopped", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	keyFile := filepath.Join(dir, backup.PublicKeyName)
	public, key, err := backup.LoadPublicKey(keyFile)
	if err != nil {
		return fmt.Errorf("recovery key: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	out, err := backup.Create(ctx, bucket, backup.Source{
		Dir: dir, Time: time.Now(), PublicKey: public,
		Info: backup.Info{Node: host, Program: version, Counts: backup.Counts{Blocks: -1, Series: -1, Samples: -1, Events: -1, Records: -1}},
	}, log)
	if err != nil {
		return err
	}
	if err := show(out, key); err != nil {
		return err
	}
	if key != "" {
		err = backup.SavePublicKey(keyFile, public)
	}
	return err
}

// CheckBackup opens samples and events of a restored directory, reads some of
// both, and compares what was counted when the backup was made.
func CheckBackup(ctx context.Context, dir string, m *backup.Manifest) (found backup.Counts, err error) {
	found.Records = -1
	if err := checkSamples(ctx, filepath.Join(dir, "tsdb"), &found); err != nil {
		return found, fmt.Errorf("samples: %w", err)
	}
	h, err := history.New(history.Config{Path: filepath.Join(dir, "history.db"), MinFreeBytes: -1}, history.Deps{})
	if err != nil {
		return found, fmt.Errorf("events: %w", err)
	}
	defer h.Close()
	if err := h.Damaged(); err != nil {
		return found, fmt.Errorf("events: %w", err)
	}
	days, err := h.Digests(ctx, time.UnixMilli(0), time.Time{})
	if err != nil {
		return found, fmt.Errorf("events: %w", err)
	}
	for _, d := range days {
		found.Events += int64(d.Count)
	}
	want := m.Info.Counts
	for _, c := range []struct {
		what        string
		found, want int64
	}{{"blocks", found.Blocks, want.Blocks}, {"samples in blocks", found.Samples, want.Samples}, {"series", found.Series, want.Series}, {"events", found.Events, want.Events}} {
		if c.want >= 0 && c.found != c.want {
			return found, fmt.Errorf("%w: %d %s, there were %d", model.ErrDamaged, c.found, c.what, c.want)
		}
	}
	return found, nil
}

func checkSamples(ctx context.Context, dir string, found *backup.Counts) (err error) {
	s, err := store.New(store.Config{Dir: dir, MinFreeBytes: -1, ReserveBytes: -1, ScrubRate: -1, RetentionTime: 100 * 365 * 24 * time.Hour}, store.Deps{})
	if err != nil {
		return err
	}
	run, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(run) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-done)
	}()
	select {
	case <-s.Ready():
	case <-time.After(10 * time.Minute):
		return fmt.Errorf("the database is not open within 10 minutes: %w", s.Health())
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if damage := s.Damage(); len(damage) > 0 {
		return fmt.Errorf("%w: %s", model.ErrDamaged, damage[0].Path)
	}
	blocks, err := s.Blocks()
	if err != nil {
		return err
	}
	for _, b := range blocks {
		found.Blocks++
		found.Samples += int64(b.Samples)
	}
	q, err := s.Querier(0, time.Now().Add(time.Hour).UnixMilli())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	// All series, and the samples of some.
	const read = 1000
	set := q.Select(ctx, false, nil, labels.MustNewMatcher(labels.MatchNotEqual, model.MetricName, ""))
	for set.Next() {
		if found.Series++; found.Series > read {
			continue
		}
		it := set.At().Iterator(nil)
		for it.Next() != 0 {
		}
		if err := it.Err(); err != nil {
			return fmt.Errorf("read %s: %w", set.At().Labels(), err)
		}
	}
	return set.Err()
}

// RestoreBackup makes a data directory of a backup.
func RestoreBackup(ctx context.Context, bucket backup.Bucket, id, dir string, key model.Secret, log *slog.Logger) (*backup.Manifest, error) {
	m, err := backup.Read(ctx, bucket, id)
	if err != nil {
		return nil, err
	}
	return backup.Restore(ctx, bucket, m.ID, backup.RestoreOptions{Dir: dir, RecoveryKey: key,
		Control: func(ctx context.Context, snapshot, dir string) error {
			_, err := control.Restore(ctx, control.Config{Dir: dir, NodeID: m.Info.NodeID, ClusterID: m.Info.Cluster}, snapshot, log)
			return err
		}})
}
