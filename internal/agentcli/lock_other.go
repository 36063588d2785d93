//go:build !unix

package agentcli

import (
	"fmt"
	"os"
	"path/filepath"
)

// lockDir keeps a second agent out of the directory: a file that is open
// cannot be removed on this system.
func lockDir(dir string) (*os.File, error) {
	path := filepath.Join(dir, "lock")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("%w %s; stop it, or choose another directory with --data-dir", errInUse, dir)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	return f, nil
}
