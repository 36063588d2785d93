package control

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Small files beside etcd's own say what etcd's cannot.
const (
	// beginFile is there while a member is founded or joins for the first time:
	// etcd's files are incomplete then, and worth nothing.
	beginFile = "begin"
	// removedFile holds the id of the node that was removed from the cluster.
	removedFile = "removed"
	// olderFile is there when the member's files turned out to be older than what
	// the others have heard from it: etcd would end at each start.
	olderFile = "older"
)

// memberExists says whether etcd has founded or joined a cluster in dir.
func memberExists(dir string) bool {
	files, err := filepath.Glob(filepath.Join(dir, "member", "wal", "*.wal"))
	return err == nil && len(files) > 0
}

// beginMember clears what an interrupted first start has left in dir.
func beginMember(dir string) error {
	if err := os.RemoveAll(filepath.Join(dir, "member")); err != nil {
		return fmt.Errorf("clear interrupted start: %w", err)
	}
	return writeMark(dir, beginFile, "")
}

// begun says whether the member of dir never got to its first log file.
func begun(dir string) bool {
	return exists(filepath.Join(dir, beginFile)) && !memberExists(dir)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func wasRemoved(dir, nodeID string) bool {
	b, err := os.ReadFile(filepath.Join(dir, removedFile))
	return err == nil && strings.TrimSpace(string(b)) == nodeID
}

func writeMark(dir, name, text string) (err error) {
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return syncDir(dir)
}

func dropMark(dir, name string) error {
	if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
