package backup

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"panoptes/internal/model"
)

const (
	// QuietName is a file in the directory of a restored server: while it is
	// there alerts are evaluated and shown, and nobody is notified.
	QuietName = "restored-quiet.json"
	// StagingName is the directory, below a server's, in which the files of a
	// live backup are gathered.
	StagingName = "backup-staging"
	// ControlName is the configuration store in a live backup.
	ControlName = "control.snapshot"
)

// Quiet is what QuietName holds.
type Quiet struct {
	Backup   string    `json:"backup"`
	Time     time.Time `json:"time"` // of the backup
	Restored time.Time `json:"restored"`
}

// RestoreOptions say how to make a server's directory of a backup.
type RestoreOptions struct {
	Dir         string // empty, or not there yet
	RecoveryKey model.Secret
	// Control makes the configuration store below dir of a snapshot. It is
	// needed for backups of running servers.
	Control func(ctx context.Context, snapshot, dir string) error
	// Check looks at the restored directory before it counts as one.
	Check func(ctx context.Context, dir string, m *Manifest) error
}

// Restore fetches a backup (the newest when id is empty) into an empty
// directory and checks every byte. The server that is started there is quiet at
// first. A directory that could not be restored wholly cannot be started: its
// identity comes last.
func Restore(ctx context.Context, b Bucket, id string, o RestoreOptions) (*Manifest, error) {
	m, err := Read(ctx, b, id)
	if err != nil {
		return nil, err
	}
	key, err := m.key(o.RecoveryKey)
	if err != nil {
		return nil, err
	}
	if m.Info.Live && o.Control == nil {
		return nil, errors.New("the backup of a running server needs a way to make its configuration store")
	}
	if err := emptyDir(o.Dir); err != nil {
		return nil, err
	}
	quiet, err := json.Marshal(Quiet{Backup: m.ID, Time: m.Time, Restored: time.Now().UTC()})
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(o.Dir, QuietName), quiet, 0o600); err != nil {
		return nil, err
	}
	for _, last := range []bool{false, true} {
		for _, f := range m.Files {
			if strings.HasPrefix(f.Path, "pki/") != last {
				continue
			}
			if err := fetch(ctx, b, f, o.Dir, key); err != nil {
				return nil, fmt.Errorf("restore %s: %w", f.Path, err)
			}
		}
		if last || !m.Info.Live {
			continue
		}
		snapshot := filepath.Join(o.Dir, ControlName)
		if err := o.Control(ctx, snapshot, filepath.Join(o.Dir, "control")); err != nil {
			return nil, fmt.Errorf("restore the configuration store: %w", err)
		}
		if err := os.Remove(snapshot); err != nil {
			return nil, err
		}
	}
	if err := syncTree(o.Dir); err != nil {
		return nil, err
	}
	if o.Check != nil {
		if err := o.Check(ctx, o.Dir, m); err != nil {
			return m, fmt.Errorf("check what was restored: %w", err)
		}
	}
	return m, nil
}

// VerifyOptions say how thoroughly a backup is looked at.
type VerifyOptions struct {
	Scratch     string       // directory to fetch the backup into, emptied afterwards; empty: only read the objects
	RecoveryKey model.Secret // without it what is sealed is checked but not opened
	// Check opens what was fetched and compares it with the manifest: it is a
	// rehearsal of a restore. Needs Scratch.
	Check func(ctx context.Context, dir string, m *Manifest) error
}

// Verify reads every byte of a backup (the newest when id is empty) and
// compares checksums; with a scratch directory it also opens the copy. The
// error is model.ErrDamaged when the backup is.
func Verify(ctx context.Context, b Bucket, id string, o VerifyOptions) (m *Manifest, err error) {
	if m, err = Read(ctx, b, id); err != nil {
		return nil, err
	}
	var key *ecdh.PrivateKey
	if o.RecoveryKey != "" {
		if key, err = m.key(o.RecoveryKey); err != nil {
			return nil, err
		}
	}
	if o.Scratch != "" {
		if err := emptyDir(o.Scratch); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, clearDir(o.Scratch)) }()
	}
	for _, f := range m.Files {
		dir := o.Scratch
		if f.Sealed && key == nil {
			dir = ""
		}
		if err := fetch(ctx, b, f, dir, key); err != nil {
			return m, fmt.Errorf("verify %s: %w", f.Path, err)
		}
	}
	if o.Check != nil && o.Scratch != "" {
		if err := o.Check(ctx, o.Scratch, m); err != nil {
			return m, fmt.Errorf("open the copy: %w", err)
		}
	}
	return m, nil
}

// key checks that a recovery key belongs to the backup.
func (m *Manifest) key(s model.Secret) (*ecdh.PrivateKey, error) {
	if s == "" {
		return nil, model.Invalid{{Field: "recovery_key", Msg: "is missing; it was printed by the first backup of this server"}}
	}
	k, err := parseRecovery(s)
	if err != nil {
		return nil, err
	}
	if id := keyID(k.PublicKey()); id != m.RecoveryKey {
		return nil, model.Invalid{{Field: "recovery_key", Msg: fmt.Sprintf("is the one called %s; this backup needs %s", id, clip(m.RecoveryKey))}}
	}
	return k, nil
}

// fetch reads one file, checks it, and writes it below dir unless that is empty.
func fetch(ctx context.Context, b Bucket, f File, dir string, key *ecdh.PrivateKey) (err error) {
	rc := io.NopCloser(bytes.NewReader(nil))
	if f.Stored > 0 {
		rc, err = b.Get(ctx, objectName(f.Object))
	}
	if err != nil {
		if b.IsObjNotFoundErr(err) {
			return fmt.Errorf("%w: object %s is missing", model.ErrDamaged, f.Object)
		}
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	h := sha256.New()
	r := io.TeeReader(io.LimitReader(&contextReader{ctx, rc}, f.Stored+1), h)
	check := func(n int64) error {
		if n != f.Stored || hex.EncodeToString(h.Sum(nil)) != f.Object {
			return fmt.Errorf("%w: object %s is not what it was", model.ErrDamaged, f.Object)
		}
		return nil
	}
	if dir == "" {
		n, err := io.Copy(io.Discard, r)
		if err != nil {
			return err
		}
		return check(n)
	}
	if f.Sealed {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := check(int64(len(data))); err != nil {
			return err
		}
		plain, err := unseal(key, f.Path, data)
		if err != nil {
			return err
		}
		return place(dir, f.Path, func(w io.Writer) error {
			_, err := io.Copy(w, bytes.NewReader(plain))
			return err
		})
	}
	return place(dir, f.Path, func(w io.Writer) error {
		n, err := io.Copy(w, r)
		if err != nil {
			return err
		}
		return check(n)
	})
}

// place writes a file below dir; on error nothing is left of it.
func place(dir, path string, write func(io.Writer) error) (err error) {
	to := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	w, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = write(w)
	if err == nil {
		err = w.Sync()
	}
	if err = errors.Join(err, w.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	return nil
}

// emptyDir makes dir, which must hold nothing.
func emptyDir(dir string) error {
	if dir == "" {
		return model.Invalid{{Field: "dir", Msg: "must name a directory"}}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty; a backup is restored into an empty directory", model.ErrConflict, dir)
	}
	return nil
}

func clearDir(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

// syncTree makes the names of all files durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(path)
	})
}
