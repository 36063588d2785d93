package app

import (
	"context"
	"fmt"
	"os"
	"time"

	"panoptes/internal/api"
	"panoptes/internal/backup"
	"panoptes/internal/model"
	"panoptes/internal/store"
)

// openBucket opens where copies go, when the file names a bucket. hold says
// which blocks must not be merged before they are there; nil: all may.
func (a *App) openBucket() (hold func(id string, level int) bool, err error) {
	a.backups = &backups{app: a}
	a.backups.life, a.backups.end = context.WithCancel(context.Background())
	if err := a.openQuiet(); err != nil {
		return nil, err
	}
	if a.cfg.Backup.Bucket == "" {
		return nil, nil
	}
	conf, err := os.ReadFile(a.cfg.Backup.Bucket)
	if err != nil {
		return nil, fmt.Errorf("read backup.bucket: %w", err)
	}
	if a.bucket, err = backup.NewBucket(conf); err != nil {
		return nil, fmt.Errorf("backup.bucket, %s: %w", a.cfg.Backup.Bucket, err)
	}
	if !a.cfg.Backup.Upload {
		return nil, nil
	}
	a.uploader, err = backup.NewUploader(backup.UploadConfig{
		StateFile: a.cfg.Path("uploaded.json"), Labels: map[string]string{"cluster": a.pki.ClusterID(), "replica": a.cfg.Node},
	}, backup.UploadDeps{Bucket: a.bucket, Logger: a.logger("upload"), Registerer: a.registry})
	if err != nil {
		return nil, fmt.Errorf("open the upload of blocks: %w", err)
	}
	return a.uploader.Hold, nil
}

// openBackups makes what copies this server while it runs.
func (a *App) openBackups() (err error) {
	// What a process that was killed had gathered keeps blocks from being freed.
	if err := os.RemoveAll(a.cfg.Path(backup.StagingName)); err != nil {
		return fmt.Errorf("remove what is left of a backup: %w", err)
	}
	if a.uploader != nil {
		a.uploader.Follow(a.store)
	}
	if a.bucket == nil || a.control == nil {
		return nil
	}
	a.backups.maker, err = backup.NewMaker(backup.Live{
		DataDir: a.cfg.DataDir, Info: backup.Info{Node: a.cfg.Node, NodeID: a.pki.NodeID(), Cluster: a.pki.ClusterID(), Program: a.opts.Version},
		Control: a.control.Snapshot, Events: a.history.Snapshot, Count: countBlocks,
		Samples: func(dir string) error { return a.store.Snapshot(dir, true) },
		Bucket:  a.bucket, Logger: a.logger("backup"), Registerer: a.registry,
	})
	if err != nil {
		return fmt.Errorf("open backups: %w", err)
	}
	return nil
}

// countBlocks adds up what the blocks in a directory say of themselves.
func countBlocks(dir string) (backup.Counts, error) {
	blocks, samples, err := store.CountBlocks(dir)
	return backup.Counts{Series: -1, Events: -1, Records: -1, Blocks: blocks, Samples: samples}, err
}

// backups is what pages and commands ask for.
type backups struct {
	app   *App
	maker *backup.Maker
	life  context.Context // of backups that are being made
	end   context.CancelFunc
}

// Run ends a backup that is being made when ctx ends.
func (b *backups) Run(ctx context.Context) error {
	<-ctx.Done()
	b.end()
	return nil
}

func (b *backups) ready() error {
	switch {
	case b.app.bucket == nil:
		return fmt.Errorf("%w: this server has no bucket; name a file that describes one with backup.bucket in its configuration file, or back up the stopped server", model.ErrConflict)
	case b.maker == nil:
		return fmt.Errorf("%w: the configuration store is closed", model.ErrUnavailable)
	}
	return nil
}

// Make implements api.Backups.
func (b *backups) Make(ctx context.Context, actor string) (api.BackupMade, error) {
	if err := b.ready(); err != nil {
		return api.BackupMade{}, err
	}
	began := time.Now()
	// What has begun is finished, also when whoever asked has lost patience. The
	// first one is made for somebody who is shown the recovery key.
	life := context.WithoutCancel(ctx)
	if !b.maker.KeyKnown() {
		life = ctx
	}
	life, cancel := context.WithCancel(life)
	defer cancel()
	defer context.AfterFunc(b.life, cancel)()
	made, key, err := b.maker.Make(life)
	if err != nil {
		return api.BackupMade{}, err
	}
	now := time.Now().UTC()
	b.app.audit(life, model.Event{ID: model.NewID(now), Time: now, Kind: model.EventAudit, Subject: "backup/" + made.ID, Name: made.ID, Severity: "info", Actor: actor,
		Code: "backup.create", Message: fmt.Sprintf("backup %s made in %s", made.ID, time.Since(began).Round(time.Second))})
	return api.BackupMade{ID: made.ID, Files: made.Files, Bytes: made.Bytes, Uploaded: made.Uploaded, RecoveryKey: key.Reveal()}, nil
}

// listPatience bounds looking through the bucket.
const listPatience = 20 * time.Second

// Status implements api.Backups.
func (b *backups) Status(ctx context.Context) (out api.BackupStatus, err error) {
	out = api.BackupStatus{Configured: b.ready() == nil, Quiet: b.app.quiet.reason(), Backups: []api.BackupInfo{}}
	if u := b.app.uploader; u != nil {
		s := u.Status()
		out.Upload = &api.UploadStatus{Pending: s.Pending, Uploaded: s.Uploaded, Error: s.LastErr}
		if !s.LastSuccess.IsZero() {
			out.Upload.LastSuccess = &s.LastSuccess
		}
	}
	if b.app.bucket == nil {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, listPatience)
	defer cancel()
	list, err := backup.List(ctx, b.app.bucket)
	for _, m := range list[:min(len(list), 100)] {
		out.Backups = append(out.Backups, api.BackupInfo{ID: m.ID, Time: m.Time, Node: m.Info.Node, Files: len(m.Files), Bytes: m.Bytes()})
	}
	if err != nil {
		out.Error = err.Error() // those that could be read are shown all the same
	}
	return out, nil
}
