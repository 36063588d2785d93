package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/thanos-io/objstore"

	"panoptes/internal/model"
)

// Format is the version of backups that this program writes and reads.
const Format = 1

const (
	manifests   = "backup/manifests/"
	objects     = "backup/objects/"
	maxManifest = 64 << 20
	maxFiles    = 200_000
	maxSealed   = 1 << 20 // of a secret file
)

// Info tells where a backup comes from.
type Info struct {
	Node     string `json:"node"`
	NodeID   string `json:"node_id,omitempty"`
	Cluster  string `json:"cluster,omitempty"`
	Program  string `json:"program"`            // version that wrote it
	Live     bool   `json:"live"`               // the server was running
	Revision int64  `json:"revision,omitempty"` // of the configuration; unknown when it was stopped
	Counts   Counts `json:"counts"`
}

// Counts are what is compared when a backup is verified; -1: unknown.
type Counts struct {
	Blocks  int64 `json:"blocks"`
	Series  int64 `json:"series"`
	Samples int64 `json:"samples"` // in blocks
	Events  int64 `json:"events"`
	Records int64 `json:"records"`
}

// Manifest is a backup: what was there, and in which objects it lies.
type Manifest struct {
	Format      int       `json:"format"`
	ID          string    `json:"id"`   // ULID
	Time        time.Time `json:"time"` // everything before is in it
	Info        Info      `json:"info"`
	RecoveryKey string    `json:"recovery_key,omitempty"` // names the key that opens what is sealed
	Files       []File    `json:"files"`
}

// File is one file of a server's directory.
type File struct {
	Path   string `json:"path"` // below the directory, with slashes
	Size   int64  `json:"size"`
	Object string `json:"object"` // SHA-256 of what is stored, in hexadecimal
	Stored int64  `json:"stored"` // its size
	Sealed bool   `json:"sealed,omitempty"`
}

// Bytes is the size of all files.
func (m *Manifest) Bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// signedManifest is the object. The sum is over the bytes of the body.
type signedManifest struct {
	SHA256 string          `json:"sha256"`
	Body   json.RawMessage `json:"body"`
}

func (m *Manifest) encode() ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return json.Marshal(signedManifest{hex.EncodeToString(sum[:]), body})
}

// DecodeManifest reads a manifest that may come from anywhere: its paths stay
// below the directory, its objects are names of objects. The error is
// model.ErrDamaged or says that the format is not known.
func DecodeManifest(data []byte) (*Manifest, error) {
	var s signedManifest
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("decode manifest: %w: %w", model.ErrDamaged, err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, s.Body); err != nil {
		return nil, fmt.Errorf("decode manifest: %w: %w", model.ErrDamaged, err)
	}
	if sum := sha256.Sum256(compact.Bytes()); s.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("decode manifest: %w: its checksum is wrong", model.ErrDamaged)
	}
	m := &Manifest{}
	if err := json.Unmarshal(s.Body, m); err != nil {
		return nil, fmt.Errorf("decode manifest: %w: %w", model.ErrDamaged, err)
	}
	if m.Format != Format {
		return nil, fmt.Errorf("the backup has format %d, this program reads %d: use the version that wrote it (%q)", m.Format, Format, clip(m.Info.Program))
	}
	return m, m.check()
}

func (m *Manifest) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("manifest: %w: %s", model.ErrDamaged, fmt.Sprintf(format, args...))
	}
	if _, err := ulid.ParseStrict(m.ID); err != nil {
		return bad("its id is %q", clip(m.ID))
	}
	if len(m.Files) > maxFiles {
		return bad("it has %d files, %d are read", len(m.Files), maxFiles)
	}
	seen := make(map[string]bool, len(m.Files))
	for _, f := range m.Files {
		local := filepath.FromSlash(f.Path)
		if !filepath.IsLocal(local) || filepath.Clean(local) != local || local == "." || strings.ContainsAny(f.Path, "\\\x00") {
			return bad("path %q", clip(f.Path))
		}
		if seen[f.Path] {
			return bad("path %q comes twice", clip(f.Path))
		}
		seen[f.Path] = true
		if raw, err := hex.DecodeString(f.Object); err != nil || len(raw) != sha256.Size || f.Object != strings.ToLower(f.Object) {
			return bad("object %q", clip(f.Object))
		}
		if f.Size < 0 || f.Stored < 0 || !f.Sealed && f.Stored != f.Size || f.Sealed && f.Stored > maxSealed {
			return bad("size of %q", clip(f.Path))
		}
	}
	return nil
}

func clip(s string) string { return s[:min(len(s), 100)] }

func objectName(sum string) string { return objects + sum[:2] + "/" + sum }

// List returns the backups in a bucket, the newest first. One whose manifest
// cannot be read is left out and reported by the error beside the others.
func List(ctx context.Context, b Bucket) (list []*Manifest, err error) {
	var ids []string
	err = b.Iter(ctx, manifests, func(name string) error {
		id, ok := strings.CutSuffix(strings.TrimPrefix(name, manifests), ".json")
		if _, perr := ulid.ParseStrict(id); ok && perr == nil {
			ids = append(ids, id)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list backups: %w", err)
	}
	slices.Sort(ids)
	slices.Reverse(ids)
	for _, id := range ids {
		m, merr := Read(ctx, b, id)
		if merr != nil {
			err = merr
			continue
		}
		list = append(list, m)
	}
	return list, err
}

// Read returns a backup's manifest. An empty id means the newest. The error is
// model.ErrNotFound when there is none.
func Read(ctx context.Context, b objstore.BucketReader, id string) (*Manifest, error) {
	if id == "" {
		err := b.Iter(ctx, manifests, func(name string) error {
			if n, ok := strings.CutSuffix(strings.TrimPrefix(name, manifests), ".json"); ok {
				id = max(id, n)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("list backups: %w", err)
		}
		if id == "" {
			return nil, fmt.Errorf("the bucket holds no backup: %w", model.ErrNotFound)
		}
	}
	if _, err := ulid.ParseStrict(id); err != nil {
		return nil, fmt.Errorf("backup %q: %w", clip(id), model.ErrNotFound)
	}
	data, err := readObject(ctx, b, manifests+id+".json", maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := DecodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("backup %s: %w", id, err)
	}
	if m.ID != id {
		return nil, fmt.Errorf("backup %s: %w: its manifest is of %s", id, model.ErrDamaged, m.ID)
	}
	return m, nil
}
