package catalog

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

const keyBytes = 32

// sealer encrypts single secrets with AES-256-GCM. What a sealed secret
// belongs to is part of it: it cannot be opened anywhere else.
type sealer struct{ aead cipher.AEAD }

// openSealer reads the key, or makes one.
func openSealer(path string, log *slog.Logger) (*sealer, error) {
	key, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if key, err = makeKey(path); err != nil {
			return nil, fmt.Errorf("make the key that seals secrets: %w", err)
		}
		log.Info("key for secrets made; keep a copy of it apart from the backups", "file", path)
	case err != nil:
		return nil, fmt.Errorf("read the key that seals secrets: %w", err)
	case len(key) != keyBytes:
		return nil, fmt.Errorf("the key that seals secrets, %s, has %d bytes; it must have %d: put back the right file, or remove it and enter all secrets anew", path, len(key), keyBytes)
	}
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o077 != 0 {
		log.Warn("the key that seals secrets could be read by others; closed", "file", path, "mode", st.Mode().Perm().String())
		if err := os.Chmod(path, 0o600); err != nil {
			return nil, fmt.Errorf("close the key that seals secrets: %w", err)
		}
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead}, nil
}

// makeKey writes a new key. It is on disk for good before it is used.
func makeKey(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	key := make([]byte, keyBytes)
	rand.Read(key) //nolint:errcheck // ends the process rather than fail
	return key, writeFile(path, key)
}

func aad(kind, id, pointer string) []byte { return []byte(kind + "\x00" + id + "\x00" + pointer) }

func (s *sealer) seal(kind, id, pointer string, clear []byte) string {
	nonce := make([]byte, s.aead.NonceSize(), s.aead.NonceSize()+len(clear)+s.aead.Overhead())
	rand.Read(nonce) //nolint:errcheck // as above
	return base64.StdEncoding.EncodeToString(s.aead.Seal(nonce, nonce, clear, aad(kind, id, pointer)))
}

func (s *sealer) open(kind, id, pointer, sealed string) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil {
		return nil, err
	}
	if len(b) < s.aead.NonceSize() {
		return nil, errors.New("sealed secret is too short")
	}
	return s.aead.Open(nil, b[:s.aead.NonceSize()], b[s.aead.NonceSize():], aad(kind, id, pointer))
}

// writeFile replaces a file so that after a power cut it is the old or the new
// one, whole.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
