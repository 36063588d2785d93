package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
)

// UploadConfig says under which name blocks are uploaded. The zero value of a
// field means its default.
type UploadConfig struct {
	StateFile string            // remembers what was uploaded; beside the database
	Labels    map[string]string // name the stream of this server: cluster and replica
	Interval  time.Duration     // between two looks at the blocks; default 30 s
}

// Validate names what is wrong; it returns nil or a model.Invalid.
func (c UploadConfig) Validate() error {
	var inv model.Invalid
	if c.StateFile == "" {
		inv.Add("state_file", "must name a file")
	}
	if c.Labels["replica"] == "" {
		inv.Add("labels.replica", "must name this server: readers join the copies by it")
	}
	inv.AddErr("labels", model.ValidateLabels(c.Labels))
	if c.Interval < 0 {
		inv.Add("interval", "must not be negative")
	}
	return inv.Err()
}

// Blocks is the database whose blocks are uploaded.
type Blocks interface {
	Blocks() ([]model.Block, error)
	// OpenBlock opens the files of a block, which stay readable when it is
	// deleted meanwhile; model.ErrNotFound when there is no such block any more.
	OpenBlock(id string) (model.Block, error)
}

// UploadDeps are the uploader's collaborators.
type UploadDeps struct {
	Bucket     Bucket
	Blocks     Blocks
	Logger     *slog.Logger
	Registerer prometheus.Registerer // nil: no metrics
}

// Uploader copies finished blocks into a bucket, in the format of Thanos, so
// that its store, compactor and query can read years of them. It never deletes
// anything there: that is the compactor's.
//
// What is uploaded is a block that was never merged, with its meta.json last: a
// folder without it is an upload that still runs. Local merging has to wait
// (Hold), or the stream would overlap with itself. Blocks merged before
// uploading began are uploaded as they are.
type Uploader struct {
	cfg  UploadConfig
	deps UploadDeps
	log  *slog.Logger
	m    *uploadMetrics

	mu     sync.Mutex // guards the fields below
	done   map[string]bool
	status UploadStatus
}

// UploadStatus says how far uploading has come.
type UploadStatus struct {
	Pending     int       `json:"pending"` // blocks that wait
	Uploaded    int       `json:"uploaded"`
	Current     string    `json:"current,omitempty"` // block on its way
	Sent        int64     `json:"sent,omitempty"`    // bytes of it
	Total       int64     `json:"total,omitempty"`
	LastSuccess time.Time `json:"last_success,omitzero"` // when nothing was left to do
	LastErr     string    `json:"error,omitempty"`
}

// NewUploader reads what was uploaded before. It starts nothing.
func NewUploader(cfg UploadConfig, deps UploadDeps) (*Uploader, error) {
	if cfg.Interval == 0 {
		cfg.Interval = 30 * time.Second
	}
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if deps.Bucket == nil {
		return nil, errors.New("uploader needs a bucket")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	u := &Uploader{cfg: cfg, deps: deps, log: deps.Logger, m: newUploadMetrics(deps.Registerer)}
	var err error
	if u.done, err = loadUploaded(cfg.StateFile); err != nil {
		u.log.Warn("list of uploaded blocks not read, the bucket is asked for each", "err", err)
		u.done = map[string]bool{}
	}
	return u, nil
}

// Follow names the database, for callers that need Hold to open it. It is
// called before Run.
func (u *Uploader) Follow(b Blocks) { u.deps.Blocks = b }

// Hold reports whether a block must not be merged yet: it was never merged and
// is not uploaded.
func (u *Uploader) Hold(id string, level int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return level == 1 && !u.done[id]
}

// Status says how far uploading has come.
func (u *Uploader) Status() UploadStatus {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.status
}

// Run uploads what is there and what comes until ctx ends. While the bucket
// cannot be reached it tries again, from 1 s to 5 min apart.
func (u *Uploader) Run(ctx context.Context) error {
	if u.deps.Blocks == nil {
		return errors.New("uploader has no database to follow")
	}
	const least, most = time.Second, 5 * time.Minute
	retry := least
	for {
		wait := u.cfg.Interval
		if err := u.Upload(ctx); ctx.Err() != nil {
			return nil
		} else if err != nil {
			wait = retry/2 + rand.N(retry)
			retry = min(2*retry, most)
			u.log.Warn("blocks not uploaded, it is tried again", "wait", wait, "err", err)
		} else {
			retry = least
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// Upload brings everything that is missing into the bucket, the oldest first.
// A block that cannot be uploaded keeps those behind it waiting only when the
// bucket is to blame.
func (u *Uploader) Upload(ctx context.Context) (err error) {
	defer func() { u.finish(err) }()
	blocks, err := u.deps.Blocks.Blocks()
	if errors.Is(err, model.ErrUnavailable) {
		return nil // not open yet
	}
	if err != nil {
		return fmt.Errorf("list blocks: %w", err)
	}
	todo := u.missing(blocks)
	u.setPending(len(todo))
	for i, b := range todo {
		switch err := u.block(ctx, b); {
		case errors.Is(err, model.ErrNotFound):
			u.log.Warn("block was deleted before it was uploaded", "block", b.ID)
			u.m.missed.Inc()
		case err != nil:
			u.m.failures.Inc()
			return fmt.Errorf("upload block %s: %w", b.ID, err)
		}
		u.setPending(len(todo) - i - 1)
	}
	return u.forget(blocks)
}

// missing returns the blocks to be uploaded.
func (u *Uploader) missing(blocks []model.Block) (todo []model.Block) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, b := range blocks {
		if u.done[b.ID] || b.Damaged {
			continue
		}
		if b.Samples == 0 || b.Level > 1 && u.holdsPart(b) {
			u.done[b.ID] = true
			continue
		}
		todo = append(todo, b)
	}
	return todo
}

// holdsPart reports whether the bucket has, or had, a part of a merged block
// already: the whole would overlap with it.
func (u *Uploader) holdsPart(b model.Block) bool {
	for _, s := range b.Sources {
		if s != b.ID && u.done[s] {
			return true
		}
	}
	return false
}

func (u *Uploader) setPending(n int) {
	u.m.pending.Set(float64(n))
	u.mu.Lock()
	u.status.Pending = n
	u.mu.Unlock()
}

func (u *Uploader) finish(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.Current, u.status.Sent, u.status.Total = "", 0, 0
	if err != nil {
		u.status.LastErr = err.Error()
		return
	}
	u.status.LastErr, u.status.LastSuccess = "", time.Now()
	u.m.last.SetToCurrentTime()
}

// forget drops what no local block refers to any more, and saves the list.
func (u *Uploader) forget(blocks []model.Block) error {
	u.mu.Lock()
	keep := make(map[string]bool, len(u.done))
	for _, b := range blocks {
		for _, id := range append(b.Sources, b.ID) {
			if u.done[id] {
				keep[id] = true
			}
		}
	}
	u.done = keep
	u.mu.Unlock()
	return u.save()
}

func (u *Uploader) save() error {
	u.mu.Lock()
	done := make(map[string]bool, len(u.done))
	for id := range u.done {
		done[id] = true
	}
	u.mu.Unlock()
	return saveUploaded(u.cfg.StateFile, done)
}
