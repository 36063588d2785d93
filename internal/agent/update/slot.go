package update

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"panoptes/internal/wire/manifest"
)

// slotDir is where the program of a version lies with its manifest.
func slotDir(dir, version string) string { return filepath.Join(dir, "slots", version) }

// checkSlot verifies a slot from the start: the signature, the version, the
// platform and every byte of the program.
func checkSlot(dir, version string, key ed25519.PublicKey, p manifest.Platform) (manifest.Manifest, error) {
	var m manifest.Manifest
	if _, err := manifest.ParseVersion(version); err != nil {
		return m, err
	}
	d := slotDir(dir, version)
	text, err := readSmall(filepath.Join(d, manifest.Name))
	if err != nil {
		return m, err
	}
	sig, err := readSmall(filepath.Join(d, manifest.Signature))
	if err != nil {
		return m, err
	}
	if m, err = manifest.Verify(key, text, sig); err != nil {
		return m, err
	}
	if m.Version != version {
		return m, fmt.Errorf("the slot of version %s holds %s", version, m.Version)
	}
	want, ok := m.File(p)
	if !ok {
		return m, fmt.Errorf("version %s has no program for %s", version, p)
	}
	return m, checkProgram(filepath.Join(d, program), want)
}

// checkProgram compares a file with what the manifest says.
func checkProgram(path string, want manifest.File) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("check the program: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, want.Size+1))
	if err != nil {
		return fmt.Errorf("check the program: %w", err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != want.Size || got != want.SHA256 {
		return fmt.Errorf("%w: it has %d bytes and the SHA-256 %s, the manifest says %d and %s", errProgram, n, got, want.Size, want.SHA256)
	}
	return nil
}

var errProgram = errors.New("the program is not the one that was signed")

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the slot: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(f, manifest.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the slot: %w", err)
	}
	return b, nil
}

// fill makes a slot out of a program that was checked. It is there whole or not
// at all, also after a power cut.
func fill(dir, version, part string, text, sig []byte) error {
	tmp := filepath.Join(dir, "slots", ".new")
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o700)); err != nil {
		return fmt.Errorf("make a slot: %w", err)
	}
	if err := os.Chmod(part, 0o700); err != nil {
		return fmt.Errorf("make a slot: %w", err)
	}
	if err := os.Rename(part, filepath.Join(tmp, program)); err != nil {
		return fmt.Errorf("make a slot: %w", err)
	}
	if err := errors.Join(writeFile(filepath.Join(tmp, manifest.Name), text), writeFile(filepath.Join(tmp, manifest.Signature), sig)); err != nil {
		return err
	}
	to := slotDir(dir, version)
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("make a slot: %w", err)
	}
	if err := os.Rename(tmp, to); err != nil {
		return fmt.Errorf("make a slot: %w", err)
	}
	return syncDir(filepath.Dir(to))
}

// sweep removes the slots that are not named.
func sweep(dir string, keep ...string) error {
	list, err := os.ReadDir(filepath.Join(dir, "slots"))
	if err != nil {
		return nil //nolint:nilerr // there are none
	}
	var errs []error
	for _, e := range list {
		kept := false
		for _, k := range keep {
			kept = kept || e.Name() == k
		}
		if !kept {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, "slots", e.Name())))
		}
	}
	return errors.Join(errs...)
}
