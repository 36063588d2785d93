// Package release offers the programs of agents: from a directory beside the
// server's own program it serves them to whoever installs an agent by hand, and
// in pieces to agents that update themselves; it writes the texts that install
// them; and it decides which agents may take a new version, a few at a time.
package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"panoptes/internal/model"
	"panoptes/internal/wire/manifest"
)

// Config says where the programs are.
type Config struct {
	Dir      string // holds panoptes-agent-OS-ARCH, and manifest.json with its signature if there is one
	CacheDir string // for zipped copies; empty: programs are sent as they are
	Version  string // of this server
}

// Deps may all be left out.
type Deps struct {
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Release offers what is in a directory. It is safe for use by several
// goroutines; files that are replaced are noticed.
type Release struct {
	cfg    Config
	log    *slog.Logger
	sent   *prometheus.CounterVec
	active chan struct{} // as many as may download at once

	mu    sync.Mutex // guards known
	known map[manifest.Platform]hashed
	gzMu  sync.Mutex // held while a copy is zipped
}

// hashed is a file whose hash is known as long as it looks the same.
type hashed struct {
	size int64
	mod  time.Time
	sum  string
}

// maxDownloads bounds how many strangers may read at once.
const maxDownloads = 64

// New checks the configuration; the directory need not be there.
func New(cfg Config, deps Deps) (*Release, error) {
	if cfg.Dir == "" {
		return nil, model.Invalid{{Field: "agents.dir", Msg: "must name a directory"}}
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Release{cfg: cfg, log: deps.Logger, known: map[manifest.Platform]hashed{}, active: make(chan struct{}, maxDownloads)}
	r.sent = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "panoptes_release_downloads_total", Help: "Programs of agents that were asked for over HTTP, by platform and status.",
	}, []string{"platform", "status"})
	if deps.Registerer != nil {
		if err := deps.Registerer.Register(r.sent); err != nil {
			return nil, fmt.Errorf("register metrics of release: %w", err)
		}
	}
	return r, nil
}

// path is where the program for a platform that is on the list would be.
func (r *Release) path(p manifest.Platform) string { return filepath.Join(r.cfg.Dir, p.File()) }

// open returns the program for a platform with its size and hash. The caller
// closes it.
func (r *Release) open(p manifest.Platform) (*os.File, manifest.File, error) {
	out := manifest.File{Platform: p}
	if !manifest.Known(p) {
		return nil, out, fmt.Errorf("%w: agents are built for %s, not for %.40q", model.ErrNotFound, platformNames(), p)
	}
	f, err := os.Open(r.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, out, fmt.Errorf("%w: this server has no agent for %s; build it with 'make agents' and put %s into %s, the directory of agents.dir", model.ErrNotFound, p, p.File(), r.cfg.Dir)
	}
	if err != nil {
		return nil, out, fmt.Errorf("open the agent for %s: %w", p, err)
	}
	out, err = r.hash(p, f)
	if err != nil {
		return nil, out, errors.Join(err, f.Close())
	}
	return f, out, nil
}

// hash reads a file once and again only when it looks different.
func (r *Release) hash(p manifest.Platform, f *os.File) (manifest.File, error) {
	out := manifest.File{Platform: p}
	info, err := f.Stat()
	if err != nil {
		return out, fmt.Errorf("look at %s: %w", f.Name(), err)
	}
	if !info.Mode().IsRegular() || info.Size() > manifest.MaxProgram {
		return out, fmt.Errorf("%w: %s is not a file of up to %d bytes", model.ErrNotFound, f.Name(), manifest.MaxProgram)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := r.known[p]
	if !ok || k.size != info.Size() || !k.mod.Equal(info.ModTime()) {
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err != nil {
			return out, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return out, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		k = hashed{size: n, mod: info.ModTime(), sum: hex.EncodeToString(h.Sum(nil))}
		r.known[p] = k
	}
	out.Size, out.SHA256 = k.size, k.sum
	return out, nil
}

// Files lists the programs that are there.
func (r *Release) Files() []manifest.File {
	var out []manifest.File
	for _, p := range manifest.Platforms() {
		f, file, err := r.open(p)
		if err != nil {
			if !errors.Is(err, model.ErrNotFound) {
				r.log.Warn("a program of agents cannot be offered", "platform", p.String(), "err", err)
			}
			continue
		}
		_ = f.Close() // only read
		out = append(out, file)
	}
	return out
}

// Manifest returns the bytes of the manifest and of its signature. Without a
// file one is made of what is there, and the signature is model.ErrNotFound.
func (r *Release) Manifest() (text, signature []byte, err error) {
	text, err = readBounded(filepath.Join(r.cfg.Dir, manifest.Name))
	switch {
	case err == nil:
		signature, err = readBounded(filepath.Join(r.cfg.Dir, manifest.Signature))
		if errors.Is(err, fs.ErrNotExist) {
			err = errUnsigned
		}
		return text, signature, err
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	}
	m := manifest.Manifest{Version: r.version(), Files: r.Files()}
	if len(m.Files) == 0 {
		return nil, nil, fmt.Errorf("%w: there are no agents in %s, the directory of agents.dir; 'make agents' builds them", model.ErrNotFound, r.cfg.Dir)
	}
	if text, err = json.MarshalIndent(m, "", "  "); err != nil {
		return nil, nil, fmt.Errorf("encode the manifest: %w", err)
	}
	return append(text, '\n'), nil, errUnsigned
}

var errUnsigned = fmt.Errorf("%w: the agents here are not signed; 'panoptes agent sign --key FILE DIR' does it", model.ErrNotFound)

// Signed returns the manifest that agents may update from: it is signed, and
// the files are those that it names. Whose signature it is only agents know.
func (r *Release) Signed() (m manifest.Manifest, text, signature []byte, err error) {
	if text, signature, err = r.Manifest(); err != nil {
		return m, nil, nil, err
	}
	if m, err = manifest.Parse(text); err != nil {
		return m, nil, nil, fmt.Errorf("%s: %w", filepath.Join(r.cfg.Dir, manifest.Name), err)
	}
	for _, want := range m.Files {
		f, have, err := r.open(want.Platform)
		if err != nil {
			return m, nil, nil, err
		}
		_ = f.Close() // only read
		if have != want {
			return m, nil, nil, fmt.Errorf("%w: %s is not the file that %s was signed for; sign again with 'panoptes agent sign'", model.ErrConflict, want.Platform.File(), manifest.Name)
		}
	}
	return m, text, signature, nil
}

// version of the programs when no manifest says it.
func (r *Release) version() string {
	if b, err := readBounded(filepath.Join(r.cfg.Dir, manifest.Version)); err == nil {
		return strings.TrimSpace(string(b))
	}
	return r.cfg.Version
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, manifest.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) > manifest.MaxBytes {
		return nil, fmt.Errorf("%s: %w", path, model.ErrTooLarge)
	}
	return b, nil
}

func platformNames() string {
	var names []string
	for _, p := range manifest.Platforms() {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// take waits for a place among those who download.
func (r *Release) take(ctx context.Context) (done func(), err error) {
	select {
	case r.active <- struct{}{}:
		return func() { <-r.active }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(2 * time.Second):
		return nil, fmt.Errorf("%w: %d agents are being downloaded from this server; try again in a moment", model.ErrUnavailable, maxDownloads)
	}
}
