package backup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"panoptes/internal/model"
)

const (
	metaName = "meta.json"
	maxMeta  = 16 << 20
)

// thanosMeta is what the format adds to the meta.json of the database.
type thanosMeta struct {
	Version    int               `json:"version"`
	Labels     map[string]string `json:"labels"`
	Downsample struct {
		Resolution int64 `json:"resolution"`
	} `json:"downsample"`
	Source     string       `json:"source"`
	Files      []thanosFile `json:"files"`
	IndexStats struct{}     `json:"index_stats"`
	UploadTime time.Time    `json:"upload_time"`
}

type thanosFile struct {
	RelPath   string `json:"rel_path"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
}

// block uploads one block, and only what of it is missing.
func (u *Uploader) block(ctx context.Context, b model.Block) (err error) {
	there, err := u.deps.Bucket.Exists(ctx, b.ID+"/"+metaName)
	if err != nil {
		return fmt.Errorf("ask the bucket: %w", err)
	}
	if there { // by this server earlier, or by one that this block was copied from
		u.landed(b.ID)
		return u.save()
	}
	start := time.Now()
	full, err := u.deps.Blocks.OpenBlock(b.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, full.Close()) }()
	u.begin(full)
	var meta []byte
	var files []thanosFile
	for _, f := range full.Files {
		switch f.Name {
		case metaName:
			if meta, err = io.ReadAll(io.LimitReader(f.R, maxMeta)); err != nil {
				return fmt.Errorf("read %s: %w", f.Name, err)
			}
		case "tombstones": // the format has none: what people deleted here stays there
		default:
			if err := u.file(ctx, b.ID, f); err != nil {
				return err
			}
			files = append(files, thanosFile{f.Name, f.Size})
		}
	}
	meta, err = u.describe(meta, files)
	if err != nil {
		return err
	}
	if err := u.deps.Bucket.Upload(ctx, b.ID+"/"+metaName, bytes.NewReader(meta)); err != nil {
		return fmt.Errorf("upload %s: %w", metaName, err)
	}
	u.landed(b.ID)
	u.m.blocks.Inc()
	u.log.Info("block uploaded", "block", b.ID, "bytes", full.Bytes, "took", time.Since(start))
	return u.save()
}

// file uploads one file unless it is there: objects appear whole.
func (u *Uploader) file(ctx context.Context, id string, f model.BlockFile) error {
	name := id + "/" + f.Name
	a, err := u.deps.Bucket.Attributes(ctx, name)
	switch {
	case err == nil && a.Size == f.Size:
		u.progress(f.Size)
		return nil
	case err != nil && !u.deps.Bucket.IsObjNotFoundErr(err):
		return fmt.Errorf("ask for %s: %w", f.Name, err)
	}
	if err := u.deps.Bucket.Upload(ctx, name, &progressReader{f, f.Size, u.progress}); err != nil {
		return fmt.Errorf("upload %s: %w", f.Name, err)
	}
	u.m.bytes.Add(float64(f.Size))
	return nil
}

// describe adds the section of Thanos to a meta.json and leaves the rest as it is.
func (u *Uploader) describe(meta []byte, files []thanosFile) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(meta, &fields); err != nil {
		return nil, fmt.Errorf("decode %s: %w", metaName, err)
	}
	files = append(files, thanosFile{RelPath: metaName})
	slices.SortFunc(files, func(a, b thanosFile) int { return strings.Compare(a.RelPath, b.RelPath) })
	section, err := json.Marshal(thanosMeta{
		Version: 1, Labels: u.cfg.Labels, Source: "receive", Files: files, UploadTime: time.Now().UTC().Truncate(time.Second),
	})
	if err != nil {
		return nil, err
	}
	fields["thanos"] = section
	return json.MarshalIndent(fields, "", "\t")
}

func (u *Uploader) begin(b model.Block) {
	var total int64
	for _, f := range b.Files {
		if f.Name != metaName && f.Name != "tombstones" {
			total += f.Size
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.Current, u.status.Sent, u.status.Total = b.ID, 0, total
}

func (u *Uploader) progress(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.status.Sent += n
}

func (u *Uploader) landed(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.done[id] = true
	u.status.Uploaded++
}

// progressReader tells how much of a file was read. It has a size, so that
// buckets need not buffer it.
type progressReader struct {
	f    model.BlockFile
	size int64
	tell func(int64)
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.f.R.Read(b)
	p.tell(int64(n))
	return n, err
}

// ObjectSize implements objstore.ObjectSizer.
func (p *progressReader) ObjectSize() (int64, error) { return p.size, nil }
