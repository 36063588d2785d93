package app

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// lockDir makes the data directory and takes its lock. The lock ends with the
// process, however that ends.
func lockDir(dir string) (*flock.Flock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory: %w", err)
	}
	path := filepath.Join(dir, "lock")
	l := flock.New(path)
	ok, err := l.TryLock()
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("the data directory %s cannot be written by this user (%w); change its owner, or give another with --data-dir", dir, err)
	}
	if err != nil {
		return nil, fmt.Errorf("lock the data directory %s: %w", dir, err)
	}
	if !ok {
		who := ""
		if pid, err := os.ReadFile(path); err == nil && len(pid) > 0 {
			who = " by process " + strings.TrimSpace(string(pid))
		}
		return nil, fmt.Errorf("the data directory %s is in use%s; stop that server first, or give another directory with --data-dir", dir, who)
	}
	// For the message above only; the lock itself does not need it.
	_ = os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o600)
	return l, nil
}
