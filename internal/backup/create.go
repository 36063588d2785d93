package backup

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"panoptes/internal/model"
)

// Source is a tree of files that nobody changes: the directory of a stopped
// server, or what Stage has made of a running one.
type Source struct {
	Dir       string
	Info      Info
	Time      time.Time // everything before is in the files
	PublicKey string    // of the recovery key; secrets are sealed with it
}

// Created says what making a backup did.
type Created struct {
	Manifest *Manifest `json:"-"`
	ID       string    `json:"id"`
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`    // of all files
	Uploaded int64     `json:"uploaded"` // of them, bytes that the bucket did not have
}

// left out of backups: what a process makes for itself and what must not come
// back.
func skipped(path string, d fs.DirEntry) bool {
	name := d.Name()
	switch {
	case !d.IsDir() && !d.Type().IsRegular():
		return true // sockets and links
	case strings.HasSuffix(name, ".tmp"), strings.HasPrefix(name, ".tmp-"), strings.HasSuffix(name, "-shm"):
		return true
	}
	switch path {
	case "lock", "queries.active", "sessions", "replica", "quarantine", "control/reserve", "tsdb/reserve", "tsdb/lock", "tsdb/incoming", "tsdb/quarantine",
		StagingName, QuietName, "initial-admin-password",
		PublicKeyName: // comes from Source: there is no file of it before the first backup is made
		return true
	}
	return false
}

// secret files are sealed with the recovery key.
func secret(path string) bool {
	return path == "seal.key" || strings.HasPrefix(path, "pki/")
}

// Create brings a tree into the bucket, what is not there yet, and its manifest
// last. What is interrupted leaves objects that the next backup uses.
func Create(ctx context.Context, b Bucket, src Source, log *slog.Logger) (Created, error) {
	public, err := parsePublic(src.PublicKey)
	if err != nil {
		return Created{}, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &creator{b: b, dir: src.Dir, key: public}
	m := &Manifest{Format: Format, ID: ulid.MustNew(ulid.Now(), ulid.DefaultEntropy()).String(), Time: src.Time.UTC(), Info: src.Info, RecoveryKey: keyID(public)}
	start := time.Now()
	err = filepath.WalkDir(src.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src.Dir, path)
		if err != nil || rel == "." {
			return err
		}
		rel = filepath.ToSlash(rel)
		if skipped(rel, d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if d.IsDir() {
			return nil
		}
		f, err := c.file(ctx, rel)
		if err != nil {
			return fmt.Errorf("back up %s: %w", rel, err)
		}
		m.Files = append(m.Files, f)
		return nil
	})
	if err != nil {
		return Created{}, err
	}
	f, err := c.public(ctx, src.PublicKey)
	if err != nil {
		return Created{}, fmt.Errorf("back up %s: %w", PublicKeyName, err)
	}
	m.Files = append(m.Files, f)
	slices.SortFunc(m.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	if err := m.check(); err != nil {
		return Created{}, err
	}
	data, err := m.encode()
	if err != nil {
		return Created{}, err
	}
	if err := b.Upload(ctx, manifests+m.ID+".json", bytes.NewReader(data)); err != nil {
		return Created{}, fmt.Errorf("upload manifest: %w", refused(err))
	}
	out := Created{Manifest: m, ID: m.ID, Files: len(m.Files), Bytes: m.Bytes(), Uploaded: c.uploaded}
	log.Info("backup made", "backup", m.ID, "files", out.Files, "bytes", out.Bytes, "uploaded", out.Uploaded, "took", time.Since(start))
	return out, nil
}

type creator struct {
	b        Bucket
	dir      string
	key      *ecdh.PublicKey
	uploaded int64
}

func (c *creator) file(ctx context.Context, path string) (f File, err error) {
	r, err := os.Open(filepath.Join(c.dir, filepath.FromSlash(path)))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if secret(path) {
		return c.sealed(ctx, path, r)
	}
	h := sha256.New()
	n, err := io.Copy(h, &contextReader{ctx, r})
	if err != nil {
		return f, err
	}
	f = File{Path: path, Size: n, Stored: n, Object: hex.EncodeToString(h.Sum(nil))}
	if n == 0 { // needs no object, which not every bucket takes
		return f, nil
	}
	there, err := c.has(ctx, f)
	if err != nil || there {
		return f, err
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return f, err
	}
	again := sha256.New()
	if err := c.b.Upload(ctx, objectName(f.Object), &sizedReader{io.TeeReader(io.LimitReader(r, n), again), n}); err != nil {
		return f, refused(err)
	}
	if hex.EncodeToString(again.Sum(nil)) != f.Object {
		// Whoever finds an object trusts its name.
		return f, errors.Join(fmt.Errorf("%w: the file changed while it was read; is a server running on this directory?", model.ErrConflict), c.b.Delete(ctx, objectName(f.Object)))
	}
	c.uploaded += n
	return f, nil
}

func (c *creator) sealed(ctx context.Context, path string, r io.Reader) (File, error) {
	plain, err := io.ReadAll(io.LimitReader(r, maxSealed/2+1))
	if err != nil {
		return File{}, err
	}
	if len(plain) > maxSealed/2 {
		return File{}, fmt.Errorf("%w: a secret file may have %d bytes", model.ErrTooLarge, maxSealed/2)
	}
	data, err := seal(c.key, path, plain)
	if err != nil {
		return File{}, err
	}
	sum := sha256.Sum256(data)
	f := File{Path: path, Size: int64(len(plain)), Stored: int64(len(data)), Object: hex.EncodeToString(sum[:]), Sealed: true}
	c.uploaded += f.Stored
	return f, refused(c.b.Upload(ctx, objectName(f.Object), bytes.NewReader(data)))
}

// public keeps the public key in the backup, so that a restored server uses it, too.
func (c *creator) public(ctx context.Context, key string) (File, error) {
	data := publicFile(key)
	sum := sha256.Sum256(data)
	f := File{Path: PublicKeyName, Size: int64(len(data)), Stored: int64(len(data)), Object: hex.EncodeToString(sum[:])}
	if there, err := c.has(ctx, f); err != nil || there {
		return f, err
	}
	c.uploaded += f.Stored
	return f, refused(c.b.Upload(ctx, objectName(f.Object), bytes.NewReader(data)))
}

// has reports whether the bucket holds the object. One of another size is not
// what its name says, and is written anew.
func (c *creator) has(ctx context.Context, f File) (bool, error) {
	a, err := c.b.Attributes(ctx, objectName(f.Object))
	if err != nil {
		if c.b.IsObjNotFoundErr(err) {
			return false, nil
		}
		return false, refused(err)
	}
	return a.Size == f.Stored, nil
}

// refused says whose error it is: what is wrong with the bucket is put right by
// whoever asked for the backup, so the text reaches them.
func refused(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: the bucket: %w", model.ErrUnavailable, err)
}

type sizedReader struct {
	io.Reader
	n int64
}

// ObjectSize implements objstore.ObjectSizer.
func (s *sizedReader) ObjectSize() (int64, error) { return s.n, nil }
