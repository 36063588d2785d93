package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-kit/log"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"
	"github.com/thanos-io/objstore/providers/s3"
	"go.yaml.in/yaml/v3"

	"panoptes/internal/model"
)

// Bucket is a place for objects. An object that can be read is whole.
type Bucket = objstore.Bucket

// NewBucket opens the bucket that a YAML document describes, in the form that
// Thanos uses, so that one file serves both:
//
//	type: S3
//	config: {bucket: metrics, endpoint: s3.example.com, access_key: …, secret_key: …}
//	prefix: panoptes
//
// The types are FILESYSTEM and S3, which most providers of object storage and
// all self-hosted ones speak. The document may hold secrets: errors do not
// repeat it.
func NewBucket(conf []byte) (Bucket, error) {
	var c struct {
		Type   string    `yaml:"type"`
		Config yaml.Node `yaml:"config"`
		Prefix string    `yaml:"prefix"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(conf))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, model.Invalid{{Field: "bucket", Msg: "is empty; it needs type and config"}}
		}
		return nil, model.Invalid{{Field: "bucket", Msg: "is no YAML document with type, config and prefix only"}}
	}
	inner, err := yaml.Marshal(&c.Config)
	if err != nil {
		return nil, model.Invalid{{Field: "bucket.config", Msg: "must be a map"}}
	}
	b, err := open(c.Type, inner)
	if err != nil {
		return nil, err
	}
	return objstore.NewPrefixedBucket(b, c.Prefix), nil
}

func open(kind string, conf []byte) (Bucket, error) {
	switch strings.ToUpper(kind) {
	case "FILESYSTEM":
		var c struct {
			Directory string `yaml:"directory"`
		}
		if err := yaml.Unmarshal(conf, &c); err != nil || c.Directory == "" {
			return nil, model.Invalid{{Field: "bucket.config.directory", Msg: "must name a directory"}}
		}
		return newDirectory(c.Directory)
	case "S3":
		b, err := s3.NewBucket(log.NewNopLogger(), conf, "panoptes", nil)
		if err != nil {
			return nil, model.Invalid{{Field: "bucket.config", Msg: fmt.Sprintf("cannot be used for S3: %s", err)}}
		}
		return b, nil
	case "":
		return nil, model.Invalid{{Field: "bucket.type", Msg: "is missing; it must be FILESYSTEM or S3"}}
	}
	return nil, model.Invalid{{Field: "bucket.type", Msg: fmt.Sprintf("%q is not supported; it must be FILESYSTEM or S3", kind)}}
}

// directory is a bucket whose objects appear at once, whole and on the disk:
// the engine's own writes them in place.
type directory struct {
	*filesystem.Bucket
	root string
}

func newDirectory(root string) (Bucket, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	b, err := filesystem.NewBucket(root)
	if err != nil {
		return nil, err
	}
	return &directory{Bucket: b, root: root}, nil
}

func (d *directory) path(name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("object %q lies outside of the bucket", name)
	}
	return filepath.Join(d.root, filepath.FromSlash(name)), nil
}

// Upload implements objstore.Bucket.
func (d *directory) Upload(ctx context.Context, name string, r io.Reader, _ ...objstore.ObjectUploadOption) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := d.path(name)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := d.makeDir(dir); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.root, ".upload-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = io.Copy(f, &contextReader{ctx, r})
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	if serr := syncDir(dir); serr != nil {
		return fmt.Errorf("sync %s: %w", dir, serr)
	}
	return nil
}

// makeDir makes dir and what is missing above it durable.
func (d *directory) makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	for p := dir; ; p = filepath.Dir(p) {
		if err := syncDir(filepath.Dir(p)); err != nil {
			return err
		}
		if len(p) <= len(d.root) {
			return nil
		}
	}
}

// Iter leaves out what is being written or was left behind by a process that
// was killed.
func (d *directory) Iter(ctx context.Context, dir string, f func(string) error, opts ...objstore.IterOption) error {
	return d.Bucket.Iter(ctx, dir, func(name string) error {
		if strings.HasPrefix(name, ".upload-") {
			return nil
		}
		return f(name)
	}, opts...)
}

type contextReader struct {
	ctx context.Context // lives as long as one call
	r   io.Reader
}

func (c *contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.r.Read(b)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readObject returns an object of at most limit bytes.
func readObject(ctx context.Context, b objstore.BucketReader, name string, limit int64) (_ []byte, err error) {
	rc, err := b.Get(ctx, name)
	if err != nil {
		if b.IsObjNotFoundErr(err) {
			return nil, fmt.Errorf("object %s: %w", name, model.ErrNotFound)
		}
		return nil, fmt.Errorf("read object %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	data, err := io.ReadAll(io.LimitReader(rc, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("object %s has more than %d bytes: %w", name, limit, model.ErrTooLarge)
	}
	return data, nil
}
