package release

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"panoptes/internal/model"
	"panoptes/internal/wire/manifest"
)

// Sign writes the manifest of the programs in dir and its signature beside
// them. The version is that of the file VERSION when m has none; the files of m
// are filled in.
func Sign(dir, privateKey string, m manifest.Manifest, now time.Time) error {
	key, err := manifest.PrivateKey(privateKey)
	if err != nil {
		return err
	}
	r, err := New(Config{Dir: dir}, Deps{})
	if err != nil {
		return err
	}
	if m.Version == "" {
		m.Version = r.version()
	}
	if m.Files = r.Files(); len(m.Files) == 0 {
		return fmt.Errorf("%w: there is no agent in %s; 'make agents' builds them", model.ErrNotFound, dir)
	}
	m.Made = now.UTC().Truncate(time.Second)
	if err := m.Validate(); err != nil {
		return fmt.Errorf("the manifest: %w; name the version of the programs with --version", err)
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	text = append(text, '\n')
	// The signature first: a manifest with the signature of another is refused, and
	// so is this moment's.
	if err := replace(filepath.Join(dir, manifest.Signature), manifest.Sign(key, text)); err != nil {
		return err
	}
	return replace(filepath.Join(dir, manifest.Name), text)
}

// replace writes a file whole or not at all.
func replace(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Chmod(0o644), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	return nil
}

// Packaging are the texts that install an agent, by file name, with a server
// and hashes that are only examples.
func Packaging() (map[string][]byte, error) {
	var files []manifest.File
	for _, p := range manifest.Platforms() {
		files = append(files, manifest.File{Platform: p, Size: 1, SHA256: strings.Repeat("0", 64)})
	}
	d, err := newData(Where{URL: "https://panoptes.example", Join: "panoptes.example:9701"}, "VERSION", files)
	if err != nil {
		return nil, err
	}
	out := map[string][]byte{}
	for name, file := range map[string]string{
		"panoptes-agent.service": "", "panoptes-agent.openrc": "", "Dockerfile": "Dockerfile", "docker-run.txt": "docker-run.txt",
		"kubernetes.yaml": "kubernetes.yaml", "windows.ps1": "windows.ps1",
	} {
		switch {
		case file != "":
			s, err := render(file, d)
			if err != nil {
				return nil, err
			}
			out[name] = []byte(s)
		case strings.HasSuffix(name, ".service"):
			out[name] = []byte(d.Systemd)
		default:
			out[name] = []byte(d.OpenRC)
		}
	}
	return out, nil
}
