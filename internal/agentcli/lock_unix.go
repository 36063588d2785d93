//go:build unix

package agentcli

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockDir keeps a second agent out of the directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%w %s; stop it, or choose another directory with --data-dir", errInUse, dir)
	}
	return f, nil
}
